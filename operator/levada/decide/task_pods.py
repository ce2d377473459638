"""Pods of their own for single tasks and Dask workers: which are granted, which have ended, and which must go.

The run asks in its own status, and the operator makes the Jobs, so no run needs a right to create anything. An entry is granted
in writing before its Job is made, and its end is written before the Job is deleted; so whoever finds `Granted` without a Job looks
once more at both (`look_up`) before it concludes anything. How many a run has is counted over its entries, never up and down.

A pod of a task ends like an attempt of a run: the same diagnosis, the same patience. What becomes of the task then is for the
run to say: it knows its retries.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Final

from levada.decide.attempt import find_end
from levada.decide.definitions import DeploymentView
from levada.decide.diagnosis import UNEXPLAINED_WAITS, Diagnosis, diagnosis, why_waiting
from levada.decide.facts import JobView, NodeView, PodView, RunFacts, RunView, Settings, TaskPodView
from levada.decide.node_loss import ask_node, doubt
from levada.decide.plan import Plan, clip
from levada.decide.slots import is_alive
from levada.decide.timeouts import pending_deadline
from levada.decide.times import seconds_between, stamp
from levada.resources.phases import RunPhase

WAITING: Final = "Waiting"
GRANTED: Final = "Granted"
ENDED: Final = "Ended"
REFUSED: Final = "Refused"

# Never a number alone: `<run>-<attempt>-<id>` must not look like the Job of an attempt, and fits into a name of 63 characters.
_ID: Final = re.compile(r"t[0-9]{1,6}")
# A pod that is being deleted, or is not ready: its news may be late.
_LOOK_AGAIN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class TaskPodFacts:
    """A run, what it asks for, and what is there. jobs, pods: those of its tasks. pod: the run's own, of the current attempt.

    looked_up: entries whose Job has just been looked for at the API server: what is not among `jobs` is not there.
    seen: entries whose Job this process has seen. nodes: those that a plan has asked for.
    """

    now: datetime
    run: RunView
    deployment: DeploymentView | None
    pod: PodView | None = None
    jobs: tuple[JobView, ...] = ()
    pods: tuple[PodView, ...] = ()
    looked_up: frozenset[str] = frozenset()
    seen: frozenset[str] = frozenset()
    nodes: Mapping[str, NodeView] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, slots=True)
class TaskPodPlan:
    """What to do, in this order: read (then decide again), write `entries` into the run, create Jobs, delete Jobs."""

    look_up: tuple[str, ...] = ()
    ask_nodes: tuple[str, ...] = ()
    entries: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    create: tuple[TaskPodView, ...] = ()
    delete: tuple[JobView, ...] = ()
    requeue_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Look:
    """What one granted entry comes to."""

    entry: Mapping[str, Any] | None = None
    create: bool = False
    look_up: bool = False
    node: str = ""
    wait_s: float | None = None


def job_name(run: str, attempt: int, task_pod: str) -> str:
    """The name of the Job: never used again, so it is the lock on the entry."""
    return f"{run}-{attempt}-{task_pod}"


def wants_task_pods(run: RunView, pod: PodView | None) -> bool:
    """Whether what the run asks for still counts. One that is to stop needs no pods any more."""
    stopping = run.cancel or run.suspend or run.deleting or run.phase == RunPhase.CANCELLING
    return is_alive(run, pod) and not stopping


def decide_task_pods(facts: TaskPodFacts) -> TaskPodPlan:
    """The one decision about the pods that a run has asked for."""
    counts = wants_task_pods(facts.run, facts.pod)
    entries = [entry for entry in facts.run.task_pods if counts and entry.attempt == facts.run.attempt]
    looks = {entry.id: _look(facts, entry) for entry in entries if entry.state == GRANTED}
    look_up = tuple(name for name, look in looks.items() if look.look_up)
    nodes = tuple({look.node for look in looks.values() if look.node})
    if look_up or nodes:
        return TaskPodPlan(look_up=look_up, ask_nodes=nodes)
    words: dict[str, Mapping[str, Any]] = {name: look.entry for name, look in looks.items() if look.entry is not None}
    alive = {name for name in looks if words.get(name, {}).get("state") != ENDED}
    granted, said = _grants(facts, [entry for entry in entries if entry.state == WAITING], len(alive))
    make = [entry for entry in entries if entry.state == GRANTED and looks[entry.id].create]
    waits = [look.wait_s for look in looks.values() if look.wait_s is not None]
    wanted = alive | {entry.id for entry in granted}
    return TaskPodPlan(
        entries=words | said,
        create=(*make, *granted),
        delete=tuple(job for job in facts.jobs if _must_go(facts.run, job, wanted)),
        requeue_after_s=min(waits, default=None),
    )


def _must_go(run: RunView, job: JobView, wanted: set[str]) -> bool:
    of_now = job.owner_uid == run.uid and job.attempt == run.attempt
    return not job.deleting and not (of_now and job.task_pod in wanted)


def _grants(
    facts: TaskPodFacts, waiting: list[TaskPodView], held: int
) -> tuple[list[TaskPodView], dict[str, Mapping[str, Any]]]:
    """Who gets a pod now, and what to write: the earliest first, as many as the Deployment opens."""
    granted: list[TaskPodView] = []
    said: dict[str, Mapping[str, Any]] = {}
    for entry in sorted(waiting, key=lambda each: (each.requested_at, len(each.id), each.id)):
        why = refusal(facts.deployment, entry, facts.run)
        if why is not None:
            said[entry.id] = {"state": REFUSED, "reason": "NotAllowed", "message": clip(why)}
        elif facts.deployment is not None and held < _opened(facts.deployment)["limit"]:
            held += 1
            granted.append(entry)
            name = job_name(facts.run.name, entry.attempt, entry.id)
            said[entry.id] = {"state": GRANTED, "grantedTime": stamp(facts.now), "job": name}
    return granted, said


def _opened(deployment: DeploymentView) -> dict[str, Any]:
    return {"limit": 10, **(deployment.infrastructure.get("taskPods") or {})}


def refusal(deployment: DeploymentView | None, entry: TaskPodView, run: RunView) -> str | None:
    """Why the entry never gets a pod; None: it may."""
    if not _ID.fullmatch(entry.id):
        return f"{entry.id!r} is no id of a task's pod: it must be a t and a number of up to six digits."
    if deployment is None:
        return f"Deployment {run.deployment!r} was deleted: nothing says which pods its tasks may have."
    name = f"Deployment {deployment.name!r}"
    opened = deployment.infrastructure.get("taskPods")
    if opened is None:
        return f"{name} opens no pods to its tasks: set spec.infrastructure.taskPods, for example to {{limit: 10}}."
    closed = [wish for wish in entry.wanted if wish not in (opened.get("allow") or ())]
    if closed:
        return f"{name} does not let its tasks set {', '.join(closed)}: add it to spec.infrastructure.taskPods.allow."
    image, patterns = str(entry.wanted.get("image", "")), opened.get("images") or ()
    if image and patterns and not any(fnmatchcase(image, pattern) for pattern in patterns):
        return f"{name} does not let its tasks use image {image!r}: add it to spec.infrastructure.taskPods.images."
    return None


# --- one that is granted -----------------------------------------------------------------------------------------------


def _look(facts: TaskPodFacts, entry: TaskPodView) -> _Look:
    job = next((job for job in facts.jobs if _is_of(facts.run, job, entry)), None)
    pods = tuple(pod for pod in facts.pods if pod.task_pod == entry.id and pod.attempt == entry.attempt)
    if not pods and (job is None or job.verdict) and entry.id not in facts.looked_up:
        return _Look(look_up=True)  # it may have ended while nobody looked
    if job is None and not pods and entry.id not in facts.seen:
        return _Look(create=True)
    as_run = _as_attempt(facts, entry, job, pods)
    end = find_end(as_run)
    if isinstance(end, float):
        return _Look(wait_s=end)
    if end is None:
        return _under_way(as_run, entry)
    return _Look(entry=_ended(end.diagnosis))


def _is_of(run: RunView, job: JobView, entry: TaskPodView) -> bool:
    return job.task_pod == entry.id and job.attempt == entry.attempt and job.owner_uid == run.uid


def _as_attempt(facts: TaskPodFacts, entry: TaskPodView, job: JobView | None, pods: tuple[PodView, ...]) -> RunFacts:
    """The pod of a task, as if it were an attempt of a run: so that one set of rules says what its state means."""
    pod = next((pod for pod in pods if not pod.finished), pods[0] if pods else None)
    return RunFacts(
        now=facts.now,
        run=replace(
            facts.run, phase=RunPhase.PENDING.value, reason=entry.reason, pod_name="", admitted_at=entry.granted_at
        ),
        jobs=(job,) if job is not None else (),
        pods=pods,
        deployment=facts.deployment,
        job_seen=entry.id in facts.seen,
        node=facts.nodes.get(pod.node) if pod is not None else None,
        settings=facts.settings,
    )


def _under_way(facts: RunFacts, entry: TaskPodView) -> _Look:
    """A pod that is there, or about to be: does it start in time, and does its node answer?"""
    pod, job = facts.pod, facts.job
    if job is not None and job.waits_for_kueue:
        return _Look()
    if pod is not None and pod.deletion_due_at is not None:
        return _Look(wait_s=_LOOK_AGAIN_S)
    if pod is not None and pod.running:
        return _of_node(doubt(facts, pod), pod)
    why = why_waiting(pod)
    settings = facts.settings
    patience_s = settings.fail_fast_s if why.final else settings.pull_patience_s if why.retry else None
    until_s = (pending_deadline(facts, patience_s=patience_s) - facts.now).total_seconds()
    if until_s <= 0:
        if why.category == "ContainerNotStarted" and pod is not None:
            lost = ask_node(facts, pod)
            if not isinstance(lost, Plan) or lost.ask is not None:
                return _of_node(lost, pod)
        waited = round(seconds_between(entry.granted_at, facts.now))
        return _Look(entry=_ended(replace(why, summary=f"{why.summary} Waited {waited} s.")))
    note_s = settings.note_unexplained_after_s if why.category in UNEXPLAINED_WAITS else settings.note_after_s
    quiet_s = note_s - seconds_between(entry.granted_at, facts.now)
    if quiet_s > 0 or entry.reason == why.category:
        return _Look(wait_s=min(until_s, quiet_s) if quiet_s > 0 else until_s)
    return _Look(entry={"reason": why.category, "message": clip(f"{why.summary} {why.resolution}")}, wait_s=until_s)


def _of_node(found: Diagnosis | Plan | None, pod: PodView) -> _Look:
    if isinstance(found, Diagnosis):
        return _Look(entry=_ended(found))
    if found is None:
        return _Look()
    return _Look(node=pod.node) if found.ask is not None else _Look(wait_s=found.requeue_after_s)


def _ended(found: Diagnosis | None) -> dict[str, Any]:
    """What is written at the end. Without a diagnosis: the process ended by itself, and has left its outcome in the storage."""
    if found is None:
        return {"state": ENDED, "reason": "Completed", "message": None}
    blame = found.blame.value if found.blame is not None else None
    return {
        "state": ENDED,
        "reason": found.category,
        "message": clip(f"{found.summary} {found.resolution}"),
        "kind": blame,
    }


def refused_job(status_code: int, message: str) -> dict[str, Any] | None:
    """The API server refused the Job of an entry: what to write. None: it is tried again (a quota, a right being granted)."""
    if status_code not in {400, 404, 422}:
        return None
    found = diagnosis("PodNotCreated", clip(f"The API server refused the Job: {message}"))
    return _ended(found) | {"kind": "Code"}
