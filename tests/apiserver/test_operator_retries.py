"""The operator against a real API server: failure policies, silent nodes, suspension and slots. The pods are played."""

from collections.abc import Iterator

import pytest

from levada.cluster import Cluster
from levada.kube import Client
from levada.resources.kinds import FLOW_RUNS
from support.operator_play import Operator, Play, until

pytestmark = pytest.mark.apiserver

LONG_AGO = "2026-01-01T00:00:00Z"
RETRIES = {"limit": 2, "delaySeconds": 0}


@pytest.fixture(scope="module")
def operator(cluster: Cluster, installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    operator = Operator(cluster, tmp_path_factory.mktemp("retries"))
    operator.start()
    yield operator
    assert operator.stop() == 0
    assert "Traceback" not in operator.text()


@pytest.fixture
async def play(operator: Operator, client: Client, namespace: str) -> Play:
    return Play(client, namespace)


async def order(play: Play, run: str, **spec: object) -> None:
    await play.client.patch(FLOW_RUNS, run, {"spec": spec}, play.namespace)


async def running(play: Play, run: str, attempt: int = 1) -> dict:
    pod = await play.pod(run, attempt)
    await play.starts(pod)
    await play.reports_running(run, pod)
    return pod


async def test_a_failure_policy_decides_by_exit_code(play: Play):
    await play.flow()
    rules = [
        {"action": "RetryInfrastructure", "onExitCodes": {"values": [75]}},
        {"action": "Fail", "onExitCodes": {"operator": "NotIn", "values": [1]}},
    ]
    await play.deployment(retries=RETRIES, infrastructureRetries=RETRIES, failurePolicy={"rules": rules})
    run = await play.run()
    await play.ends(await running(play, run), 75)
    await play.ends(await running(play, run, 2), 1)
    await play.ends(await running(play, run, 3), 42)
    status = await play.phase(run, "Crashed")
    assert (status["infrastructureFailures"], status["codeFailures"]) == (1, 2)
    seen = [(each["exitCode"], each["kind"]) for each in status["attempts"]]
    assert seen == [(75, "Infrastructure"), (1, "Code"), (42, "Code")]
    assert len(await play.jobs()) == 3, "a retry was left, and the rule said no"


async def test_a_pod_of_a_node_that_is_gone_gets_a_new_attempt(play: Play):
    """No other node tells, and nobody deletes the pod: the operator looks at the node itself."""
    await play.flow()
    await play.deployment(infrastructureRetries=RETRIES)
    run = await play.run()
    pod = await running(play, run)
    await play.node(f"lost-{play.namespace}")
    await play.bind(pod, f"lost-{play.namespace}")
    unready = {"type": "Ready", "status": "False", "lastTransitionTime": LONG_AGO, "reason": "NodeNotReady"}
    node = {"type": "Ready", "status": "Unknown", "lastTransitionTime": LONG_AGO, "reason": "NodeStatusUnknown"}
    node_path = f"/api/v1/nodes/lost-{play.namespace}/status"
    await play.client.request(
        "PATCH", node_path, body={"status": {"conditions": [node]}}, content_type="application/merge-patch+json"
    )
    await play.set_pod(pod, "Running", {"running": {"startedAt": LONG_AGO}}, conditions=[unready])
    status = await play.phase(run, "Retrying", "Pending")
    assert (status["attempts"][0]["reason"], status["infrastructureFailures"]) == ("NodeLost", 1)
    assert f"lost-{play.namespace}" in status["attempts"][0]["message"]
    await play.pod(run, 2)


async def test_a_suspended_run_gives_its_slot_away_and_goes_on(play: Play):
    await play.flow()
    await play.queue("one", concurrencyLimit=1)
    await play.deployment(workQueue="one")
    first, second = await play.run("first"), await play.run("second")
    await running(play, first)
    await play.phase(second, "Queued")
    await order(play, first, suspend=True)

    async def parked() -> bool:
        return (await play.status(first))["reason"] == "Suspended"

    await until(parked, what="the run is suspended")
    other = await running(play, second)
    await order(play, first, suspend=False)
    status = await play.phase(first, "Queued")
    assert status["reason"] == "QueueFull"
    await play.reports_end(second, "Completed")
    await play.ends(other)
    again = await running(play, first, 2)
    status = await play.status(first)
    assert (status.get("codeFailures", 0), status.get("infrastructureFailures", 0)) == (0, 0)
    assert [(each["reason"], each.get("kind")) for each in status["attempts"]] == [("Suspended", None)]
    await play.reports_end(first, "Completed")
    await play.ends(again)
    await play.has_event(first, "Completed")


async def test_a_run_made_suspended_waits_until_it_is_let_go(play: Play):
    await play.flow()
    await play.deployment()
    run = await play.run(suspend=True)
    assert (await play.phase(run, "Paused"))["reason"] == "Suspended"
    assert await play.jobs() == []
    await order(play, run, suspend=False)
    await play.job(run)


async def test_a_retry_of_a_run_that_is_not_there_says_so(play: Play):
    await play.flow()
    await play.deployment()
    run = await play.run(retryOf="nobody")
    assert (await play.phase(run, "Scheduled", "Failed"))["reason"] == "RetryOfNotFound"
    scratch = await play.run(retryOf="nobody", fromScratch=True)
    await play.job(scratch)
