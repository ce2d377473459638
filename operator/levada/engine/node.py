"""One run, task or flow, coupled to the state machine: its data, its reports, and who waits for it.

`feed` is the only way in which a run changes. It holds the engine's lock, so reports leave in the order of the changes
and a thread that comes too late changes nothing. `driving` carries it.
"""

import threading
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from levada.engine import clock, deadlines
from levada.engine.machine import (
    FINISH,
    FIRST,
    NO_RULES,
    START,
    Effect,
    Event,
    Failure,
    Position,
    Recalled,
    Returned,
    Rules,
    Stopped,
    advance,
)
from levada.engine.signals import is_meant
from levada.exceptions import RunCancelled, RunFailed
from levada.resources.phases import TERMINAL_TASK_STATES, RunPhase, TaskState
from levada.states import State

if TYPE_CHECKING:
    from levada.engine.keeping import Stored

# One lock for all changes: they are short, and a graph of runs cannot deadlock on one lock. Re-entrant, because a
# destructor of user code may run anywhere.
LOCK = threading.RLock()
RETURNED = Returned()
LATE_PREFIX = "timed out: "
_HOOKED: ContextVar["Node | None"] = ContextVar("levada_hooked", default=None)  # whose hooks the caller is one of


class Node:
    """A run: where it stands, what it returned or raised, and who waits for it."""

    __slots__ = (
        "_closed",
        "_waiters",
        "cached",
        "end_time",
        "error",
        "hooks",
        "id",
        "name",
        "over",
        "position",
        "rules",
        "start_time",
        "timed_out",
        "timeout_seconds",
        "value",
    )
    kind: ClassVar[str] = "run"
    # What cancelled the coroutine that carries it, if that is known.
    interrupt: BaseException | None = None

    def __init__(
        self,
        run_id: str,
        name: str,
        *,
        rules: Rules = NO_RULES,
        timeout_seconds: float | None = None,
        hooks: "dict[RunPhase, tuple[Any, ...]] | None" = None,
    ) -> None:
        self.id = run_id
        self.name = name
        self.rules = rules
        self.timeout_seconds = timeout_seconds
        self.hooks = hooks
        self.position: Position = FIRST
        self.start_time: datetime | None = None
        self.end_time: datetime | None = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.timed_out = False
        self.cached = False
        # The end has been told to all who wait for it; until then, hooks may still be at work.
        self.over = False
        self._closed = False
        self._waiters: list[Callable[[Any], None]] | None = None

    # What the two kinds of runs do differently.
    def begin(self) -> Effect:
        """Its turn has come: start it, unless it need not be run at all."""
        return self.feed(START)

    @property
    def is_slow_to_end(self) -> bool:
        """Whether its end writes a result or calls hooks, which must not hold up an event loop."""
        return bool(self.hooks)

    @property
    def times_itself(self) -> bool:
        """Whether the call itself raises TooLate at its timeout."""
        return False

    def invoke(self) -> Any:
        """Call the user's function and return its value."""
        raise NotImplementedError

    async def invoke_async(self) -> Any:
        """Await the user's coroutine function and return its value."""
        raise NotImplementedError

    def conclude(self, value: Any) -> tuple[Event, Any]:
        """What a returned value means: the event, and the value to keep.

        Raises:
            LevadaError: the value cannot be kept as it should be.
        """
        return RETURNED, value

    def may_retry(self, failure: Failure, error: BaseException) -> bool:
        """Whether the user's own condition allows another try."""
        return True

    def report(self) -> None:
        """Tell the reporter. Called under the lock."""

    def log(self, position: Position) -> None:
        """Write the log line of a change. Called without the lock."""

    def closed(self) -> None:
        """Count the end. Called once, under the lock, after the report."""

    def let_go(self) -> None:
        """Forget what nobody needs any more. Called under the lock, when those who wait are told."""

    def hook_subject(self) -> tuple[Any, Any]:
        """The first two arguments of a hook: what was decorated, and the run."""
        raise NotImplementedError

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
            self.timed_out = effect is FINISH and type(event) is Failure and event.late
            self.cached = type(event) is Recalled
            now = clock.now()
            if effect is FINISH:
                self.end_time = now
            elif self.start_time is None:
                self.start_time = now
            self.position = after
            self.report()
            hooks = self._hooks_of(after)
            if effect is FINISH:
                self._close()
                if not hooks:
                    waiters = self._publish()
        try:
            self.log(after)
            if hooks:
                self._call_hooks(hooks, effect)
        finally:
            for waiter in waiters or ():
                waiter(self)
        return effect

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self.closed()

    def _publish(self) -> list[Callable[[Any], None]] | None:
        """From here on it is over for everybody. Called under the lock; the waiters are called without it."""
        self.over = True
        waiters, self._waiters = self._waiters, None
        self.let_go()
        return waiters

    def _hooks_of(self, position: Position) -> tuple[Any, ...]:
        """The hooks of a position that it has just reached."""
        if not self.hooks or (position.state is TaskState.RUNNING and position.attempt > 1):
            return ()
        return self.hooks.get(self.phase, ())

    def _call_hooks(self, hooks: tuple[Any, ...], effect: Effect) -> None:
        """Call hooks, then tell those who wait for the end, whatever the hooks do."""
        from levada.engine.hooks import call_hooks

        token = _HOOKED.set(self)
        try:
            subject, run = self.hook_subject()
            call_hooks(hooks, subject, run, self.state, self.id)
        finally:
            _HOOKED.reset(token)
            if effect is FINISH:
                with LOCK:
                    waiters = self._publish()
                for waiter in waiters or ():
                    waiter(self)

    def stop(self, message: str, error: BaseException | None = None) -> None:
        """End it from outside. If it ended already but was interrupted before saying so, say so now."""
        with LOCK:
            if self.is_done:
                if not self._closed:
                    self.report()
                    self._close()
                waiters = self._publish() if not self.over else None
                done = True
            else:
                done = False
        if not done:
            self.feed(Stopped(message, crashed=error is not None and not is_meant(error)), error=error)
            return
        for waiter in waiters or ():
            waiter(self)

    # Waiting.
    @property
    def is_done(self) -> bool:
        """Whether it has ended."""
        return self.position.state in TERMINAL_TASK_STATES

    @property
    def is_over_here(self) -> bool:
        """Whether the caller need not wait: it is over, or the caller is one of the hooks that it still waits for."""
        return self.over or (self.is_done and _HOOKED.get() is self)

    def when_done(self, waiter: Callable[[Any], None]) -> bool:
        """Call `waiter(self)` at its end, in whatever thread that is; at once if it has ended.

        Returns:
            Whether it has ended already.
        """
        with LOCK:
            if not self.over:
                if self._waiters is None:
                    self._waiters = []
                self._waiters.append(waiter)
                return False
        waiter(self)
        return True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end, at most `timeout` seconds; whether it has come."""
        if self.is_over_here:
            return True
        # A lock of its own for each who waits: an interrupt can leave nobody else waiting for ever.
        ended = threading.Lock()
        ended.acquire()

        def wake(_node: object) -> None:
            ended.release()

        if self.when_done(wake):
            return True
        came = deadlines.waited(partial(ended.acquire, True), timeout)
        if not came:
            self.forget(wake)
        return came

    def forget(self, waiter: Callable[[Any], None]) -> None:
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
            return State(
                self.phase,
                self.position.message,
                value=self.value,
                exception=self.error,
                name="Cached" if self.cached else None,
                run_id=self.id,
                timestamp=self.end_time or self.start_time,
            )

    def result(self, raise_on_failure: bool = True) -> Any:
        """Its value; or its error, raised or returned."""
        if self.position.state is TaskState.COMPLETED:
            return value_of(self.value)
        error = self.error if self.error is not None else self._without_error()
        if raise_on_failure:
            raise error
        return error

    def _without_error(self) -> BaseException:
        """An exception for a run that did not complete, although nothing was raised."""
        text = f"{self.kind} {self.id} is {self.phase.value}: {self.position.message}"
        return RunCancelled(text) if self.position.state is TaskState.CANCELLED else RunFailed(text)


def value_of(value: "Any | Stored") -> Any:
    """A run's value; read from storage if it is kept only there."""
    load = getattr(type(value), "levada_load", None)
    return value if load is None else load(value)
