"""The loop around one container process, from its start to exit.json."""

# ruff: noqa: PTH108, PTH118
# pathlib would double the imports of a process that stays resident beside every container; relative imports, because it runs
# as a package of its own

from __future__ import annotations

import contextlib
import os
import select
import signal
import time

from .files import SPACE_S, claim, identity, read_json, reserve, timestamp, write_json
from .log import Log
from .memory import oom_kills, resident_bytes, watch_oom
from .names import MAX_LOG_BYTES, READY_FD
from .processes import EXIT_START_ERROR, PR_SET_CHILD_SUBREAPER, descendants, kill_all, prctl, spawn, tree

TYPE_CHECKING = False  # importing typing would make every shim larger
if TYPE_CHECKING:
    from typing import Any

READ_BYTES = 65536
DRAIN_S = 2.0  # for output still in the pipes when every process is gone
MEMORY_SAMPLE_S = 1.0
OOM_KILL_S = 0.2  # from the kernel's "out of memory" to its kill, at most


class Shim:
    """The loop around one container process."""

    def __init__(self, folder: str, launch: dict[str, Any]) -> None:
        self.folder = folder
        self.launch = launch
        self.log = Log(launch["logPath"], launch.get("maxLogBytes") or MAX_LOG_BYTES)
        self.pid = 0
        self.status: int | None = None
        self.out_of_memory = False
        self.term_sent = False
        self.kill_at_s: float | None = None
        self.killed_after_grace = False
        self.memory_at_s = time.monotonic() + MEMORY_SAMPLE_S if launch.get("sampleMemory") else None
        self.poll = select.poll()
        self.streams: dict[int, str] = {}
        self.oom_events: str = launch.get("oomEvents") or "/proc/vmstat"
        self.kills_before = oom_kills(self.oom_events)
        self.oom_watch = watch_oom(launch["oomEvents"]) if launch.get("oomEvents") else None

    def run(self) -> None:
        """From start to exit.json."""
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        ends = []
        for name in ("stdout", "stderr"):
            read_end, write_end = os.pipe()
            self.streams[read_end] = name
            ends.append(write_end)
            self.poll.register(read_end, select.POLLIN | select.POLLHUP)
        self.poll.register(wake_read, select.POLLIN)
        if self.oom_watch is not None:
            self.poll.register(self.oom_watch, select.POLLIN)
        started_at = timestamp()
        self.pid, failure = spawn(self.launch, ends)
        for end in ends:
            os.close(end)
        if failure:
            os.waitpid(self.pid, 0)
            finish(self.folder, {"exitCode": EXIT_START_ERROR, "reason": "StartError", "message": failure})
            return
        write_json(os.path.join(self.folder, "started.json"), {"startedAt": started_at, "pid": self.pid})
        tell_ready()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        self.reap()
        while self.status is None:
            self.step(wake_read)
        self.end(started_at)

    def step(self, wake_read: int) -> None:
        """Wait for output, a signal or a deadline, and act on it."""
        deadlines = [at for at in (self.kill_at_s, self.memory_at_s) if at is not None]
        timeout_ms = max(0, int((min(deadlines) - time.monotonic()) * 1000) + 1) if deadlines else None
        for descriptor, _ in self.poll.poll(timeout_ms):
            if descriptor == self.oom_watch:
                self.act_on_oom(descriptor)
                continue
            if descriptor != wake_read:
                self.read(descriptor)
                continue
            numbers = os.read(wake_read, 64)
            if set(numbers) & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
                self.stop()
        self.reap()
        now_s = time.monotonic()
        if self.memory_at_s is not None and now_s >= self.memory_at_s:
            self.memory_at_s = now_s + MEMORY_SAMPLE_S
            self.check_memory()
        if self.kill_at_s is not None and now_s >= self.kill_at_s and self.status is None:
            self.killed_after_grace = self.term_sent
            kill_all(self.pid)
            self.kill_at_s = now_s + 0.05  # a process that forks as fast as it is killed is killed again

    def stop(self) -> None:
        """SIGTERM to the whole group, once; then wait for the grace that stop.json (or the launch) gives."""
        order = read_json(os.path.join(self.folder, "stop.json")) or {}
        grace_s = order.get("graceSeconds", self.launch.get("graceSeconds", 30))
        kill_at_s = time.monotonic() + grace_s
        self.kill_at_s = kill_at_s if self.kill_at_s is None else min(kill_at_s, self.kill_at_s)
        if grace_s > 0 and not self.term_sent:
            self.term_sent = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGTERM)

    def check_memory(self) -> None:
        """Act as the memory controller would: more than the limit ends everything in the container."""
        limit = self.launch["memoryLimitBytes"]
        try:
            pids = tree(os.getpid())
        except FileNotFoundError:
            pids = descendants()
        # Resident pages count shared ones once per process: only when they exceed the limit is the exact sum worth its price.
        if resident_bytes(pids, exact=False) > limit and resident_bytes(pids, exact=True) > limit:
            self.out_of_memory = True
            kill_all(self.pid)

    def act_on_oom(self, descriptor: int) -> None:
        """One process of the group is killed for want of memory: then all of them go, as a container would."""
        os.read(descriptor, 8)
        # Groups below one that is out of memory are told, too: only a kill in this one counts.
        until_s = time.monotonic() + OOM_KILL_S
        while oom_kills(self.oom_events) == self.kills_before:
            if time.monotonic() > until_s:
                return
            time.sleep(0.002)
        self.out_of_memory = True
        kill_all(self.pid)

    def reap(self) -> None:
        """Collect dead children: the container's own process, and orphans that came to us."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                self.status = status

    def read(self, descriptor: int) -> None:
        """Take what a pipe holds; forget the pipe when its last writer is gone."""
        data = os.read(descriptor, READ_BYTES)
        if data:
            self.log.feed(self.streams[descriptor], data)
            return
        self.poll.unregister(descriptor)
        del self.streams[descriptor]
        os.close(descriptor)

    def end(self, started_at: str) -> None:
        """The container's own process is gone: so is the container. End what it left behind, keep the last output."""
        finished_at = timestamp()
        kill_all(self.pid)
        until_s = time.monotonic() + DRAIN_S
        while self.streams and (left_s := until_s - time.monotonic()) > 0:
            for descriptor, _ in self.poll.poll(int(left_s * 1000) + 1):
                if descriptor in self.streams:
                    self.read(descriptor)
                else:
                    os.read(descriptor, 64)  # a signal or the group's word: it has ended already
            self.reap()
        self.log.close()
        self.reap()
        finish(self.folder, self.result(started_at, finished_at))

    def result(self, started_at: str, finished_at: str) -> dict[str, Any]:
        """What exit.json says."""
        status = self.status or 0
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        kernel_killed = oom_kills(self.oom_events) > self.kills_before
        if self.launch.get("oomEvents"):
            by_kernel = kernel_killed and status != 0  # these kills were in this very group
        else:
            unexplained_kill = number == signal.SIGKILL and not self.out_of_memory and not self.killed_after_grace
            by_kernel = unexplained_kill and self.kill_at_s is None and kernel_killed
        result: dict[str, Any] = {
            "exitCode": 128 + number if number else os.WEXITSTATUS(status),
            "signal": number,
            "startedAt": started_at,
            "finishedAt": finished_at,
            "killedAfterGrace": self.killed_after_grace,
        }
        if self.out_of_memory or by_kernel:
            result["reason"] = "OOMKilled"
            limit = self.launch.get("memoryLimitBytes")
            result["message"] = (
                f"the processes used more than the memory limit of {limit} bytes"
                if limit and (self.out_of_memory or self.launch.get("oomEvents"))
                else "the kernel killed a process of this machine for want of memory, and this one ended by SIGKILL"
            )
        return result


def finish(folder: str, result: dict[str, Any]) -> None:
    """The last word."""
    result.setdefault("finishedAt", timestamp())
    while True:
        try:
            write_json(os.path.join(folder, "exit.json"), result)
            break
        except FileNotFoundError:
            return  # the folder was removed: nobody asks any more
        except OSError:
            # A full disk. The reserve is for this; when others have taken that as well, the end waits for space.
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, "reserve"))
                continue
            time.sleep(SPACE_S)
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(folder, "reserve"))
    tell_ready()


def tell_ready() -> None:
    """Close the agent's pipe, if it gave us one."""
    with contextlib.suppress(OSError):
        os.close(READY_FD)


def main(folder: str) -> int:
    """Claim, run, tell."""
    os.closerange(READY_FD + 1, os.sysconf("SC_OPEN_MAX"))  # what the agent's own starter left open is not for flows
    with contextlib.suppress(OSError):
        os.set_inheritable(READY_FD, False)
    launch = read_json(os.path.join(folder, "launch.json"))
    if launch is None:
        return 1
    reserve(folder)
    if not claim(folder, {"by": "shim", **identity(os.getpid())}):
        return 1
    Shim(folder, launch).run()
    return 0
