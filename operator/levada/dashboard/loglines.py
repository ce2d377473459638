"""Lines of a run's log as records. Pure: bytes in, lines out.

A run writes `HH:MM:SS.mmm | LEVEL   | source | message`. A line of another shape goes on with the record before it.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from levada.dashboard.models import LogLine
from levada.dashboard.models.queries import LogQuery

_RECORD: Final = re.compile(
    r"(\d\d:\d\d:\d\d\.\d{3}) \| (DEBUG|INFO|WARNING|ERROR|CRITICAL) *\| ([^|]{0,300}?) \| ?(.*)", re.DOTALL
)
_STAMP: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d) ?(.*)", re.DOTALL)
MAX_LINE_CHARS: Final = 64 * 1024
_MAX_LINE_BYTES: Final = 4 * MAX_LINE_CHARS


class LineReader:
    """Makes lines of pieces of bytes. `stamped`: the node has put a time before each line."""

    def __init__(self, *, stamped: bool, number: int = 0) -> None:
        self._stamped = stamped
        self._rest = b""
        self._level: Any = None
        self._source = ""
        self.number = number

    def feed(self, piece: bytes) -> Iterator[LogLine]:
        """The lines that are whole now."""
        *lines, rest = piece.split(b"\n")
        for line in lines:
            whole, self._rest = self._rest + line, b""
            yield self._line(whole)
        # What nobody will see of a line that does not end is not kept: a progress bar may write on one for days.
        self._rest += rest[: _MAX_LINE_BYTES - len(self._rest)]

    def end(self) -> Iterator[LogLine]:
        """What came without an end of line."""
        if self._rest:
            line, self._rest = self._rest, b""
            yield self._line(line)

    def _line(self, raw: bytes) -> LogLine:
        self.number += 1
        text = raw.decode("utf-8", "replace").rstrip("\r")[:MAX_LINE_CHARS]
        time = None
        if self._stamped and (found := _STAMP.fullmatch(text)):
            zone = "+00:00" if found[3] == "Z" else found[3]
            time = datetime.fromisoformat(f"{found[1]}{(found[2] or '')[:7]}{zone}")
            text = found[4]
        record = _RECORD.fullmatch(text)
        if record is None:
            return LogLine(
                number=self.number, time=time, level=self._level, source=self._source, message=text,
                continued=self._level is not None,
            )  # fmt: skip
        self._level, self._source = record[2], record[3].strip()
        return LogLine(
            number=self.number, time=time, clock=record[1], level=self._level, source=self._source, message=record[4]
        )


def fits(line: LogLine, query: LogQuery) -> bool:
    """Whether the query asks for the line."""
    if query.level and (line.level or "INFO") not in query.level:
        return False
    if query.task and not any(line.source == task or line.source.startswith(f"{task} ") for task in query.task):
        return False
    return not query.q or query.q.lower() in line.message.lower()
