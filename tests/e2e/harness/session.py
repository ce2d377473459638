"""`make test-e2e`: pytest in network, mount, process, IPC and host-name namespaces of its own.

What runs in there cannot outlive it: when the first process of the process namespace ends, the kernel kills all others, and
with the last of them go the mounts, interfaces and rules. What is left for this script: control groups, three settings of the
kernel that a kubelet changes, and one folder.

    python tests/e2e/harness/session.py [pytest's arguments]
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "operator"), str(ROOT / "tests")]

from e2e.harness import prepare, tools  # noqa: E402  the path comes first
from e2e.harness.cgroups import PREFIX, control_group  # noqa: E402
from e2e.harness.settings import FOLDER_VARIABLE, GROUP_VARIABLE  # noqa: E402
from e2e.harness.tools import HarnessError  # noqa: E402

FIRST_PROCESS = "--as-first-process"
# A kubelet sets these for the whole machine.
KERNEL_SETTINGS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")


@contextlib.contextmanager
def kernel_settings() -> Iterator[None]:
    """Put back what a kubelet sets."""
    paths = [Path("/proc/sys") / name for name in KERNEL_SETTINGS]
    before = [path.read_text() for path in paths]
    try:
        yield
    finally:
        for path, value in zip(paths, before, strict=True):
            if path.read_text() != value:
                path.write_text(value)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder for everything; gone at the end, unless somebody wants to look at it. Those of killed sessions go first."""
    parent = Path(tempfile.gettempdir())
    for leftover in parent.glob(f"{PREFIX}*"):
        if not Path(f"/proc/{leftover.name.removeprefix(PREFIX)}").exists() and not os.environ.get("LEVADA_E2E_KEEP"):
            shutil.rmtree(leftover, ignore_errors=True)
    path = parent / f"{PREFIX}{os.getpid()}"
    path.mkdir(mode=0o711)
    try:
        yield path
    finally:
        if os.environ.get("LEVADA_E2E_KEEP"):
            print(f"kept: {path}")
        else:
            shutil.rmtree(path)


def why_not() -> str:
    """Why there can be no real node here; empty if there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a real node needs root on Linux"
    if missing := [program for program in ("unshare", "setpriv") if shutil.which(program) is None]:
        return f"{' and '.join(missing)} of util-linux are missing"
    if (missing := tools.missing_packages()) and shutil.which("apt-get") is None:
        return f"{', '.join(missing)} are missing, and there is no apt-get here to install them"
    probe = subprocess.run([*_unshare(), "true"], capture_output=True, text=True, check=False)
    return f"namespaces cannot be made here: {probe.stderr.strip()}" if probe.returncode else ""


def _unshare() -> list[str]:
    """The first signal: killed with this script, not orphaned; the second: and all that is inside with it."""
    namespaces = ("--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--mount-proc")
    return ["setpriv", "--pdeathsig", "KILL", "unshare", *namespaces, "--kill-child"]


def main(arguments: list[str]) -> int:
    """Prepare, then run pytest inside. Returns pytest's exit code."""
    if reason := why_not():
        print(f"tests/e2e skipped: {reason}")
        return 0
    begun = time.monotonic()
    try:
        prepare.everything(lambda line: print(f"[{time.monotonic() - begun:6.1f} s] {line}", flush=True))
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"prepared in {time.monotonic() - begun:.0f} s", flush=True)
    with folder() as place, control_group() as group, kernel_settings():
        command = [*_unshare(), sys.executable, __file__, FIRST_PROCESS, *arguments]
        environment = os.environ | {FOLDER_VARIABLE: str(place), GROUP_VARIABLE: group}
        with subprocess.Popen(command, env=environment, cwd=ROOT) as inside:
            # Ctrl-C reaches pytest by itself; a termination of this script is handed on.
            signal.signal(signal.SIGTERM, lambda *_: terminate_first_process(inside.pid))
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            code = inside.wait()
        if left := leftovers(place):
            print(f"error: this was left behind: {', '.join(left)}", file=sys.stderr)
            return code or 1
        return code


def terminate_first_process(unshare: int) -> None:
    """`unshare` itself takes no notice of a SIGTERM; its only child is the first process of the namespace."""
    children = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
    for pid in map(int, children):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def leftovers(place: Path) -> list[str]:
    """Mounts and processes that outlived the namespaces: there must be none."""
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(place) in line]
    return mounts + [
        f"process {pid.name}" for pid in Path("/proc").glob("[0-9]*") if str(place).encode() in _command_line(pid)
    ]


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""  # gone meanwhile


def first_process(arguments: list[str]) -> int:
    """Process 1 of the namespace: starts pytest and collects whoever is orphaned, as containers' shims are."""
    pytest = subprocess.Popen([sys.executable, "-m", "pytest", *arguments], cwd=ROOT)
    signal.signal(signal.SIGTERM, lambda *_: pytest.send_signal(signal.SIGINT))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        pid, status = os.wait()
        if pid == pytest.pid:
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    if sys.argv[1:2] == [FIRST_PROCESS]:
        sys.exit(first_process(sys.argv[2:]))
    sys.exit(main(sys.argv[1:] or ["tests/e2e"]))
