"""Reading a container's log as `kubectl logs` wants it, from the CRI format that the shim writes."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

READ_BYTES: Final = 64 * 1024
FOLLOW_POLL_S: Final = 0.1  # only while somebody follows
FALLBACK_LINES: Final = 80
FALLBACK_BYTES: Final = 2048


class LogLine(NamedTuple):
    """One entry. `partial`: the line goes on in the next entry."""

    time: bytes
    stream: bytes
    partial: bool
    text: bytes


@dataclass(frozen=True, slots=True)
class LogQuery:
    """What a caller wants to see: the kubelet's query parameters."""

    follow: bool = False
    timestamps: bool = False
    tail: int | None = None
    since: datetime | None = None
    limit_bytes: int | None = None

    @classmethod
    def parse(cls, query: dict[str, str], now: datetime) -> "LogQuery":
        """From the URL's parameters.

        Raises:
            ValueError: one of them makes no sense.
        """
        since = None
        if query.get("sinceSeconds"):
            since = now - timedelta(seconds=int(query["sinceSeconds"]))
        elif query.get("sinceTime"):
            since = datetime.fromisoformat(query["sinceTime"])
        tail = int(query["tailLines"]) if query.get("tailLines") else None
        limit = int(query["limitBytes"]) if query.get("limitBytes") else None
        if (tail is not None and tail < 0) or (limit is not None and limit < 1):
            raise ValueError("tailLines must not be negative, and limitBytes at least 1")
        return cls(query.get("follow") == "true", query.get("timestamps") == "true", tail, since, limit)


def parse_line(line: bytes) -> LogLine | None:
    """One line of the file; None for one that is not in the format (a disk was full)."""
    parts = line.split(b" ", 3)
    if len(parts) != 4 or parts[2] not in {b"F", b"P"}:
        return None
    return LogLine(parts[0], parts[1], parts[2] == b"P", parts[3])


def is_since(line: LogLine, since: datetime | None) -> bool:
    """Whether the line is not older than `since`."""
    if since is None:
        return True
    # Nanoseconds are more than Python's clock knows.
    return datetime.fromisoformat(line.time[:26].decode() + "+00:00") >= since.astimezone(UTC)


class Formatter:
    """Lines as the caller sees them. A line that comes in several entries has one timestamp, at its beginning."""

    def __init__(self, query: LogQuery) -> None:
        self._query = query
        self._unfinished: set[bytes] = set()  # streams in the middle of a line

    def pieces(self, lines: Iterable[LogLine]) -> Iterator[bytes]:
        """The wanted lines, joined to pieces that are worth sending."""
        piece = bytearray()
        for line in lines:
            if is_since(line, self._query.since):
                piece += self._text(line)
                if len(piece) >= READ_BYTES:
                    yield bytes(piece)
                    piece.clear()
        if piece:
            yield bytes(piece)

    def _text(self, line: LogLine) -> bytes:
        prefix = line.time + b" " if self._query.timestamps and line.stream not in self._unfinished else b""
        (self._unfinished.add if line.partial else self._unfinished.discard)(line.stream)
        return prefix + (line.text if line.partial else line.text + b"\n")


def tail_lines(lines: Iterable[LogLine], count: int | None) -> Iterator[LogLine]:
    """The last `count` whole lines (a line may be several entries); all of them without a count."""
    if count is None:
        yield from lines
        return
    kept: deque[list[LogLine]] = deque(maxlen=count)
    current: list[LogLine] = []
    for line in lines:
        current.append(line)
        if not line.partial:
            kept.append(current)
            current = []
    for entry in kept:
        yield from entry
    yield from current if count else ()


class LogFile:
    """Reads a log that is still being written, also when the shim puts it aside and begins a new one."""

    def __init__(self, path: Path, start: int = 0) -> None:
        self._path = path
        self._rest = b""
        self._file = path.open("rb") if path.exists() else None
        if self._file:
            self._file.seek(start)

    def read(self) -> Iterator[LogLine]:
        """What has been added since the last call."""
        while True:
            yield from self._read_open_file()
            if self._file is None or not self._was_put_aside():
                return
            yield from self._read_open_file()
            self._file.close()
            self._file, self._rest = self._path.open("rb"), b""

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()

    def _read_open_file(self) -> Iterator[LogLine]:
        if self._file is None:
            if not self._path.exists():
                return
            self._file = self._path.open("rb")
        while chunk := self._file.read(READ_BYTES):
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for raw in lines:
                line = parse_line(raw)
                if line:
                    yield line

    def _was_put_aside(self) -> bool:
        assert self._file is not None
        try:
            return self._path.stat().st_ino != os.fstat(self._file.fileno()).st_ino
        except FileNotFoundError:
            return False


async def read(path: Path, query: LogQuery, ended: Callable[[], bool]) -> AsyncGenerator[bytes, None]:
    """The log in pieces. With `follow`, until the container has ended."""
    left = query.limit_bytes
    formatter = Formatter(query)
    start = tail_start(path, query.tail) if query.tail is not None else None
    log, before = LogFile(path, start or 0), LogFile(path.with_name(path.name + ".1"))
    try:
        lines = tail_lines(chain(before.read() if start is None else (), log.read()), query.tail)
        while True:
            finished = ended()  # asked before reading: what was written until then is read below
            read_any = False
            for piece in formatter.pieces(lines):
                read_any = True
                yield piece[:left]
                if left is not None:
                    left -= len(piece)
                    if left <= 0:
                        return
            if not read_any:
                if not query.follow or finished:
                    return
                await asyncio.sleep(FOLLOW_POLL_S)
            lines = log.read()
    finally:
        log.close()
        before.close()


def tail_start(path: Path, count: int) -> int | None:
    """Where to begin reading for the last `count` lines (a little early is fine); None: the file has not so many."""
    window = READ_BYTES
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            while window < size:
                file.seek(size - window)
                first, *lines = file.read(window).split(b"\n")
                whole = [number for number, raw in enumerate(lines) if (line := parse_line(raw)) and not line.partial]
                # One more than asked for: only behind a whole line does another one begin for sure.
                if len(whole) > count:
                    return size - window + len(first) + 1
                window *= 4
    except FileNotFoundError:
        pass
    return None


def last_words(path: Path) -> str:
    """The end of the log, for a termination message that falls back to it."""
    log = LogFile(path, tail_start(path, FALLBACK_LINES) or 0)
    try:
        lines = tail_lines(log.read(), FALLBACK_LINES)
        data = b"".join(line.text if line.partial else line.text + b"\n" for line in lines)
    finally:
        log.close()
    return data[-FALLBACK_BYTES:].decode(errors="replace")
