"""The loops that carry a run from one effect of the state machine to the next: all that differs between sync and async.

An attempt is made here, and what it returns or raises becomes an event of its run; the run itself is a `Node`.
"""

import logging
import random
from collections.abc import Callable
from typing import Any

from levada.engine import clock, deadlines, threads
from levada.engine.machine import CALL, FINISH, START, Effect, Event, Failure, Returned, Stopped, Wait
from levada.engine.node import LATE_PREFIX, LOCK, Node
from levada.engine.signals import describe, is_meant
from levada.engine.timeout import timed_out_text
from levada.engine.tracebacks import summary
from levada.exceptions import LevadaError, RunTimedOut, WorkerCrashed
from levada.logging import emit
from levada.resources.phases import TaskState
from levada.states import State


def _late(node: Node) -> tuple[Failure, RunTimedOut]:
    """The event and the error of a run that took too long."""
    text = timed_out_text(node.timeout_seconds or 0.0)
    return Failure(f"{LATE_PREFIX}{text}", late=True), RunTimedOut(f"{node.kind} {node.id}: {text}")


def raised(node: Node, attempt: int, error: BaseException, *, final: bool = False) -> Effect:
    """Let what a try raised happen to its run. `final`: whatever it is, it must not be tried again."""
    event: Event
    if isinstance(error, deadlines.TooLate):
        event, error = _late(node)
    elif isinstance(error, Exception):
        event = Failure(summary(error), crashed=isinstance(error, WorkerCrashed))
    elif isinstance(error, SystemExit):
        event = Failure(f"the code called sys.exit({'' if error.code is None else error.code})", final=True)
    else:
        event = Stopped(describe(error), crashed=not is_meant(error))
    if type(event) is Failure:
        event = event._replace(final=True) if final else _judged(node, attempt, event, error)
    effect = node.feed(event, attempt, error=error)
    if node.error is not error and not isinstance(error, Exception):
        raise error  # an interrupt that came when this run had just ended: it is meant for those around it
    return effect


def _judged(node: Node, attempt: int, failure: Failure, error: BaseException) -> Failure:
    """A failure with what chance and the user's own condition say about another try."""
    if failure.final or attempt > node.rules.retries:
        return failure
    if node.rules.jitter:
        failure = failure._replace(luck=random.random())  # noqa: S311  jitter is no secret
    try:
        return failure if node.may_retry(failure, error) else failure._replace(final=True)
    except Exception as problem:  # noqa: BLE001  the user's condition may raise anything; the run's own error counts
        emit(logging.ERROR, node.id, f"retry_condition_fn failed, so there is no retry: {summary(problem)}")
        return failure._replace(final=True)


def returned(node: Node, attempt: int, value: Any) -> Effect:
    """Let what a try returned happen to its run."""
    position = node.position
    if position.attempt != attempt or position.state is not TaskState.RUNNING:
        return FINISH  # it was ended meanwhile, and what comes too late is not kept
    try:
        event, value = node.conclude(value)
    except LevadaError as error:  # its result could not be kept: running the code again would not help
        return node.feed(Failure(summary(error), final=True), attempt, error=error)
    if type(event) is Returned:
        return node.feed(event, attempt, value=value)
    return node.feed(event, attempt, value=value, error=value.exception if isinstance(value, State) else None)


def attempt(node: Node) -> Effect:
    """Make one try, in this thread, and let its outcome happen. Never raises what user code raises."""
    number = node.position.attempt
    try:
        if node.timeout_seconds is None or node.times_itself:
            value = node.invoke()
        else:
            value = deadlines.within(node.timeout_seconds, node.invoke, _abandon(node, number))
        return returned(node, number, value)
    except BaseException as error:  # noqa: BLE001  whatever it is, it is the outcome: the caller raises it from the run
        return raised(node, number, error)


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

        def end() -> None:
            effect = node.feed(_judged(node, number, event, error), number, error=error)
            if effect is not FINISH:
                drive(node, effect)

        if node.hooks or node.rules.retries:
            worker.pool.put(end)  # code of the user may be called: the watcher has other deadlines to look after
        else:
            end()

    return expire


def drive(node: Node, effect: Effect) -> None:
    """Carry a run from an effect to its end, in this thread."""
    while effect is not FINISH:
        effect = attempt(node) if effect is CALL else pause(node, effect)


def pause(node: Node, effect: Effect) -> Effect:
    """Wait before a retry, then start it. The end of the run from outside ends the wait as well."""
    assert isinstance(effect, Wait)
    if effect.seconds and not clock.skips(effect.seconds):
        node.wait(effect.seconds)
    return node.feed(START)


async def pause_async(node: Node, effect: Effect) -> Effect:
    """As `pause`, without blocking the event loop."""
    import asyncio

    assert isinstance(effect, Wait)
    if not clock.skips(effect.seconds):
        await asyncio.sleep(effect.seconds)
    return node.feed(START)


async def attempt_async(node: Node) -> Effect:
    """Make one try of an async function, in this event loop, and let its outcome happen."""
    number = node.position.attempt
    try:
        if node.timeout_seconds is None:
            value = await node.invoke_async()
        else:
            value = await deadlines.within_async(node.timeout_seconds, node.invoke_async())
        if node.is_slow_to_end:
            return await _aside(returned, node, number, value)
        return returned(node, number, value)
    except Exception as error:  # noqa: BLE001  whatever it is, it is the outcome: the caller raises it from the run
        if node.is_slow_to_end:
            return await _aside(raised, node, number, error)
        return raised(node, number, error)
    except BaseException as error:  # noqa: BLE001  see above
        return raised(node, number, error)


async def _aside(step: Callable[..., Effect], *args: Any) -> Effect:
    """Take a step that may block in a thread, so that the event loop goes on."""
    import asyncio

    return await asyncio.to_thread(step, *args)


async def drive_async(node: Node, effect: Effect) -> None:
    """Carry an async run from an effect to its end, in this event loop."""
    while effect is not FINISH:
        if effect is CALL:
            effect = await attempt_async(node)
        else:
            effect = await pause_async(node, effect)


def run_here(node: Node) -> None:
    """Carry a new run to its end in this thread. An interrupt that hits the engine itself still ends the run."""
    try:
        drive(node, node.begin())
    except BaseException as error:
        node.stop(describe(error), error)
        raise


async def run_here_async(node: Node) -> None:
    """Carry a new async run to its end in this event loop."""
    try:
        effect = await _aside(node.begin) if node.is_slow_to_end else node.begin()
        await drive_async(node, effect)
    except BaseException as error:
        cause = node.interrupt or error
        node.stop(describe(cause), cause)
        if cause is not error:
            raise cause from error
        raise
