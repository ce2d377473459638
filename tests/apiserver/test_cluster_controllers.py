"""The controllers that runs depend on do their work in this cluster."""

import json
import time
from datetime import UTC, datetime

import pytest

from levada.cluster import Cluster

pytestmark = pytest.mark.apiserver


def job(namespace, **spec):
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "containers": [{"name": "flow", "image": "none"}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "one", "namespace": namespace},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}, **spec},
    }


def test_job_gets_a_pod_and_takes_it_along(kubectl, namespace):
    kubectl("create", "-f", "-", stdin=job(namespace))
    kubectl("wait", "--for=create", "pod", "-l", "job-name=one", "-n", namespace, "--timeout=20s")
    kubectl("wait", "--for=condition=PodScheduled=false", "pod", "-l", "job-name=one", "-n", namespace, "--timeout=20s")
    kubectl("delete", "job", "one", "-n", namespace, "--cascade=background")
    kubectl("wait", "--for=delete", "pod", "-l", "job-name=one", "-n", namespace, "--timeout=20s")


def test_job_that_takes_too_long_fails_and_is_cleared_away(kubectl, namespace):
    kubectl("create", "-f", "-", stdin=job(namespace, activeDeadlineSeconds=1, ttlSecondsAfterFinished=1))
    kubectl("wait", "--for=condition=Failed", "job/one", "-n", namespace, "--timeout=20s")
    kubectl("wait", "--for=delete", "job/one", "-n", namespace, "--timeout=20s")


def test_root_certificate_is_published(kubectl, namespace):
    kubectl("wait", "--for=create", "configmap/kube-root-ca.crt", "-n", namespace, "--timeout=20s")
    published = kubectl("get", "configmap", "kube-root-ca.crt", "-n", namespace, "-o", r"jsonpath={.data.ca\.crt}")
    assert published.startswith("-----BEGIN CERTIFICATE-----")


def test_service_account_gets_a_token_bound_to_its_pod(kubectl, kubectl_for, cluster, namespace, tmp_path):
    kubectl("wait", "--for=create", "serviceaccount/default", "-n", namespace, "--timeout=20s")
    kubectl("create", "-f", "-", stdin=job(namespace))
    kubectl("wait", "--for=create", "pod", "-l", "job-name=one", "-n", namespace, "--timeout=20s")
    pod = json.loads(kubectl("get", "pods", "-l", "job-name=one", "-n", namespace, "-o", "json"))["items"][0][
        "metadata"
    ]
    bound = ["--bound-object-kind=Pod", f"--bound-object-name={pod['name']}", f"--bound-object-uid={pod['uid']}"]
    token = kubectl("create", "token", "default", "-n", namespace, *bound).strip()

    config = json.loads(cluster.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    path = tmp_path / "token"
    path.write_text(json.dumps(config))
    them = json.loads(kubectl_for(cluster.kubectl, path)("auth", "whoami", "-o", "json"))["status"]["userInfo"]
    assert them["username"] == f"system:serviceaccount:{namespace}:default"
    assert them["extra"]["authentication.kubernetes.io/pod-name"] == [pod["name"]]


def test_deleted_namespace_goes_with_all_it_holds(kubectl):
    kubectl("create", "namespace", "test-doomed")
    kubectl("create", "configmap", "inside", "-n", "test-doomed")
    kubectl("delete", "namespace", "test-doomed", "--timeout=30s")
    assert "test-doomed" not in kubectl("get", "namespaces", "-o", "name")


def heartbeat(kubectl, node):
    """What a kubelet says about itself."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": now, "lastTransitionTime": now}
    room = {"cpu": "1", "memory": "1Gi", "pods": "10"}
    status = {"status": {"conditions": [ready], "capacity": room, "allocatable": room}}
    kubectl("patch", "node", node, "--subresource=status", "-p", json.dumps(status))


def test_pods_of_a_silent_node_are_deleted_while_another_node_lives(cluster_home, kubectl_for):
    """With the two options a dead agent shows in seconds instead of minutes.

    When every node is silent, Kubernetes takes the fault to be its own ("full disruption") and deletes nothing.
    """
    cluster = Cluster("silent", cluster_home)
    try:
        cluster.up(ephemeral=True, node_grace_seconds=3, unreachable_toleration_seconds=1)
        kubectl = kubectl_for(cluster.kubectl, cluster.kubeconfig)
        for name in ("silent", "living"):
            kubectl("create", "-f", "-", stdin={"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
            heartbeat(kubectl, name)
        kubectl("cordon", "living")
        kubectl("create", "-f", "-", stdin=job("default"))
        deadline = time.monotonic() + 40
        deleted = ""
        while not deleted and time.monotonic() < deadline:
            heartbeat(kubectl, "living")
            on_silent = ["-l", "job-name=one", "--field-selector=spec.nodeName=silent"]
            deleted = kubectl("get", "pods", *on_silent, "-o", "jsonpath={.items[*].metadata.deletionTimestamp}")
        assert deleted
        assert "Unknown" in kubectl("get", "node", "silent", "-o", "jsonpath={.status.conditions[*].status}")
    finally:
        cluster.down(delete=True)
