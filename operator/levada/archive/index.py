"""The index of a Deployment's archived runs: `latest.json` with the newest, pages of 200 with the others.

One writer, the operator. A crash between any two writes does no harm: a page is written before the part of `latest.json` that
it takes over is removed, and a page that `latest.json` does not name is written anew by the next rotation. A run is in the
index once, whatever happens twice: readers go by its uid.

What is lost can be made again: `rebuilt` from the records of the runs, and by itself from the pages where only `latest.json` is gone.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from levada.archive import layout
from levada.archive.record import Entry, RecordError, entry_of
from levada.storage.base import Storage

log = logging.getLogger(__name__)

PAGE_ENTRIES: Final = 200
FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Page:
    """What `latest.json` knows of a page: how many runs it has, and between which moments they ended."""

    number: int
    count: int
    newest: str
    oldest: str


@dataclass(frozen=True, slots=True)
class Index:
    """The content of `latest.json`: the newest runs first."""

    entries: tuple[Entry, ...] = ()
    pages: tuple[Page, ...] = field(default=())

    def has(self, uid: str) -> bool:
        """Whether the run is among the newest."""
        return any(entry.uid == uid for entry in self.entries)


# --- pure ---------------------------------------------------------------------------------------------------------------


def ordered(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The newest first, each run once: what comes first in the argument counts."""
    once: dict[str, Entry] = {}
    for entry in entries:
        once.setdefault(entry.uid, entry)
    return tuple(sorted(once.values(), key=lambda entry: (entry.moment, entry.uid), reverse=True))


def with_entries(index: Index, entries: Iterable[Entry]) -> Index:
    """The index with these runs; one that is in it already is replaced."""
    return Index(ordered([*entries, *index.entries]), index.pages)


def turned(index: Index) -> tuple[Index, list[tuple[Page, tuple[Entry, ...]]]]:
    """The index after turning full pages, and those pages. `latest.json` keeps at least one page's worth."""
    entries, pages = index.entries, index.pages
    made = []
    while len(entries) >= 2 * PAGE_ENTRIES:
        entries, oldest = entries[:-PAGE_ENTRIES], entries[-PAGE_ENTRIES:]
        page = _page(max((page.number for page in pages), default=0) + 1, oldest)
        pages = (*pages, page)
        made.append((page, oldest))
    return Index(entries, pages), made


def _page(number: int, entries: Sequence[Entry]) -> Page:
    moments = [entry.moment for entry in entries]
    return Page(number, len(entries), max(moments), min(moments))


def dumped(index: Index) -> bytes:
    """`latest.json` as bytes."""
    pages = [[page.number, page.count, page.newest, page.oldest] for page in index.pages]
    return _bytes({"levada": FORMAT, "entries": [entry.to_json() for entry in index.entries], "pages": pages})


def loaded(data: bytes) -> Index:
    """Read `latest.json`.

    Raises:
        RecordError: it is damaged.
    """
    said = _object(data)
    try:
        pages = tuple(Page(int(n), int(count), str(new), str(old)) for n, count, new, old in said.get("pages", ()))
    except (TypeError, ValueError) as error:
        raise RecordError(f"the list of pages is damaged ({error})") from None
    return Index(_entries(said), pages)


# --- read and write -----------------------------------------------------------------------------------------------------


def read(storage: Storage, namespace: str, deployment: str) -> Index:
    """The index; an empty one if there is none. One that is lost or damaged while its pages are there is made from them.

    Raises:
        StorageError: the storage cannot be reached, or refuses.
    """
    try:
        return loaded(storage.read(layout.latest_key(namespace, deployment)))
    except KeyError:
        why = "is lost"
    except RecordError as error:
        why = f"is damaged: {error}"
    pages = _pages_that_are_there(storage, namespace, deployment)
    if pages or why != "is lost":
        log.warning(
            "the index of %s/%s %s; it goes on with %d pages. `levada runs reindex` finds what is missing.",
            namespace, deployment, why, len(pages),
        )  # fmt: skip
    return Index(pages=tuple(pages))


def read_page(storage: Storage, namespace: str, deployment: str, number: int) -> tuple[Entry, ...]:
    """The runs of a page; none if it is lost or damaged, which is logged.

    Raises:
        StorageError: the storage cannot be reached, or refuses.
    """
    key = layout.page_key(namespace, deployment, number)
    try:
        return _entries(_object(storage.read(key)))
    except (KeyError, RecordError) as error:
        log.warning("page %s of the index cannot be read (%s): `levada runs reindex` makes it anew", key, error)
        return ()


def add(storage: Storage, namespace: str, deployment: str, entries: Iterable[Entry]) -> Index:
    """Put runs into the index, and return it. Only one process at a time may do so.

    Raises:
        StorageError: the storage cannot be reached, or refuses; do it again.
    """
    return _write(storage, namespace, deployment, with_entries(read(storage, namespace, deployment), entries))


def _write(storage: Storage, namespace: str, deployment: str, index: Index) -> Index:
    index, made = turned(index)
    for page, entries in made:
        content = {"levada": FORMAT, "entries": [entry.to_json() for entry in entries]}
        storage.write(layout.page_key(namespace, deployment, page.number), _bytes(content))
    storage.write(layout.latest_key(namespace, deployment), dumped(index))
    return index


def knows(storage: Storage, of: tuple[str, str], index: Index, moment: str, uid: str) -> bool:
    """Whether a run of the Deployment (namespace, name) that ended at a moment is in its index, in whatever page.

    Raises:
        StorageError: the storage cannot be reached, or refuses.
    """
    if index.has(uid):
        return True
    candidates = [page.number for page in index.pages if page.oldest <= moment <= page.newest]
    return any(entry.uid == uid for number in candidates for entry in read_page(storage, *of, number))


def remove(storage: Storage, namespace: str, deployment: str, uid: str) -> None:
    """Take a run out of the index.

    Raises:
        StorageError: the storage cannot be reached, or refuses.
    """
    index = read(storage, namespace, deployment)
    for page in index.pages:
        entries = read_page(storage, namespace, deployment, page.number)
        kept = [entry.to_json() for entry in entries if entry.uid != uid]
        if len(kept) != len(entries):
            storage.write(
                layout.page_key(namespace, deployment, page.number), _bytes({"levada": FORMAT, "entries": kept})
            )
    _write(storage, namespace, deployment, Index(tuple(e for e in index.entries if e.uid != uid), index.pages))


def rebuilt(storage: Storage, namespace: str) -> dict[str, int]:
    """Make the indexes of a namespace anew from the records of its runs; how many runs each Deployment has.

    The operator must not write meanwhile: what it adds could be lost, until this is done once more.

    Raises:
        StorageError: the storage cannot be reached, or refuses.
    """
    by_deployment: dict[str, list[Entry]] = {}
    for entry in _entries_of_records(storage, namespace):
        by_deployment.setdefault(entry.deployment, []).append(entry)
    for deployment, entries in by_deployment.items():
        index = _write(storage, namespace, deployment, Index(ordered(entries)))
        for key in storage.list(f"{layout.index_folder(namespace, deployment)}/page-"):
            if (layout.page_number(key) or 0) > len(index.pages):
                storage.delete(key)
    return {deployment: len(entries) for deployment, entries in sorted(by_deployment.items())}


def _entries_of_records(storage: Storage, namespace: str) -> Iterator[Entry]:
    tail = f"/{layout.RECORD}"
    for key in storage.list(f"{layout.RUNS}/{namespace}/"):
        if not key.endswith(tail):
            continue
        try:
            yield entry_of(_object(storage.read(key)), key.removesuffix(tail))
        except (KeyError, RecordError) as error:
            log.warning("%s is left out of the index: %s", key, error)


def _pages_that_are_there(storage: Storage, namespace: str, deployment: str) -> list[Page]:
    keys = storage.list(f"{layout.index_folder(namespace, deployment)}/page-")
    numbers = sorted(number for key in keys if (number := layout.page_number(key)) is not None)
    read_ones = [(number, read_page(storage, namespace, deployment, number)) for number in numbers]
    return [_page(number, entries) for number, entries in read_ones if entries]


def _entries(said: dict[str, Any]) -> tuple[Entry, ...]:
    try:
        return tuple(Entry.of(each) for each in said["entries"])
    except (KeyError, TypeError) as error:
        raise RecordError(f"it has no list of runs ({error!r})") from None


def _object(data: bytes) -> dict[str, Any]:
    try:
        said = json.loads(data)
    except ValueError as error:
        raise RecordError(f"it is no JSON ({error})") from None
    if not isinstance(said, dict) or said.get("levada") != FORMAT:
        raise RecordError("this version of Levada does not know its format")
    return said


def _bytes(said: dict[str, Any]) -> bytes:
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
