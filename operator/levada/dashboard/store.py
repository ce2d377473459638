"""What the server knows: a lean entry for each run, and the definitions, with the indexes that lists need.

A run is kept as the bytes of its row and the few values that are filtered and sorted by: some 1.5 KB. No await inside, so what one
reads is consistent.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from levada.dashboard.models import RunRow
from levada.dashboard.rows import run_row
from levada.resources.phases import ACTIVE_PHASES

Object = dict[str, Any]
DEFINITIONS: Final = ("Flow", "Deployment", "Schedule", "Backfill", "WorkQueue", "ConcurrencyLimit", "Block", "Node")
UNSEEN: Final = "Unseen"
FAILED: Final = frozenset({"Failed", "Crashed", "TimedOut"})
_ACTIVE: Final = frozenset({*(phase.value for phase in ACTIVE_PHASES), UNSEEN})


class Key(NamedTuple):
    """Namespace and name."""

    namespace: str
    name: str


@dataclass(slots=True)
class Entry:
    """A run. Times are seconds since 1970; 0: not yet. `text`: what a search looks at, in small letters."""

    namespace: str
    name: str
    uid: str
    version: str
    deployment: str
    flow: str
    phase: str
    reason: str
    queue: str
    schedule: str
    node: str
    tags: tuple[str, ...]
    text: str
    created_s: float
    scheduled_s: float
    started_s: float
    completed_s: float
    duration_s: float | None
    overhead: float | None
    row: bytes

    @property
    def active(self) -> bool:
        """It has not ended."""
        return self.phase in _ACTIVE

    def as_row(self) -> RunRow:
        """The row as a model."""
        return RunRow.model_validate_json(self.row)


def entry_of(row: RunRow, version: str) -> Entry:
    """A row as the store keeps it."""
    words = " ".join((row.name, row.deployment, row.flow, row.reason, row.message[:200])).lower()
    return Entry(
        row.namespace, row.name, row.uid, version, row.deployment, row.flow, row.phase.value if row.phase else UNSEEN, row.reason,
        row.queue, row.schedule, row.node, tuple(row.tags), words, row.created_time.timestamp(),
        row.scheduled_time.timestamp() if row.scheduled_time else 0.0,
        row.start_time.timestamp() if row.start_time else 0.0,
        row.completion_time.timestamp() if row.completion_time else 0.0,
        row.duration_seconds, row.overhead_ratio, row.model_dump_json(by_alias=True).encode(),
    )  # fmt: skip


class Store:
    """Use from one event loop only."""

    def __init__(self) -> None:
        self.runs: dict[Key, Entry] = {}
        self.objects: dict[str, dict[Key, Object]] = {kind: {} for kind in DEFINITIONS}
        self.runs_of: defaultdict[Key, set[Key]] = defaultdict(set)  # by Deployment
        self._order: list[tuple[float, Key]] = []  # by creation, oldest first
        self._newest: list[Entry] | None = None

    # --- runs ---------------------------------------------------------------------------------------------------------

    def put_run(self, obj: Mapping[str, Any]) -> Entry:
        """Take a FlowRun in."""
        meta = obj["metadata"]
        name = ((obj.get("spec") or {}).get("deploymentRef") or {}).get("name", "")
        flow, tags = self._of_deployment(Key(meta.get("namespace", ""), name))
        return self._put(entry_of(run_row(obj, flow=flow, tags=tags), meta.get("resourceVersion", "")))

    def remove_run(self, key: Key) -> None:
        """It is gone."""
        known = self.runs.pop(key, None)
        if known is None:
            return
        self._newest = None
        place = (known.created_s, key)
        index = self._place(place)
        if index is not None:
            del self._order[index]
        members = self.runs_of[Key(key.namespace, known.deployment)]
        members.discard(key)
        if not members:
            del self.runs_of[Key(key.namespace, known.deployment)]

    def newest_first(self) -> list[Entry]:
        """All runs by creation. Not to be changed: it is made once after each change."""
        if self._newest is None:
            self._newest = [self.runs[key] for _, key in reversed(self._order)]
        return self._newest

    def runs_of_deployment(self, key: Key) -> list[Entry]:
        """The runs of a Deployment, the newest first."""
        found = [self.runs[each] for each in self.runs_of.get(key, ())]
        found.sort(key=lambda entry: (entry.created_s, entry.name), reverse=True)
        return found

    def _put(self, entry: Entry) -> Entry:
        key = Key(entry.namespace, entry.name)
        known = self.runs.get(key)
        if known is not None and (known.created_s != entry.created_s or known.deployment != entry.deployment):
            self.remove_run(key)
            known = None
        self.runs[key] = entry
        self._newest = None
        if known is None:
            insort(self._order, (entry.created_s, key))
            self.runs_of[Key(entry.namespace, entry.deployment)].add(key)
        return entry

    def _place(self, place: tuple[float, Key]) -> int | None:
        index = bisect_left(self._order, place)
        return index if index < len(self._order) and self._order[index] == place else None

    # --- definitions --------------------------------------------------------------------------------------------------

    def put(self, kind: str, obj: Object) -> None:
        """Take another object in. A Flow's code is not kept."""
        meta = obj["metadata"]
        key = Key(meta.get("namespace") or "", meta["name"])
        before = self.objects[kind].get(key)
        if kind == "Flow" and isinstance(source := (obj.get("spec") or {}).get("source"), dict) and "inline" in source:
            source["inline"] = ""
        self.objects[kind][key] = obj
        if kind == "Deployment" and (before is None or _named(before) != _named(obj)):
            flow, tags = self._of_deployment(key)
            for each in list(self.runs_of.get(key, ())):
                known = self.runs[each]
                row = known.as_row().model_copy(update={"flow": known.flow or flow, "tags": list(tags)})
                self._put(entry_of(row, known.version))

    def remove(self, kind: str, key: Key) -> None:
        """It is gone."""
        self.objects[kind].pop(key, None)

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """An object of a definition's kind."""
        return self.objects[kind].get(Key(namespace, name))

    def namespaces(self) -> set[str]:
        """Those with anything in them."""
        found = {key.namespace for kind, objects in self.objects.items() if kind != "Node" for key in objects}
        return found | {key.namespace for key in self.runs_of}

    def _of_deployment(self, key: Key) -> tuple[str, tuple[str, ...]]:
        obj = self.objects["Deployment"].get(key)
        return _named(obj) if obj is not None else ("", ())


def _named(deployment: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    spec = deployment.get("spec") or {}
    return str((spec.get("flowRef") or {}).get("name", "")), tuple(spec.get("tags") or ())
