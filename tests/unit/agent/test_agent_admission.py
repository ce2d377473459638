from dataclasses import replace

import pytest

from levada.agent.admission import Room, refusal
from levada.resources.names import CODE_DIR, SCRATCH_DIR, SERVICE_ACCOUNT_DIR

ROOM = Room(max_pods=3, allocatable={"cpu": "2", "memory": "1Gi"})


def test_what_the_operator_makes_is_accepted(make_pod):
    pod = make_pod(
        volumes=[
            {"name": "identity", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "c"}}, {"downwardAPI": {}}]}},
            {"name": "scratch", "emptyDir": {}},
            {"name": "code", "configMap": {"name": "code"}},
        ],
        container={
            "volumeMounts": [{"name": n, "mountPath": p} for n, p in (("identity", SERVICE_ACCOUNT_DIR), ("scratch", SCRATCH_DIR), ("code", CODE_DIR))],
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
        },
    )  # fmt: skip
    assert refusal(pod, ROOM) is None


@pytest.mark.parametrize(
    ("case", "changes", "reason", "words"),
    [
        ("no label", {"labels": {}}, "NotAFlowRun", "no label levada.dev/run"),
        ("a web server", {"container": {"name": "nginx"}}, "NotAFlowRun", "this pod has: nginx"),
        ("init", {"initContainers": [{"name": "i"}]}, "UnexpectedAdmissionError", "initContainers"),
        ("restarts", {"restartPolicy": "OnFailure"}, "UnexpectedAdmissionError", "restartPolicy is OnFailure"),
        ("host network", {"hostNetwork": True}, "UnexpectedAdmissionError", "hostNetwork"),
        ("windows", {"os": {"name": "windows"}}, "UnexpectedAdmissionError", "operating system"),
        ("no command", {"container": {"command": []}}, "UnexpectedAdmissionError", "no command"),
        ("probe", {"container": {"livenessProbe": {"exec": {}}}}, "UnexpectedAdmissionError", "livenessProbe"),
        ("tty", {"container": {"tty": True}}, "UnexpectedAdmissionError", "tty"),
        ("privileged", {"container": {"securityContext": {"privileged": True}}}, "UnexpectedAdmissionError", "privileged"),
        ("gpu", {"container": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}}, "UnexpectedAdmissionError", "nvidia.com/gpu: 1"),
        ("host path", {"volumes": [{"name": "v", "hostPath": {}}]}, "UnexpectedAdmissionError", "volume v is a hostPath"),
        ("pvc", {"volumes": [{"name": "v", "persistentVolumeClaim": {}}]}, "UnexpectedAdmissionError", "persistentVolumeClaim"),
        ("bundle", {"volumes": [{"name": "v", "projected": {"sources": [{"clusterTrustBundle": {}}]}}]}, "UnexpectedAdmissionError", "clusterTrustBundle"),
        ("root mount", {"container": {"volumeMounts": [{"name": "v", "mountPath": "/"}]}}, "UnexpectedAdmissionError", "not an absolute path"),
        ("dots", {"container": {"volumeMounts": [{"name": "v", "mountPath": "/a/../b"}]}}, "UnexpectedAdmissionError", "not an absolute path"),
        ("escape", {"container": {"volumeMounts": [{"name": "v", "mountPath": "/a", "subPath": "../x"}]}}, "UnexpectedAdmissionError", "leaves its volume"),
        ("expr", {"container": {"volumeMounts": [{"name": "v", "mountPath": "/a", "subPathExpr": "$(X)"}]}}, "UnexpectedAdmissionError", "subPathExpr"),
    ],
)  # fmt: skip
def test_what_is_refused(make_pod, case, changes, reason, words):
    found = refusal(make_pod(**changes), ROOM)
    assert found is not None, case
    assert found.reason == reason
    assert words in found.message


def test_two_containers_are_no_flow_run(make_pod):
    pod = make_pod()
    pod["spec"]["containers"].append({"name": "sidecar"})
    assert refusal(pod, ROOM).reason == "NotAFlowRun"


def asking(make_pod, **requests):
    return make_pod(container={"resources": {"requests": requests}})


@pytest.mark.parametrize(
    ("case", "room", "reason", "words"),
    [
        ("a place", {"held": 2}, None, ""),
        ("no place", {"held": 3}, "OutOfpods", "--max-pods 3"),
        ("a full disk", {"disk_problem": "the disk is almost full"}, "OutOfephemeral-storage", "almost full"),
        ("an end", {"stopping": True}, "NodeShutdown", "being stopped"),
    ],
)
def test_room(make_pod, case, room, reason, words):
    found = refusal(make_pod(), replace(ROOM, **{**room, "held": [make_pod()] * room.get("held", 0)}))
    assert (found.reason if found else None) == reason, case
    assert words in (found.message if found else "")


@pytest.mark.parametrize(
    ("case", "held", "wanted", "reason"),
    [
        ("all of it", [], {"cpu": "2", "memory": "1Gi"}, None),
        ("more cpu than there is", [], {"cpu": "2001m"}, "OutOfcpu"),
        ("more cpu than is left", [{"cpu": "1500m"}], {"cpu": "600m"}, "OutOfcpu"),
        ("what is left", [{"cpu": "1500m"}], {"cpu": "500m"}, None),
        ("more memory than is left", [{"memory": "600Mi"}, {"memory": "300Mi"}], {"memory": "200Mi"}, "OutOfmemory"),
    ],
)
def test_requests_are_added_up(make_pod, case, held, wanted, reason):
    found = refusal(asking(make_pod, **wanted), replace(ROOM, held=[asking(make_pod, **each) for each in held]))
    assert (found.reason if found else None) == reason, case
