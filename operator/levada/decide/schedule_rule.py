"""The rule of a Schedule: the fields that say when it ticks, as one value. Two Schedules with the same rule tick alike.

A rule that means nothing has no ticks; `problem` says why. Reading a rule costs more than asking it, so read ones are kept.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import takewhile
from typing import Any, Final

from levada.decide.times import parse
from levada.exceptions import ScheduleError
from levada.ticks import Ticks, ticks_of

_JUST_BEFORE: Final = timedelta(microseconds=1)
_FIELDS: Final = ("cron", "intervalSeconds", "rrule", "anchor", "timeZone", "startTime", "endTime")


@dataclass(frozen=True, slots=True)
class Rule:
    """When a Schedule ticks. Times are as the API writes them."""

    cron: str | None = None
    interval_seconds: int | None = None
    rrule: str | None = None
    anchor: str | None = None
    time_zone: str = "UTC"
    start_time: str | None = None
    end_time: str | None = None

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Rule":
        """From the fields of a Schedule's spec, or of its status.rule."""
        values = {name: fields.get(name) for name in _FIELDS} | {"timeZone": fields.get("timeZone") or "UTC"}
        return cls(*values.values())

    def fields(self) -> dict[str, Any]:
        """As status.rule has them; absent ones are None, as a merge patch needs it."""
        values = (
            self.cron,
            self.interval_seconds,
            self.rrule,
            self.anchor,
            self.time_zone,
            self.start_time,
            self.end_time,
        )
        return dict(zip(_FIELDS, values, strict=True))

    def problem(self) -> str:
        """Why the rule means nothing; empty if it does."""
        return _read(self)[1]

    def ticks(self, after: datetime) -> Iterator[datetime]:
        """The ticks later than `after`, in order, between startTime and endTime, both included."""
        read = _read(self)[0]
        start, end = parse(self.start_time), parse(self.end_time)
        if read is None or (start is not None and end is not None and end < start):
            return iter(())
        found = _to_the_end(read, after if start is None or after >= start else start - _JUST_BEFORE)
        return takewhile(lambda tick: tick <= end, found) if end is not None else found

    def has(self, tick: datetime) -> bool:
        """Whether the moment is one of the ticks."""
        return next(self.ticks(tick - _JUST_BEFORE), None) == tick


def _to_the_end(read: Ticks, after: datetime) -> Iterator[datetime]:
    """Until the calendar ends: a startTime in the year 9999 is a Schedule without ticks, and no error of all who look at it."""
    try:
        yield from read(after)
    except OverflowError:
        return


@lru_cache(maxsize=20_000)
def _read(rule: Rule) -> tuple[Ticks | None, str]:
    anchor = parse(rule.anchor)
    try:
        read = ticks_of(
            cron=rule.cron,
            interval_seconds=rule.interval_seconds,
            rrule=rule.rrule,
            # A tick is named, and kept, to the second.
            anchor=anchor.replace(microsecond=0) if anchor is not None else None,
            time_zone=rule.time_zone,
        )
    except ScheduleError as error:
        return None, str(error)
    except OverflowError:
        return None, f"the anchor {rule.anchor} lies at the end of the calendar; choose one near the first tick"
    return read, ""


def jitter(uid: str, tick: datetime, most_s: float, gap: timedelta | None) -> timedelta:
    """How much later than its tick a run starts: from a hash, so it is the same at each look and spread evenly.

    It stays below the distance to the next tick (`gap`), so runs start in the order of their ticks.
    """
    if most_s <= 0:
        return timedelta(0)
    room_s = most_s if gap is None else min(most_s, gap.total_seconds())
    return timedelta(milliseconds=int(room_s * 1000 * _share(f"{uid}/{tick.astimezone(UTC).isoformat()}")))


@lru_cache(maxsize=20_000)
def lead_share(uid: str) -> float:
    """Where in the lead time before a tick this Schedule makes its runs: 1 at its beginning; never in its last fifth."""
    return 0.2 + 0.8 * _share(uid)


def _share(text: str) -> float:
    """A number from 0 to 1 that looks random and is always the same."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
