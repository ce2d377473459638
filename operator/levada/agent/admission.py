"""Which pods an agent runs: flow runs, and nothing that it could not do honestly.

A kubelet refuses a pod by making it Failed with a reason; so does the agent. It never ignores a field that would change what
the pod does: what it cannot do, it refuses in words. It does ignore what only strengthens isolation (users, capabilities,
seccomp, read-only root), because it gives none, and says so on the node.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from levada.agent.fields import quantity
from levada.resources.names import CONTAINER_NAME, LABEL_RUN

Pod = Mapping[str, Any]

SUPPORTED_VOLUMES: Final = frozenset({"emptyDir", "configMap", "secret", "projected", "downwardAPI"})
SUPPORTED_SOURCES: Final = frozenset({"serviceAccountToken", "configMap", "secret", "downwardAPI"})
NOT_A_FLOW_RUN: Final = "NotAFlowRun"
# The kubelet's own reason for a pod that it cannot admit: Kubernetes and the operator both know it.
NOT_SUPPORTED: Final = "UnexpectedAdmissionError"
OUT_OF_PODS: Final = "OutOfpods"
OUT_OF_DISK: Final = "OutOfephemeral-storage"
SHUTTING_DOWN: Final = "NodeShutdown"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a pod will not run here: for the pod's status."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Room:
    """What there is, and who holds places in it."""

    max_pods: int
    allocatable: Mapping[str, str]
    held: Sequence[Pod] = ()
    disk_problem: str = ""
    stopping: bool = False


def refusal(pod: Pod, room: Room) -> Refusal | None:
    """Why this pod must not run on this agent; None: it may."""
    name = pod["metadata"].get("labels", {}).get(LABEL_RUN)
    containers = [container["name"] for container in pod["spec"]["containers"]]
    if not name:
        return Refusal(NOT_A_FLOW_RUN, f"a Levada agent runs only pods of flow runs: this one has no label {LABEL_RUN}")
    if containers != [CONTAINER_NAME]:
        found = ", ".join(containers)
        return Refusal(NOT_A_FLOW_RUN, f"a flow run has one container, named {CONTAINER_NAME!r}; this pod has: {found}")
    problem = next(_problems(pod["spec"]), None)
    if problem:
        return Refusal(NOT_SUPPORTED, f"a Levada agent cannot run this pod: {problem}")
    return _no_room(pod, room)


def _no_room(pod: Pod, room: Room) -> Refusal | None:
    """The scheduler knows all this, but a pod may have been bound before it did, or without it."""
    running = len(room.held)
    if room.stopping:
        return Refusal(SHUTTING_DOWN, "this agent is being stopped and takes no more pods")
    if room.disk_problem:
        return Refusal(OUT_OF_DISK, f"this agent takes no more pods: {room.disk_problem}")
    if running >= room.max_pods:
        return Refusal(OUT_OF_PODS, f"this agent runs {running} pods already (--max-pods {room.max_pods})")
    for resource in ("cpu", "memory"):
        wanted = _requested(pod, resource)
        left = quantity(room.allocatable[resource]) - sum((_requested(each, resource) for each in room.held), Decimal())
        if wanted > left:
            amount = pod["spec"]["containers"][0]["resources"]["requests"][resource]
            return Refusal(f"OutOf{resource}", f"the pod requests {amount} {resource}, which this agent has not left")
    return None


def _requested(pod: Pod, resource: str) -> Decimal:
    requests = (pod["spec"]["containers"][0].get("resources") or {}).get("requests") or {}
    return quantity(requests.get(resource, "0"))


def _problems(spec: Mapping[str, Any]) -> Iterator[str]:
    for check in _CHECKS:
        yield from check(spec, spec["containers"][0])


def _check_pod(spec: Mapping[str, Any], container: Mapping[str, Any]) -> Iterator[str]:
    if spec.get("initContainers"):
        yield "it has initContainers; do their work in the flow, or use a node with containers"
    if spec.get("restartPolicy", "Always") != "Never":
        yield f"its restartPolicy is {spec.get('restartPolicy', 'Always')}; only Never is supported"
    for field in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
        if spec.get(field):
            yield f"it sets {field}, which has no meaning without containers"
    if (spec.get("os") or {}).get("name", "linux") != "linux":
        yield "it is made for another operating system"


def _check_container(spec: Mapping[str, Any], container: Mapping[str, Any]) -> Iterator[str]:
    if not container.get("command"):
        yield "its container has no command; on an agent there is no image whose default command could be used"
    for field in ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "volumeDevices"):
        if container.get(field):
            yield f"its container has {field}, which an agent does not support"
    for field in ("stdin", "tty"):
        if container.get(field):
            yield f"its container asks for {field}, which an agent does not support"
    if (container.get("securityContext") or {}).get("privileged"):
        yield "its container asks to be privileged; an agent gives nothing that its own user has not"
    for kind, amount in ((container.get("resources") or {}).get("limits") or {}).items():
        if kind not in {"cpu", "memory", "ephemeral-storage"}:
            yield f"its container needs {kind}: {amount}, which this agent does not have"


def _check_volumes(spec: Mapping[str, Any], container: Mapping[str, Any]) -> Iterator[str]:
    for volume in spec.get("volumes") or ():
        kinds = set(volume) - {"name"}
        if not kinds <= SUPPORTED_VOLUMES:
            unknown = ", ".join(sorted(kinds - SUPPORTED_VOLUMES))
            yield f"volume {volume['name']} is a {unknown}; supported are {', '.join(sorted(SUPPORTED_VOLUMES))}"
        for source in (volume.get("projected") or {}).get("sources") or ():
            for kind in set(source) - SUPPORTED_SOURCES:
                yield f"volume {volume['name']} projects a {kind}; supported are {', '.join(sorted(SUPPORTED_SOURCES))}"


def _check_mounts(spec: Mapping[str, Any], container: Mapping[str, Any]) -> Iterator[str]:
    for mount in container.get("volumeMounts") or ():
        path = mount["mountPath"]
        if not path.startswith("/") or path.strip("/") == "" or ".." in path.split("/"):
            yield f"the mountPath {path!r} is not an absolute path below /"
        if mount.get("subPathExpr"):
            yield f"the mount at {path} has a subPathExpr"
        sub_path = mount.get("subPath") or ""
        if sub_path.startswith("/") or ".." in sub_path.split("/"):
            yield f"the subPath {sub_path!r} leaves its volume"
        if mount.get("mountPropagation", "None") != "None":
            yield f"the mount at {path} asks for mount propagation"


_CHECKS: Final[tuple[Callable[[Mapping[str, Any], Mapping[str, Any]], Iterator[str]], ...]] = (
    _check_pod,
    _check_container,
    _check_volumes,
    _check_mounts,
)
