"""`@flow`: a function that is run as a whole: validated, retried, timed, logged, and reported with all its tasks."""

from collections.abc import Callable, Coroutine
from copy import copy
from functools import update_wrapper
from typing import Any, Generic, Literal, ParamSpec, TypeVar, overload

from levada import _options
from levada.engine.machine import Rules
from levada.engine.retry import DelaySetting, delays_of, retries_of
from levada.engine.timeout import timeout_of
from levada.states import State

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Flow(Generic[P, R]):
    """A function as a flow. Made by `@flow`.

    Attributes:
        fn: the function itself.
        name: its name; the function's with dashes, unless given.
        description: what it does; the docstring, unless given.
        version: free text.
        retries: how often the whole flow is tried again inside its process.
        timeout_seconds: how long one try may take.
        validate_parameters: whether values are checked and converted by their annotations.
        log_prints: whether prints go to the run's log, those of its tasks too.
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
        version: str | None = None,
        retries: int | None = None,
        retry_delay_seconds: DelaySetting = None,
        timeout_seconds: float | None = None,
        validate_parameters: bool = True,
        log_prints: bool | None = None,
    ) -> None:
        self.fn = _options.function_of(fn, "flow")
        update_wrapper(self, fn)
        self.is_async = _options.is_async(fn)
        self.name = _options.name_of(name, fn, "flow")
        owner = f"flow {self.name!r}"
        self.description = _options.text_of(description, "description", owner) or (fn.__doc__ or "").strip()
        self.version = _options.text_of(version, "version", owner)
        self.retries = retries_of(retries, owner)
        self.retry_delay_seconds = retry_delay_seconds
        self.timeout_seconds = timeout_of(timeout_seconds, owner)
        self.validate_parameters = bool(_options.flag_of(validate_parameters, "validate_parameters", owner))
        self.log_prints = _options.flag_of(log_prints, "log_prints", owner)
        self.slug = _options.slug_of(self.name)
        self.rules = Rules(self.retries, delays_of(retry_delay_seconds, self.retries, owner))

    def with_options(
        self,
        *,
        name: str | None = None,
        description: str | None = None,
        version: str | None = None,
        retries: int | None = None,
        retry_delay_seconds: DelaySetting = None,
        timeout_seconds: float | None = None,
        validate_parameters: bool | None = None,
        log_prints: bool | None = None,
        **unknown: Any,
    ) -> "Flow[P, R]":
        """The same flow with some options changed; this one stays as it is."""
        _options.refuse_unknown(unknown, OPTIONS, "flow.with_options")
        return Flow(
            self.fn,
            name=self.name if name is None else name,
            description=self.description if description is None else description,
            version=self.version if version is None else version,
            retries=self.retries if retries is None else retries,
            retry_delay_seconds=self.retry_delay_seconds if retry_delay_seconds is None else retry_delay_seconds,
            timeout_seconds=self.timeout_seconds if timeout_seconds is None else timeout_seconds,
            validate_parameters=self.validate_parameters if validate_parameters is None else validate_parameters,
            log_prints=self.log_prints if log_prints is None else log_prints,
        )

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

        Args:
            *args: its arguments.
            return_state: give the final state instead of the value, and do not raise.
            **kwargs: its keyword arguments.

        Raises:
            ParameterError: the arguments do not fit.
        """
        from levada.engine import run

        carry = run.call_async if self.is_async else run.call
        return carry(self, args, kwargs, return_state=return_state)

    def __get__(self, instance: object, owner: type | None = None) -> "Flow[..., R]":
        """As a method: the same flow, bound to its object."""
        if instance is None:
            return self
        bound = copy(self)
        bound.fn = self.fn.__get__(instance, owner)
        return bound

    def __repr__(self) -> str:
        return f"<Flow {self.name!r}>"


OPTIONS = (
    "name",
    "description",
    "version",
    "retries",
    "retry_delay_seconds",
    "timeout_seconds",
    "validate_parameters",
    "log_prints",
)


@overload
def flow(fn: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(
    *,
    name: str | None = None,
    description: str | None = None,
    version: str | None = None,
    retries: int | None = None,
    retry_delay_seconds: DelaySetting = None,
    timeout_seconds: float | None = None,
    validate_parameters: bool = True,
    log_prints: bool | None = None,
) -> Callable[[Callable[P, R]], Flow[P, R]]: ...
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
    _options.refuse_unknown({key: value for key, value in options.items() if key not in OPTIONS}, OPTIONS, "flow")
    if fn is not None:
        return Flow(fn, **options)
    return lambda function: Flow(function, **options)
