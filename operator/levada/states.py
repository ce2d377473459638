"""States: how a flow run or a task run stands, or ended, as a value that user code can hold, test and return.

The types are the phases of `levada.resources.phases`, so that a state means the same in a script, in a FlowRun's status
and on a page.
"""

from collections.abc import Generator, Iterable
from datetime import UTC, datetime, timedelta
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
        exception: why it did not, if it did not.
        run_id: the id of the task run that it belongs to (empty for a flow run or a state made by hand).
        timestamp: since when, in UTC.
        scheduled_time: for what moment it is planned, if it is.
    """

    __slots__ = ("_value", "exception", "message", "name", "run_id", "scheduled_time", "timestamp", "type")

    def __init__(
        self,
        type: RunPhase | str,  # noqa: A002  Prefect's users know the attribute by this name
        message: str = "",
        *,
        value: R | None = None,
        exception: BaseException | None = None,
        name: str | None = None,
        run_id: str = "",
        timestamp: datetime | None = None,
        scheduled_time: datetime | None = None,
    ) -> None:
        self.type = RunPhase(type)
        self.name = name or self.type.value
        self.message = message
        self._value = value
        self.exception = exception
        self.run_id = run_id
        self.timestamp = timestamp or datetime.now(UTC)
        self.scheduled_time = scheduled_time

    @property
    def value(self) -> Any:
        """What the run returned; read from storage if it is kept only there."""
        load = getattr(type(self._value), "levada_load", None)
        return self._value if load is None else load(self._value)

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

    def is_cached(self) -> bool:
        """Completed without running, by the result of an earlier run."""
        return self.name == "Cached"

    def is_final(self) -> bool:
        """Whether nothing can follow."""
        return self.type in TERMINAL_PHASES

    def result(self, raise_on_failure: bool = True, fetch: bool = True) -> Any:
        """What the run returned.

        Args:
            raise_on_failure: raise the run's error if it did not complete; otherwise return that error.
            fetch: for older code; results are always fetched.

        Raises:
            RunFailed: the run is not finished, or it failed and no exception tells why.
        """
        if self.type is RunPhase.COMPLETED:
            return self.value
        error = self.exception if self.exception is not None else _error_of(self)
        if raise_on_failure:
            raise error
        return error

    def __await__(self) -> Generator[None, None, "State[R]"]:
        """`await future.wait()` in older async code gives the state."""
        yield from ()
        return self

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


def get_state_exception(state: State[Any]) -> BaseException:
    """The error of a state that did not complete.

    Raises:
        ValueError: it completed, or has not ended.
    """
    if state.type not in _UNSUCCESSFUL:
        raise ValueError(f"{state!r} has no exception: it did not end badly")
    error: BaseException = state.result(raise_on_failure=False)
    return error


def raise_state_exception(state: State[Any]) -> None:
    """Raise the error of a state that did not complete; of one that did, do nothing."""
    if state.type in _UNSUCCESSFUL:
        raise get_state_exception(state)


def is_state(value: object) -> bool:
    """Whether a value is a state."""
    return isinstance(value, State)


class StateGroup:
    """Some states, counted."""

    def __init__(self, states: Iterable[State[Any]]) -> None:
        self.states = list(states)

    @property
    def total_count(self) -> int:
        """How many there are."""
        return len(self.states)

    def fail_count(self) -> int:
        """How many failed."""
        return sum(state.is_failed() for state in self.states)

    def all_completed(self) -> bool:
        """Whether every one is Completed."""
        return all_completed(self.states)

    def all_final(self) -> bool:
        """Whether every one has ended."""
        return all(state.is_final() for state in self.states)

    def any_failed(self) -> bool:
        """Whether any is Failed or TimedOut."""
        return any_failed(self.states)

    def any_cancelled(self) -> bool:
        """Whether any is Cancelled."""
        return any(state.is_cancelled() for state in self.states)

    def any_paused(self) -> bool:
        """Whether any is Paused."""
        return any(state.is_paused() for state in self.states)

    def counts_message(self) -> str:
        """Such as `total=3 'Completed'=2 'Failed'=1`."""
        kinds = dict.fromkeys(state.type.value for state in self.states)
        parts = [f"{kind!r}={sum(state.type.value == kind for state in self.states)}" for kind in kinds]
        return " ".join([f"total={self.total_count}", *parts])


# Constructors, named after the states as Prefect does: `return Failed(message="no trips in this month")`.
def Scheduled(  # noqa: N802
    message: str = "", *, scheduled_time: datetime | None = None, data: Any = None, name: str | None = None
) -> State[Any]:
    """A state that waits for its time: `scheduled_time`, or now."""
    return _planned(RunPhase.SCHEDULED, message, data, name, scheduled_time)


def Pending(message: str = "", *, data: Any = None, name: str | None = None) -> State[Any]:  # noqa: N802
    """A state that has not started."""
    return _make(RunPhase.PENDING, message, data, name)


def Running(message: str = "", *, data: Any = None, name: str | None = None) -> State[Any]:  # noqa: N802
    """A state that runs."""
    return _make(RunPhase.RUNNING, message, data, name)


def Late(message: str = "", *, scheduled_time: datetime | None = None, data: Any = None) -> State[Any]:  # noqa: N802
    """A state whose time has passed without a start."""
    return _planned(RunPhase.SCHEDULED, message, data, "Late", scheduled_time)


def AwaitingConcurrencySlot(message: str = "", *, data: Any = None) -> State[Any]:  # noqa: N802
    """A state that waits for a free slot."""
    return _make(RunPhase.SCHEDULED, message, data, "AwaitingConcurrencySlot")


def Cached(message: str = "", *, data: Any = None) -> State[Any]:  # noqa: N802
    """A state that ended well without running: `data` is the result of an earlier run."""
    return _make(RunPhase.COMPLETED, message, data, "Cached")


def Retrying(message: str = "", *, data: Any = None, name: str | None = None) -> State[Any]:  # noqa: N802
    """A state between two tries."""
    return _make(RunPhase.RETRYING, message, data, name)


def AwaitingRetry(message: str = "", *, scheduled_time: datetime | None = None, data: Any = None) -> State[Any]:  # noqa: N802
    """A state that waits for its next try, which is planned for `scheduled_time`."""
    return _planned(RunPhase.RETRYING, message, data, "AwaitingRetry", scheduled_time)


def Paused(  # noqa: N802
    message: str = "", *, timeout_seconds: float | None = None, data: Any = None, name: str | None = None
) -> State[Any]:
    """A state that waits to be resumed, for at most `timeout_seconds`."""
    until = None if timeout_seconds is None else datetime.now(UTC) + timedelta(seconds=timeout_seconds)
    return State(RunPhase.PAUSED, message, value=data, name=name, scheduled_time=until)


def Suspended(message: str = "", *, timeout_seconds: float | None = None, data: Any = None) -> State[Any]:  # noqa: N802
    """A state whose process has ended, to go on later."""
    return Paused(message, timeout_seconds=timeout_seconds, data=data, name="Suspended")


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


def _planned(phase: RunPhase, message: str, data: Any, name: str | None, when: datetime | None) -> State[Any]:
    made = _make(phase, message, data, name)
    made.scheduled_time = when or made.timestamp
    return made
