"""Ticks over whole years in the zones of the world, against a reference that reads the clock on the wall minute by minute.

Zones that turn their clocks alike in a year count once. A few kinds of them are looked at in each run of the tests; all of them with
LEVADA_ALL_ZONES=1, which takes some minutes.
"""

import os
import random
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import pytest

from levada.ticks import cron_ticks, interval_ticks, rrule_ticks

YEARS = (2011, 2018, 2026)
ALL = bool(os.environ.get("LEVADA_ALL_ZONES"))
# Half an hour; a whole day; clocks back first; at midnight; by 24 h 00 in Ramadan; twice in a year.
ALWAYS = (
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Europe/Dublin",
    "America/Santiago",
    "Africa/Casablanca",
    "Antarctica/Troll",
)
SAMPLED = 6
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def offset(zone, instant):
    return instant.astimezone(zone).utcoffset()


def changes(zone, year):
    """The instants of the year, to the minute, at which the offset changes."""
    found = []
    at, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    while at < end:
        if offset(zone, at) != offset(zone, at + HOUR):
            minute = next(at + n * MINUTE for n in range(1, 61) if offset(zone, at + n * MINUTE) != offset(zone, at))
            found.append((minute, offset(zone, at), offset(zone, minute)))
        at += HOUR
    return tuple(found)


@cache
def kinds():
    """One zone for each way to turn the clocks in a year, offset included."""
    chosen = {}
    names = (
        sorted(available_timezones())
        if ALL
        else [*ALWAYS, *random.Random(3).sample(sorted(available_timezones()), SAMPLED)]
    )
    for year in YEARS:
        for name in names:
            zone = ZoneInfo(name)
            kind = (year, offset(zone, datetime(year, 1, 1, tzinfo=UTC)), changes(zone, year))
            chosen.setdefault(kind, (name, year))
    return sorted(chosen.values())


def shown(zone, year):
    """For each minute that the wall shows in the year or jumps over, the first instant at which it has reached it."""
    start = datetime(year, 1, 1, tzinfo=zone).astimezone(UTC)
    end = datetime(year + 1, 1, 1, tzinfo=zone).astimezone(UTC)
    first: list[datetime] = []
    base = start.astimezone(zone).replace(tzinfo=None)
    at, next_change = start, iter([*changes(zone, year - 1), *changes(zone, year), *changes(zone, year + 1)])
    limits = [change[0] for change in next_change if start < change[0] < end]
    for limit in [*limits, end]:  # between two changes the wall runs as time does
        reached = (at.astimezone(zone).replace(tzinfo=None) - base) // MINUTE
        first.extend([at] * max(0, reached + 1 - len(first)))
        ahead = len(first) - reached
        steps = (limit - at) // MINUTE
        first.extend(at + n * MINUTE for n in range(ahead, steps))
        at = limit
    return base, first, start, end


def expected(base, first, walls):
    return sorted({first[index] for wall in walls if 0 <= (index := (wall - base) // MINUTE) < len(first)})


def until(ticks, after, end):
    found = []
    for tick in ticks(after):
        if tick >= end:
            return found
        found.append(tick)
    return found


def test_the_reference_is_the_clock_on_the_wall():
    zone = ZoneInfo("Europe/Lisbon")
    base, first, start, end = shown(zone, 2026)
    seen = {}
    at = start
    while at < end:
        seen.setdefault(at.astimezone(zone).replace(tzinfo=None), at)
        at += MINUTE
    for wall, instant in seen.items():
        assert first[(wall - base) // MINUTE] == instant
    assert first[(datetime(2026, 3, 29, 1, 30) - base) // MINUTE] == datetime(2026, 3, 29, 1, tzinfo=UTC)


@pytest.mark.parametrize(("name", "year"), kinds())
def test_whole_years(name, year):
    zone = ZoneInfo(name)
    base, first, start, end = shown(zone, year)
    days = [base.replace(hour=0, minute=0) + timedelta(days=n) for n in range(-1, 367)]
    before = start - MINUTE
    crons = {
        "*/15 * * * *": [day + timedelta(minutes=15 * n) for day in days for n in range(96)],
        "30 0-3 * * *": [day + timedelta(hours=n, minutes=30) for day in days for n in range(4)],
        "0 0 * * 0": [day for day in days if day.isoweekday() == 7],
    }
    for cron, walls in crons.items():
        assert until(cron_ticks(cron, zone), before, end) == expected(base, first, walls), cron
    daily = [day + timedelta(hours=2, minutes=15) for day in days]
    anchor = datetime(2010, 5, 5, 2, 15)
    assert until(interval_ticks(timedelta(days=1), anchor, zone), before, end) == expected(base, first, daily)
    rule = "DTSTART:20100101T021500\nRRULE:FREQ=DAILY"
    assert until(rrule_ticks(rule, zone), before, end) == expected(base, first, daily)
