"""Kueue in charge of when a Job has a pod: waiting, admission, eviction, and what stops such a run."""

import json

import pytest

from levada.decide.facts import QueueFacts
from levada.decide.manifest import Code, build_job
from levada.decide.run import decide_run
from levada.resources.names import LABEL_KUEUE_PRIORITY, LABEL_KUEUE_QUEUE
from support.facts import SETTINGS, T0, a_deployment, a_job, a_pod, a_queue, a_run, facts, s

SERVED = QueueFacts(a_queue(local_queue="team"))
HELD = a_job(kueue=True, suspended=True, started_at=None, active=0)
ADMITTED = a_job(kueue=True, started_at=T0 + s(100))
QUEUED = {"attempt": 1, "phase": "Queued", "reason": "WaitingForKueue"}
RUNNING = {"attempt": 1, "phase": "Running", "pod_name": "r-1-abcde", "started_at": T0}
SIGTERM = {"exit_code": 143, "gone": True}


def said(phase):
    return {"termination_message": json.dumps({"levada": 1, "phase": phase, "reason": phase})}


def test_the_job_is_created_suspended_with_the_label_and_the_run_is_queued():
    plan = decide_run(facts(queue=SERVED))
    assert plan.create_job["spec"]["suspend"] is True
    assert plan.create_job["metadata"]["labels"][LABEL_KUEUE_QUEUE] == "team"
    assert LABEL_KUEUE_PRIORITY not in plan.create_job["metadata"]["labels"]
    assert LABEL_KUEUE_QUEUE not in plan.create_job["spec"]["template"]["metadata"]["labels"]
    assert (plan.status["phase"], plan.status["reason"], plan.status["attempt"]) == ("Queued", "WaitingForKueue", 1)


def test_a_priority_class_goes_along():
    queue = a_queue(local_queue="team", workload_priority_class="high")
    job = build_job(
        a_run(), a_deployment(), Code("f", "flow.py:main", "."), attempt=1, parameters="{}", settings=SETTINGS, now=T0, queue=queue,
    )  # fmt: skip
    assert job["metadata"]["labels"][LABEL_KUEUE_PRIORITY] == "high"


@pytest.mark.parametrize("at", [1, 100_000])
def test_no_clock_of_ours_runs_while_kueue_has_the_job(at):
    plan = decide_run(facts(a_run(**QUEUED), jobs=[HELD], queue=SERVED, at=at))
    assert (plan.status, plan.requeue_after_s, plan.stop_jobs) == (None, None, ())


def test_an_admitted_run_is_pending_and_has_the_whole_of_its_time():
    plan = decide_run(facts(a_run(**QUEUED), jobs=[ADMITTED], queue=SERVED, at=100))
    assert (plan.status["phase"], plan.status["reason"]) == ("Pending", "WaitingForPod")
    pending = a_run(attempt=1, reason="PodNotCreated")
    assert decide_run(facts(pending, jobs=[ADMITTED], queue=SERVED, at=650)).requeue_after_s == pytest.approx(50)
    late = decide_run(facts(pending, jobs=[ADMITTED], queue=SERVED, at=701))
    assert late.status["reason"] == "PodNotCreated", "it waited 600 s since it was admitted"


def test_unsuspended_but_not_yet_started_is_nothing_to_tell():
    job = a_job(kueue=True, started_at=None)
    assert decide_run(facts(a_run(**QUEUED), jobs=[job], queue=SERVED)).status is None


@pytest.mark.parametrize("phase", ["Pending", "Running"])
def test_an_eviction_is_no_failure_and_the_same_attempt_waits_again(phase):
    plan = decide_run(facts(a_run(**{**RUNNING, "phase": phase}), jobs=[HELD], pods=[a_pod(**SIGTERM)], queue=SERVED))
    assert (plan.status["phase"], plan.status["reason"]) == ("Queued", "WaitingForKueue")
    assert plan.status["podName"] is None, "else the next pod would think that another one does its attempt"
    assert "attempts" not in plan.status
    assert [event.reason for event in plan.events] == ["EvictedByKueue"]
    again = a_run(attempt=1, phase="Queued", reason="WaitingForKueue", message=plan.status["message"])
    assert decide_run(facts(again, jobs=[HELD], pods=[a_pod(**SIGTERM)], queue=SERVED)).status is None


def test_while_the_evicted_pod_still_leaves_nothing_is_said():
    leaving = a_pod(started_at=T0, deletion_due_at=T0 + s(30))
    assert decide_run(facts(a_run(**RUNNING), jobs=[HELD], pods=[leaving], queue=SERVED)).status is None


def test_a_pod_that_finished_before_it_was_evicted_has_finished():
    done = a_pod(exit_code=0, **said("Completed"))
    assert decide_run(facts(a_run(**RUNNING), jobs=[HELD], pods=[done], queue=SERVED)).status["phase"] == "Completed"
    failed = a_pod(exit_code=1, **said("Failed"))
    assert decide_run(facts(a_run(**RUNNING), jobs=[HELD], pods=[failed], queue=SERVED)).status["phase"] == "Failed"


def test_the_evicted_pod_says_nothing_about_the_next_admission():
    old = a_pod(**SIGTERM)
    plan = decide_run(facts(a_run(**QUEUED), jobs=[ADMITTED], pods=[old], queue=SERVED, at=100))
    assert plan.status["phase"] == "Pending"
    new = a_pod(name="r-1-fghij", uid="pod-2", created_at=T0 + s(101), exit_code=137)
    plan = decide_run(facts(a_run(attempt=1), jobs=[ADMITTED], pods=[old, new], queue=SERVED, at=102))
    assert plan.status["phase"] in {"Retrying", "Crashed"}, "this one is no eviction"


@pytest.mark.parametrize(
    ("case", "run", "pods", "phase"),
    [
        ("before it was ever admitted", QUEUED, [], "Cancelled"),
        ("evicted", {**QUEUED, "reason": "x"}, [a_pod(**SIGTERM)], "Cancelling"),
    ],
)
def test_a_run_that_waits_for_kueue_can_be_cancelled(case, run, pods, phase):
    plan = decide_run(facts(a_run(**run, cancel=True), jobs=[HELD], pods=pods, queue=SERVED))
    assert (plan.status["phase"], plan.stop_jobs) == (phase, ("r-1",))


def test_a_terminal_run_leaves_no_job_that_kueue_could_start():
    plan = decide_run(facts(a_run(attempt=1, phase="Cancelled", completed_at=T0), jobs=[HELD], announced=True, at=60))
    assert plan.stop_jobs == ("r-1",)
    gone = decide_run(facts(a_run(attempt=1, phase="Cancelled", completed_at=T0), announced=True, at=60))
    assert gone.forget


def test_a_job_that_somebody_else_suspended_is_no_affair_of_kueue_s():
    job = a_job(suspended=True)
    plan = decide_run(facts(a_run(**RUNNING), jobs=[job], pods=[a_pod(**SIGTERM)], queue=SERVED, at=60))
    assert plan.status["phase"] == "Retrying"
