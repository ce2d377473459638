"""Objects as users write them: which are taken, which are refused, and what a refused user reads."""

import json

import pytest

from levada.kube import ApiError, Invalid
from levada.resources.kinds import LEVADA_KINDS
from levada.resources.models import Deployment, FlowRun, Schedule, parse

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("installed")]

REF = {"deploymentRef": {"name": "etl"}}
INLINE = {"entrypoint": "flow.py:main", "source": {"inline": "x = 1\n"}}
FLOW = {"flowRef": {"name": "etl"}}


def flow(**spec):
    return "Flow", {**INLINE, **spec}


def deployment(**spec):
    return "Deployment", {**FLOW, **spec}


def infrastructure(**fields):
    return deployment(infrastructure=fields)


def schedule(**spec):
    return "Schedule", {**REF, **spec}


def flow_run(**spec):
    return "FlowRun", {**REF, **spec}


GOOD = {
    "a flow in a ConfigMap": flow(source={"configMap": {"name": "code"}}),
    "a flow in a bucket": flow(entrypoint="etl/flow.py:main", source={"s3": {"bucket": "flow-code", "path": "a/b", "endpointUrl": "http://minio:9000", "region": "x", "secretRef": {"name": "keys"}}}),
    "a flow in a folder of the image": flow(entrypoint="flows/etl/flow.py:main", source={"image": {"path": "/app"}}),
    "a flow with all it can say": flow(description="d", version="1.2", parameterSchema={"type": "object", "any": {"thing": 1}}),
    "a function with an underscore": flow(entrypoint="my-flow_1.py:_main2"),
    "a deployment that says nothing else": deployment(),
    "a deployment with a limit": deployment(priority=-5, concurrency={"limit": 1, "policy": "Replace"}),
    "a queue of Kueue's": ("WorkQueue", {"concurrencyLimit": 0, "localQueue": "team", "workloadPriorityClass": "high"}),
    "slots that are closed for now": ("ConcurrencyLimit", {"limit": 0, "slotDecayPerSecond": 0.5}),
    "amounts as numbers and as text": infrastructure(resources={"requests": {"cpu": 2, "memory": "1.5Gi"}, "limits": {"cpu": "500m", "memory": "1e9", "nvidia.com/gpu": 1}}),
    "a variable from a Secret": infrastructure(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
    "a variable with no value": infrastructure(env=[{"name": "A"}]),
    "no retries and the longest wait": deployment(retries={"limit": 0, "delaySeconds": 600}),
    "a failure policy": deployment(failurePolicy={"rules": [{"action": "Fail", "onExitCodes": {"values": [2, 42]}}, {"action": "RetryInfrastructure", "onReasons": ["OOMKilled"]}]}),
    "results that are kept": deployment(persistResults=True),
    "a suspended run": flow_run(suspend=True),
    "a rerun from scratch": flow_run(retryOf="etl-1", fromScratch=True),
    "cron": schedule(cron="*/5 * * * *"),
    "an interval with an anchor": schedule(intervalSeconds=60, anchor="2026-01-01T00:00:00Z"),
    "a rule": schedule(rrule="FREQ=MONTHLY;BYMONTHDAY=-1"),
    "a start before the end": schedule(cron="0 0 * * *", startTime="2026-01-01T00:00:00Z", endTime="2026-01-01T00:00:01+00:00"),
    "a run without parameters": flow_run(),
    "a run with odd parameters": flow_run(parameters={"None": None, "empty": {}, "é": [[], [None]], "with.dot": 1.5}),
    "a rerun of a tick": flow_run(retryOf="etl-1", scheduledTime="2026-01-01T00:00:00.123456Z"),
    "a queue without a limit": ("WorkQueue", {}),
    "a queue that takes nothing": ("WorkQueue", {"concurrencyLimit": 0, "priority": -5}),
    "a block": ("Block", {"type": "slack-webhook", "secretRefs": {"url": {"name": "slack", "key": "url"}}}),
}  # fmt: skip

ONE_SOURCE = "a Flow has exactly one source: inline (the code itself), configMap (its keys are files), image (a path in it), s3 (a folder or an archive in a bucket) or git (a repository)"
ONE_TIME = "a Schedule has exactly one of cron, intervalSeconds and rrule: keep one and remove the others"
ENTRYPOINT = "entrypoint is a Python file and a function in it, as path.py:function, for example flow.py:main"
BARE = "inline code and a ConfigMap hold bare files"

BAD = {
    "no source": (flow(source={}), f"spec.source: Invalid value: {ONE_SOURCE}"),
    "two sources": (flow(source={"inline": "x", "image": {"path": "/"}}), ONE_SOURCE),
    "an entrypoint without a function": (flow(entrypoint="flow.py"), f"spec.entrypoint: Invalid value: {ENTRYPOINT}"),
    "an entrypoint that is a module": (flow(entrypoint="flow:main"), ENTRYPOINT),
    "an entrypoint with a call": (flow(entrypoint="flow.py:main()"), ENTRYPOINT),
    "inline code in a folder": (flow(entrypoint="a/flow.py:main"), BARE),
    "a ConfigMap's file in a folder": (flow(entrypoint="a/flow.py:main", source={"configMap": {"name": "c"}}), BARE),
    "a ConfigMap's file with a space": (flow(entrypoint="a flow.py:main", source={"configMap": {"name": "c"}}), BARE),
    "inline code that is too long": (flow(source={"inline": "x" * 262145}), "spec.source.inline: Too long: may not be more than 262144"),
    "a bucket in capital letters": (flow(source={"s3": {"bucket": "FLOWS"}}), "spec.source.s3.bucket"),
    "a service without a scheme": (flow(source={"s3": {"bucket": "flows", "endpointUrl": "minio:9000"}}), "spec.source.s3.endpointUrl"),
    "an unknown source": (flow(source={"svn": "x"}), 'unknown field "spec.source.svn"'),
    "no flowRef": (("Deployment", {}), "spec.flowRef: Required value"),
    "a flowRef that is text": (("Deployment", {"flowRef": "etl"}), "spec.flowRef"),
    "an unknown field": (deployment(timeout=5), 'unknown field "spec.timeout"'),
    "a misspelt field deep down": (infrastructure(enviroment=[]), 'unknown field "spec.infrastructure.enviroment"'),
    "a number as text": (deployment(timeoutSeconds="60"), 'spec.timeoutSeconds: Invalid value: "string"'),
    "a timeout of nothing": (deployment(timeoutSeconds=0), "spec.timeoutSeconds in body should be greater than or equal to 1"),
    "a negative limit": (deployment(retries={"limit": -1}), "spec.retries.limit in body should be greater than or equal to 0"),
    "a failure rule for nothing": (deployment(failurePolicy={"rules": [{"action": "Fail"}]}), "a rule of failurePolicy says what it is for"),
    "a failure rule for no reasons": (deployment(failurePolicy={"rules": [{"action": "Fail", "onReasons": []}]}), "a rule of failurePolicy says what it is for"),
    "a failure rule with an action of its own": (deployment(failurePolicy={"rules": [{"action": "Ignore", "onReasons": ["OOMKilled"]}]}), "Unsupported value"),
    "a failure rule for success": (deployment(failurePolicy={"rules": [{"action": "Fail", "onExitCodes": {"values": [0]}}]}), "should be greater than or equal to 1"),
    "no failure rules": (deployment(failurePolicy={"rules": []}), "should have at least 1 items"),
    "from scratch, but nothing is repeated": (flow_run(fromScratch=True), "fromScratch goes with retryOf"),
    "a delay beyond its maximum": (deployment(retries={"delaySeconds": 700}), "delaySeconds is at most maxDelaySeconds: raise maxDelaySeconds too"),
    "the cluster's delay beyond its maximum": (deployment(infrastructureRetries={"delaySeconds": 301}), "delaySeconds is at most maxDelaySeconds"),
    "an unquoted number as a variable": (infrastructure(env=[{"name": "A", "value": 1}]), 'spec.infrastructure.env[0].value: Invalid value: "integer"'),
    "a variable twice": (infrastructure(env=[{"name": "A"}, {"name": "A"}]), 'spec.infrastructure.env[1]: Duplicate value: {"name":"A"}'),
    "a variable with two values": (infrastructure(env=[{"name": "A", "value": "", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]), "an environment variable has a value or a valueFrom, not both"),
    "a variable that is ours": (infrastructure(env=[{"name": "LEVADA_RUN", "value": "x"}]), "spec.infrastructure.env[0].name: Invalid value: names that start with LEVADA_ are how the operator talks to the run"),
    "a variable with an equals sign": (infrastructure(env=[{"name": "A=b"}]), "has no '=': give name and value as two fields"),
    "an envFrom of nothing": (infrastructure(envFrom=[{"prefix": "a"}]), "names exactly one of configMapRef and secretRef"),
    "an amount that is none": (infrastructure(resources={"limits": {"memory": "lots"}}), "spec.infrastructure.resources.limits.memory"),
    "an unknown pull policy": (infrastructure(imagePullPolicy="Sometimes"), 'supported values: "Always", "IfNotPresent", "Never"'),
    "a queue with capitals": (deployment(workQueue="Big"), "workQueue is the name of a WorkQueue: lower-case letters, digits and '-', for example default"),
    "a tag twice": (deployment(tags=["a", "a"]), "Duplicate value"),
    "no time at all": (schedule(), f"spec: Invalid value: {ONE_TIME}"),
    "two times": (schedule(cron="0 0 * * *", intervalSeconds=5), ONE_TIME),
    "three times": (schedule(cron="0 0 * * *", intervalSeconds=5, rrule="FREQ=DAILY"), ONE_TIME),
    "an anchor for cron": (schedule(cron="0 0 * * *", anchor="2026-01-01T00:00:00Z"), "anchor goes with intervalSeconds: remove it, or use intervalSeconds"),
    "an end before the start": (schedule(cron="0 0 * * *", startTime="2026-01-02T00:00:00Z", endTime="2026-01-01T00:00:00Z"), "startTime is before endTime"),
    "a time that is none": (schedule(cron="0 0 * * *", startTime="tomorrow"), "spec.startTime"),
    "a time without a zone": (schedule(cron="0 0 * * *", startTime="2026-01-01T00:00:00"), "spec.startTime"),
    "an interval of nothing": (schedule(intervalSeconds=0), "greater than or equal to 1"),
    "an unknown catchUp": (schedule(cron="0 0 * * *", catchUp="Some"), 'supported values: "Skip", "Latest", "All"'),
    "an unknown concurrencyPolicy": (schedule(cron="0 0 * * *", concurrencyPolicy="Maybe"), 'supported values: "Allow", "Forbid", "Replace", "Queue"'),
    "a run of nothing": (("FlowRun", {}), "spec.deploymentRef: Required value"),
    "a run of a deployment without a name": (("FlowRun", {"deploymentRef": {"name": ""}}), "spec.deploymentRef.name"),
    "parameters as a list": (flow_run(parameters=[1]), 'spec.parameters: Invalid value: "array"'),
    "cancel as text": (flow_run(cancel="yes"), 'spec.cancel: Invalid value: "string"'),
    "a negative limit of a deployment": (("Deployment", {"flowRef": {"name": "f"}, "concurrency": {"limit": -1}}), "spec.concurrency.limit"),
    "a limit of a deployment that lets nothing run": (("Deployment", {"flowRef": {"name": "f"}, "concurrency": {"limit": 0}}), "greater than or equal to 1"),
    "an unknown concurrency policy": (("Deployment", {"flowRef": {"name": "f"}, "concurrency": {"limit": 1, "policy": "Drop"}}), 'supported values: "Queue", "Skip", "Replace"'),
    "a negative limit of slots": (("ConcurrencyLimit", {"limit": -1}), "spec.limit"),
    "a negative rate": (("ConcurrencyLimit", {"limit": 1, "slotDecayPerSecond": -0.5}), "spec.slotDecayPerSecond"),
    "slots without a limit": (("ConcurrencyLimit", {}), "spec.limit: Required value"),
    "a priority class without Kueue": (("WorkQueue", {"workloadPriorityClass": "high"}), "name a localQueue too"),
    "a negative limit of a queue": (("WorkQueue", {"concurrencyLimit": -1}), "spec.concurrencyLimit"),
    "a secret that is spelt out": (("Block", {"type": "t", "secretRefs": {"key": "hunter2"}}), "spec.secretRefs.key"),
    "a secret without a key": (("Block", {"type": "t", "secretRefs": {"key": {"name": "s"}}}), "spec.secretRefs.key.key: Required value"),
}  # fmt: skip

KINDS = sorted({kind for kind, _ in GOOD.values()})


async def dry_run(client, kind, spec, name="etl"):
    """Ask the server as `kubectl create --dry-run=server --validate=strict` does."""
    body = {"apiVersion": "levada.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    path = next(found for found in LEVADA_KINDS if found.kind == kind).path("default")
    return await client.request("POST", path, params={"dryRun": "All", "fieldValidation": "Strict"}, body=body)


@pytest.mark.parametrize("case", GOOD)
async def test_taken(client, case):
    kind, spec = GOOD[case]
    assert (await dry_run(client, kind, spec))["kind"] == kind


@pytest.mark.parametrize("case", BAD)
async def test_refused_with_words_that_help(client, case):
    (kind, spec), words = BAD[case]
    with pytest.raises(ApiError) as caught:
        await dry_run(client, kind, spec)
    assert words in caught.value.message


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "a" * 51,
            "has at most 50 characters, because Jobs, Pods and labels are named after it: choose a shorter metadata.name",
        ),
        ("a.b", "has no dots, because Pods are named after it"),
        ("Etl", "a lowercase RFC 1123 subdomain"),
        ("a_b", "a lowercase RFC 1123 subdomain"),
    ],
)
async def test_names(client, kind, name, words):
    spec = next(spec for found, spec in GOOD.values() if found == kind)
    with pytest.raises(Invalid) as caught:
        await dry_run(client, kind, spec, name)
    assert words in caught.value.message
    assert "metadata.name: Invalid value" in caught.value.message


@pytest.mark.parametrize("kind", KINDS)
async def test_the_longest_name(client, kind):
    spec = next(spec for found, spec in GOOD.values() if found == kind)
    assert await dry_run(client, kind, spec, "a" * 50)


def test_kubectl_passes_the_words_on(kubectl):
    kind, spec = flow(source={})
    body = {"apiVersion": "levada.dev/v1alpha1", "kind": kind, "metadata": {"name": "etl"}, "spec": spec}
    with pytest.raises(AssertionError) as caught:
        kubectl("apply", "-f", "-", stdin=body)
    assert f'The Flow "etl" is invalid: spec.source: Invalid value: {ONE_SOURCE}' in caught.value.stderr


def test_another_source_takes_the_place_of_the_one_that_is_there(kubectl, namespace):
    """Whoever applies it owns all of it: `levada deploy` after a ConfigMap by hand, and the other way round."""
    for manager, source in (("hand", {"configMap": {"name": "code"}}), ("deploy", {"inline": "x = 1"}), ("hand", {"git": {"url": "https://git.example/a", "branch": "main"}})):  # fmt: skip
        kind, spec = flow(source=source)
        body = {"apiVersion": "levada.dev/v1alpha1", "kind": kind, "metadata": {"name": "moved"}, "spec": spec}
        kubectl("apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", "-n", namespace, "-f", "-", stdin=json.dumps(body))  # fmt: skip
        assert json.loads(kubectl("get", "flow", "moved", "-n", namespace, "-o", "json"))["spec"]["source"] == source


def test_defaults_are_those_of_the_models(kubectl, namespace):
    """What the server fills in is what a reader of the model gets."""
    for model, short, spec in (
        (Deployment, "fdep", {**FLOW, "infrastructure": {}, "retries": {}, "infrastructureRetries": {}}),
        (Schedule, "fsched", {**REF, "cron": "0 0 * * *"}),
        (FlowRun, "fr", REF),
    ):
        body = {
            "apiVersion": "levada.dev/v1alpha1",
            "kind": model.__name__,
            "metadata": {"name": "d", "namespace": namespace},
            "spec": spec,
        }
        stored = json.loads(kubectl("create", "-o", "json", "-f", "-", stdin=body))
        assert parse(model, stored).spec == parse(model, body).spec
        assert json.loads(kubectl("get", short, "d", "-n", namespace, "-o", "json"))["spec"] == stored["spec"]
