"""Admission: may a waiting run start now?

Slots are derived from the live runs at each decision, never counted up and down, so there is no count to leak. The caller
reports a run whose start has been decided but is not yet visible as one that holds a slot.
"""

from dataclasses import dataclass
from datetime import timedelta

from levada.decide.facts import RunFacts
from levada.decide.overlap import WAITING
from levada.decide.times import stamp
from levada.resources.phases import RunPhase


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet: the phase to wait in and why, in words. `for_s`: look again then even if nothing changes."""

    phase: RunPhase
    reason: str
    message: str
    for_s: float | None = None


def wait_for_time(facts: RunFacts) -> Wait | None:
    """A run with a scheduled time in the future waits for it; its pod may start earlier, and then waits itself."""
    at = facts.run.due_at - timedelta(seconds=facts.run.prestart_s)
    if at <= facts.now or facts.run.scheduled_at is None:
        return None
    return Wait(
        RunPhase.SCHEDULED, "ScheduledForLater", f"Starts at {stamp(at)}.", for_s=(at - facts.now).total_seconds()
    )


def wait_for_slot(facts: RunFacts) -> Wait | None:
    """A run whose Deployment or queue is paused, or whose queue is full, waits. Oldest first."""
    deployment, queue = facts.deployment, facts.queue.view
    if deployment is not None and deployment.paused:
        return Wait(
            RunPhase.QUEUED, "DeploymentPaused", f"Deployment {deployment.name!r} is paused: set spec.paused to false."
        )
    if facts.waits_for:
        return Wait(
            RunPhase.QUEUED,
            WAITING,
            f"FlowRun {facts.waits_for!r} of the same Schedule has to end first: see its concurrencyPolicy.",
        )
    if queue is None:
        return None
    if queue.paused:
        return Wait(RunPhase.QUEUED, "QueuePaused", f"WorkQueue {queue.name!r} is paused: set spec.paused to false.")
    if queue.limit is not None and facts.queue.holding + facts.queue.ahead >= queue.limit:
        return Wait(
            RunPhase.QUEUED,
            "QueueFull",
            f"WorkQueue {queue.name!r} runs at most {queue.limit} at a time; waiting for a slot.",
        )
    return None


def held_back(facts: RunFacts) -> bool:
    """Whether a pause keeps a further attempt of a run from starting. A slot it has already."""
    queue = facts.queue.view
    return bool((facts.deployment is not None and facts.deployment.paused) or (queue is not None and queue.paused))
