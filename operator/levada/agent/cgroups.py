"""Control groups, as far as this process may use them: where it is, and one group per pod below it.

Groups are made below the agent's own and nowhere else, so that whatever holds the agent holds its pods, too. In version 2 a
group that has children with controllers may have no processes of its own: the agent then moves into a leaf (LEAF) first, as
systemd's `DelegateSubgroup=` would.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

LEAF: Final = "agent"
PREFIX: Final = "levada-"
CONTROLLERS: Final = ("memory", "cpu", "pids")
_KILL_S: Final = 2.0
Number = TypeVar("Number", int, float)


class UnusableError(Exception):
    """No groups can be made here. The message says why and what would help."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where the agent's groups are: controller -> folder. In version 2 all of them are one folder."""

    version: int
    folders: Mapping[str, Path]
    tag: str = ""  # of one agent: several may share a folder

    def of_pod(self, uid: str) -> dict[str, Path]:
        """The folders of one pod."""
        return {controller: folder / f"{PREFIX}{self.tag}-{uid}" for controller, folder in self.folders.items()}

    def pods(self) -> set[str]:
        """The uids of all pods that have a folder."""
        prefix = f"{PREFIX}{self.tag}-"
        return {
            path.name.removeprefix(prefix)
            for folder in set(self.folders.values())
            for path in folder.glob(f"{prefix}*")
        }


def find(tag: str, parent: str | None = None, proc: Path = Path("/proc/self")) -> Hierarchy:
    """The hierarchy that the agent can use: its own group, or `parent` (a path below the mount, as in /proc/self/cgroup).

    Raises:
        UnusableError: there is none with the memory controller that this user may write.
    """
    own, mounts = _own_groups(proc), _mounts(proc)
    if "memory" in own:
        folders: dict[str, Path] = {
            controller: _folder(mounts[controller], parent or own[controller])
            for controller in CONTROLLERS
            if controller in own and controller in mounts
        }
        if "memory" not in folders:
            raise UnusableError("the memory controller of cgroup v1 is not mounted")
        hierarchy = Hierarchy(1, folders, tag)
    elif "" in own and "" in mounts:
        hierarchy = _delegated(_folder(mounts[""], parent or own[""]), given=parent is not None, tag=tag)
    else:
        raise UnusableError("this machine has no control groups")
    _probe(hierarchy)
    return hierarchy


def release(folders: Iterable[Path]) -> None:
    """Kill whatever is in these groups and remove them. Missing ones are fine."""
    for folder in set(folders):
        end = time.monotonic() + _KILL_S
        while folder.exists() and time.monotonic() < end:
            kill(folder)
            with contextlib.suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.005)


def kill(folder: Path) -> None:
    """SIGKILL for every process in the group."""
    try:
        if (folder / "cgroup.kill").exists():
            (folder / "cgroup.kill").write_text("1")
            return
        pids = (folder / "cgroup.procs").read_text().split()
    except OSError:
        return
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(int(pid), signal.SIGKILL)


def memory_limit_bytes(proc: Path = Path("/proc/self")) -> int | None:
    """What the groups above this process leave it; None without a limit."""
    own, mounts = _own_groups(proc), _mounts(proc)
    with contextlib.suppress(OSError, KeyError):
        if "memory" in own:
            stat = (_folder(mounts["memory"], own["memory"]) / "memory.stat").read_text().splitlines()
            return next((int(line.split()[1]) for line in stat if line.startswith("hierarchical_memory_limit ")), None)
        return min(_walk_up(mounts[""][0], own[""], "memory.max", int), default=None)
    return None


def cpu_limit(proc: Path = Path("/proc/self")) -> float | None:
    """How many CPUs the groups above this process leave it; None without a limit."""
    own, mounts = _own_groups(proc), _mounts(proc)
    with contextlib.suppress(OSError, KeyError):
        if "cpu" in own:
            folder = _folder(mounts["cpu"], own["cpu"])
            quota_us, period_us = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
            return quota_us / period_us if quota_us > 0 else None
        return min(_walk_up(mounts[""][0], own[""], "cpu.max", _quota), default=None)
    return None


def _quota(text: str) -> float:
    quota, period = text.split()
    return int(quota) / int(period)


def _walk_up(mount: Path, own: str, name: str, parse: Callable[[str], Number]) -> list[Number]:
    """The values of a file of the own group and all above it; those that say `max` are left out."""
    found: list[Number] = []
    folder = mount / own.strip("/")
    while folder.is_relative_to(mount):
        with contextlib.suppress(OSError):
            text = (folder / name).read_text().strip()
            if not text.startswith("max"):
                found.append(parse(text))
        folder = folder.parent
    return found


def _own_groups(proc: Path) -> dict[str, str]:
    """Controller (empty: version 2) -> the path of this process's group."""
    found = {}
    with contextlib.suppress(OSError):
        for line in (proc / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            found.update(dict.fromkeys(controllers.split(","), path))
    return found


def _mounts(proc: Path) -> dict[str, tuple[Path, str]]:
    """Controller (empty: version 2) -> where it is mounted, and which part of the hierarchy that shows."""
    found = {}
    with contextlib.suppress(OSError):
        for line in (proc / "mountinfo").read_text().splitlines():
            left, _, right = line.partition(" - ")
            kind, _, options = right.split(" ", 2)
            root, point = left.split(" ")[3:5]
            if kind == "cgroup2":
                found[""] = (Path(point), root)
            elif kind == "cgroup":
                found.update({name: (Path(point), root) for name in options.split(",") if name in CONTROLLERS})
    return found


def _folder(mount: tuple[Path, str], group: str) -> Path:
    point, root = mount
    inside = group[len(root) :] if root != "/" and group.startswith(root) else group
    return point / inside.strip("/")


def _delegated(own: Path, *, given: bool, tag: str) -> Hierarchy:
    """Make a version 2 group ready for children with controllers."""
    base = own.parent if own.name == LEAF and not given else own
    try:
        available = (base / "cgroup.controllers").read_text().split()
        if "memory" not in available:
            raise UnusableError(f"the memory controller is not delegated to {base}: start the agent with Delegate=yes")
        if (base / "cgroup.type").exists():  # the root of all groups may have processes
            _move_out(base)
        wanted = [controller for controller in CONTROLLERS if controller in available]
        (base / "cgroup.subtree_control").write_text(" ".join(f"+{controller}" for controller in wanted))
    except OSError as error:
        raise UnusableError(f"{base} is not this agent's to divide ({error.strerror}): {_ADVICE}") from error
    return Hierarchy(2, dict.fromkeys(wanted, base), tag)


_ADVICE: Final = (
    "start it with `systemd-run --user --scope -p Delegate=yes levada agent start …`, or name a --cgroup-parent"
)


def _move_out(base: Path) -> None:
    """Move this process from the group into its leaf."""
    inside = {int(pid) for pid in (base / "cgroup.procs").read_text().split()}
    others = inside - {os.getpid()}
    if others:
        raise UnusableError(f"{base} has {len(others)} other processes: {_ADVICE}")
    if inside:
        (base / LEAF).mkdir(exist_ok=True)
        (base / LEAF / "cgroup.procs").write_text(str(os.getpid()))


def _probe(hierarchy: Hierarchy) -> None:
    """Make and remove a group, to be told now rather than at the first pod."""
    for folder in set(hierarchy.of_pod(f"probe-{os.getpid()}").values()):
        try:
            folder.mkdir()
            folder.rmdir()
        except OSError as error:
            raise UnusableError(f"no group can be made in {folder.parent}: {error.strerror}") from error
