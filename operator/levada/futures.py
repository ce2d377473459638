"""Futures: what `.submit` gives back, to be waited for, asked for its result, or passed on to another task."""

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, NoReturn, TypeVar

from levada.states import State

if TYPE_CHECKING:
    from queue import SimpleQueue

    from levada.engine.taskrun import TaskRun

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Future(Generic[R_co]):
    """The result of a task run that may not be there yet.

    Given to another task as an argument, also inside lists, dicts and dataclasses, it makes that task wait and is
    replaced by the result.
    """

    __slots__ = ("_run",)

    def __init__(self, run: "TaskRun") -> None:
        self._run = run

    def __reduce__(self) -> NoReturn:
        """A future belongs to its process: it cannot be pickled."""
        raise TypeError(
            f"the future of {self._run.id} cannot be pickled or copied elsewhere; give its .result() instead"
        )

    @property
    def run_id(self) -> str:
        """The id of the task run, such as `train-0`."""
        return self._run.id

    task_run_id = run_id

    @property
    def name(self) -> str:
        """The task's name."""
        return self._run.name

    @property
    def state(self) -> State[R_co]:
        """How the task run stands now."""
        return self._run.state

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._run.over

    def wait(self, timeout: float | None = None) -> State[R_co]:
        """Wait until it has ended, at most `timeout` seconds, and say how it stands. Does not raise what the task raised."""
        self._run.wait(timeout)
        return self._run.state

    def get_state(self) -> State[R_co]:
        """How the task run stands now."""
        return self._run.state

    def add_done_callback(self, fn: "Callable[[Future[R_co]], object]") -> None:
        """Call `fn(future)` when it has ended, in whatever thread that is; at once if it has. What `fn` raises is logged."""
        self._run.when_done(lambda _run: _told(fn, self))

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> Any:
        """Wait for what the task returns.

        Args:
            timeout: seconds to wait at most.
            raise_on_failure: raise the task's error if it did not complete; otherwise return that error.

        Raises:
            TimeoutError: it is not done within `timeout`.
            UpstreamFailed: the task did not run, because something that it needs did not complete.
        """
        if not self._run.wait(timeout):
            raise self._too_early(timeout)
        return self._run.result(raise_on_failure)

    async def wait_async(self, timeout: float | None = None) -> State[R_co]:  # noqa: ASYNC109  as in `wait`
        """As `wait`, while the event loop goes on."""
        from levada.engine.calls import until_done

        await until_done(self._run, timeout)
        return self._run.state

    async def result_async(
        self,
        timeout: float | None = None,  # noqa: ASYNC109  as in `result`
        raise_on_failure: bool = True,
    ) -> Any:
        """As `result`, while the event loop goes on.

        Raises:
            TimeoutError: it is not done within `timeout`.
        """
        await self.wait_async(timeout)
        if not self._run.is_over_here:
            raise self._too_early(timeout)
        return self._run.result(raise_on_failure)

    def _too_early(self, timeout: float | None) -> TimeoutError:
        return TimeoutError(f"{self._run.id} is not done after {timeout} s; it is {self._run.position.state}")

    def __await__(self) -> Generator[None, None, "Future[R_co]"]:
        """`await task.submit(...)` in older async code gives the future, at once."""
        yield from ()
        return self

    def __repr__(self) -> str:
        return f"<Future of {self._run.id}: {self._run.position.state}>"


class FutureList(list[Future[R]]):
    """The futures of a `.map`, in the order of its items."""

    def __await__(self) -> Generator[None, None, "FutureList[R]"]:
        """`await task.map(...)` in older async code gives the futures, at once."""
        yield from ()
        return self

    def wait(self, timeout: float | None = None) -> None:
        """Wait for all of them, at most `timeout` seconds altogether."""
        wait(self, timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[Any]:
        """All results, in order.

        Raises:
            TimeoutError: they are not all done within `timeout`.
        """
        not_done = wait(self, timeout).not_done
        if not_done:
            raise TimeoutError(f"{len(not_done)} of {len(self)} task runs are not done after {timeout} s")
        return [future.result(raise_on_failure=raise_on_failure) for future in self]


class DoneAndNotDone(NamedTuple):
    """What `wait` found."""

    done: set[Future[Any]]
    not_done: set[Future[Any]]


def wait(futures: Iterable[Future[Any]], timeout: float | None = None) -> DoneAndNotDone:
    """Wait until all have ended, at most `timeout` seconds, and say which have."""
    import time

    every = list(futures)
    deadline = None if timeout is None else time.monotonic() + timeout
    for future in every:
        future.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
    done = {future for future in every if future.done()}
    return DoneAndNotDone(done, set(every) - done)


def as_completed(futures: Iterable[Future[R]], timeout: float | None = None) -> Iterator[Future[R]]:
    """The futures in the order in which they end.

    Raises:
        TimeoutError: not all of them have ended within `timeout` seconds.
    """
    import time
    from functools import partial
    from queue import SimpleQueue

    from levada.engine.deadlines import waited

    every = list(dict.fromkeys(futures))
    got: list[Future[R]] = []
    ended: SimpleQueue[Future[R]] = SimpleQueue()
    for future in every:
        future._run.when_done(partial(_put, ended, future))
    deadline = None if timeout is None else time.monotonic() + timeout
    for index in range(len(every)):
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not waited(partial(_get, ended, got), left):
            raise TimeoutError(f"{len(every) - index} of {len(every)} task runs are not done after {timeout} s")
        yield got.pop()


def resolve_futures_to_results(value: Any) -> Any:
    """A value with the futures in it replaced by their results, also inside lists, dicts and dataclasses."""
    from levada.engine.dependencies import replace

    return replace(value, lambda source: source.result())


def resolve_futures_to_states(value: Any) -> Any:
    """A value with the futures in it replaced by their final states, also inside lists, dicts and dataclasses."""
    from levada.engine.dependencies import replace

    return replace(value, lambda source: source.wait() if isinstance(source, Future) else source)


def _told(fn: Callable[[Any], object], future: Future[Any]) -> None:
    try:
        fn(future)
    except Exception as error:  # noqa: BLE001  it is called by the engine, which must go on
        from levada.engine.tracebacks import text
        from levada.logging import LOGGER

        LOGGER.error("a done callback of %s failed\n%s", future.run_id, text(error))


def _get(ended: "SimpleQueue[Any]", got: list[Any], seconds: float) -> bool:
    """Wait at most so many seconds (-1: for ever) for the next one that has ended; whether there was one."""
    from queue import Empty

    try:
        got.append(ended.get(timeout=None if seconds < 0 else seconds))
    except Empty:
        return False
    return True


def _put(ended: "SimpleQueue[Any]", future: Future[Any], _run: object) -> None:
    ended.put(future)
