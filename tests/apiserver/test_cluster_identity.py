"""Whoever is given a kubeconfig of the cluster is exactly who it says."""

import json

import pytest

pytestmark = pytest.mark.apiserver


def whoami(kubectl):
    return json.loads(kubectl("auth", "whoami", "-o", "json"))["status"]["userInfo"]


def test_administrator_may_do_everything(kubectl):
    assert "system:masters" in whoami(kubectl)["groups"]
    assert kubectl("auth", "can-i", "*", "*").strip() == "yes"


@pytest.mark.parametrize(
    ("user", "groups"),
    [
        ("jane", []),
        ("system:node:agent-1", ["system:nodes"]),
        (
            "system:serviceaccount:levada-system:levada-operator",
            ["system:serviceaccounts", "system:serviceaccounts:levada-system"],
        ),
    ],
)
def test_issued_kubeconfig_is_the_identity_asked_for(cluster, kubectl_for, tmp_path, user, groups):
    path = cluster.issue_kubeconfig(tmp_path / "issued", user, groups)
    them = whoami(kubectl_for(cluster.kubectl, path))
    assert them["username"] == user
    assert set(them["groups"]) == {*groups, "system:authenticated"}
    assert path.stat().st_mode & 0o077 == 0


def test_issued_identity_has_no_rights_of_its_own(cluster, kubectl_for, tmp_path):
    kubectl = kubectl_for(cluster.kubectl, cluster.issue_kubeconfig(tmp_path / "jane", "jane"))
    with pytest.raises(AssertionError, match='User "jane" cannot list resource "pods"'):
        kubectl("get", "pods")


def test_namespace_is_usable_at_once(kubectl, namespace):
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one", "namespace": namespace},
        "spec": {"containers": [{"name": "flow", "image": "none"}], "automountServiceAccountToken": False},
    }
    kubectl("wait", "--for=create", "serviceaccount/default", "-n", namespace, "--timeout=10s")
    assert "created" in kubectl("create", "-f", "-", stdin=pod)
