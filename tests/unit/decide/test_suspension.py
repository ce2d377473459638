"""spec.suspend at every moment of a run: what is stopped, what holds a slot, what goes on."""

import json

import pytest

from levada.decide.definitions import RetryPolicy
from levada.decide.facts import QueueFacts, Room
from levada.decide.parameters import digest
from levada.decide.run import decide_run
from levada.resources.phases import may_become
from support.facts import T0, a_deployment, a_job, a_pod, a_queue, a_run, facts, s

RUNNING = {"attempt": 1, "phase": "Running", "pod_name": "r-1-abcde", "started_at": T0}
STOPPING = {**RUNNING, "phase": "Paused", "reason": "Suspending"}
RECORD = ({"number": 1, "endTime": "2026-03-01T12:00:05Z", "reason": "Suspended"},)
PAUSED = {**RUNNING, "phase": "Paused", "reason": "Suspended", "attempts": RECORD}
QUEUED = {**PAUSED, "phase": "Queued", "reason": "QueueFull"}
RETRYING = {**RUNNING, "phase": "Retrying", "attempts": ({"number": 1, "endTime": "2026-03-01T12:00:05Z"},)}
ON = {"suspend": True}
LEAVING = a_pod(started_at=T0, deletion_due_at=T0 + s(30))
GONE = a_pod(started_at=T0, gone=True, deletion_due_at=T0 + s(30))
STOPPED = a_job(suspended=True)


def words(phase):
    return json.dumps({"levada": 1, "phase": phase, "reason": "FlowFailed", "message": "m"})


SITUATIONS = [
    # the moment, the run, jobs, pods, seconds -> phase and reason written, Jobs created, stopped
    ("before its start", ON, [], [], 1, ("Paused", "Suspended", [], ())),
    ("waiting already", {**ON, "phase": "Paused", "reason": "Suspended", "message": "M"}, [], [], 1, (None, None, [], ())),
    ("taken back before its start", {"phase": "Paused", "reason": "Suspended"}, [], [], 1, ("Pending", "WaitingForPod", ["r-1"], ())),
    ("cancelled while it waits", {**ON, "phase": "Paused", "cancel": True}, [], [], 1, ("Cancelled", "Cancelled", [], ())),
    ("on record, Job never made", {**ON, "attempt": 1}, [], [], 1, ("Paused", "Suspended", [], ())),
    ("Job made, no pod yet", {**ON, "attempt": 1}, [a_job()], [], 1, ("Paused", "Suspending", [], ("r-1",))),
    ("Job stopped before its pod", {**STOPPING, **ON, "pod_name": ""}, [STOPPED], [], 1, ("Paused", "Suspended", [], ())),
    ("while it runs", {**RUNNING, **ON}, [a_job()], [a_pod(started_at=T0)], 9, ("Paused", "Suspending", [], ("r-1",))),
    ("operator ended before it stopped the Job", {**STOPPING, **ON}, [a_job()], [a_pod(started_at=T0)], 9, (None, None, [], ("r-1",))),
    ("pod leaves", {**STOPPING, **ON}, [STOPPED], [LEAVING], 9, (None, None, [], ())),
    ("pod gone", {**STOPPING, **ON}, [STOPPED], [GONE], 9, ("Paused", "Suspended", [], ())),
    ("pod killed after its grace", {**STOPPING, **ON}, [STOPPED], [a_pod(exit_code=137)], 9, ("Paused", "Suspended", [], ())),
    ("pod on a lost node", {**STOPPING, **ON}, [STOPPED], [LEAVING], 60, ("Paused", "Suspended", [], ())),
    ("taken back while the pod leaves", STOPPING, [STOPPED], [LEAVING], 9, (None, None, [], ())),
    ("taken back, and now the pod is gone", STOPPING, [STOPPED], [GONE], 9, ("Paused", "Suspended", [], ())),
    ("it was faster", {**STOPPING, **ON}, [STOPPED], [a_pod(exit_code=0)], 9, ("Completed", "ExitedZero", [], ())),
    ("it had failed for good", {**STOPPING, **ON}, [STOPPED], [a_pod(exit_code=1, termination_message=words("Failed"))], 9,
     ("Failed", "FlowFailed", [], ())),
    ("it had failed, with retries left", {**STOPPING, **ON}, [STOPPED], [a_pod(exit_code=1, termination_message=words("Retrying"))], 9,
     ("Retrying", "FlowFailed", [], ())),
    ("its failure was reported", {**RUNNING, **ON, "phase": "Retrying", "reason": "FlowFailed"}, [STOPPED], [a_pod(exit_code=1)], 9,
     ("Retrying", "FlowFailed", [], ())),
    ("cancelled while it stops", {**STOPPING, **ON, "cancel": True}, [STOPPED], [LEAVING], 9, ("Cancelling", "CancelRequested", [], ())),
    ("stays", {**PAUSED, **ON}, [STOPPED], [GONE], 99, (None, None, [], ())),
    ("cancelled while it is paused", {**PAUSED, **ON, "cancel": True}, [STOPPED], [], 99, ("Cancelled", "Cancelled", [], ())),
    ("taken back", PAUSED, [STOPPED], [GONE], 99, ("Pending", "WaitingForPod", ["r-2"], ())),
    ("between attempts", {**RETRYING, **ON}, [a_job(verdict="Failed")], [], 99, ("Paused", "Suspended", [], ())),
    ("while it queues again", {**QUEUED, **ON}, [STOPPED], [], 99, ("Paused", "Suspended", [], ())),
    ("it queues again, and there is a slot", QUEUED, [STOPPED], [], 99, ("Pending", "WaitingForPod", ["r-2"], ())),
    ("Kueue has not admitted it", {**ON, "attempt": 1, "phase": "Queued", "reason": "WaitingForKueue"},
     [a_job(kueue=True, suspended=True, started_at=None)], [], 9, ("Paused", "Suspended", [], ("r-1",))),
    ("Kueue has admitted it", {**RUNNING, **ON}, [a_job(kueue=True)], [a_pod(started_at=T0)], 9, ("Paused", "Suspending", [], ("r-1",))),
    ("its Job of Kueue's is deleted", {**STOPPING, **ON}, [], [GONE], 9, ("Paused", "Suspended", [], ())),
    ("the flow itself waits for a person", {**RUNNING, "phase": "Paused", "reason": "WaitingForInput"}, [a_job()],
     [a_pod(started_at=T0)], 99, (None, None, [], ())),
    ("so it does, and is evicted", {**RUNNING, "phase": "Paused", "reason": "WaitingForInput"}, [a_job()],
     [a_pod(exit_code=143, disruption="TerminationByKubelet")], 99, ("Retrying", "Evicted", [], ())),
]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "run", "jobs", "pods", "at", "expected"), SITUATIONS, ids=[row[0] for row in SITUATIONS]
)
def test_suspended(*, case, run, jobs, pods, at, expected):
    run = a_run(**run)
    if run.message == "M":
        run = a_run(
            suspend=True,
            phase="Paused",
            reason="Suspended",
            message=decide_run(facts(a_run(suspend=True))).status["message"],
        )
    plan = decide_run(facts(run, deployment=a_deployment(retries=RetryPolicy(1)), jobs=jobs, pods=pods, at=at))
    status = plan.status or {}
    created = [plan.create_job["metadata"]["name"]] if plan.create_job else []
    assert (status.get("phase"), status.get("reason"), created, plan.stop_jobs) == expected
    if "phase" in status:
        assert may_become(run.phase or None, status["phase"])


def test_a_suspension_counts_for_no_budget():
    status = decide_run(facts(a_run(**STOPPING, **ON), jobs=[STOPPED], pods=[GONE], at=40)).status
    assert "codeFailures" not in status
    assert "infrastructureFailures" not in status
    (record,) = status["attempts"]
    assert (record["reason"], record.get("kind")) == ("Suspended", None)


def test_a_run_that_goes_on_waits_for_a_slot_like_any_other():
    full = QueueFacts(a_queue(limit=1), queue=Room(limit=1, held=1))
    plan = decide_run(facts(a_run(**PAUSED), jobs=[STOPPED], queue=full, at=99))
    assert (plan.status["phase"], plan.status["reason"], plan.create_job) == ("Queued", "QueueFull", None)


@pytest.mark.parametrize(
    ("run", "parked"),
    [(PAUSED, True), (QUEUED, True), (STOPPING, False), (RETRYING, False), (ON, False), ({**RUNNING, "phase": "Queued"}, False)],
)  # fmt: skip
def test_who_holds_no_slot(run, parked):
    assert a_run(**run).parked is parked


def test_other_parameters_end_a_run_that_has_already_run():
    """One request may change parameters and suspend, which CEL cannot see."""
    run = {**PAUSED, "parameters_digest": digest({"n": 1})}
    assert decide_run(facts(a_run(**run, parameters={"n": 1}), jobs=[STOPPED], at=99)).status["phase"] == "Pending"
    status = decide_run(facts(a_run(**run, parameters={"n": 2}), jobs=[STOPPED], at=99)).status
    assert (status["phase"], status["reason"]) == ("Failed", "ParametersChanged")


def test_patience_with_the_new_pod_counts_from_the_new_admission():
    """Days may lie between the end of one attempt and the admission of the next."""
    run = a_run(attempt=2, attempts=RECORD, admitted_at=T0 + s(9999))
    waits = facts(run, jobs=[a_job(2, created_at=T0 + s(9999))], pods=[a_pod(2, node="")], at=9999 + 599)
    assert decide_run(waits).status.get("phase") is None
