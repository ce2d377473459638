"""What is to come: the next ticks of a rule, and the starts of a namespace's queues.

Anybody who may write a Schedule chooses how much work its ticks are (a COUNT is searched from its start, up to 100,000 times a look),
so nobody's overview does it anew: ticks are kept until they pass, forecasts for a while, and those are made beside the event loop.
"""

import asyncio
import time
from collections import OrderedDict, defaultdict
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from levada.dashboard.models import QueueForecast, StartsBucket
from levada.dashboard.store import Store
from levada.dashboard.viewers import Scope
from levada.decide.definition_views import deployment_view, queue_view, schedule_view
from levada.decide.definitions import DeploymentView, QueueView, ScheduleView
from levada.decide.forecast import forecast
from levada.decide.schedule_rule import Rule

AHEAD: Final = timedelta(hours=6)
TICKS_KEPT: Final = 100
_RULES_KEPT: Final = 2000
_BUCKET: Final = timedelta(minutes=15)
_FORECAST_S: Final = 15.0
Views = tuple[list[ScheduleView], dict[str, DeploymentView], dict[str, QueueView]]


class NextTicks:
    """The next ticks of rules, at most a hundred of each. Use from one event loop only."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Rule, list[datetime]] = OrderedDict()

    def after(self, rule: Rule, now: datetime, count: int) -> list[datetime]:
        """The next ticks after now, which only goes on."""
        kept = self._kept.get(rule)
        coming = [tick for tick in kept or () if tick > now]
        if kept is None or (len(kept) == TICKS_KEPT and len(coming) < count):
            coming = self._kept[rule] = list(islice(rule.ticks(now), TICKS_KEPT))
            if len(self._kept) > _RULES_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(rule)
        return coming[:count]


class Forecasts:
    """The starts to come by queue, of each namespace."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[str, tuple[float, list[QueueForecast]]] = {}
        self._making: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def of(self, scope: Scope, now: datetime) -> list[QueueForecast]:
        """Those of the namespaces that have Schedules, the highest peak first."""
        namespaces = {key.namespace for key in self._store.objects["Schedule"]}
        for gone in self._kept.keys() - namespaces:
            del self._kept[gone]
        seen = sorted(namespace for namespace in namespaces if namespace in scope)
        found = [each for namespace in seen for each in await self._of(namespace, now)]
        return sorted(found, key=lambda each: (-each.peak, -each.starts))

    async def _of(self, namespace: str, now: datetime) -> list[QueueForecast]:
        async with self._making[namespace]:
            made_at_s, plans = self._kept.get(namespace, (-_FORECAST_S, []))
            if time.monotonic() - made_at_s >= _FORECAST_S:
                plans = await asyncio.to_thread(_plans, namespace, self._views(namespace), now)
                self._kept[namespace] = (time.monotonic(), plans)
            return plans

    def _views(self, namespace: str) -> Views:
        schedules, deployments, queues = (
            [obj for key, obj in self._store.objects[kind].items() if key.namespace == namespace]
            for kind in ("Schedule", "Deployment", "WorkQueue")
        )
        return (
            [schedule_view(obj) for obj in schedules],
            {view.name: view for view in map(deployment_view, deployments)},
            {view.name: view for view in map(queue_view, queues)},
        )


def _plans(namespace: str, views: Views, now: datetime) -> list[QueueForecast]:
    return [
        QueueForecast(
            namespace=namespace, queue=plan.queue, limit=plan.limit, starts=plan.starts, peak=plan.peak.at_once,
            buckets=[StartsBucket(start_time=bucket.at, starts=bucket.starts) for bucket in plan.buckets],
        )
        for plan in forecast(*views, start=now, span=AHEAD, bucket=_BUCKET)
    ]  # fmt: skip
