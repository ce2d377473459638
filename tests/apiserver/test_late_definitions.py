"""An operator that starts before its definitions, as where GitOps applies everything at once: it waits, says so, and then hears of every change."""

import os

import pytest

from levada.cluster import Cluster
from levada.resources import access, crds
from levada.resources.kinds import LEVADA_KINDS
from support.stack import running_stack, wait_until

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(180)]
READY = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"


@pytest.fixture(scope="module")
def bare(cluster_home):
    """A control plane that has never heard of Levada."""
    cluster = Cluster("bare", cluster_home)
    cluster.up(ephemeral=True, kube_api_qps=500)
    yield cluster
    cluster.down(delete=True)


def test_an_operator_that_came_first_watches_what_comes_later(bare, kubectl_for, tmp_path):
    kubectl = kubectl_for(bare.kubectl, bare.kubeconfig)

    def apply(*manifests):
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=list(manifests))

    apply(*access.manifests([]))
    with running_stack(bare, tmp_path / "stack", agent_name=f"late-{os.getpid()}") as stack:
        wait_until(lambda: "does not serve" in stack.log("operator"), "the operator says what it waits for")
        assert "crds/" in stack.log("operator")
        apply(*crds.generate().values())
        wait_until(lambda: "watching all namespaces" in stack.log("operator"), "the operator is ready", 60)
        for attempt in ("first", "second"):  # after its own list, only the watch can tell of them
            flow = {"entrypoint": "flow.py:main", "source": {"image": {"path": "/app"}}}
            deployment = {"flowRef": {"name": attempt}}
            for kind, spec in (("Flow", flow), ("Deployment", deployment)):
                apply({"apiVersion": "levada.dev/v1alpha1", "kind": kind, "metadata": {"name": attempt, "namespace": "default"}, "spec": spec})  # fmt: skip
                wait_until(lambda k=kind, a=attempt: kubectl("get", f"{k}.levada.dev", a, "-n", "default", "-o", READY) == "True", f"{kind} {attempt} is judged")  # fmt: skip


def test_one_that_still_waits_ends_when_asked_to(bare, kubectl_for, tmp_path):
    kubectl_for(bare.kubectl, bare.kubeconfig)(
        "delete", "crd", *(f"{kind.plural}.{kind.group}" for kind in LEVADA_KINDS), "--ignore-not-found"
    )
    with running_stack(bare, tmp_path / "stack", agent_name=f"late-{os.getpid()}") as stack:
        wait_until(lambda: "does not serve" in stack.log("operator"), "the operator says what it waits for")
        process = stack.processes["operator"]
        process.terminate()
        assert process.wait(timeout=15) == 0
