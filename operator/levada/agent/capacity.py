"""What this machine has, what of it flows may have, and how full it is."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from levada.agent import cgroups
from levada.agent.settings import Settings

# What the machine keeps for itself: the agent, its shims, and the room that MemoryPressure watches over.
OWN_MEMORY_BYTES: Final = 128 << 20
MIN_FREE_MEMORY_BYTES: Final = 100 << 20
MIN_FREE_DISK: Final = 0.05
MIN_FREE_DISK_BYTES: Final = 1 << 30  # of a large disk, 5 % would be far more than runs need
MIN_FREE_FILES: Final = 0.05


@dataclass(frozen=True, slots=True)
class Capacity:
    """The node's capacity and allocatable, as quantities."""

    total: dict[str, str]
    allocatable: dict[str, str]


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system of the state folder."""

    total_bytes: int
    free_bytes: int
    free_files: float = 1.0  # share of its files, 0 to 1

    @property
    def reserve_bytes(self) -> int:
        """What must stay free, so that the ends of running pods can be told."""
        return min(int(MIN_FREE_DISK * self.total_bytes), MIN_FREE_DISK_BYTES)

    @property
    def problem(self) -> str:
        """Why no more pods can be taken; empty if they can."""
        if self.free_bytes < self.reserve_bytes:
            return (
                f"the disk is almost full: {self.free_bytes >> 20} MiB of {self.total_bytes >> 20} MiB are free, "
                f"{self.reserve_bytes >> 20} MiB are kept for the pods that run"
            )
        if self.free_files < MIN_FREE_FILES:
            return f"the disk has almost no room for more files: {self.free_files:.0%} are free"
        return ""


@dataclass(frozen=True, slots=True)
class Load:
    """How full the machine is."""

    free_memory_bytes: int
    disk: Disk
    used_pids: float


def load(state: Path) -> Load:
    """Look at the machine."""
    threads = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    pid_max = int(Path("/proc/sys/kernel/pid_max").read_text())
    return Load(_meminfo("MemAvailable"), disk(state), threads / pid_max)


def disk(state: Path) -> Disk:
    """Look at the state folder's disk; cheap enough for every pod."""
    found = os.statvfs(state)
    free_files = found.f_favail / found.f_files if found.f_files else 1.0
    return Disk(found.f_frsize * found.f_blocks, found.f_frsize * found.f_bavail, free_files)


def measure(settings: Settings) -> Capacity:
    """What the scheduler may give away here: as told, else what the machine has after its own needs."""
    cpus = min(float(len(os.sched_getaffinity(0))), cgroups.cpu_limit() or float("inf"))
    memory = min(_meminfo("MemTotal"), cgroups.memory_limit_bytes() or _meminfo("MemTotal"))
    storage = disk(settings.state)
    for_flows = max(
        memory - MIN_FREE_MEMORY_BYTES - OWN_MEMORY_BYTES, memory // 2
    )  # a machine so small that half of it is less than that is no machine for flows
    pods = str(settings.max_pods)
    total = {"cpu": _cpu(cpus), "memory": _ki(memory), "ephemeral-storage": _ki(storage.total_bytes), "pods": pods}
    allocatable = {
        "cpu": _cpu(settings.cpus if settings.cpus is not None else cpus),
        "memory": _ki(settings.memory_bytes if settings.memory_bytes is not None else for_flows),
        "ephemeral-storage": _ki(
            settings.storage_bytes
            if settings.storage_bytes is not None
            else max(0, storage.free_bytes - storage.reserve_bytes)
        ),
        "pods": pods,
    }
    return Capacity(total, allocatable)


def _cpu(count: float) -> str:
    return str(int(count)) if count == int(count) else f"{round(count * 1000)}m"


def _ki(size: int) -> str:
    return f"{size // 1024}Ki"


def _meminfo(key: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return 0
