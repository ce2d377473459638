"""Times as the API writes them. Aware datetimes inside, RFC 3339 with `Z` outside."""

from datetime import UTC, datetime


def parse(text: object) -> datetime | None:
    """The time, or None for an absent or unreadable one: a status that somebody else wrote must not stop a decision."""
    if not isinstance(text, str) or not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def stamp(moment: datetime) -> str:
    """RFC 3339 in UTC, to the millisecond: runs are short."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_between(start: datetime | None, end: datetime | None) -> float:
    """Seconds from start to end, never negative (two machines, two clocks); 0 if one is unknown."""
    return round(max(0.0, (end - start).total_seconds()), 3) if start and end else 0.0
