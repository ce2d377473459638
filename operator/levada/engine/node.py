"""One run, task or flow, coupled to the state machine: its data, its reports, and the loops that drive it.

`feed` is the only way in which a run changes. It holds the engine's lock, so reports leave in the order of the changes
and a thread that comes too late changes nothing. `drive` and `drive_async` are all that differs between sync and async.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar

from levada.engine import deadlines, threads
from levada.engine.machine import (
    CALL,
    FINISH,
    FIRST,
    NO_RULES,
    START,
    Effect,
    Event,
    Failure,
    Position,
    Returned,
    Rules,
    Stopped,
    Wait,
    advance,
)
from levada.engine.signals import describe
from levada.engine.timeout import timed_out_text
from levada.engine.tracebacks import summary
from levada.exceptions import RunCancelled, RunFailed, RunTimedOut
from levada.resources.phases import TERMINAL_TASK_STATES, RunPhase, TaskState
from levada.states import State

# One lock for all changes: they are short, and a graph of runs cannot deadlock on one lock. Re-entrant, because a
# destructor of user code may run anywhere.
LOCK = threading.RLock()
RETURNED = Returned()


class Node:
    """A run: where it stands, what it returned or raised, and who waits for it."""

    __slots__ = (
        "_waiters",
        "end_time",
        "error",
        "id",
        "name",
        "position",
        "rules",
        "start_time",
        "timed_out",
        "timeout_seconds",
        "value",
    )
    kind: ClassVar[str] = "run"

    def __init__(
        self, run_id: str, name: str, *, rules: Rules = NO_RULES, timeout_seconds: float | None = None
    ) -> None:
        self.id = run_id
        self.name = name
        self.rules = rules
        self.timeout_seconds = timeout_seconds
        self.position: Position = FIRST
        self.start_time: datetime | None = None
        self.end_time: datetime | None = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.timed_out = False
        self._waiters: list[Callable[[Any], None]] | None = None

    # What the two kinds of runs do differently.
    def invoke(self) -> Any:
        """Call the user's function and return its value."""
        raise NotImplementedError

    async def invoke_async(self) -> Any:
        """Await the user's coroutine function and return its value."""
        raise NotImplementedError

    def conclude(self, value: Any) -> tuple[Event, Any]:
        """What a returned value means: the event, and the value to keep."""
        return RETURNED, value

    def report(self) -> None:
        """Tell the reporter. Called under the lock."""

    def log(self, position: Position) -> None:
        """Write the log line of a change. Called without the lock."""

    def closed(self) -> None:
        """Tidy up after the end. Called under the lock, after the report."""

    # Changes.
    def feed(self, event: Event, attempt: int = 0, *, value: Any = None, error: BaseException | None = None) -> Effect:
        """Let an event happen to this run.

        Args:
            event: what happened.
            attempt: the try that it belongs to; if another one runs meanwhile, the event is ignored. 0: any.
            value: the result, with Returned.
            error: the exception, with Failure or Stopped.
        """
        waiters: list[Callable[[Any], None]] | None = None
        with LOCK:
            before = self.position
            if attempt and (before.attempt != attempt or before.state is not TaskState.RUNNING):
                return FINISH
            after, effect = advance(before, event, self.rules)
            if after is before:
                return effect
            self.value, self.error = value, error
            self.timed_out = type(event) is Failure and event.late
            now = datetime.now(UTC)
            if effect is FINISH:
                self.end_time = now
            elif self.start_time is None:
                self.start_time = now
            self.position = after
            self.report()
            if effect is FINISH:
                waiters = self._close()
        self.log(after)
        for waiter in waiters or ():
            waiter(self)
        return effect

    def _close(self) -> list[Callable[[Any], None]] | None:
        self.closed()
        waiters, self._waiters = self._waiters, None
        return waiters

    def stop(self, message: str, error: BaseException | None = None) -> None:
        """End it from outside. If it ended already but was interrupted before saying so, say so now."""
        with LOCK:
            if self.is_done:
                self.report()
                self.closed()
                return
        self.feed(Stopped(message), error=error)

    # Waiting.
    @property
    def is_done(self) -> bool:
        """Whether it has ended."""
        return self.position.state in TERMINAL_TASK_STATES

    def when_done(self, waiter: Callable[[Any], None]) -> bool:
        """Call `waiter(self)` at its end, in whatever thread that is; at once if it has ended.

        Returns:
            Whether it has ended already.
        """
        with LOCK:
            if not self.is_done:
                if self._waiters is None:
                    self._waiters = []
                self._waiters.append(waiter)
                return False
        waiter(self)
        return True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end, at most `timeout` seconds; whether it has come."""
        if self.is_done:
            return True
        # A lock of its own for each who waits: an interrupt can leave nobody else waiting for ever.
        ended = threading.Lock()
        ended.acquire()

        def wake(_node: object) -> None:
            ended.release()

        if self.when_done(wake):
            return True
        worker = threads.current_worker()
        if worker is None:
            came = _acquire(ended, timeout)
        else:
            with worker.pool.uncounted():
                came = _acquire(ended, timeout)
        if not came:
            self._forget(wake)
        return came

    def _forget(self, waiter: Callable[[Any], None]) -> None:
        """Nobody waits there any more."""
        with LOCK:
            if self._waiters is not None and waiter in self._waiters:
                self._waiters.remove(waiter)

    # The outcome.
    @property
    def phase(self) -> RunPhase:
        """Its state in the words of a run."""
        return RunPhase.TIMED_OUT if self.timed_out else RunPhase(self.position.state.value)

    @property
    def state(self) -> State[Any]:
        """How it stands now, as user code sees it."""
        with LOCK:
            return State(self.phase, self.position.message, value=self.value, exception=self.error, run_id=self.id)

    def result(self, raise_on_failure: bool = True) -> Any:
        """Its value; or its error, raised or returned."""
        if self.position.state is TaskState.COMPLETED:
            return self.value
        error = self.error if self.error is not None else self._without_error()
        if raise_on_failure:
            raise error
        return error

    def _without_error(self) -> BaseException:
        """An exception for a run that did not complete, although nothing was raised."""
        text = f"{self.kind} {self.id} is {self.phase.value}: {self.position.message}"
        return RunCancelled(text) if self.position.state is TaskState.CANCELLED else RunFailed(text)


def _acquire(done: threading.Lock, timeout: float | None) -> bool:
    """Wait for a lock; where no signal can end the wait, in steps, so that a deadline of this thread can."""
    poll = deadlines.poll_seconds()
    if poll is None:
        return done.acquire(timeout=-1 if timeout is None else max(0.0, timeout))
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        left = poll if end is None else min(poll, max(0.0, end - time.monotonic()))
        if done.acquire(timeout=left):
            return True
        deadlines.raise_if_passed()
        if end is not None and time.monotonic() >= end:
            return False


def _late(node: Node) -> tuple[Failure, RunTimedOut]:
    """The event and the error of a run that took too long."""
    text = timed_out_text(node.timeout_seconds or 0.0)
    return Failure(f"timed out: {text}", late=True), RunTimedOut(f"{node.kind} {node.id}: {text}")


def _raised(node: Node, attempt: int, error: BaseException) -> Effect:
    """Let what a try raised happen to its run."""
    event: Event
    if isinstance(error, deadlines.TooLate):
        event, error = _late(node)
    elif isinstance(error, Exception):
        event = Failure(summary(error))
    elif isinstance(error, SystemExit):
        event = Failure(f"the code called sys.exit({'' if error.code is None else error.code})", final=True)
    else:
        event = Stopped(describe(error))
    effect = node.feed(event, attempt, error=error)
    if node.error is not error and not isinstance(error, Exception):
        raise error  # an interrupt that came when this run had just ended: it is meant for those around it
    return effect


def _returned(node: Node, attempt: int, value: Any) -> Effect:
    """Let what a try returned happen to its run."""
    event, value = node.conclude(value)
    if type(event) is Returned:
        return node.feed(event, attempt, value=value)
    return node.feed(event, attempt, value=value, error=value.exception if isinstance(value, State) else None)


def attempt(node: Node) -> Effect:
    """Make one try, in this thread, and let its outcome happen. Never raises what user code raises."""
    number = node.position.attempt
    try:
        if node.timeout_seconds is None:
            value = node.invoke()
        else:
            value = deadlines.within(node.timeout_seconds, node.invoke, _abandon(node, number))
        return _returned(node, number, value)
    except BaseException as error:  # noqa: BLE001  whatever it is, it is the outcome: the caller raises it from the run
        return _raised(node, number, error)


def _abandon(node: Node, number: int) -> Callable[[], None] | None:
    """For a task in a pool's thread: what the watcher does at the deadline, while the thread is still busy."""
    worker = threads.current_worker()
    if worker is None:
        return None

    def expire() -> None:
        event, error = _late(node)
        with LOCK:
            if node.position.attempt != number or node.position.state is not TaskState.RUNNING:
                return
            worker.abandon()
        effect = node.feed(event, number, error=error)
        if effect is not FINISH:
            worker.pool.put(lambda: drive(node, effect))

    return expire


def drive(node: Node, effect: Effect) -> None:
    """Carry a run from an effect to its end, in this thread."""
    while effect is not FINISH:
        if effect is CALL:
            effect = attempt(node)
        else:
            assert isinstance(effect, Wait)
            if effect.seconds:
                _pause(node, effect.seconds)
            effect = node.feed(START)


def _pause(node: Node, seconds: float) -> None:
    """Wait before a retry; the end of the run from outside ends the wait as well."""
    node.wait(seconds)


async def attempt_async(node: Node) -> Effect:
    """Make one try of an async function, in this event loop, and let its outcome happen."""
    number = node.position.attempt
    try:
        if node.timeout_seconds is None:
            value = await node.invoke_async()
        else:
            value = await deadlines.within_async(node.timeout_seconds, node.invoke_async())
        return _returned(node, number, value)
    except BaseException as error:  # noqa: BLE001  whatever it is, it is the outcome: the caller raises it from the run
        return _raised(node, number, error)


async def drive_async(node: Node, effect: Effect) -> None:
    """Carry an async run from an effect to its end, in this event loop."""
    while effect is not FINISH:
        if effect is CALL:
            effect = await attempt_async(node)
        else:
            import asyncio

            assert isinstance(effect, Wait)
            await asyncio.sleep(effect.seconds)
            effect = node.feed(START)


def run_here(node: Node) -> None:
    """Carry a new run to its end in this thread. An interrupt that hits the engine itself still ends the run."""
    try:
        drive(node, node.feed(START))
    except BaseException as error:
        node.stop(describe(error), error)
        raise


async def run_here_async(node: Node) -> None:
    """Carry a new async run to its end in this event loop."""
    try:
        await drive_async(node, node.feed(START))
    except BaseException as error:
        node.stop(describe(error), error)
        raise
