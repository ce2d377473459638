"""The API server is away, the agent is away for long: on a control plane of its own with a short node grace."""

import json
import os
import signal
import time

import pytest

from levada.cluster import Cluster
from support.processes import is_running

pytestmark = pytest.mark.apiserver

GRACE_S = 4


@pytest.fixture(scope="module")
def nervous_cluster(cluster_home):
    cluster = Cluster("nervous", cluster_home)
    cluster.up(ephemeral=True, node_grace_seconds=GRACE_S, unreachable_toleration_seconds=1)
    yield cluster
    cluster.down(delete=True)


@pytest.fixture
def nervous_kubectl(nervous_cluster, kubectl_for):
    return kubectl_for(nervous_cluster.kubectl, nervous_cluster.kubeconfig)


@pytest.fixture
def nervous(nervous_cluster, nervous_kubectl, start_agent, jobs_in):
    """(agent, jobs) on that cluster."""
    agent = start_agent(None, "--heartbeat-seconds", "1", in_cluster=nervous_cluster)
    return agent, jobs_in(nervous_kubectl, agent.name)


def ready(kubectl, name):
    node = json.loads(kubectl("get", "node", name, "-o", "json"))
    return next(found["status"] for found in node["status"]["conditions"] if found["type"] == "Ready")


def test_an_end_during_an_outage_is_reported_after_it(nervous, nervous_cluster, until):
    agent, jobs = nervous
    jobs.run(["python", "-c", "import time; time.sleep(1.5); print('done')"])
    uid = jobs.running()["metadata"]["uid"]
    os.kill(nervous_cluster.pid("kube-apiserver"), signal.SIGKILL)
    until((agent.pods / uid / "exit.json").exists)
    nervous_cluster.up(ephemeral=True)
    assert jobs.ended()["status"]["phase"] == "Succeeded"
    assert jobs.logs() == "done\n"
    assert agent.process.poll() is None


def test_an_agent_starts_before_the_api_server(nervous, nervous_cluster, nervous_kubectl, until):
    agent, _ = nervous
    agent.stop()
    os.kill(nervous_cluster.pid("kube-apiserver"), signal.SIGKILL)
    agent.start(wait=False)
    until(lambda: "cannot connect to" in agent.output.read_text())
    nervous_cluster.up(ephemeral=True)
    until(lambda: "is ready" in agent.output.read_text(), agent.output.read_text)
    assert ready(nervous_kubectl, agent.name) == "True"


def test_a_dead_agents_pods_are_left_to_the_node_life_cycle(
    nervous, nervous_cluster, nervous_kubectl, start_agent, until
):
    """Kubernetes marks the node and deletes the pods; what still runs ends when the agent is back.

    It needs another node that is alive: when all nodes are lost, Kubernetes suspects itself and deletes nothing.
    """
    agent, jobs = nervous
    start_agent(None, "--heartbeat-seconds", "1", in_cluster=nervous_cluster)
    jobs.run(
        ["python", "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(120)"],
        terminationGracePeriodSeconds=1,
    )
    pid = int(until(lambda: jobs.logs().strip()))
    agent.kill()
    until(lambda: ready(nervous_kubectl, agent.name) == "Unknown", timeout_s=30)
    until(lambda: "deletionTimestamp" in jobs.pod()["metadata"], timeout_s=30)
    disruption = [c for c in jobs.pod()["status"]["conditions"] if c["type"] == "DisruptionTarget"]
    assert disruption[0]["reason"] == "DeletionByTaintManager"
    assert is_running(pid)
    agent.start()
    until(lambda: not is_running(pid))
    until(lambda: jobs.pod() is None)
    assert ready(nervous_kubectl, agent.name) == "True"


def test_a_suspended_agent_is_ready_again_at_its_next_heartbeat(nervous, nervous_kubectl, until):
    agent, _ = nervous
    os.kill(agent.process.pid, signal.SIGSTOP)
    until(lambda: ready(nervous_kubectl, agent.name) == "Unknown", timeout_s=30)
    os.kill(agent.process.pid, signal.SIGCONT)
    begun = time.monotonic()
    until(lambda: ready(nervous_kubectl, agent.name) == "True")
    assert time.monotonic() - begun < 4
