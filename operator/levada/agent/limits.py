"""The limits of a flow's container: what the pod asks for, and how this machine keeps it.

cgroup-v2, cgroup-v1
    The kernel keeps memory, CPU and number of processes, for the pod's whole tree. Whoever takes more memory is killed with
    everything in the pod, at once.
rlimit
    No groups can be made here. The shim adds up the tree's memory once a second; RLIMIT_DATA stops a single process that
    takes far more than the limit in between. CPU and number of processes are not limited.
none
    Nothing is kept (`--limits none`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from levada.agent import cgroups
from levada.agent.fields import quantity
from levada.agent.settings import Limiting, SettingsError

MAX_PROCESSES: Final = 4096  # in one pod: far above any flow, far below a machine's pid_max
CPU_PERIOD_US: Final = 100_000
MIN_CPU_QUOTA_US: Final = 1_000  # the kernel takes no less
# Private writable memory also counts what is only reserved (thread stacks, arenas): a limit that is twice as large and has
# room for these never hits a flow that stays below its limit.
DATA_FACTOR: Final = 2
DATA_ROOM_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a container asks for. CPUs may be fractions."""

    memory_bytes: int | None
    cpus: float | None
    requested_cpus: float

    @property
    def weight(self) -> float:
        """The pod's part when CPUs are short, as a multiple of what any other process of the machine gets.

        Not Kubernetes' formula, whose least is next to nothing: a kubelet's pods compete among themselves, an agent's with
        everything on the machine.
        """
        return max(1.0, self.requested_cpus)

    @classmethod
    def by(cls, container: Mapping[str, Any]) -> "Wanted":
        """From a container's resources."""
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        memory, cpus = limits.get("memory"), limits.get("cpu")
        requested = requests.get("cpu", cpus if cpus is not None else 0)
        return cls(
            int(quantity(memory)) if memory is not None else None,
            float(quantity(cpus)) if cpus is not None else None,
            float(quantity(requested)),
        )


class Limits:
    """How this agent keeps limits."""

    def __init__(self, hierarchy: cgroups.Hierarchy | None, *, sampled: bool = False, why_not: str = "") -> None:
        self._hierarchy = hierarchy
        self._sampled = sampled
        self.why_not = why_not  # groups cannot be used; empty when they are, or are not wanted

    @classmethod
    def find(cls, choice: Limiting, parent: str | None, tag: str) -> "Limits":
        """The best that this machine has. `tag` tells this agent's groups from those of another agent in the same place.

        Raises:
            SettingsError: `--limits cgroup`, and it has none.
        """
        if choice in {Limiting.NONE, Limiting.RLIMIT}:
            return cls(None, sampled=choice is Limiting.RLIMIT)
        try:
            return cls(cgroups.find(tag, parent))
        except cgroups.UnusableError as error:
            if choice is Limiting.CGROUP:
                raise SettingsError(f"--limits cgroup: {error}") from error
            return cls(None, sampled=True, why_not=str(error))

    @property
    def name(self) -> str:
        """For the node's label."""
        if self._hierarchy:
            return f"cgroup-v{self._hierarchy.version}"
        return "rlimit" if self._sampled else "none"

    @property
    def words(self) -> str:
        """What is kept and what is not, for people."""
        if self._hierarchy:
            kept = [name for name in cgroups.CONTROLLERS if name in self._hierarchy.folders]
            missing = [name for name in cgroups.CONTROLLERS if name not in kept]
            return f"{', '.join(kept)} limits are kept by control groups" + (
                f"; not kept: {', '.join(missing)}" if missing else ""
            )
        if self._sampled:
            return "memory limits are kept by sampling every second; cpu and pids limits are not kept"
        return "memory, cpu and pids limits are not kept"

    def launch(self, uid: str, container: Mapping[str, Any]) -> dict[str, Any]:
        """Make the pod's groups. Returns what the shim has to know, as fields of launch.json."""
        wanted = Wanted.by(container)
        if self._hierarchy is None:
            limit = wanted.memory_bytes if self._sampled else None
            data = DATA_FACTOR * limit + DATA_ROOM_BYTES if limit else None
            return {"memoryLimitBytes": limit, "sampleMemory": bool(limit), "dataLimitBytes": data}
        folders = self._hierarchy.of_pod(uid)
        for controller, folder in folders.items():
            folder.mkdir(exist_ok=True)
            settings = _SETTINGS[self._hierarchy.version, controller](wanted)
            for name, value in settings.items():
                # Not every kernel has every file (swap may be off): what must be there is there, the probe has seen it.
                if (folder / name).exists():
                    (folder / name).write_text(value)
        procs = sorted({str(folder / "cgroup.procs") for folder in folders.values()})
        events = "memory.oom_control" if self._hierarchy.version == 1 else "memory.events"
        return {
            "memoryLimitBytes": wanted.memory_bytes,
            "cgroupProcs": procs,
            "oomEvents": str(folders["memory"] / events),
        }

    def folders(self, uid: str) -> list[Path]:
        """Where a pod's groups would be."""
        return list(self._hierarchy.of_pod(uid).values()) if self._hierarchy else []

    def release_strays(self, is_owned: Callable[[str], bool]) -> list[str]:
        """End and remove the groups that no pod of this agent owns. Returns the pods' uids."""
        if self._hierarchy is None:
            return []
        strays = sorted(uid for uid in self._hierarchy.pods() if not is_owned(uid))
        for uid in strays:
            cgroups.release(self.folders(uid))
        return strays


def _memory_v1(wanted: Wanted) -> dict[str, str]:
    if wanted.memory_bytes is None:
        return {}
    # The order matters: memory alone may not exceed memory and swap together.
    value = str(wanted.memory_bytes)
    return {"memory.limit_in_bytes": value, "memory.memsw.limit_in_bytes": value}


def _memory_v2(wanted: Wanted) -> dict[str, str]:
    limit = {"memory.max": str(wanted.memory_bytes), "memory.swap.max": "0"} if wanted.memory_bytes is not None else {}
    return {**limit, "memory.oom.group": "1"}


def _cpu_v1(wanted: Wanted) -> dict[str, str]:
    shares = {"cpu.shares": str(round(wanted.weight * 1024))}
    if wanted.cpus is None:
        return shares
    return {**shares, "cpu.cfs_period_us": str(CPU_PERIOD_US), "cpu.cfs_quota_us": str(_quota_us(wanted.cpus))}


def _cpu_v2(wanted: Wanted) -> dict[str, str]:
    weight = {"cpu.weight": str(min(10_000, round(wanted.weight * 100)))}
    return weight if wanted.cpus is None else {**weight, "cpu.max": f"{_quota_us(wanted.cpus)} {CPU_PERIOD_US}"}


def _pids(wanted: Wanted) -> dict[str, str]:
    return {"pids.max": str(MAX_PROCESSES)}


def _quota_us(cpus: float) -> int:
    return max(MIN_CPU_QUOTA_US, round(cpus * CPU_PERIOD_US))


_SETTINGS: Final = {
    (1, "memory"): _memory_v1, (2, "memory"): _memory_v2,
    (1, "cpu"): _cpu_v1, (2, "cpu"): _cpu_v2,
    (1, "pids"): _pids, (2, "pids"): _pids,
}  # fmt: skip
