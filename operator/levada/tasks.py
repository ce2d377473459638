"""`@task`: a function whose calls are seen, retried, cached, timed and run side by side.

A task is called like the function that it decorates, and can be tested through `.fn` without anything around it.
"""

from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import timedelta
from typing import Any, ClassVar, Literal, ParamSpec, TypeVar, Unpack, overload

from levada import _options
from levada._decorated import Decorated, Hook, Hooks, SharedOptions
from levada.annotations import allow_failure, quote, unmapped
from levada.engine.retry import exponential_delays
from levada.exceptions import OptionError
from levada.futures import Future, FutureList
from levada.states import State

__all__ = [
    "Task",
    "TaskOptions",
    "allow_failure",
    "exponential_backoff",
    "quote",
    "task",
    "task_input_hash",
    "unmapped",
]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class TaskOptions(SharedOptions, total=False):
    """What `@task(...)` takes."""

    tags: Iterable[str] | None
    retry_jitter_factor: float | None
    retry_condition_fn: Callable[..., bool] | None
    cache_policy: Any
    cache_key_fn: Callable[..., str | None] | None
    cache_expiration: timedelta | None
    refresh_cache: bool | None
    result_storage_key: str | None
    task_run_name: str | Callable[..., str] | None
    kubernetes: Mapping[str, Any] | bool | None
    on_rollback: Hooks
    on_commit: Hooks


class Task(Decorated[P, R]):
    """A function as a task. Made by `@task`.

    Attributes:
        fn: the function itself.
        name: its name in logs and in a run's status.
        description: what it does; the docstring, unless given.
        version: free text.
        tags: free labels.
        retries: how often it is tried again after an exception or its timeout.
        retry_delay_seconds: the wait before a retry; a number, a list, or a function from the number of retries to a list.
        retry_jitter_factor: by how much of itself, at random, a delay may grow.
        retry_condition_fn: called as fn(task, task_run, state) after a failure; False: no retry.
        timeout_seconds: how long one try may take.
        log_prints: whether prints go to the run's log; None: as the flow says.
        cache_policy: what makes two runs the same, see `levada.caching`.
        cache_expiration: how long a kept result counts.
        refresh_cache: run in any case, and keep the new result.
        persist_result: whether results are kept in storage; None: if something here needs it, or as the flow says.
        result_storage, result_serializer, result_storage_key: where, how and under which key they are kept.
        cache_result_in_memory: False: a kept result is read again when it is asked for, and takes no memory meanwhile.
        kubernetes: in a cluster, each of its runs gets a pod of its own, which differs so from the flow's; None: it has none.
        task_run_name: a template such as "load {month}", or a function, which may take `parameters`.
        hooks: what is called when a run starts or ends, by phase.
        is_async: whether its calls must be awaited.
    """

    kind: ClassVar[str] = "task"
    known: ClassVar[frozenset[str]] = frozenset(TaskOptions.__annotations__)

    def __init__(self, fn: Callable[P, R], **options: Unpack[TaskOptions]) -> None:
        super().__init__(fn, dict(options))
        owner = self.owner
        self.tags = _options.tags_of(options.get("tags"), owner)
        self.retry_jitter_factor = options.get("retry_jitter_factor")
        self.retry_condition_fn = _options.function_option(
            options.get("retry_condition_fn"), "retry_condition_fn", owner
        )
        self.cache_expiration = _options.expiration_of(options.get("cache_expiration"), owner)
        self.refresh_cache = bool(_options.flag_of(options.get("refresh_cache"), "refresh_cache", owner))
        key = options.get("result_storage_key")
        self.result_storage_key = _options.template_of(key, "result_storage_key", owner, self.fn)
        run_name = options.get("task_run_name")
        self.task_run_name = _options.template_of(run_name, "task_run_name", owner, self.fn)
        self.commit_hooks = _options.commit_hooks_of(options.get("on_commit"), "on_commit", owner)
        self.rollback_hooks = _options.commit_hooks_of(options.get("on_rollback"), "on_rollback", owner)
        self.kubernetes = _options.pod_of(options.get("kubernetes"), owner)
        if self.kubernetes is not None and self.is_generator:
            raise OptionError(f"{owner}: a generator's items cannot come from a pod one by one: return a list instead")
        self.cache_policy = self._policy(options)
        self._source_hash = ""
        self._settle()

    def _policy(self, options: TaskOptions) -> Any:
        """The cache policy that the options add up to; None if they say nothing."""
        policy, key_fn = options.get("cache_policy"), options.get("cache_key_fn")
        if policy is None and key_fn is None:
            return None
        from levada import caching

        made = caching.policy_of(policy, key_fn, self.owner)
        if self.persist_result is False and made is not caching.NO_CACHE:
            import warnings

            warnings.warn(
                f"{self.owner}: persist_result=False keeps no results, so cache_policy and cache_key_fn have no effect; "
                f"leave persist_result out",
                stacklevel=4,
            )
            return caching.NO_CACHE
        return made

    def _settle(self) -> None:
        """Work out what each run of it would otherwise ask again."""
        from_options = self.result_storage_key is not None
        if self.cache_policy is not None:
            from levada.caching import NO_CACHE

            from_options = from_options or self.cache_policy is not NO_CACHE
        # Whether its own options ask for results to be kept.
        self.caches = from_options
        # Whether a run of it is nothing but its call: no name, cache, or result to keep of its own.
        self.plain = not (
            self.task_run_name is not None
            or self.persist_result
            or self.cache_policy is not None
            or self.result_storage_key is not None
            or self.commit_hooks
            or self.rollback_hooks
        )

    @property
    def source_hash(self) -> str:
        """The hash of its code."""
        if not self._source_hash:
            from levada.caching import source_hash_of

            self._source_hash = source_hash_of(self.fn)
        return self._source_hash

    def on_commit(self, hook: Hook) -> Hook:
        """Decorate a function that is called as fn(transaction) when a run's transaction commits."""
        self.commit_hooks = (*self.commit_hooks, *_options.commit_hooks_of([hook], "on_commit", self.owner))
        self._settle()
        return hook

    def on_rollback(self, hook: Hook) -> Hook:
        """Decorate a function that is called as fn(transaction) when a run's transaction is rolled back."""
        self.rollback_hooks = (*self.rollback_hooks, *_options.commit_hooks_of([hook], "on_rollback", self.owner))
        self._settle()
        return hook

    def with_options(self, **options: Unpack[TaskOptions]) -> "Task[P, R]":
        """The same task with some options changed; this one stays as it is. None leaves an option as it was."""
        other_key = ("cache_key_fn",) if options.get("cache_policy") is not None else ()
        made = self._changed(dict(options), other_key)
        if options.get("on_commit") is None:
            made.commit_hooks = self.commit_hooks
        if options.get("on_rollback") is None:
            made.rollback_hooks = self.rollback_hooks
        made._settle()
        return made

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

        A generator's items come one by one, and its run ends with the last.

        Args:
            *args: its arguments; futures are waited for and replaced by their results.
            return_state: give the final state instead of the value, and do not raise.
            wait_for: futures that must complete first.
            **kwargs: its keyword arguments.
        """
        from levada.engine import calls

        run = calls.call_async if self.is_async else calls.call
        if self.is_generator and not return_state:
            from levada.engine import generators

            run = generators.call_task_async if self.is_async else generators.call_task
        return self._named(run(self, args, kwargs, wait_for=wait_for, return_state=return_state))

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
        """Run the task where the flow's task runner says, and go on without waiting for it.

        Futures among the arguments, also inside collections, make it wait for them. If one of them does not complete, the
        task is Skipped, unless it stands in `allow_failure(...)`. An async task runs in an event loop of its thread.

        Args:
            *args: its arguments.
            return_state: wait, and give the final state instead of a future.
            wait_for: futures that must complete first, without being arguments.
            **kwargs: its keyword arguments.
        """
        from levada.engine import calls

        future = calls.submit(self, args, kwargs, wait_for=wait_for)
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


def _calls_of(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterable[tuple[list[Any], dict[str, Any]]]:
    """The arguments of each call of a `.map`."""
    parts: dict[int | str, Any] = dict(enumerate(args))
    parts.update(kwargs)
    parts = {key: part.result() if isinstance(part, Future) else part for key, part in parts.items()}
    lists = {key: _items_of(part) for key, part in parts.items() if _is_mapped(part)}
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
    if isinstance(part, allow_failure):
        part = part.value
    return isinstance(part, Iterable) and not isinstance(part, (str, bytes, Mapping, unmapped))


def _items_of(part: Any) -> list[Any]:
    """The items of a mapped argument; of one in `allow_failure`, each of them in it."""
    if isinstance(part, allow_failure):
        return [allow_failure(item) for item in part.value]
    return list(part)


def exponential_backoff(backoff_factor: float) -> Callable[[int], list[float]]:
    """For `retry_delay_seconds`: waits of `backoff_factor` seconds, doubled with each retry."""
    if isinstance(backoff_factor, bool) or not isinstance(backoff_factor, (int, float)) or not backoff_factor >= 0:
        raise OptionError(f"exponential_backoff({backoff_factor!r}): the factor must be a number of seconds, 0 or more")
    return lambda retries: exponential_delays(backoff_factor, retries)


def task_input_hash(context: Any, arguments: dict[str, Any]) -> str | None:
    """For `cache_key_fn`: the same code and the same arguments."""
    from levada import caching

    return caching.task_input_hash(context, arguments)


@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(**options: Unpack[TaskOptions]) -> Callable[[Callable[P, R]], Task[P, R]]: ...
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
    if fn is not None:
        return Task(fn, **options)
    _options.refuse_unknown(options, Task.known, "task")
    return lambda function: Task(function, **options)
