"""The dashboard in the chart: arguments as the command line takes them, the names it answers to, its rights, and that no selector mixes it up with the operator."""

from collections.abc import Mapping
from typing import Any

import pytest
from typer.testing import CliRunner

from levada.cli import dashboard as command
from levada.dashboard import serve
from levada.dashboard.app import is_own_host
from levada.dashboard.settings import DashboardSettings
from levada.kube import config
from support.chart import CHART

NAME, SPACE = "levada-dashboard", "levada-system"
SHARED = {"mode": "proxy", "proxySecret": {"name": "shared", "key": "text"}}
LEASES = ("coordination.k8s.io/leases", "list")
NODES = {("/nodes", verb) for verb in ("get", "list", "watch")}
IMPERSONATE = {("/users", "impersonate"), ("/groups", "impersonate")}
LOGS = {("/pods", "list"), ("/events", "list"), ("/pods/log", "get")}
KINDS = ("flows", "deployments", "schedules", "flowruns", "workqueues", "blocks", "concurrencylimits", "backfills")
WATCHED = {(f"levada.dev/{kind}", verb) for kind in KINDS for verb in ("get", "list", "watch")}


@pytest.fixture
def installed(render):
    """`installed(mode="proxy", chart={"namespaced": True})` -> manifests, with the dashboard."""

    def run(chart: Mapping[str, Any] | None = None, **values: Any):
        return render({"dashboard": {"enabled": True} | values} | dict(chart or {}))

    return run


def pod_of(rendered):
    return rendered["Deployment", SPACE, NAME]["spec"]["template"]["spec"]


@pytest.fixture
def started(monkeypatch, tmp_path):
    """`started(manifests)` -> the settings with which the pod's command line starts the server."""
    monkeypatch.setattr(config, "load", lambda *_: None)
    secret = tmp_path / "secret"
    secret.write_text("a long random text\n")

    def run(rendered) -> DashboardSettings:
        container = pod_of(rendered)["containers"][0]
        assert container["args"][0] == "dashboard"
        mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
        arguments = [each.replace(f"{mounts.get('proxy')}/secret", str(secret)) for each in container["args"][1:]]
        found: list[DashboardSettings] = []
        monkeypatch.setattr(serve, "run", lambda _, settings, __: found.append(settings))
        said = CliRunner().invoke(command.app, arguments, catch_exceptions=False)
        assert said.exit_code == 0, said.output
        return found[0]

    return run


def test_the_command_line_takes_every_argument(installed, started):
    ingress = {"enabled": True, "host": "runs.example"}
    rendered = installed(
        {"namespaced": True, "flowNamespaces": ["team-a", "team-b"]},
        **SHARED, clusterName="blue", storages=["s3://bucket/levada"], allowedHosts=["more.example"], port=9000, ingress=ingress,
    )  # fmt: skip
    settings = started(rendered)
    assert (settings.host, settings.port, settings.mode) == ("0.0.0.0", 9000, "proxy")
    assert settings.proxy_secret == "a long random text"
    assert settings.namespaces == ("team-a", "team-b")
    assert settings.storages == ("s3://bucket/levada",)
    assert (settings.operator_namespace, settings.cluster) == (SPACE, "blue")
    assert {"runs.example", "more.example"} <= set(settings.hosts)


def test_by_default_it_watches_everything_and_reads_no_archive(installed, started):
    settings = started(installed())
    assert (settings.mode, settings.namespaces, settings.storages) == ("token", (), ())


def test_the_secret_of_the_proxy_is_mounted_where_it_is_read(installed):
    pod = pod_of(installed(**SHARED))
    volume = next(each for each in pod["volumes"] if each["name"] == "proxy")
    assert volume["secret"]["secretName"] == "shared"
    assert volume["secret"]["items"] == [{"key": "text", "path": "secret"}]
    mount = next(each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "proxy")
    assert f"--proxy-secret-file={mount['mountPath']}/secret" in pod["containers"][0]["args"]


def test_an_empty_secret_of_the_proxy_is_refused(tmp_path):
    empty = tmp_path / "secret"
    empty.write_text("\n")
    said = CliRunner().invoke(command.app, ["--auth", "proxy", "--proxy-secret-file", str(empty)])
    assert said.exit_code != 0
    assert f"{empty} is empty" in "".join(said.output.split("\n"))


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("localhost:8686", True),  # kubectl port-forward
        ("levada-dashboard.levada-system", True),
        ("levada-dashboard.levada-system.svc:80", True),
        ("levada-dashboard.levada-system.svc.cluster.local", True),
        ("runs.example", True),
        ("evil.example", False),
    ],
)
def test_it_answers_to_its_own_names_only(installed, started, host, own):
    settings = started(installed(ingress={"enabled": True, "host": "runs.example"}))
    assert is_own_host(host, settings) is own


def rights(rendered, kind, namespace, name=NAME):
    """What the role gives, after a look at its binding."""
    if (kind, namespace, name) not in rendered:
        return set()
    binding = rendered[f"{kind}Binding", namespace, name]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": NAME, "namespace": SPACE}]
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == (kind, name)
    rules = rendered[kind, namespace, name]["rules"]
    return {(f"{g}/{r}", verb) for rule in rules for g in rule["apiGroups"] for r in rule["resources"] for verb in rule["verbs"]}  # fmt: skip


@pytest.mark.parametrize(
    ("values", "more"),
    [({"mode": "token"}, set()), (SHARED, IMPERSONATE), ({"mode": "anonymous"}, LOGS)],
    ids=["token", "proxy", "anonymous"],
)
def test_its_rights_in_the_cluster_are_few(installed, values, more):
    rendered = installed(**values)
    assert rights(rendered, "ClusterRole", "") == WATCHED | NODES | more
    assert rights(rendered, "Role", SPACE, f"{NAME}-leases") == {LEASES}
    assert ("Role", "default", NAME) not in rendered


@pytest.mark.parametrize(
    ("values", "here", "cluster"),
    [({"mode": "token"}, set(), set()), (SHARED, set(), IMPERSONATE), ({"mode": "anonymous"}, LOGS, set())],
    ids=["token", "proxy", "anonymous"],
)
def test_beside_a_namespaced_operator_it_has_roles_in_the_same_namespaces(installed, values, here, cluster):
    rendered = installed({"namespaced": True, "flowNamespaces": ["team-a", "team-b"]}, **values)
    for namespace in ("team-a", "team-b"):
        assert rights(rendered, "Role", namespace) == WATCHED | here
    assert rights(rendered, "ClusterRole", "") == cluster
    assert rights(rendered, "Role", SPACE, f"{NAME}-leases") == {LEASES}


def test_operator_and_dashboard_are_not_mistaken_for_each_other(installed):
    rendered = installed(
        {"networkPolicy": {"enabled": True}}, replicas=2, networkPolicy={"enabled": True}, ingress={"enabled": True, "host": "a.b"}
    )  # fmt: skip
    labels = {
        name: rendered["Deployment", SPACE, name]["spec"]["template"]["metadata"]["labels"]
        for name in ("levada-operator", NAME)
    }
    selectors = [
        ("levada-operator", rendered["Service", SPACE, "levada-operator-metrics"]["spec"]["selector"]),
        (NAME, rendered["Service", SPACE, NAME]["spec"]["selector"]),
    ]
    for name in labels:
        selectors += [
            (name, rendered["Deployment", SPACE, name]["spec"]["selector"]["matchLabels"]),
            (name, rendered["PodDisruptionBudget", SPACE, name]["spec"]["selector"]["matchLabels"]),
            (name, rendered["NetworkPolicy", SPACE, name]["spec"]["podSelector"]["matchLabels"]),
        ]
    for owner, selector in selectors:
        assert [name for name in labels if selector.items() <= labels[name].items()] == [owner]


@pytest.mark.parametrize(("replicas", "affinity"), [(1, None), (2, "ClientIP")])
def test_a_browser_stays_with_its_pod_where_there_are_several(installed, replicas, affinity):
    rendered = installed(replicas=replicas)
    assert rendered["Service", SPACE, NAME]["spec"].get("sessionAffinity") == affinity
    assert (("PodDisruptionBudget", SPACE, NAME) in rendered) is (replicas > 1)


def test_a_certificate_without_names_is_for_the_host(installed):
    tls = [{"secretName": "one"}, {"secretName": "two", "hosts": ["other.example"]}]
    rendered = installed(ingress={"enabled": True, "host": "runs.example", "tls": tls})
    assert rendered["Ingress", SPACE, NAME]["spec"]["tls"] == [
        {"secretName": "one", "hosts": ["runs.example"]},
        {"secretName": "two", "hosts": ["other.example"]},
    ]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "kubectl --namespace levada-system port-forward service/levada-dashboard 8686:80"),
        ({"dashboard.ingress.enabled": "true", "dashboard.ingress.host": "a.b"}, "tokens cross the network in the clear"),
        ({"dashboard.mode": "proxy", "dashboard.proxySecret.name": "x"}, "X-Levada-Proxy-Secret to http://levada-dashboard.levada-system:80/"),
        ({"dashboard.mode": "anonymous"}, "Everybody who reaches it sees every run"),
    ],
)  # fmt: skip
def test_the_notes_tell_how_to_reach_it(helm, values, said):
    chosen = [f"--set={name}={value}" for name, value in ({"dashboard.enabled": "true"} | values).items()]
    notes = helm("install", "levada", CHART, "-n", SPACE, "--dry-run=client", *chosen).partition("NOTES:")[2]
    assert said in notes
