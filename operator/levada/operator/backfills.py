"""Backfills: find out, decide, carry out; see decide/backfill.py. Woken by the ends of its runs, a moment later, so that many ends are one write."""

import asyncio
import contextlib
from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from levada.decide.backfill import Answer, BackfillFacts, BackfillPlan, Existing, decide_backfill
from levada.decide.facts import BackfillView, RunView
from levada.decide.storages import is_allowed, storage_of_runs
from levada.decide.tick_run import tick_of
from levada.decide.views import backfill_view, run_view
from levada.exceptions import StorageError
from levada.kube import AlreadyExists, Conflict, Invalid, NotFound
from levada.operator.apply import patch_status, write_events
from levada.operator.events import About
from levada.operator.store import Key
from levada.resources.kinds import BACKFILLS, FLOW_RUNS
from levada.resources.phases import is_terminal

if TYPE_CHECKING:
    from levada.operator.controller import Controller

# Ends that come together are put on record together.
COALESCE_S: Final = 0.3
# Plan, look up, create, put on record: each asks at most once.
_QUESTIONS: Final = 5


class Backfills:
    """The part of the controller for Backfills."""

    def __init__(self, controller: "Controller") -> None:
        self._c = controller
        # By the Backfill's uid: its unfinished runs, and the ends that are not on record yet.
        self._active: defaultdict[str, set[str]] = defaultdict(set)
        self._ended: defaultdict[str, dict[str, str]] = defaultdict(dict)
        controller.reconcilers[BACKFILLS.kind] = self.reconcile
        controller.run_listeners.append(self._on_run)

    async def reconcile(self, key: Key) -> float | None:
        """Take one step. Returns the seconds until the next look.

        Raises:
            ApiError, ConnectionLost: look again after a while.
        """
        backfill = self._c.store.backfills.get(key)
        if backfill is None:
            return None
        facts = self._facts(key, backfill)
        for _ in range(_QUESTIONS):
            plan = decide_backfill(facts)
            if plan.find_existing:
                facts = self._facts(key, backfill, **await self._existing(backfill))
            elif plan.look_up or plan.create:
                facts = self._facts(key, backfill, answers={**facts.answers, **await self._ask(backfill, plan)})
            else:
                return await self._carry_out(key, backfill, plan)
        return 0.0

    def _facts(self, key: Key, backfill: BackfillView, **found: Any) -> BackfillFacts:
        store = self._c.store
        deployment = store.deployments.get(Key(key.namespace, backfill.deployment))
        told = {name: Answer("Ours", phase) for name, phase in self._ended[backfill.uid].items()}
        return BackfillFacts(
            now=self._c.now(),
            backfill=backfill,
            schedule=store.schedules.get(Key(key.namespace, backfill.schedule)) if backfill.schedule else None,
            deployment_found=deployment is not None and not deployment.deleting,
            active=frozenset(self._active[backfill.uid]),
            ended=told,
            **found,
        )

    async def _existing(self, backfill: BackfillView) -> dict[str, Any]:
        """The runs that ticks may have already, in the cluster and in the archive."""
        selector = f"spec.deploymentRef.name={backfill.deployment}"
        items, _ = await self._c.client.list(FLOW_RUNS, backfill.namespace, field_selector=selector)
        runs = sorted(map(run_view, items), key=lambda run: (run.created_at, run.name))
        existing = {
            run.scheduled_at: Existing(run.name, run.phase)
            for run in runs
            if run.scheduled_at is not None and run.backfill_uid != backfill.uid
        }
        try:
            return {"existing": existing, "archived": await self._archived(backfill)}
        except StorageError as error:
            return {"existing": existing, "archive_problem": str(error)}

    async def _archived(self, backfill: BackfillView) -> frozenset[datetime]:
        """Ticks of which the Deployment has a run in its archive."""
        deployment = self._c.store.deployments.get(Key(backfill.namespace, backfill.deployment))
        url = storage_of_runs(deployment, self._c.settings.decide)
        if not url or not is_allowed(url, self._c.settings.decide):
            return frozenset()
        return await asyncio.to_thread(_ticks_in_archive, url, backfill.namespace, backfill.deployment)

    async def _ask(self, backfill: BackfillView, plan: BackfillPlan) -> dict[str, Answer]:
        answers = {name: await self._look_up(backfill, name) for name in plan.look_up}
        for manifest in plan.create:
            name = manifest["metadata"]["name"]
            try:
                body = await self._c.client.create(FLOW_RUNS, dict(manifest), backfill.namespace)
            except AlreadyExists:
                answers[name] = await self._look_up(backfill, name)
            except Invalid as refusal:
                answers[name] = Answer("Refused", message=refusal.message)
            else:
                self._c.take_run(run_view(body))
                answers[name] = Answer("Ours")
        return answers

    async def _look_up(self, backfill: BackfillView, name: str) -> Answer:
        try:
            run = run_view(await self._c.client.get(FLOW_RUNS, name, backfill.namespace))
        except NotFound:
            return Answer("Absent")
        return Answer("Ours" if run.backfill_uid == backfill.uid else "Foreign", run.phase)

    async def _carry_out(self, key: Key, backfill: BackfillView, plan: BackfillPlan) -> float | None:
        told = dict(self._ended[backfill.uid])
        for name in plan.cancel:
            await self._cancel(key, name)
        if plan.status is not None:
            body = await patch_status(
                self._c.client, BACKFILLS, key.namespace, key.name, plan.status,
                uid=backfill.uid, resource_version=backfill.resource_version,
            )  # fmt: skip
            self._take(key, backfill_view(body))
        for name in told:
            self._ended[backfill.uid].pop(name, None)
        about = About(BACKFILLS, key.namespace, key.name, backfill.uid)
        await write_events(self._c.client, about, plan.events, now=self._c.now())
        return plan.requeue_after_s

    def _take(self, key: Key, view: BackfillView) -> None:
        if self._c.store.backfills.accepts(key, view):
            self._c.store.backfills.put(key, view)

    async def _cancel(self, key: Key, name: str) -> None:
        run = self._c.store.runs.get(Key(key.namespace, name))
        if run is None or run.cancel:
            return
        body = {"metadata": {"uid": run.uid}, "spec": {"cancel": True}}
        with contextlib.suppress(NotFound, Conflict):
            self._c.take_run(run_view(await self._c.client.patch(FLOW_RUNS, name, body, key.namespace)))

    def _on_run(self, before: RunView | None, after: RunView | None) -> None:
        """A run of a backfill has come, ended or gone."""
        run = after or before
        if run is None or not run.backfill_uid:
            return
        if after is not None and not is_terminal(after.phase):
            self._active[run.backfill_uid].add(run.name)
            return
        self._active[run.backfill_uid].discard(run.name)
        if after is not None:
            self._ended[run.backfill_uid][run.name] = after.phase
        self._c.enqueue_after(BACKFILLS.kind, Key(run.namespace, run.backfill), COALESCE_S)


def _ticks_in_archive(url: str, namespace: str, deployment: str) -> frozenset[datetime]:
    from levada.archive.reader import Archive

    found: set[datetime] = set()
    before: str | None = None
    archive = Archive.of(url)
    while entries := archive.list_runs(namespace, deployment, limit=1000, before=before):
        found.update(tick for entry in entries if (tick := tick_of(entry.name)) is not None)
        before = entries[-1].ended
    return frozenset(found)
