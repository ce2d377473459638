"""The agent's Node object: what this machine is, has and can do. Pure, except for reading the machine's own files."""

import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from levada.agent.fields import ADDRESS
from levada.agent.settings import Settings, cpus
from levada.resources.names import GROUP, LABEL_AGENT, QUEUE_LABEL_PREFIX, TAINT_AGENT

ANNOTATION_INSTANCE: Final = f"{GROUP}/agent-instance"
ANNOTATION_ISOLATION: Final = f"{GROUP}/agent-isolation"
ISOLATION: Final = (
    "none: containers are processes of the agent's user; memory limits are kept by sampling every second, "
    "cpu limits are not kept; users, capabilities, seccomp and read-only root are ignored"
)
_MIN_FREE_DISK: Final = 0.05
_MIN_FREE_MEMORY_BYTES: Final = 100 * 1024 * 1024
_MAX_PIDS: Final = 0.95
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Load:
    """How full the machine is."""

    free_memory_bytes: int
    free_disk: float  # of the state folder's file system, 0 to 1
    used_pids: float


def measure(state: Path) -> Load:
    """Look at the machine."""
    disk = shutil.disk_usage(state)
    threads = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    pid_max = int(Path("/proc/sys/kernel/pid_max").read_text())
    return Load(_meminfo("MemAvailable"), disk.free / disk.total if disk.total else 1.0, threads / pid_max)


def capacity(settings: Settings) -> dict[str, str]:
    """What the scheduler may give away here."""
    return {
        "cpu": str(cpus()),
        "memory": f"{_memory_bytes() // 1024}Ki",
        "ephemeral-storage": f"{shutil.disk_usage(settings.state).total // 1024}Ki",
        "pods": str(settings.max_pods),
    }


def labels(settings: Settings) -> dict[str, str]:
    """The node's labels. A node certificate may set only few kubernetes.io ones on itself; these are among them."""
    return {
        "kubernetes.io/hostname": settings.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        LABEL_AGENT: "true",
        **{QUEUE_LABEL_PREFIX + queue: "true" for queue in settings.queues},
    }


def manifest(settings: Settings, instance: str) -> dict[str, Any]:
    """The Node to create. A node may set its taint only now: later only an administrator may change it."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": settings.name,
            "labels": labels(settings),
            "annotations": {ANNOTATION_INSTANCE: instance, ANNOTATION_ISOLATION: ISOLATION},
        },
        "spec": {"taints": [{"key": TAINT_AGENT, "value": "true", "effect": "NoSchedule"}]},
    }


def metadata_patch(settings: Settings, existing: Mapping[str, Any], instance: str) -> dict[str, Any]:
    """What to change on a Node that a former agent left: its queues may be others now."""
    wanted = labels(settings)
    found = existing["metadata"].get("labels") or {}
    stale = {name: None for name in found if name.startswith(QUEUE_LABEL_PREFIX) and name not in wanted}
    annotations = {ANNOTATION_INSTANCE: instance, ANNOTATION_ISOLATION: ISOLATION}
    return {"metadata": {"labels": {**wanted, **stale}, "annotations": annotations}}


def is_tainted(node: Mapping[str, Any]) -> bool:
    """Whether other pods are kept away."""
    return any(taint["key"] == TAINT_AGENT for taint in node["spec"].get("taints") or ())


def conditions(load: Load, *, stopping: bool) -> dict[str, dict[str, str]]:
    """Type of condition -> its status, reason and message."""
    low_memory = load.free_memory_bytes < _MIN_FREE_MEMORY_BYTES
    low_disk = load.free_disk < _MIN_FREE_DISK
    low_pids = load.used_pids > _MAX_PIDS
    return {
        "MemoryPressure": _condition(low_memory, "AgentHasInsufficientMemory", "AgentHasSufficientMemory"),
        "DiskPressure": _condition(low_disk, "AgentHasDiskPressure", "AgentHasNoDiskPressure"),
        "PIDPressure": _condition(low_pids, "AgentHasInsufficientPID", "AgentHasSufficientPID"),
        "Ready": {"status": "False", "reason": "AgentStopped", "message": "the agent was stopped; its pods run on"}
        if stopping
        else {"status": "True", "reason": "AgentReady", "message": "the agent is ready"},
    }


def status(
    settings: Settings, wanted: Mapping[str, Mapping[str, str]], since: Mapping[str, str], *, now: str, port: int
) -> dict[str, Any]:
    """The Node's status. `since` says when each condition last changed."""
    return {
        "conditions": [
            {"type": kind, **wanted[kind], "lastHeartbeatTime": now, "lastTransitionTime": since[kind]}
            for kind in wanted
        ],
        "capacity": capacity(settings),
        "allocatable": capacity(settings),
        "addresses": [{"type": "InternalIP", "address": ADDRESS}, {"type": "Hostname", "address": settings.name}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": _node_info(),
    }


def _condition(bad: bool, bad_reason: str, good_reason: str) -> dict[str, str]:
    reason = bad_reason if bad else good_reason
    return {"status": "True" if bad else "False", "reason": reason, "message": ""}


def _node_info() -> dict[str, str]:
    system = platform.uname()
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    return {
        "machineID": _text("/etc/machine-id"),
        "systemUUID": _text("/etc/machine-id"),
        "bootID": _text("/proc/sys/kernel/random/boot_id"),
        "kernelVersion": system.release,
        "osImage": release.get("PRETTY_NAME", "Linux"),
        "containerRuntimeVersion": f"levada-agent://{version('levada')}",
        "kubeletVersion": f"v{version('levada')}-levada-agent",
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": _ARCHITECTURES.get(system.machine, system.machine),
    }


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _meminfo(key: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return 0


def _memory_bytes() -> int:
    """The machine's memory, or this process's cgroup limit when that is less."""
    total = _meminfo("MemTotal")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = _text(path)
        if text.isdigit():
            return min(total, int(text))
    return total


def image_id() -> str:
    """What stands for the image: the interpreter that runs the flow."""
    return f"levada-agent://{platform.node()}/python-{platform.python_version()}/levada-{version('levada')}"
