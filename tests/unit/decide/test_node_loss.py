"""A pod that seems to run on a node that does not answer: when is the node looked at, and when is it lost?"""

import pytest

from levada.decide.facts import NodeView
from levada.decide.plan import Ask
from levada.decide.run import decide_run
from levada.decide.views import node_view, pod_view
from support.facts import T0, a_job, a_pod, a_run, facts, s

RUNNING = {"attempt": 1, "phase": "Running", "pod_name": "r-1-abcde", "started_at": T0}
GONE, READY = NodeView(exists=False), NodeView()
UNREADY = NodeView(unready_since=T0 + s(100), message="Kubelet stopped posting node status.")


def look(at, node=None, **pod):
    pods = [a_pod(started_at=T0, **{"unready_since": T0 + s(100), **pod})]
    return decide_run(facts(a_run(**RUNNING), jobs=[a_job()], pods=pods, node=node, at=at))


@pytest.mark.parametrize(
    ("case", "at", "node", "phase", "ask", "again_s"),
    [
        ("not for long: nobody is asked", 399, None, None, None, 1),
        ("long enough to ask", 400, None, None, Ask("Node", "n1"), None),
        ("the node is gone", 400, GONE, "Retrying", None, None),
        ("the node is lost", 400, UNREADY, "Retrying", None, None),
        ("the node has become unready again", 400, NodeView(unready_since=T0 + s(350)), None, None, 250),
        ("the node is fine: the pod is unready by itself", 400, READY, None, None, 60),
    ],
)
def test_a_silent_pod(*, case, at, node, phase, ask, again_s):
    plan = look(at, node)
    status = plan.status or {}
    assert (status.get("phase"), plan.ask) == (phase, ask)
    if phase is not None:
        assert (status["reason"], status["infrastructureFailures"]) == ("NodeLost", 1)
        assert plan.stop_jobs == ("r-1",), "the pod must not go on if its node comes back"
    elif ask is None:
        assert plan.requeue_after_s == again_s


def test_a_ready_pod_never_has_its_node_looked_at():
    assert look(9999, unready_since=None).ask is None


def test_a_pod_that_is_being_deleted_has_a_clock_of_its_own():
    assert look(401, deletion_due_at=T0 + s(390)).ask is None


@pytest.mark.parametrize(
    ("case", "node", "phase", "reason"),
    [
        ("a node that died before it started the pod", UNREADY, "Retrying", "NodeLost"),
        ("a node that is there and does not start it", READY, "Crashed", "ContainerNotStarted"),
    ],
)
def test_a_pod_that_never_started(*, case, node, phase, reason):
    waits = {"jobs": [a_job()], "pods": [a_pod(waiting="ContainerCreating")], "at": 600}
    assert decide_run(facts(a_run(attempt=1), **waits)).ask == Ask("Node", "n1")
    status = decide_run(facts(a_run(attempt=1), node=node, **waits)).status
    assert (status["phase"], status["reason"]) == (phase, reason)


def test_a_node_as_the_api_shows_it():
    lost = {"type": "Ready", "status": "Unknown", "lastTransitionTime": "2026-03-01T12:01:40Z", "message": "m"}
    assert node_view({"status": {"conditions": [lost]}}) == NodeView(unready_since=T0 + s(100), message="m")
    assert node_view({"status": {"conditions": [{**lost, "status": "True"}]}}) == NodeView()
    assert node_view({}) == NodeView()


@pytest.mark.parametrize(("state", "since"), [("running", T0), ("terminated", None), ("waiting", None)])
def test_only_a_running_pod_is_unready_for_its_node_s_sake(state, since):
    ready = {"type": "Ready", "status": "False", "lastTransitionTime": "2026-03-01T12:00:00Z"}
    status = {"conditions": [ready], "containerStatuses": [{"name": "flow", "state": {state: {"reason": "x"}}}]}
    assert pod_view({"metadata": {"name": "p"}, "status": status}).unready_since == since
