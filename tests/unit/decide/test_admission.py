"""May a waiting run start now?"""

import pytest

from levada.decide.admission import Wait, admit, held_back, wait_for_time
from levada.decide.definitions import REPLACE, SKIP
from levada.decide.facts import QueueFacts, Replaceable, Room
from levada.decide.run import decide_run
from support.facts import T0, a_deployment, a_queue, a_run, facts, s

FULL = Room(limit=2, held=2)
OTHERS = (Replaceable("a", "ua"), Replaceable("b", "ub"), Replaceable("c", "uc"))


ANY = Room()


def seen(queue=None, of_queue=ANY, *, deployment=ANY, operator=ANY, replaceable=()):
    return QueueFacts(queue or a_queue(limit=of_queue.limit), deployment, of_queue, operator, replaceable)


@pytest.mark.parametrize(
    ("case", "queue", "deployment", "reason"),
    [
        ("a queue without an object has no limit", QueueFacts(), {}, None),
        ("a queue without a limit", seen(of_queue=Room(held=1000, ahead=1)), {}, None),
        ("room for one more", seen(of_queue=Room(limit=2, held=1)), {}, None),
        ("full", seen(of_queue=FULL), {}, "QueueFull"),
        ("room, and somebody is first, but there is enough for all", seen(of_queue=Room(2, 0, ahead=1)), {}, None),
        ("room, but not for all, and somebody is first", seen(of_queue=Room(2, 1, ahead=1, scarce=True)), {}, "QueueFull"),
        ("room, not for all, and this is the first", seen(of_queue=Room(2, 1, scarce=True)), {}, None),
        ("a limit lowered below what runs", seen(of_queue=Room(limit=1, held=3)), {}, "QueueFull"),
        ("a limit of 0 starts nothing", seen(of_queue=Room(limit=0)), {}, "QueueFull"),
        ("paused queue", QueueFacts(a_queue(paused=True)), {}, "QueuePaused"),
        ("paused deployment", QueueFacts(), {"paused": True}, "DeploymentPaused"),
        ("a pause is told before a limit", seen(deployment=FULL), {"paused": True}, "DeploymentPaused"),
        ("the operator is full", seen(operator=FULL), {}, "OperatorFull"),
        ("another queue comes first", seen(operator=Room(2, 1, ahead=1, scarce=True)), {}, "OperatorFull"),
        ("the deployment is full", seen(deployment=FULL), {}, "DeploymentFull"),
        ("the last place of the deployment goes to another", seen(deployment=Room(2, 1, ahead=1)), {}, "DeploymentFull"),
        ("the deployment is told before the queue", seen(deployment=FULL, of_queue=FULL), {}, "DeploymentFull"),
    ],
)  # fmt: skip
def test_admit(case, queue, deployment, reason):
    found = admit(facts(queue=queue, deployment=a_deployment(**deployment)))
    assert (found.reason if found else None) == reason
    assert found is None or isinstance(found, Wait)


@pytest.mark.parametrize(
    ("case", "room", "phase", "reason"),
    [
        ("room", Room(2, 1), None, None),
        ("full", Room(2, 2), "Skipped", "DeploymentFull"),
        ("those who wait for the queue count, too", Room(2, 1, ahead=1), "Skipped", "DeploymentFull"),
    ],
)
def test_skip_ends_a_run_beyond_the_limit(case, room, phase, reason):
    plan = decide_run(facts(queue=seen(deployment=room), deployment=a_deployment(concurrency_policy=SKIP)))
    if phase is None:
        assert plan.create_job is not None
    else:
        assert (plan.status["phase"], plan.status["reason"]) == (phase, reason)
        assert not plan.queued


@pytest.mark.parametrize(
    ("case", "room", "replaceable", "replaced"),
    [
        ("the oldest makes room", Room(2, 2), OTHERS[:2], ["a"]),
        ("one was asked already", Room(2, 2), OTHERS[1:2], []),
        ("a limit lowered below what runs", Room(1, 3), OTHERS, ["a", "b", "c"]),
        ("a newer run waits as well", Room(2, 2, ahead=1), OTHERS[:2], ["a", "b"]),
        ("the newer run waits for the one that goes", Room(2, 2, ahead=1), OTHERS[1:2], ["b"]),
    ],
)
def test_replace_cancels_the_oldest_and_waits_until_they_have_gone(case, room, replaceable, replaced):
    queue = seen(deployment=room, replaceable=replaceable)
    plan = decide_run(facts(queue=queue, deployment=a_deployment(concurrency_policy=REPLACE)))
    assert (plan.status["phase"], plan.status["reason"], plan.queued) == ("Queued", "Replacing", True)
    assert [run.name for run in plan.cancel_runs] == replaced
    assert plan.create_job is None


def test_a_waiting_run_is_replaced_by_newer_ones():
    queue = seen(deployment=Room(2, 2, ahead=2))
    plan = decide_run(facts(queue=queue, deployment=a_deployment(concurrency_policy=REPLACE)))
    assert (plan.status["phase"], plan.status["reason"]) == ("Cancelled", "Replaced")
    assert plan.cancel_runs == ()


def test_nothing_is_replaced_for_a_run_that_could_not_start():
    queue = QueueFacts(a_queue(paused=True), FULL, replaceable=OTHERS)
    plan = decide_run(facts(queue=queue, deployment=a_deployment(concurrency_policy=REPLACE)))
    assert (plan.status["reason"], plan.cancel_runs) == ("QueuePaused", ())


@pytest.mark.parametrize(("scheduled", "wait"), [(None, None), (T0, None), (T0 - s(5), None), (T0 + s(5), 5.0)])
def test_wait_for_time(scheduled, wait):
    found = wait_for_time(facts(a_run(scheduled_at=scheduled)))
    assert (found.for_s if found else None) == wait


def test_a_waiting_run_is_told_why_once():
    full = seen(of_queue=Room(1, 1))
    plan = decide_run(facts(queue=full))
    assert plan.status["phase"] == "Queued"
    assert (plan.status["reason"], plan.status["queue"], plan.queued) == ("QueueFull", "default", True)
    told = a_run(phase="Queued", reason="QueueFull", message=plan.status["message"])
    assert decide_run(facts(told, queue=full)).status is None


def test_a_queued_run_whose_reference_vanishes_stays_queued_until_it_fails():
    run = a_run(phase="Queued", reason="QueueFull", message="x")
    plan = decide_run(facts(run, deployment=None, flow=None))
    assert (plan.status["phase"], plan.status["reason"]) == ("Queued", "DeploymentNotFound")
    said = a_run(phase="Queued", reason="DeploymentNotFound", message=plan.status["message"])
    assert decide_run(facts(said, deployment=None, flow=None)).status is None
    assert decide_run(facts(said, deployment=None, flow=None, at=11, looked_up=True)).status["phase"] == "Failed"


def test_a_pause_holds_back_further_attempts_but_a_full_queue_does_not():
    assert held_back(facts(deployment=a_deployment(paused=True)))
    assert held_back(facts(queue=QueueFacts(a_queue(paused=True))))
    assert not held_back(facts(queue=seen(of_queue=Room(1, 1))))
