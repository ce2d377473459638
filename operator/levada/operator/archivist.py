"""What the operator does for one Deployment's archive: complete the records of runs that died, and keep the index.

The only writer of indexes. Everything may be done twice: a run that is in the index stays in it once.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from levada.archive import index
from levada.archive.layout import record_key, run_folder
from levada.archive.reader import read_record
from levada.archive.record import Entry, RecordError, entry_of, record_of
from levada.decide.times import stamp
from levada.exceptions import StorageError
from levada.kube import ApiError, Conflict, ConnectionLost, NotFound
from levada.operator.apply import patch_status
from levada.operator.storages import Storages
from levada.operator.store import Key
from levada.resources.kinds import FLOW_RUNS
from levada.resources.phases import is_terminal
from levada.storage import Storage

log = logging.getLogger(__name__)
R = TypeVar("R")
BATCH: Final = 50


class Ended(NamedTuple):
    """A run that has ended."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where the runs of one Deployment go."""

    url: str
    namespace: str
    deployment: str


class Archivist:
    """Works on one Deployment at a time; `controller` gives client, clock and metrics."""

    def __init__(self, controller: Any, storages: Storages) -> None:
        self._c = controller
        self._storages = storages
        self._busy: set[Shelf] = set()  # a thread that took too long may still write: nobody else may then

    async def archive(self, shelf: Shelf, runs: Sequence[Ended]) -> set[str]:
        """See that the runs have records, and put them into the index. Returns the uids of those that are in it now.

        A run that does not exist any more and left no record is not archived: nothing is known of it.

        Raises:
            LevadaError: the storage cannot be reached, or refuses.
            ApiError, ConnectionLost: a run could not be read.
        """
        archived: set[str] = set()
        for start in range(0, len(runs), BATCH):
            batch = runs[start : start + BATCH]
            await self._c.client.admit("archive")
            entries: dict[str, Entry] = await self._call(shelf, partial(_entries, shelf=shelf, runs=batch))
            self._c.metrics.archived.labels("runner").inc(len(entries))
            missing = [run for run in batch if run.uid not in entries]
            for run in missing:
                entry = await self._complete(shelf, run)
                if entry is not None:
                    entries[run.uid] = entry
            if entries:
                await self._c.client.admit("archive")
                await self._call(shelf, partial(_add, shelf=shelf, entries=tuple(entries.values())))
            archived |= entries.keys()
        return archived

    async def known(self, shelf: Shelf, runs: Mapping[str, str]) -> set[str]:
        """Which of the runs (uid -> moment of the end) are in the index: those are certainly archived.

        Raises:
            LevadaError: the storage cannot be reached, or refuses.
        """

        def look(storage: Storage) -> set[str]:
            of = (shelf.namespace, shelf.deployment)
            found = index.read(storage, *of)
            return {uid for uid, moment in runs.items() if index.knows(storage, of, found, moment, uid)}

        return await self._call(shelf, look)

    async def _call(self, shelf: Shelf, work: Callable[[Storage], R]) -> R:
        if shelf in self._busy:
            raise StorageError(f"{shelf.url} has not answered yet; it is asked again later")
        self._busy.add(shelf)
        return await self._storages.call(shelf.url, work, over=lambda: self._busy.discard(shelf))

    async def _complete(self, shelf: Shelf, run: Ended) -> Entry | None:
        """Write the record that a run's process did not come to write."""
        try:
            body = await self._c.client.get(FLOW_RUNS, run.name, shelf.namespace)
        except NotFound:
            return None
        status = body.get("status") or {}
        if body["metadata"]["uid"] != run.uid or not is_terminal(status.get("phase")):
            return None
        ran = bool(status.get("podName"))  # without a process there is no log that could be missing
        record = record_of(
            body,
            complete=not ran,
            written_by="operator",
            written_at=stamp(self._c.now()),
            tasks=status.get("tasks"),
        )
        folder = run_folder(shelf.namespace, run.name, run.uid)
        text = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        await self._call(shelf, lambda storage: storage.write(record_key(folder), text))
        self._c.metrics.archived.labels("operator").inc()
        if ran:
            await self._note(shelf, body, folder)
        return entry_of(record, folder)

    async def _note(self, shelf: Shelf, body: Mapping[str, Any], folder: str) -> None:
        """Say in the run's status that its process did not come to write all. A courtesy."""
        archive = {"storage": shelf.url, "path": folder, "complete": False}
        metadata = body["metadata"]
        if body["status"].get("archive") == archive:
            return
        try:
            await patch_status(
                self._c.client,
                FLOW_RUNS,
                metadata["namespace"],
                metadata["name"],
                {"archive": archive},
                uid=metadata["uid"],
                resource_version=metadata["resourceVersion"],
            )
        except (Conflict, NotFound):
            return
        except (ApiError, ConnectionLost) as error:
            log.info("the archive of run %s/%s is not noted: %s", metadata["namespace"], metadata["name"], error)


def _add(storage: Storage, *, shelf: Shelf, entries: tuple[Entry, ...]) -> None:
    index.add(storage, shelf.namespace, shelf.deployment, entries)


def _entries(storage: Storage, *, shelf: Shelf, runs: Sequence[Ended]) -> dict[str, Entry]:
    """The lines of the runs that have a record, by uid."""
    found: dict[str, Entry] = {}
    for run in runs:
        folder = run_folder(shelf.namespace, run.name, run.uid)
        try:
            record = read_record(storage, folder)
            if record is not None:
                entry = entry_of(record, folder)
                if (entry.uid, entry.deployment) == (run.uid, shelf.deployment):
                    found[run.uid] = entry
        except RecordError as error:
            log.warning("%s; it is written anew from the FlowRun", error)
    return found


def key_of(shelf: Shelf) -> Key:
    """The Deployment of a shelf."""
    return Key(shelf.namespace, shelf.deployment)
