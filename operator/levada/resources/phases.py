"""The one table of what a run and a task may become next.

Read by the CRD generator (as CEL transition rules), the operator, the runner, the command line and the docs.
Standard library only: the run's pod imports this.
"""

from enum import StrEnum
from typing import Final


class RunPhase(StrEnum):
    """Where a FlowRun stands."""

    SCHEDULED = "Scheduled"
    QUEUED = "Queued"
    PENDING = "Pending"
    RUNNING = "Running"
    RETRYING = "Retrying"
    PAUSED = "Paused"
    CANCELLING = "Cancelling"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CRASHED = "Crashed"
    CANCELLED = "Cancelled"
    TIMED_OUT = "TimedOut"
    SKIPPED = "Skipped"


class Occasion(StrEnum):
    """What somebody can be told of a run: that it has reached a phase, or that it is late."""

    RUNNING = RunPhase.RUNNING.value
    RETRYING = RunPhase.RETRYING.value
    PAUSED = RunPhase.PAUSED.value
    COMPLETED = RunPhase.COMPLETED.value
    FAILED = RunPhase.FAILED.value
    CRASHED = RunPhase.CRASHED.value
    CANCELLED = RunPhase.CANCELLED.value
    TIMED_OUT = RunPhase.TIMED_OUT.value
    SKIPPED = RunPhase.SKIPPED.value
    LATE = "Late"


DEFAULT_OCCASIONS: Final = (Occasion.FAILED, Occasion.CRASHED, Occasion.TIMED_OUT)


class TaskState(StrEnum):
    """Where one task of a run stands."""

    PENDING = "Pending"
    RUNNING = "Running"
    RETRYING = "Retrying"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    CRASHED = "Crashed"
    SKIPPED = "Skipped"


P = RunPhase
TERMINAL_PHASES: Final = frozenset({P.COMPLETED, P.FAILED, P.CRASHED, P.CANCELLED, P.TIMED_OUT, P.SKIPPED})
ACTIVE_PHASES: Final = frozenset(RunPhase) - TERMINAL_PHASES

# Staying in a phase is always legal; a terminal phase has no way out. `None` is a run that nobody has looked at yet.
RUN_TRANSITIONS: Final[dict[RunPhase | None, frozenset[RunPhase]]] = {
    None: frozenset(RunPhase),
    P.SCHEDULED: frozenset(RunPhase) - {P.SCHEDULED},
    P.QUEUED: frozenset({P.PENDING, P.RUNNING, P.PAUSED, P.CANCELLING}) | TERMINAL_PHASES,
    P.PENDING: frozenset({P.QUEUED, P.RUNNING, P.RETRYING, P.PAUSED, P.CANCELLING}) | TERMINAL_PHASES,
    # Back to Queued: Kueue has taken the place of a run away, and will give it another.
    P.RUNNING: frozenset({P.QUEUED, P.RETRYING, P.PAUSED, P.CANCELLING}) | TERMINAL_PHASES,
    P.RETRYING: frozenset({P.QUEUED, P.PENDING, P.RUNNING, P.PAUSED, P.CANCELLING}) | TERMINAL_PHASES,
    P.PAUSED: frozenset({P.QUEUED, P.PENDING, P.RUNNING, P.RETRYING, P.CANCELLING}) | TERMINAL_PHASES,
    # A run that finished before the signal reached it has still finished: its result counts.
    P.CANCELLING: TERMINAL_PHASES,
} | dict.fromkeys(TERMINAL_PHASES, frozenset())
del P

# What a run did, as the end of a sentence.
PHASE_VERBS: Final[dict[str, str]] = {
    RunPhase.SCHEDULED: "is scheduled",
    RunPhase.QUEUED: "is queued",
    RunPhase.PENDING: "is about to start",
    RunPhase.RUNNING: "is running",
    RunPhase.RETRYING: "is being retried",
    RunPhase.PAUSED: "is paused",
    RunPhase.CANCELLING: "is being cancelled",
    RunPhase.COMPLETED: "completed",
    RunPhase.FAILED: "failed",
    RunPhase.CRASHED: "crashed",
    RunPhase.CANCELLED: "was cancelled",
    RunPhase.TIMED_OUT: "timed out",
    RunPhase.SKIPPED: "was skipped",
}

TERMINAL_TASK_STATES: Final = frozenset(
    {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.CRASHED, TaskState.SKIPPED}
)


def is_terminal(phase: str | None) -> bool:
    """Whether nothing can follow this phase."""
    return phase in TERMINAL_PHASES


def may_become(old: str | None, new: str) -> bool:
    """Whether a run in phase `old` (None: no phase yet) may be written as `new`.

    Raises:
        ValueError: one of them is no phase.
    """
    before = RunPhase(old) if old else None
    return before == new or RunPhase(new) in RUN_TRANSITIONS[before]
