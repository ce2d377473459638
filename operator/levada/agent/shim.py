"""One process per container, which outlives the agent: it starts the container's process, keeps its log, and tells its end.

The agent runs this file as a program (`python -I -S shim.py FOLDER`) with SIGTERM blocked, and speaks to it by files in the
pod's folder, each of them written in one step:

    launch.json    the agent: what to run. Written before the shim is started
    claim.json     whoever starts the container, or decides that nobody may. Created by a hard link, so that there is only one
    started.json   the shim: the process runs
    stop.json      the agent: how long the process may still take; then SIGTERM to the shim says "look"
    exit.json      the shim: how it ended. The last thing the shim does

File descriptor 3, when open, is closed once started.json or exit.json stands: that is how a living agent knows at once.
Standard library only, one thread, no levada imports: this stays resident beside every container.
"""

# ruff: noqa: PTH105, PTH108, PTH118, PTH123, PTH208
# pathlib would double the imports of a process that stays resident beside every container

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False  # importing typing would make every shim larger
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
READY_FD = 3
READ_BYTES = 65536
MAX_LINE_BYTES = 16384  # as containerd: a longer line becomes several, marked P (partial)
MAX_LOG_BYTES = 50 * 1024 * 1024  # then the log is put aside once; older lines are lost
DRAIN_S = 2.0  # for output still in the pipes when every process is gone
MEMORY_SAMPLE_S = 1.0
EXIT_START_ERROR = 128
FLOW_OOM_SCORE = 500  # when memory ends, the kernel shall choose a flow, not the agent or a shim
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def write_file(path: str, data: bytes) -> None:
    """Replace a private file in one step, and make sure that it survives a power cut."""
    draft = f"{path}.{os.getpid()}.draft"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def write_json(path: str, value: dict[str, Any]) -> None:
    """Replace a JSON file in one step."""
    write_file(path, json.dumps(value).encode())


def read_json(path: str) -> dict[str, Any] | None:
    """The file's value, or None if there is no such file."""
    try:
        with open(path) as file:
            value: dict[str, Any] = json.load(file)
            return value
    except FileNotFoundError:
        return None


def claim(folder: str, who: dict[str, Any]) -> bool:
    """Become the only one who decides whether this container starts. False: somebody else has.

    A hard link is atomic and exclusive, and the file is complete from its first moment.
    """
    draft = os.path.join(folder, f"claim.{os.getpid()}.draft")
    write_json(draft, who)
    try:
        os.link(draft, os.path.join(folder, "claim.json"))
    except FileExistsError:
        return False
    finally:
        os.unlink(draft)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True


def identity(pid: int) -> dict[str, Any]:
    """What tells this process from any later one with its pid."""
    with open(f"/proc/{pid}/stat") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    with open("/proc/sys/kernel/random/boot_id") as file:
        return {"pid": pid, "startTicks": ticks, "bootId": file.read().strip()}


def timestamp() -> str:
    """Now, as the CRI log format spells it."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds:09d}Z"


class Log:
    """The container's output in the CRI log format: `TIME stdout|stderr F|P line`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.rests = {"stdout": b"", "stderr": b""}
        self._open()

    def _open(self) -> None:
        self.descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.size = os.fstat(self.descriptor).st_size

    def feed(self, stream: str, data: bytes) -> None:
        """Write the complete lines; keep the rest."""
        *lines, rest = (self.rests[stream] + data).split(b"\n")
        out: list[bytes] = []
        for line in lines:
            self._format(out, stream, line, b"F")
        while len(rest) >= MAX_LINE_BYTES:
            self._format(out, stream, rest[:MAX_LINE_BYTES], b"P")
            rest = rest[MAX_LINE_BYTES:]
        self.rests[stream] = rest
        self._write(b"".join(out))

    def close(self) -> None:
        """Write what has no newline, too."""
        out: list[bytes] = []
        for stream, rest in self.rests.items():
            if rest:
                self._format(out, stream, rest, b"F")
        self._write(b"".join(out))

    def _format(self, out: list[bytes], stream: str, line: bytes, tag: bytes) -> None:
        start = f"{timestamp()} {stream} ".encode()
        while len(line) > MAX_LINE_BYTES:
            out.append(start + b"P " + line[:MAX_LINE_BYTES] + b"\n")
            line = line[MAX_LINE_BYTES:]
        out.append(start + tag + b" " + line + b"\n")

    def _write(self, data: bytes) -> None:
        # A full disk must not end the flow: its log has a gap then.
        with contextlib.suppress(OSError):
            if self.size > MAX_LOG_BYTES:
                os.close(self.descriptor)
                os.replace(self.path, self.path + ".1")
                self._open()
            while data:
                written = os.write(self.descriptor, data)
                self.size += written
                data = data[written:]


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


def resident_bytes(pids: Iterable[int], *, exact: bool) -> int:
    """Memory of the processes: resident pages (cheap), or each process's share of them (exact, slow)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            if exact:
                with open(f"/proc/{pid}/smaps_rollup") as file:
                    total += next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
            else:
                with open(f"/proc/{pid}/statm") as file:
                    total += int(file.read().split()[1]) * PAGE_BYTES
    return total


def kernel_oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since the machine started."""
    with contextlib.suppress(OSError), open("/proc/vmstat") as file:
        for line in file:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


class Shim:
    """The loop around one container process."""

    def __init__(self, folder: str, launch: dict[str, Any]) -> None:
        self.folder = folder
        self.launch = launch
        self.log = Log(launch["logPath"])
        self.pid = 0
        self.status: int | None = None
        self.out_of_memory = False
        self.term_sent = False
        self.kill_at_s: float | None = None
        self.killed_after_grace = False
        self.memory_at_s = time.monotonic() + MEMORY_SAMPLE_S if launch.get("memoryLimitBytes") else None
        self.poll = select.poll()
        self.streams: dict[int, str] = {}
        self.kills_before = kernel_oom_kills()

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
                    os.read(descriptor, 64)
            self.reap()
        self.log.close()
        self.reap()
        finish(self.folder, self.result(started_at, finished_at))

    def result(self, started_at: str, finished_at: str) -> dict[str, Any]:
        """What exit.json says."""
        status = self.status or 0
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        unexplained_kill = number == signal.SIGKILL and not self.out_of_memory and not self.killed_after_grace
        by_kernel = unexplained_kill and self.kill_at_s is None and kernel_oom_kills() > self.kills_before
        result: dict[str, Any] = {
            "exitCode": 128 + number if number else os.WEXITSTATUS(status),
            "signal": number,
            "startedAt": started_at,
            "finishedAt": finished_at,
            "killedAfterGrace": self.killed_after_grace,
        }
        if self.out_of_memory or by_kernel:
            result["reason"] = "OOMKilled"
            result["message"] = (
                f"the processes used more than the memory limit of {self.launch['memoryLimitBytes']} bytes"
                if self.out_of_memory
                else "the kernel killed a process of this machine for want of memory, and this one ended by SIGKILL"
            )
        return result


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


def finish(folder: str, result: dict[str, Any]) -> None:
    """The last word."""
    result.setdefault("finishedAt", timestamp())
    write_json(os.path.join(folder, "exit.json"), result)
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
    if launch is None or not claim(folder, {"by": "shim", **identity(os.getpid())}):
        return 1
    Shim(folder, launch).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
