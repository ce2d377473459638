"""Flow, Deployment and WorkQueue: few, seldom changed, fed by kopf; each is judged and its Ready condition written.

Schedules and Backfills come the same way; what is done about them is in schedules.py and backfills.py.

A change of one wakes what depends on it: Flow -> Deployments -> waiting runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from levada.decide.definition_views import (
    backfill_view,
    block_view,
    deployment_view,
    flow_view,
    limit_view,
    queue_view,
    schedule_view,
)
from levada.decide.definitions import DeploymentView, FlowView
from levada.decide.deployment import decide_deployment
from levada.decide.facts import RunView
from levada.decide.flow import FlowFacts, FlowPlan, Revision, decide_flow
from levada.decide.manifest import Code, build_job
from levada.decide.references import ready_condition
from levada.decide.times import parse
from levada.decide.views import controller_uid
from levada.kube import AlreadyExists, ApiError, Conflict, NotFound
from levada.operator.apply import patch_status, write_events
from levada.operator.events import About
from levada.operator.gather import deployment_facts
from levada.operator.store import Key, Table
from levada.resources.kinds import (
    BACKFILLS,
    BLOCKS,
    CONCURRENCY_LIMITS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    FLOWS,
    JOBS,
    SCHEDULES,
    WORK_QUEUES,
    Kind,
)
from levada.resources.names import LABEL_FLOW, LABEL_MANAGED_BY, MANAGED_BY

if TYPE_CHECKING:
    from levada.operator.controller import Controller

log = logging.getLogger(__name__)
Object = Mapping[str, Any]
WATCHED: Final[tuple[Kind, ...]] = (FLOWS, DEPLOYMENTS, WORK_QUEUES, SCHEDULES, BLOCKS, BACKFILLS, CONCURRENCY_LIMITS)
# A queue that was not there is taken for absent for so long: as long as a run waits for a Deployment that is not there.
ABSENT_FOR: Final = timedelta(seconds=10)


class Definitions:
    """The part of the controller for the kinds that people write."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller
        # What changed while a list was under way: the list may be older than the change.
        self._touched: dict[Kind, set[Key]] = {}
        self.listed_at_s: dict[Kind, float] = {}  # when each was last listed completely, on the monotonic clock
        self._listing = asyncio.Lock()
        self._absent_queues: dict[Key, datetime] = {}  # when each was last asked for in vain
        for kind, judge in (
            (FLOWS, self._flow),
            (DEPLOYMENTS, self._deployment),
        ):
            controller.reconcilers[kind.kind] = self.judging(kind, judge)

    # --- changes ------------------------------------------------------------------------------------------------------

    def on_change(self, kind: Kind, change: str, body: Object) -> None:
        """An object of one of the kinds changed."""
        key = Key(body["metadata"].get("namespace", ""), body["metadata"]["name"])
        if change != "DELETED" and not self._c.serves(key.namespace):
            return
        if kind in self._touched:
            self._touched[kind].add(key)
        changed = self._remove(kind, key, body) if change == "DELETED" else self._put(kind, body)
        if changed:
            self._c.enqueue(kind.kind, key)
            self._c.wake_startable()

    def take(self, kind: Kind, body: Object) -> None:
        """The answer to a write of ours is news like any other, only sooner; not of a namespace that was let go meanwhile."""
        if self._c.serves(body["metadata"]["namespace"]):
            self._put(kind, body)

    async def look_up(self, kind: Kind, key: Key) -> bool:
        """Whether it is there, whatever the watch says; if so, that is news as if the watch had brought it: it has to be judged.

        Raises:
            ApiError, ConnectionLost: it cannot be read now.
        """
        try:
            body = await self._c.client.get(kind, key.name, key.namespace)
        except NotFound:
            return False
        self.on_change(kind, "ADDED", body)
        return True

    async def look_for_queue(self, key: Key) -> bool:
        """As `look_up`, for the queue of a run that is about to start: its limit counts, though the watch has not brought it yet.

        Most runs are in a queue that nobody has made, so it is asked now and then only.
        """
        now = self._c.now()
        absent_at = self._absent_queues.get(key)
        if self._c.store.queues.get(key) is not None or (absent_at is not None and now - absent_at < ABSENT_FOR):
            return False
        found = await self.look_up(WORK_QUEUES, key)
        if not found:
            self._absent_queues[key] = now
        return found

    def _put(self, kind: Kind, body: Object) -> bool:
        store = self._c.store
        if kind == FLOWS:
            return _put(store.flows, flow_view(body))
        if kind == WORK_QUEUES:
            return store.put_queue(queue_view(body))
        if kind == CONCURRENCY_LIMITS:
            return _put(store.limits, limit_view(body))
        if kind == SCHEDULES:
            return store.put_schedule(schedule_view(body))
        if kind == BLOCKS:
            return _put(store.blocks, block_view(body))
        if kind == BACKFILLS:
            return _put(store.backfills, backfill_view(body))
        return store.put_deployment(deployment_view(body))

    def _remove(self, kind: Kind, key: Key, body: Object) -> bool:
        store = self._c.store
        known = self._table(kind).get(key)
        if known is None or known.uid != body["metadata"].get("uid"):
            return False
        exists = not self._c.serves(key.namespace)  # it may come back with its namespace
        if kind == DEPLOYMENTS:
            return store.remove_deployment(key, exists=exists)
        if kind == SCHEDULES:
            return store.remove_schedule(key, exists=exists)
        if kind == WORK_QUEUES:
            return store.remove_queue(key, exists=exists)
        return self._table(kind).remove(key, exists=exists) is not None

    def _table(self, kind: Kind) -> Table[Any]:
        store = self._c.store
        tables: dict[Kind, Table[Any]] = {
            FLOWS: store.flows,
            DEPLOYMENTS: store.deployments,
            WORK_QUEUES: store.queues,
            SCHEDULES: store.schedules,
            BLOCKS: store.blocks,
            BACKFILLS: store.backfills,
            CONCURRENCY_LIMITS: store.limits,
        }
        return tables[kind]

    def enqueue_all(self, namespace: str) -> None:
        """Have everything in a namespace looked at."""
        for kind in WATCHED:
            for key in self._table(kind):
                if key.namespace == namespace:
                    self._c.enqueue(kind.kind, key)

    def let_go(self, namespace: str) -> None:
        """Forget what is in a namespace that is not served any more."""
        for kind in WATCHED:
            table = self._table(kind)
            for key in [key for key in table if key.namespace == namespace]:
                if (known := table.get(key)) is not None:
                    self.on_change(kind, "DELETED", _tombstone(key, known.uid))

    async def list_all(self, kind: Kind, namespaces: tuple[str, ...]) -> None:
        """List a kind and take in the difference: at the start, and now and then for what a broken watch has missed."""
        async with self._listing:
            await self._list_all(kind, namespaces)

    async def _list_all(self, kind: Kind, namespaces: tuple[str, ...]) -> None:
        touched = self._touched[kind] = set()
        try:
            for namespace in namespaces or (None,):
                items, _ = await self._c.client.list(kind, namespace)
                listed = {Key(item["metadata"].get("namespace", ""), item["metadata"]["name"]): item for item in items}
                listed = {key: item for key, item in listed.items() if self._c.serves(key.namespace)}
                table = self._table(kind)
                gone = [key for key in table if key not in listed and namespace in {None, key.namespace}]
                for key in gone:
                    known = table.get(key)
                    if key not in touched and known is not None:
                        self.on_change(kind, "DELETED", _tombstone(key, known.uid))
                for key, item in listed.items():
                    if key not in touched:
                        self.on_change(kind, "MODIFIED", item)
            self.listed_at_s[kind] = time.monotonic()
        finally:
            del self._touched[kind]

    # --- reconcile ----------------------------------------------------------------------------------------------------

    def judging(
        self, kind: Kind, judge: Callable[[Key], Awaitable[float | None]]
    ) -> Callable[[Key], Awaitable[float | None]]:
        """The reconciler of one kind."""

        async def reconcile(key: Key) -> float | None:
            try:
                return await judge(key)
            except (NotFound, Conflict) as error:
                # It was deleted or changed; the watch will say so. A list now and then makes sure.
                log.info("%s %s/%s: %s", kind.kind, *key, error)
                return None

        return reconcile

    async def _flow(self, key: Key) -> float | None:
        store = self._c.store
        flow = store.flows.get(key)
        if flow is None:
            store.codes.pop(key, None)
            self._wake_users_of(key)
            return None
        now = self._c.now()
        pinned = frozenset(
            run.pin.code_config_map
            for run in store.runs.values()
            if run.pin is not None and run.namespace == key.namespace
        )
        facts = FlowFacts(now, flow, await self._files(flow), await self._revisions(flow), pinned)
        # Compiling a large file takes a while, and everybody else's runs go on meanwhile.
        plan = await asyncio.to_thread(decide_flow, facts)
        # Before the status: whoever sees that the Flow is judged knows its parameters.
        store.codes[key] = (flow.uid, flow.generation, plan.code)
        await self._apply_flow(flow, plan)
        # Always: whatever brought us here, our own write or the watch's news of it, may be what others wait for.
        self._wake_users_of(key)
        return plan.requeue_after_s

    async def _files(self, flow: FlowView) -> Mapping[str, str] | None:
        if not flow.config_map:
            return None
        try:
            body = await self._c.client.get(CONFIG_MAPS, flow.config_map, flow.namespace)
        except NotFound:
            return None
        return {str(key): str(value) for key, value in (body.get("data") or {}).items()}

    async def _revisions(self, flow: FlowView) -> tuple[Revision, ...]:
        if flow.inline is None:
            return ()
        selector = f"{LABEL_FLOW}={flow.name},{LABEL_MANAGED_BY}={MANAGED_BY}"
        items, _ = await self._c.client.list(CONFIG_MAPS, flow.namespace, label_selector=selector)
        return tuple(self._revision(item) for item in items)

    def _revision(self, item: Object) -> Revision:
        meta = item["metadata"]
        version = str(meta.get("resourceVersion") or "")
        return Revision(
            meta["name"],
            parse(meta.get("creationTimestamp")) or self._c.now(),
            controller_uid(item),
            int(version) if version.isdecimal() else 0,
        )

    async def _apply_flow(self, flow: FlowView, plan: FlowPlan) -> None:
        client = self._c.client
        if plan.create_config_map is not None:
            with contextlib.suppress(AlreadyExists):  # named after its content: what is there is what is wanted
                await client.create(CONFIG_MAPS, dict(plan.create_config_map), flow.namespace)
        if plan.status is not None:
            self.take(FLOWS, await self.write(FLOWS, flow, plan.status))
        await write_events(client, About(FLOWS, flow.namespace, flow.name, flow.uid), plan.events, now=self._c.now())
        for name in plan.delete_config_maps:
            with contextlib.suppress(NotFound):
                await client.delete(CONFIG_MAPS, name, flow.namespace)

    def _wake_users_of(self, flow: Key) -> None:
        for deployment in self._c.store.deployments_of_flow.get(flow, ()):
            self._c.enqueue(DEPLOYMENTS.kind, deployment)

    async def _deployment(self, key: Key) -> float | None:
        store = self._c.store
        # Whatever changed, the runs look for themselves: they do not wait for this condition.
        self._c.wake_runs(store.runs_of_deployment.get(key, ()))
        for schedule in store.schedules_of_deployment.get(key, ()):
            self._c.enqueue(SCHEDULES.kind, schedule)
        deployment = store.deployments.get(key)
        if deployment is None:
            self._c.notifier.forget(key)
            return None
        await self._dry_run(key, deployment)
        facts = deployment_facts(store, key, self._c.notifier, now=self._c.now(), settings=self._c.settings.decide)
        if facts is None:
            return None
        plan = decide_deployment(facts)
        if plan.status is not None:
            self.take(DEPLOYMENTS, await self.write(DEPLOYMENTS, deployment, plan.status))
        await write_events(
            self._c.client, About(DEPLOYMENTS, key.namespace, key.name, deployment.uid), plan.events, now=self._c.now()
        )
        return plan.requeue_after_s

    async def _dry_run(self, key: Key, deployment: DeploymentView) -> None:
        """Let the API server judge the pod that the Deployment asks for, once per generation."""
        store = self._c.store
        ready = ready_condition(deployment.status)
        good = (
            ready is not None
            and ready.get("status") == "True"
            and ready.get("observedGeneration") == deployment.generation
        )
        known = store.refused.get(key)
        if (
            good
            or not deployment.infrastructure
            or (known is not None and known[:2] == (deployment.uid, deployment.generation))
        ):
            return
        run = RunView(key.namespace, key.name, deployment.uid, "", self._c.now(), key.name)
        manifest = build_job(
            run, deployment, Code(deployment.flow, "flow.py:main", "."),
            attempt=1, parameters="{}", settings=self._c.settings.decide, now=self._c.now(),
        )  # fmt: skip
        del manifest["metadata"]["ownerReferences"]
        refusal = ""
        try:
            await self._c.client.create(JOBS, manifest, key.namespace, dry_run=True)
        except ApiError as error:
            if error.status in {400, 422}:
                refusal = error.message
        store.refused[key] = (deployment.uid, deployment.generation, refusal)

    async def write(self, kind: Kind, view: Any, status: Mapping[str, Any]) -> Object:
        return await patch_status(
            self._c.client,
            kind,
            view.namespace,
            view.name,
            status,
            uid=view.uid,
            resource_version=view.resource_version,
        )


def _put(table: Table[Any], view: Any) -> bool:
    """Put a view; whether it is news in more than its version."""
    key = Key(view.namespace, view.name)
    if not table.accepts(key, view):
        return False
    known = table.get(key)
    table.put(key, view)
    return known is None or any(
        getattr(known, name) != getattr(view, name) for name in view.__slots__ if name != "resource_version"
    )


def _tombstone(key: Key, uid: str) -> Object:
    return {"metadata": {"namespace": key.namespace, "name": key.name, "uid": uid}}
