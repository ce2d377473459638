"""What a decision asks for: data that operator/apply.py carries out, in this order: status, Job, stops, other runs, Events.

The status is written before the Job is created (write-ahead), so whoever finds a Job finds its attempt on record.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from levada.decide.facts import Replaceable, RunView
from levada.decide.times import stamp
from levada.resources.names import MAX_MESSAGE_CHARS
from levada.resources.phases import RunPhase, is_terminal

NORMAL: Final = "Normal"
WARNING: Final = "Warning"


@dataclass(frozen=True, slots=True)
class EventSpec:
    """A core/v1 Event about the object. `discriminator` makes its name unique and repeatable: same fact, same name."""

    type: str
    reason: str
    message: str
    discriminator: str


@dataclass(frozen=True, slots=True)
class Ask:
    """An object that is not under watch, and without which nothing can be decided: read it, then decide again."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about one run. An empty plan means: all is as it should be, until something changes.

    status: merge patch of .status, on condition that the run is still the one that was looked at.
    stop_jobs: Jobs to suspend; the Job controller then ends their pods with SIGTERM and keeps the Job as evidence.
    cancel_runs: other runs to cancel, because this one takes their place.
    queued: the run could start, and stays in line for a slot. Any other run is in nobody's way.
    requeue_after_s: look again then even if nothing changes.
    ask: what has to be read first; such a plan asks for nothing else.
    announced: the Events of this plan tell the end of the run.
    forget: nothing is left to watch over; the run can leave the memory.
    """

    status: Mapping[str, Any] | None = None
    create_job: Mapping[str, Any] | None = None
    stop_jobs: tuple[str, ...] = ()
    events: tuple[EventSpec, ...] = ()
    cancel_runs: tuple[Replaceable, ...] = ()
    queued: bool = False
    requeue_after_s: float | None = None
    ask: Ask | None = None
    announced: bool = False
    forget: bool = False


NOTHING: Final = Plan()


@dataclass(frozen=True, slots=True)
class ConditionSpec:
    """One metav1.Condition, before it has met the old one."""

    type: str
    status: str
    reason: str
    message: str = ""


def condition(
    spec: ConditionSpec, *, now: datetime, generation: int, old: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The condition to write. As Kubernetes has it, the transition time moves only when the status does."""
    unchanged = old is not None and old.get("status") == spec.status and old.get("lastTransitionTime")
    return {
        "type": spec.type,
        "status": spec.status,
        "reason": spec.reason,
        "message": clip(spec.message),
        "observedGeneration": generation,
        "lastTransitionTime": old["lastTransitionTime"] if old is not None and unchanged else stamp(now),
    }


def phase_status(
    run: RunView, phase: RunPhase, reason: str, message: str, *, now: datetime, completed_at: datetime | None = None
) -> dict[str, Any]:
    """The part of a run's status that every phase change writes."""
    outcome = "Unknown" if not is_terminal(phase) else "True" if phase == RunPhase.COMPLETED else "False"
    succeeded = ConditionSpec("Succeeded", outcome, reason, message)
    status: dict[str, Any] = {
        "observedGeneration": run.generation,
        "phase": phase.value,
        "reason": reason,
        "message": clip(message),
        "conditions": [
            condition(succeeded, now=now, generation=run.generation, old=run.succeeded),
            *run.other_conditions,
        ],
    }
    if is_terminal(phase):
        status |= {"completionTime": stamp(completed_at or now), "nextAttemptTime": None, "currentTask": None}
    return status


def sentence(text: str) -> str:
    """The text with one mark at its end: its own, else a full stop."""
    return text if text.endswith((".", "?", "!", "…")) else f"{text}."


def clip(message: str, limit: int = MAX_MESSAGE_CHARS) -> str:
    """The message, shortened to what the schema takes."""
    return message if len(message) <= limit else message[: limit - 1] + "…"
