"""ConcurrencyLimit: the operator grants slots to tasks, in the status of their runs.

An index follows the runs: which of them wait for which limit or hold slots of it, in order. One reconcile of a limit grants what
fits and writes it into the runs, guarded by their versions. Nothing else remembers a grant, so nothing can leak: what a run's
status says counts as long as its attempt is alive, and not a moment longer.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Any, Final

from levada.decide.definition_views import limit_view
from levada.decide.slots import (
    HELD,
    WAITING,
    Ask,
    SlotFacts,
    SlotPlan,
    decide_slots,
    granted_entry,
    is_alive,
    limit_status,
    refused_entry,
)
from levada.decide.times import stamp
from levada.decide.views import run_view
from levada.kube import ApiError, ConnectionLost, NotFound, ServerError
from levada.operator.apply import patch_status
from levada.operator.keys import Key
from levada.resources.kinds import CONCURRENCY_LIMITS, FLOW_RUNS

if TYPE_CHECKING:
    from datetime import datetime

    from levada.decide.definitions import LimitView
    from levada.decide.facts import RunView
    from levada.operator.controller import Controller

log = logging.getLogger(__name__)

# Between two writes of one limit's summary.
SUMMARY_EVERY_S: Final = 2.0
# After a grant that was not written: the run's next version is on its way.
GRANT_AGAIN_S: Final = 0.05

Order = tuple[Any, ...]
Line = list[tuple[Order, Ask]]


class _Asked:
    """Those who ask for one limit."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], Ask] = {}
        self.slots: Line = []
        self.turns: Line = []

    def line_of(self, ask: Ask) -> Line:
        return self.turns if ask.slot.rate else self.slots

    def add(self, ask: Ask) -> None:
        if ask.slot.state == WAITING:
            insort(self.line_of(ask), (ask.order, ask))
        else:
            self.held[ask.run, ask.slot.id] = ask

    def remove(self, ask: Ask) -> None:
        self.held.pop((ask.run, ask.slot.id), None)
        line = self.line_of(ask)
        at = bisect_left(line, (ask.order,))
        if at < len(line) and line[at][0] == ask.order:
            del line[at]

    @property
    def is_empty(self) -> bool:
        return not (self.held or self.slots or self.turns)


class Slots:
    """The reconciler of ConcurrencyLimit, and the index that it grants from."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller
        self._asked: dict[Key, _Asked] = {}
        self._of_run: dict[Key, tuple[Ask, ...]] = {}
        self._unsure: dict[Key, set[Key]] = {}  # by limit: runs to which a grant may have been written
        self._written_at: dict[Key, datetime] = {}
        controller.reconcilers[CONCURRENCY_LIMITS.kind] = controller.definitions.judging(
            CONCURRENCY_LIMITS, self._reconcile
        )
        controller.run_listeners.append(self._on_run)

    # --- news ---------------------------------------------------------------------------------------------------------

    def _on_run(self, before: RunView | None, after: RunView | None) -> None:
        run = after or before
        if run is not None and (run.slots or Key(run.namespace, run.name) in self._of_run):
            self._index(Key(run.namespace, run.name), after)

    def look_again(self, key: Key) -> None:
        """A pod of the run changed: its slots may have become free, before anybody knows why the pod ended."""
        if key in self._of_run:
            self._index(key, self._c.store.runs.get(key))

    def _index(self, key: Key, run: RunView | None) -> None:
        before, after = self._of_run.get(key, ()), self._asks_of(key, run) if run is not None else ()
        if before == after:
            return
        for ask in set(before) - set(after):
            self._asked[Key(key.namespace, ask.slot.limit)].remove(ask)
        for ask in set(after) - set(before):
            self._asked.setdefault(Key(key.namespace, ask.slot.limit), _Asked()).add(ask)
        if after:
            self._of_run[key] = after
        else:
            self._of_run.pop(key, None)
        for limit in {Key(key.namespace, ask.slot.limit) for ask in set(before) ^ set(after)}:
            if self._asked[limit].is_empty:
                del self._asked[limit]
            self._c.enqueue(CONCURRENCY_LIMITS.kind, limit)

    def _asks_of(self, key: Key, run: RunView) -> tuple[Ask, ...]:
        """What counts of what the run's status says."""
        if not run.slots:
            return ()
        pods = self._c.store.pods.get(key, {}).values()
        mine = [pod for pod in pods if pod.run_uid == run.uid and pod.attempt == run.attempt]
        pod = next((pod for pod in mine if not pod.finished), mine[0] if mine else None)
        if not is_alive(run, pod):
            return ()
        deployment = self._c.store.deployments.get(Key(run.namespace, run.deployment))
        of_run = run.priority if run.priority is not None else deployment.priority if deployment is not None else 0
        return tuple(
            Ask(run.name, slot.priority if slot.priority is not None else of_run, slot)
            for slot in run.slots
            if slot.attempt == run.attempt and (slot.state == WAITING or (slot.state == HELD and not slot.rate))
        )

    # --- grants -------------------------------------------------------------------------------------------------------

    async def _reconcile(self, key: Key) -> float | None:
        await self._make_sure(key)
        limit, asked = self._c.store.limits.get(key), self._asked.get(key) or _Asked()
        now = self._c.now()
        plan = decide_slots(
            SlotFacts(
                now,
                limit,
                held=sum(ask.slot.occupy for ask in asked.held.values()),
                slots=(ask for _, ask in asked.slots),
                turns=(ask for _, ask in asked.turns),
            )
        )
        if plan.full_at is not None and limit is not None:
            limit = await self._write(limit, {"fullAt": stamp(plan.full_at)})
        failed = await self._grant(key, plan, now)
        again_s = [wait for wait in (plan.requeue_after_s, GRANT_AGAIN_S if failed else None) if wait is not None]
        if limit is None:
            self._written_at.pop(key, None)
        else:
            summary_s = await self._summarise(key, limit, now)
            again_s += [summary_s] if summary_s is not None else []
        return min(again_s, default=None)

    async def _make_sure(self, limit: Key) -> None:
        """Read the runs of which nobody knows whether they have been granted something: else it might be granted twice."""
        for key in list(self._unsure.get(limit, ())):
            try:
                self._c.take_run(run_view(await self._c.client.get(FLOW_RUNS, key.name, key.namespace)))
            except NotFound:
                self._c.forget_run(key)
            self._unsure[limit].discard(key)
        self._unsure.pop(limit, None)

    async def _grant(self, limit: Key, plan: SlotPlan, now: datetime) -> bool:
        """Write grants and refusals, one patch a run. Whether some of them were not written."""
        words: dict[Key, dict[str, Any]] = {}
        for ask in plan.grants:
            words.setdefault(Key(limit.namespace, ask.run), {})[ask.slot.id] = granted_entry(now)
        for ask, why in plan.refusals:
            words.setdefault(Key(limit.namespace, ask.run), {})[ask.slot.id] = refused_entry(why)
        done = await asyncio.gather(*(self._write_run(limit, key, entries) for key, entries in words.items()))
        return not all(done)

    async def _write_run(self, limit: Key, key: Key, entries: dict[str, Any]) -> bool:
        run = self._c.store.runs.get(key)
        if run is None:
            return True
        try:
            body = await patch_status(
                self._c.client,
                FLOW_RUNS,
                key.namespace,
                key.name,
                {"slots": entries},
                uid=run.uid,
                resource_version=run.resource_version,
            )
        except (ConnectionLost, ServerError) as error:
            self._unsure.setdefault(limit, set()).add(key)
            log.warning("slots of %s for run %s/%s: %s", limit.name, *key, error)
            return False
        except ApiError as error:
            # It has changed since: its news are on their way, and decide anew.
            log.debug("slots of %s for run %s/%s: %s", limit.name, *key, error)
            return False
        self._c.take_run(run_view(body))
        return True

    # --- the summary --------------------------------------------------------------------------------------------------

    async def _summarise(self, key: Key, limit: LimitView, now: datetime) -> float | None:
        asked = self._asked.get(key) or _Asked()
        status = limit_status(limit, list(asked.held.values()), len(asked.slots) + len(asked.turns), now)
        if status is None:
            return None
        written_at = self._written_at.get(key)
        if written_at is not None and limit.status.get("observedGeneration") == limit.generation:
            wait_s = SUMMARY_EVERY_S - (now - written_at).total_seconds()
            if wait_s > 0:
                return wait_s
        self._written_at[key] = now
        await self._write(limit, status)
        return None

    async def _write(self, limit: LimitView, status: dict[str, Any]) -> LimitView:
        body = await self._c.definitions.write(CONCURRENCY_LIMITS, limit, status)
        self._c.definitions.take(CONCURRENCY_LIMITS, body)
        return limit_view(body)
