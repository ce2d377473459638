"""`@task`: a function whose calls are seen, retried, timed and run side by side.

A task is called like the function that it decorates, and can be tested through `.fn` without anything around it.
"""

from collections.abc import Callable, Coroutine, Iterable, Mapping
from copy import copy
from functools import update_wrapper
from typing import Any, Generic, Literal, ParamSpec, TypeVar, overload

from levada import _options
from levada.engine.machine import Rules
from levada.engine.retry import DelaySetting, delays_of, exponential_delays, retries_of
from levada.engine.timeout import timeout_of
from levada.exceptions import OptionError
from levada.futures import Future, FutureList
from levada.states import State

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Task(Generic[P, R]):
    """A function as a task. Made by `@task`.

    Attributes:
        fn: the function itself.
        name: its name in logs and in a run's status.
        description: what it does; the docstring, unless given.
        tags: free labels.
        retries: how often it is tried again after an exception or its timeout.
        timeout_seconds: how long one try may take.
        log_prints: whether prints go to the run's log; None: as the flow says.
        is_async: whether its calls must be awaited.
    """

    fn: Callable[P, R]
    __wrapped__: Callable[P, R]
    __name__: str

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        name: str | None = None,
        description: str | None = None,
        tags: Iterable[str] | None = None,
        retries: int | None = None,
        retry_delay_seconds: DelaySetting = None,
        timeout_seconds: float | None = None,
        log_prints: bool | None = None,
    ) -> None:
        self.fn = _options.function_of(fn, "task")
        update_wrapper(self, fn)
        self.is_async = _options.is_async(fn)
        self.name = _options.name_of(name, fn, "task")
        owner = f"task {self.name!r}"
        self.description = _options.text_of(description, "description", owner) or (fn.__doc__ or "").strip()
        self.tags = _options.tags_of(tags, owner)
        self.retries = retries_of(retries, owner)
        self.retry_delay_seconds = retry_delay_seconds
        self.timeout_seconds = timeout_of(timeout_seconds, owner)
        self.log_prints = _options.flag_of(log_prints, "log_prints", owner)
        self.slug = _options.slug_of(self.name)
        self.rules = Rules(self.retries, delays_of(retry_delay_seconds, self.retries, owner))

    def with_options(
        self,
        *,
        name: str | None = None,
        description: str | None = None,
        tags: Iterable[str] | None = None,
        retries: int | None = None,
        retry_delay_seconds: DelaySetting = None,
        timeout_seconds: float | None = None,
        log_prints: bool | None = None,
        **unknown: Any,
    ) -> "Task[P, R]":
        """The same task with some options changed; this one stays as it is."""
        _options.refuse_unknown(unknown, OPTIONS, "task.with_options")
        return Task(
            self.fn,
            name=self.name if name is None else name,
            description=self.description if description is None else description,
            tags=self.tags if tags is None else tags,
            retries=self.retries if retries is None else retries,
            retry_delay_seconds=self.retry_delay_seconds if retry_delay_seconds is None else retry_delay_seconds,
            timeout_seconds=self.timeout_seconds if timeout_seconds is None else timeout_seconds,
            log_prints=self.log_prints if log_prints is None else log_prints,
        )

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def __call__(
        self: "Task[..., Coroutine[Any, Any, T]]",
        *args: Any,
        return_state: Literal[True],
        wait_for: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, State[T]]: ...
    @overload
    def __call__(
        self, *args: Any, return_state: Literal[True], wait_for: Iterable[Any] | None = None, **kwargs: Any
    ) -> State[R]: ...
    @overload
    def __call__(self, *args: Any, wait_for: Iterable[Any], **kwargs: Any) -> R: ...
    def __call__(  # type: ignore[misc]  # the two options are reserved names, which ParamSpec cannot say
        self, *args: Any, return_state: bool = False, wait_for: Iterable[Any] | None = None, **kwargs: Any
    ) -> Any:
        """Run the task here and now and return what it returns; that of an async task must be awaited.

        Args:
            *args: its arguments; futures are waited for and replaced by their results.
            return_state: give the final state instead of the value, and do not raise.
            wait_for: futures that must complete first.
            **kwargs: its keyword arguments.
        """
        from levada.engine import taskrun

        run = taskrun.call_async if self.is_async else taskrun.call
        return run(self, args, kwargs, wait_for=wait_for, return_state=return_state)

    @overload
    def submit(
        self: "Task[..., Coroutine[Any, Any, T]]",
        *args: Any,
        return_state: Literal[False] = False,
        wait_for: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> Future[T]: ...
    @overload
    def submit(
        self,
        *args: Any,
        return_state: Literal[False] = False,
        wait_for: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> Future[R]: ...
    @overload
    def submit(
        self, *args: Any, return_state: Literal[True], wait_for: Iterable[Any] | None = None, **kwargs: Any
    ) -> State[Any]: ...
    def submit(
        self, *args: Any, return_state: bool = False, wait_for: Iterable[Any] | None = None, **kwargs: Any
    ) -> Any:
        """Start the task in a thread and return a future at once.

        Futures among the arguments, also inside collections, make it wait for them. If one of them does not complete, the
        task is Skipped. An async task runs in an event loop of its thread.

        Args:
            *args: its arguments.
            return_state: wait, and give the final state instead of a future.
            wait_for: futures that must complete first, without being arguments.
            **kwargs: its keyword arguments.
        """
        from levada.engine import taskrun

        future = taskrun.submit(self, args, kwargs, wait_for=wait_for)
        if not return_state:
            return future
        future.wait()
        return future.state

    def map(self, *args: Any, return_state: bool = False, wait_for: Iterable[Any] | None = None, **kwargs: Any) -> Any:
        """Submit the task once for each item of the lists among its arguments.

        Lists must have one length; texts, dicts and values in `unmapped(...)` go to every call as they are.

        Raises:
            ValueError: no argument is a list, or their lengths differ.
        """
        calls = list(_calls_of(self.name, args, kwargs))
        futures: FutureList[Any] = FutureList(self.submit(*a, wait_for=wait_for, **k) for a, k in calls)
        if not return_state:
            return futures
        futures.wait()
        return [future.state for future in futures]

    def __get__(self, instance: object, owner: type | None = None) -> "Task[..., R]":
        """As a method: the same task, bound to its object."""
        if instance is None:
            return self
        bound = copy(self)
        bound.fn = self.fn.__get__(instance, owner)
        return bound

    def __repr__(self) -> str:
        return f"<Task {self.name!r}>"


class unmapped(Generic[T]):  # noqa: N801  reads as a function, as in Prefect
    """A value that `.map` gives to every call as it is."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value


def _calls_of(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterable[tuple[list[Any], dict[str, Any]]]:
    """The arguments of each call of a `.map`."""
    parts: dict[int | str, Any] = dict(enumerate(args))
    parts.update(kwargs)
    parts = {key: part.result() if isinstance(part, Future) else part for key, part in parts.items()}
    lists = {key: list(part) for key, part in parts.items() if _is_mapped(part)}
    if not lists:
        raise ValueError(f"{name}.map(...) needs at least one list among its arguments; use .submit for a single call")
    lengths = {len(items) for items in lists.values()}
    if len(lengths) > 1:
        shown = ", ".join(f"{key}: {len(items)}" for key, items in lists.items())
        raise ValueError(
            f"{name}.map(...) got lists of different lengths ({shown}); wrap what all calls share in unmapped()"
        )
    plain = {key: part.value if isinstance(part, unmapped) else part for key, part in parts.items() if key not in lists}
    for index in range(lengths.pop()):
        one = {key: lists[key][index] if key in lists else plain[key] for key in parts}
        yield [one[key] for key in range(len(args))], {key: one[key] for key in kwargs}


def _is_mapped(part: Any) -> bool:
    """Whether `.map` goes through its items."""
    return isinstance(part, Iterable) and not isinstance(part, (str, bytes, Mapping, unmapped))


OPTIONS = ("name", "description", "tags", "retries", "retry_delay_seconds", "timeout_seconds", "log_prints")


def exponential_backoff(backoff_factor: float) -> Callable[[int], list[float]]:
    """For `retry_delay_seconds`: waits of `backoff_factor` seconds, doubled with each retry."""
    if isinstance(backoff_factor, bool) or not isinstance(backoff_factor, (int, float)) or not backoff_factor >= 0:
        raise OptionError(f"exponential_backoff({backoff_factor!r}): the factor must be a number of seconds, 0 or more")
    return lambda retries: exponential_delays(backoff_factor, retries)


@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    name: str | None = None,
    description: str | None = None,
    tags: Iterable[str] | None = None,
    retries: int | None = None,
    retry_delay_seconds: DelaySetting = None,
    timeout_seconds: float | None = None,
    log_prints: bool | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(fn: Any = None, /, **options: Any) -> Any:
    """Make a function a task, as `@task` or `@task(...)`.

    Args:
        fn: the function.
        **options: see `Task`. `retry_delay_seconds` is a number, a list with one number for each retry, or a function from the
            number of retries to such a list. `timeout_seconds` ends one try: an async task is cancelled; sync code in the main
            thread is interrupted by a signal (SIGALRM); in another thread it gets an exception at its next Python
            instruction, and a submitted task's thread is abandoned at once, so that its successors need not wait for it.

    Raises:
        OptionError: an option is unknown or cannot work.
    """
    _options.refuse_unknown({key: value for key, value in options.items() if key not in OPTIONS}, OPTIONS, "task")
    if fn is not None:
        return Task(fn, **options)
    return lambda function: Task(function, **options)
