"""Kueue: a queue may leave it to a LocalQueue of Kueue when a Job gets a pod.

The Job is created suspended, with Kueue's label. Kueue unsuspends it when there is quota, and suspends it again when it takes
the quota away: then the Job controller ends the pod, which is no failure of anybody, and the same attempt waits again. While
Kueue has the Job no clock of ours runs. A Job of Kueue's cannot be stopped by suspending it, as Kueue would start it again: it
is deleted (operator/apply.py).
"""

from typing import Final

from levada.decide.facts import JobView, PodView, RunFacts
from levada.decide.plan import NORMAL, NOTHING, EventSpec, Plan, phase_status
from levada.decide.report import read_report
from levada.resources.phases import RunPhase

WAITING_FOR_KUEUE: Final = "WaitingForKueue"
# What a runner reports of its attempt: history, once another pod does the attempt.
REPORTED: Final = (
    "podName",
    "nodeName",
    "startTime",
    "progress",
    "currentTask",
    "tasks",
    "taskCounts",
    "truncatedTasks",
    "slots",
    "taskPods",
)


def waiting_for_kueue(local_queue: str) -> str:
    """The sentence for people."""
    return f"Waiting for Kueue to admit the Job in LocalQueue {local_queue!r}: see `kubectl get workloads`."


def is_evicted(job: JobView | None, pod: PodView) -> bool:
    """Whether a pod that has ended did so because Kueue took its place away, before it could say how the flow ended."""
    if job is None or not job.waits_for_kueue or pod.phase == "Succeeded":
        return False
    return read_report(pod) is None


def follow_kueue(facts: RunFacts, job: JobView) -> Plan | None:
    """What Kueue's word means for a run under way; None: nothing, the attempt is watched like any other."""
    run, pod = facts.run, facts.pod
    if not job.waits_for_kueue:
        if run.phase != RunPhase.QUEUED:
            return None
        return Plan(
            status=phase_status(run, RunPhase.PENDING, "WaitingForPod", "Kueue has admitted the Job.", now=facts.now)
        )
    if not job.suspended or (pod is not None and not pod.finished):
        return None  # it has just been admitted, or its pod is still leaving: nothing to say until that is over
    evicted = pod is not None or bool(run.pod_name)
    if run.phase == RunPhase.QUEUED and not run.pod_name:
        return NOTHING
    queue = facts.queue.view
    message = waiting_for_kueue(queue.local_queue if queue is not None else "")
    status = phase_status(run, RunPhase.QUEUED, WAITING_FOR_KUEUE, message, now=facts.now) | dict.fromkeys(REPORTED)
    if not evicted:
        return Plan(status=status)
    gone = run.pod_name or (pod.name if pod is not None else "")
    event = EventSpec(NORMAL, "EvictedByKueue", f"Kueue has taken the place of pod {gone} away.", f"evicted-{gone}")
    return Plan(status=status, events=(event,))
