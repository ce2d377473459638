"""Where things lie in a storage. Pure: names in, keys out, and back.

```
runs/<namespace>/<run>-<first 8 of its uid>/
    record.json                       what is known about the run; written once, at its end
    log-<attempt>-<offset>.txt        the log of an attempt, in pieces: each is named after the byte that it begins with
    tasks-<attempt>-<offset>.jsonl    rows of its tasks, one a line; the last row of a task counts
    artifacts-<attempt>-<offset>.jsonl
    pods/<attempt>-<id>/call, outcome what a task in a pod of its own is called with and gives back, until it has ended
index/<namespace>/<deployment>/
    latest.json                       the newest runs, and what pages there are
    page-<number>.json                older ones, 200 each
```
Results and artifacts of the SDK lie beside them, in `results/` and `artifacts/`.
"""

import re
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

RUNS: Final = "runs"
INDEX: Final = "index"
RECORD: Final = "record.json"
LATEST: Final = "latest.json"
UID_CHARS: Final = 8

Stream = Literal["log", "tasks", "artifacts"]
_SUFFIX: Final[dict[Stream, str]] = {"log": "txt", "tasks": "jsonl", "artifacts": "jsonl"}
_CHUNK: Final = re.compile(r"(log|tasks|artifacts)-([0-9]{1,9})-([0-9]{12})\.(txt|jsonl)")
_PAGE: Final = re.compile(r"page-([0-9]{6,9})\.json")


class Chunk(NamedTuple):
    """A piece of a stream: of which attempt, and with which byte it begins. Sorts in reading order within a stream."""

    stream: str
    attempt: int
    offset: int
    key: str


def run_folder(namespace: str, name: str, uid: str) -> str:
    """The folder of a run. The uid is in it, because a deleted run's name may be given again."""
    return f"{RUNS}/{namespace}/{name}-{uid[:UID_CHARS]}"


def record_key(folder: str) -> str:
    """The record of the run in this folder."""
    return f"{folder}/{RECORD}"


def chunk_key(folder: str, stream: Stream, attempt: int, offset: int) -> str:
    """The piece of a stream that begins with this byte."""
    return f"{folder}/{stream}-{attempt}-{offset:012d}.{_SUFFIX[stream]}"


def chunk_of(key: str) -> Chunk | None:
    """What a key is a piece of; None: of nothing."""
    found = _CHUNK.fullmatch(key.rpartition("/")[2])
    return Chunk(found[1], int(found[2]), int(found[3]), key) if found else None


def chunks_of(keys: Iterable[str], stream: Stream) -> list[Chunk]:
    """The pieces of a stream in reading order."""
    return sorted(chunk for key in keys if (chunk := chunk_of(key)) is not None and chunk.stream == stream)


def folders_of(keys: Iterable[str], name: str) -> list[str]:
    """The folders among these keys that belong to runs of this name."""
    wanted = re.compile(rf"{RUNS}/[^/]+/{re.escape(name)}-[0-9a-zA-Z]{{1,{UID_CHARS}}}/")
    return sorted({found[0].rstrip("/") for key in keys if (found := wanted.match(key))})


def index_folder(namespace: str, deployment: str) -> str:
    """The folder of a Deployment's index."""
    return f"{INDEX}/{namespace}/{deployment}"


def latest_key(namespace: str, deployment: str) -> str:
    """The part of the index that is read first, and mostly alone."""
    return f"{index_folder(namespace, deployment)}/{LATEST}"


def page_key(namespace: str, deployment: str, number: int) -> str:
    """A page of older runs."""
    return f"{index_folder(namespace, deployment)}/page-{number:06d}.json"


def page_number(key: str) -> int | None:
    """The number of a page, from its key."""
    found = _PAGE.fullmatch(key.rpartition("/")[2])
    return int(found[1]) if found else None
