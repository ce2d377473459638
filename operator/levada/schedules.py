"""Schedules: when a deployment's flow is run. A cron expression, an interval or a recurrence rule, each in a time zone.

What is wrong with a schedule is said when it is written, not at its first tick. All of this is pure: `next` and `get_dates`
compute; nobody is started by them.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, takewhile
from typing import Any

from levada import ticks as _ticks
from levada.exceptions import ScheduleError

DEFAULT_TIMEZONE = "UTC"
MAX_TICKS = 10_000
MAX_CRON_CHARS = 256


class Recurrence:
    """What the three kinds of rules share: a time zone, and the moments at which they fire."""

    __slots__ = ("_after", "_zone", "timezone")

    def __init__(self, timezone: str, zone: tzinfo, after: _ticks.Ticks) -> None:
        self.timezone = timezone
        self._zone = zone
        self._after = after

    def next(self, n: int = 1, after: datetime | None = None) -> list[datetime]:
        """The next `n` moments later than `after` (now, without it), in the schedule's time zone; fewer if the rule ends."""
        return self.get_dates(n, _aware(after, self._zone, "after") + timedelta(microseconds=1))

    def get_dates(
        self, n: int | None = None, start: datetime | None = None, end: datetime | None = None
    ) -> list[datetime]:
        """The moments from `start` (now, without it) to `end`, both included.

        Args:
            n: at most so many: 1 without an end, else 10,000.
            start: a naive time is one in the schedule's zone.
            end: likewise.
        """
        most = (1 if end is None else MAX_TICKS) if n is None else n
        if isinstance(most, bool) or not isinstance(most, int) or not 0 <= most <= MAX_TICKS:
            raise ScheduleError(f"n={n!r} must be a whole number from 0 to {MAX_TICKS}")
        found = self._after(_aware(start, self._zone, "start") - timedelta(microseconds=1))
        if end is not None:
            last = _aware(end, self._zone, "end")
            found = takewhile(lambda tick: tick <= last, found)
        return [tick.astimezone(self._zone) for tick in islice(found, most)]

    def spec(self) -> dict[str, Any]:
        """The rule as the fields of a Schedule resource."""
        raise NotImplementedError

    def _arguments(self) -> dict[str, Any]:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Recurrence):
            return NotImplemented
        return type(self) is type(other) and self._arguments() == other._arguments()

    def __hash__(self) -> int:
        return hash((type(self), *self._arguments().values()))

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self._arguments().items())
        return f"{type(self).__name__}({given})"


class CronSchedule(Recurrence):
    """Fires at the wall-clock times that a cron expression names.

    Args:
        cron: five fields: minute, hour, day of month, month, day of week. `@daily` and its like are understood.
        timezone: an IANA name, such as "Europe/Lisbon".
        day_or: what to do when both day fields are restricted: True, as cron does: a day that fits one of them;
            False: a day that fits both.

    Raises:
        ScheduleError: the expression or the time zone means nothing, or the expression never fires.
    """

    __slots__ = ("cron", "day_or")

    def __init__(self, cron: str, timezone: str | None = None, day_or: bool = True) -> None:
        if not isinstance(day_or, bool):
            raise ScheduleError(f"day_or={day_or!r} must be True or False")
        name, zone = _zone(timezone)
        self.cron = _ticks.cron_of(cron)
        if len(self.cron) > MAX_CRON_CHARS:
            raise ScheduleError(f"the cron expression has {len(self.cron)} characters; {MAX_CRON_CHARS} are possible")
        self.day_or = day_or
        super().__init__(name, zone, _ticks.cron_ticks(self.cron, zone, day_or=day_or))

    def _arguments(self) -> dict[str, Any]:
        return {"cron": self.cron, "timezone": self.timezone, "day_or": self.day_or}

    def spec(self) -> dict[str, Any]:
        """The rule as the fields of a Schedule resource. That has no `day_or`: False becomes a recurrence rule.

        Raises:
            ScheduleError: there is no such rule.
        """
        if self.day_or or "*" in (self.cron.split()[2], self.cron.split()[4]):
            return {"cron": self.cron, "timeZone": self.timezone}
        return {"rrule": _rrule_of_days(self.cron), "timeZone": self.timezone}


def _rrule_of_days(cron: str) -> str:
    """The recurrence rule of a cron expression with day_or=False: all parts of an rrule must fit anyway."""
    from croniter import croniter

    fields = croniter.expand(cron)[0]
    if any(isinstance(value, str) and value != "*" for values in fields for value in values):
        raise ScheduleError(
            f"cron={cron!r} with day_or=False cannot be kept in a cluster; write it as an RRuleSchedule"
        )
    minutes, hours, days, months, weekdays = fields
    names = ["SU", "MO", "TU", "WE", "TH", "FR", "SA"]
    parts = {
        "BYMONTH": months,
        "BYMONTHDAY": days,
        "BYDAY": weekdays if weekdays == ["*"] else [names[int(day)] for day in weekdays],
        "BYHOUR": list(range(24)) if hours == ["*"] else hours,
        "BYMINUTE": list(range(60)) if minutes == ["*"] else minutes,
        "BYSECOND": [0],
    }
    listed = (f"{key}={','.join(map(str, values))}" for key, values in parts.items() if values != ["*"])
    return ";".join(["FREQ=DAILY", *listed])


class IntervalSchedule(Recurrence):
    """Fires at fixed distances from an anchor.

    Intervals of a day and more keep the time on the wall when clocks change; shorter ones are time that has passed.

    Args:
        interval: a timedelta, or seconds; at least one second, at most 365 days.
        anchor_date: a moment at which it fires, in the past or future; text as ISO 8601 writes it. A naive one is a time in
            the zone. Midnight of 1 January 2020 without it, so that an hourly schedule fires on the hour.
        timezone: an IANA name; the anchor's own without it.

    Raises:
        ScheduleError: interval, anchor or time zone mean nothing.
    """

    __slots__ = ("anchor_date", "interval")

    def __init__(
        self, interval: timedelta | float, anchor_date: datetime | str | None = None, timezone: str | None = None
    ) -> None:
        self.interval = _interval(interval)
        anchor = _anchor(anchor_date)
        name, zone = _zone(timezone if timezone is not None else getattr(getattr(anchor, "tzinfo", None), "key", None))
        chosen = anchor or _ticks.DEFAULT_ANCHOR
        self.anchor_date = (chosen if chosen.tzinfo else _ticks.instant_of(chosen, zone)).astimezone(zone)
        super().__init__(name, zone, _ticks.interval_ticks(self.interval, self.anchor_date, zone))

    def _arguments(self) -> dict[str, Any]:
        return {"interval": self.interval, "anchor_date": self.anchor_date, "timezone": self.timezone}

    def spec(self) -> dict[str, Any]:
        """The rule as the fields of a Schedule resource. The anchor is always named: so applying it anew moves no tick."""
        return {
            "intervalSeconds": int(self.interval.total_seconds()),
            "anchor": self.anchor_date.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "timeZone": self.timezone,
        }


class RRuleSchedule(Recurrence):
    """Fires as a recurrence rule of RFC 5545 says: "FREQ=MONTHLY;BYMONTHDAY=-1" is the last day of each month.

    Args:
        rrule: the parts of one rule, or lines with DTSTART, RRULE, RDATE and EXDATE. Without a DTSTART the rule starts at
            midnight of 1 January 2020.
        timezone: an IANA name; that of a TZID in the rule without it, else UTC.

    Raises:
        ScheduleError: the rule or the time zone means nothing, or the rule never fires.
    """

    __slots__ = ("rrule",)

    def __init__(self, rrule: str, timezone: str | None = None) -> None:
        from levada._rrules import zone_in

        name, zone = _zone(timezone if timezone is not None or not isinstance(rrule, str) else zone_in(rrule))
        super().__init__(name, zone, _ticks.rrule_ticks(rrule, zone))
        self.rrule = rrule.strip()

    @classmethod
    def from_rrule(cls, rrule: Any, timezone: str | None = None) -> "RRuleSchedule":
        """The schedule of a `dateutil.rrule.rrule`."""
        return cls(str(rrule), timezone)

    def _arguments(self) -> dict[str, Any]:
        return {"rrule": self.rrule, "timezone": self.timezone}

    def spec(self) -> dict[str, Any]:
        """The rule as the fields of a Schedule resource."""
        return {"rrule": self.rrule, "timeZone": self.timezone}


class Schedule:
    """A rule with what goes with it in a deployment. Give exactly one of interval, cron and rrule.

    Args:
        interval: see `IntervalSchedule`.
        cron: see `CronSchedule`.
        rrule: see `RRuleSchedule`.
        timezone: an IANA name.
        anchor_date: see `IntervalSchedule`.
        day_or: see `CronSchedule`.
        active: False keeps the schedule but starts nothing by it.
        parameters: arguments of the flow, laid over those of the deployment.
        slug: a short name that tells the deployment's schedules apart.

    Raises:
        ScheduleError: it has not exactly one rule, or the rule means nothing.
    """

    __slots__ = ("active", "parameters", "rule", "slug")

    def __init__(
        self,
        *,
        interval: timedelta | float | None = None,
        cron: str | None = None,
        rrule: str | None = None,
        timezone: str | None = None,
        anchor_date: datetime | str | None = None,
        day_or: bool = True,
        active: bool = True,
        parameters: Mapping[str, Any] | None = None,
        slug: str | None = None,
    ) -> None:
        given = [name for name, rule in (("interval", interval), ("cron", cron), ("rrule", rrule)) if rule is not None]
        if len(given) != 1:
            raise ScheduleError(f"a schedule has exactly one of interval, cron and rrule; given: {_listed(given)}")
        if anchor_date is not None and interval is None:
            raise ScheduleError(f"anchor_date goes with interval, not with {given[0]}")
        if interval is not None:
            rule: Recurrence = IntervalSchedule(interval, anchor_date, timezone)
        elif cron is not None:
            rule = CronSchedule(cron, timezone, day_or)
        else:
            rule = RRuleSchedule(str(rrule), timezone)
        self._set(rule, active, parameters, slug)

    @classmethod
    def of(
        cls,
        rule: Recurrence,
        *,
        active: bool = True,
        parameters: Mapping[str, Any] | None = None,
        slug: str | None = None,
    ) -> "Schedule":
        """The schedule of a rule that exists already."""
        made = cls.__new__(cls)
        made._set(rule, active, parameters, slug)
        return made

    def _set(self, rule: Recurrence, active: object, parameters: object, slug: object) -> None:
        if not isinstance(active, bool):
            raise ScheduleError(f"active={active!r} must be True or False")
        if parameters is not None and not isinstance(parameters, Mapping):
            raise ScheduleError(f"parameters={parameters!r} must be a dict of names and values")
        if slug is not None and not (isinstance(slug, str) and slug):
            raise ScheduleError(f"slug={slug!r} must be a text that is not empty")
        self.rule = rule
        self.active = active
        self.parameters = dict(parameters or {})
        self.slug = slug

    @property
    def timezone(self) -> str:
        """The rule's time zone."""
        return self.rule.timezone

    def next(self, n: int = 1, after: datetime | None = None) -> list[datetime]:
        """See `Recurrence.next`."""
        return self.rule.next(n, after)

    def get_dates(
        self, n: int | None = None, start: datetime | None = None, end: datetime | None = None
    ) -> list[datetime]:
        """See `Recurrence.get_dates`."""
        return self.rule.get_dates(n, start, end)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # its parameters are a dict

    def __repr__(self) -> str:
        more = "" if self.active else ", active=False"
        more += f", parameters={self.parameters!r}" if self.parameters else ""
        more += f", slug={self.slug!r}" if self.slug else ""
        return f"Schedule({self.rule!r}{more})"


def Cron(  # noqa: N802  named as users know it
    cron: str,
    timezone: str | None = None,
    day_or: bool = True,
    *,
    active: bool = True,
    parameters: Mapping[str, Any] | None = None,
    slug: str | None = None,
) -> Schedule:
    """A schedule by a cron expression; see `CronSchedule` and `Schedule`."""
    return Schedule.of(CronSchedule(cron, timezone, day_or), active=active, parameters=parameters, slug=slug)


def Interval(  # noqa: N802  named as users know it
    interval: timedelta | float,
    anchor_date: datetime | str | None = None,
    timezone: str | None = None,
    *,
    active: bool = True,
    parameters: Mapping[str, Any] | None = None,
    slug: str | None = None,
) -> Schedule:
    """A schedule by a fixed distance; see `IntervalSchedule` and `Schedule`."""
    rule = IntervalSchedule(interval, anchor_date, timezone)
    return Schedule.of(rule, active=active, parameters=parameters, slug=slug)


def RRule(  # noqa: N802  named as users know it
    rrule: str,
    timezone: str | None = None,
    *,
    active: bool = True,
    parameters: Mapping[str, Any] | None = None,
    slug: str | None = None,
) -> Schedule:
    """A schedule by a recurrence rule; see `RRuleSchedule` and `Schedule`."""
    return Schedule.of(RRuleSchedule(rrule, timezone), active=active, parameters=parameters, slug=slug)


def schedules_of(
    *,
    schedule: object = None,
    schedules: object = None,
    cron: object = None,
    interval: object = None,
    rrule: object = None,
    timezone: str | None = None,
    anchor_date: datetime | str | None = None,
) -> list[Schedule]:
    """The schedules that the options of a deployment ask for. Each option may be a list.

    Raises:
        ScheduleError: one of them means nothing.
    """
    found = [_schedule_of(each) for option in (schedule, schedules) for each in _each(option)]
    found += [Schedule(cron=each, timezone=timezone) for each in _each(cron)]
    found += [Schedule(interval=each, anchor_date=anchor_date, timezone=timezone) for each in _each(interval)]
    found += [Schedule(rrule=each, timezone=timezone) for each in _each(rrule)]
    slugs = [each.slug for each in found if each.slug]
    if len(set(slugs)) < len(slugs):
        raise ScheduleError(f"two schedules have the same slug: {_listed(sorted(slugs))}")
    return found


def _each(option: Any) -> list[Any]:
    if option is None:
        return []
    listed = isinstance(option, Iterable) and not isinstance(option, str | bytes | Mapping)
    return list(option) if listed else [option]


def _schedule_of(given: Any) -> Schedule:
    if isinstance(given, Schedule):
        return given
    if isinstance(given, Recurrence):
        return Schedule.of(given)
    if isinstance(given, Mapping) and isinstance(given.get("schedule"), Recurrence):
        unknown = set(given) - {"schedule", "active", "parameters", "slug"}
        if unknown:
            raise ScheduleError(f"a schedule has no {_listed(sorted(map(str, unknown)))}")
        return Schedule.of(given["schedule"], **{key: given[key] for key in given if key != "schedule"})
    raise ScheduleError(
        f"{given!r} is no schedule; write CronSchedule('0 6 * * *', timezone='Europe/Lisbon'), or an Interval or RRule"
    )


def _listed(words: list[str]) -> str:
    return ", ".join(words) or "none"


def _zone(name: object) -> tuple[str, tzinfo]:
    chosen = DEFAULT_TIMEZONE if name is None else getattr(name, "key", name)
    zone = _ticks.zone_of(chosen)
    return str(chosen), zone


def _interval(given: object) -> timedelta:
    if isinstance(given, timedelta):
        return given
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise ScheduleError(f"interval={given!r} must be a timedelta or a number of seconds")
    try:
        return timedelta(seconds=given)
    except (OverflowError, ValueError):
        raise ScheduleError(f"interval={given!r} is no number of seconds that a calendar can count") from None


def _anchor(given: object) -> datetime | None:
    if given is None or isinstance(given, datetime):
        return given
    try:
        if isinstance(given, str):
            return datetime.fromisoformat(given)
    except ValueError:
        pass
    raise ScheduleError(f"anchor_date={given!r} must be a datetime, or a text such as '2025-01-31T09:30:00'")


def _aware(moment: datetime | None, zone: tzinfo, name: str) -> datetime:
    if moment is None:
        return datetime.now(UTC)
    if not isinstance(moment, datetime):
        raise ScheduleError(f"{name}={moment!r} must be a datetime")
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
