"""Flows and tasks that are generators: their items go to the caller one by one, and the run ends with the last.

The code runs inside its run only while it is asked for an item. A retry is possible until the first item has been handed out:
after that, the caller has seen something that cannot be taken back. Whoever stops asking ends the run, which is then Completed.
Submitted, or run by the runner, a generator is run to its end, and its result is the list of its items.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from levada.engine import calls, deadlines
from levada.engine import run as runs
from levada.engine.driving import pause, pause_async, raised, returned
from levada.engine.machine import CALL, FINISH, START, Effect, Failure, Returned
from levada.engine.run import FlowRun
from levada.engine.taskrun import TaskRun
from levada.engine.tracebacks import summary
from levada.exceptions import LevadaError

if TYPE_CHECKING:
    from levada.flows import Flow
    from levada.tasks import Task

Run = TaskRun | FlowRun
LEFT_EARLY = Returned("its items were not asked for to the end")


class _End(NamedTuple):
    """There are no more items; what the generator returned."""

    value: Any


def call_task(
    task: "Task[Any, Any]", args: tuple[Any, ...], kwargs: dict[str, Any], *, wait_for: Any = None, **_: Any
) -> Iterator[Any]:
    """Run a generator task; its run begins when the first item is asked for."""
    run = calls.create(task, args, kwargs, wait_for)
    if run.sources is None or calls.is_clear(run):
        yield from _items(run, lambda: _of_task(run))
    calls.finish(run, return_state=False)


async def call_task_async(
    task: "Task[Any, Any]", args: tuple[Any, ...], kwargs: dict[str, Any], *, wait_for: Any = None, **_: Any
) -> AsyncIterator[Any]:
    """Run an async generator task; its run begins when the first item is asked for."""
    run = calls.create(task, args, kwargs, wait_for)
    if run.sources is None or await calls.is_clear_async(run):
        items = _items_async(run, lambda: _of_task(run))
        try:
            async for item in items:
                yield item
        finally:
            await items.aclose()  # type: ignore[attr-defined]  # an async generator, which has it
    calls.finish(run, return_state=False)


def call_flow(flow: "Flow[Any, Any]", args: tuple[Any, ...], kwargs: dict[str, Any], **_: Any) -> Iterator[Any]:
    """Run a generator flow; its run begins when the first item is asked for."""
    run = runs.made(flow, args, kwargs)
    if not run.is_done:
        yield from _items(run, lambda: flow.fn(*run.args, **run.kwargs))
    runs.finish(run, return_state=False)


async def call_flow_async(
    flow: "Flow[Any, Any]", args: tuple[Any, ...], kwargs: dict[str, Any], **_: Any
) -> AsyncIterator[Any]:
    """Run an async generator flow; its run begins when the first item is asked for."""
    run = runs.made(flow, args, kwargs)
    if not run.is_done:
        items = _items_async(run, lambda: flow.fn(*run.args, **run.kwargs))
        try:
            async for item in items:
                yield item
        finally:
            await items.aclose()  # type: ignore[attr-defined]  # an async generator, which has it
    runs.finish(run, return_state=False)


def _of_task(run: TaskRun) -> Any:
    args, kwargs = run.arguments()
    return run.task.fn(*args, **kwargs)


def _items(run: Run, make: Callable[[], Any]) -> Iterator[Any]:
    """Carry a run to its end, and hand out its items on the way."""
    effect = _begun(run)
    while effect is not FINISH:
        if effect is not CALL:
            effect = pause(run, effect)
            continue
        number, given, asked = run.position.attempt, False, _Asked(run, make)
        try:
            with run.guard(), run.drained():
                while not isinstance(item := asked.next(), _End):
                    given = True
                    try:
                        asked.sent = yield item
                    except Exception as error:  # noqa: BLE001  thrown in by the caller: it is meant for the code
                        asked.thrown = error
            effect = returned(run, number, item.value)
        except GeneratorExit:
            with _left(run, number):
                asked.close()
            return
        except BaseException as error:  # noqa: BLE001  whatever it is, it is the outcome: the caller raises it from the run
            effect = raised(run, number, error, final=given)


async def _items_async(run: Run, make: Callable[[], Any]) -> AsyncIterator[Any]:
    """As `_items`, for an async generator."""
    effect = _begun(run)
    while effect is not FINISH:
        if effect is not CALL:
            effect = await pause_async(run, effect)
            continue
        number, given, asked = run.position.attempt, False, _Asked(run, make)
        try:
            with run.guard():
                async with run.drained_async():
                    while not isinstance(item := await asked.next_async(), _End):
                        given = True
                        yield item
            effect = returned(run, number, item.value)
        except GeneratorExit:
            with _left(run, number):
                await asked.close_async()
            return
        except BaseException as error:  # noqa: BLE001  see above
            effect = raised(run, number, error, final=given)


def _begun(run: Run) -> Effect:
    """Start a run. Its items are handed out as they come, so there is nothing to recall or keep."""
    if isinstance(run, TaskRun):
        try:
            run.take_name()
        except LevadaError as error:
            return run.feed(Failure(summary(error), final=True), error=error)
    return run.feed(START)


@contextmanager
def _left(run: Run, number: int) -> Iterator[None]:
    """The end of a run whose items nobody asks for any more. What its code raises while it cleans up is its outcome."""
    try:
        yield
    except BaseException as error:
        raised(run, number, error, final=True)
        raise
    run.feed(LEFT_EARLY, number)


class _Asked:
    """One try of a generator: asked for its items inside the run, within what is left of its time."""

    def __init__(self, run: Run, make: Callable[[], Any]) -> None:
        self.sent: Any = None
        self.thrown: Exception | None = None
        self._run = run
        self._make = make
        self._source: Any = None
        self._spent_seconds = 0.0

    def next(self) -> Any:
        """The next item, or `_End`."""
        limit = self._run.timeout_seconds
        if limit is None:
            return self._step()
        started = time.monotonic()
        try:
            return deadlines.within(max(0.001, limit - self._spent_seconds), self._step)
        finally:
            self._spent_seconds += time.monotonic() - started

    def _step(self) -> Any:
        with self._run.surroundings():
            try:
                if self._source is None:
                    self._source = self._make()
                thrown, self.thrown = self.thrown, None
                return self._source.send(self.sent) if thrown is None else self._source.throw(thrown)
            except StopIteration as end:
                return _End(end.value)

    def close(self) -> None:
        """Let the code clean up."""
        if self._source is not None:
            with self._run.surroundings():
                self._source.close()

    async def next_async(self) -> Any:
        """The next item, or `_End`."""
        limit = self._run.timeout_seconds
        if limit is None:
            return await self._step_async()
        started = time.monotonic()
        try:
            step: Awaitable[Any] = self._step_async()
            return await deadlines.within_async(max(0.001, limit - self._spent_seconds), step)
        finally:
            self._spent_seconds += time.monotonic() - started

    async def _step_async(self) -> Any:
        with self._run.surroundings():
            try:
                if self._source is None:
                    self._source = self._make()
                return await self._source.__anext__()
            except StopAsyncIteration:
                return _End(None)

    async def close_async(self) -> None:
        """Let the code clean up."""
        if self._source is not None:
            with self._run.surroundings():
                await self._source.aclose()
