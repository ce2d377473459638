"""Schedules as tables, and the starts to come as a histogram. Pure: objects and the present in, renderables out."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain, pairwise
from typing import Any, Final
from zoneinfo import ZoneInfo

from rich.table import Table
from rich.text import Text

from levada.cli.output import console, duration_text, moment, table, time_text
from levada.decide.definitions import ScheduleView
from levada.decide.forecast import QueueForecast
from levada.decide.schedule_rule import jitter

BAR_CHARS: Final = 30
# What only a wide list has.
WIDE: Final = ("LAST TICK", "CATCH-UP", "CONCURRENCY", "MESSAGE")


def schedules_table(
    found: Iterable[Mapping[str, Any]], present: datetime, *, with_namespace: bool, wide: bool = False
) -> Table:
    """One line a schedule."""
    first = ["NAMESPACE"] if with_namespace else []
    made = table(
        *first,
        "NAME",
        "DEPLOYMENT",
        "WHEN",
        "ZONE",
        "NEXT",
        "LAST RUN",
        "STATE",
        "STARTED",
        "SKIPPED",
        *(WIDE if wide else ()),
    )
    for each in sorted(found, key=lambda item: (item["metadata"].get("namespace", ""), item["metadata"]["name"])):
        spec, status = each["spec"], each.get("status") or {}
        upcoming = moment(next(iter(status.get("nextRuns") or ()), None))
        place = [each["metadata"].get("namespace", "")] if with_namespace else []
        made.add_row(
            *place,
            each["metadata"]["name"],
            spec["deploymentRef"]["name"],
            when(spec),
            spec.get("timeZone") or "UTC",
            f"in {duration_text((upcoming - present).total_seconds())}" if upcoming and upcoming > present else "",
            status.get("lastRun") or "",
            _state(status),
            str(status.get("started") or 0),
            _skipped(status),
            *(_details(spec, status) if wide else ()),
        )
    return made


def _details(spec: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[str, ...]:
    ready = _ready(status) or {}
    return (
        time_text(status.get("lastTick")),
        spec.get("catchUp") or "",
        spec.get("concurrencyPolicy") or "",
        ready.get("message") or "",
    )


def when(spec: Mapping[str, Any]) -> str:
    """The rule in a few words."""
    if spec.get("cron"):
        return str(spec["cron"])
    if spec.get("intervalSeconds"):
        return f"every {duration_text(float(spec['intervalSeconds']))}"
    return str(spec.get("rrule") or "").replace("\n", " ")


def _ready(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return next((item for item in status.get("conditions") or () if item.get("type") == "Ready"), None)


def _state(status: Mapping[str, Any]) -> Text:
    ready = _ready(status)
    if ready is None:
        return Text("Unseen", style="yellow")
    good = ready["status"] == "True"
    return Text(ready["reason"], style=("green" if ready["reason"] == "Ready" else "yellow") if good else "bold red")


def _skipped(status: Mapping[str, Any]) -> str:
    by_reason = status.get("skippedByReason") or {}
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(by_reason.items()))
    return f"{status.get('skipped') or 0}" + (f" ({reasons})" if reasons else "")


def next_table(schedule: ScheduleView, ticks: Sequence[datetime], count: int) -> Table:
    """The ticks to come, in the schedule's zone; `ticks` may have one more than is shown, for the distance to it."""
    zone = ZoneInfo(schedule.rule.time_zone)
    made = table("TICK", "UTC", *(["STARTS"] if schedule.jitter_s else []))
    for tick, following in list(pairwise(chain(ticks, (None,))))[:count]:
        assert tick is not None
        gap = following - tick if following is not None else None
        delay = jitter(schedule.uid, tick, schedule.jitter_s, gap)
        late = [f"+{duration_text(delay.total_seconds())}"] if schedule.jitter_s else []
        made.add_row(f"{tick.astimezone(zone):%a %Y-%m-%d %H:%M:%S %Z}", f"{tick:%Y-%m-%d %H:%M:%S}", *late)
    return made


def print_plan(
    found: Sequence[QueueForecast], flattened: Sequence[QueueForecast], bucket: timedelta, jitter_s: int
) -> None:
    """A histogram for each queue, its peak against its limit, and what jitter would make of the peak."""
    calm = {each.queue: each for each in flattened}
    for each in found:
        console.print(Text(f"queue {each.queue}: {each.starts} starts, {_limit_words(each.limit)}", style="bold"))
        console.print(histogram(each, bucket))
        console.print(peak_words(each, calm.get(each.queue), jitter_s))
        console.print()


def _limit_words(limit: int | None) -> str:
    return "no limit" if limit is None else f"at most {limit} at a time"


def histogram(plan: QueueForecast, bucket: timedelta) -> Table:
    """One row a bucket that has starts: how many, the most within a second, and how many of those would have to wait."""
    made = table("FROM (UTC)", "STARTS", "AT ONCE", "WAIT", "")
    most = max(each.starts for each in plan.buckets)
    form = "%m-%d %H:%M" if bucket >= timedelta(minutes=1) else "%m-%d %H:%M:%S"
    for each in plan.buckets:
        waiting = max(0, each.at_once - plan.limit) if plan.limit is not None else 0
        bar = Text("█" * max(1, round(BAR_CHARS * each.starts / most)), style="red" if waiting else "cyan")
        made.add_row(f"{each.at:{form}}", str(each.starts), str(each.at_once), str(waiting) if waiting else "", bar)
    return made


def peak_words(plan: QueueForecast, calm: QueueForecast | None, jitter_s: int) -> str:
    """The peak in a sentence."""
    peak = plan.peak
    words = f"peak: {peak.at_once} at once, between {peak.at:%H:%M} and the next row"
    if plan.limit is not None and peak.at_once > plan.limit:
        words += f"; {peak.at_once - plan.limit} of them wait for a slot"
    if calm is not None and calm.peak.at_once < peak.at_once:
        words += f"; with jitterSeconds: {jitter_s} on each schedule: {calm.peak.at_once} at once"
    return words
