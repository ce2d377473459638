"""Announcements: which steps of a run become Kubernetes Events, beside those that a plan brings along.

What a run's status shows is told about the run. What a person who looks at the Deployment wants to know, its failures, is told about
the Deployment as well; a success is not: ten thousand good runs must not fill its page. The caller counts equal Events together.
"""

from dataclasses import dataclass

from levada.decide.facts import RunFacts, RunView, TaskPodView
from levada.decide.plan import NORMAL, WARNING, EventSpec, clip
from levada.resources.phases import RunPhase, is_terminal

_TASK_POD_WORDS = {"Granted": "TaskPodGranted", "Ended": "TaskPodFailed", "Refused": "TaskPodRefused"}
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


def task_pod_news(before: RunView | None, after: RunView | None) -> tuple[TaskPodView, ...]:
    """The pods of tasks about which the operator has decided something, or learnt their end, between the two."""
    if before is None or after is None or before.uid != after.uid or before.task_pods == after.task_pods:
        return ()
    known = {(entry.attempt, entry.id): entry.state for entry in before.task_pods}
    return tuple(
        entry
        for entry in after.task_pods
        if entry.state in _TASK_POD_WORDS and known.get((entry.attempt, entry.id)) != entry.state
    )


def task_pod_outcome(entry: TaskPodView) -> str:
    """granted, completed, failed or refused."""
    if entry.state != "Ended":
        return entry.state.lower()
    return "completed" if entry.reason == "Completed" else "failed"


def task_pod_event(run: RunView, entry: TaskPodView) -> EventSpec | None:
    """What the run is told about a pod of a task; None: one that came to its end is no news."""
    outcome = task_pod_outcome(entry)
    if outcome == "completed":
        return None
    what = f"{entry.id} ({entry.holder or 'a task'})"
    name = f"task-pod-{entry.attempt}-{entry.id}-{outcome}"
    if outcome == "granted":
        words = f"Job {run.name}-{entry.attempt}-{entry.id} is made for {what}."
        return EventSpec(NORMAL, _TASK_POD_WORDS[entry.state], clip(words), name)
    words = f"{what}: {entry.reason}: {entry.message}"
    return EventSpec(WARNING, _TASK_POD_WORDS[entry.state], clip(words), name)


def long_wait(facts: RunFacts, why: str) -> tuple[EventSpec | None, float | None]:
    """For a run that waits for admission: the Event that it has waited for long, or the seconds until it will have."""
    since = facts.run.due_at
    left_s = facts.settings.long_wait_s - (facts.now - since).total_seconds()
    if left_s > 0:
        return None, left_s
    return EventSpec(WARNING, "QueuedLong", clip(f"Waits since {since:%Y-%m-%dT%H:%M:%SZ}: {why}"), "queued-long"), None
