"""States: how a flow run or a task run stands, or ended, as a value that user code can hold, test and return.

The types are the phases of `levada.resources.phases`, so that a state means the same in a script, in a FlowRun's status
and on a page.
"""

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from levada.exceptions import RunCancelled, RunFailed
from levada.resources.phases import TERMINAL_PHASES, RunPhase

R = TypeVar("R")

_UNSUCCESSFUL = frozenset({RunPhase.FAILED, RunPhase.CRASHED, RunPhase.CANCELLED, RunPhase.TIMED_OUT, RunPhase.SKIPPED})


class State(Generic[R]):
    """One state of a run.

    Attributes:
        type: the phase.
        name: what is shown; the phase, unless said otherwise.
        message: one line for a human.
        value: what the run returned, if it completed.
        exception: why it did not, if it did not.
        run_id: the id of the task run that it belongs to (empty for a flow run or a state made by hand).
    """

    __slots__ = ("exception", "message", "name", "run_id", "type", "value")

    def __init__(
        self,
        type: RunPhase | str,  # noqa: A002  Prefect's users know the attribute by this name
        message: str = "",
        *,
        value: R | None = None,
        exception: BaseException | None = None,
        name: str | None = None,
        run_id: str = "",
    ) -> None:
        self.type = RunPhase(type)
        self.name = name or self.type.value
        self.message = message
        self.value = value
        self.exception = exception
        self.run_id = run_id

    @property
    def data(self) -> Any:
        """The value, or the exception of a run that did not complete."""
        return self.exception if self.exception is not None else self.value

    def is_scheduled(self) -> bool:
        """Waiting for its time."""
        return self.type is RunPhase.SCHEDULED

    def is_pending(self) -> bool:
        """Accepted, not yet started."""
        return self.type is RunPhase.PENDING

    def is_running(self) -> bool:
        """Running now (also between two tries)."""
        return self.type in {RunPhase.RUNNING, RunPhase.RETRYING}

    def is_paused(self) -> bool:
        """Waiting to be resumed."""
        return self.type is RunPhase.PAUSED

    def is_cancelling(self) -> bool:
        """Told to stop, not yet stopped."""
        return self.type is RunPhase.CANCELLING

    def is_completed(self) -> bool:
        """Ended well."""
        return self.type is RunPhase.COMPLETED

    def is_failed(self) -> bool:
        """Ended by an error or by its timeout."""
        return self.type in {RunPhase.FAILED, RunPhase.TIMED_OUT}

    def is_crashed(self) -> bool:
        """Ended by something outside of the code: the process or its machine."""
        return self.type is RunPhase.CRASHED

    def is_cancelled(self) -> bool:
        """Ended because somebody said so."""
        return self.type is RunPhase.CANCELLED

    def is_skipped(self) -> bool:
        """Never started, because something that it needs did not complete."""
        return self.type is RunPhase.SKIPPED

    def is_final(self) -> bool:
        """Whether nothing can follow."""
        return self.type in TERMINAL_PHASES

    def result(self, raise_on_failure: bool = True) -> Any:
        """What the run returned.

        Args:
            raise_on_failure: raise the run's error if it did not complete; otherwise return that error.

        Raises:
            RunFailed: the run is not finished, or it failed and no exception tells why.
        """
        if self.type is RunPhase.COMPLETED:
            return self.value
        error = self.exception if self.exception is not None else _error_of(self)
        if raise_on_failure:
            raise error
        return error

    def __repr__(self) -> str:
        label = self.type.value if self.name == self.type.value else f"{self.type.value}, name={self.name!r}"
        return f"State({label}, message={self.message!r})" if self.message else f"State({label})"

    def __str__(self) -> str:
        return f"{self.name}: {self.message}" if self.message else self.name


def _error_of(state: State[Any]) -> BaseException:
    """The error to raise for a state that did not complete and carries no exception."""
    nested = state.value
    if isinstance(nested, State) and nested.type in _UNSUCCESSFUL:
        return nested.exception if nested.exception is not None else _error_of(nested)
    for inner in nested if isinstance(nested, (list, tuple, set)) else ():
        if isinstance(inner, State) and inner.type in _UNSUCCESSFUL:
            return inner.exception if inner.exception is not None else _error_of(inner)
    if state.type is RunPhase.CANCELLED:
        return RunCancelled(state.message or "the run was cancelled")
    if not state.is_final():
        return RunFailed(f"the run is {state.name} and has no result yet; wait for it first")
    return RunFailed(state.message or f"the run ended as {state.name}")


def is_state_collection(value: object) -> bool:
    """Whether a value is a non-empty list, tuple or set of nothing but states."""
    return isinstance(value, (list, tuple, set, frozenset)) and bool(value) and all(isinstance(v, State) for v in value)


def all_completed(states: Iterable[State[Any]]) -> bool:
    """Whether every state is Completed."""
    return all(state.is_completed() for state in states)


def any_failed(states: Iterable[State[Any]]) -> bool:
    """Whether any state is Failed or TimedOut."""
    return any(state.is_failed() for state in states)


# Constructors, named after the states as Prefect does: `return Failed(message="no trips in this month")`.
def Scheduled(message: str = "", *, data: Any = None, name: str | None = None) -> State[Any]:  # noqa: N802
    """A state that waits for its time."""
    return _make(RunPhase.SCHEDULED, message, data, name)


def Pending(message: str = "", *, data: Any = None, name: str | None = None) -> State[Any]:  # noqa: N802
    """A state that has not started."""
    return _make(RunPhase.PENDING, message, data, name)


def Running(message: str = "", *, data: Any = None, name: str | None = None) -> State[Any]:  # noqa: N802
    """A state that runs."""
    return _make(RunPhase.RUNNING, message, data, name)


def Retrying(message: str = "", *, data: Any = None, name: str | None = None) -> State[Any]:  # noqa: N802
    """A state between two tries."""
    return _make(RunPhase.RETRYING, message, data, name)


def AwaitingRetry(message: str = "", *, data: Any = None) -> State[Any]:  # noqa: N802
    """A state that waits for its next try."""
    return _make(RunPhase.RETRYING, message, data, "AwaitingRetry")


def Paused(message: str = "", *, data: Any = None, name: str | None = None) -> State[Any]:  # noqa: N802
    """A state that waits to be resumed."""
    return _make(RunPhase.PAUSED, message, data, name)


def Cancelling(message: str = "", *, data: Any = None, name: str | None = None) -> State[Any]:  # noqa: N802
    """A state that was told to stop."""
    return _make(RunPhase.CANCELLING, message, data, name)


def Completed(message: str = "", *, data: Any = None, name: str | None = None) -> State[Any]:  # noqa: N802
    """A state that ended well, with `data` as its result."""
    return _make(RunPhase.COMPLETED, message, data, name)


def Failed(message: str = "", *, data: Any = None, name: str | None = None) -> State[Any]:  # noqa: N802
    """A state that failed; `data` may be the exception."""
    return _make(RunPhase.FAILED, message, data, name)


def Crashed(message: str = "", *, data: Any = None, name: str | None = None) -> State[Any]:  # noqa: N802
    """A state that ended by something outside of the code."""
    return _make(RunPhase.CRASHED, message, data, name)


def Cancelled(message: str = "", *, data: Any = None, name: str | None = None) -> State[Any]:  # noqa: N802
    """A state that ended because somebody said so."""
    return _make(RunPhase.CANCELLED, message, data, name)


def TimedOut(message: str = "", *, data: Any = None, name: str | None = None) -> State[Any]:  # noqa: N802
    """A state that ended by its timeout."""
    return _make(RunPhase.TIMED_OUT, message, data, name)


def Skipped(message: str = "", *, data: Any = None, name: str | None = None) -> State[Any]:  # noqa: N802
    """A state that never started."""
    return _make(RunPhase.SKIPPED, message, data, name)


def _make(phase: RunPhase, message: str, data: Any, name: str | None) -> State[Any]:
    if isinstance(data, BaseException):
        return State(phase, message or f"{type(data).__name__}: {data}", exception=data, name=name)
    return State(phase, message, value=data, name=name)
