"""A control group for the node's pods in every hierarchy (version 1) or the one there is (version 2), removed at the end."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = "levada-e2e-"
_V1_INHERITED = ("cpuset.cpus", "cpuset.mems")  # empty in a new group, which then may hold no process
_REMOVAL_SECONDS = 10


def hierarchies() -> list[Path]:
    """Where control groups are mounted."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return [Path(mount[1]) for mount in mounts if mount[2] in {"cgroup", "cgroup2"}]


@contextlib.contextmanager
def control_group() -> Iterator[str]:
    """Make the group; yields its path as a kubelet names it. Leftovers of killed sessions go first."""
    roots = hierarchies()
    for root in roots:
        for leftover in root.glob(f"{PREFIX}*"):
            if not Path(f"/proc/{leftover.name.removeprefix(PREFIX)}").exists():
                _remove(leftover)
    name = f"{PREFIX}{os.getpid()}"
    for root in roots:
        group = root / name
        group.mkdir(exist_ok=True)
        for file in _V1_INHERITED:
            if (group / file).exists():
                (group / file).write_text((root / file).read_text())
    try:
        yield f"/{name}"
    finally:
        for root in roots:
            _remove(root / name)


def _remove(group: Path) -> None:
    """Remove the group and those below it. Its processes have been killed; the kernel may need a moment to let go of them."""
    deadline = time.monotonic() + _REMOVAL_SECONDS
    for folder, _, _ in os.walk(group, topdown=False):
        while True:
            try:
                Path(folder).rmdir()
                break
            except FileNotFoundError:
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
