"""A real node for the tests, with Levada on it. Run by `make test-e2e`, which makes the namespaces that it lives in.

Outputs: `node` (running, with name resolution), `kubectl` (administrator's), `helm`, `levada` (the command line, as the administrator), `s3`
(a client of the S3 service in the cluster), `installed` (the chart), `namespace` (an unused one of the chart's `flowNamespaces`, `restricted`).
Namespaces are not deleted: what was written into any of them is searched for secrets at the end.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import manifests, tools
from e2e.harness.manifests import BUCKET, S3_KEYS, S3_SPACE
from e2e.harness.node import Node
from e2e.harness.settings import FOLDER_VARIABLE, GROUP_VARIABLE
from e2e.harness.team import Team
from levada.resources import names
from support.kubectl import Kubectl, bind

ROOT = Path(__file__).parents[2]
SPACE = names.OPERATOR_NAMESPACE
TEAMS = [f"team-{number}" for number in range(20)]
VALUES = {
    "flowNamespaces": TEAMS,
    "extraEnvFrom": [{"secretRef": {"name": "s3"}}],
    "networkPolicy": {"enabled": True, "runs": True},
    "dask": {"enabled": True},
    "dashboard": {"enabled": True, "clusterName": "e2e"},
    "historyIntervalSeconds": 5,
    "probes": {"readiness": {"periodSeconds": 1}},
}
QUICK = """
from levada import flow

@flow
def main():
    return "here"
"""
Helm = Callable[..., str]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Outside of the namespaces there is no node, and nothing of this may touch the machine's own network."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            if FOLDER_VARIABLE not in os.environ:
                item.add_marker(pytest.mark.skip(reason="needs a real node: run `make test-e2e` as root"))


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """The node, ready, with name resolution."""
    folder = Path(os.environ[FOLDER_VARIABLE])
    programs = tools.ensure_programs(print)
    node = Node(folder, os.environ[GROUP_VARIABLE], programs)
    try:
        node.up(lambda line: print(line, flush=True))
        apply(bind(node.cluster.kubectl, node.cluster.kubeconfig, folder / "kubectl-cache"), manifests.dns())
        yield node
    finally:
        node.down()


@pytest.fixture(scope="session")
def kubectl(node: Node) -> Kubectl:
    """`kubectl("get", "fr", stdin=None) -> stdout` as the administrator; raises KubectlError when it fails."""
    return bind(node.cluster.kubectl, node.cluster.kubeconfig, node.folder / "kubectl-cache")


def apply(kubectl: Kubectl, objects: list[dict[str, Any]]) -> None:
    """Server-side, as everything here is applied."""
    kubectl("apply", "--server-side", "--field-manager=levada-tests", "-f", "-", stdin=objects)


@pytest.fixture(scope="session")
def s3(kubectl: Kubectl) -> Iterator[Any]:
    """A client of the S3 service in the cluster, with the bucket made."""
    import boto3

    apply(kubectl, [manifests.namespace(S3_SPACE), *manifests.s3(S3_SPACE)])
    for space, name in (("kube-system", "coredns"), (S3_SPACE, "s3")):
        kubectl("-n", space, "rollout", "status", f"deployment/{name}", "--timeout=55s")
    # The pod's own address: the node has no route to those of Services, because it has none to anywhere but its pods.
    address = kubectl("-n", S3_SPACE, "get", "pods", "-l", "app=s3", "-o", "jsonpath={.items[0].status.podIP}")
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{address}:5000",
        aws_access_key_id=S3_KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=S3_KEYS["AWS_SECRET_ACCESS_KEY"],
        region_name=S3_KEYS["AWS_DEFAULT_REGION"],
    )
    client.create_bucket(Bucket=BUCKET)
    yield client
    client.close()


@pytest.fixture(scope="session")
def helm(node: Node) -> Helm:
    """`helm("test", "levada") -> what it prints`, in the operator's namespace; fails with that when it fails."""
    home = {f"HELM_{part}_HOME": str(node.folder / "helm") for part in ("CACHE", "CONFIG", "DATA")}
    environment = os.environ | home | {"KUBECONFIG": str(node.cluster.kubeconfig)}

    def run(*arguments: str) -> str:
        command = [str(node.programs.helm), *arguments, "--namespace", SPACE]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=150, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def installed(kubectl: Kubectl, helm: Helm, s3: Any, node: Node) -> Path:
    """The chart, installed as docs/howto/install.md says; the file of its values."""
    spaces = [SPACE, *TEAMS]
    apply(kubectl, [*map(manifests.namespace, spaces), *map(manifests.s3_secret, spaces)])
    values = node.folder / "values.json"
    values.write_text(json.dumps(VALUES))
    said = helm("install", "levada", "charts/levada", "--values", str(values))
    assert "STATUS: deployed" in said, said
    kubectl("-n", SPACE, "rollout", "status", "deployment/levada-operator", "--timeout=55s")
    return values


@pytest.fixture(scope="session")
def unused() -> Iterator[str]:
    """The namespaces that nobody has used yet."""
    return iter(TEAMS)


@pytest.fixture(scope="session")
def minutely(kubectl: Kubectl, installed: Path, unused: Iterator[str]) -> Team:
    """A team whose Schedule fires each minute from now on, whatever the tests do to the operator."""
    team = Team(kubectl, next(unused))
    team.deploy("quick", QUICK, history={"keepSuccessful": 100})
    team.apply("Schedule", "minutely", {"deploymentRef": {"name": "quick"}, "cron": "* * * * *", "catchUp": "All"})
    return team


@pytest.fixture
def namespace(minutely: Team, unused: Iterator[str]) -> str:
    """A namespace in which runs may be started, and which nobody has used."""
    return next(unused)


@pytest.fixture
def team(kubectl: Kubectl, namespace: str) -> Team:
    """A team in a fresh namespace."""
    return Team(kubectl, namespace)


@pytest.fixture(scope="session")
def levada(node: Node) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line as the administrator, with the keys of the bucket where it reads from there."""
    environment = os.environ | {"KUBECONFIG": str(node.cluster.kubeconfig), "COLUMNS": "160", "NO_COLOR": "1"}

    def run(*arguments: str, bucket: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "levada.cli", *arguments]
        variables = environment | (bucket or {})
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=180, check=False)

    return run
