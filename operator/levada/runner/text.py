"""Texts as the API server gets them: without known secrets, bounded, and times in RFC 3339."""

from datetime import UTC, datetime

from levada.logging import masked


def bounded(text: str, most: int) -> str:
    """Return at most so many characters, with a sign that something is missing. Secrets are masked before half of one could be cut off."""
    text = masked(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def time_text(moment: datetime | None) -> str | None:
    """Return an RFC 3339 time in UTC with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z") if moment else None
