"""From what Kubernetes shows of a pod to a category, words, blame."""

import pytest

from levada.decide.diagnosis import CATALOGUE, Blame, why_ended, why_waiting
from levada.resources.phases import RunPhase
from support.facts import T0, a_job, a_pod, s

CODE, INFRA = Blame.CODE, Blame.INFRASTRUCTURE


@pytest.mark.parametrize(
    ("case", "pod", "category", "final"),
    [
        ("the Job has no pod", None, "PodNotCreated", False),
        ("bad image name", a_pod(waiting="InvalidImageName"), "ImageMissing", True),
        ("no such tag", a_pod(waiting="ErrImagePull", waiting_message="manifest unknown"), "ImageMissing", True),
        (
            "no right to pull",
            a_pod(waiting="ImagePullBackOff", waiting_message="pull access denied"),
            "ImageMissing",
            True,
        ),
        (
            "registry away",
            a_pod(waiting="ErrImagePull", waiting_message="dial tcp: i/o timeout"),
            "ImagePullFailed",
            False,
        ),
        (
            "missing Secret",
            a_pod(waiting="CreateContainerConfigError", waiting_message='secret "x" not found'),
            "ConfigError",
            True,
        ),
        ("no such command", a_pod(waiting="RunContainerError"), "StartError", True),
        ("no room", a_pod(node="", unschedulable="0/3 nodes are available"), "Unschedulable", False),
        ("volume", a_pod(waiting="ContainerCreating"), "ContainerNotStarted", False),
        ("nothing known yet", a_pod(node=""), "PendingTooLong", False),
    ],
)
def test_why_waiting(case, pod, category, final):
    found = why_waiting(pod)
    assert (found.category, found.final) == (category, final)
    assert found.summary.endswith(".") and found.resolution


def ended(exit_code, **fields):
    return a_pod(exit_code=exit_code, **fields)


@pytest.mark.parametrize(
    ("case", "pod", "job", "category", "blame", "retry"),
    [
        ("exit code", ended(3), a_job(), "ExitCode", CODE, True),
        ("out of memory, said so", ended(137, exit_reason="OOMKilled"), a_job(), "OutOfMemory", CODE, True),
        ("out of memory, by the code alone", ended(137), a_job(), "OutOfMemory", CODE, True),
        ("SIGSEGV", ended(139), a_job(), "Killed", CODE, True),
        ("a signal, said so", ended(1, signal=11), a_job(), "Killed", CODE, True),
        ("could not start", ended(128, exit_reason="StartError"), a_job(), "StartError", CODE, False),
        ("evicted by kubelet", a_pod(phase="Failed", reason="Evicted", message="low on memory"), a_job(), "Evicted", INFRA, True),
        ("evicted, by condition", ended(143, disruption="TerminationByKubelet"), a_job(), "Evicted", INFRA, True),
        ("preempted", ended(143, disruption="PreemptionByScheduler"), a_job(), "Preempted", INFRA, True),
        ("drained", ended(137, disruption="EvictionByEvictionAPI"), a_job(), "NodeDrained", INFRA, True),
        ("node lost, taint manager", a_pod(disruption="DeletionByTaintManager", started_at=T0), a_job(), "NodeLost", INFRA, True),
        ("node lost, garbage collector", ended(137, disruption="DeletionByPodGC"), a_job(), "NodeLost", INFRA, True),
        ("node shut down", a_pod(phase="Failed", reason="Terminated"), a_job(), "NodeDrained", INFRA, True),
        ("refused by the node", a_pod(phase="Failed", reason="OutOfcpu"), a_job(), "RefusedByNode", INFRA, True),
        ("deleted while it ran", ended(143, deletion_due_at=T0), a_job(), "PodDeleted", INFRA, True),
        ("killed after its grace", ended(137, deletion_due_at=T0), a_job(), "PodDeleted", INFRA, True),
        ("gone, end unseen", a_pod(started_at=T0, gone=True), a_job(), "PodDeleted", INFRA, True),
        ("gone with its Job", a_pod(started_at=T0, gone=True), None, "JobDeleted", INFRA, True),
        ("Job gone, no pod", None, None, "JobDeleted", INFRA, True),
        ("told to go and never went", a_pod(started_at=T0, deletion_due_at=T0), a_job(), "NodeLost", INFRA, True),
        ("its own exit code while it was deleted", ended(3, deletion_due_at=T0), a_job(), "ExitCode", CODE, True),
        ("Job failed, no pod", None, a_job(verdict="Failed", reason="BackoffLimitExceeded"), "JobFailed", INFRA, True),
        ("init container", ended(2, failed_container="init-db"), a_job(), "ExitCode", CODE, True),
    ],
)  # fmt: skip
def test_why_ended(*, case, pod, job, category, blame, retry):
    found = why_ended(pod, job, T0 + s(60))
    assert (found.category, found.blame, found.retry) == (category, blame, retry)
    assert found.summary and found.resolution


@pytest.mark.parametrize(
    ("case", "pod", "job"),
    [
        ("the Job says so", ended(143, deletion_due_at=T0), a_job(verdict="Failed", reason="DeadlineExceeded")),
        ("the clock says so before the Job", ended(143, finished_at=T0 + s(30)), a_job(deadline_s=30)),
        ("the pod says so", a_pod(phase="Failed", reason="DeadlineExceeded"), a_job()),
        ("the pod has gone unseen after the time", a_pod(started_at=T0, gone=True), a_job(deadline_s=30)),
    ],
)
def test_a_deadline_is_recognised(case, pod, job):
    found = why_ended(pod, job, T0 + s(40))
    assert (found.category, found.phase) == ("DeadlineExceeded", RunPhase.TIMED_OUT)


def test_an_exit_of_its_own_after_the_deadline_is_not_the_deadline_s():
    assert why_ended(ended(3, finished_at=T0 + s(40)), a_job(deadline_s=30), T0 + s(41)).category == "ExitCode"


def test_a_kill_before_the_deadline_is_not_the_deadline_s():
    assert why_ended(ended(139, finished_at=T0 + s(20)), a_job(deadline_s=30), T0 + s(21)).category == "Killed"


def test_the_words_name_the_signal_the_node_and_the_container():
    assert "SIGSEGV" in why_ended(ended(139), a_job(), T0).summary
    assert "n1" in why_ended(ended(143, disruption="PreemptionByScheduler"), a_job(), T0).summary
    assert "'init-db'" in why_ended(ended(2, failed_container="init-db"), a_job(), T0).summary


def test_every_category_says_what_to_do_in_a_sentence():
    for category, entry in CATALOGUE.items():
        assert entry.resolution.endswith("."), category
        assert len(entry.resolution) <= 1024
