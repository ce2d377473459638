"""Processes that outlive the command that started them, and that are never confused with others.

A process is its pid *and* its start time *and* the boot it belongs to: pids are reused, and killing a stranger's process
is worse than leaving one of ours. A process is recorded after it was started, so a `kill -9` of the starter in between
leaves one without a record; the marker in its environment finds it again.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from levada.cluster.files import write_atomically

MARKER: Final = "LEVADA_CLUSTER_PROCESS"
_PROC: Final = Path("/proc")
_POLL_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process, told apart from any later one with the same pid."""

    pid: int
    start_ticks: int
    boot_id: str


@dataclass(frozen=True, slots=True)
class Record:
    """What a cluster remembers about the process of one of its components."""

    identity: ProcessIdentity
    fingerprint: str
    started_at: float

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Parse a record.

        Raises:
            ValueError: it is no record.
        """
        try:
            raw = json.loads(text)
            return cls(ProcessIdentity(**raw["identity"]), str(raw["fingerprint"]), float(raw["started_at"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a process record: {error}") from error


def boot_id() -> str:
    """Which boot of the machine this is: start times count from it."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> tuple[str, int] | None:
    """State letter and start time of a process. The command may hold spaces and brackets: count from the last one."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[19])


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of a living process; None for one that is gone or a zombie."""
    stat = _stat(pid)
    if stat is None:
        return None
    if stat[0] in "ZX":
        reap(pid)
        return None
    return ProcessIdentity(pid, stat[1], boot_id())


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether this very process still runs."""
    return identify(identity.pid) == identity


def reap(pid: int) -> None:
    """Collect a dead child of ours, so that it does not stay as a zombie. Nothing happens for other processes."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def spawn(
    command: Sequence[str], *, log: Path, marker: str, environment: Mapping[str, str] | None = None
) -> ProcessIdentity:
    """Start a process in a session of its own, so that no terminal or parent takes it along when it ends.

    It inherits little of this process's environment; `environment` adds to that.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    write_log = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        command[0],
        list(command),
        {**_environment(os.environ), **(environment or {}), MARKER: marker},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), write_log, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=[],
        # Python ignores the first two, and an ignored signal is inherited; so may be what `nohup` ignores.
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
    )
    stat = _stat(pid)
    # A child that is already dead still has its stat line until it is reaped, which only happens later.
    return ProcessIdentity(pid, stat[1] if stat else 0, boot_id())


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a component inherits: no proxies (it talks to loopback only) and no configuration meant for others."""
    return {name: value for name, value in environ.items() if name in {"HOME", "PATH", "LANG", "TMPDIR", "TZ"}}


def marked(marker: str) -> Iterator[ProcessIdentity]:
    """The living processes of this user that were spawned with the marker."""
    wanted = f"{MARKER}={marker}".encode()
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environ = (entry / "environ").read_bytes()
        except OSError:
            continue  # gone meanwhile, or another user's
        if wanted in environ.split(b"\0") and (identity := identify(int(entry.name))):
            yield identity


def send(identity: ProcessIdentity, number: signal.Signals) -> None:
    """Signal this very process, never a later one with its pid.

    The pidfd pins the process first; the start time is compared after, so there is no moment for a reuse in between.
    """
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return
    try:
        if is_alive(identity):
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)


def wait_gone(identity: ProcessIdentity, timeout_seconds: float) -> bool:
    """Wait until the process is gone; False when it is still there at the end."""
    deadline = time.monotonic() + timeout_seconds
    while is_alive(identity):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def stop(identity: ProcessIdentity, *, grace_seconds: float) -> None:
    """Ask the process to end, and kill it when it does not within its grace."""
    if grace_seconds > 0:
        send(identity, signal.SIGTERM)
        if wait_gone(identity, grace_seconds):
            return
    send(identity, signal.SIGKILL)
    wait_gone(identity, 10)


def load_record(path: Path) -> Record | None:
    """The record in the file; None when there is none or it cannot be read."""
    try:
        return Record.from_json(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def save_record(path: Path, record: Record) -> None:
    write_atomically(path, record.to_json())
