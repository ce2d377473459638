"""The agent's Node object: what this machine is, has and can do. Pure, except for reading the machine's own files."""

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from levada.agent.capacity import MIN_FREE_MEMORY_BYTES, Capacity, Load
from levada.agent.fields import ADDRESS
from levada.agent.limits import Limits
from levada.agent.settings import Settings
from levada.resources.names import GROUP, LABEL_AGENT, LABEL_LIMITS, QUEUE_LABEL_PREFIX, TAINT_AGENT

ANNOTATION_INSTANCE: Final = f"{GROUP}/agent-instance"
ANNOTATION_ISOLATION: Final = f"{GROUP}/agent-isolation"
ANNOTATION_QUEUES: Final = f"{GROUP}/agent-queues"  # what the agent's options said when it registered
ANNOTATION_CORDONED: Final = f"{GROUP}/agent-cordoned"  # by an agent that was stopping, until its next start
_MAX_PIDS: Final = 0.95
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What this agent is, for as long as it runs."""

    settings: Settings
    instance: str  # of the state folder: two machines must not share a node's name
    limits: Limits
    capacity: Capacity


def labels(facts: Facts, queues: Iterable[str]) -> dict[str, str]:
    """The node's labels. A node certificate may set only few kubernetes.io ones on itself; these are among them."""
    return {
        "kubernetes.io/hostname": facts.settings.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        LABEL_AGENT: "true",
        LABEL_LIMITS: facts.limits.name,
        **{QUEUE_LABEL_PREFIX + queue: "true" for queue in queues},
    }


def annotations(facts: Facts) -> dict[str, str]:
    """The node's annotations."""
    isolation = (
        f"none: containers are processes of the agent's user; {facts.limits.words}; "
        "users, capabilities, seccomp and read-only root are ignored"
    )
    return {
        ANNOTATION_INSTANCE: facts.instance,
        ANNOTATION_ISOLATION: isolation,
        ANNOTATION_QUEUES: ",".join(facts.settings.queues),
    }


def manifest(facts: Facts, queues: Iterable[str]) -> dict[str, Any]:
    """The Node to create. A node may set its taint only now: later only an administrator may change it."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": facts.settings.name,
            "labels": labels(facts, queues),
            "annotations": annotations(facts),
        },
        "spec": {"taints": [{"key": TAINT_AGENT, "value": "true", "effect": "NoSchedule"}]},
    }


def queues_of(node: Mapping[str, Any]) -> tuple[str, ...]:
    """The queues that a node serves, by its labels."""
    found = node["metadata"].get("labels") or {}
    return tuple(sorted(name.removeprefix(QUEUE_LABEL_PREFIX) for name in found if name.startswith(QUEUE_LABEL_PREFIX)))


def queues_to_serve(settings: Settings, existing: Mapping[str, Any]) -> tuple[str, ...]:
    """What somebody set at run time holds, until the agent is started with other options than before."""
    said = (existing["metadata"].get("annotations") or {}).get(ANNOTATION_QUEUES)
    return queues_of(existing) if said == ",".join(settings.queues) else settings.queues


def queue_labels(existing: Mapping[str, Any], queues: Iterable[str]) -> dict[str, str | None]:
    """The change of labels that makes a node serve exactly these queues."""
    wanted: dict[str, str | None] = {QUEUE_LABEL_PREFIX + queue: "true" for queue in queues}
    return {**{QUEUE_LABEL_PREFIX + queue: None for queue in queues_of(existing)}, **wanted}


def takeover_patch(facts: Facts, existing: Mapping[str, Any]) -> dict[str, Any]:
    """What to change on a Node that a former agent left."""
    queues = queues_to_serve(facts.settings, existing)
    metadata: dict[str, Any] = {
        "labels": {**queue_labels(existing, queues), **labels(facts, queues)},
        "annotations": annotations(facts),
    }
    if ANNOTATION_CORDONED not in (existing["metadata"].get("annotations") or {}):
        return {"metadata": metadata}
    metadata["annotations"] = {**metadata["annotations"], ANNOTATION_CORDONED: None}
    return {"metadata": metadata, "spec": {"unschedulable": None}}


def is_tainted(node: Mapping[str, Any]) -> bool:
    """Whether other pods are kept away."""
    return any(taint["key"] == TAINT_AGENT for taint in node["spec"].get("taints") or ())


def conditions(load: Load, *, skew: str, stopped: str = "") -> dict[str, dict[str, str]]:
    """Type of condition -> its status, reason and message. `skew` and `stopped` are words, empty when it is not so."""
    low_memory = load.free_memory_bytes < MIN_FREE_MEMORY_BYTES
    memory = f"{load.free_memory_bytes >> 20} MiB of memory are left" if low_memory else ""
    low_pids = load.used_pids > _MAX_PIDS
    pids = f"{load.used_pids:.0%} of the machine's process numbers are in use" if low_pids else ""
    return {
        "MemoryPressure": _condition(memory, "AgentHasInsufficientMemory", "AgentHasSufficientMemory"),
        "DiskPressure": _condition(load.disk.problem, "AgentHasDiskPressure", "AgentHasNoDiskPressure"),
        "PIDPressure": _condition(pids, "AgentHasInsufficientPID", "AgentHasSufficientPID"),
        "ClockSkew": _condition(skew, "ClocksDiffer", "ClocksAgree"),
        "Ready": {"status": "False", "reason": "AgentStopped", "message": stopped}
        if stopped
        else {"status": "True", "reason": "AgentReady", "message": "the agent is ready"},
    }


def status(
    facts: Facts, wanted: Mapping[str, Mapping[str, str]], since: Mapping[str, str], *, now: str, port: int
) -> dict[str, Any]:
    """The Node's status. `since` says when each condition last changed."""
    name = facts.settings.name
    return {
        "conditions": [
            {"type": kind, **wanted[kind], "lastHeartbeatTime": now, "lastTransitionTime": since[kind]}
            for kind in wanted
        ],
        "capacity": facts.capacity.total,
        "allocatable": facts.capacity.allocatable,
        "addresses": [{"type": "InternalIP", "address": ADDRESS}, {"type": "Hostname", "address": name}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": _node_info(),
    }


def _condition(problem: str, bad_reason: str, good_reason: str) -> dict[str, str]:
    reason = bad_reason if problem else good_reason
    return {"status": "True" if problem else "False", "reason": reason, "message": problem}


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


def image_id() -> str:
    """What stands for the image: the interpreter that runs the flow."""
    return f"levada-agent://{platform.node()}/python-{platform.python_version()}/levada-{version('levada')}"
