"""How a flow ended, in the words of a FlowRun: from the engine's `State` to phase, reason, message and result.

Also the termination message, the pod's last words, which the operator reads when the status could not be written.
"""

import json
import reprlib
import signal
from dataclasses import dataclass, replace
from typing import Any, Final

from levada.exceptions import ParameterError
from levada.logging import masked
from levada.resources.names import MAX_MESSAGE_CHARS
from levada.resources.phases import RunPhase
from levada.runner.text import bounded
from levada.states import State

MAX_RESULT_CHARS: Final = 1024
MAX_TERMINATION_BYTES: Final = 4096
_SIGNALLED: Final = 126  # what a shell makes of commands that cannot start, and from 128 on of signals


@dataclass(frozen=True, slots=True)
class Outcome:
    """One ending of one attempt."""

    phase: RunPhase
    reason: str
    message: str = ""
    result: str | None = None
    # The flow itself failed, so another attempt may go better. False where the same code would fail the same way.
    worth_retrying: bool = False
    # The operator will make another attempt: this one's end is not the run's.
    retried: bool = False
    # Stopped from outside: by a cancellation, or by something that the operator knows and this process does not.
    interrupted: bool = False
    # For the log; part of the message as well.
    warning: str = ""
    # What sys.exit() was given: a failurePolicy may know it.
    exit_status: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", bounded(masked(self.message), MAX_MESSAGE_CHARS))
        object.__setattr__(self, "result", None if self.result is None else masked(self.result))

    @property
    def exit_code(self) -> int:
        """0 if and only if the flow completed; that of a process ended by SIGTERM if it was stopped, which the operator reads."""
        if self.phase is RunPhase.COMPLETED:
            return 0
        return 128 + signal.SIGTERM if self.interrupted else self.exit_status

    def phase_of_run(self, *, cancelling: bool = False) -> RunPhase:
        """Return what the run becomes by this attempt's end. A run that is being cancelled gets no other attempt."""
        return RunPhase.RETRYING if self.retried and not cancelling else self.phase


# What a server that is away for a while may cause: another attempt may find it back.
_MAY_PASS: Final = frozenset({"CodeNotFetched", "RequirementsNotInstalled"})


def failed(reason: str, message: str) -> Outcome:
    """The flow could not even start: it would fail the same way again, unless a server was away."""
    return Outcome(RunPhase.FAILED, reason, message, worth_retrying=reason in _MAY_PASS)


def interrupted(message: str) -> Outcome:
    """The process was asked to end before the flow had ended."""
    return Outcome(RunPhase.CANCELLED, "Cancelled", message, interrupted=True)


def outcome_of(state: State[Any], *, stopped: str = "") -> Outcome:
    """Return what the engine's final state means. `stopped` says why the process was asked to stop, if it was."""
    message = state.message or ""
    if state.type is RunPhase.COMPLETED:
        result, warning = preview(state.value)
        return Outcome(RunPhase.COMPLETED, "Completed", f"{message} {warning}".strip(), result, warning=warning)
    if state.type is RunPhase.CANCELLED:
        return interrupted(stopped) if stopped else Outcome(RunPhase.CANCELLED, "Cancelled", message)
    if state.type is RunPhase.TIMED_OUT:
        return Outcome(RunPhase.TIMED_OUT, "TimedOut", message)
    if state.type is RunPhase.CRASHED:
        return Outcome(RunPhase.CRASHED, "FlowCrashed", message or _told(state.exception), worth_retrying=True)
    if isinstance(state.exception, ParameterError):
        return failed("InvalidParameters", str(state.exception))
    told = message or _told(state.exception)
    if isinstance(state.exception, SystemExit):
        status = exit_status_of(state.exception)
        return Outcome(RunPhase.FAILED, "SystemExit", told, worth_retrying=True, exit_status=status)
    return Outcome(RunPhase.FAILED, "FlowFailed", told, worth_retrying=True)


def exit_status_of(error: SystemExit) -> int:
    """The exit code of a flow that called sys.exit: its own, unless that means success, a signal, or nothing to a shell."""
    code = error.code
    return code if isinstance(code, int) and 0 < code < _SIGNALLED else 1


def with_retry(outcome: Outcome, retries_left: int) -> Outcome:
    """Leave the end to the next attempt, if there may be one."""
    return replace(outcome, retried=outcome.worth_retrying and retries_left > 0)


def preview(value: object) -> tuple[str | None, str]:
    """Return the return value as bounded JSON, and a warning if it has no JSON form and its repr had to do.

    The encoder runs piece by piece, so that a huge value costs no more than its first kilobyte.
    """
    if value is None:
        return None, ""
    text = ""
    try:
        shown = value[: MAX_RESULT_CHARS + 1] if isinstance(value, str) else value
        for piece in json.JSONEncoder(ensure_ascii=False).iterencode(shown):
            text += piece
            if len(text) > MAX_RESULT_CHARS:
                break
    except Exception:  # noqa: BLE001 - whatever the user's value does, the run has completed
        warning = f"The return value of type {type(value).__name__} has no JSON form: the result shows its repr."
        return bounded(_repr(value), MAX_RESULT_CHARS), warning
    return bounded(text, MAX_RESULT_CHARS), ""


def termination_message(outcome: Outcome, progress: str | None, *, reported: bool) -> bytes:
    """Return the pod's last words, at most 4 KiB.

    Phase `Terminated` says that the process was stopped and that the operator has to tell why.
    """
    undecided = outcome.interrupted and not reported
    words: dict[str, Any] = {
        "levada": 1,
        "phase": "Terminated" if undecided else outcome.phase_of_run().value,
        "reason": "Terminated" if undecided else outcome.reason,
        "message": outcome.message,
        "result": outcome.result,
        "progress": progress,
    }
    room = MAX_RESULT_CHARS
    while True:
        text = json.dumps(words, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        if len(text) <= MAX_TERMINATION_BYTES:
            return text
        room //= 2
        words["message"] = bounded(words["message"], room)
        words["result"] = bounded(words["result"] or "", room) or None


def _repr(value: object) -> str:
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = MAX_RESULT_CHARS
    try:
        return shortener.repr(value)
    except Exception as error:  # noqa: BLE001 - a broken __repr__ is the user's, and no reason to fail
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"


def _told(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}" if error else "The flow failed."
