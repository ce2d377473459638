"""Shims as processes: starting one, finding it again after the agent's restart, signalling it, seeing its end.

A process is its pid, its start time and the boot: a later process that got the pid must never be signalled or waited for.
A pidfd pins it, and wakes the event loop when it ends, whether or not it is our child.
"""

import asyncio
import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from levada.agent import shim
from levada.agent.environment import MARKER, STATE_MARKER

_PROGRAM: Final = Path(shim.__file__).with_name("__main__.py")
_BLOCKED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Shim:
    """A running shim; close it when done."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._pidfd = pidfd

    @classmethod
    def attach(cls, claim: dict[str, Any]) -> "Shim | None":
        """The shim that made this claim; None if it has ended."""
        pid = int(claim["pid"])
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return None
        if _identity(pid) == {key: claim[key] for key in ("pid", "startTicks", "bootId")}:
            return cls(pid, pidfd)
        os.close(pidfd)
        return None

    @classmethod
    def spawn(cls, folder: Path) -> tuple["Shim", int]:
        """Start the shim of a pod's folder. Also returns a descriptor that ends when the container has started or failed.

        The shim starts with its signals blocked, so that a stop can never hit it before it can act on it.
        """
        ready_read, ready_write = os.pipe()
        output = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", str(_PROGRAM), str(folder)],
                {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, ready_write, shim.READY_FD),
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, str(folder / "shim.log"), output, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
                setsigmask=_BLOCKED,
                setsigdef=(*_BLOCKED, signal.SIGPIPE),
            )
        except BaseException:
            os.close(ready_read)
            raise
        finally:
            os.close(ready_write)
        return cls(pid, os.pidfd_open(pid)), ready_read

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return not select.select([self._pidfd], [], [], 0)[0]

    async def ended(self) -> None:
        """Return when the process has ended."""
        await _readable(self._pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)  # noqa: ASYNC222 - it has ended: this only collects it

    def close(self) -> None:
        """Release the descriptor; the process is left as it is."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


async def closed(descriptor: int) -> None:
    """Return when the other end of a pipe is closed; closes this end, too."""
    try:
        await _readable(descriptor)
    finally:
        os.close(descriptor)


def kill_strays(uid: str) -> int:
    """SIGKILL every process that was started for the pod, by the marker in its environment. Returns how many.

    Only for the rare case that a shim was killed: it can no longer end what the container's process left behind.
    """
    wanted = f"{MARKER}={uid}".encode()
    return _kill_where(lambda variables: wanted in variables)


def kill_unowned(state: Path, is_owned: Callable[[str], bool]) -> int:
    """SIGKILL every process of this agent whose pod it does not know. Returns how many.

    For a state folder that was lost: nothing else tells that these processes exist.
    """
    prefix, mine = f"{MARKER}=".encode(), f"{STATE_MARKER}={state}".encode()

    def is_stray(variables: Sequence[bytes]) -> bool:
        uids = [line.removeprefix(prefix).decode() for line in variables if line.startswith(prefix)]
        return mine in variables and any(not is_owned(uid) for uid in uids)

    return _kill_where(is_stray)


def _kill_where(is_stray: Callable[[Sequence[bytes]], bool]) -> int:
    killed = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            pidfd = os.pidfd_open(int(entry.name))
        except OSError:
            continue
        try:
            if is_stray((entry / "environ").read_bytes().split(b"\0")):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                killed += 1
        except OSError:
            continue  # gone meanwhile, or another user's
        finally:
            os.close(pidfd)
    return killed


def _identity(pid: int) -> dict[str, Any] | None:
    """The identity of a living process; None for one that is gone or a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return None if state in "ZX" else shim.identity(pid)
    except OSError:
        return None


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
