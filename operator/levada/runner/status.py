"""What a FlowRun says to this process, and what this process has to say to it: pure functions over dicts.

Reading: `View` is the part of a FlowRun that matters here, `judge` what it means for this attempt. Writing: fields of a status,
and the smallest JSON merge patch (RFC 7386) that turns the status as known into the status as wanted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final

from levada.resources.phases import RunPhase, is_terminal
from levada.runner.outcome import Outcome
from levada.runner.text import time_text

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """This process: the one pod of one attempt, and when it began."""

    run: str
    attempt: int
    pod: str
    start_time: datetime
    # Of the FlowRun; empty: not told. A FlowRun that was deleted and created again has the same name.
    uid: str = ""
    node: str = ""
    # Where log and record go: `storage` and `path`, as status.archive has them.
    archive: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class View:
    """A FlowRun as the API server last showed it."""

    resource_version: str
    cancel: bool
    status: Json = field(default_factory=dict)
    uid: str = ""
    suspend: bool = False

    @classmethod
    def of(cls, run: Mapping[str, Any]) -> "View":
        """Read the object."""
        return cls(
            resource_version=str(run["metadata"]["resourceVersion"]),
            cancel=bool(run.get("spec", {}).get("cancel")),
            status=run.get("status") or {},
            uid=str(run["metadata"].get("uid", "")),
            suspend=bool(run.get("spec", {}).get("suspend")),
        )

    @property
    def phase(self) -> str | None:
        """Its phase; None before the first."""
        return self.status.get("phase")

    @property
    def cancelling(self) -> bool:
        """Whether somebody wants this run to end, and it has not yet."""
        return not is_terminal(self.phase) and (self.cancel or self.phase == RunPhase.CANCELLING)

    @property
    def suspending(self) -> bool:
        """Whether somebody wants this attempt to stop and the run to go on later. What was begun is not taken back."""
        stopping = self.phase == RunPhase.PAUSED and self.status.get("reason") == _SUSPENDING
        return not is_terminal(self.phase) and (self.suspend or stopping)


class Standing(Enum):
    """What this process may still do."""

    OURS = "run and report"
    CANCEL = "stop the flow, report it as cancelled"
    SUSPEND = "stop the flow, which a later attempt goes on with; report no end but the flow's own"
    ENDED = "somebody else wrote the end: stop the flow, complete the task rows"
    LOST = "the run has moved on without this process: stop, write nothing"


def judge(view: View, me: Identity) -> tuple[Standing, str]:
    """Return this process' standing, and the sentence for the log if it is not OURS.

    The same rules hold before the flow starts and while it runs: no attempt may run twice, whoever came late.
    """
    attempt = view.status.get("attempt") or 0
    pod = view.status.get("podName") or ""
    if me.uid and view.uid != me.uid:
        return Standing.LOST, f"FlowRun {me.run} has been deleted; the one that has its name now is another."
    if attempt != me.attempt:
        return Standing.LOST, f"FlowRun {me.run} is at attempt {attempt}; this process is attempt {me.attempt}."
    if pod != me.pod and pod.startswith(f"{me.run}-{me.attempt}-"):
        return Standing.LOST, f"Attempt {attempt} of FlowRun {me.run} is run by pod {pod}; this is {me.pod}."
    if view.phase == RunPhase.RETRYING:
        return Standing.LOST, f"The operator has given attempt {attempt} of FlowRun {me.run} up and will make another."
    if is_terminal(view.phase):
        return Standing.ENDED, f"FlowRun {me.run} has already ended as {view.phase}."
    if view.cancelling:
        return Standing.CANCEL, f"FlowRun {me.run} is being cancelled."
    if view.suspending:
        return Standing.SUSPEND, f"FlowRun {me.run} is being suspended."
    return Standing.OURS, ""


def started_before(view: View, me: Identity) -> bool:
    """Whether this pod already ran the attempt in an earlier process: then its work must not be done again.

    The operator writes Running, too, when it has long heard nothing, but with a reason of its own.
    """
    return (
        (view.phase, view.status.get("reason")) in _STARTED
        and view.status.get("podName") == me.pod
        and view.status.get("startTime") != time_text(me.start_time)
    )


_RUNNING: Final = "Running"
_SUSPENDING: Final = "Suspending"
WAITING_FOR_INPUT: Final = "WaitingForInput"
_STARTED: Final = {(RunPhase.RUNNING, _RUNNING), (RunPhase.PAUSED, WAITING_FOR_INPUT)}


def start_fields(me: Identity) -> Json:
    """The first report: the flow is about to run here. Clears what an earlier attempt left."""
    return {
        "phase": RunPhase.RUNNING.value,
        "reason": _RUNNING,
        "message": None,
        "result": None,
        **_place(me),
        "completionTime": None,
        "durationSeconds": None,
        **({"archive": dict(me.archive)} if me.archive else {}),
        "conditions": [succeeded("Unknown", _RUNNING, "The flow is running.", me.start_time)],
    }


def pause_fields(message: str | None) -> Json:
    """The flow waits for a person, in its process."""
    return {"phase": RunPhase.PAUSED.value, "reason": WAITING_FOR_INPUT, "message": message}


def resume_fields(message: str | None) -> Json:
    """The person has answered."""
    return {"phase": RunPhase.RUNNING.value, "reason": _RUNNING, "message": message}


def end_fields(outcome: Outcome, me: Identity, end: datetime, *, cancelling: bool) -> Json:
    """The last report."""
    phase = outcome.phase_of_run(cancelling=cancelling)
    final = is_terminal(phase)
    verdict = "True" if phase is RunPhase.COMPLETED else "False" if final else "Unknown"
    return {
        "phase": phase.value,
        "reason": outcome.reason,
        "message": outcome.message or None,
        "result": outcome.result,
        **_place(me),
        "completionTime": time_text(end) if final else None,
        "durationSeconds": round((end - me.start_time).total_seconds(), 3),
        "conditions": [succeeded(verdict, outcome.reason, outcome.message, end)],
    }


def _place(me: Identity) -> Json:
    node = {"nodeName": me.node} if me.node else {}
    return {"podName": me.pod, "startTime": time_text(me.start_time), **node}


ESSENTIAL: Final = ("phase", "reason", "message", "completionTime", "conditions")
"""What remains of the last report when the API server refuses everything else."""


def succeeded(verdict: str, reason: str, message: str, now: datetime) -> Json:
    """The condition that `kubectl wait --for=condition=Succeeded` waits for."""
    return {
        "type": "Succeeded",
        "status": verdict,
        "reason": reason,
        "message": message,
        "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def merge_patch(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> Json:
    """Return the smallest merge patch after which `known` says what `wanted` says.

    Fields that `wanted` does not mention are somebody else's and stay. Two exceptions: None asks for a field's removal, and
    the map of tasks is wholly ours, so a row that is not wanted any more is removed. Conditions are a list, which a merge patch
    can only replace: those of other types are taken along.
    """
    patch: Json = {}
    for key, wish in wanted.items():
        before = known.get(key)
        value = _completed(key, before, wish)
        if isinstance(value, Mapping):
            nested = merge_patch(before if isinstance(before, Mapping) else {}, value)
            if nested:
                patch[key] = nested
        elif value != before:
            patch[key] = value
    return patch


def _completed(key: str, before: Any, value: Any) -> Any:
    """The two exceptions of merge_patch."""
    if key == "conditions":
        return [old for old in before or [] if old["type"] != "Succeeded"] + value
    if key == "tasks":
        return dict.fromkeys(before or {}) | value
    return value


def merged(known: Mapping[str, Any], patch: Mapping[str, Any]) -> Json:
    """Return `known` after the merge patch."""
    result = dict(known)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            before = result.get(key)
            result[key] = merged(before if isinstance(before, Mapping) else {}, value)
        else:
            result[key] = value
    return result
