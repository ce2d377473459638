"""Moving the runs off a node: no new ones, and the eviction of those that are there.

Eviction is Kubernetes' own: the pod gets its grace, the operator sees why it went (NodeDrained) and makes a new attempt from
the budget of the infrastructure, which goes on from the results that are stored.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from levada.agent.node import ANNOTATION_CORDONED
from levada.kube import Client, Conflict, KubeError, NotFound, TooManyRequests
from levada.resources.kinds import NODES, PODS
from levada.resources.names import LABEL_RUN

POLL_S: Final = 0.3
Pod = Mapping[str, Any]


async def cordon(client: Client, name: str) -> None:
    """Let the scheduler send no more pods."""
    await client.patch(NODES, name, {"spec": {"unschedulable": True}})


async def cordon_until_restart(client: Client, name: str) -> None:
    """The same, but the next agent of this name takes it back by itself; not what somebody else has cordoned."""
    found = await client.get(NODES, name)
    if not found["spec"].get("unschedulable"):
        mark = {"annotations": {ANNOTATION_CORDONED: "true"}}
        await client.patch(NODES, name, {"spec": {"unschedulable": True}, "metadata": mark})


async def uncordon(client: Client, name: str) -> None:
    """Let the scheduler send pods again."""
    await client.patch(
        NODES, name, {"spec": {"unschedulable": None}, "metadata": {"annotations": {ANNOTATION_CORDONED: None}}}
    )


async def evict(client: Client, pod: Pod) -> bool:
    """Ask for a pod's eviction. False: not now (a PodDisruptionBudget forbids it); a pod that is gone is fine.

    Raises:
        KubeError: the API server is away or refuses.
    """
    metadata = pod["metadata"]
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
        "deleteOptions": {"preconditions": {"uid": metadata["uid"]}},
    }
    try:
        await client.create_subresource(PODS, metadata["name"], "eviction", body, metadata["namespace"])
    except (NotFound, Conflict):
        return True
    except TooManyRequests:
        return False
    return True


async def pods_on(client: Client, name: str) -> list[dict[str, Any]]:
    """The flow runs' pods on a node that have not ended."""
    selector = f"spec.nodeName={name},status.phase!=Succeeded,status.phase!=Failed"
    found, _ = await client.list(PODS, label_selector=LABEL_RUN, field_selector=selector)
    return found


async def drain(client: Client, name: str, *, timeout_s: float, say: Callable[[str], None]) -> list[str]:
    """Cordon the node, evict its pods and wait until they have gone. Returns namespace/name of those that have not.

    Raises:
        NotFound: there is no such node.
    """
    await cordon(client, name)
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout_s
    told: set[str] = set()
    while True:
        left = await pods_on(client, name)
        for pod in left:
            if "deletionTimestamp" not in pod["metadata"] and await evict(client, pod):
                _tell(pod, told, say)
        if not left or loop.time() >= until:
            return sorted(_name(pod) for pod in left)
        await asyncio.sleep(POLL_S)


async def evict_surely(client: Client, pod: Pod) -> None:
    """Evict a pod, however long that is forbidden or the API server is away."""
    while True:
        try:
            if await evict(client, pod):
                return
        except KubeError:
            pass
        await asyncio.sleep(1.0)


def _tell(pod: Pod, told: set[str], say: Callable[[str], None]) -> None:
    if pod["metadata"]["uid"] not in told:
        told.add(pod["metadata"]["uid"])
        say(f"evicting {_name(pod)} (grace {pod['spec'].get('terminationGracePeriodSeconds', 30)} s)")


def _name(pod: Pod) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
