"""The Ready condition of Deployments and WorkQueues."""

import pytest

from levada.decide.code import Signature
from levada.decide.deployment import DeploymentFacts, decide_deployment, decide_queue
from support.facts import READY, T0, a_deployment, a_flow, a_queue, s

BROKEN = {
    "observedGeneration": 1,
    "conditions": [{"type": "Ready", "status": "False", "reason": "InvalidCode", "message": "line 3"}],
}


LATER = T0 + s(3)


def decide(deployment=None, at=LATER, **fields):
    return decide_deployment(DeploymentFacts(at, deployment or a_deployment(), **{"flow": a_flow(), **fields}))


@pytest.mark.parametrize(
    ("case", "deployment", "fields", "status", "reason", "words"),
    [
        ("well", {}, {}, "True", "Ready", ""),
        ("no flow", {}, {"flow": None}, "False", "FlowNotFound", "'f'"),
        ("broken flow", {}, {"flow": a_flow(status=BROKEN)}, "False", "FlowNotReady", "InvalidCode: line 3"),
        (
            "wrong name",
            {"parameters": {"b": 1}},
            {"signature": Signature(("a",), frozenset({"a"}))},
            "False",
            "InvalidParameters",
            "'b'",
        ),
        ("a run may supply the rest", {}, {"signature": Signature(("a",), frozenset({"a"}))}, "True", "Ready", ""),
        ("refused pod", {}, {"job_refused": "spec.template: no"}, "False", "InvalidPodTemplate", "spec.template: no"),
        ("too large", {"parameters": {"a": "x" * 70_000}}, {}, "False", "ParametersTooLarge", "65536"),
    ],
)
def test_decide_deployment(*, case, deployment, fields, status, reason, words):
    plan = decide(a_deployment(**deployment), **fields)
    (condition,) = plan.status["conditions"]
    assert (condition["status"], condition["reason"]) == (status, reason)
    assert words in condition["message"]
    assert [event.reason for event in plan.events] == ([reason] if status == "False" else [])
    again = decide(a_deployment(**deployment, status=plan.status), **fields)
    assert (again.status, again.events) == (None, ())


def test_nothing_is_said_before_the_flow_has_been_judged():
    assert decide(flow=a_flow(status={})).status is None


def test_turning_bad_makes_an_event_and_moves_the_transition_time():
    before = {
        "observedGeneration": 1,
        "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "lastTransitionTime": "x"}],
    }
    plan = decide(a_deployment(status=before), flow=None)
    assert plan.status["conditions"][0]["lastTransitionTime"] == "2026-03-01T12:00:03.000Z"
    assert len(plan.events) == 1
    assert READY["observedGeneration"] == 1


def test_a_queue_says_that_it_was_seen():
    plan = decide_queue(a_queue(limit=3), T0, active=0, waiting=0)
    assert "3" in plan.status["conditions"][0]["message"]
    assert decide_queue(a_queue(limit=3, status=plan.status), T0, active=0, waiting=0).status is None
    assert decide_queue(a_queue(paused=True), T0, active=0, waiting=0).status["conditions"][0]["reason"] == "Paused"


def test_a_flow_that_may_be_on_its_way_is_waited_for_a_moment():
    plan = decide(at=T0 + s(1), flow=None)
    assert (plan.status, plan.requeue_after_s) == (None, 2.0)
