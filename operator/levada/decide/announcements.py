"""Announcements: which steps of a run become Kubernetes Events, beside those that a plan brings along.

What a run's status shows is told about the run. What a person who looks at the Deployment wants to know, its failures, is told about
the Deployment as well; a success is not: ten thousand good runs must not fill its page. The caller counts equal Events together.
"""

from dataclasses import dataclass

from levada.decide.facts import RunFacts, RunView
from levada.decide.plan import NORMAL, WARNING, EventSpec, clip
from levada.resources.phases import RunPhase, is_terminal

_FAILED = frozenset({RunPhase.FAILED, RunPhase.CRASHED, RunPhase.TIMED_OUT})


@dataclass(frozen=True, slots=True)
class Announcements:
    """Events about the run, and one about its Deployment, to be counted with others of its reason."""

    of_run: tuple[EventSpec, ...] = ()
    of_deployment: EventSpec | None = None


NOTHING_NEW = Announcements()


def announcements(before: RunView | None, after: RunView | None) -> Announcements:
    """What a step of a run is worth telling. `before` None: the run has just come into view, and its past has been told."""
    if before is None or after is None or before.uid != after.uid or before.phase == after.phase:
        return NOTHING_NEW
    if after.phase == RunPhase.RUNNING and before.phase != RunPhase.PAUSED:
        where = f" in pod {after.pod_name}" if after.pod_name else ""
        started = EventSpec(NORMAL, "Started", f"Attempt {after.attempt} started{where}.", f"start-{after.attempt}")
        return Announcements((started,))
    if after.phase == RunPhase.PAUSED:
        return Announcements(
            (EventSpec(NORMAL, "Paused", clip(after.message or "The flow waits."), f"pause-{after.attempt}"),)
        )
    if after.phase == RunPhase.RETRYING or (after.phase in _FAILED and not is_terminal(before.phase)):
        reason = f"Run{after.phase}"
        words = clip(f"FlowRun {after.name}: {after.reason}: {after.message}")
        return Announcements(of_deployment=EventSpec(WARNING, reason, words, reason))
    return NOTHING_NEW


def long_wait(facts: RunFacts, why: str) -> tuple[EventSpec | None, float | None]:
    """For a run that waits for admission: the Event that it has waited for long, or the seconds until it will have."""
    since = facts.run.due_at
    left_s = facts.settings.long_wait_s - (facts.now - since).total_seconds()
    if left_s > 0:
        return None, left_s
    return EventSpec(WARNING, "QueuedLong", clip(f"Waits since {since:%Y-%m-%dT%H:%M:%SZ}: {why}"), "queued-long"), None
