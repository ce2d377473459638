"""What is done about a run: one row per situation that it can be in."""

import json

import pytest

from levada.decide.definitions import RetryPolicy
from levada.decide.facts import NodeView, Pin
from levada.decide.parameters import digest
from levada.decide.run import decide_run
from levada.decide.views import job_view
from levada.resources.phases import TERMINAL_PHASES, may_become
from support.facts import T0, a_deployment, a_flow, a_job, a_pod, a_run, facts, s

RETRYING = {"attempt": 1, "phase": "Retrying", "attempts": ({"number": 1, "endTime": "2026-03-01T12:00:05Z"},)}
EVICTED = {"exit_code": 143, "disruption": "TerminationByKubelet"}


def test_a_new_run_is_put_on_record_before_its_job():
    plan = decide_run(facts(a_run(), at=2))
    assert plan.status == {
        "observedGeneration": 1, "phase": "Pending", "reason": "WaitingForPod", "message": "The Job is being created.", "attempt": 1,
        "queue": "default", "flow": {"name": "f", "generation": 1, "codeConfigMap": "f-code-1"}, "stages": {"queuedSeconds": 2.0},
        "admittedTime": "2026-03-01T12:00:02.000Z", "parametersDigest": digest({}),
        "conditions": [{
            "type": "Succeeded", "status": "Unknown", "reason": "WaitingForPod", "message": "The Job is being created.",
            "observedGeneration": 1, "lastTransitionTime": "2026-03-01T12:00:02.000Z",
        }],
    }  # fmt: skip
    assert plan.create_job["metadata"]["name"] == "r-1"
    assert plan.events == (), "Kubernetes tells of the Job; ours begin with the process"


def test_a_second_attempt_starts_with_a_clean_status_and_the_pinned_code():
    run = a_run(**RETRYING, pin=Pin("f", 1, "f-code-old"), code_failures=1)
    plan = decide_run(
        facts(run, flow=a_flow(generation=2, entrypoint="flow.py:renamed"), jobs=[a_job(verdict="Failed")], at=60)
    )
    assert (plan.status["phase"], plan.status["attempt"]) == ("Pending", 2)
    assert plan.status["flow"] == {"name": "f", "generation": 1, "codeConfigMap": "f-code-old"}
    for gone in (
        "tasks",
        "taskCounts",
        "podName",
        "startTime",
        "progress",
        "currentTask",
        "nextAttemptTime",
        "diagnosis",
    ):
        assert plan.status[gone] is None
    assert job_view(plan.create_job).entrypoint == "flow.py:main", (
        "the entrypoint belongs to the code, not to the Flow of today"
    )


# One row: the situation, the run, jobs, pods, seconds after T0 -> phase and reason written (None: nothing), Jobs created, stopped.
PENDING = {"attempt": 1}
RUNNING = {"attempt": 1, "phase": "Running", "pod_name": "r-1-abcde", "started_at": T0 + s(1)}
MESSAGE = json.dumps({"levada": 1, "phase": "Completed", "reason": "Completed", "message": "ok"})
FAILED = json.dumps({"levada": 1, "phase": "Failed", "reason": "FlowFailed", "message": "no"})
AGAIN = json.dumps({"levada": 1, "phase": "Retrying", "reason": "FlowFailed", "message": "no"})
SITUATIONS = [
    ("on record, Job never made", PENDING, [], [], 1, (None, None, ["r-1"], ())),
    ("Job made, no pod yet", PENDING, [a_job()], [], 1, (None, None, [], ())),
    ("no pod yet, as in any burst", PENDING, [a_job()], [], 11, (None, None, [], ())),
    ("no pod for too long to be silent", PENDING, [a_job()], [], 61, (None, "PodNotCreated", [], ())),
    ("no pod for ever", PENDING, [a_job()], [], 600, ("Crashed", "PodNotCreated", [], ("r-1",))),
    ("pod waits", PENDING, [a_job()], [a_pod()], 1, (None, None, [], ())),
    ("pod waits long", PENDING, [a_job()], [a_pod(node="", unschedulable="no")], 11, (None, "Unschedulable", [], ())),
    ("image missing", PENDING, [a_job()], [a_pod(waiting="InvalidImageName")], 60, ("Crashed", "ImageMissing", [], ("r-1",))),
    ("image may come back", PENDING, [a_job()], [a_pod(waiting="ErrImagePull")], 61, (None, "ImagePullFailed", [], ())),
    ("image does not come back", PENDING, [a_job()], [a_pod(waiting="ErrImagePull")], 120, ("Retrying", "ImagePullFailed", [], ("r-1",))),
    ("volume never comes", PENDING, [a_job()], [a_pod(waiting="ContainerCreating")], 600, ("Crashed", "ContainerNotStarted", [], ("r-1",))),
    ("pod runs, runner about to report", PENDING, [a_job()], [a_pod(started_at=T0)], 5, (None, None, [], ())),
    ("pod runs, runner silent", PENDING, [a_job()], [a_pod(started_at=T0)], 10, ("Running", "NoReportYet", [], ())),
    ("runner reports", RUNNING, [a_job()], [a_pod(started_at=T0)], 100, (None, None, [], ())),
    ("runner reports before the pod is seen", RUNNING, [a_job()], [], 700, (None, None, [], ())),
    ("pod done, no report", PENDING, [a_job()], [a_pod(exit_code=0)], 6, ("Completed", "ExitedZero", [], ())),
    ("pod done, last words", RUNNING, [a_job()], [a_pod(exit_code=0, termination_message=MESSAGE)], 6, ("Completed", "Completed", [], ())),
    ("pod failed, last words", RUNNING, [a_job()], [a_pod(exit_code=1, termination_message=FAILED)], 6, ("Failed", "FlowFailed", [], ())),
    ("pod failed silently", RUNNING, [a_job()], [a_pod(exit_code=1)], 6, ("Crashed", "ExitCode", [], ())),
    ("evicted", RUNNING, [a_job()], [a_pod(**EVICTED)], 6, ("Retrying", "Evicted", [], ())),
    ("pod being deleted", RUNNING, [a_job()], [a_pod(started_at=T0, deletion_due_at=T0 + s(30))], 40, (None, None, [], ())),
    ("its node is lost", RUNNING, [a_job()], [a_pod(started_at=T0, deletion_due_at=T0)], 30, ("Retrying", "NodeLost", [], ("r-1",))),
    ("pod gone, Job has not said why", RUNNING, [a_job()], [a_pod(started_at=T0, gone=True, deletion_due_at=T0)], 1, (None, None, [], ())),
    ("pod gone, Job never says", RUNNING, [a_job()], [a_pod(started_at=T0, gone=True, deletion_due_at=T0)], 5,
     ("Retrying", "PodDeleted", [], ("r-1",))),
    ("pod gone for the deadline", RUNNING, [a_job(verdict="Failed", reason="DeadlineExceeded")],
     [a_pod(started_at=T0, gone=True, deletion_due_at=T0)], 1, ("TimedOut", "DeadlineExceeded", [], ())),
    ("Job gone, pod goes on", RUNNING, [], [a_pod(started_at=T0)], 100, (None, None, [], ())),
    ("Job and pod gone", RUNNING, [], [], 100, ("Retrying", "JobDeleted", [], ())),
    ("Job failed, pod not seen yet", PENDING, [a_job(verdict="Failed", finished_at=T0)], [], 4, (None, None, [], ())),
    ("Job failed, pod never seen", PENDING, [a_job(verdict="Failed", finished_at=T0)], [], 5, ("Retrying", "JobFailed", [], ())),
    ("Job complete, pod never seen", PENDING, [a_job(verdict="Complete", finished_at=T0)], [], 5, ("Completed", "ExitedZero", [], ())),
    ("flow failed, runner knows of a retry, pod leaves", {**RUNNING, "phase": "Retrying", "reason": "FlowFailed"}, [a_job()],
     [a_pod(started_at=T0)], 6, (None, None, [], ())),
    ("between attempts, too early", {**RETRYING, "next_attempt_at": T0 + s(60)}, [a_job(verdict="Failed")], [], 59, (None, None, [], ())),
    ("between attempts, due", {**RETRYING, "next_attempt_at": T0 + s(60)}, [a_job(verdict="Failed")], [], 60,
     ("Pending", "WaitingForPod", ["r-2"], ())),
    ("between attempts, the old Job still alive", RETRYING, [a_job()], [a_pod(started_at=T0)], 60, (None, None, [], ("r-1",))),
    ("being deleted", {**RUNNING, "deleting": True}, [], [], 60, (None, None, [], ())),
    ("cancel before the start", {"cancel": True}, [], [], 1, ("Cancelled", "Cancelled", [], ())),
    ("cancel, Job never made", {**PENDING, "cancel": True}, [], [], 1, ("Cancelled", "Cancelled", [], ())),
    ("cancel, Job without a pod", {**PENDING, "cancel": True}, [a_job()], [], 1, ("Cancelling", "CancelRequested", [], ("r-1",))),
    ("cancel, Job stopped before its pod", {"attempt": 1, "phase": "Cancelling", "cancel": True}, [a_job(suspended=True)], [], 2,
     ("Cancelled", "Cancelled", [], ())),
    ("cancel while it runs", {**RUNNING, "cancel": True}, [a_job()], [a_pod(started_at=T0)], 2, ("Cancelling", "CancelRequested", [], ("r-1",))),
    ("cancelling, pod leaves", {**RUNNING, "phase": "Cancelling"}, [a_job(suspended=True)], [a_pod(started_at=T0, deletion_due_at=T0 + s(30))],
     3, (None, None, [], ())),
    ("cancelling, operator ended before it stopped the Job", {**RUNNING, "phase": "Cancelling"}, [a_job()], [a_pod(started_at=T0)], 3,
     (None, None, [], ("r-1",))),
    ("cancelling, pod gone", {**RUNNING, "phase": "Cancelling"}, [a_job(suspended=True)], [a_pod(started_at=T0, gone=True)], 3,
     ("Cancelled", "Cancelled", [], ())),
    ("cancelling, pod killed", {**RUNNING, "phase": "Cancelling"}, [a_job(suspended=True)], [a_pod(exit_code=137, deletion_due_at=T0)], 6,
     ("Cancelled", "Cancelled", [], ())),
    ("cancelling, pod on a lost node", {**RUNNING, "phase": "Cancelling"}, [a_job(suspended=True)], [a_pod(started_at=T0, deletion_due_at=T0)],
     30, ("Cancelled", "Cancelled", [], ())),
    ("cancelling, but it was faster", {**RUNNING, "phase": "Cancelling"}, [a_job(suspended=True)], [a_pod(exit_code=0)], 6,
     ("Completed", "ExitedZero", [], ())),
    ("cancelling, but it had failed", {**RUNNING, "phase": "Cancelling"}, [a_job(suspended=True)],
     [a_pod(exit_code=1, termination_message=FAILED)], 6, ("Failed", "FlowFailed", [], ())),
    ("cancelling wins over a retry", {**RUNNING, "phase": "Cancelling"}, [a_job()], [a_pod(exit_code=1, termination_message=AGAIN)], 6,
     ("Cancelled", "Cancelled", [], ())),
    ("cancel between attempts", {**RETRYING, "cancel": True}, [a_job(verdict="Failed")], [], 6, ("Cancelled", "Cancelled", [], ())),
]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "run", "jobs", "pods", "at", "expected"), SITUATIONS, ids=[row[0] for row in SITUATIONS]
)
def test_situation(*, case, run, jobs, pods, at, expected):
    look = facts(a_run(**run), jobs=jobs, pods=pods, at=at, node=NodeView())
    plan = decide_run(look)
    status = plan.status or {}
    created = [plan.create_job["metadata"]["name"]] if plan.create_job else []
    assert (status.get("phase"), status.get("reason"), created, plan.stop_jobs) == expected
    if "phase" in status:
        assert may_become(look.run.phase or None, status["phase"])
    assert decide_run(look) == plan, "the same facts give the same plan"


@pytest.mark.parametrize(
    ("case", "run", "jobs", "pods", "at", "expected"), SITUATIONS, ids=[row[0] for row in SITUATIONS]
)
def test_what_is_not_decided_is_looked_at_again_or_waits_for_an_event(*, case, run, jobs, pods, at, expected):
    """Whatever nobody will tell us about must have a time to look again."""
    plan = decide_run(facts(a_run(**run), jobs=jobs, pods=pods, at=at))
    waits_for_a_pod_to_start = (
        run.get("phase", "Pending") == "Pending" and jobs and not any(pod.finished or pod.running for pod in pods)
    )
    if expected[0] is None and waits_for_a_pod_to_start and not run.get("cancel"):
        assert plan.requeue_after_s is not None


def test_a_flow_s_failure_with_retries_left_makes_a_second_attempt():
    run = a_run(**{**RUNNING, "phase": "Retrying", "reason": "FlowFailed", "message": "ValueError: no"})
    retries = a_deployment(retries=RetryPolicy(1, 10, 60))
    plan = decide_run(facts(run, deployment=retries, jobs=[a_job()], pods=[a_pod(exit_code=1)], at=6))
    assert (plan.status["phase"], plan.status["reason"], plan.status["codeFailures"]) == ("Retrying", "FlowFailed", 1)
    (record,) = plan.status["attempts"]
    assert record == {
        "number": 1, "job": "r-1", "pod": "r-1-abcde", "node": "n1", "startTime": "2026-03-01T12:00:01.000Z",
        "endTime": "2026-03-01T12:00:05.000Z", "reason": "FlowFailed", "message": "ValueError: no", "kind": "Code",
    }  # fmt: skip
    assert 7.5 <= plan.requeue_after_s <= 10


def test_a_flow_s_failure_whose_retries_were_taken_away_meanwhile_is_final():
    run = a_run(**{**RUNNING, "phase": "Retrying", "reason": "FlowFailed", "message": "no"})
    plan = decide_run(facts(run, jobs=[a_job()], pods=[a_pod(exit_code=1)], at=6))
    assert (plan.status["phase"], plan.status["reason"]) == ("Failed", "FlowFailed")


def test_last_words_that_ask_for_a_retry_get_one():
    retries = a_deployment(retries=RetryPolicy(1))
    plan = decide_run(
        facts(
            a_run(**RUNNING),
            deployment=retries,
            jobs=[a_job()],
            pods=[a_pod(exit_code=1, termination_message=AGAIN)],
            at=6,
        )
    )
    assert plan.status["phase"] == "Retrying"


def test_an_attempt_that_may_have_run_is_never_created_again():
    assert decide_run(facts(a_run(**PENDING), job_seen=True)).create_job is None
    assert decide_run(facts(a_run(**PENDING, pod_name="r-1-abcde"))).create_job is None


def test_a_job_never_made_takes_the_flow_as_it_is_now():
    """The operator ended between the two writes, and the Flow was changed before the next one came."""
    flow = a_flow(generation=2, status={"observedGeneration": 2, "codeConfigMap": "f-code-2"})
    plan = decide_run(facts(a_run(**PENDING), flow=flow))
    assert plan.status == {"flow": {"name": "f", "generation": 2, "codeConfigMap": "f-code-2"}}
    assert plan.create_job["metadata"]["name"] == "r-1"


@pytest.mark.parametrize(("run", "reason"), [(PENDING, "DeploymentNotFound"), (RETRYING, "DeploymentNotFound")])
def test_a_deployment_deleted_before_an_attempt_ends_the_run(run, reason):
    plan = decide_run(
        facts(a_run(**run), deployment=None, flow=None, jobs=[a_job(verdict="Failed")] if run is RETRYING else [])
    )
    assert (plan.status["phase"], plan.status["reason"]) == ("Failed", reason)


def test_a_deployment_deleted_while_it_runs_does_not_disturb_the_run():
    assert (
        decide_run(facts(a_run(**RUNNING), deployment=None, jobs=[a_job()], pods=[a_pod(started_at=T0)])).status is None
    )
    plan = decide_run(facts(a_run(**RUNNING), deployment=None, jobs=[a_job()], pods=[a_pod(exit_code=0)]))
    assert plan.status["phase"] == "Completed"


def test_a_name_taken_by_another_owner_is_waited_for_then_fails_the_run():
    foreign = a_job(owner_uid="somebody")
    waits = decide_run(facts(foreign_job=foreign))
    assert (waits.status["phase"], waits.status["reason"]) == ("Scheduled", "JobNameTaken")
    assert decide_run(facts(foreign_job=foreign, at=11)).status["phase"] == "Failed"


@pytest.mark.parametrize("phase", sorted(TERMINAL_PHASES))
def test_the_end_is_told_once(phase):
    run = a_run(phase=phase, attempt=1, reason="X", message="m", completed_at=T0)
    plan = decide_run(facts(run, jobs=[a_job(verdict="Complete")], pods=[a_pod(exit_code=0)]))
    assert [event.reason for event in plan.events] == [phase]
    assert (plan.status, plan.announced, plan.forget) == (None, True, True)
    again = decide_run(facts(run, announced=True))
    assert (again.events, again.forget) == ((), True)


@pytest.mark.parametrize(
    ("case", "jobs", "pods", "at", "stopped", "forget"),
    [
        ("pod has ended, Job not closed yet", [a_job()], [a_pod(exit_code=0)], 1, (), False),
        ("runner is about to leave", [a_job()], [a_pod(started_at=T0)], 59, (), False),
        ("runner does not leave", [a_job()], [a_pod(started_at=T0)], 60, ("r-1",), False),
        ("pod never started", [a_job()], [a_pod()], 1, ("r-1",), False),
        ("Job has no pod yet", [a_job()], [], 1, (), False),
        ("Job has no pod still", [a_job()], [], 5, ("r-1",), False),
        ("stopped, pod is leaving", [a_job(suspended=True)], [a_pod(started_at=T0, deletion_due_at=T0)], 60, (), False),
        ("stopped, pod is gone", [a_job(suspended=True)], [a_pod(started_at=T0, gone=True)], 60, (), True),
        ("all closed", [a_job(verdict="Failed")], [a_pod(exit_code=1)], 1, (), True),
        ("all deleted", [], [], 1, (), True),
    ],
)
def test_nothing_of_a_run_that_ended_is_left_running(*, case, jobs, pods, at, stopped, forget):
    run = a_run(phase="Failed", attempt=1, completed_at=T0)
    plan = decide_run(facts(run, jobs=jobs, pods=pods, at=at, announced=True))
    assert (plan.stop_jobs, plan.forget) == (stopped, forget)
    if not forget and not stopped and not all(pod.finished for pod in pods):
        assert plan.requeue_after_s is not None


def test_a_condition_keeps_its_transition_time_while_its_status_stays():
    old = {"type": "Succeeded", "status": "Unknown", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    plan = decide_run(facts(a_run(**RUNNING, succeeded=old), jobs=[a_job()], pods=[a_pod(**EVICTED)]))
    assert plan.status["conditions"][0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    plan = decide_run(facts(a_run(**RUNNING, succeeded=old), jobs=[a_job()], pods=[a_pod(exit_code=0)]))
    assert plan.status["conditions"][0]["lastTransitionTime"] == "2026-03-01T12:00:00.000Z"


def test_only_the_newest_attempts_are_kept():
    records = tuple({"number": n} for n in range(1, 31))
    many = a_deployment(infrastructure_retries=RetryPolicy(99))
    run = a_run(**{**RUNNING, "attempt": 31, "attempts": records})
    plan = decide_run(facts(run, deployment=many, jobs=[a_job(31)], pods=[a_pod(31, **EVICTED)]))
    numbers = [record["number"] for record in plan.status["attempts"]]
    assert (len(numbers), numbers[-1]) == (20, 31)
