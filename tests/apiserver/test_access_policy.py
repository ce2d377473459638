"""A run's pod writes its own status and nothing else: tried with real tokens, bound to real pods."""

import asyncio
import json
import secrets

import pytest
import yaml

from levada.kube import Client, Forbidden
from levada.resources.kinds import BLOCKS, CONFIG_MAPS, FLOW_RUNS, JOBS, PODS, SECRETS

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("installed")]


@pytest.fixture
def speak_as(kubeconfig, kubectl, tmp_path):
    """Make a client that speaks with the token of a service account, bound to a pod unless `pod` is None."""

    def make(namespace, account, pod):
        bound = ["--bound-object-kind=Pod", f"--bound-object-name={pod}"] if pod else []
        token = kubectl("create", "token", account, "-n", namespace, *bound).strip()
        config = yaml.safe_load(kubeconfig.read_text())
        config["users"] = [{"name": each["name"], "user": {"token": token}} for each in config["users"]]
        path = tmp_path / f"{secrets.token_hex(4)}.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return Client.from_kubeconfig(path)

    return make


@pytest.fixture
def make_pod(kubectl):
    """Create a pod that no node will take: its name and its account are all that counts."""
    made = []

    def make(namespace, name, account="levada-runner"):
        container = {"name": "flow", "image": "none"}
        spec = {"serviceAccountName": account, "containers": [container], "nodeSelector": {"nobody": "has-this"}}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}
        kubectl("create", "-f", "-", stdin=body)
        made.append((namespace, name))
        return name

    yield make
    for namespace, name in made:
        kubectl("delete", "pod", name, "-n", namespace, "--force", "--grace-period=0", "--ignore-not-found")


async def a_run(client, namespace, name):
    body = {
        "apiVersion": "levada.dev/v1alpha1",
        "kind": "FlowRun",
        "metadata": {"name": name},
        "spec": {"deploymentRef": {"name": "d"}},
    }
    return await client.create(FLOW_RUNS, body, namespace)


async def report(client, namespace, name, phase="Running"):
    return await client.patch(FLOW_RUNS, name, {"status": {"phase": phase}}, namespace, subresource="status")


async def test_a_pod_writes_the_status_of_its_own_run(client, namespace, speak_as, make_pod):
    await a_run(client, namespace, "etl")
    pod = make_pod(namespace, "etl-12-abcde")
    async with speak_as(namespace, "levada-runner", pod) as runner:
        assert (await report(runner, namespace, "etl"))["status"]["phase"] == "Running"
        assert (await runner.get(FLOW_RUNS, "etl", namespace))["metadata"]["name"] == "etl"


@pytest.mark.parametrize("other", ["other", "etl-1", "et", "etl-1-2", "etl-12"])
async def test_a_pod_is_refused_when_it_writes_the_status_of_another_run(client, namespace, speak_as, make_pod, other):
    await a_run(client, namespace, other)
    pod = make_pod(namespace, "etl-12-abcde")
    async with speak_as(namespace, "levada-runner", pod) as runner:
        with pytest.raises(Forbidden, match=rf"pod {pod} may write only the status of its own FlowRun, not of {other}"):
            await report(runner, namespace, other)
    assert "status" not in await client.get(FLOW_RUNS, other, namespace)


async def test_the_pod_of_a_run_whose_name_goes_on_is_another_runs(client, namespace, speak_as, make_pod):
    await a_run(client, namespace, "etl")
    await a_run(client, namespace, "etl-1")
    pod = make_pod(namespace, "etl-1-2-abcde")
    async with speak_as(namespace, "levada-runner", pod) as runner:
        with pytest.raises(Forbidden, match="its own FlowRun"):
            await report(runner, namespace, "etl")
        await report(runner, namespace, "etl-1")


async def test_a_pod_of_the_same_name_in_another_namespace_is_refused(client, namespace, kubectl, speak_as, make_pod):
    """Even when somebody has bound the runner's role across namespaces."""
    foreign = f"{namespace}-b"
    kubectl("create", "namespace", foreign)
    kubectl("create", "serviceaccount", "levada-runner", "-n", foreign)
    kubectl(
        "create",
        "rolebinding",
        "too-wide",
        "--role=levada-runner",
        f"--serviceaccount={foreign}:levada-runner",
        "-n",
        namespace,
    )
    await a_run(client, namespace, "etl")
    pod = make_pod(foreign, "etl-1-abcde")
    async with speak_as(foreign, "levada-runner", pod) as runner:
        assert await runner.get(FLOW_RUNS, "etl", namespace)
        with pytest.raises(Forbidden, match=f"a FlowRun in its own namespace, not in {namespace}"):
            await report(runner, namespace, "etl")
    kubectl("delete", "namespace", foreign, "--wait=false")


async def test_another_account_is_held_to_its_own_run_too(client, namespace, kubectl, speak_as, make_pod):
    """A deployment may name its own account; rights given generously do not help it."""
    kubectl("create", "serviceaccount", "mighty", "-n", namespace)
    kubectl(
        "create",
        "rolebinding",
        "mighty",
        "--clusterrole=cluster-admin",
        f"--serviceaccount={namespace}:mighty",
        "-n",
        namespace,
    )
    await a_run(client, namespace, "etl")
    await a_run(client, namespace, "other")
    pod = make_pod(namespace, "etl-1-abcde", account="mighty")
    async with speak_as(namespace, "mighty", pod) as runner:
        await report(runner, namespace, "etl")
        with pytest.raises(Forbidden, match="its own FlowRun"):
            await report(runner, namespace, "other")
        body = await runner.get(FLOW_RUNS, "other", namespace)
        with pytest.raises(Forbidden, match="its own FlowRun"):
            await runner.replace(FLOW_RUNS, body | {"status": {"phase": "Failed"}}, namespace, subresource="status")


async def test_the_operators_pod_writes_any_status(client, namespace, speak_as, make_pod):
    await a_run(client, namespace, "etl")
    pod = make_pod("levada-system", f"levada-operator-{secrets.token_hex(3)}", account="levada-operator")
    async with speak_as("levada-system", "levada-operator", pod) as operator:
        assert (await report(operator, namespace, "etl", "Pending"))["status"]["phase"] == "Pending"


async def test_people_write_what_rbac_lets_them(client, namespace):
    await a_run(client, namespace, "etl")
    assert (await report(client, namespace, "etl", "Skipped"))["status"]["phase"] == "Skipped"


async def test_a_run_can_do_nothing_else(client, namespace, kubectl, speak_as, make_pod):
    await a_run(client, namespace, "etl")
    kubectl("create", "secret", "generic", "s", "--from-literal=k=v", "-n", namespace)
    pod = make_pod(namespace, "etl-1-abcde")
    async with speak_as(namespace, "levada-runner", pod) as runner:
        tried = {
            "read a Secret": runner.get(SECRETS, "s", namespace),
            "list Secrets": runner.list(SECRETS, namespace),
            "read a ConfigMap": runner.get(CONFIG_MAPS, "kube-root-ca.crt", namespace),
            "list runs": runner.list(FLOW_RUNS, namespace),
            "list blocks": runner.list(BLOCKS, namespace),
            "change a block": runner.patch(BLOCKS, "b", {"spec": {"type": "x"}}, namespace),
            "read a block elsewhere": runner.get(BLOCKS, "b", "default"),
            "cancel its run": runner.patch(FLOW_RUNS, "etl", {"spec": {"cancel": True}}, namespace),
            "start a run": a_run(runner, namespace, "more"),
            "delete its run": runner.delete(FLOW_RUNS, "etl", namespace),
            "read pods": runner.list(PODS, namespace),
            "read Jobs": runner.list(JOBS, namespace),
            "read a run elsewhere": runner.get(FLOW_RUNS, "etl", "default"),
        }
        answers = await asyncio.gather(*tried.values(), return_exceptions=True)
    allowed = [what for what, answer in zip(tried, answers, strict=True) if not isinstance(answer, Forbidden)]
    assert allowed == []


async def test_a_status_patch_changes_nothing_but_the_status(client, namespace, speak_as, make_pod):
    created = await a_run(client, namespace, "etl")
    pod = make_pod(namespace, "etl-1-abcde")
    body = {
        "metadata": {"labels": {"a": "b"}, "finalizers": ["x.dev/y"]},
        "spec": {"cancel": True},
        "status": {"phase": "Running"},
    }
    async with speak_as(namespace, "levada-runner", pod) as runner:
        await runner.patch(FLOW_RUNS, "etl", body, namespace, subresource="status")
    stored = await client.get(FLOW_RUNS, "etl", namespace)
    assert stored["spec"] == created["spec"]
    assert "labels" not in stored["metadata"]
    assert "finalizers" not in stored["metadata"]


def test_the_policy_has_no_type_errors(kubectl):
    policy = json.loads(kubectl("get", "validatingadmissionpolicy", "levada-run-writes-its-own-status", "-o", "json"))
    assert not (policy.get("status") or {}).get("typeChecking", {}).get("expressionWarnings")
