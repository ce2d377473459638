"""What is rendered: rights and definitions as the code has them, restricted pods, arguments that the operator takes, and golden files."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from levada.cli.operator import run as operator_run
from levada.operator.metrics import Metrics
from levada.resources import access, crds
from support.chart import CHART, by_name

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
FULL = yaml.safe_load((GOLDEN / "full-values.yaml").read_text())
RIGHTS = {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
POLICIES = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}


def test_generated_files_are_fresh():
    done = subprocess.run(
        [sys.executable, CHART.parent / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_lint_finds_nothing(helm):
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART)


@pytest.mark.parametrize("name", ["default", "full"])
def test_golden(render_text, name):
    """LEVADA_GOLDEN=write renews them; read what `git diff` then shows."""
    text = render_text(FULL if name == "full" else {})
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get("LEVADA_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


def test_the_definitions_are_those_of_the_code(render):
    rendered = {key[2]: each for key, each in render(crds=True).items() if key[0] == "CustomResourceDefinition"}
    wanted = {each["metadata"]["name"]: each for each in crds.generate().values()}
    assert rendered.keys() == wanted.keys()
    for name, each in rendered.items():
        assert each["spec"] == json.loads(json.dumps(wanted[name]["spec"])), name
        assert each["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def stripped(manifest):
    """Without the labels that say who installed it."""
    metadata = dict(manifest["metadata"])
    labels = {k: v for k, v in metadata.pop("labels", {}).items() if k.startswith("rbac.authorization.k8s.io/")}
    return manifest | {"metadata": metadata | ({"labels": labels} if labels else {})}


@pytest.mark.parametrize("namespaced", [False, True], ids=["cluster", "namespaced"])
def test_rights_and_policy_are_those_of_operator_manifests(render, namespaced):
    spaces = ["team-a", "team-b"]
    printed = access.manifests(spaces, namespaced=namespaced)
    wanted = by_name(yaml.safe_dump_all(printed))
    wanted = {key: stripped(each) for key, each in wanted.items() if key[0] in RIGHTS | POLICIES}
    values = {"flowNamespaces": spaces, "namespaced": namespaced, "rbac": {"people": not namespaced}}
    rendered = {key: stripped(each) for key, each in render(values).items() if key[0] in RIGHTS | POLICIES}
    assert rendered == wanted


def test_another_namespace_and_account_reach_bindings_and_policy(helm):
    text = helm(
        "template", "x", CHART, "-n", "elsewhere", "--set", "serviceAccount.name=other", "--kube-version", "1.36"
    )
    assert "levada-system" not in re.sub(r"description: .*", "", text)
    found = by_name(text)
    assert found["ClusterRoleBinding", "", "levada-operator"]["subjects"] == [
        {"kind": "ServiceAccount", "name": "other", "namespace": "elsewhere"}
    ]
    conditions = found["ValidatingAdmissionPolicy", "", access.POLICY]["spec"]["matchConditions"]
    assert conditions[1]["expression"] == "request.userInfo.username != 'system:serviceaccount:elsewhere:other'"


def pods(rendered):
    for (kind, _, _), each in rendered.items():
        if kind == "Deployment":
            yield each["spec"]["template"]["spec"]
        if kind == "Pod":
            yield each["spec"]


def test_every_pod_meets_the_restricted_standard(render):
    found = list(pods(render({"dashboard": {"enabled": True}})))
    assert len(found) == 3
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert set().union(*pod.get("volumes", [])) <= {"name", "emptyDir"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def arguments(rendered):
    return rendered["Deployment", "levada-system", "levada-operator"]["spec"]["template"]["spec"]["containers"][0][
        "args"
    ]


@pytest.mark.parametrize("values", [{}, FULL, {"namespaced": True}], ids=["default", "full", "namespaced"])
def test_the_operator_knows_every_argument(render, values):
    options = {f"--{name.replace('_', '-')}" for name in operator_run.__annotations__}
    given = arguments(render(values))
    assert given[:2] == ["operator", "run"]
    assert {argument.partition("=")[0] for argument in given[2:]} <= options


def test_a_secret_of_notifications_stands_where_the_operator_looks(render):
    secret = {"namespace": "team-a", "name": "slack", "secretName": "copy"}
    pod = next(pods(render({"notifications": {"secrets": [secret]}})))
    container = pod["containers"][0]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    volume = mounts[f"{environment['LEVADA_SECRETS_DIR']}/team-a/slack"]
    found = next(each for each in pod["volumes"] if each["name"] == volume)
    assert found["secret"] == {"secretName": "copy", "optional": True, "defaultMode": 0o440}


def test_one_replica_needs_no_budget(render):
    assert ("PodDisruptionBudget", "levada-system", "levada-operator") not in render({"replicas": 1})


def test_the_service_and_the_monitors_select_the_operators_pods_and_not_the_test(render):
    rendered = render(FULL)
    labels = rendered["Deployment", "levada-system", "levada-operator"]["spec"]["template"]["metadata"]["labels"]
    service = rendered["Service", "levada-system", "levada-operator-metrics"]["spec"]["selector"]
    monitor = rendered["ServiceMonitor", "levada-system", "levada-operator"]["spec"]["selector"]["matchLabels"]
    test = rendered["Pod", "levada-system", "levada-operator-test"]["metadata"]["labels"]
    for selector in (service, monitor):
        assert selector.items() <= labels.items()
        assert not selector.items() <= test.items()


def test_every_metric_of_the_dashboard_exists():
    names = {spec.name for spec in Metrics().specs}
    names |= {f"{spec.name}_bucket" for spec in Metrics().specs if spec.type == "histogram"}
    panels = json.loads((CHART / "files" / "dashboard.json").read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    used = set(re.findall(r"levada_\w+", " ".join(queries)))
    assert len(used) > 20
    assert used <= names


def test_the_versions_agree():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert (chart["version"], chart["appVersion"]) == (version, version)
