"""Helm, promtool and CoreDNS for the tests, built from their Go modules into the cache: no release site is needed.

`gobuild/<tool>/go.mod` and `go.sum` pin each of them. The first build takes some minutes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from levada.cluster import build
from levada.cluster.files import locked
from levada.cluster.layout import default_cache

WAIT_SECONDS = 1800.0
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Tool:
    """A program, the package that it is built from, and the version that its go.mod names."""

    name: str
    package: str
    version: str
    tags: tuple[str, ...] = ()


HELM = Tool("helm", "helm.sh/helm/v4/cmd/helm", "4.3.1")
# Without the clients of a dozen clouds, which find targets and are most of it.
PROMTOOL = Tool("promtool", "github.com/prometheus/prometheus/cmd/promtool", "0.313.3", tags=("remove_all_sd",))
# A main package of our own with the plugins that the tests need.
COREDNS = Tool("coredns", "levada.dev/tests/coredns", "1.15.0")


def ensure(tool: Tool, progress: Progress = lambda _: None, cache: Path | None = None) -> Path:
    """The program, built if it is not in the cache.

    Raises:
        BinariesUnavailableError: no Go can be had, or the build fails.
    """
    home = cache or default_cache()
    folder = home / tool.name / f"v{tool.version}"
    program = folder / tool.name
    if not program.is_file():
        waiting = f"waiting for another process that is building {tool.name}"
        with locked(
            folder.with_name(f".{folder.name}.lock"), wait_seconds=WAIT_SECONDS, on_wait=lambda: progress(waiting)
        ):
            if not program.is_file():
                module = build.Module(
                    Path(__file__).parent / "gobuild" / tool.name, {tool.name: tool.package}, tags=tool.tags
                )
                build.build([tool.name], folder, home, tool.version, progress, module=module)
    return program
