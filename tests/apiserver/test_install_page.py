"""docs/howto/install.md, command by command, on a control plane of its own; then upgrade, uninstall, and installing again.

What needs Docker or a kubelet is done by the harness: the cluster is there, the agent is the node, and the operator is a process with
the arguments of the chart's Deployment. tests/e2e has the images and a real kubelet.
"""

import json
import re

import pytest

from levada.cluster import Cluster
from support.chart import by_name
from support.installation import ROOT, SPACE, Installation
from support.stack import wait_until

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(170)]

PAGE = (ROOT / "docs" / "howto" / "install.md").read_text()
COMMANDS = re.findall(r"^\$ (.+)$", PAGE, re.MULTILINE)
INSTALL = next(each for each in COMMANDS if each.startswith("helm install"))
# On this control plane there is no Docker: what these make is there already.
BY_THE_HARNESS = {
    "make images",
    "kind create cluster --config kind-config.yaml",
    "kind load docker-image --name levada levada-operator:0.1.0 levada-examples:0.1.0",
}
SAYS = {
    "helm install": "STATUS: deployed",
    "rollout status": "successfully rolled out",
    "helm test": "Phase:          Succeeded",
    "get flows,": "hello",
    "--watch": "Completed  4/4",
    "kubectl get flowruns": "hello-1",
    "runs logs": "Hello, Madeira!",
    "kubectl wait": "condition met",
    "helm upgrade": "has been upgraded",
    "auth can-i": "yes",
    "helm uninstall": "uninstalled",
    "xargs kubectl delete": 'customresourcedefinition.apiextensions.k8s.io "flowruns.levada.dev" deleted',
    "operator manifests": "serviceaccount/levada-operator serverside-applied",
}
SLOW = """
import time
from levada import flow, task

@task
def step(n: int) -> int:
    time.sleep(1)
    return n

@flow
def main():
    return sum(step(n) for n in range(8))
"""


@pytest.fixture(scope="module")
def installation(cluster_home, kubectl_for, tmp_path_factory):
    cluster = Cluster("chart", cluster_home)
    cluster.up(ephemeral=True, kube_api_qps=500)
    kubectl = kubectl_for(cluster.kubectl, cluster.kubeconfig)
    installation = Installation(cluster, kubectl, tmp_path_factory.mktemp("chart"))
    try:
        yield installation
    finally:
        installation.stop()
        cluster.down(delete=True)


def test_each_command_of_the_page_works(installation):
    assert len(COMMANDS) > 15
    for command in COMMANDS:
        if command in BY_THE_HARNESS:
            continue
        said = installation.shell(command)
        for part, words in SAYS.items():
            if part in command:
                assert words in said, (command, said)
        if command.startswith("helm install"):
            installation.serve()
        if command.startswith("helm uninstall"):
            assert leftovers(installation) == []
    assert "the operator is ready" in "".join(installation.kubelet.said)


def test_helm_takes_over_what_was_applied_without_it(installation):
    """The page ends with an installation without Helm."""
    said = installation.shell(INSTALL, fails=True)
    assert "invalid ownership metadata" in said
    assert "STATUS: deployed" in installation.shell(f"{INSTALL} --take-ownership --force-conflicts")
    installation.serve()


def test_an_upgrade_keeps_the_runs_that_are_under_way(installation):
    installation.kubectl("apply", "-f", "-", stdin=slow_flow())
    installation.shell("levada deployment run slow --name through")
    wait_until(lambda: progress(installation, "through") not in {"", "0/0", "0/1"}, "the run is under way")
    installation.shell(f"helm upgrade levada charts/levada -n {SPACE} --reset-then-reuse-values --set verbose=true")
    installation.serve()
    assert "--verbose" in installation.stack.arguments["operator"]
    status = ended(installation, "through")
    assert (status["phase"], status["attempt"], status["result"]) == ("Completed", 1, "28")


def test_wrong_values_change_nothing(installation):
    said = installation.shell(f"helm upgrade levada charts/levada -n {SPACE} --set replicas=two", fails=True)
    assert "at '/replicas': got string, want integer" in said
    said = installation.shell(
        f"helm upgrade levada charts/levada -n {SPACE} --set metrics.podMonitor.enabled=true", fails=True
    )
    assert "metrics.podMonitor.enabled is true, but the cluster has no monitoring.coreos.com/v1" in said
    assert "STATUS: deployed" in installation.shell(f"helm status levada -n {SPACE}")


def test_an_uninstall_in_the_middle_of_a_run_loses_nothing(installation):
    installation.shell("levada deployment run slow --name left")
    wait_until(lambda: progress(installation, "left") not in {"", "0/0", "0/1"}, "the run is under way")
    installation.shell(f"helm uninstall levada -n {SPACE}")
    installation.end_operator()
    assert leftovers(installation) == []
    assert "through" in installation.shell("kubectl get flowruns")
    installation.shell(INSTALL)
    installation.serve()
    assert ended(installation, "left")["phase"] == "Completed"
    installation.shell("levada deployment run slow --name again")
    assert ended(installation, "again")["phase"] == "Completed"


def test_without_keep_an_uninstall_deletes_everything(installation):
    installation.shell(f"helm upgrade levada charts/levada -n {SPACE} --reset-then-reuse-values --set crds.keep=false")
    installation.shell(f"helm uninstall levada -n {SPACE}")
    wait_until(lambda: "levada.dev" not in installation.shell("kubectl get crd -o name"), "the definitions are gone")
    assert "crds.enabled is false, but the cluster has no levada.dev/v1alpha1" in installation.shell(
        f"{INSTALL} --set crds.enabled=false", fails=True
    )


def leftovers(installation):
    """What the release made and is still there, but for the definitions."""
    rendered = by_name(
        installation.shell(f"helm template levada charts/levada -n {SPACE} --kube-version 1.36 --no-hooks 2>/dev/null")
    )
    kinds = {kind for kind, _, _ in rendered} - {"CustomResourceDefinition"}
    listed = installation.kubectl(
        *(
            "get",
            ",".join(sorted(kinds)),
            "--all-namespaces",
            "--selector",
            "app.kubernetes.io/managed-by=Helm",
            "-o",
            "name",
        )
    )
    return listed.split()


def slow_flow():
    return [
        {
            "apiVersion": "levada.dev/v1alpha1",
            "kind": "Flow",
            "metadata": {"name": "slow", "namespace": "default"},
            "spec": {"entrypoint": "flow.py:main", "source": {"inline": SLOW}},
        },
        {
            "apiVersion": "levada.dev/v1alpha1",
            "kind": "Deployment",
            "metadata": {"name": "slow", "namespace": "default"},
            "spec": {"flowRef": {"name": "slow"}},
        },
    ]


def status_of(installation, run):
    return json.loads(installation.kubectl("get", "flowruns", run, "-o", "json")).get("status", {})


def progress(installation, run):
    return status_of(installation, run).get("progress", "")


def ended(installation, run):
    return wait_until(
        lambda: (status := status_of(installation, run)).get("completionTime") and status, f"{run} ends", 60
    )
