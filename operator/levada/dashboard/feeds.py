"""One set of watches for all viewers: what they tell goes into the store, and from there to everybody.

The pulse asks the API server every few seconds whether it is there: a watch alone would notice a minute later.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from levada.dashboard.hub import Hub
from levada.dashboard.models import Change, Stale, WatchHealth
from levada.dashboard.models.common import Wire
from levada.dashboard.settings import DashboardSettings
from levada.dashboard.store import Key, Store
from levada.kube.client import Client, Object
from levada.kube.errors import ApiError, KubeError
from levada.kube.reflector import Reflector
from levada.resources.kinds import (
    BACKFILLS,
    BLOCKS,
    CONCURRENCY_LIMITS,
    DEPLOYMENTS,
    FLOW_RUNS,
    FLOWS,
    LEASES,
    NODES,
    SCHEDULES,
    WORK_QUEUES,
    Kind,
)
from levada.resources.names import LABEL_AGENT

log = logging.getLogger(__name__)
WATCHED: Final = (FLOWS, DEPLOYMENTS, SCHEDULES, WORK_QUEUES, CONCURRENCY_LIMITS, BLOCKS, BACKFILLS, FLOW_RUNS, NODES)
PULSE_S: Final = 4.0
SILENCE_S: Final = 150.0  # bookmarks come every minute
SETTLE_S: Final = 16.0  # after the API server has come back, until the last watch has
LEASE_PREFIX: Final = "levada-operator"
RowOf = Callable[[str, Object], Wire | None]


def _lean(item: Object) -> Object:
    meta = item["metadata"]
    return {"metadata": {name: meta[name] for name in ("namespace", "name", "uid", "resourceVersion") if name in meta}}


class Feeds:
    """Follows everything, for ever. `row_of` makes the row of an object that is no run."""

    def __init__(self, client: Client, settings: DashboardSettings, store: Store, hub: Hub, row_of: RowOf) -> None:
        self._client, self._settings = client, settings
        self._store, self._hub, self._row_of = store, hub, row_of
        self._reflectors: dict[str, list[Reflector]] = {}
        for kind in WATCHED:
            spaces = settings.namespaces if kind.namespaced and settings.namespaces else (None,)
            self._reflectors[kind.kind] = [self._reflector(kind, space) for space in spaces]
        self.refused: dict[str, str] = {}  # by plural: what the API server last said
        self.reachable, self.version, self.trouble = False, "", "it has not been asked yet"
        self.latency_s: float | None = None
        self.last_answer: datetime | None = None
        self.asked = False
        self.leases: list[Object] | None = None
        self._back_at_s = -1e9
        self._was_stale = True

    def note_refusal(self, error: ApiError) -> None:
        """For the client: what is refused, by kind."""
        plural = str(error.details.get("kind") or "")
        if plural and error.status in {401, 403}:
            self.refused[plural] = error.message

    async def run(self) -> None:
        """Watch and ask, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for reflectors in self._reflectors.values():
                for each in reflectors:
                    tasks.create_task(each.run())
            tasks.create_task(self._pulse())

    @property
    def synced(self) -> bool:
        """Runs and Deployments have been listed."""
        return all(each.synced.is_set() for kind in ("FlowRun", "Deployment") for each in self._reflectors[kind])

    @property
    def away(self) -> bool:
        """The API server has been asked, and does not answer."""
        return not self.reachable and self.asked

    def stale_kinds(self) -> list[str]:
        """Kinds of which what is known may be old."""
        settling = time.monotonic() - self._back_at_s < SETTLE_S
        return [
            kind
            for kind, reflectors in self._reflectors.items()
            if not self.reachable
            or settling
            or any(not each.synced.is_set() or each.last_event_age > SILENCE_S for each in reflectors)
        ]

    def stale(self, *kinds: str) -> bool:
        """Whether what is known of these kinds may be old."""
        found = self.stale_kinds()
        return any(kind in found for kind in kinds)

    def watches(self) -> list[WatchHealth]:
        """How each watch is."""
        old = self.stale_kinds()
        counts = {kind: len(objects) for kind, objects in self._store.objects.items()}
        counts["FlowRun"] = len(self._store.runs)
        plurals = {kind.kind: kind.plural for kind in WATCHED}
        return [
            WatchHealth(
                kind="Agent" if kind == "Node" else kind,
                synced=all(each.synced.is_set() for each in reflectors),
                stale=kind in old,
                silence_seconds=round(max(each.last_event_age for each in reflectors), 1),
                objects=counts.get(kind, 0),
                error=self.refused.get(plurals[kind], "") if kind in old else "",
            )
            for kind, reflectors in self._reflectors.items()
        ]

    def stale_event(self) -> bytes:
        """How it is now, for who has just come."""
        kinds = self.stale_kinds()
        important = [kind for kind in kinds if kind != "Node"]
        words = f"the API server does not answer: {self.trouble}" if not self.reachable else ""
        said = Stale(
            stale=bool(important),
            kinds=kinds,
            message=words or (f"the watch of {', '.join(important)} is broken" if important else ""),
            as_of=self.last_answer,
        )
        return said.model_dump_json(by_alias=True).encode()

    # --- what comes ---------------------------------------------------------------------------------------------------

    def _reflector(self, kind: Kind, namespace: str | None) -> Reflector:
        if kind is NODES:
            return Reflector(
                self._client,
                kind,
                on_change=partial(self._on_other, kind.kind),
                label_selector=f"{LABEL_AGENT}=true",
                keep=_lean,
            )
        take = self._on_run if kind is FLOW_RUNS else partial(self._on_other, kind.kind)
        return Reflector(self._client, kind, namespace, on_change=take, keep=_lean)

    def _on_run(self, change: str, obj: Object) -> None:
        key = Key(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        if change == "DELETED":
            self._store.remove_run(key)
            self._tell("FlowRun", key, None)
            return
        entry = self._store.put_run(obj)
        if self.synced:
            self._tell("FlowRun", key, entry.row)

    def _on_other(self, kind: str, change: str, obj: Object) -> None:
        key = Key(obj["metadata"].get("namespace") or "", obj["metadata"]["name"])
        if change == "DELETED":
            self._store.remove(kind, key)
            self._tell("Agent" if kind == "Node" else kind, key, None)
            return
        self._store.put(kind, obj)
        if self.synced:
            row = self._row_of(kind, obj)
            data = row.model_dump_json(by_alias=True).encode() if row is not None else b"null"
            self._tell("Agent" if kind == "Node" else kind, key, data)

    def _tell(self, kind: Any, key: Key, row: bytes | None) -> None:
        said = Change.model_construct(kind=kind, namespace=key.namespace, name=key.name, deleted=row is None, row=None)
        head = said.model_dump_json(by_alias=True, exclude={"row"}, warnings=False)
        self._hub.publish(
            "change", f'{head[:-1]},"row":'.encode() + (row or b"null") + b"}", kind, key.namespace, key.name
        )

    # --- the pulse ----------------------------------------------------------------------------------------------------

    async def _pulse(self) -> None:
        while True:
            await self._ask()
            self._tell_staleness()
            await asyncio.sleep(PULSE_S)

    async def _ask(self) -> None:
        started_s = time.monotonic()
        try:
            async with asyncio.timeout(PULSE_S):
                said = await self._client.request("GET", "/version")
        except (KubeError, TimeoutError) as error:
            if self.reachable:
                log.warning("the API server does not answer: %s", error)
            self.reachable, self.asked, self.trouble = False, True, str(error) or "it takes longer than a few seconds"
            return
        if not self.reachable and self.last_answer is not None:
            self._back_at_s = time.monotonic()
        self.reachable, self.asked, self.trouble = True, True, ""
        self.version = str(said.get("gitVersion") or "")
        self.latency_s = round(time.monotonic() - started_s, 4)
        self.last_answer = datetime.now(UTC)
        await self._look_at_leases()

    async def _look_at_leases(self) -> None:
        try:
            async with asyncio.timeout(PULSE_S):
                found, _ = await self._client.list(LEASES, self._settings.operator_namespace)
        except (KubeError, TimeoutError):
            self.leases = None
            return
        self.leases = [each for each in found if each["metadata"]["name"].startswith(LEASE_PREFIX)]

    def _tell_staleness(self) -> None:
        now = any(kind != "Node" for kind in self.stale_kinds())
        if now != self._was_stale:
            self._was_stale = now
            self._hub.publish("stale", self.stale_event())
