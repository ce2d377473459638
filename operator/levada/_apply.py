"""Apply resources to the cluster of the kubeconfig. The only part of the SDK that talks to a cluster.

It does so by `levada.kube`, which belongs to the operator's side and is not installed everywhere: it is looked up when it is
needed, and nothing that a flow imports loads it.
"""

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from importlib import import_module
from typing import Any, Final, TypeVar

from levada.exceptions import DeploymentError
from levada.resources import names
from levada.resources.kinds import SCHEDULES

T = TypeVar("T")
Resource = dict[str, Any]
_BY_HAND: Final = (
    "write the YAML with .to_yaml('deployment.yaml') and `kubectl apply -f deployment.yaml` where a cluster is"
)


class NotTaken(Exception):  # noqa: N818  it is caught next door and never seen by a user
    """No cluster took the resources, for this cause; `advice` is what to do in Python."""

    def __init__(self, cause: str, advice: str) -> None:
        super().__init__(cause)
        self.advice = advice


def apply(resources: Sequence[Resource], namespace: str | None = None) -> list[str]:
    """Apply the resources and return what was applied, each as kind/name.

    Raises:
        DeploymentError: there is no cluster, it cannot be reached, or it refuses; the message says what to do.
    """
    try:
        return take(resources, namespace)
    except NotTaken as error:
        raise DeploymentError(f"{error}; {error.advice}") from None


def take(resources: Sequence[Resource], namespace: str | None = None) -> list[str]:
    """As `apply`, for callers that have advice of their own.

    Raises:
        NotTaken: there is no cluster, it cannot be reached, or it refuses.
    """
    try:
        kube = import_module("levada.kube")
    except ImportError as error:
        cause = f"talking to a cluster needs {error.name}: pip install 'levada[operator]'"
        raise NotTaken(cause, f"or {_BY_HAND}") from None

    async def work() -> list[str]:
        async with kube.Client.from_kubeconfig(user_agent="levada-sdk") as client:
            return await apply_all(client, resources, namespace or client.namespace)

    try:
        return _finished(work())
    except kube.KubeconfigError as error:
        advice = f"set KUBECONFIG to a file that describes one, or {_BY_HAND}"
        raise NotTaken(f"no cluster is configured ({error})", advice) from None
    except kube.KubeError as error:
        raise NotTaken(f"the cluster did not take the deployment: {error}", f"or {_BY_HAND}") from None


async def apply_all(client: Any, resources: Sequence[Resource], namespace: str) -> list[str]:
    """Apply with a client at hand, and delete schedules that the deployments among the resources do not have any more."""
    applied = []
    for resource in resources:
        place = resource["metadata"].get("namespace") or namespace
        await client.apply(resource, field_manager=names.FIELD_MANAGER_CLI, namespace=place)
        applied.append(f"{resource['kind'].lower()}/{resource['metadata']['name']}")
        if resource["kind"] == "Deployment":
            await _drop_schedules(client, resource["metadata"]["name"], place, _schedule_names(resources))
    return applied


def _schedule_names(resources: Sequence[Resource]) -> set[str]:
    return {each["metadata"]["name"] for each in resources if each["kind"] == SCHEDULES.kind}


async def _drop_schedules(client: Any, deployment: str, namespace: str, kept: set[str]) -> None:
    """Only those that were made from Python: they carry our labels."""
    selector = f"{names.LABEL_DEPLOYMENT}={deployment},{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"
    found, _ = await client.list(SCHEDULES, namespace, label_selector=selector)
    for each in found:
        if each["metadata"]["name"] not in kept:
            await client.delete(SCHEDULES, each["metadata"]["name"], namespace, uid=each["metadata"]["uid"])


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _finished(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, in a thread of its own if this one is inside an event loop already."""
    if not _is_in_loop():
        return asyncio.run(work)
    results: list[T] = []
    errors: list[BaseException] = []

    def carry() -> None:
        try:
            results.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001  it is raised in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=carry, name="levada-apply")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
