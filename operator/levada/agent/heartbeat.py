"""Keeps the node alive in the cluster's eyes: registration, the Lease every few seconds, the status when it changes."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from levada.agent import capacity, node
from levada.agent.clock import Clock, to_micros, to_seconds
from levada.agent.settings import SettingsError
from levada.kube import AlreadyExists, Client, Conflict, KubeError, NotFound
from levada.kube.retry import jittered_s
from levada.resources.kinds import LEASES, NODES

log = logging.getLogger(__name__)

LEASE_NAMESPACE: Final = "kube-node-lease"
NOT_READY_TAINT: Final = "node.kubernetes.io/not-ready"
SCHEDULABLE_S: Final = 5.0
STATUS_EVERY_S: Final = 300.0  # as the kubelet: the Lease says "alive", the status is sent when it says something new


class Heartbeat:
    """The node's side of the agent."""

    def __init__(self, client: Client, facts: node.Facts, clock: Clock, *, port: int) -> None:
        self._client = client
        self._facts = facts
        self._settings = facts.settings
        self._clock = clock
        self._port = port
        self.queues = facts.settings.queues  # as last seen on the Node: anybody may change them there
        self._conditions: dict[str, dict[str, str]] = {}
        self._since: dict[str, str] = {}
        self._sent_at_s = 0.0
        self._uid = ""
        self._lease: dict[str, Any] | None = None
        self._hurry = asyncio.Event()

    async def register(self) -> None:
        """Create the Node or take over the one that a former agent of this name left, and report Ready.

        Raises:
            SettingsError: an agent of this name is alive elsewhere, or the node belongs to a kubelet.
            KubeError: the API server cannot be reached, or does not allow it.
        """
        try:
            found = await self._client.create(NODES, node.manifest(self._facts, self.queues))
        except AlreadyExists:
            found = await self._client.get(NODES, self._settings.name)
            await self._check_owner(found)
            found = await self._client.patch(NODES, self._settings.name, node.takeover_patch(self._facts, found))
        self.queues = node.queues_of(found)
        self._uid = found["metadata"]["uid"]
        await self._beat()
        await self._send_status()

    async def _check_owner(self, found: dict[str, Any]) -> None:
        name = self._settings.name
        owner = (found["metadata"].get("annotations") or {}).get(node.ANNOTATION_INSTANCE)
        if owner is None:
            raise SettingsError(f"node {name} exists and is no Levada agent: choose another --name")
        if not node.is_tainted(found):
            log.warning("node %s has lost its taint: other pods may be sent here and will be refused", name)
        if owner == self._facts.instance:
            return
        try:
            lease = await self._client.get(LEASES, name, LEASE_NAMESPACE)
        except NotFound:
            return
        renewed = datetime.fromisoformat(lease["spec"]["renewTime"])
        age_s = (self._clock.now() - renewed).total_seconds()
        if age_s < self._settings.lease_s:
            raise SettingsError(
                f"an agent named {name} is alive with another state folder (its last heartbeat was {age_s:.0f} s ago): "
                f"choose another --name, or stop it and wait {self._settings.lease_s} s"
            )

    async def run(self, stopping: Callable[[], bool]) -> None:
        """Beat until cancelled. An API server that is away, or a Node that somebody deleted, is no reason to end."""
        failures = 0
        while True:
            await self._rest(
                jittered_s(failures, base_s=0.5, cap_s=self._settings.heartbeat_s)
                if failures
                else self._settings.heartbeat_s
            )
            if stopping():
                return
            try:
                await self._beat()
                await self._refresh_status()
                failures = 0
            except NotFound:
                log.warning("node %s was deleted: registering it again", self._settings.name)
                self._lease, self._conditions = None, {}
                await self._register_again()
            except KubeError as error:
                failures += 1
                self._lease = None
                level = logging.WARNING if failures in {3, 20} else logging.DEBUG
                log.log(level, "heartbeat of node %s: %s (trying again)", self._settings.name, error)

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), seconds)
        self._hurry.clear()

    async def _register_again(self) -> None:
        try:
            await self.register()
        except (KubeError, SettingsError) as error:
            log.warning("registering node %s: %s (trying again)", self._settings.name, error)

    async def _refresh_status(self) -> None:
        """Send the status if it says something new, or if the cluster has come to believe something else.

        After a silence (an outage, a suspended laptop) the node life cycle has set the conditions to Unknown.
        """
        found = await self._client.get(NODES, self._settings.name)
        believed = {item["type"]: item["status"] for item in (found.get("status") or {}).get("conditions") or ()}
        if any(believed.get(kind) != condition["status"] for kind, condition in self._conditions.items()):
            self._conditions = {}
        queues = node.queues_of(found)
        if queues != self.queues:
            log.info("node %s serves other queues now: %s", self._settings.name, ", ".join(queues) or "none")
            self.queues = queues
        await self._send_status()

    async def schedulable(self) -> None:
        """Return when the node life cycle has seen that the node is ready: before that the scheduler sends nothing."""
        until = asyncio.get_running_loop().time() + SCHEDULABLE_S
        while asyncio.get_running_loop().time() < until:
            found = await self._client.get(NODES, self._settings.name)
            if NOT_READY_TAINT not in {taint["key"] for taint in found["spec"].get("taints") or ()}:
                return
            await asyncio.sleep(0.05)
        log.warning("node %s is still tainted as not ready: does the controller manager run?", self._settings.name)

    def hurry(self) -> None:
        """Something has changed that the cluster should know now rather than at the next beat."""
        self._hurry.set()

    async def farewell(self, words: str) -> None:
        """Say that nobody looks after the pods now. The scheduler sends no more.

        Not for a node that we never got: it may be another agent's.
        """
        if self._uid:
            await self._send_status(stopped=words)

    async def _beat(self) -> None:
        if self._lease is not None:
            try:
                self._lease = await self._renew(self._lease)
            except (Conflict, NotFound):
                self._lease = None
            else:
                return
        self._lease = await self._take_lease()

    async def _renew(self, lease: Mapping[str, Any]) -> dict[str, Any]:
        return await self._client.replace(LEASES, {**lease, "spec": self._lease_spec(lease)})

    def _lease_spec(self, before: Mapping[str, Any] | None) -> dict[str, Any]:
        """The next renewal. Its time always grows: the node life cycle takes one that does not for silence.

        After a clock was set back (or a predecessor's was ahead) it grows by the smallest step until time has caught up.
        """
        renewed = self._clock.now()
        last = ((before or {}).get("spec") or {}).get("renewTime")
        if last:
            renewed = max(renewed, datetime.fromisoformat(last) + timedelta(microseconds=1))
        return {
            "holderIdentity": self._settings.name,
            "leaseDurationSeconds": self._settings.lease_s,
            "renewTime": to_micros(renewed),
        }

    async def _take_lease(self) -> dict[str, Any]:
        name = self._settings.name
        # Owned by the Node, so that it goes with it.
        owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": self._uid}
        body = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": name, "namespace": LEASE_NAMESPACE, "ownerReferences": [owner]},
            "spec": self._lease_spec(None),
        }
        try:
            return await self._client.create(LEASES, body)
        except AlreadyExists:
            return await self._renew(await self._client.get(LEASES, name, LEASE_NAMESPACE))

    async def _send_status(self, *, stopped: str = "") -> None:
        load = capacity.load(self._settings.state)
        wanted = node.conditions(load, skew=self._clock.words, stopped=stopped)
        now = asyncio.get_running_loop().time()
        # By status: the message of a pressure moves with every byte.
        changed = _statuses(wanted) != _statuses(self._conditions)
        if not changed and now - self._sent_at_s < STATUS_EVERY_S:
            return
        stamp = to_seconds(self._clock.now())
        for kind, condition in wanted.items():
            if condition["status"] != self._conditions.get(kind, {}).get("status"):
                self._since[kind] = stamp
        body = node.status(self._facts, wanted, self._since, now=stamp, port=self._port)
        await self._client.patch(
            NODES, self._settings.name, {"status": body}, subresource="status", patch_type="strategic"
        )
        self._conditions, self._sent_at_s = wanted, now


def _statuses(conditions: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {kind: condition["status"] for kind, condition in conditions.items()}
