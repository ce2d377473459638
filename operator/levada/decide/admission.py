"""Admission: may a waiting run start now?

Slots are derived from the live runs at each decision, never counted up and down, so there is no count to leak. The caller
reports a run whose start has been decided but is not yet visible as one that holds a slot. Three limits count: the operator's,
that of the run's WorkQueue, and that of its Deployment, whose policy says what becomes of one run more.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from levada.decide.definitions import REPLACE, SKIP, DeploymentView
from levada.decide.facts import Replaceable, RunFacts
from levada.decide.overlap import WAITING
from levada.decide.times import stamp
from levada.resources.phases import RunPhase

# Schedules make their runs some seconds early.
SHORT_WAIT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet: the phase to wait in and why, in words.

    for_s: look again then even if nothing changes. replaces: runs to cancel, so that this one gets their place.
    silent: it is over so soon that it is not worth a write.
    """

    phase: RunPhase
    reason: str
    message: str
    for_s: float | None = None
    replaces: tuple[Replaceable, ...] = ()
    silent: bool = False


def wait_for_time(facts: RunFacts) -> Wait | None:
    """A run with a scheduled time in the future waits for it; its pod may start earlier, and then waits itself."""
    at = facts.run.due_at - timedelta(seconds=facts.run.prestart_s)
    if at <= facts.now or facts.run.scheduled_at is None:
        return None
    for_s = (at - facts.now).total_seconds()
    return Wait(
        RunPhase.SCHEDULED, "ScheduledForLater", f"Starts at {stamp(at)}.", for_s=for_s, silent=for_s <= SHORT_WAIT_S
    )


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """Never: the phase that the run ends in and why, in words."""

    phase: RunPhase
    reason: str
    message: str


def wait_for_earlier(facts: RunFacts) -> Wait | None:
    """A run of a Schedule whose concurrencyPolicy is to queue waits for the run before it, whatever the limits say."""
    if not facts.waits_for:
        return None
    return Wait(
        RunPhase.QUEUED,
        WAITING,
        f"FlowRun {facts.waits_for!r} of the same Schedule has to end first: see its concurrencyPolicy.",
    )


def admit(facts: RunFacts) -> Wait | TurnedAway | None:
    """Whether a run that could start may start: None says yes.

    A pause comes first, because nothing is worth replacing for a run that could not start. Then the limits, from the
    narrowest to the widest. Where not all who wait could start, the order decides: queue priority, run priority, age.
    """
    deployment, seen = facts.deployment, facts.queue
    paused = _paused(facts)
    if paused is not None:
        return paused
    if deployment is not None and seen.deployment.taken:
        return _beyond_the_limit(facts, deployment)
    queue, operator = seen.queue, seen.operator
    if seen.view is not None and (queue.full or (queue.scarce and queue.ahead)):
        return Wait(
            RunPhase.QUEUED,
            "QueueFull",
            f"WorkQueue {seen.view.name!r} runs at most {queue.limit} at a time; waiting for a slot.",
        )
    if operator.full or (operator.scarce and operator.ahead):
        return Wait(
            RunPhase.QUEUED,
            "OperatorFull",
            f"The operator runs at most {operator.limit} at a time (--max-active-runs); waiting for a slot.",
        )
    return None


def _paused(facts: RunFacts) -> Wait | None:
    deployment, queue = facts.deployment, facts.queue.view
    if deployment is not None and deployment.paused:
        return Wait(
            RunPhase.QUEUED, "DeploymentPaused", f"Deployment {deployment.name!r} is paused: set spec.paused to false."
        )
    if queue is not None and queue.paused:
        return Wait(RunPhase.QUEUED, "QueuePaused", f"WorkQueue {queue.name!r} is paused: set spec.paused to false.")
    return None


def _beyond_the_limit(facts: RunFacts, deployment: DeploymentView) -> Wait | TurnedAway:
    """What the Deployment's policy says of one run more than its limit."""
    room = facts.queue.deployment
    at_most = f"Deployment {deployment.name!r} runs at most {room.limit} at a time"
    if facts.run.attempt > 0:  # it was suspended, and is to go on: it neither ends by the limit nor ends others
        return Wait(RunPhase.QUEUED, "DeploymentFull", f"{at_most}; waiting for a slot.")
    if deployment.concurrency_policy == SKIP:
        return TurnedAway(RunPhase.SKIPPED, "DeploymentFull", f"{at_most}, and its policy is to skip further runs.")
    if deployment.concurrency_policy == REPLACE and room.limit is not None:
        if room.ahead >= room.limit:
            return TurnedAway(RunPhase.CANCELLED, "Replaced", f"{at_most}, and newer runs have taken its place.")
        # Those that were asked to stop already make room as well; the rest of what is missing must be asked.
        leaving = room.held - len(facts.queue.replaceable)
        missing = room.held + room.ahead + 1 - room.limit - leaving
        return Wait(
            RunPhase.QUEUED,
            "Replacing",
            f"{at_most}: the oldest active runs are asked to stop, and this one starts when they have gone.",
            replaces=facts.queue.replaceable[: max(0, missing)],
        )
    return Wait(RunPhase.QUEUED, "DeploymentFull", f"{at_most}; waiting for a slot.")


def held_back(facts: RunFacts) -> bool:
    """Whether a pause keeps a further attempt of a run from starting. A slot it has already."""
    queue = facts.queue.view
    return bool((facts.deployment is not None and facts.deployment.paused) or (queue is not None and queue.paused))
