"""The operator against a real API server: bad input gets a clear condition, phase and Event; inline code is kept by version."""

from collections.abc import Iterator

import pytest

from levada.cluster import Cluster
from levada.kube import Client
from levada.resources.kinds import CONFIG_MAPS, DEPLOYMENTS, FLOWS, WORK_QUEUES
from support.operator_play import HELLO, Operator, Play, until

pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def operator(cluster: Cluster, installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    operator = Operator(cluster, tmp_path_factory.mktemp("operator"))
    operator.start()
    yield operator
    assert operator.stop() == 0
    assert "Traceback" not in operator.text()


@pytest.fixture
async def play(operator: Operator, client: Client, namespace: str) -> Play:
    return Play(client, namespace)


async def test_unknown_references_fail_the_run_after_a_grace(play: Play):
    run = await play.run(deployment="nobody")
    assert (await play.phase(run, "Scheduled"))["reason"] == "DeploymentNotFound"
    status = await play.phase(run, "Failed")
    assert status["reason"] == "DeploymentNotFound"
    assert status["conditions"][0]["status"] == "False"
    await play.has_event(run, "Failed")


async def test_references_applied_a_moment_later_are_good_enough(play: Play):
    run = await play.run()
    assert (await play.phase(run, "Scheduled"))["reason"] == "DeploymentNotFound"
    await play.deployment()
    condition = await play.ready(DEPLOYMENTS, "hello", "False")
    assert condition["reason"] == "FlowNotFound"
    await play.has_event("hello", "FlowNotFound")
    await play.flow()
    await play.ready(DEPLOYMENTS, "hello", "True")
    await play.pod(run)


async def test_a_syntax_error_is_told_with_its_line_and_a_correction_heals_everything(play: Play):
    await play.flow(code="x = 1\ndef hello(:\n    pass\n")
    await play.deployment()
    condition = await play.ready(FLOWS, "hello", "False")
    assert condition["reason"] == "InvalidCode"
    assert "flow.py, line 2" in condition["message"]
    await play.has_event("hello", "InvalidCode")
    assert (await play.ready(DEPLOYMENTS, "hello", "False"))["reason"] == "FlowNotReady"
    run = await play.run()
    assert (await play.phase(run, "Scheduled"))["reason"] == "FlowNotReady"
    await play.client.patch(FLOWS, "hello", {"spec": {"source": {"inline": HELLO}}}, play.namespace)
    await play.ready(DEPLOYMENTS, "hello", "True")
    await play.pod(run)


async def test_an_unknown_function_names_those_there_are(play: Play):
    await play.flow(entrypoint="flow.py:bye")
    condition = await play.ready(FLOWS, "hello", "False")
    assert condition["reason"] == "EntrypointNotFound"
    assert "hello" in condition["message"]


async def test_code_in_a_config_map_of_the_user(play: Play):
    await play.flow(source={"configMap": {"name": "code"}})
    assert (await play.ready(FLOWS, "hello", "False"))["reason"] == "ConfigMapNotFound"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "code"}, "data": {"other.py": ""}}
    await play.client.create(CONFIG_MAPS, body, play.namespace)
    # Not watched: the next change of the Flow, or the next quarter of a minute, makes the operator look again.
    await play.client.patch(FLOWS, "hello", {"spec": {"description": "look again"}}, play.namespace)

    async def told() -> bool:
        return (await play.ready(FLOWS, "hello", "False"))["reason"] == "CodeNotFound"

    await until(told, what="CodeNotFound")
    await play.client.patch(CONFIG_MAPS, "code", {"data": {"flow.py": HELLO}}, play.namespace)
    await play.client.patch(FLOWS, "hello", {"spec": {"description": "and again"}}, play.namespace)
    await play.ready(FLOWS, "hello", "True")
    await play.deployment()
    pod = await play.pod(await play.run())
    assert {"name": "levada-code", "configMap": {"name": "code", "defaultMode": 420}} in pod["spec"]["volumes"]


async def test_parameters_that_do_not_fit(play: Play):
    await play.flow()
    await play.deployment("wrong", parameters={"nmae": "x"})
    condition = await play.ready(DEPLOYMENTS, "wrong", "False")
    assert (condition["reason"], "'nmae'" in condition["message"]) == ("InvalidParameters", True)
    await play.deployment("right")
    await play.ready(DEPLOYMENTS, "right", "True")
    status = await play.phase(await play.run(deployment="right", parameters={"nmae": "x"}), "Failed")
    assert status["reason"] == "InvalidParameters"
    assert "the flow has no parameter 'nmae' (it has: name)" in status["message"].lower()


async def test_parameters_are_checked_by_the_flow_s_schema(play: Play):
    await play.flow(parameterSchema={"type": "object", "properties": {"name": {"type": "string"}}})
    await play.deployment(parameters={"name": 3})
    condition = await play.ready(DEPLOYMENTS, "hello", "False")
    assert "must be string, not 3" in condition["message"]


async def test_a_pod_template_that_the_api_server_would_refuse(play: Play):
    await play.flow()
    await play.deployment(infrastructure={"podTemplate": {"spec": {"dnsPolicy": "Sometimes"}}})
    condition = await play.ready(DEPLOYMENTS, "hello", "False")
    assert condition["reason"] == "InvalidPodTemplate"
    assert "dnsPolicy" in condition["message"]
    status = await play.phase(await play.run(), "Failed")
    assert (status["reason"], "dnsPolicy" in status["message"]) == ("InvalidPodTemplate", True)
    assert await play.jobs() == []


async def test_parameters_that_are_too_large(play: Play):
    await play.flow()
    await play.deployment()
    status = await play.phase(await play.run(parameters={"name": "x" * 70_000}), "Failed")
    assert status["reason"] == "ParametersTooLarge"


async def test_a_queue_says_that_it_was_seen(play: Play):
    await play.queue("narrow", concurrencyLimit=2)
    assert "2" in (await play.ready(WORK_QUEUES, "narrow", "True"))["message"]


async def test_each_version_of_inline_code_is_kept_for_the_runs_that_began_with_it(play: Play):
    await play.flow()
    await play.deployment()
    old_run = await play.run("old")
    old_pod = await play.pod(old_run)
    for version in range(7):
        code = f"{HELLO}\n# {version}\n"
        await play.client.patch(FLOWS, "hello", {"spec": {"source": {"inline": code}}}, play.namespace)

        async def judged() -> bool:
            body = await play.client.get(FLOWS, "hello", play.namespace)
            return body["status"]["observedGeneration"] == body["metadata"]["generation"]

        await until(judged)
    new_pod = await play.pod(await play.run("new"))
    volumes = [
        next(v["configMap"]["name"] for v in pod["spec"]["volumes"] if v["name"] == "levada-code")
        for pod in (old_pod, new_pod)
    ]
    items, _ = await play.client.list(CONFIG_MAPS, play.namespace, label_selector="levada.dev/flow=hello")
    kept = {item["metadata"]["name"] for item in items}
    assert set(volumes) <= kept
    assert len(set(volumes)) == 2
    assert len(kept) == 6, "the newest five and the one that a run needs"
    assert all(item["immutable"] for item in items)


async def test_nothing_is_written_on_objects_but_their_status(play: Play):
    await play.flow()
    await play.deployment()
    run = await play.run()
    await play.ends(await play.pod(run))
    await play.phase(run, "Completed")
    from levada.resources.kinds import FLOW_RUNS

    for kind, name in ((FLOWS, "hello"), (DEPLOYMENTS, "hello"), (FLOW_RUNS, run)):
        metadata = (await play.client.get(kind, name, play.namespace))["metadata"]
        assert "finalizers" not in metadata and "annotations" not in metadata
