"""What the agent tells the API server about a pod: its status, level-triggered, and Events for people."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from levada.agent.clock import Clock, to_seconds
from levada.agent.status import Status
from levada.kube import ApiError, Client, Conflict, KubeError, NotFound
from levada.kube.retry import jittered_s
from levada.resources.kinds import EVENTS, PODS

log = logging.getLogger(__name__)

COMPONENT: Final = "levada-agent"
BACKOFF_CAP_S: Final = 10.0
REFUSED_CAP_S: Final = 60.0


class StatusReporter:
    """Keeps one pod's status in the API server equal to the last one that was asked for.

    Only the newest counts: statuses that an outage kept from being sent are not sent later.
    """

    def __init__(self, client: Client, pod: Mapping[str, Any]) -> None:
        metadata = pod["metadata"]
        self._client = client
        self._name, self._namespace, self._uid = metadata["name"], metadata["namespace"], metadata["uid"]
        self._wanted: Status | None = None
        self._sent: Status | None = None
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def report(self, status: Status) -> bool:
        """Ask for this status; False if it is what was asked for already."""
        if status == self._wanted:
            return False
        self._wanted = status
        self._idle.clear()
        self._wake.set()
        return True

    async def delivered(self) -> None:
        """Return when the API server has what was asked for, or no longer knows the pod."""
        await self._idle.wait()

    async def run(self) -> None:
        """Send until cancelled."""
        failures = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            wanted = self._wanted
            if wanted is None or wanted == self._sent:
                continue
            try:
                await self._send(wanted)
            except KubeError as error:
                failures += 1
                log.log(
                    logging.WARNING if failures in {3, 20} else logging.DEBUG,
                    "status of pod %s/%s: %s (trying again)", self._namespace, self._name, error,
                )  # fmt: skip
                cap_s = REFUSED_CAP_S if isinstance(error, ApiError) and error.status < 500 else BACKOFF_CAP_S
                await asyncio.sleep(jittered_s(failures, base_s=0.2, cap_s=cap_s))
                self._wake.set()
                continue
            failures = 0
            self._sent = wanted
            if wanted == self._wanted:
                self._idle.set()

    async def _send(self, status: Status) -> None:
        # The uid makes sure that a namesake, created meanwhile, is left alone.
        body = {"metadata": {"uid": self._uid}, "status": status}
        try:
            await self._client.patch(
                PODS, self._name, body, self._namespace, subresource="status", patch_type="strategic"
            )
        except (NotFound, Conflict):
            log.debug("pod %s/%s is gone: its status is of no use", self._namespace, self._name)


class EventRecorder:
    """Events on pods, as `kubectl describe pod` shows them. Best effort: nothing waits for them."""

    def __init__(self, client: Client, node_name: str, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._node_name = node_name
        self._tasks: set[asyncio.Task[None]] = set()

    def record(self, pod: Mapping[str, Any], kind: str, reason: str, message: str) -> None:
        """Send one. `kind` is Normal or Warning. The same one again within a pod's life counts up nothing."""
        task = asyncio.create_task(self._send(pod, kind, reason, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Forget what has not been sent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(self, pod: Mapping[str, Any], kind: str, reason: str, message: str) -> None:
        metadata = pod["metadata"]
        now = to_seconds(self._clock.now())
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name']}.", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
            "type": kind,
            "reason": reason,
            "message": message[:1024],
            "source": {"component": COMPONENT, "host": self._node_name},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._client.create(EVENTS, body)
        except KubeError as error:
            log.debug("event %s for pod %s: %s", reason, metadata["name"], error)
