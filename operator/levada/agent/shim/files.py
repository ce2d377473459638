"""Small files that survive a power cut, and who a process is."""

# ruff: noqa: PTH105, PTH108, PTH118, PTH123
# pathlib would double the imports of a process that stays resident beside every container; relative imports, because it runs
# as a package of its own

from __future__ import annotations

import contextlib
import json
import os
import time

TYPE_CHECKING = False  # importing typing would make every shim larger
if TYPE_CHECKING:
    from typing import Any

SPACE_S = 1.0  # between two tries to write the end on a full disk
RESERVE_BYTES = 16384  # kept on disk for the end of the container


def write_file(path: str, data: bytes) -> None:
    """Replace a private file in one step, and make sure that it survives a power cut."""
    draft = f"{path}.{os.getpid()}.draft"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise


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


def reserve(folder: str) -> None:
    """Keep some space, so that the end of a container can be told on a disk that has become full.

    Raises:
        OSError: the disk is full already.
    """
    descriptor = os.open(os.path.join(folder, "reserve"), os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
    finally:
        os.close(descriptor)
