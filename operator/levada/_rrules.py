"""Recurrence rules of RFC 5545, read and expanded as wall-clock times. dateutil knows the calendar; this file knows when to stop.

dateutil searches from DTSTART on, to the year 9999 if need be: minutes of work for a rule by the second, or for one that never
fires. Two facts help. The calendar repeats every 400 years, so each rule is moved by whole cycles to where it has at most 800
years left; and a rule without COUNT looks the same from each of its periods, so the search starts shortly before what is asked.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from heapq import merge
from typing import Any

from levada.exceptions import ScheduleError
from levada.ticks import DEFAULT_ANCHOR, wall_of, zone_of

MAX_RRULE_CHARS = 1024
_CYCLE_YEARS = 400
_LAST_START_YEAR = 9599
_SUB_DAILY = ("SECONDLY", "MINUTELY", "HOURLY")
_START_YEARS = range(1900, 2401)
# A rule with COUNT is searched from its start each time.
_BOUNDS = {"COUNT": 100_000, "INTERVAL": 100_000_000}
_HINT = "write it as RFC 5545 does, for example 'FREQ=MONTHLY;BYMONTHDAY=-1'"
_DATE = re.compile(r"(\d{8})(?:T(\d{6})(Z?))?")
_LINE = re.compile(r"(?P<key>DTSTART|RRULE|RDATE|EXDATE)(?P<options>(?:;[A-Z]+=[^:;]+)*):(?P<value>.+)", re.IGNORECASE)
# Periods of a fixed length. A month has none, and twelve searches a year cost nothing.
_PERIODS = {
    "SECONDLY": timedelta(seconds=1),
    "MINUTELY": timedelta(minutes=1),
    "HOURLY": timedelta(hours=1),
    "DAILY": timedelta(days=1),
    "WEEKLY": timedelta(weeks=1),
}


class Rules:
    """A set of recurrence rules with single dates added and taken away; all are naive times, moved by whole cycles."""

    def __init__(self, start: datetime, rules: list[tuple[Any, timedelta | None]]) -> None:
        self.start = start
        self.rules = rules
        self.added: list[datetime] = []
        self.removed: set[datetime] = set()
        self.cycles = cycles_for(start)

    def walls(self, after: datetime | None) -> Iterator[datetime]:
        """The wall-clock times later than `after`, in order; all of them without it."""
        moved = None if after is None else _moved(after, self.cycles)
        if after is not None and moved is None:
            return
        streams = [_expand(rule, period, self.start, moved, self.cycles) for rule, period in self.rules]
        last = after
        for wall in merge(*streams, sorted(self.added)):
            if (last is None or wall > last) and wall not in self.removed:
                last = wall
                yield wall


def cycles_for(start: datetime) -> int:
    """By how many cycles to move a rule that starts then."""
    return (_LAST_START_YEAR - start.year) // _CYCLE_YEARS


def _moved(wall: datetime, cycles: int) -> datetime | None:
    """The same day so many cycles later; None beyond the end of the calendar."""
    try:
        return wall.replace(year=wall.year + cycles * _CYCLE_YEARS)
    except ValueError:
        return None


def _expand(
    rule: Any, period: timedelta | None, start: datetime, after: datetime | None, cycles: int
) -> Iterator[datetime]:
    origin = _moved(start, cycles)
    if after is not None and period is not None and origin is not None and after > origin + period:
        rule = rule.replace(dtstart=origin + ((after - origin) // period - 1) * period)
    for wall in rule:
        if after is None or wall > after:
            yield wall.replace(year=wall.year - cycles * _CYCLE_YEARS)


def read(text: object, zone: tzinfo) -> Rules:
    """Read the lines of a rule: DTSTART, RRULE, RDATE and EXDATE, or the bare parts of one RRULE.

    Raises:
        ScheduleError: a line cannot be read; the message says which and why.
    """
    if not isinstance(text, str) or not text.strip():
        raise ScheduleError(f"rrule={text!r} must be a text; {_HINT}")
    if len(text) > MAX_RRULE_CHARS:
        raise ScheduleError(f"the rrule has {len(text)} characters; {MAX_RRULE_CHARS} are possible")
    lines = [_line(line, zone) for line in text.split("\n") if line.strip()]
    starts = [date for key, value in lines if key == "DTSTART" for date in _dates(value, zone)]
    if len(starts) > 1:
        raise ScheduleError(f"rrule={text!r} has more than one DTSTART")
    start = starts[0] if starts else DEFAULT_ANCHOR
    if start.year not in _START_YEARS:
        raise ScheduleError(f"the rrule's DTSTART is in the year {start.year}; 1900 to 2400 are possible")
    found = Rules(start, [_rule(value, start, zone) for key, value in lines if key == "RRULE"])
    found.added = [date for key, value in lines if key == "RDATE" for date in _dates(value, zone)]
    found.removed = {date for key, value in lines if key == "EXDATE" for date in _dates(value, zone)}
    if not found.rules and not found.added:
        raise ScheduleError(f"rrule={text!r} has no RRULE; {_HINT}")
    return found


def _line(line: str, zone: tzinfo) -> tuple[str, str]:
    """Key and value of one line. A TZID must be the schedule's own zone: a schedule has one wall."""
    line = line.strip()
    if "=" in line.partition(":")[0].partition(";")[0]:
        return "RRULE", line
    match = _LINE.fullmatch(line)
    if match is None:
        raise ScheduleError(f"the rrule's line {line!r} cannot be read; {_HINT}")
    named = zone_in(line)
    if named is not None and zone_of(named) != zone:
        raise ScheduleError(f"the rrule's line {line!r} names another time zone than timezone={str(zone)!r}: name one")
    return match["key"].upper(), match["value"]


def zone_in(text: str) -> str | None:
    """The time zone that a TZID names."""
    match = re.search(r";TZID=([^:;\s]+)", text, re.IGNORECASE)
    return match[1] if match else None


def _dates(value: str, zone: tzinfo) -> list[datetime]:
    return [_date(each, zone) for each in value.split(",")]


def _date(text: str, zone: tzinfo) -> datetime:
    """A date of RFC 5545 as the zone's wall-clock time; one with a Z is UTC."""
    match = _DATE.fullmatch(text.strip())
    if match is None:
        raise ScheduleError(f"{text!r} in the rrule is no date; write 20250131T093000, or with a Z at its end for UTC")
    day, time, utc = match.groups()
    try:
        found = datetime.strptime(day + (time or "000000"), "%Y%m%d%H%M%S")
    except ValueError:
        raise ScheduleError(f"{text!r} in the rrule is no date: no calendar has it") from None
    return wall_of(found.replace(tzinfo=UTC), zone) if utc else found


def _rule(value: str, start: datetime, zone: tzinfo) -> tuple[Any, timedelta | None]:
    """One RRULE, moved by whole cycles, and its period if the search may start at any of them."""
    from dateutil.rrule import rrulestr

    cycles = cycles_for(start)
    parts = dict(_part(part, value) for part in value.strip(";").split(";"))
    if "UNTIL" in parts:
        until = _moved(_date(parts["UNTIL"], zone), cycles)
        parts["UNTIL"] = f"{until:%Y%m%dT%H%M%S}" if until else "99991231T235959"
    text = ";".join(f"{key}={part}" for key, part in parts.items())
    if "BYSETPOS" in parts and parts.get("FREQ") in _SUB_DAILY:  # each period would have to be looked into, for ever
        raise ScheduleError(
            f"rrule={value!r}: BYSETPOS goes with FREQ=DAILY and longer; name the minutes with BYMINUTE"
        )
    try:
        rule = rrulestr(text, dtstart=_moved(start, cycles))
        next(iter(rule), None)  # some combinations are refused only here
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ScheduleError(f"rrule={value!r} cannot be read: {error}; {_HINT}") from None
    period = _PERIODS.get(parts.get("FREQ", ""))
    return rule, None if period is None or "COUNT" in parts else period * int(parts.get("INTERVAL", 1))


def _part(part: str, rule: str) -> tuple[str, str]:
    key, equals, value = part.strip().upper().partition("=")
    if not equals or not value:
        raise ScheduleError(f"{part!r} in rrule={rule!r} is no KEY=VALUE; {_HINT}")
    if key in _BOUNDS and not (value.isdecimal() and 1 <= int(value) <= _BOUNDS[key]):
        raise ScheduleError(f"{part!r} in rrule={rule!r} must be a whole number from 1 to {_BOUNDS[key]}")
    return key, value
