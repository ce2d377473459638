"""The chart as Helm has installed it on the node."""

import json

import pytest

from e2e.harness.manifests import RESTRICTED

pytestmark = pytest.mark.timeout(240)
SPACE = "levada-system"


def test_helm_test_finds_the_operator_by_its_name(helm, installed):
    assert "Phase:          Succeeded" in helm("test", "levada", "--timeout", "90s")


def test_operators_are_ready_where_restricted_is_enforced(kubectl, installed):
    labels = json.loads(kubectl("get", "namespace", SPACE, "-o", "json"))["metadata"]["labels"]
    assert labels.items() >= RESTRICTED.items()
    status = json.loads(kubectl("-n", SPACE, "get", "deployment", "levada-operator", "-o", "json"))["status"]
    assert status["readyReplicas"] == 2


def test_network_policies_are_there(kubectl, namespace):
    [operator] = json.loads(kubectl("-n", SPACE, "get", "networkpolicies", "-o", "json"))["items"]
    assert operator["spec"]["podSelector"]["matchLabels"]
    assert set(operator["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    [runs] = json.loads(kubectl("-n", namespace, "get", "networkpolicies", "-o", "json"))["items"]
    assert runs["spec"]["podSelector"]["matchExpressions"] == [{"key": "levada.dev/run", "operator": "Exists"}]
