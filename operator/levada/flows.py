"""`@flow`: a function that is run as a whole: validated, retried, timed, logged, and reported with all its tasks."""

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Literal, ParamSpec, TypeVar, Unpack, overload

from levada import _options
from levada._decorated import Decorated, SharedOptions
from levada.states import State

__all__ = ["Flow", "FlowOptions", "flow"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class FlowOptions(SharedOptions, total=False):
    """What `@flow(...)` takes."""

    task_runner: Any
    validate_parameters: bool | None
    flow_run_name: str | Callable[..., str] | None


class Flow(Decorated[P, R]):
    """A function as a flow. Made by `@flow`.

    Attributes:
        fn: the function itself.
        name: its name; the function's with dashes, unless given.
        description: what it does; the docstring, unless given.
        version: free text.
        task_runner: where its submitted tasks run; None: in threads.
        retries: how often the whole flow is tried again inside its process.
        retry_delay_seconds: the wait before a retry; a number, a list, or a function from the number of retries to a list.
        timeout_seconds: how long one try may take.
        validate_parameters: whether values are checked and converted by their annotations.
        log_prints: whether prints go to the run's log, those of its tasks too.
        persist_result: whether its result, and those of its tasks unless they say otherwise, are kept in storage.
        result_storage, result_serializer: where and how results are kept; also for its tasks.
        flow_run_name: a template such as "etl of {date}", or a function, which may take `parameters`.
        hooks: what is called when a run starts or ends, by phase.
        is_async: whether its calls must be awaited.
    """

    kind: ClassVar[str] = "flow"
    known: ClassVar[frozenset[str]] = frozenset(FlowOptions.__annotations__)

    def __init__(self, fn: Callable[P, R], **options: Unpack[FlowOptions]) -> None:
        super().__init__(fn, dict(options))
        owner = self.owner
        validate = _options.flag_of(options.get("validate_parameters"), "validate_parameters", owner)
        self.validate_parameters = validate is not False
        self.task_runner = _options.task_runner_of(options.get("task_runner"), owner)
        run_name = options.get("flow_run_name")
        self.flow_run_name = _options.template_of(run_name, "flow_run_name", owner, self.fn)

    def with_options(self, **options: Unpack[FlowOptions]) -> "Flow[P, R]":
        """The same flow with some options changed; this one stays as it is. None leaves an option as it was."""
        return self._changed(dict(options))

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def __call__(
        self: "Flow[..., Coroutine[Any, Any, T]]", *args: Any, return_state: Literal[True], **kwargs: Any
    ) -> Coroutine[Any, Any, State[T]]: ...
    @overload
    def __call__(self, *args: Any, return_state: Literal[True], **kwargs: Any) -> State[R]: ...
    def __call__(  # type: ignore[misc]  # `return_state` is a reserved name, which ParamSpec cannot say
        self, *args: Any, return_state: bool = False, **kwargs: Any
    ) -> Any:
        """Run the flow and return what it returns; an async flow's call must be awaited.

        A generator's items come one by one, and its run ends with the last.

        Args:
            *args: its arguments.
            return_state: give the final state instead of the value, and do not raise.
            **kwargs: its keyword arguments.

        Raises:
            ParameterError: the arguments do not fit.
        """
        from levada.engine import run

        carry = run.call_async if self.is_async else run.call
        if self.is_generator and not return_state:
            from levada.engine import generators

            carry = generators.call_flow_async if self.is_async else generators.call_flow
        return self._named(carry(self, args, kwargs, return_state=return_state))

    def validate(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """The parameters with defaults filled in, each converted to what its annotation says.

        Raises:
            ParameterError: one is unknown, missing or does not fit.
        """
        from levada.engine import parameters as rules

        return rules.validate(self.fn, parameters)

    def to_deployment(self, name: str, **options: Any) -> Any:
        """A `levada.deployments.Deployment` of this flow; see `levada.deployments.to_deployment` for its options."""
        from levada import deployments

        return deployments.to_deployment(self, name, **options)

    def deploy(self, name: str, **options: Any) -> Any:
        """Build a deployment of this flow and apply it to the configured cluster; see `levada.deployments.deploy`."""
        from levada import deployments

        return deployments.deploy(self, name, **options)

    def serve(self, name: str | None = None, **options: Any) -> None:
        """Start runs of this flow by its schedules, in this process, until it is stopped; see `levada.serving.serve`."""
        from levada import serving

        serving.serve_flow(self, name or self.slug, **options)

    @classmethod
    def from_source(cls, source: Any, entrypoint: str) -> "Flow[..., Any]":
        """The flow at `path.py:function` in a folder, a Git repository or a storage block; see `levada.serving`."""
        from levada import serving

        found: Flow[..., Any] = serving.from_source(source, entrypoint)
        return found


@overload
def flow(fn: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(**options: Unpack[FlowOptions]) -> Callable[[Callable[P, R]], Flow[P, R]]: ...
def flow(fn: Any = None, /, **options: Any) -> Any:
    """Make a function a flow, as `@flow` or `@flow(...)`.

    Args:
        fn: the function.
        **options: see `Flow`. `timeout_seconds` ends one try: an async flow is cancelled; a sync flow in the main thread is
            interrupted by a signal (SIGALRM), in another thread by an exception at its next Python instruction. Tasks that
            still run in threads are Cancelled; their code is left alone and ignored, since Python cannot stop a thread.

    Raises:
        OptionError: an option is unknown or cannot work.
    """
    if fn is not None:
        return Flow(fn, **options)
    _options.refuse_unknown(options, Flow.known, "flow")
    return lambda function: Flow(function, **options)
