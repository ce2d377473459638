"""What is kept of a run: its record, and its line in the index. Pure: dicts in, dicts out.

A record holds the FlowRun as it was at its end, so whatever can show a run can show an archived one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final, Literal

from levada.exceptions import LevadaError

Json = dict[str, Any]

FORMAT: Final = 1
MAX_MESSAGE_CHARS: Final = 200
Writer = Literal["runner", "operator"]
_KEPT_METADATA: Final = ("name", "namespace", "uid", "creationTimestamp", "generation", "labels")


class RecordError(LevadaError):
    """These bytes are no record that this version can read."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One run in the index. Times are RFC 3339 texts in UTC, durations in seconds; empty or None where there is none."""

    namespace: str
    name: str
    uid: str
    deployment: str
    folder: str
    phase: str
    reason: str = ""
    message: str = ""
    created: str = ""
    started: str = ""
    ended: str = ""
    duration_s: float | None = None
    progress: str = ""
    attempt: int = 0
    schedule: str = ""
    retry_of: str = ""
    complete: bool = True

    @property
    def moment(self) -> str:
        """What the index is sorted by: the end, to the microsecond, as text that sorts like the time."""
        return sortable(self.ended or self.created)

    def to_json(self) -> Json:
        """As the index keeps it: what has its default is left out."""
        told = ((name, getattr(self, name)) for name in _FIELDS)
        return {name: value for name, value in told if value != _FIELDS[name]}

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> "Entry":
        """Read it back; what a newer version wrote beside it is left out.

        Raises:
            RecordError: it lacks what every line has.
        """
        try:
            return cls(**{name: value for name, value in said.items() if name in _FIELDS})
        except TypeError as error:
            raise RecordError(f"a line of the index is damaged ({error})") from None


_FIELDS: Final = {each.name: each.default for each in fields(Entry)}


def sortable(time: str) -> str:
    """A time with microseconds, in UTC: such texts sort as the times do."""
    try:
        moment = datetime.fromisoformat(time)
    except ValueError:
        return time
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def record_of(
    run: Mapping[str, Any],
    *,
    complete: bool,
    written_by: Writer,
    written_at: str,
    tasks: Mapping[str, Any] | None = None,
    log: Mapping[str, int] | None = None,
) -> Json:
    """The record of a run that has ended.

    Args:
        run: the FlowRun.
        complete: whether its own process came to write all of its log and tasks.
        written_by: who writes.
        written_at: RFC 3339 time.
        tasks: rows that are in none of the run's pieces.
        log: how many bytes of the log are kept (`bytes`) and how many could not be (`lostBytes`).
    """
    metadata = {name: value for name, value in run["metadata"].items() if name in _KEPT_METADATA}
    status = {name: value for name, value in (run.get("status") or {}).items() if name != "tasks" and value is not None}
    return {
        "levada": FORMAT,
        "complete": complete,
        "writtenBy": written_by,
        "writtenAt": written_at,
        "run": {
            "apiVersion": run.get("apiVersion", ""),
            "kind": run.get("kind", "FlowRun"),
            "metadata": metadata,
            "spec": dict(run.get("spec") or {}),
            "status": status,
        },
        **({"tasks": dict(tasks)} if tasks else {}),
        **({"log": dict(log)} if log else {}),
    }


def entry_of(record: Mapping[str, Any], folder: str) -> Entry:
    """The run's line in the index.

    Raises:
        RecordError: this is no record.
    """
    try:
        run = record["run"]
        metadata, spec, status = run["metadata"], run["spec"], run["status"]
        return Entry(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            deployment=spec["deploymentRef"]["name"],
            folder=folder,
            phase=status.get("phase") or "",
            reason=status.get("reason") or "",
            message=(status.get("message") or "")[:MAX_MESSAGE_CHARS],
            created=metadata.get("creationTimestamp") or "",
            started=status.get("startTime") or "",
            ended=status.get("completionTime") or "",
            duration_s=status.get("durationSeconds"),
            progress=status.get("progress") or "",
            attempt=status.get("attempt") or 0,
            schedule=(metadata.get("labels") or {}).get(_LABEL_SCHEDULE) or "",
            retry_of=spec.get("retryOf") or "",
            complete=bool(record["complete"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"the record in {folder} is damaged ({error!r})") from None


_LABEL_SCHEDULE: Final = "levada.dev/schedule"
