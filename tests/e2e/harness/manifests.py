"""What the tests put into the cluster beside Levada: name resolution, an S3 service, namespaces of runs."""

from typing import Any

from e2e.harness import images

Manifest = dict[str, Any]
DNS_ADDRESS = "10.96.0.10"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
SAFE_POD = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
SAFE_CONTAINER = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
S3_SPACE = "storage"
S3_URL = f"http://s3.{S3_SPACE}.svc.cluster.local:5000"
BUCKET = "levada"
STORAGE = f"s3://{BUCKET}/runs"
# Whoever finds one of the two anywhere but in a Secret has found a leak.
S3_KEYS = {
    "AWS_ACCESS_KEY_ID": "canary-key-5QX",
    "AWS_SECRET_ACCESS_KEY": "canary-secret-7WK",
    "AWS_DEFAULT_REGION": "us-east-1",
}
# The part `infrastructure` of Deployments whose runs use the bucket.
WITH_BUCKET = {"image": images.EXAMPLES.name, "envFrom": [{"secretRef": {"name": "s3"}}]}
COREFILE = """
.:5353 {
    errors
    ready :8181
    kubernetes cluster.local in-addr.arpa
    cache 30
}
"""


def namespace(name: str, **labels: str) -> Manifest:
    """A namespace in which only pods of the `restricted` standard may be."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED | labels}}


def service(name: str, space: str, ports: list[Manifest], address: str | None = None) -> Manifest:
    """A Service for the pods with the label app=NAME."""
    spec = {"selector": {"app": name}, "ports": ports} | ({"clusterIP": address} if address else {})
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": space}, "spec": spec}


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


def dns() -> list[Manifest]:
    """CoreDNS, as kubeadm and kind install it, without a forwarder: there is no other network."""
    space, name = "kube-system", "coredns"
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    rbac = "rbac.authorization.k8s.io"
    container = {
        "image": images.COREDNS.name,
        "args": ["-conf", "/etc/coredns/Corefile"],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
    }
    volumes = [{"name": "config", "configMap": {"name": name}}]
    port = {"port": 53, "targetPort": 5353}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": space}},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": space}],
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": space},
            "data": {"Corefile": COREFILE},
        },
        deployment(name, space, container, serviceAccountName=name, volumes=volumes),
        service(name, space, [{"name": p.lower(), "protocol": p, **port} for p in ("UDP", "TCP")], DNS_ADDRESS),
    ]


def s3(space: str) -> list[Manifest]:
    """Moto's server as `s3.NAMESPACE`, on port 5000."""
    container = {
        "image": images.S3.name,
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],
        "readinessProbe": {"httpGet": {"path": "/moto-api/", "port": 5000}, "periodSeconds": 1, "timeoutSeconds": 5},
    }
    return [
        deployment("s3", space, container, volumes=[{"name": "scratch", "emptyDir": {}}]),
        service("s3", space, [{"port": 5000}]),
    ]


def s3_secret(space: str) -> Manifest:
    """What a run and the operator reach the bucket with."""
    values = S3_KEYS | {"AWS_ENDPOINT_URL": S3_URL}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3", "namespace": space}, "stringData": values}
