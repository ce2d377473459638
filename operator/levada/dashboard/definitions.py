"""Rows of Deployments, Schedules and WorkQueues: they speak of runs and of each other, so they are made from the store. No I/O."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

from levada.dashboard.models import Action, DeploymentRow, LedgerItem, QueueRow, ScheduleRow, TickItem
from levada.dashboard.models.common import Wire
from levada.dashboard.outlook import TICKS_KEPT, NextTicks
from levada.dashboard.rows import (
    EMPTY,
    agent_row,
    backfill_row,
    block_row,
    conditions,
    created,
    limit_row,
    queues_of,
    ready,
    recent,
    status_of,
)
from levada.dashboard.store import FAILED, UNSEEN, Entry, Key, Store
from levada.decide.definition_views import schedule_view
from levada.decide.times import parse
from levada.resources.names import DEFAULT_QUEUE

Object = Mapping[str, Any]
RECENT: Final = 12
JUDGED: Final = 50
_HOLDING: Final = frozenset({"Pending", "Running", "Retrying", "Cancelling"})
_WAITING: Final = frozenset({"Queued", "Scheduled", UNSEEN})
_TICKS_A_SCHEDULE: Final = 5000


class Views:
    """Makes rows from what the store knows."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next = NextTicks()

    def row_of(self, kind: str, obj: Object) -> Wire | None:
        """The row of an object that is no run; None: its kind has none."""
        match kind:
            case "Deployment":
                return self.deployment(obj)
            case "Schedule":
                return self.schedule(obj)
            case "WorkQueue":
                return self.queue(obj["metadata"]["namespace"], obj["metadata"]["name"])
            case "Backfill":
                return backfill_row(obj)
            case "ConcurrencyLimit":
                return limit_row(obj)
            case "Block":
                return block_row(obj, self.users_of_block(obj["metadata"]["namespace"], obj["metadata"]["name"]))
            case "Node":
                return agent_row(obj, count=len(self.running_on(obj["metadata"]["name"])))
        return None

    def deployment(self, obj: Object) -> DeploymentRow:
        """A Deployment, with what its runs and Schedules say of it."""
        meta, spec = obj["metadata"], obj.get("spec") or EMPTY
        key = Key(meta.get("namespace", ""), meta["name"])
        flow = (spec.get("flowRef") or EMPTY).get("name", "")
        flow_spec = (self._store.get("Flow", key.namespace, flow) or EMPTY).get("spec") or EMPTY
        runs = self._store.runs_of_deployment(key)
        schedules = self.schedules_of(key)
        ticks = [tick for each in schedules for tick in self.next_ticks(each, 1)]
        is_ready, reason, message = ready(obj)
        return DeploymentRow(
            namespace=key.namespace,
            name=key.name,
            flow=flow,
            description=flow_spec.get("description") or "",
            queue=spec.get("workQueue") or DEFAULT_QUEUE,
            tags=list(spec.get("tags") or ()),
            paused=bool(spec.get("paused")),
            ready=is_ready,
            ready_reason=reason,
            ready_message=message,
            schedules=sorted(each["metadata"]["name"] for each in schedules),
            next_tick=min(ticks, default=None),
            active=sum(entry.active for entry in runs),
            success_ratio=success_ratio(runs[:JUDGED]),
            recent=[recent(entry.as_row()) for entry in reversed(runs[:RECENT])],
            created_time=created(obj),
        )

    def schedules_of(self, deployment: Key) -> list[Object]:
        """The Schedules of a Deployment."""
        return [
            each
            for key, each in self._store.objects["Schedule"].items()
            if key.namespace == deployment.namespace
            and ((each.get("spec") or EMPTY).get("deploymentRef") or EMPTY).get("name") == deployment.name
        ]

    def next_ticks(self, schedule: Object, count: int) -> list[datetime]:
        """The next ticks; none if it is suspended."""
        view = schedule_view(schedule)
        return [] if view.suspended else self._next.after(view.rule, datetime.now(UTC), count)

    def schedule(self, obj: Object, actions: Iterable[Action] = ()) -> ScheduleRow:
        """A Schedule."""
        spec, status, view = obj.get("spec") or EMPTY, status_of(obj), schedule_view(obj)
        is_ready, reason, message = ready(obj)
        return ScheduleRow(
            namespace=view.namespace,
            name=view.name,
            deployment=view.deployment,
            rule=rule_words(spec),
            time_zone=view.rule.time_zone,
            suspended=view.suspended,
            ready=is_ready,
            ready_reason=reason,
            ready_message=message,
            problem=view.rule.problem(),
            next_ticks=self.next_ticks(obj, 5),
            last_tick=parse(status.get("lastTick")),
            last_run=status.get("lastRun") or "",
            started=status.get("started") or 0,
            missed=status.get("missed") or 0,
            skipped=status.get("skipped") or 0,
            skipped_by_reason=dict(status.get("skippedByReason") or {}),
            actions=list(actions),
        )

    def queue(self, namespace: str, name: str, actions: Iterable[Action] = ()) -> QueueRow:
        """A WorkQueue, with or without an object: its runs are counted, not read from its status."""
        obj = self._store.get("WorkQueue", namespace, name) or EMPTY
        spec = obj.get("spec") or EMPTY
        runs = [
            e for e in self._store.runs.values() if e.namespace == namespace and e.active and self._queue_of(e) == name
        ]
        waiting = [entry.created_s for entry in runs if entry.phase in _WAITING]
        nodes = self._store.objects["Node"].values()
        return QueueRow(
            namespace=namespace,
            name=name,
            exists=bool(obj),
            description=spec.get("description") or "",
            limit=spec.get("concurrencyLimit"),
            priority=spec.get("priority") or 0,
            paused=bool(spec.get("paused")),
            local_queue=spec.get("localQueue") or "",
            active=sum(entry.phase in _HOLDING for entry in runs),
            waiting=len(waiting),
            oldest_waiting_time=datetime.fromtimestamp(min(waiting), UTC) if waiting else None,
            deployments=sorted(k.name for k in self._store.objects["Deployment"] if k.namespace == namespace and self.queue_of(k) == name),
            agents=sorted(node["metadata"]["name"] for node in nodes if name in queues_of(node)),
            conditions=conditions(obj) if obj else [],
            actions=list(actions),
        )  # fmt: skip

    def queue_names(self) -> set[Key]:
        """Every WorkQueue, also those that only Deployments name."""
        named = {Key(key.namespace, self.queue_of(key)) for key in self._store.objects["Deployment"]}
        return named | set(self._store.objects["WorkQueue"])

    def queue_of(self, deployment: Key) -> str:
        """The WorkQueue of a Deployment."""
        obj = self._store.objects["Deployment"].get(deployment) or EMPTY
        return str((obj.get("spec") or EMPTY).get("workQueue") or DEFAULT_QUEUE)

    def _queue_of(self, entry: Entry) -> str:
        return entry.queue or self.queue_of(Key(entry.namespace, entry.deployment))

    def users_of_block(self, namespace: str, name: str) -> list[str]:
        """The Deployments whose notifications name a Block."""
        found = []
        for key, obj in self._store.objects["Deployment"].items():
            told = (obj.get("spec") or EMPTY).get("notifications") or ()
            if key.namespace == namespace and any(
                ((each.get("to") or EMPTY).get("blockRef") or EMPTY).get("name") == name for each in told
            ):
                found.append(key.name)
        return found  # fmt: skip

    def running_on(self, node: str) -> list[Entry]:
        """The runs that are under way on a node."""
        return [entry for entry in self._store.runs.values() if entry.node == node and entry.phase in _HOLDING]

    # --- ticks --------------------------------------------------------------------------------------------------------

    def ticks(self, schedule: Object, start: datetime, end: datetime, now: datetime, limit: int) -> list[TickItem]:
        """What became of a Schedule's past ticks, as far as ledger and runs tell, and those to come."""
        view = schedule_view(schedule)
        base: dict[str, Any] = {
            "namespace": view.namespace,
            "schedule": view.name,
            "deployment": view.deployment,
        }
        found: dict[datetime, TickItem] = {}
        for entry in self._store.runs_of_deployment(Key(view.namespace, view.deployment)):
            tick = datetime.fromtimestamp(entry.scheduled_s, UTC)
            if entry.schedule == view.name and entry.scheduled_s and start <= tick <= end:
                phase = "" if entry.phase == UNSEEN else entry.phase
                found[tick] = TickItem(**base, time=tick, outcome="Run", run=entry.name, phase=phase)
        for said in ledger(schedule):
            if start <= said.tick <= end and said.tick not in found:
                found[said.tick] = TickItem(
                    **base, time=said.tick, until=said.until, count=said.count, outcome=said.outcome, run=said.run, reason=said.reason
                )  # fmt: skip
        if not view.suspended and end > now:
            ahead = (
                self._next.after(view.rule, now, limit)
                if start <= now and limit <= TICKS_KEPT
                else islice(view.rule.ticks(max(start, now)), min(limit, _TICKS_A_SCHEDULE))
            )
            for tick in ahead:
                if tick > end:
                    break
                found.setdefault(tick, TickItem(**base, time=tick, outcome="Due"))
        return list(found.values())


def without_runs(row: DeploymentRow) -> DeploymentRow:
    """The row for who may not list the runs."""
    return row.model_copy(update={"recent": [], "active": 0, "success_ratio": None})


def ledger(schedule: Object) -> list[LedgerItem]:
    """The fate of the newest ticks, the newest first."""
    items = [
        LedgerItem(
            tick=tick,
            until=parse(each.get("until")),
            count=each.get("count") or 1,
            outcome="Run" if each.get("outcome") == "Run" else "Skipped",
            run=each.get("run") or "",
            reason=each.get("reason") or "",
        )
        for each in status_of(schedule).get("ledger") or ()
        if (tick := parse(each.get("tick"))) is not None
    ]
    return sorted(items, key=lambda item: item.tick, reverse=True)


def success_ratio(entries: Iterable[Entry]) -> float | None:
    """Completed of those that completed or failed; None: none has ended so."""
    phases = [entry.phase for entry in entries]
    good, bad = phases.count("Completed"), sum(phase in FAILED for phase in phases)
    return round(good / (good + bad), 4) if good + bad else None


def rule_words(spec: Object) -> str:
    """The rule of a Schedule in a few words."""
    if spec.get("cron"):
        return str(spec["cron"])
    if spec.get("intervalSeconds"):
        return f"every {timedelta(seconds=int(spec['intervalSeconds']))}"
    return str(spec.get("rrule") or "").replace("\n", " ")
