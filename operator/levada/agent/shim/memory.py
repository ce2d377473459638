"""How much memory the container takes, and whether the kernel has had enough of it."""

# ruff: noqa: PTH118, PTH120, PTH123
# pathlib would double the imports of a process that stays resident beside every container; relative imports, because it runs
# as a package of its own

from __future__ import annotations

import contextlib
import os

TYPE_CHECKING = False  # importing typing would make every shim larger
if TYPE_CHECKING:
    from collections.abc import Iterable

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


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


def limit_data(size: int) -> None:
    """Bound this process's private writable memory."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    size = size if hard == resource.RLIM_INFINITY else min(size, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def watch_oom(events: str) -> int | None:
    """A descriptor that becomes readable when the container's group is out of memory. Version 1 only.

    Version 2 needs none: there the kernel ends the whole group by itself (memory.oom.group).
    """
    control = os.path.join(os.path.dirname(events), "cgroup.event_control")
    try:
        with open(control, "w") as file, open(events) as source:
            descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            file.write(f"{descriptor} {source.fileno()}")
            file.flush()
            return descriptor
    except OSError:
        return None


def oom_kills(events: str) -> int:
    """How many processes the kernel has killed for want of memory: of a group by its file, or of the machine (/proc/vmstat)."""
    with contextlib.suppress(OSError), open(events) as file:
        for line in file:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
