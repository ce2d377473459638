"""What cannot work is refused by Helm, in words that name the value and what to do."""

import shutil

import pytest

from support.chart import CHART

BOTH = {"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (BOTH, "metrics.serviceMonitor.enabled and metrics.podMonitor.enabled are both true"),
        ({"metrics": {"service": {"enabled": False}}}, "tests.enabled needs metrics.service.enabled"),
        (
            {
                "tests": {"enabled": False},
                "metrics": {"service": {"enabled": False}, "serviceMonitor": {"enabled": True}},
            },
            "metrics.serviceMonitor.enabled needs metrics.service.enabled",
        ),
        ({"kueue": {"enabled": True}}, "kueue.clusterQueue is empty"),
        ({"namespaced": True, "shardSelector": "a=b"}, "namespaced and shardSelector exclude each other"),
        ({"namespaced": True, "flowNamespaces": []}, "namespaced is true and flowNamespaces is empty"),
        ({"networkPolicy": {"runs": True, "runsAllow": ["dns"]}}, "networkPolicy.runsAllow limits nothing while"),
        (
            {"networkPolicy": {"runsAllow": ["dns"], "runsEgress": []}},
            "networkPolicy.runsAllow is given and networkPolicy.runs is false",
        ),
        (
            {"dashboard": {"enabled": True, "mode": "proxy"}},
            "dashboard.mode is proxy and dashboard.proxySecret.name is",
        ),
        (
            {"dashboard": {"enabled": True, "proxySecret": {"name": "shared"}}},
            "dashboard.proxySecret.name is given and dashboard.mode is token",
        ),
        ({"dashboard": {"enabled": True, "ingress": {"enabled": True}}}, "dashboard.ingress.host is empty"),
        (
            {"dashboard": {"enabled": True, "serviceAccount": {"name": "levada-operator"}}},
            "dashboard.serviceAccount.name is the operator's",
        ),
        ({"dashboard": {"enabled": True, "fullname": "levada-operator"}}, "dashboard.fullname is the operator's"),
        ({"leaderElection": {"retryPeriodSeconds": 9}}, "leaderElection: retryPeriodSeconds must be below"),
        ({"leaderElection": {"leaseDurationSeconds": 5}}, "leaderElection: retryPeriodSeconds must be below"),
    ],
)
def test_values_that_contradict_each_other_are_refused(render, values, said):
    with pytest.raises(AssertionError, match=said):
        render(values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"metrics": {"serviceMonitor": {"enabled": True}}}, "metrics.serviceMonitor.enabled is true, but the cluster has no monitoring"),
        ({"metrics": {"podMonitor": {"enabled": True}}}, "metrics.podMonitor.enabled is true, but"),
        ({"metrics": {"prometheusRule": {"enabled": True}}}, "metrics.prometheusRule.enabled is true, but"),
        ({"kueue": {"enabled": True, "clusterQueue": "a"}}, "kueue.enabled is true, but the cluster has no kueue"),
        ({"crds": {"enabled": False}}, "crds.enabled is false, but the cluster has no levada.dev/v1alpha1"),
    ],
)  # fmt: skip
def test_kinds_that_the_cluster_lacks_are_named(render, values, said):
    with pytest.raises(AssertionError, match=said):
        render({"crds": {"enabled": True}} | values, apis=())


@pytest.mark.parametrize(
    ("values", "place", "said"),
    [
        ({"replicas": "two"}, "/replicas", "got string, want integer"),
        ({"replicas": -1}, "/replicas", "minimum: got -1, want 0"),
        ({"image": {"tag": 1.0}}, "/image/tag", "got number, want string"),
        ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy", "value must be one of 'Always', 'IfNotPresent', 'Never'"),
        ({"image": {"digest": "abc"}}, "/image/digest", "does not match pattern"),
        ({"image": {"tagg": "1"}}, "/image", "additional properties 'tagg' not allowed"),
        ({"replica": 1}, "", "additional properties 'replica' not allowed"),
        ({"metrics": {"port": "9464"}}, "/metrics/port", "got string, want integer"),
        ({"metrics": {"port": 80}}, "/metrics/port", "minimum: got 80, want 1,024"),
        ({"metrics": {"serviceMonitor": {"interval": "often"}}}, "/metrics/serviceMonitor/interval", "does not match pattern"),
        ({"verbose": "yes"}, "/verbose", "got string, want boolean"),
        ({"flowNamespaces": "default"}, "/flowNamespaces", "got string, want array"),
        ({"flowNamespaces": ["Team_A"]}, "/flowNamespaces/0", "does not match pattern"),
        ({"flowNamespaces": ["a", "a"]}, "/flowNamespaces", "items at 0 and 1 are equal"),
        ({"storage": {"url": "bucket/levada"}}, "/storage/url", "does not match pattern"),
        ({"extraEnv": {"A": "1"}}, "/extraEnv", "got object, want array"),
        ({"notifications": {"secrets": [{"name": "slack"}]}}, "/notifications/secrets/0", "missing properties"),
        ({"nodeSelector": {"a": True}}, "/nodeSelector/a", "got boolean, want string"),
        ({"fullname": "Levada"}, "/fullname", "does not match pattern"),
        ({"networkPolicy": {"runsAllow": ["ssh"]}}, "/networkPolicy/runsAllow/0", "value must be one of 'dns', 'apiServer', 'https', 'http', 'git'"),
        ({"dashboard": {"mode": "kubeconfig"}}, "/dashboard/mode", "value must be one of 'token', 'proxy', 'anonymous'"),
        ({"dashboard": {"allowedHosts": ["https://a.example"]}}, "/dashboard/allowedHosts/0", "does not match pattern"),
        ({"dashboard": {"ingress": {"tls": [{"secret": "a"}]}}}, "/dashboard/ingress/tls/0", "additional properties 'secret' not allowed"),
        ({"resources": {"limit": {}}}, "/resources", "additional properties 'limit' not allowed"),
    ],
)  # fmt: skip
def test_values_of_the_wrong_kind_are_named(render, values, place, said):
    with pytest.raises(AssertionError) as refused:
        render(values)
    assert f"at '{place}'" in str(refused.value)
    assert said in str(refused.value)


def test_an_old_kubernetes_is_refused(render):
    with pytest.raises(
        AssertionError, match=r"chart requires kubeVersion: >=1\.31\.0-0 which is incompatible with Kubernetes v1\.30"
    ):
        render(kube="1.30.9")


@pytest.mark.parametrize("version", ["1.31.0", "1.34.1-gke.100", "v1.36.3+k3s1"])
def test_versions_of_vendors_are_taken(render, version):
    assert render(kube=version)


def test_a_parent_chart_may_share_values(helm):
    assert helm("template", "x", CHART, "--set", "global.team=data", "--kube-version", "1.36")


def test_a_packaged_chart_holds_the_definitions(helm, tmp_path):
    helm("package", CHART, "--destination", tmp_path)
    text = helm("template", "x", next(tmp_path.glob("levada-*.tgz")), "--kube-version", "1.36")
    assert "name: flowruns.levada.dev" in text


def test_a_copy_that_lost_its_link_to_the_definitions_is_refused(helm, tmp_path):
    """Whoever copies a tree may leave links out, as Flux does with a Git repository."""
    copy = shutil.copytree(CHART, tmp_path / "levada", symlinks=True)
    (copy / "files" / "crds").unlink()
    with pytest.raises(AssertionError, match="this copy of the chart has no definitions"):
        helm("template", "x", copy, "--kube-version", "1.36")
