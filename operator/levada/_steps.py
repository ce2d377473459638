"""One core for sync and async: code that must wait is a generator, and these two drive it.

Such a generator yields what it waits for: a number of seconds, or something to await. Its return value is the outcome. An
error of what it waits for is raised inside it; an interrupt or a cancellation closes it, so that its `finally` tidies up.
"""

import time
from collections.abc import Awaitable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, TypeVar

from levada.engine import deadlines, threads

R = TypeVar("R")
Steps = Generator[float | Awaitable[object], None, R]


def run(steps: Steps[R]) -> R:
    """Drive the steps in this thread."""
    try:
        waited_for = next(steps)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # the generator's type says R
    with _uncounted():
        return _go_on(steps, waited_for)


def _go_on(steps: Steps[R], waited_for: float | Awaitable[object]) -> R:
    try:
        while True:
            try:
                if isinstance(waited_for, (int, float)):
                    sleep(waited_for)
                else:
                    _finish(waited_for)
            except Exception as error:  # noqa: BLE001  the steps decide what an error means
                waited_for = steps.throw(error)
            else:
                waited_for = next(steps)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # the generator's type says R
    finally:
        steps.close()


async def run_async(steps: Steps[R]) -> R:
    """Drive the steps in this event loop, without ever blocking it."""
    import asyncio

    try:
        waited_for = next(steps)
        while True:
            try:
                await (asyncio.sleep(waited_for) if isinstance(waited_for, (int, float)) else waited_for)
            except Exception as error:  # noqa: BLE001  the steps decide what an error means
                waited_for = steps.throw(error)
            else:
                waited_for = next(steps)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # the generator's type says R
    finally:
        steps.close()


def sleep(seconds: float) -> None:
    """Wait in this thread; the timeout of the task around the caller ends the wait."""
    poll = deadlines.poll_seconds()
    if poll is None:
        time.sleep(seconds)
        return
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, poll))
        deadlines.raise_if_passed()


@contextmanager
def _uncounted() -> Iterator[None]:
    """A task that waits does not take the place of one that could run."""
    worker = threads.current_worker()
    if worker is None:
        yield
        return
    with worker.pool.uncounted():
        yield


def _finish(awaitable: Awaitable[object]) -> None:
    """Await something from sync code: in a loop of its own, in another thread if this one's loop is busy."""
    import asyncio

    async def whole() -> None:
        await awaitable

    coroutine: Coroutine[Any, Any, None] = whole()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(coroutine)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        pool.submit(copy_context().run, asyncio.run, coroutine).result()
