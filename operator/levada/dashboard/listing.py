"""Runs filtered, sorted and cut into pages. Pure, over the store.

A cursor is the sort value and the key of the last run of a page: what has come since does not shift the pages.
"""

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from levada.dashboard.models.queries import RunQuery
from levada.dashboard.problems import Problem
from levada.dashboard.store import UNSEEN, Entry
from levada.dashboard.viewers import Scope
from levada.resources.phases import RunPhase

Value = float | str
_FAR: Final = 4e10  # what has not happened yet sorts as the newest
SORTS: Final[dict[str, Callable[[Entry], Value]]] = {
    "created": lambda entry: entry.created_s,
    "started": lambda entry: entry.started_s or _FAR,
    "completed": lambda entry: entry.completed_s or _FAR,
    "duration": lambda entry: entry.duration_s if entry.duration_s is not None else -1.0,
    "name": lambda entry: entry.name,
    "deployment": lambda entry: entry.deployment,
    "phase": lambda entry: entry.phase,
}
COUNTS: Final = {
    UNSEEN: "unseen", **{phase.value: phase.value[:1].lower() + phase.value[1:] for phase in RunPhase},
}  # fmt: skip


class Page(NamedTuple):
    """A page of runs, how many there are, and where the next begins."""

    entries: list[Entry]
    total: int
    counts: dict[str, int]
    cursor: str | None


def page_of(entries: Iterable[Entry], query: RunQuery, scope: Scope) -> Page:
    """The runs that match. `entries`: all, the newest first.

    Raises:
        Problem: the cursor is none.
    """
    matches = matching(entries, query, scope)
    by_phase = Counter(entry.phase for entry in matches)
    phases = set(map(str, query.phase))
    if phases:
        matches = [entry for entry in matches if entry.phase in phases]
    value, descending = SORTS[query.sort], query.order == "desc"
    if query.sort != "created" or not descending:
        matches.sort(key=lambda entry: (value(entry), entry.namespace, entry.name), reverse=descending)
    start = _start(matches, query, value) if query.cursor else 0
    page = matches[start : start + query.limit]
    last = page[-1] if page and start + query.limit < len(matches) else None
    counts = {COUNTS[phase]: number for phase, number in by_phase.items() if phase in COUNTS}
    return Page(page, len(matches), counts, _cursor(last, value) if last is not None else None)


def matching(entries: Iterable[Entry], query: RunQuery, scope: Scope) -> list[Entry]:
    """The runs that match everything but the phase: one pass for each filter that is set, so that none costs nothing."""
    found = list(entries) if scope.everywhere else [entry for entry in entries if entry.namespace in scope.names]
    if query.deployment:
        found = [entry for entry in found if entry.deployment in query.deployment]
    if query.flow:
        found = [entry for entry in found if entry.flow in query.flow]
    if query.queue:
        found = [entry for entry in found if entry.queue in query.queue]
    if query.schedule:
        found = [entry for entry in found if entry.schedule in query.schedule]
    if tags := set(query.tag):
        found = [entry for entry in found if tags.issubset(entry.tags)]
    if query.since is not None:
        since_s = query.since.timestamp()
        found = [entry for entry in found if entry.created_s >= since_s]
    if query.until is not None:
        until_s = query.until.timestamp()
        found = [entry for entry in found if entry.created_s < until_s]
    for word in query.q.lower().split():
        found = [entry for entry in found if word in entry.text]
    return found


def _cursor(entry: Entry, value: Callable[[Entry], Value]) -> str:
    said = json.dumps([value(entry), entry.namespace, entry.name], separators=(",", ":"))
    return base64.urlsafe_b64encode(said.encode()).decode().rstrip("=")


def _start(matches: list[Entry], query: RunQuery, value: Callable[[Entry], Value]) -> int:
    """The first run behind the cursor."""
    last = _read(query.cursor or "", query.sort)
    descending = query.order == "desc"
    for index, entry in enumerate(matches):
        here: tuple[Any, str, str] = (value(entry), entry.namespace, entry.name)
        if (here < last) if descending else (here > last):
            return index
    return len(matches)


def _read(cursor: str, sort: str) -> tuple[Any, str, str]:
    wanted: type[Any] = str if sort in {"name", "deployment", "phase"} else float
    try:
        said = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        value, namespace, name = said
        if not (isinstance(namespace, str) and isinstance(name, str)):
            raise TypeError
        return wanted(value), namespace, name
    except (ValueError, TypeError, OverflowError):
        raise Problem(
            422, "Invalid", "the cursor is none of this list", "Ask for the first page, without a cursor."
        ) from None
