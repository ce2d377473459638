"""The chart, rendered by Helm.

Outputs: `helm` (callable; runs Helm without a cluster), `render` (callable; values → the manifests, by kind and name).
"""

import contextlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from levada.cluster import ClusterError
from support import go_tools
from support.chart import CHART, Manifests, by_name

APIS = ("monitoring.coreos.com/v1", "kueue.x-k8s.io/v1beta1", "levada.dev/v1alpha1")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the tools before the first test: a first build takes minutes, and a test's time limit is one."""
    chosen = any(Path(__file__).parent in item.path.parents for item in session.items)
    if chosen and not session.config.option.collectonly:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        for tool in (go_tools.HELM, go_tools.PROMTOOL):
            # Without it the fixture says why; the tests that need none still run.
            with contextlib.suppress(ClusterError):
                go_tools.ensure(tool, reporter.write_line if reporter else lambda _: None)


class HelmError(AssertionError):
    """Helm refused; the text is what it said."""


@pytest.fixture(scope="session")
def helm(tmp_path_factory) -> Callable[..., str]:
    """`helm("lint", "--strict", CHART) -> stdout`; raises HelmError with what it said."""
    program = go_tools.ensure(go_tools.HELM)
    home = str(tmp_path_factory.mktemp("helm"))
    folders = {f"HELM_{name}_HOME": home for name in ("CACHE", "CONFIG", "DATA")}

    def run(*arguments: Any, stdin: str = "") -> str:
        done = subprocess.run(
            [program, *map(str, arguments)],
            input=stdin,
            env=os.environ | folders | {"KUBECONFIG": "/nowhere"},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        if done.returncode != 0:
            raise HelmError(done.stderr)
        return done.stdout

    return run


@pytest.fixture(scope="session")
def render_text(helm) -> Callable[..., str]:
    """`render_text({"replicas": 3}) -> YAML`; without the definitions unless asked for."""

    def run(values: dict[str, Any] | None = None, *, crds: bool = False, apis: tuple[str, ...] = APIS, kube="1.36.0"):
        values = {"crds": {"enabled": crds}} | (values or {})
        versions = [argument for api in apis for argument in ("--api-versions", api)]
        return helm(
            *("template", "levada", CHART, "--namespace", "levada-system", "--kube-version", kube),
            *(*versions, "--values", "-"),
            stdin=yaml.safe_dump(values),
        )

    return run


@pytest.fixture(scope="session")
def render(render_text) -> Callable[..., Manifests]:
    """`render({"replicas": 3})[kind, namespace, name]`."""

    def run(values: dict[str, Any] | None = None, **options: Any) -> Manifests:
        return by_name(render_text(values, **options))

    return run
