"""Backfills: find out, decide, carry out; see decide/backfill.py. Woken by the ends of its runs, a moment later, so that many ends are one write."""

import contextlib
from collections.abc import Iterable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from levada.decide.backfill import Answer, BackfillFacts, BackfillPlan, Existing, decide_backfill
from levada.decide.definitions import BackfillView
from levada.decide.facts import RunView
from levada.decide.storages import is_allowed, storage_of_runs
from levada.decide.tick_run import tick_of
from levada.decide.views import run_view
from levada.exceptions import LevadaError
from levada.kube import AlreadyExists, Conflict, Invalid, NotFound
from levada.operator.apply import patch_status, write_events
from levada.operator.events import About
from levada.operator.store import Key
from levada.resources.kinds import BACKFILLS, FLOW_RUNS
from levada.resources.phases import is_terminal
from levada.storage import Storage

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
        self._active: dict[str, set[str]] = {}
        self._ended: dict[str, dict[str, str]] = {}
        controller.reconcilers[BACKFILLS.kind] = self.reconcile
        controller.run_listeners.append(self._on_run)

    async def reconcile(self, key: Key) -> float | None:
        """Take one step. Returns the seconds until the next look.

        Raises:
            ApiError, ConnectionLost: look again after a while.
        """
        backfill = self._c.store.backfills.get(key)
        if backfill is None:
            for uid in self._ended.keys() - {each.uid for each in self._c.store.backfills.values()}:
                del self._ended[uid]
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
        told = {name: Answer("Ours", phase) for name, phase in self._ended.get(backfill.uid, {}).items()}
        return BackfillFacts(
            now=self._c.now(),
            backfill=backfill,
            schedule=store.schedules.get(Key(key.namespace, backfill.schedule)) if backfill.schedule else None,
            deployment_found=deployment is not None and not deployment.deleting,
            active=frozenset(self._active.get(backfill.uid, ())),
            ended=told,
            **found,
        )

    async def _existing(self, backfill: BackfillView) -> dict[str, Any]:
        """The runs that ticks may have already, in the cluster and in the archive."""
        selector = f"spec.deploymentRef.name={backfill.deployment}"
        newest: dict[datetime, tuple[datetime, Existing]] = {}
        # Page by page: a Deployment may have thousands of runs, each with a thousand rows.
        async for page, _ in self._c.client.pages(FLOW_RUNS, backfill.namespace, field_selector=selector):
            for run in map(run_view, page):
                if run.scheduled_at is not None and run.backfill_uid != backfill.uid:
                    found = (run.created_at, Existing(run.name, run.phase))
                    newest[run.scheduled_at] = max(newest.get(run.scheduled_at, found), found)
        existing = {tick: run for tick, (_, run) in newest.items()}
        try:
            return {"existing": existing, "archived": await self._archived(backfill)}
        except LevadaError as error:
            return {"existing": existing, "archive_problem": str(error)}

    async def _archived(self, backfill: BackfillView) -> frozenset[datetime]:
        """Ticks of which the Deployment has a run in its archive."""
        deployment = self._c.store.deployments.get(Key(backfill.namespace, backfill.deployment))
        url = storage_of_runs(deployment, self._c.settings.decide)
        if not url or not is_allowed(url, self._c.settings.decide):
            return frozenset()
        look = partial(_ticks_in_archive, namespace=backfill.namespace, deployment=backfill.deployment)
        return await self._c.storages.call(url, look)

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
                self._c.take_made(body)
                answers[name] = Answer("Ours")
        return answers

    async def _look_up(self, backfill: BackfillView, name: str) -> Answer:
        try:
            run = run_view(await self._c.client.get(FLOW_RUNS, name, backfill.namespace))
        except NotFound:
            return Answer("Absent")
        return Answer("Ours" if run.backfill_uid == backfill.uid else "Foreign", run.phase)

    async def _carry_out(self, key: Key, backfill: BackfillView, plan: BackfillPlan) -> float | None:
        told = set(self._ended.get(backfill.uid, ()))
        for name in plan.cancel:
            await self._cancel(key, name)
        if plan.status is not None:
            body = await patch_status(
                self._c.client, BACKFILLS, key.namespace, key.name, plan.status,
                uid=backfill.uid, resource_version=backfill.resource_version,
            )  # fmt: skip
            self._c.definitions.take(BACKFILLS, body)
        self._forget_ends(backfill.uid, told)
        about = About(BACKFILLS, key.namespace, key.name, backfill.uid)
        await write_events(self._c.client, about, plan.events, now=self._c.now())
        return plan.requeue_after_s

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
        uid, key = run.backfill_uid, Key(run.namespace, run.backfill)
        if after is not None and not is_terminal(after.phase):
            self._active.setdefault(uid, set()).add(run.name)
            return
        active = self._active.get(uid, set())
        active.discard(run.name)
        if not active:
            self._active.pop(uid, None)
        backfill = self._c.store.backfills.get(key)
        if backfill is None or backfill.uid != uid:
            return
        if after is not None:
            self._ended.setdefault(uid, {})[run.name] = after.phase
        self._c.enqueue_after(BACKFILLS.kind, key, COALESCE_S)

    def _forget_ends(self, uid: str, runs: Iterable[str]) -> None:
        """They are on record."""
        ended = self._ended.get(uid, {})
        for name in runs:
            ended.pop(name, None)
        if not ended:
            self._ended.pop(uid, None)


def _ticks_in_archive(storage: Storage, *, namespace: str, deployment: str) -> frozenset[datetime]:
    from levada.archive.reader import Archive

    entries = Archive(storage).every_run(namespace, deployment)
    return frozenset(tick for entry in entries if (tick := tick_of(entry.name)) is not None)
