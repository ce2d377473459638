"""The first page, from the store. No I/O, no clock."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from heapq import nlargest
from statistics import fmean
from typing import Final

from levada.dashboard.definitions import Views, success_ratio
from levada.dashboard.listing import COUNTS
from levada.dashboard.models import (
    FailureReason,
    HealthProblem,
    Overview,
    PhaseCounts,
    QueueForecast,
    TrendBucket,
)
from levada.dashboard.outlook import AHEAD
from levada.dashboard.store import FAILED, Entry, Key, Store
from levada.dashboard.viewers import Scope

DAY: Final = timedelta(days=1)
TREND_BUCKET: Final = timedelta(hours=12)
TREND_BUCKETS: Final = 28  # a fortnight
SHOWN: Final = 50
TICKS_SHOWN: Final = 100
FORECASTS_SHOWN: Final = 20
_FIRST: Final = ("Running", "Cancelling", "Retrying", "Pending", "Paused", "Queued", "Scheduled", "Unseen")


def overview_of(
    store: Store,
    views: Views,
    runs: Scope,
    deployments: Scope,
    schedules: Scope,
    *,
    now: datetime,
    forecasts: list[QueueForecast],
    problems: list[HealthProblem],
    stale: bool,
    as_of: datetime | None,
) -> Overview:
    """The first page. The scopes: where the viewer may see which kind."""
    seen = [entry for entry in store.newest_first() if entry.namespace in runs]
    active = sorted((e for e in seen if e.active), key=lambda e: (_FIRST.index(e.phase), -e.created_s))
    since, before = now - DAY, now - 2 * DAY
    day = [entry for entry in seen if entry.completed_s >= since.timestamp()]
    failed = [entry for entry in day if entry.phase in FAILED]
    own = [obj for key, obj in store.objects["Schedule"].items() if key.namespace in schedules]
    ticks = [tick for obj in own for tick in views.ticks(obj, now, now + AHEAD, now, TICKS_SHOWN)]
    upcoming = sorted((tick for tick in ticks if tick.outcome == "Due"), key=lambda tick: tick.time)
    counts = Counter(COUNTS[entry.phase] for entry in seen)
    return Overview(
        stale=stale,
        as_of=as_of,
        counts=PhaseCounts.model_validate(dict(counts)),
        active=[entry.as_row() for entry in active[:SHOWN]],
        active_total=len(active),
        failures=failures_of(failed, store),
        failures_total=len(failed),
        failures_since=since,
        upcoming=upcoming[:TICKS_SHOWN],
        upcoming_until=now + AHEAD,
        forecast=forecasts[:FORECASTS_SHOWN],
        trend=trend_of(seen, now),
        trend_bucket_seconds=TREND_BUCKET.total_seconds(),
        trend_since=datetime.fromtimestamp(min((e.created_s for e in seen), default=0.0), UTC) if seen else None,
        success_ratio=success_ratio(day),
        previous_success_ratio=success_ratio(
            e for e in seen if before.timestamp() <= e.completed_s < since.timestamp()
        ),
        deployments=sum(key.namespace in deployments for key in store.objects["Deployment"]),
        schedules=len(own),
        problems=problems,
    )


def failures_of(failed: Iterable[Entry], store: Store) -> list[FailureReason]:
    """Failures by Deployment and reason, the newest first; as many as are shown."""
    groups: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in failed:
        groups.setdefault((entry.namespace, entry.deployment, entry.reason), []).append(entry)
    found = []
    # Reasons are what runs write themselves: there may be as many as there are runs, so only what is shown is looked at closely.
    for newest, entries in nlargest(
        SHOWN, ((max(each, key=_ended), each) for each in groups.values()), key=lambda each: _ended(each[0])
    ):
        row = newest.as_row()
        later = (
            each.phase == "Completed" and each.created_s > newest.created_s
            for each in map(store.runs.__getitem__, store.runs_of.get(Key(newest.namespace, newest.deployment), ()))
        )
        found.append(
            FailureReason(
                namespace=newest.namespace, deployment=newest.deployment, reason=newest.reason, message=row.message,
                count=len(entries), newest=row, recovered=any(later),
            )
        )  # fmt: skip
    return found


def _ended(entry: Entry) -> float:
    return entry.completed_s or entry.created_s


def trend_of(entries: Iterable[Entry], now: datetime) -> list[TrendBucket]:
    """What ended in the last fortnight, half a day at a time."""
    length_s = TREND_BUCKET.total_seconds()
    last = int(now.timestamp() // length_s)
    buckets: dict[int, list[Entry]] = {index: [] for index in range(last - TREND_BUCKETS + 1, last + 1)}
    for entry in entries:
        index = int(entry.completed_s // length_s)
        if index in buckets:
            buckets[index].append(entry)
    return [_bucket(datetime.fromtimestamp(index * length_s, UTC), ended) for index, ended in buckets.items()]


def _bucket(start: datetime, ended: list[Entry]) -> TrendBucket:
    good = sorted(e.duration_s for e in ended if e.phase == "Completed" and e.duration_s is not None)
    completed, failed = sum(e.phase == "Completed" for e in ended), sum(e.phase in FAILED for e in ended)
    overheads = [entry.overhead for entry in ended if entry.overhead is not None]
    return TrendBucket(
        start_time=start,
        completed=completed,
        failed=failed,
        cancelled=len(ended) - completed - failed,
        success_ratio=success_ratio(ended),
        duration_p50_seconds=quantile(good, 0.5),
        duration_p95_seconds=quantile(good, 0.95),
        overhead_ratio=round(fmean(overheads), 4) if overheads else None,
    )


def quantile(ordered: list[float], part: float) -> float | None:
    """The value that this part of them does not exceed: the nearest rank."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else None
