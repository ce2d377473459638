"""Every value of values.yaml changes what is rendered, in the place that it names."""

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

CHARTS = Path(__file__).parents[2] / "charts"
EVERYTHING = {
    "metrics": {
        "serviceMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
    },
    "networkPolicy": {"enabled": True, "runs": True},
    "kueue": {"enabled": True, "clusterQueue": "research"},
    "dashboard": {
        "enabled": True,
        "replicas": 2,
        "ingress": {"enabled": True, "host": "levada.example"},
        "networkPolicy": {"enabled": True},
    },
}
PODS = {"metrics": {"serviceMonitor": {"enabled": False}, "podMonitor": {"enabled": True}}}
PROXY = {"dashboard": {"mode": "proxy", "proxySecret": {"name": "shared"}}}
HASH = "sha256:" + "0" * 64


class Case(NamedTuple):
    """A value, and what is then in the rendered text that was not there before (with !: that is no longer there)."""

    path: str
    value: Any
    text: str
    beside: Mapping[str, Any] = MappingProxyType({})


CASES = [
    Case("image.repository", "registry/op", "image: registry/op:0.1.0"),
    Case("image.tag", "9.9", "image: levada-operator:9.9"),
    Case("image.digest", HASH, f"image: levada-operator@{HASH}"),
    Case("image.pullPolicy", "Never", "imagePullPolicy: Never"),
    Case("flowImage.repository", "registry/flow", "--default-image=registry/flow:0.1.0"),
    Case("flowImage.tag", "9.9", "--default-image=levada-flow:9.9"),
    Case("imagePullSecrets", [{"name": "pull"}], "- name: pull"),
    Case("fullname", "shard-b", "name: shard-b-leases"),
    Case("commonLabels", {"team": "data"}, "team: data"),
    Case("crds.enabled", True, "name: flowruns.levada.dev"),
    Case("crds.keep", False, "!helm.sh/resource-policy: keep", {"crds": {"enabled": True}}),
    Case("flowNamespaces", ["team-a"], "namespace: team-a"),
    Case("namespaced", True, "--namespace=default"),
    Case("shardSelector", "levada.dev/shard=a", "--shard-selector=levada.dev/shard=a"),
    Case("serviceAccount.create", False, "!kind: ServiceAccount\nmetadata"),
    Case("serviceAccount.name", "other", "serviceAccountName: other"),
    Case("serviceAccount.annotations", {"cloud/role": "operator"}, "cloud/role: operator"),
    Case("rbac.create", False, "!kind: ClusterRoleBinding"),
    Case("rbac.people", False, "!name: levada-view"),
    Case("admissionPolicy.enabled", False, "!kind: ValidatingAdmissionPolicyBinding"),
    Case("runner.serviceAccountAnnotations", {"cloud/role": "runner"}, "cloud/role: runner"),
    Case("replicas", 3, "replicas: 3"),
    Case("podDisruptionBudget.enabled", False, "!kind: PodDisruptionBudget"),
    Case("podDisruptionBudget.maxUnavailable", 2, "maxUnavailable: 2"),
    Case("leaderElection.leaseDurationSeconds", 30, "--lease-duration=30"),
    Case("leaderElection.renewDeadlineSeconds", 9.5, "--renew-deadline=9.5"),
    Case("leaderElection.retryPeriodSeconds", 1.5, "--retry-period=1.5"),
    Case("storage.url", "s3://bucket/levada", "--storage=s3://bucket/levada"),
    Case("storage.allowed", ["s3://bucket/a"], "--allow-storage=s3://bucket/a"),
    Case("notifications.allowedHosts", ["a.example", "*.b.example"], 'value: "a.example *.b.example"'),
    Case(
        "notifications.secrets",
        [{"namespace": "team-a", "name": "slack", "secretName": "team-a-slack"}],
        "mountPath: /var/run/levada/secrets/team-a/slack",
    ),
    Case("maxActiveRuns", 7, "--max-active-runs=7"),
    Case("nodeLostAfterSeconds", 77, "--node-lost-after=77"),
    Case("historyIntervalSeconds", 77, "--history-interval=77"),
    Case("apiWritesPerSecond", 77, "--api-writes-per-second=77"),
    Case("verbose", True, "- --verbose"),
    Case("extraArgs", ["--workers=8"], "- --workers=8"),
    Case("extraEnv", [{"name": "AWS_REGION", "value": "eu"}], "name: AWS_REGION"),
    Case("extraEnvFrom", [{"secretRef": {"name": "keys"}}], "name: keys"),
    Case("extraVolumes", [{"name": "more", "emptyDir": {}}], "name: more"),
    Case("extraVolumeMounts", [{"name": "more", "mountPath": "/more"}], "mountPath: /more"),
    Case("resources", {"limits": {"memory": "1Gi"}}, "memory: 1Gi"),
    Case("podAnnotations", {"of/pods": "x"}, "of/pods: x"),
    Case("podLabels", {"of/pods": "z"}, "of/pods: z"),
    Case("podSecurityContext", {"runAsUser": 1234}, "runAsUser: 1234"),
    Case("securityContext", {"procMount": "Default"}, "procMount: Default"),
    Case("priorityClassName", "system-cluster-critical", "priorityClassName: system-cluster-critical"),
    Case("nodeSelector", {"disk": "ssd"}, "disk: ssd"),
    Case("tolerations", [{"key": "infra", "operator": "Exists"}], "key: infra"),
    Case("affinity", {"nodeAffinity": {}}, "nodeAffinity: {}"),
    Case("topologySpreadConstraints", [{"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}], "topologyKey: zone"),
    Case("terminationGracePeriodSeconds", 77, "terminationGracePeriodSeconds: 77"),
    *(
        Case(f"probes.{probe}.{name}", value, f"{name}: {value}")
        for probe in ("liveness", "readiness")
        for name, value in (("periodSeconds", 71), ("timeoutSeconds", 72), ("failureThreshold", 73))
    ),
    Case("metrics.port", 9999, "--metrics-address=0.0.0.0:9999"),
    Case("metrics.deployments", 77, "--metrics-deployments=77"),
    Case("metrics.exemplars", True, "- --metrics-exemplars"),
    Case("metrics.service.enabled", False, "!kind: Service\n", {"tests": {"enabled": False}, **PODS}),
    Case("metrics.service.annotations", {"of/service": "x"}, "of/service: x"),
    Case("metrics.serviceMonitor.enabled", False, "!kind: ServiceMonitor"),
    Case("metrics.serviceMonitor.labels", {"of/monitor": "x"}, "of/monitor: x"),
    Case("metrics.serviceMonitor.interval", "77s", "interval: 77s"),
    Case("metrics.podMonitor.enabled", True, "kind: PodMonitor", {"metrics": {"serviceMonitor": {"enabled": False}}}),
    Case("metrics.podMonitor.labels", {"of/monitor": "x"}, "of/monitor: x", PODS),
    Case("metrics.podMonitor.interval", "77s", "interval: 77s", PODS),
    Case("metrics.prometheusRule.enabled", False, "!kind: PrometheusRule"),
    Case("metrics.prometheusRule.labels", {"of/rules": "x"}, "of/rules: x"),
    Case("metrics.prometheusRule.runbookUrl", "https://git.example/run", "runbook_url: https://git.example/run/LevadaOperatorDown.md"),
    Case("metrics.dashboard.enabled", False, "!levada.json: |"),
    Case("metrics.dashboard.labels", {"of/dashboard": "x"}, "of/dashboard: x"),
    Case("networkPolicy.enabled", False, "!port: metrics\n  egress"),
    Case("networkPolicy.metricsFrom", [{"namespaceSelector": {"matchLabels": {"a": "monitoring"}}}], "a: monitoring"),
    Case("networkPolicy.egress", [{"ports": [{"port": 443}]}], "port: 443"),
    Case("networkPolicy.runs", False, "!name: levada-runs"),
    Case("networkPolicy.runsAllow", ["git"], "port: 9418", {"networkPolicy": {"runsEgress": []}}),
    Case("networkPolicy.runsEgress", [{"ports": [{"port": 444}]}], "port: 444"),
    Case("kueue.enabled", False, "!kind: LocalQueue"),
    Case("kueue.localQueue", "research-queue", "name: research-queue"),
    Case("kueue.clusterQueue", "physics", "clusterQueue: physics"),
    Case("dask.enabled", True, "    - from:\n        - podSelector:"),
    Case("dashboard.enabled", False, "!--auth=token"),
    Case("dashboard.fullname", "pages", "name: pages-leases"),
    Case("dashboard.replicas", 3, "replicas: 3"),
    Case("dashboard.mode", "anonymous", "--auth=anonymous"),
    Case("dashboard.proxySecret.name", "other", 'secretName: "other"', PROXY),
    Case("dashboard.proxySecret.key", "other", 'key: "other"', PROXY),
    Case("dashboard.clusterName", "blue", "--cluster-name=blue"),
    Case("dashboard.storages", ["s3://bucket/levada"], "--storage=s3://bucket/levada"),
    Case("dashboard.allowedHosts", ["runs.example"], "--allow-host=runs.example"),
    Case("dashboard.port", 9999, "--port=9999"),
    Case("dashboard.extraArgs", ["--context=x"], "- --context=x"),
    Case("dashboard.extraEnv", [{"name": "AWS_REGION", "value": "eu"}], "name: AWS_REGION"),
    Case("dashboard.extraEnvFrom", [{"secretRef": {"name": "keys"}}], "name: keys"),
    Case("dashboard.extraVolumes", [{"name": "more", "emptyDir": {}}], "name: more"),
    Case("dashboard.extraVolumeMounts", [{"name": "more", "mountPath": "/more"}], "mountPath: /more"),
    Case("dashboard.resources", {"limits": {"memory": "1Gi"}}, "memory: 1Gi"),
    Case("dashboard.podAnnotations", {"of/pods": "x"}, "of/pods: x"),
    Case("dashboard.podLabels", {"of/pods": "z"}, "of/pods: z"),
    Case("dashboard.priorityClassName", "high", "priorityClassName: high"),
    Case("dashboard.nodeSelector", {"disk": "ssd"}, "disk: ssd"),
    Case("dashboard.tolerations", [{"key": "infra", "operator": "Exists"}], "key: infra"),
    Case("dashboard.affinity", {"nodeAffinity": {}}, "nodeAffinity: {}"),
    Case("dashboard.podDisruptionBudget.enabled", False, "!kind: PodDisruptionBudget"),
    Case("dashboard.podDisruptionBudget.maxUnavailable", 2, "maxUnavailable: 2"),
    Case("dashboard.serviceAccount.create", False, "!kind: ServiceAccount\nmetadata"),
    Case("dashboard.serviceAccount.name", "other", "serviceAccountName: other"),
    Case("dashboard.serviceAccount.annotations", {"cloud/role": "dashboard"}, "cloud/role: dashboard"),
    Case("dashboard.service.type", "LoadBalancer", "type: LoadBalancer"),
    Case("dashboard.service.port", 8080, "port: 8080"),
    Case("dashboard.service.annotations", {"of/service": "x"}, "of/service: x"),
    Case("dashboard.ingress.enabled", False, "!kind: Ingress"),
    Case("dashboard.ingress.host", "runs.example", "--allow-host=runs.example"),
    Case("dashboard.ingress.className", "nginx", "ingressClassName: nginx"),
    Case("dashboard.ingress.tls", [{"secretName": "certificate"}], "secretName: certificate"),
    Case("dashboard.ingress.annotations", {"of/ingress": "x"}, "of/ingress: x"),
    Case("dashboard.networkPolicy.enabled", False, "!port: http\n  egress"),
    Case("dashboard.networkPolicy.from", [{"podSelector": {"matchLabels": {"a": "proxy"}}}], "a: proxy"),
    Case("dashboard.networkPolicy.egress", [{"ports": [{"port": 443}]}], "port: 443"),
    Case("tests.enabled", False, "!helm.sh/hook: test"),
]  # fmt: skip


@pytest.fixture(scope="session")
def generate():
    sys.path.insert(0, str(CHARTS))
    try:
        spec = importlib.util.spec_from_file_location("chart_generate", CHARTS / "generate.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(CHARTS))
    return module


def merged(*values: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for each in values:
        for name, value in each.items():
            both = isinstance(value, dict) and isinstance(result.get(name), dict)
            result[name] = merged(result[name], value) if both else value
    return result


def nested(path: str, value: Any) -> dict[str, Any]:
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


def test_every_value_has_a_case(generate):
    assert [case.path for case in CASES] == [".".join(value.path) for value in generate.values() if value.free]


def test_every_value_is_explained(generate):
    assert [value.path for value in generate.values() if value.free and not value.text] == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path)
def test_a_value_is_rendered(render_text, case):
    base = merged({"crds": {"enabled": False}}, EVERYTHING, case.beside)
    # What the case is about stands in neither of the two but by itself.
    before, after = render_text(without(base, case.path)), render_text(merged(base, nested(case.path, case.value)))
    text = case.text.removeprefix("!")
    if case.text != text:
        before, after = after, before
    assert after.count(text) > before.count(text), difference(before, after)


def without(values: dict[str, Any], path: str) -> dict[str, Any]:
    """The values without one of them; but what everything else needs stays on."""
    name, _, rest = path.partition(".")
    if (
        name not in values
        or rest in {"enabled", "clusterQueue", "runs", "host", "proxySecret.name"}
        or path.endswith(".enabled")
    ):
        return values
    if not rest:
        return {key: value for key, value in values.items() if key != name}
    return values | {name: without(values[name], rest)}


def difference(before: str, after: str) -> str:
    return "\n".join(sorted(set(after.splitlines()) ^ set(before.splitlines())))
