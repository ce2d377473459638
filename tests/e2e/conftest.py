"""A real node for the tests, with Levada on it. Run by `make test-e2e`, which makes the namespaces that it lives in.

Outputs: `node` (running), `kubectl` (administrator's), `levada` (the command
line, as the administrator), `installed` (operator in the cluster), `namespace` (fresh, `restricted`, runs may be started in it).
"""

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import images, manifests, tools
from e2e.harness.node import Node
from e2e.harness.settings import FOLDER_VARIABLE, GROUP_VARIABLE
from e2e.harness.team import Team
from levada.resources import access, crds, names
from support.kubectl import Kubectl, bind

OPERATOR_SECONDS = 60


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Outside of the namespaces there is no node, and nothing of this may touch the machine's own network."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            if FOLDER_VARIABLE not in os.environ:
                item.add_marker(pytest.mark.skip(reason="needs a real node: run `make test-e2e` as root"))


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """The node, ready."""
    folder = Path(os.environ[FOLDER_VARIABLE])
    programs = tools.ensure_programs(print)
    node = Node(folder, os.environ[GROUP_VARIABLE], programs)
    try:
        node.up(lambda line: print(line, flush=True))
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
def installed(kubectl: Kubectl) -> None:
    """Levada in the cluster: kinds, rights, and the operator's Deployment of two replicas."""
    apply(kubectl, [*crds.generate().values(), *access.manifests([])])
    kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    space, name = names.OPERATOR_NAMESPACE, "levada-operator"
    container = {
        "image": images.OPERATOR.name,
        "args": [
            *("operator", "run", "--leader-elect", "--metrics-address", "0.0.0.0:9464"),
            *("--default-image", images.FLOW.name, "--history-interval", "5"),
        ],
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 9464}, "periodSeconds": 1},
    }
    operator = manifests.deployment(
        name,
        space,
        container,
        serviceAccountName=names.OPERATOR_SERVICE_ACCOUNT,
        volumes=[{"name": "scratch", "emptyDir": {}}],
    )
    operator["spec"]["replicas"] = 2
    apply(kubectl, [manifests.namespace(space), operator])
    kubectl("-n", space, "rollout", "status", f"deployment/{name}", f"--timeout={OPERATOR_SECONDS - 5}s")


@pytest.fixture
def namespace(kubectl: Kubectl, installed: None) -> Iterator[str]:
    """A fresh namespace in which runs may be started."""
    name = f"team-{secrets.token_hex(3)}"
    apply(kubectl, [manifests.namespace(name), *access.runner_manifests(name)])
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def team(kubectl: Kubectl, namespace: str) -> Team:
    """A team in a fresh namespace."""
    return Team(kubectl, namespace)


@pytest.fixture(scope="session")
def levada(node: Node) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line as the administrator."""
    environment = os.environ | {"KUBECONFIG": str(node.cluster.kubeconfig), "COLUMNS": "160", "NO_COLOR": "1"}

    def run(*arguments: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "levada.cli", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)

    return run
