"""The container's processes: starting the first one, finding and ending all."""

# ruff: noqa: PTH123, PTH208
# pathlib would double the imports of a process that stays resident beside every container; relative imports, because it runs
# as a package of its own

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time

from .memory import limit_data

TYPE_CHECKING = False  # importing typing would make every shim larger
if TYPE_CHECKING:
    from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
EXIT_START_ERROR = 128
FLOW_OOM_SCORE = 500  # when memory ends, the kernel shall choose a flow, not the agent or a shim


def prctl(option: int, value: int) -> None:
    """The one system call that the standard library lacks."""
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def spawn(launch: dict[str, Any], outputs: list[int]) -> tuple[int, str]:
    """Fork and execute. Returns the pid, and why the program could not be executed (empty: it could)."""
    report_read, report_write = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(launch, outputs, report_write, parent)
    os.close(report_write)
    with os.fdopen(report_read, "rb") as file:
        return pid, file.read().decode(errors="replace")  # execve closes the other end


def _become(launch: dict[str, Any], outputs: list[int], report: int, parent: int) -> NoReturn:
    """In the child: become the container's process, or report why not."""
    what = "cannot start"
    try:
        os.setsid()
        what = "cannot enter its control group"
        for path in launch.get("cgroupProcs") or ():
            with open(path, "w") as file:
                file.write("0")
        what = "cannot start"
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody would tell this process's end when the shim is gone
        if os.getppid() != parent:
            os._exit(EXIT_START_ERROR)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (outputs[0], 1), (outputs[1], 2)):
            os.dup2(source, target, inheritable=True)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.umask(0o022)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(FLOW_OOM_SCORE))
        if launch.get("dataLimitBytes"):
            limit_data(launch["dataLimitBytes"])
        what = f"cannot enter the working directory {launch['cwd']}"
        os.chdir(launch["cwd"])
        what = f"cannot execute {launch['executable']}"
        os.execve(launch["executable"], launch["argv"], launch["env"])  # noqa: S606 - that is the point
    except OSError as error:
        os.write(report, f"{what}: {error.strerror}".encode())
    finally:
        os._exit(EXIT_START_ERROR)


def descendants() -> list[int]:
    """Every process below this one. As a subreaper the shim keeps those that daemonised, too."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
                if fields[0] not in "ZX":
                    children.setdefault(int(fields[1]), []).append(int(entry))
    found: list[int] = []
    todo = [os.getpid()]
    while todo:
        below = children.get(todo.pop(), ())
        found.extend(below)
        todo.extend(below)
    return found


def tree(root: int) -> list[int]:
    """The processes below `root`, by the kernel's own lists: cheap, but a process that comes or goes meanwhile may be missed.

    Raises:
        FileNotFoundError: this kernel has no such lists (or `root` is gone).
    """
    found: list[int] = []
    todo = [root]
    while todo:
        pid = todo.pop()
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children") as file:
                    todo.extend(map(int, file.read().split()))
        except (FileNotFoundError, ProcessLookupError):
            if pid == root:
                raise FileNotFoundError(f"/proc/{pid}/task/*/children") from None
            continue
        if pid != root:
            found.append(pid)
    return found


def kill_all(group: int) -> None:
    """SIGKILL for the group and for everything below the shim."""
    for _ in range(100):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        pids = descendants()
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
