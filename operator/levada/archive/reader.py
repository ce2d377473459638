"""Reading the archive: for the command line, the dashboard, and whoever wants to know what became of a run.

```python
archive = Archive.of("s3://bucket/levada")
for entry in archive.list_runs("team-a", "nightly", limit=50):
    print(entry.ended, entry.phase, entry.name)
record = archive.record(entry.folder)
rows = archive.tasks(entry.folder)
part = archive.log(entry.folder)  # and part.next_offset for what comes later
```
Everything here blocks: call it from a thread where others must not wait.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from levada.archive import index, layout
from levada.archive.layout import Chunk, Stream
from levada.archive.record import Entry, RecordError, entry_of, sortable
from levada.storage import storage_of
from levada.storage.base import Storage

Row = dict[str, Any]
LOG_PART_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept of a run that has ended. `run` is its FlowRun without task rows; `complete` is False if its process died."""

    entry: Entry
    run: Mapping[str, Any]
    complete: bool
    written_by: str
    written_at: str
    log_bytes: int | None = None
    lost_log_bytes: int = 0
    left_tasks: Mapping[str, Row] | None = (
        None  # rows that stand in the record, as the run's process did not come to write them
    )


@dataclass(frozen=True, slots=True)
class LogPart:
    """A part of a log: the bytes, and with which offset to go on. `at_end`: there is no more, so far."""

    data: bytes
    next_offset: int
    at_end: bool


class Archive:
    """One storage, read."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    @classmethod
    def of(cls, url: str) -> Self:
        """The archive behind a URL.

        Raises:
            OptionError: it means no storage.
            MissingDependencyError: the package for this kind of storage is not installed.
        """
        return cls(storage_of(url))

    def list_runs(
        self, namespace: str, deployment: str | None = None, *, limit: int = 50, before: str | None = None
    ) -> list[Entry]:
        """The newest runs of a Deployment that have ended, or of all Deployments of the namespace. Mostly one read each.

        Args:
            namespace: of the runs.
            deployment: its name; None: of all.
            limit: how many at most.
            before: RFC 3339 time: only runs that ended before it. To read on, give the `ended` of the last one.

        Raises:
            StorageError: the storage cannot be reached, or refuses.
        """
        names = [deployment] if deployment is not None else self.deployments(namespace)
        found = [entry for name in names for entry in self._runs_of(namespace, name, limit, before)]
        return list(index.ordered(found))[:limit]

    def every_run(self, namespace: str, deployment: str) -> Iterator[Entry]:
        """All archived runs of a Deployment, in no order, page by page. One may come twice.

        Raises:
            StorageError: the storage cannot be reached, or refuses.
        """
        known = index.read(self.storage, namespace, deployment)
        yield from known.entries
        for page in known.pages:
            yield from index.read_page(self.storage, namespace, deployment, page.number)

    def deployments(self, namespace: str) -> list[str]:
        """The Deployments that have archived runs.

        Raises:
            StorageError: the storage cannot be reached, or refuses.
        """
        keys = self.storage.list(f"{layout.INDEX}/{namespace}/")
        return sorted({parts[2] for key in keys if len(parts := key.split("/")) == 4})

    def record(self, folder: str) -> Record | None:
        """The record of a run; None if there is none (yet).

        Raises:
            RecordError: it is damaged.
            StorageError: the storage cannot be reached, or refuses.
        """
        said = read_record(self.storage, folder)
        if said is None:
            return None
        log = said.get("log") or {}
        return Record(
            entry=entry_of(said, folder),
            run=said["run"],
            complete=bool(said["complete"]),
            written_by=str(said.get("writtenBy") or ""),
            written_at=str(said.get("writtenAt") or ""),
            log_bytes=log.get("bytes"),
            lost_log_bytes=log.get("lostBytes") or 0,
            left_tasks=said.get("tasks"),
        )

    def folders(self, namespace: str, name: str) -> list[str]:
        """The folders of all archived runs of a name: more than one if the name was given again.

        Raises:
            StorageError: the storage cannot be reached, or refuses.
        """
        return layout.folders_of(self.storage.list(f"{layout.RUNS}/{namespace}/{name}-"), name)

    def tasks(self, folder: str, attempt: int | None = None) -> dict[str, Row]:
        """Every task row of an attempt by id, also those that were folded out of the FlowRun's status.

        Args:
            folder: of the run.
            attempt: which; the newest one that has rows when absent.

        Raises:
            StorageError: the storage cannot be reached, or refuses.
        """
        rows = {row.pop("id"): row for row in self._lines(folder, "tasks", attempt)}
        said = read_record(self.storage, folder) if attempt is None else None
        return rows | dict((said or {}).get("tasks") or {})

    def artifacts(self, folder: str) -> list[Row]:
        """The artifacts that the run made, each as it was last.

        Raises:
            StorageError: the storage cannot be reached, or refuses.
        """
        return list({row["id"]: row for row in self._lines(folder, "artifacts", None, every_attempt=True)}.values())

    def attempts(self, folder: str) -> list[int]:
        """The attempts that have a log.

        Raises:
            StorageError: the storage cannot be reached, or refuses.
        """
        return sorted({chunk.attempt for chunk in self._chunks(folder, "log")})

    def log(
        self, folder: str, offset: int = 0, *, attempt: int | None = None, limit_bytes: int = LOG_PART_BYTES
    ) -> LogPart:
        """A part of the log of an attempt.

        Args:
            folder: of the run.
            offset: the byte to begin with.
            attempt: which; the newest one when absent.
            limit_bytes: how much at most, but at least what one object has.

        Raises:
            StorageError: the storage cannot be reached, or refuses.
        """
        chunks = _of_attempt(self._chunks(folder, "log"), attempt)
        first = max((at for at, chunk in enumerate(chunks) if chunk.offset <= offset), default=0)
        data, at = b"", offset
        for number, chunk in enumerate(chunks[first:], first):
            piece = self._piece(chunk)
            if piece and chunk.offset + len(piece) > at:
                data += piece[max(0, at - chunk.offset) :]
                at = chunk.offset + len(piece)
            if len(data) >= limit_bytes:
                return LogPart(data, at, at_end=number == len(chunks) - 1)
        return LogPart(data, at, at_end=True)

    def _runs_of(self, namespace: str, deployment: str, limit: int, before: str | None) -> list[Entry]:
        bound = sortable(before) if before else None

        def wanted(entries: tuple[Entry, ...]) -> list[Entry]:
            return [entry for entry in entries if bound is None or entry.moment < bound]

        known = index.read(self.storage, namespace, deployment)
        found = index.ordered(wanted(known.entries))
        # Pages may overlap, where a run was archived late: go on until no unread page can have one of the newest.
        for page in sorted(known.pages, key=lambda page: page.newest, reverse=True):
            if bound is not None and page.oldest >= bound:
                continue
            if len(found) >= limit and page.newest < found[limit - 1].moment:
                break
            # A run that was archived twice is in two of them, and counts once.
            found = index.ordered([*found, *wanted(index.read_page(self.storage, namespace, deployment, page.number))])
        return list(found)[:limit]

    def _lines(self, folder: str, stream: Stream, attempt: int | None, *, every_attempt: bool = False) -> Iterator[Row]:
        chunks = self._chunks(folder, stream)
        rest, position, of = b"", 0, -1
        for chunk in chunks if every_attempt else _of_attempt(chunks, attempt):
            if chunk.attempt != of:
                rest, position, of = b"", 0, chunk.attempt
            piece = self._piece(chunk)[max(0, position - chunk.offset) :]
            position = max(position, chunk.offset) + len(piece)
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                row = _row(line)
                if row is not None:
                    yield row

    def _chunks(self, folder: str, stream: Stream) -> list[Chunk]:
        return layout.chunks_of(self.storage.list(f"{folder}/{stream}-"), stream)

    def _piece(self, chunk: Chunk) -> bytes:
        try:
            return self.storage.read(chunk.key)
        except KeyError:  # removed since it was listed
            return b""


def read_record(storage: Storage, folder: str) -> dict[str, Any] | None:
    """The record as it was written; None if there is none.

    Raises:
        RecordError: it is damaged.
        StorageError: the storage cannot be reached, or refuses.
    """
    try:
        data = storage.read(layout.record_key(folder))
    except KeyError:
        return None
    try:
        said = json.loads(data)
    except ValueError as error:
        raise RecordError(f"the record in {folder} is damaged ({error})") from None
    if not isinstance(said, dict) or not isinstance(said.get("run"), dict) or "complete" not in said:
        raise RecordError(f"the record in {folder} is damaged: it says nothing of a run")
    return said


def _of_attempt(chunks: list[Chunk], attempt: int | None) -> list[Chunk]:
    wanted = max((chunk.attempt for chunk in chunks), default=0) if attempt is None else attempt
    return [chunk for chunk in chunks if chunk.attempt == wanted]


def _row(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:  # torn by a crash
        return None
    return row if isinstance(row, dict) and "id" in row else None
