"""May a waiting run start now?"""

import pytest

from levada.decide.admission import held_back, wait_for_slot, wait_for_time
from levada.decide.facts import QueueFacts
from levada.decide.run import decide_run
from support.facts import T0, a_deployment, a_queue, a_run, facts, s


@pytest.mark.parametrize(
    ("case", "queue", "deployment", "reason"),
    [
        ("a queue without an object has no limit", QueueFacts(), {}, None),
        ("a queue without a limit", QueueFacts(a_queue(), holding=1000, ahead=1000), {}, None),
        ("room for one more", QueueFacts(a_queue(limit=2), holding=1), {}, None),
        ("full", QueueFacts(a_queue(limit=2), holding=2), {}, "QueueFull"),
        ("room, but somebody was first", QueueFacts(a_queue(limit=2), holding=1, ahead=1), {}, "QueueFull"),
        ("a limit lowered below what runs", QueueFacts(a_queue(limit=1), holding=3), {}, "QueueFull"),
        ("paused queue", QueueFacts(a_queue(paused=True)), {}, "QueuePaused"),
        ("paused deployment", QueueFacts(), {"paused": True}, "DeploymentPaused"),
    ],
)
def test_wait_for_slot(case, queue, deployment, reason):
    found = wait_for_slot(facts(queue=queue, deployment=a_deployment(**deployment)))
    assert (found.reason if found else None) == reason


@pytest.mark.parametrize(("scheduled", "wait"), [(None, None), (T0, None), (T0 - s(5), None), (T0 + s(5), 5.0)])
def test_wait_for_time(scheduled, wait):
    found = wait_for_time(facts(a_run(scheduled_at=scheduled)))
    assert (found.for_s if found else None) == wait


def test_a_waiting_run_is_told_why_once():
    full = QueueFacts(a_queue(limit=1), holding=1)
    plan = decide_run(facts(queue=full))
    assert plan.status["phase"] == "Queued"
    assert (plan.status["reason"], plan.status["queue"]) == ("QueueFull", "default")
    told = a_run(phase="Queued", reason="QueueFull", message=plan.status["message"])
    assert decide_run(facts(told, queue=full)).status is None


def test_a_queued_run_whose_reference_vanishes_stays_queued_until_it_fails():
    run = a_run(phase="Queued", reason="QueueFull", message="x")
    plan = decide_run(facts(run, deployment=None, flow=None))
    assert (plan.status["phase"], plan.status["reason"]) == ("Queued", "DeploymentNotFound")
    said = a_run(phase="Queued", reason="DeploymentNotFound", message=plan.status["message"])
    assert decide_run(facts(said, deployment=None, flow=None)).status is None
    assert decide_run(facts(said, deployment=None, flow=None, at=11)).status["phase"] == "Failed"


def test_a_pause_holds_back_further_attempts_but_a_full_queue_does_not():
    assert held_back(facts(deployment=a_deployment(paused=True)))
    assert held_back(facts(queue=QueueFacts(a_queue(paused=True))))
    assert not held_back(facts(queue=QueueFacts(a_queue(limit=1), holding=1)))
