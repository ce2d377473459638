"""Cron expressions, expanded as wall-clock times. croniter reads the fields; this file walks the calendar, many times as fast.

Both day fields given: a day that fits one of them, as in cron. A field is open, not given, when it is a bare star: `*`, `?`, `*/1`,
or a list with one of these in it. `*/2` is given. Kubernetes' CronJob (robfig/cron 3.0.1) draws the same line; Vixie cron, where
each field that begins with a star is open, reads `0 0 */2 * 1` as "odd days that are Mondays".
"""

import re
from bisect import bisect_right
from calendar import monthrange
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

# As croniter: the rarest day that there is, 29 February on a given weekday around the year 2100, comes within 40 years.
_SEARCH_YEARS = 50
_OPEN = re.compile(r"(?:^|,)[*?](?:/0*1)?(?:,|$)")
_LAST = "l"


class Cron(NamedTuple):
    """What the five fields stand for. An open field of days is None."""

    times: tuple[tuple[int, int], ...]  # hour and minute, in order
    months: frozenset[int]
    days: frozenset[int] | None
    last_day: bool
    weekdays: frozenset[int] | None  # Sunday is 0
    nth: dict[int, frozenset[int | str]]  # by weekday: which ones of the month, "l" the last
    either: bool
    nearest_weekday: bool

    def fits(self, day: int, weekday: int, days_of_month: int) -> bool:
        """Whether a day of a month that fits is one of the days."""
        by_day = self.days is None or day in self.days or (self.last_day and day == days_of_month)
        if self.weekdays is None:
            return by_day
        by_weekday = weekday in self.weekdays
        if self.nth:
            which = self.nth.get(weekday, frozenset())
            by_weekday = (day + 6) // 7 in which or (_LAST in which and day + 7 > days_of_month)
        return by_day or by_weekday if self.either else by_day and by_weekday


@lru_cache(maxsize=4096)
def read(cron: str, *, day_or: bool) -> Cron:
    """Read five fields that `ticks.cron_of` has checked."""
    from croniter import croniter

    known: Any = croniter(cron)
    minutes, hours, days, months, weekdays = known.expanded
    day_text, weekday_text = cron.split()[2], cron.split()[4]
    day_open, weekday_open = (_OPEN.search(text) is not None for text in (day_text, weekday_text))
    return Cron(
        times=tuple((hour, minute) for hour in _values(hours, 0, 23) for minute in _values(minutes, 0, 59)),
        months=frozenset(_values(months, 1, 12)),
        days=None if day_open else frozenset(_values(days, 1, 31)),
        last_day=_LAST in days,
        weekdays=None if weekday_open else frozenset(_values(weekdays, 0, 6)),
        nth={weekday: frozenset(which) for weekday, which in known.nth_weekday_of_month.items()},
        either=day_or and not (day_open or weekday_open),
        nearest_weekday=bool(known.nearest_weekday),
    )


def _values(expanded: list[Any], low: int, high: int) -> list[int]:
    if "*" in expanded:
        return list(range(low, high + 1))
    return sorted({value for value in expanded if isinstance(value, int)})


def walls(cron: str, wall: datetime, *, day_or: bool) -> Iterator[datetime]:
    """The wall-clock times later than `wall`, in order. Ends when no day fits for so long that none ever will."""
    fields = read(cron, day_or=day_or)
    if fields.nearest_weekday:
        yield from _slowly(cron, wall, day_or=day_or)
        return
    # The rest of the first day, then whole days.
    day = wall.day
    times = fields.times[bisect_right(fields.times, (wall.hour, wall.minute)) :]
    found = wall.year
    for month in range(wall.year * 12 + wall.month - 1, 9999 * 12 + 12):
        year = month // 12
        if year - found > _SEARCH_YEARS:
            return
        for each in _days(fields, year, month % 12 + 1):
            if each < day:
                continue
            for hour, minute in times if each == day else fields.times:
                found = year
                yield datetime(year, month % 12 + 1, each, hour, minute)
        day = 0


def _days(fields: Cron, year: int, month: int) -> list[int]:
    if month not in fields.months:
        return []
    first, count = monthrange(year, month)  # Monday is 0
    return [day for day in range(1, count + 1) if fields.fits(day, (first + day) % 7, count)]


def _slowly(cron: str, wall: datetime, *, day_or: bool) -> Iterator[datetime]:
    """With `W`, the weekday nearest to a day, as croniter finds it."""
    from croniter import croniter
    from croniter.croniter import CroniterBadDateError

    times = croniter(cron, wall, ret_type=datetime, day_or=day_or)
    while True:
        try:
            yield times.get_next()
        except (CroniterBadDateError, OverflowError, ValueError):
            return
