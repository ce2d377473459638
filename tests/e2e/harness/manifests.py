"""What the tests put into the cluster around Levada: namespaces of runs, and the operator's Deployment."""

from typing import Any

Manifest = dict[str, Any]
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
SAFE_POD = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
SAFE_CONTAINER = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def namespace(name: str, **labels: str) -> Manifest:
    """A namespace in which only pods of the `restricted` standard may be."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED | labels}}


def deployment(name: str, space: str, container: Manifest, **pod: Any) -> Manifest:
    """One pod of one container, with the label app=NAME."""
    container = {"name": name, "securityContext": SAFE_CONTAINER} | container
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"securityContext": SAFE_POD, "containers": [container]} | pod,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": space},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template},
    }
