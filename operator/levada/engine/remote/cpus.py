"""How many CPUs this process may use: those of the machine, of its affinity, or of its container's limit, whichever are fewest."""

import math
import os
from pathlib import Path

_V2 = Path("/sys/fs/cgroup/cpu.max")
_V1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def count() -> int:
    """At least 1."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = limit_of(_read(_V2) or " ".join(map(_read, _V1)))
    return own if limit is None else max(1, min(own, limit))


def limit_of(text: str) -> int | None:
    """What the kernel's `quota period`, both in microseconds, allows; a part of a CPU counts as one. None: no limit."""
    quota, _, period = text.strip().partition(" ")
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    return math.ceil(int(quota) / int(period))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
