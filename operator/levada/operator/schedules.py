"""Schedules: wake up at each tick, decide, and carry the plan out in the order that makes a crash harmless.

The timers are those of the work queue, one a Schedule: asyncio keeps them in a heap, so ten thousand cost nothing while they wait, and
a tick is a look like any other, with its retries and its metrics. Timers go by a clock that never jumps and ticks by one that may: `watch_clock`
has everything looked at again after a jump.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from levada.decide.catch_up import ON_TIME_S
from levada.decide.definitions import ScheduleView
from levada.decide.facts import RunView
from levada.decide.overlap import WAITING, WAITING_POLICIES
from levada.decide.schedule import Answer, ScheduleFacts, SchedulePlan, decide_schedule
from levada.decide.tick_run import belongs_to
from levada.decide.views import run_view
from levada.kube import AlreadyExists, Conflict, Invalid, NotFound
from levada.operator.apply import patch_status, write_events
from levada.operator.events import About
from levada.operator.store import Key
from levada.resources.kinds import FLOW_RUNS, SCHEDULES
from levada.resources.phases import is_terminal

if TYPE_CHECKING:
    from levada.operator.controller import Controller

# Clocks that are slewed drift by less a second; a leap second is no jump worth a look at everything.
JUMP_S: Final = 1.5
_LOOK_S: Final = 1.0
_RUN: Final = FLOW_RUNS.kind
# A plan asks at most one question, and acts on the answer.
_QUESTIONS: Final = 3


class Schedules:
    """The part of the controller for Schedules."""

    def __init__(self, controller: "Controller") -> None:
        self._c = controller
        # Schedules, with their uids, of which this process knows that no run exists without a record.
        self._settled: dict[Key, str] = {}
        # The run that this process has made and not put on record yet, with the uid of its Schedule. It counts, even if somebody deletes it.
        self._made: dict[Key, tuple[str, Answer]] = {}
        controller.reconcilers[SCHEDULES.kind] = self.reconcile
        controller.run_listeners.append(self._on_run)

    async def reconcile(self, key: Key) -> float | None:
        """Take one step; see decide/schedule.py. Returns the seconds until the next look.

        Raises:
            ApiError, ConnectionLost: look again after a while.
        """
        schedule = self._c.store.schedules.get(key)
        if schedule is None:
            self._forget(key)
            runs = self._c.store.runs.values()
            self._wake(run for run in runs if (run.namespace, run.schedule) == key and run.reason == WAITING)
            return None
        if schedule.policy not in WAITING_POLICIES:
            self._wake(run for run in self._c.store.active_runs_of(schedule.uid) if run.reason == WAITING)
        uid, made = self._made.get(key, ("", None))
        answer = made if uid == schedule.uid else None
        for _ in range(_QUESTIONS):
            plan = decide_schedule(self._facts(key, schedule, answer))
            answer = await self._carry_out(schedule, plan)
            if answer is None:
                return plan.requeue_after_s
        return 0.0

    def _facts(self, key: Key, schedule: ScheduleView, answer: Answer | None) -> ScheduleFacts:
        store = self._c.store
        deployment = store.deployments.get(Key(key.namespace, schedule.deployment))
        return ScheduleFacts(
            now=self._c.now(),
            schedule=schedule,
            active=store.active_runs_of(schedule.uid),
            deployment_found=deployment is not None and not deployment.deleting,
            settled=self._settled.get(key) == schedule.uid,
            answer=answer,
        )

    async def _carry_out(self, schedule: ScheduleView, plan: SchedulePlan) -> Answer | None:
        """Runs first, the record last. Returns an answer that has to be decided about; the rest of the plan is not carried out then."""
        key = Key(schedule.namespace, schedule.name)
        if plan.look_up:
            return await self._look_up(schedule, plan.look_up)
        for name in plan.cancel:
            await self._cancel(schedule, name)
        if plan.create_run is not None:
            answer = await self._create(schedule, plan)
            if answer is not None:
                return answer
        if plan.status is not None:
            body = await patch_status(
                self._c.client, SCHEDULES, schedule.namespace, schedule.name, plan.status,
                uid=schedule.uid, resource_version=schedule.resource_version,
            )  # fmt: skip
            self._made.pop(key, None)
            self._c.definitions.take(SCHEDULES, body)
        if plan.create_run is None:  # else there is a run now that is not on record
            self._settled[key] = schedule.uid
        about = About(SCHEDULES, schedule.namespace, schedule.name, schedule.uid)
        await write_events(self._c.client, about, plan.events, now=self._c.now())
        return None

    async def _create(self, schedule: ScheduleView, plan: SchedulePlan) -> Answer | None:
        assert plan.create_run is not None
        name = plan.create_run["metadata"]["name"]
        self._settled.pop(Key(schedule.namespace, schedule.name), None)
        try:
            body = await self._c.client.create(FLOW_RUNS, dict(plan.create_run), schedule.namespace)
        except AlreadyExists:
            return await self._look_up(schedule, name)
        except Invalid as refusal:
            return Answer(name, "Refused", refusal.message)
        self._made[Key(schedule.namespace, schedule.name)] = schedule.uid, Answer(name, "Ours")
        if plan.due is not None:
            lag_s = (self._c.now() - plan.due).total_seconds()
            if lag_s <= ON_TIME_S:
                self._c.metrics.schedule_lag.observe(max(0.0, lag_s))
        self._c.take_made(body)
        return None

    async def _look_up(self, schedule: ScheduleView, name: str) -> Answer:
        try:
            body = await self._c.client.get(FLOW_RUNS, name, schedule.namespace)
        except NotFound:
            self._settled[Key(schedule.namespace, schedule.name)] = schedule.uid
            return Answer(name, "Absent")
        return Answer(name, "Ours" if belongs_to(body, schedule) else "Foreign")

    async def _cancel(self, schedule: ScheduleView, name: str) -> None:
        run = self._c.store.runs.get(Key(schedule.namespace, name))
        if run is None:
            return
        body = {"metadata": {"uid": run.uid}, "spec": {"cancel": True}}
        with contextlib.suppress(NotFound, Conflict):  # it is gone, and perhaps another has its name
            self._c.take_run(run_view(await self._c.client.patch(FLOW_RUNS, name, body, schedule.namespace)))

    def let_go(self, namespace: str) -> None:
        """Somebody else makes runs there now, and puts them on record, or does not come to it."""
        for key in [key for key in (*self._settled, *self._made) if key.namespace == namespace]:
            self._forget(key)

    def _forget(self, key: Key) -> None:
        self._settled.pop(key, None)
        self._made.pop(key, None)

    # --- what wakes whom ----------------------------------------------------------------------------------------------

    def _on_run(self, before: RunView | None, after: RunView | None) -> None:
        """A run of a schedule has ended or is gone: the one that waits for it may start, and the schedule may make runs early again."""
        run = after or before
        if run is None or not run.schedule_uid or (after is not None and not is_terminal(after.phase)):
            return
        key = Key(run.namespace, run.schedule)
        schedule = self._c.store.schedules.get(key)
        if schedule is None or schedule.uid != run.schedule_uid:
            return
        if schedule.policy in WAITING_POLICIES:
            waiting = (each for each in self._c.store.active_runs_of(schedule.uid) if each.attempt == 0)
            self._wake(sorted(waiting, key=lambda each: (each.scheduled_at or each.created_at, each.name))[:1])
        if schedule.prestart_s:
            self._c.enqueue(SCHEDULES.kind, key)

    def _wake(self, runs: Iterable[RunView]) -> None:
        """What these runs wait for may have come."""
        for run in list(runs):
            key = Key(run.namespace, run.name)
            self._c.store.place(key)
            self._c.enqueue(_RUN, key)

    def wake_all(self) -> None:
        """Time is not what it was: look at every schedule, and at the runs that wait for their time."""
        for key in self._c.store.schedules:
            self._c.enqueue(SCHEDULES.kind, key)
        for key in self._c.store.runs:
            self._c.enqueue(_RUN, key)

    async def watch_clock(self) -> None:
        """For ever: notice when the clock on the wall jumps against the one that timers go by."""
        offset_s = time.time() - time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_S)
            now_s = time.time() - time.monotonic()
            if abs(now_s - offset_s) > JUMP_S:
                self.wake_all()
            offset_s = now_s
