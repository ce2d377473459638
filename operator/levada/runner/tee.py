"""A run's output goes two ways: to the pod's log as ever, and to the archive. So the runner becomes two processes.

The keeper (this process, tiny, started first) holds the reading ends of the flow's stdout and stderr. It writes whatever comes
to the real ones at once, and hands it to the flow's process over a socket when that has time to archive it. The flow's
process is its child. Why not a thread: what C code and child processes print goes through the same descriptors, a thread
cannot read while such code holds the interpreter, and what a dying process has just said would be lost with its threads.

    socket, keeper -> child    D<bytes of output>   S<bytes lost so far> (all that came before your S is with you)
    socket, child -> keeper    S (hand over all that you have, then say S)   A<position> <offset> (archived up to here)   B (good-bye)

What blocks get from the pod's Secrets (it is in the environment) is masked on both ways, whoever prints it. The keeper passes signals on, ends as the child ends, and archives what a child that died could not. Standard library only, one
thread: this stays resident beside every run.
"""

import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

from levada.resources.names import ENV_BLOCK_SECRET, ENV_STORAGE

if TYPE_CHECKING:
    from levada.runner.masking import Masker

# How much output waits for a storage that is slow or away; what comes beyond it is counted and not archived.
BACKLOG_BYTES: Final = 4 * 1024 * 1024
MESSAGE_BYTES: Final = 32 * 1024
_READ_BYTES: Final = 65536
_PASSED_ON: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
# For output still in the pipes when the flow's process is gone.
_DRAIN_SECONDS: Final = 1.0
_SALVAGE_SECONDS: Final = 10.0


def is_needed(env: Mapping[str, str]) -> bool:
    """Whether a run's output has to be archived, or to be masked."""
    return bool(env.get(ENV_STORAGE)) or any(name.startswith(ENV_BLOCK_SECRET) for name in env)


def given_secrets(env: Mapping[str, str]) -> list[bytes]:
    """What blocks get from the pod's Secrets, in every form in which it may be printed."""
    given = [value for name, value in env.items() if name.startswith(ENV_BLOCK_SECRET)]
    if not given:
        return []
    from levada.secrets import looks_of

    return [look.encode(errors="surrogateescape") for value in given for look in looks_of(value)]


def split() -> socket.socket:
    """Become keeper and child. Returns in the child only, with its end of the socket; the keeper never returns."""
    ours, childs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pipes = [os.pipe()]
    if not _same(1, 2):
        pipes.append(os.pipe())
    sys.stdout.flush()
    sys.stderr.flush()
    # A signal between fork and handlers would end one of the two and leave the other.
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_PASSED_ON, signal.SIGINT, signal.SIGCHLD})
    pid = os.fork()
    if pid:
        childs.close()
        for _, write_end in pipes:
            os.close(write_end)
        Keeper(pid, ours, [read_end for read_end, _ in pipes], given_secrets(os.environ)).run()
    ours.close()
    os.dup2(pipes[0][1], 1)
    os.dup2(pipes[-1][1], 2)
    for ends in pipes:
        for end in ends:
            os.close(end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*_PASSED_ON, signal.SIGINT, signal.SIGCHLD})
    return childs


def _same(one: int, other: int) -> bool:
    """Whether two descriptors lead to one place: then one pipe keeps the order of what is written."""
    try:
        a, b = os.fstat(one), os.fstat(other)
    except OSError:
        return False
    return (a.st_dev, a.st_ino, a.st_rdev) == (b.st_dev, b.st_ino, b.st_rdev)


class Backlog:
    """The output that is not archived yet: a window of the whole stream, from `base` to `end`. Bounded."""

    def __init__(self, most: int = BACKLOG_BYTES) -> None:
        self._most = most
        self._kept = bytearray()
        self.base = 0  # archived up to here, as far as the child has said
        self.sent = 0  # handed to the child up to here
        self.offset = 0  # where the archive of the log ends
        self._lost = 0  # bytes that found no room since the last ones that did
        self.lost_bytes = 0

    @property
    def end(self) -> int:
        return self.base + len(self._kept)

    def add(self, data: bytes) -> None:
        """Take output in, as long as there is room; what is lost leaves a line that says so."""
        room = self._most - len(self._kept)
        if self._lost and room > self._most // 2:
            self._kept += gap_line(self._lost)
            self._lost = 0
        if self._lost or len(data) > room:
            self._lost += len(data)
            self.lost_bytes += len(data)
            return
        self._kept += data

    def close_gap(self) -> None:
        """At the end: say what is missing, whatever room there is."""
        if self._lost:
            self._kept += gap_line(self._lost)
            self._lost = 0

    def next_message(self) -> bytes:
        """What to hand over next; empty: nothing is left."""
        start = self.sent - self.base
        return bytes(self._kept[start : start + MESSAGE_BYTES])

    def took(self, size: int) -> None:
        """The child has so many bytes more."""
        self.sent += size

    def archived(self, position: int, offset: int) -> None:
        """The storage has the stream up to `position`, which is byte `offset` of the archived log."""
        del self._kept[: position - self.base]
        self.base, self.offset = position, offset

    def rest(self) -> bytes:
        """What is not archived."""
        return bytes(self._kept)


def gap_line(lost_bytes: int) -> bytes:
    """The line that stands for output that was not archived."""
    return (
        b"\n[levada: %d bytes of output are missing here, because the storage did not take them in time]\n" % lost_bytes
    )


class Keeper:
    """The loop around the flow's process."""

    def __init__(self, pid: int, channel: socket.socket, outputs: list[int], secrets: list[bytes]) -> None:
        self._pid = pid
        self._channel = channel
        self._targets = dict(zip(outputs, (1, 2), strict=False))
        self._maskers = _maskers(outputs, secrets)  # none where there are no secrets
        self._backlog = Backlog()
        self._sync_at: int | None = None  # the child waits for everything up to here
        self._good_bye = False
        self._told_at: float | None = None
        self._poll = select.poll()
        self._events = 0

    def run(self) -> NoReturn:
        """Until the child has ended; then end in the same way."""
        status = 0
        try:
            wake = self._set_up()
            while True:
                self._step(wake)
                pid, status = os.waitpid(self._pid, os.WNOHANG)
                if pid:
                    break
            self._drain()
            if not self._good_bye:
                self._salvage()
        except BaseException as error:  # noqa: BLE001 - the flow must not outlive its keeper unseen
            os.write(2, f"levada: the keeper of the run's log failed: {error!r}\n".encode())
            with contextlib.suppress(OSError):
                os.kill(self._pid, signal.SIGKILL)
                _, status = os.waitpid(self._pid, 0)
        end_like(status)

    def _set_up(self) -> int:
        self._channel.setblocking(False)
        for descriptor in self._targets:
            os.set_blocking(descriptor, False)
            self._poll.register(descriptor, select.POLLIN | select.POLLHUP)
        read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        self._poll.register(read_end, select.POLLIN)
        for number in _PASSED_ON:
            signal.signal(number, self._pass_on)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # From a terminal both get it. Where there is none, somebody means this process, and so the flow.
        signal.signal(signal.SIGINT, signal.SIG_IGN if os.isatty(0) else self._pass_on)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*_PASSED_ON, signal.SIGINT, signal.SIGCHLD})
        return read_end

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._told_at = self._told_at or time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, number)

    def _step(self, wake: int) -> None:
        self._listen()
        for descriptor, events in self._poll.poll():
            if descriptor == wake:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake, 64)
            elif descriptor in self._targets:
                self._forward(descriptor)
            elif events & (select.POLLHUP | select.POLLERR) and not events & select.POLLIN:
                self._hang_up()
            elif events & select.POLLIN:
                self._hear()
        self._hand_over()

    def _forward(self, descriptor: int) -> bool:
        """Take what a pipe holds and write it to the pod's log. Returns whether there may be more."""
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._show_held(descriptor)
            self._poll.unregister(descriptor)
            os.close(descriptor)
            del self._targets[descriptor]
            return False
        masker = self._maskers.get(descriptor)
        self._show(descriptor, data if masker is None else masker.take(data))
        return True

    def _show(self, descriptor: int, data: bytes) -> None:
        _write_all(self._targets[descriptor], data)
        self._backlog.add(data)

    def _show_held(self, descriptor: int) -> None:
        """Nothing comes, by which to tell whether it is the beginning of a secret."""
        if descriptor in self._maskers:
            self._show(descriptor, self._maskers[descriptor].rest())

    def _show_all_held(self) -> None:
        for descriptor in list(self._targets):
            self._show_held(descriptor)

    def _forward_all(self) -> bool:
        return sum(self._forward(descriptor) for descriptor in list(self._targets)) > 0

    # --- the child

    def _listen(self) -> None:
        """Ask for what the socket can do, if anything is to be done."""
        waiting = self._backlog.sent < self._backlog.end or self._sync_at is not None
        wanted = select.POLLIN | (select.POLLOUT if waiting else 0)
        if self._channel.fileno() >= 0 and wanted != self._events:
            self._events = wanted
            self._poll.register(self._channel, wanted)

    def _hear(self) -> bool:
        """Take in one message. Returns whether there was one."""
        try:
            said = self._channel.recv(256)
        except BlockingIOError:
            return False
        except OSError:
            said = b""
        if not said:
            self._hang_up()
        elif said[:1] == b"S":
            while self._forward_all():
                pass
            self._show_all_held()
            self._backlog.close_gap()
            self._sync_at = self._backlog.end
        elif said[:1] == b"A":
            position, _, offset = said[1:].partition(b" ")
            self._backlog.archived(int(position), int(offset))
        elif said[:1] == b"B":
            self._good_bye = True
        return bool(said)

    def _hang_up(self) -> None:
        if self._channel.fileno() >= 0:
            self._poll.unregister(self._channel)
            self._channel.close()

    def _hand_over(self) -> None:
        """Give the child what it has room for; never wait for it."""
        while self._channel.fileno() >= 0:
            data = self._backlog.next_message()
            synced = self._sync_at is not None and self._backlog.sent >= self._sync_at
            if not data and not synced:
                return
            try:
                self._channel.send(b"S%d" % self._backlog.lost_bytes if synced else b"D" + data)
            except BlockingIOError:
                return
            except OSError:
                self._hang_up()
                return
            if synced:
                self._sync_at = None
            else:
                self._backlog.took(len(data))

    # --- the end

    def _drain(self) -> None:
        """The child is gone: take what it said last. Who still holds a pipe (its own children) is not waited for."""
        until = time.monotonic() + _DRAIN_SECONDS
        while time.monotonic() < until and self._forward_all():
            pass
        self._show_all_held()
        self._backlog.close_gap()
        while self._channel.fileno() >= 0 and self._hear():  # what it told before it died
            pass

    def _salvage(self) -> None:
        """Archive the last words of a child that died. There is little time, and nobody to tell if it fails."""
        rest = self._backlog.rest()
        if not rest:
            return
        from levada.runner.settings import SettingsError, spread_order

        env = dict(os.environ)
        with contextlib.suppress(SettingsError):  # the child has told it
            spread_order(env)
        grace = float(env.get("LEVADA_GRACE_SECONDS") or 30)
        told = self._told_at
        left = _SALVAGE_SECONDS if told is None else min(_SALVAGE_SECONDS, told + grace - 1 - time.monotonic())
        if left <= 0:
            return
        import threading

        from levada.runner.archiving import salvage

        thread = threading.Thread(target=salvage, args=(env, self._backlog.offset, rest), daemon=True)
        thread.start()
        thread.join(left)


def _maskers(outputs: list[int], secrets: list[bytes]) -> "dict[int, Masker]":
    if not secrets:
        return {}
    from levada.runner.masking import Masker

    return {descriptor: Masker(secrets) for descriptor in outputs}


def _write_all(target: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(target, data) :]
        except BlockingIOError:
            select.select([], [target], [])
        except OSError:  # nobody reads the pod's log any more; the archive goes on
            return


def end_like(status: int) -> NoReturn:
    """End this process as the child has ended: whoever looks from outside sees one process."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with contextlib.suppress(OSError, ValueError):
            import resource

            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the child has left its core already
            signal.signal(number, signal.SIG_DFL)
        with contextlib.suppress(OSError):
            os.kill(os.getpid(), number)
        os._exit(128 + number)  # the first process of a container is not killed by its own signals
    os._exit(os.WEXITSTATUS(status))
