"""The real control plane for tests, one per test process.

Outputs: `cluster` (running, ephemeral), `cluster_home` (for further clusters), `kubeconfig` (administrator), `kubectl`
(callable), `namespace` (fresh per test), `client` (levada.kube.Client), `installed` (CRDs and access manifests).
Several test processes may run at once: each has a home of its own, named after the process, and clears away what
processes that were killed have left behind.
"""

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from levada.cluster import Cluster, ClusterError
from levada.cluster.binaries import ensure
from levada.cluster.processes import identify
from support.kubectl import Kubectl, bind

_HOMES = Path(tempfile.gettempdir()) / f"levada-tests-{os.getuid()}"
_FIELD_MANAGER = "levada-tests"


def pytest_collection_finish(session: pytest.Session) -> None:
    """Get the binaries before the first test: a first build takes minutes, and a test's time limit is one."""
    chosen = any(item.get_closest_marker("apiserver") for item in session.items)
    if chosen and not session.config.option.collectonly:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        # Without binaries the fixture `cluster` says why; the tests that need none still run.
        with contextlib.suppress(ClusterError):
            ensure(reporter.write_line if reporter else lambda _: None)


def _home_name(pid: int) -> str | None:
    identity = identify(pid)
    return f"{identity.pid}-{identity.start_ticks}-{identity.boot_id[:8]}" if identity else None


def _remove_home(home: Path) -> None:
    for directory in (home / "clusters").glob("[a-z0-9]*"):
        Cluster(directory.name, home).down(delete=True)
    shutil.rmtree(home, ignore_errors=True)


def _sweep_homes_of_killed_processes() -> None:
    for home in _HOMES.glob("*-*-*"):
        owner = int(home.name.partition("-")[0])
        if _home_name(owner) != home.name:
            _remove_home(home)


@pytest.fixture(scope="session")
def cluster_home() -> Iterator[Path]:
    """A home for clusters; all of them are taken down at the end."""
    _sweep_homes_of_killed_processes()
    home = _HOMES / str(_home_name(os.getpid()))
    home.mkdir(parents=True, exist_ok=True)
    try:
        yield home
    finally:
        _remove_home(home)


@pytest.fixture(scope="session")
def cluster(cluster_home: Path) -> Cluster:
    """A running control plane, shared by the tests of this process."""
    cluster = Cluster("session", cluster_home)
    # At their default of 20 requests a second the controllers fall behind the namespaces that tests leave, and pods come late.
    cluster.up(ephemeral=True, kube_api_qps=500)
    return cluster


@pytest.fixture(scope="session")
def kubeconfig(cluster: Cluster) -> Path:
    """The administrator's kubeconfig."""
    return cluster.kubeconfig


@pytest.fixture(scope="session")
def kubectl_for(cluster_home: Path) -> Callable[[Path, Path], Kubectl]:
    """Make a kubectl from a program and a kubeconfig."""

    def make(program: Path, kubeconfig: Path) -> Kubectl:
        return bind(program, kubeconfig, cluster_home / "kubectl-cache")

    return make


@pytest.fixture(scope="session")
def kubectl(cluster: Cluster, kubectl_for: Callable[[Path, Path], Kubectl]) -> Kubectl:
    """`kubectl("get", "fr", stdin=None) -> stdout` as the administrator; raises KubectlError when it fails."""
    return kubectl_for(cluster.kubectl, cluster.kubeconfig)


def _apply(kubectl: Kubectl, manifests: list[dict[str, Any]]) -> None:
    kubectl(
        "apply", "--server-side", "--force-conflicts", f"--field-manager={_FIELD_MANAGER}", "-f", "-", stdin=manifests
    )


@pytest.fixture(scope="session")
def installed(kubectl: Kubectl) -> None:
    """CRDs and the access manifests that belong to no run namespace."""
    from levada.resources import access, crds

    _apply(kubectl, list(crds.generate().values()))
    _apply(kubectl, access.manifests([]))
    kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")


@pytest.fixture
def namespace(request: pytest.FixtureRequest, kubectl: Kubectl) -> Iterator[str]:
    """A fresh namespace; with `installed`, runs may be started in it."""
    name = f"test-{secrets.token_hex(4)}"
    kubectl("create", "namespace", name)
    if "installed" in request.fixturenames:
        from levada.resources import access

        request.getfixturevalue("installed")
        _apply(kubectl, access.manifests([name]))
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
async def client(kubeconfig: Path) -> AsyncIterator[Any]:
    """A levada.kube Client of the administrator."""
    from levada.kube import Client

    async with Client.from_kubeconfig(kubeconfig) as client:
        yield client
