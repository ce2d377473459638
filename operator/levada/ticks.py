"""When is it due? Pure functions from a cron expression, an interval or an RRULE to the moments that it names.

Each `*_ticks` function checks its rule once and returns a function `ticks(after)`: the ticks later than `after`, in order, as
UTC. No clock, no I/O: the SDK's schedules and the operator's decisions ask the same functions.

Rules speak of the clock on the wall of one time zone. Where clocks are set forward, a time that the wall never shows fires
once, at the next valid instant; where they are set back, a time that it shows twice fires once, the first time. Two wall times
that fall on one instant are one tick.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from typing import Any

from levada.exceptions import ScheduleError

Ticks = Callable[[datetime], Iterator[datetime]]

DAY = timedelta(days=1)
MAX_INTERVAL = timedelta(days=365)
# A fixed anchor, so that applying a schedule anew never moves its ticks, and "every hour" is on the hour.
DEFAULT_ANCHOR = datetime(2020, 1, 1)  # midnight of the schedule's own zone

_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_CRON_HINT = "write five fields: minute, hour, day of month, month, day of week; '0 6 * * 1-5' is six on workdays"
# croniter reads a range of one value as a range once around.
_SINGLE_RANGE = re.compile(r"\b(\w+)-\1\b(?:/\d+)?", re.IGNORECASE)
# It also knows `R` (any value, another at each start) and `H` (by hash): no tick would be the same twice.
_RANDOM_FIELD = re.compile(r"(?:^|,)[rh](?:\(|/|,|$)", re.IGNORECASE)


def ticks_of(
    *,
    cron: str | None = None,
    interval_seconds: int | None = None,
    rrule: str | None = None,
    anchor: datetime | None = None,
    time_zone: str = "UTC",
) -> Ticks:
    """The ticks of a Schedule, from the fields of its spec.

    Raises:
        ScheduleError: it has not exactly one rule, or the rule means nothing.
    """
    if [cron, interval_seconds, rrule].count(None) != 2:
        raise ScheduleError("a schedule has exactly one of cron, interval and rrule")
    zone = zone_of(time_zone)
    if cron is not None:
        return cron_ticks(cron, zone)
    if interval_seconds is not None:
        return interval_ticks(timedelta(seconds=interval_seconds), anchor, zone)
    return rrule_ticks(rrule or "", zone)


def zone_of(name: object) -> tzinfo:
    """A time zone by its IANA name.

    Raises:
        ScheduleError: there is no such zone; the message offers those of a similar name.
    """
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if not isinstance(name, str):
        raise ScheduleError(f"timezone={name!r} must be the name of a time zone, such as 'Europe/Lisbon'")
    try:
        if not name[:1].isalpha():  # "", "/etc/localtime", "+01:00"
            raise ZoneInfoNotFoundError(name)
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ScheduleError(f"there is no time zone {name!r}; {_similar_zones(name)}") from None


def _similar_zones(name: str) -> str:
    from difflib import get_close_matches
    from zoneinfo import available_timezones

    known = {zone.casefold(): zone for zone in sorted(available_timezones())}
    if not known:
        return "this machine has no time zones at all: pip install tzdata"
    folded = name.strip().casefold().replace(" ", "_")
    by_city = [zone for key, zone in known.items() if key.rpartition("/")[2] == folded]
    close = by_city[:1] or [known[key] for key in get_close_matches(folded, known, n=2)]
    return (
        f"did you mean {' or '.join(map(repr, close))}?" if close else "write a name such as 'Europe/Lisbon' or 'UTC'"
    )


def instant_of(wall: datetime, zone: tzinfo) -> datetime:
    """The one instant, in UTC, at which something due at this wall-clock time fires. `wall` is naive."""
    instant = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == wall:
        return instant
    # The clocks jump over it. Read with the offset of before the jump it lies at or after the jump, read with that of
    # after it lies before: the jump is between the two, and it is the next valid instant.
    before, after = wall.replace(tzinfo=zone, fold=1).astimezone(UTC), instant
    jumped = after.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        if middle.astimezone(zone).utcoffset() == jumped:
            after = middle
        else:
            before = middle
    return after.replace(microsecond=0)


def wall_of(instant: datetime, zone: tzinfo) -> datetime:
    """What the clock on the wall shows, as a naive time."""
    return instant.astimezone(zone).replace(tzinfo=None)


def _fire(walls: Iterable[datetime], zone: tzinfo, after: datetime) -> Iterator[datetime]:
    """Wall-clock times in order, each as its instant. The order stays; equal instants are one tick."""
    last = after
    for wall in walls:
        instant = instant_of(wall, zone)
        if instant > last:
            last = instant
            yield instant


def cron_ticks(cron: object, zone: tzinfo, *, day_or: bool = True) -> Ticks:
    """The ticks of a cron expression. `day_or`: see `CronSchedule`.

    Raises:
        ScheduleError: it has not five fields, one of them means nothing, or no day fits all of them.
    """
    ticks = partial(_cron_after, cron_of(cron), zone, day_or)
    if next(ticks(DEFAULT_ANCHOR.replace(tzinfo=zone)), None) is None:
        raise ScheduleError(f"cron={cron!r} never fires: no day has this date; check day of month and month")
    return ticks


def cron_of(cron: object) -> str:
    """The five fields of a cron expression, with one space between them; `@daily` and its like are spelled out.

    Raises:
        ScheduleError: it has not five fields, or one of them means nothing.
    """
    from croniter import croniter
    from croniter.croniter import CroniterError

    if not isinstance(cron, str):
        raise ScheduleError(f"cron={cron!r} must be a text; {_CRON_HINT}")
    text = _ALIASES.get(cron.strip().lower(), cron)
    fields = _SINGLE_RANGE.sub(r"\1", text).split()
    if len(fields) != 5:
        more = "; seconds and years have no field here" if len(fields) > 5 else ""
        raise ScheduleError(f"cron={cron!r} has {len(fields)} fields{more}; {_CRON_HINT}")
    if any(_RANDOM_FIELD.search(field) for field in fields):
        raise ScheduleError(f"cron={cron!r} has a random field (R or H); {_CRON_HINT}")
    try:
        croniter.expand(" ".join(fields))
    except (CroniterError, ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        raise ScheduleError(f"cron={cron!r} cannot be read: {error}; {_CRON_HINT}") from None
    return " ".join(fields)


def _cron_after(cron: str, zone: tzinfo, day_or: bool, after: datetime) -> Iterator[datetime]:
    from levada import _crons

    return _fire(_crons.walls(cron, wall_of(after, zone), day_or=day_or), zone, after)


def interval_ticks(interval: timedelta, anchor: datetime | None, zone: tzinfo) -> Ticks:
    """A tick at the anchor and at each interval before and after it.

    Intervals of a day and more keep the time on the wall; shorter ones are time that has passed.

    Args:
        interval: whole seconds.
        anchor: a moment that is a tick; a naive one is a time in the zone. None: midnight of 1 January 2020 there.
        zone: the time zone.

    Raises:
        ScheduleError: the interval is too short or too long, or is no whole number of seconds.
    """
    if interval <= timedelta(0):
        raise ScheduleError(f"interval={interval!r} must be longer than nothing, for example timedelta(hours=1)")
    if interval.microseconds:
        raise ScheduleError(f"interval={interval!r} must be a whole number of seconds")
    if interval > MAX_INTERVAL:
        raise ScheduleError(f"interval={interval!r} is longer than 365 days; use a cron expression or an rrule")
    start = DEFAULT_ANCHOR if anchor is None else anchor
    if interval < DAY:
        origin = start.astimezone(UTC) if start.tzinfo else instant_of(start, zone)
        return partial(_passed_after, interval, origin)
    return partial(_walls_after, interval, wall_of(start, zone) if start.tzinfo else start, zone)


def _passed_after(interval: timedelta, origin: datetime, after: datetime) -> Iterator[datetime]:
    return _steps(origin, interval, after.astimezone(UTC))


def _walls_after(interval: timedelta, origin: datetime, zone: tzinfo, after: datetime) -> Iterator[datetime]:
    return _fire(_steps(origin, interval, wall_of(after, zone)), zone, after)


def _steps(origin: datetime, interval: timedelta, after: datetime) -> Iterator[datetime]:
    step = (after - origin) // interval + 1
    while True:
        try:
            yield origin + step * interval
        except OverflowError:  # the end of the calendar
            return
        step += 1


def rrule_ticks(rrule: object, zone: tzinfo) -> Ticks:
    """The ticks of a recurrence rule of RFC 5545. Without a DTSTART it starts at midnight of 1 January 2020.

    Raises:
        ScheduleError: the rule means nothing, or never fires.
    """
    from levada import _rrules

    rules: Any = _rrules.read(rrule, zone)
    if next(rules.walls(None), None) is None:
        raise ScheduleError(f"rrule={rrule!r} never fires: no day fits all of its parts")
    return partial(_rrule_after, rules, zone)


def _rrule_after(rules: Any, zone: tzinfo, after: datetime) -> Iterator[datetime]:
    return _fire(rules.walls(wall_of(after, zone)), zone, after)
