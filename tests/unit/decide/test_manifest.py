"""The Job of an attempt."""

import copy
import json

import pytest

from levada.agent.environment import expand
from levada.decide.definitions import RetryPolicy
from levada.decide.manifest import Code, build_job, escape, merge_template
from levada.decide.views import job_view
from levada.resources import names
from support.facts import SETTINGS, T0, a_deployment, a_run, env_of

CODE = Code("f", "flow.py:main", names.CODE_DIR, "f-code-1")


def job(*, run=None, code=CODE, attempt=1, parameters="{}", **deployment):
    return build_job(
        run or a_run(),
        a_deployment(**deployment),
        code,
        attempt=attempt,
        parameters=parameters,
        settings=SETTINGS,
        now=T0,
    )


def pod_of(manifest):
    return manifest["spec"]["template"]["spec"]


def flow_of(manifest):
    (found,) = [item for item in pod_of(manifest)["containers"] if item["name"] == names.CONTAINER_NAME]
    return found


def test_name_owner_and_labels():
    manifest = job(attempt=3, run=a_run(schedule="nightly"))
    assert manifest["metadata"]["name"] == "r-3"
    (owner,) = manifest["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (
        "FlowRun",
        "run-uid",
        True,
        False,
    )
    labels = manifest["metadata"]["labels"]
    assert labels == manifest["spec"]["template"]["metadata"]["labels"]
    assert labels == {
        names.LABEL_RUN: "r", names.LABEL_ATTEMPT: "3", names.LABEL_DEPLOYMENT: "d", names.LABEL_QUEUE: "default",
        names.LABEL_FLOW: "f", names.LABEL_MANAGED_BY: "levada", names.LABEL_SCHEDULE: "nightly",
    }  # fmt: skip
    for metadata in (manifest["metadata"], manifest["spec"]["template"]["metadata"]):
        assert metadata["annotations"] == {names.ANNOTATION_RUN_UID: "run-uid"}


def test_one_pod_once():
    manifest = job(timeout_s=60)
    assert {key: manifest["spec"][key] for key in ("backoffLimit", "completions", "parallelism", "activeDeadlineSeconds")} == {
        "backoffLimit": 0, "completions": 1, "parallelism": 1, "activeDeadlineSeconds": 60,
    }  # fmt: skip
    assert pod_of(manifest)["restartPolicy"] == "Never"
    assert "activeDeadlineSeconds" not in job()["spec"]


def test_what_the_runner_is_told():
    env = env_of(job(attempt=2, run=a_run(code_failures=1), retries=RetryPolicy(3), grace_s=45, parameters='{"a":1}'))
    assert env == {
        names.ENV_RUN: "r", names.ENV_RUN_UID: "run-uid", names.ENV_NAMESPACE: "ns", names.ENV_ATTEMPT: "2",
        names.ENV_RETRIES_LEFT: "2", names.ENV_INFRASTRUCTURE_RETRIES: "3", names.ENV_GRACE_SECONDS: "45", names.ENV_DEPLOYMENT: "d", names.ENV_ENTRYPOINT: "flow.py:main",
        names.ENV_CODE_DIR: names.CODE_DIR, names.ENV_PARAMETERS: '{"a":1}', names.ENV_SERVICE_ACCOUNT_DIR: names.SERVICE_ACCOUNT_DIR,
        names.ENV_RESULTS_KEY: "r-run-uid", names.ENV_GOES_ON: "true",
        names.ENV_TERMINATION_LOG: names.TERMINATION_LOG, names.ENV_CREATED_AT: "2026-03-01T12:00:00.000Z",
        names.ENV_POD: {"fieldRef": {"fieldPath": "metadata.name"}},
        names.ENV_NODE: {"fieldRef": {"fieldPath": "spec.nodeName"}}, "TMPDIR": names.SCRATCH_DIR, "HOME": names.SCRATCH_DIR,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("traceparent", "told"),
    [("00-11112222333344445555666677778888-aaaabbbbccccdddd-01", True), ("", False), ("00-$(SECRET)-a-01", False)],
)
def test_a_run_goes_on_with_the_trace_that_it_was_ordered_in(traceparent, told):
    env = env_of(job(run=a_run(traceparent=traceparent)))
    assert env.get(names.ENV_TRACEPARENT) == (traceparent if told else None)


def test_parameters_are_not_expanded_by_kubernetes():
    assert env_of(job(parameters=json.dumps({"a": "$(HOME)"})))[names.ENV_PARAMETERS] == '{"a": "$$(HOME)"}'


@pytest.mark.parametrize("text", ["$(HOME)", "$$(HOME)", "a$$b", "$", "$$$(X)$"])
def test_what_was_escaped_is_what_kubernetes_makes_of_it(text):
    assert expand(escape(text), {"HOME": "/root", "X": "x"}) == text


def test_the_job_knows_the_order_that_it_gave():
    manifest = job(code=Code("f", "fl$w.py:main", "/opt"))
    assert job_view(manifest).entrypoint == "fl$w.py:main"


def test_a_job_with_an_unreadable_order_is_looked_at_all_the_same():
    manifest = job()
    for broken in ("{", "[]", "1", ""):
        for item in flow_of(manifest)["env"]:
            if item["name"] == names.ENV_ORDER:
                item["value"] = broken
        assert job_view(manifest).entrypoint == ""


def test_the_restricted_pod_security_standard():
    pod, flow = pod_of(job()), flow_of(job())
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert flow["securityContext"]["allowPrivilegeEscalation"] is False
    assert flow["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert flow["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["automountServiceAccountToken"] is False
    assert {kind for volume in pod["volumes"] for kind in volume if kind != "name"} == {
        "projected",
        "emptyDir",
        "configMap",
    }


def test_code_in_the_image_is_not_mounted():
    manifest = job(code=Code("f", "flows/a.py:main", "/opt"))
    assert [volume["name"] for volume in pod_of(manifest)["volumes"]] == ["levada-identity", "levada-scratch"]
    assert env_of(manifest)[names.ENV_CODE_DIR] == "/opt"


def test_any_container_node_or_an_agent_that_serves_the_queue():
    terms = pod_of(job(queue="gpu"))["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert [(term["matchExpressions"][0]["key"], term["matchExpressions"][0]["operator"]) for term in terms] == [
        (names.LABEL_AGENT, "DoesNotExist"), (names.QUEUE_LABEL_PREFIX + "gpu", "In"),
    ]  # fmt: skip


def test_infrastructure_fields():
    manifest = job(
        infrastructure={
            "image": "me/flow:1", "imagePullPolicy": "Always", "imagePullSecrets": [{"name": "s"}], "nodeSelector": {"a": "b"},
            "resources": {"limits": {"memory": "1Gi"}}, "envFrom": [{"secretRef": {"name": "x"}}],
            "env": [{"name": "A", "value": "1"}, {"name": "HOME", "value": "/home/me"}],
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
        },
        service_account="mine",
    )  # fmt: skip
    pod, flow = pod_of(manifest), flow_of(manifest)
    assert (flow["image"], flow["imagePullPolicy"], flow["resources"]) == (
        "me/flow:1",
        "Always",
        {"limits": {"memory": "1Gi"}},
    )
    assert (pod["serviceAccountName"], pod["nodeSelector"], pod["imagePullSecrets"]) == (
        "mine",
        {"a": "b"},
        [{"name": "s"}],
    )
    assert [item["key"] for item in pod["tolerations"]] == [names.TAINT_AGENT, "gpu"]
    assert (env_of(manifest)["A"], env_of(manifest)["HOME"]) == ("1", "/home/me")
    assert flow["envFrom"] == [{"secretRef": {"name": "x"}}]


def test_the_default_image_is_the_operator_s():
    assert flow_of(job())["image"] == "levada-flow:test"


def with_template(template):
    return job(infrastructure={"podTemplate": template})


def test_pod_template_adds_and_changes():
    manifest = with_template(
        {
            "metadata": {"annotations": {"team": "a"}},
            "spec": {
                "priorityClassName": "high",
                "securityContext": {"runAsUser": 1000},
                "containers": [{"name": "flow", "env": [{"name": "A", "value": "1"}]}, {"name": "proxy", "image": "p"}],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "c"}}],
                "tolerations": [{"key": "gpu", "operator": "Exists"}],
            },
        }
    )
    pod = pod_of(manifest)
    assert manifest["spec"]["template"]["metadata"]["annotations"] == {"team": "a", names.ANNOTATION_RUN_UID: "run-uid"}
    assert (pod["priorityClassName"], pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsNonRoot"]) == (
        "high",
        1000,
        True,
    )
    assert [item["name"] for item in pod["containers"]] == ["flow", "proxy"]
    assert env_of(manifest)["A"] == "1"
    assert "data" in [volume["name"] for volume in pod["volumes"]]
    assert [item["key"] for item in pod["tolerations"]] == [names.TAINT_AGENT, "gpu"]


PLAIN = job()


@pytest.mark.parametrize(
    "template",
    [
        {"metadata": {"labels": {names.LABEL_RUN: "other"}, "name": "x", "finalizers": ["a/b"]}},
        {"metadata": None},
        {"metadata": 3, "spec": 3},
        {"spec": {"restartPolicy": "Always", "automountServiceAccountToken": True}},
        {"spec": {"containers": None}},
        {"spec": {"containers": [{"name": "flow", "command": ["sh"], "args": ["-c", "true"]}]}},
        {"spec": {"containers": [{"name": "flow", "env": [{"name": names.ENV_RUN, "value": "other"}]}]}},
        {"spec": {"containers": [{"name": "flow", "env": None, "volumeMounts": None}]}},
        {"spec": {"containers": [{"name": "flow", "volumeMounts": [{"name": "x", "mountPath": names.CODE_DIR}]}]}},
        {"spec": {"containers": [{"name": "flow", "terminationMessagePath": "/tmp/x"}]}},
        {"spec": {"volumes": [{"name": "levada-code", "emptyDir": {}}]}},
        {"spec": {"volumes": None}},
    ],
)
def test_pod_template_cannot_break_what_the_run_lives_on(template):
    manifest = with_template(template)
    metadata, plain_metadata = manifest["spec"]["template"]["metadata"], PLAIN["spec"]["template"]["metadata"]
    assert metadata == plain_metadata
    pod, plain = pod_of(manifest), pod_of(PLAIN)
    for key in ("restartPolicy", "automountServiceAccountToken"):
        assert pod[key] == plain[key]
    flow, plain_flow = flow_of(manifest), flow_of(PLAIN)
    for key in ("command", "terminationMessagePath", "terminationMessagePolicy"):
        assert flow[key] == plain_flow[key]
    assert "args" not in flow
    ours = {name: value for name, value in env_of(PLAIN).items() if name.startswith("LEVADA_")}
    assert {name: env_of(manifest)[name] for name in ours} == ours
    for mount in plain_flow["volumeMounts"]:
        assert mount in flow["volumeMounts"]
    for volume in plain["volumes"]:
        assert volume in [{key: value for key, value in item.items() if key in volume} for item in pod["volumes"]]
    assert len([volume["name"] for volume in pod["volumes"]]) == len({volume["name"] for volume in pod["volumes"]})


def test_merging_changes_neither_argument():
    base, patch = (
        {"a": {"b": [1]}, "env": [{"name": "A", "value": "1"}]},
        {"a": {"c": [2]}, "env": [{"name": "A", "value": "2"}]},
    )
    before = copy.deepcopy((base, patch))
    merged = merge_template(base, patch)
    merged["a"]["c"].append(3)
    assert (base, patch) == before
    assert merged == {"a": {"b": [1], "c": [2, 3]}, "env": [{"name": "A", "value": "2"}]}


def test_null_takes_away():
    assert merge_template({"a": 1, "b": 2}, {"a": None}) == {"b": 2}
