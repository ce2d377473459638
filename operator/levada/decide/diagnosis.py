"""Why did this attempt end, or why does it not start? From a pod and its Job to words and what to do.

Two pure functions: `why_waiting` for a pod that has not started, `why_ended` for one that ended without its runner's word.
The categories are a stable contract: they are the run's `reason`, the label of a metric, and what users match on.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from levada.decide.facts import JobView, PodView
from levada.decide.timeouts import deadline_passed
from levada.resources.phases import RunPhase


class Blame(StrEnum):
    """Whose failure it was. The infrastructure's never uses up the retries meant for the code."""

    CODE = "Code"
    INFRASTRUCTURE = "Infrastructure"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What happened, in words, and whether another attempt could help.

    `phase` is what the run becomes when there is no further attempt. `final`: a pod in this state will not get well.
    `blame` None: nobody's failure. `rule`: the number of the failurePolicy's rule that decided about the retry.
    """

    category: str
    summary: str
    resolution: str
    blame: Blame | None
    retry: bool
    phase: RunPhase = RunPhase.CRASHED
    final: bool = False
    exit_code: int | None = None
    rule: int | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    resolution: str
    blame: Blame
    retry: bool
    phase: RunPhase = RunPhase.CRASHED


_CODE, _INFRA = Blame.CODE, Blame.INFRASTRUCTURE

# Waits without a cause that anybody could mend yet: a busy cluster looks the same for a while.
UNEXPLAINED_WAITS: Final = frozenset({"ContainerNotStarted", "PodNotCreated", "PendingTooLong"})

# Every category there is: what to do, who is to blame, whether another attempt can help.
CATALOGUE: Final[dict[str, _Entry]] = {
    "ImageMissing": _Entry(
        "Check spec.infrastructure.image of the Deployment, that the nodes reach the registry, and imagePullSecrets.", _CODE, False
    ),
    "ImagePullFailed": _Entry(
        "The registry cannot be reached, or refuses for a while. Another attempt is made; if that does not help, check the "
        "registry, its rate limits, and the node's way to it.", _INFRA, True,
    ),
    "ConfigError": _Entry(
        "A Secret or ConfigMap that the pod names does not exist, or lacks the key: create it, or correct the name in the Deployment's "
        "env. The one with the flow's code goes with its Flow: apply the Flow again, and start a new run.",
        _CODE, False,
    ),
    "StartError": _Entry(
        "Check that the image has Python and levada installed, for the node's CPU architecture.",
        _CODE, False,
    ),
    "Unschedulable": _Entry(
        "No node can take the pod: lower resources, correct nodeSelector or tolerations, add nodes, or start an agent for the "
        "run's queue. `kubectl describe pod` shows what each node lacks.", _INFRA, False,
    ),
    "ContainerNotStarted": _Entry(
        "The image is still being pulled, or the pod's volumes or network could not be set up: `kubectl describe pod` shows the "
        "events of the node.", _INFRA, False,
    ),
    "PodNotCreated": _Entry(
        "The Job could not create its pod, usually for a missing service account, a quota or an admission policy: "
        "`kubectl describe job` shows the refusal.", _INFRA, False,
    ),
    "PendingTooLong": _Entry(
        "The pod did not start in time: `kubectl describe pod` shows why; raise pendingTimeoutSeconds if it only needs longer.",
        _INFRA, False,
    ),
    "RefusedByNode": _Entry("The node refused the pod; another attempt may land on another node.", _INFRA, True),
    "OutOfMemory": _Entry(
        "Raise resources.limits.memory of the Deployment, or let the flow hold less data at once.", _CODE, True
    ),
    "Evicted": _Entry(
        "The node ran short of a resource (memory, disk). Set requests that match the use, so that the scheduler knows.", _INFRA, True
    ),
    "Preempted": _Entry("A pod of higher priority took the place. Set a priorityClassName in podTemplate if it must not.", _INFRA, True),
    "NodeDrained": _Entry("The node was drained or shut down; the run starts again elsewhere.", _INFRA, True),
    "NodeLost": _Entry("The node stopped answering; the run starts again elsewhere.", _INFRA, True),
    "PodDeleted": _Entry("Somebody deleted the pod. To stop a run, set spec.cancel instead.", _INFRA, True),
    "JobDeleted": _Entry("Somebody deleted the run's Job. To stop a run, set spec.cancel instead.", _INFRA, True),
    "JobFailed": _Entry("The Job failed and no pod is left to tell why: `kubectl describe job` may.", _INFRA, True),
    "ExitCode": _Entry("The process ended without reporting: its log (`kubectl logs`) shows the last words.", _CODE, True),
    "Killed": _Entry(
        "A signal ended the process. SIGSEGV or SIGBUS mean a crash in native code; SIGKILL often means memory.", _CODE, True
    ),
    "DeadlineExceeded": _Entry(
        "Raise timeoutSeconds of the Deployment, or make the flow faster.", _CODE, True, RunPhase.TIMED_OUT
    ),
}  # fmt: skip


def diagnosis(category: str, summary: str, *, final: bool = False, exit_code: int | None = None) -> Diagnosis:
    """The diagnosis of a category of the catalogue."""
    entry = CATALOGUE[category]
    return Diagnosis(
        category, summary, entry.resolution, entry.blame, entry.retry, entry.phase, final=final, exit_code=exit_code
    )


# --- a pod that has not started ----------------------------------------------------------------------------------------

_IMAGE_WAITS: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
_CONFIG_WAITS: Final = frozenset({"CreateContainerConfigError", "CreatePodSandboxConfigError"})
_START_WAITS: Final = frozenset({"CreateContainerError", "RunContainerError", "StartError", "CrashLoopBackOff"})
# What a registry says when it has answered; anything else may be a network that comes back.
_IMAGE_IS_NOT_THERE: Final = (
    "not found", "manifest unknown", "does not exist", "denied", "unauthorized", "forbidden", "invalid reference", "not present",
)  # fmt: skip


def _told(words: str) -> str:
    """What Kubernetes says of it, as the end of a sentence."""
    return f": {words.removesuffix('.')}." if words else "."


def why_waiting(pod: PodView | None) -> Diagnosis:
    """Why the pod has not started. Said after it has waited for a while; `final` says that waiting longer is in vain."""
    if pod is None:
        return diagnosis("PodNotCreated", "The Job has not created a pod.")
    detail = _told(pod.waiting_message)
    if pod.waiting in _IMAGE_WAITS:
        words = pod.waiting_message.lower()
        final = pod.waiting in {"InvalidImageName", "ErrImageNeverPull"} or any(
            text in words for text in _IMAGE_IS_NOT_THERE
        )
        category = "ImageMissing" if final else "ImagePullFailed"
        return diagnosis(category, f"The image cannot be pulled ({pod.waiting}){detail}", final=final)
    if pod.waiting in _CONFIG_WAITS:
        return diagnosis("ConfigError", f"The container's configuration is not complete{detail}", final=True)
    if pod.waiting in _START_WAITS:
        return diagnosis("StartError", f"The container cannot start ({pod.waiting}){detail}", final=True)
    if pod.unschedulable:
        return diagnosis("Unschedulable", f"No node can take the pod{_told(pod.unschedulable)}")
    if pod.node and pod.waiting in {"", "ContainerCreating", "PodInitializing"}:
        return diagnosis("ContainerNotStarted", f"Node {pod.node} has not started the container{detail}")
    return diagnosis("PendingTooLong", f"The pod has not started ({pod.waiting or 'not scheduled yet'}){detail}")


# --- a pod that has ended without its runner's word --------------------------------------------------------------------

_DISRUPTIONS: Final = {
    "PreemptionByScheduler": "Preempted",
    "DeletionByTaintManager": "NodeLost",
    "EvictionByEvictionAPI": "NodeDrained",
    "DeletionByPodGC": "NodeLost",
    "TerminationByKubelet": "Evicted",
}
_POD_REASONS: Final = {
    "Evicted": "Evicted",
    "Preempting": "Preempted",
    "NodeLost": "NodeLost",
    "NodeShutdown": "NodeDrained",
    "Shutdown": "NodeDrained",
    "Terminated": "NodeDrained",
    "NodeAffinity": "RefusedByNode",
    "UnexpectedAdmissionError": "RefusedByNode",
    "OutOfcpu": "RefusedByNode",
    "OutOfmemory": "RefusedByNode",
    "OutOfpods": "RefusedByNode",
    "OutOfephemeral-storage": "RefusedByNode",
    "NodePorts": "RefusedByNode",
}
_START_REASONS: Final = frozenset({"StartError", "ContainerCannotRun", "RunContainerError"})


def why_ended(pod: PodView | None, job: JobView | None, now: datetime) -> Diagnosis:
    """Why the attempt is over. The first rule that knows an answer gives it; the order is from the outside in."""
    for rule in _RULES:
        found = rule(pod, job, now)
        if found is not None:
            return found
    raise AssertionError("the last rule answers always")


_Rule = Callable[[PodView | None, JobView | None, datetime], Diagnosis | None]


def _deadline(pod: PodView | None, job: JobView | None, now: datetime) -> Diagnosis | None:
    """The Job's deadline ended the pod: by the Job's word, or by the clock when the pod's end is known first."""
    killed_at = pod.finished_at or now if pod is not None and _was_killed(pod) else None
    if job is None or not (job.reason == "DeadlineExceeded" or (killed_at and deadline_passed(job, killed_at))):
        by_pod = pod is not None and "DeadlineExceeded" in {pod.reason, pod.exit_reason}
        return diagnosis("DeadlineExceeded", "The run took longer than its timeout.") if by_pod else None
    limit = f" of {job.deadline_s} s" if job.deadline_s is not None else ""
    return diagnosis("DeadlineExceeded", f"The run took longer than its timeout{limit}.")


def _disrupted(pod: PodView | None, job: JobView | None, now: datetime) -> Diagnosis | None:
    if pod is None:
        return None
    category = _DISRUPTIONS.get(pod.disruption) or _POD_REASONS.get(pod.reason)
    if category is None:
        return None
    words = pod.message or pod.disruption_message or pod.disruption or pod.reason
    where = f" on node {pod.node}" if pod.node else ""
    return diagnosis(category, f"The pod was disrupted{where}: {words.removesuffix('.')}.", exit_code=pod.exit_code)


def _out_of_memory(pod: PodView | None, job: JobView | None, now: datetime) -> Diagnosis | None:
    if pod is None or not (pod.exit_reason == "OOMKilled" or (pod.exit_code == 137 and pod.deletion_due_at is None)):
        return None
    how = (
        "OOMKilled"
        if pod.exit_reason == "OOMKilled"
        else "exit code 137, SIGKILL: usually the kernel, for want of memory"
    )
    return diagnosis("OutOfMemory", f"{_container(pod)} was killed ({how}).", exit_code=pod.exit_code)


def _start_error(pod: PodView | None, job: JobView | None, now: datetime) -> Diagnosis | None:
    if pod is None or not (pod.exit_reason in _START_REASONS or pod.exit_code == 128):
        return None
    words = pod.termination_message or pod.exit_reason or "exit code 128"
    return diagnosis("StartError", f"{_container(pod)} could not be started: {words}", exit_code=pod.exit_code)


def _deleted(pod: PodView | None, job: JobView | None, now: datetime) -> Diagnosis | None:
    """The pod was told to go, or has gone, and it was neither the deadline nor a disruption that sent it."""
    if pod is None or not (pod.deletion_due_at or pod.gone):
        return None
    if pod.exit_code is not None and not _was_killed(pod):
        return None  # it ended by itself while it was being deleted: its exit code tells more
    if job is None or job.deleting:
        return diagnosis("JobDeleted", "The run's Job was deleted while it ran.", exit_code=pod.exit_code)
    if not pod.finished:
        return diagnosis("NodeLost", f"Node {pod.node or '?'} does not answer: the pod was told to end and never did.")
    return diagnosis("PodDeleted", f"The pod {pod.name} was deleted while it ran.", exit_code=pod.exit_code)


def _signalled(pod: PodView | None, job: JobView | None, now: datetime) -> Diagnosis | None:
    if pod is None or pod.exit_code is None:
        return None
    number = pod.signal or (pod.exit_code - 128 if 128 < pod.exit_code < 128 + 65 else 0)
    if not number:
        return None
    return diagnosis("Killed", f"{_container(pod)} was killed by {_signal_name(number)}.", exit_code=pod.exit_code)


def _exit_code(pod: PodView | None, job: JobView | None, now: datetime) -> Diagnosis | None:
    if pod is None or pod.exit_code is None:
        return None
    words = f": {pod.termination_message}" if pod.failed_container and pod.termination_message else ""
    return diagnosis(
        "ExitCode",
        f"{_container(pod)} ended with exit code {pod.exit_code} and without a report{words}.",
        exit_code=pod.exit_code,
    )


def _job_only(pod: PodView | None, job: JobView | None, now: datetime) -> Diagnosis:
    if job is None:
        return diagnosis("JobDeleted", "The run's Job is gone, and nothing tells how the attempt ended.")
    if pod is not None and pod.message:
        return diagnosis("JobFailed", f"The pod failed: {pod.message}")
    words = f": {job.message}" if job.message else "."
    return diagnosis("JobFailed", f"The Job failed ({job.reason or 'no reason given'}){words}")


_RULES: Final[tuple[_Rule, ...]] = (
    _deadline, _disrupted, _out_of_memory, _start_error, _deleted, _signalled, _exit_code, _job_only,
)  # fmt: skip


def _was_killed(pod: PodView) -> bool:
    """Whether a signal ended it (or it is not known to have ended by itself)."""
    return pod.exit_code is None or bool(pod.signal) or pod.exit_code in {137, 143}


def _container(pod: PodView) -> str:
    return f"Container {pod.failed_container!r}" if pod.failed_container else "The flow's process"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
