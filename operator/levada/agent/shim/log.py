"""The container's output as a file that `kubectl logs` can be answered from: bounded, and honest about what is missing."""

# ruff: noqa: PTH105, PTH110
# pathlib would double the imports of a process that stays resident beside every container; relative imports, because it runs
# as a package of its own

from __future__ import annotations

import contextlib
import os

from .files import timestamp

MAX_LINE_BYTES = 16384  # as containerd: a longer line becomes several, marked P (partial)


class Log:
    """The container's output in the CRI log format: `TIME stdout|stderr F|P line`."""

    def __init__(self, path: str, max_bytes: int) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.rests = {"stdout": b"", "stderr": b""}
        self.missing_bytes = 0  # could not be written: the disk was full
        self._open()

    def _open(self) -> None:
        self.descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.size = os.fstat(self.descriptor).st_size

    def feed(self, stream: str, data: bytes) -> None:
        """Write the complete lines; keep the rest."""
        *lines, rest = (self.rests[stream] + data).split(b"\n")
        out: list[bytes] = []
        for line in lines:
            self._format(out, stream, line, b"F")
        while len(rest) >= MAX_LINE_BYTES:
            self._format(out, stream, rest[:MAX_LINE_BYTES], b"P")
            rest = rest[MAX_LINE_BYTES:]
        self.rests[stream] = rest
        self._write(b"".join(out))

    def close(self) -> None:
        """Write what has no newline, too."""
        out: list[bytes] = []
        for stream, rest in self.rests.items():
            if rest:
                self._format(out, stream, rest, b"F")
        self._write(b"".join(out))

    def _format(self, out: list[bytes], stream: str, line: bytes, tag: bytes) -> None:
        start = f"{timestamp()} {stream} ".encode()
        while len(line) > MAX_LINE_BYTES:
            out.append(start + b"P " + line[:MAX_LINE_BYTES] + b"\n")
            line = line[MAX_LINE_BYTES:]
        out.append(start + tag + b" " + line + b"\n")

    def _write(self, data: bytes) -> None:
        """A full disk must not end the flow: its log has a gap then, which says so."""
        if not data:
            return
        try:
            if self.size > self.max_bytes:
                self._put_aside()
            if self.missing_bytes:
                self._append(self._notice(f"{self.missing_bytes} bytes of output are missing here: the disk was full"))
                self.missing_bytes = 0
            data = self._append(data)
        except OSError:
            # Half a line may stand there: the next one must begin at a beginning.
            self.missing_bytes += len(data)
            with contextlib.suppress(OSError):
                os.ftruncate(self.descriptor, self.size)

    def _put_aside(self) -> None:
        """Begin a new file. What was put aside before goes, and the new file says so."""
        drops, before = os.path.exists(self.path + ".1"), self.descriptor
        if os.path.exists(self.path):  # else it was put aside before, and there was no room for a new one
            os.replace(self.path, self.path + ".1")
        self._open()
        os.close(before)
        if drops:
            self._append(self._notice(f"the log is bounded at 2 x {self.max_bytes} bytes: older lines were dropped"))

    def _append(self, data: bytes) -> bytes:
        """Write whole lines; `size` only ever counts these. Returns nothing that is left."""
        end = self.size + len(data)
        while data:
            data = data[os.write(self.descriptor, data) :]
        self.size = end
        return data

    def _notice(self, words: str) -> bytes:
        return f"{timestamp()} stderr F [levada agent] {words}\n".encode()
