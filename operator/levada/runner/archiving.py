"""The run's own hand in the archive: log, task rows and artifacts as they come, the record at the end.

One thread does all of it, so neither the flow nor its reports ever wait for a storage. What the storage does not take is kept to
a bound and tried again; the log's own backlog is with the keeper (tee.py). At the end the main thread waits for it, no longer than
the grace of the pod allows.
"""

import contextlib
import json
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from levada.archive.chunks import SEAL_BYTES, ChunkStream
from levada.archive.layout import Stream, chunk_key, record_key, run_folder
from levada.exceptions import LevadaError
from levada.logging import masked
from levada.resources import names
from levada.storage import Storage, storage_of

log = logging.getLogger("levada.runner")
Json = dict[str, Any]

FLUSH_SECONDS: Final = 5.0
# Beyond it the log is left with the keeper, and rows wait as they are.
UNSAVED_BYTES: Final = 1024 * 1024
MAX_WAITING_ROWS: Final = 50_000
_MAX_LINE_BYTES: Final = 64 * 1024
_MAX_BACKOFF_SECONDS: Final = 30.0
_LAST_BACKOFF_SECONDS: Final = 1.0
_MESSAGE_BYTES: Final = 64 * 1024


class Archivist:
    """Archives one attempt. `task` and `artifact` may be called from any thread, the rest from the main thread."""

    def __init__(
        self,
        url: str,
        folder: str,
        attempt: int,
        channel: socket.socket,
        *,
        flush_seconds: float = FLUSH_SECONDS,
        storage: Callable[[str], Storage] = storage_of,
    ) -> None:
        self.url = url
        self.folder = folder
        self._attempt = attempt
        self._channel = channel
        self._flush_seconds = flush_seconds
        self._make_storage = storage
        self._waiting: deque[tuple[Stream, Json]] = deque()
        self._lost_rows = 0
        self._final: Callable[[Json], Json | None] | None = None
        self._deadline = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, name="levada-archive", daemon=True)
        # The thread's own.
        self._streams: dict[Stream, ChunkStream] = {}
        self._partial = b""
        self._position = 0
        self._lost_bytes = 0
        self._dirty_since: float | None = None
        self._failures = 0
        self._again_at = 0.0
        self._synced = False
        self.trouble = ""

    def start(self) -> None:
        """Begin to archive, with all that has been printed so far."""
        self._thread.start()

    def task(self, task_id: str, row: Mapping[str, Any]) -> None:
        """Keep the row of a task as it is now; a later one of the same task replaces it."""
        self._keep("tasks", {"id": task_id, **{name: value for name, value in row.items() if value is not None}})

    def artifact(self, row: Json) -> None:
        """Keep an artifact."""
        self._keep("artifacts", row)

    def _keep(self, stream: Stream, row: Json) -> None:
        if len(self._waiting) >= MAX_WAITING_ROWS:
            self._lost_rows += 1
            return
        self._waiting.append((stream, row))

    def finish(self, record: Callable[[Json], Json | None], seconds: float) -> bool:
        """Archive all that is left, then the record that `record` makes from what is known of the log. Waits so long at most.

        Returns whether all of it is in the storage.
        """
        if self._thread.ident is None:
            dismiss(self._channel)
            return False
        self._deadline = time.monotonic() + seconds
        self._final = record
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        self._say(b"S")
        if not self._done.wait(max(0.0, seconds)):
            log.warning("The run's archive is not complete: the storage does not answer.")
            self._say(b"B")
            return False
        dismiss(self._channel)
        return not self.trouble

    def _say(self, message: bytes) -> None:
        with contextlib.suppress(OSError):
            self._channel.send(message)

    # --- the thread

    def _work(self) -> None:
        try:
            storage = self._make_storage(self.url)
            for stream in ("log", "tasks", "artifacts"):
                self._streams[stream] = self._stream(storage, stream)
            while not self._synced:
                self._listen()
                self._take_rows()
                if self._is_due():
                    self._flush()
            self._end(storage)
        except LevadaError as error:
            self.trouble = str(error)
            log.warning("Nothing of this run is archived: %s", error)
        except Exception as error:
            self.trouble = repr(error)
            log.exception("The run's archive failed; the run goes on.")
        finally:
            self._done.set()

    def _stream(self, storage: Storage, stream: Stream) -> ChunkStream:
        return ChunkStream(storage, lambda offset: chunk_key(self.folder, stream, self._attempt, offset))

    def _listen(self) -> None:
        """Take output in, for as long as nothing has to be written."""
        full = self._streams["log"].unsaved_bytes > UNSAVED_BYTES
        wait = self._seconds_to_flush()
        readable, _, _ = select.select([] if full else [self._channel], [], [], wait)
        if not readable:
            return
        said = self._channel.recv(_MESSAGE_BYTES)
        if not said:
            # The keeper was killed. Nobody would see this process' output or end: it must not go on.
            os.kill(os.getpid(), signal.SIGKILL)
        if said[:1] == b"S":
            self._lost_bytes = int(said[1:] or 0)
            self._synced = True
            return
        self._position += len(said) - 1
        self._partial += said[1:]
        cut = self._partial.rfind(b"\n") + 1
        if not cut and len(self._partial) > _MAX_LINE_BYTES:
            cut = len(self._partial)
        self._take(cut)

    def _take(self, size: int) -> None:
        """Take so many bytes into the archive: whole lines, so that a secret is never in two halves."""
        if size:
            self._streams["log"].add(_masked(self._partial[:size]))
            self._partial = self._partial[size:]
            self._dirty()

    def _take_rows(self) -> None:
        streams = self._streams
        while self._waiting and streams["tasks"].unsaved_bytes < 4 * UNSAVED_BYTES:
            stream, row = self._waiting.popleft()
            streams[stream].add(
                json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode(errors="replace") + b"\n"
            )
            self._dirty()

    def _dirty(self) -> None:
        if self._dirty_since is None:
            self._dirty_since = time.monotonic()

    def _seconds_to_flush(self) -> float:
        if self._dirty_since is None:
            return self._flush_seconds
        return max(0.0, max(self._dirty_since + self._flush_seconds, self._again_at) - time.monotonic())

    def _is_due(self) -> bool:
        now = time.monotonic()
        if self._dirty_since is None or now < self._again_at:
            return False
        full = any(stream.unsaved_bytes >= SEAL_BYTES for stream in self._streams.values())
        return full or now >= self._dirty_since + self._flush_seconds

    def _flush(self) -> bool:
        """Write what is not in the storage. Returns whether it took all of it."""
        taken = self._position - len(self._partial)
        try:
            for stream in self._streams.values():
                stream.flush()
        except LevadaError as error:
            self._failed(error)
            return False
        if self._failures:
            log.warning("The storage answers again; the log is archived.")
        self._failures, self._dirty_since, self.trouble = 0, None, ""
        self._say(b"A%d %d" % (taken, self._streams["log"].saved_end))
        return True

    def _failed(self, error: LevadaError) -> None:
        self._failures += 1
        self.trouble = str(error)
        if self._failures == 1:
            log.warning("The log is not archived for now; the run goes on, and it is tried again: %s", error)
        self._again_at = time.monotonic() + min(_MAX_BACKOFF_SECONDS, 2.0 ** min(self._failures - 1, 10))

    def _end(self, storage: Storage) -> None:
        """Everything that is left, then the record; again and again until it is time to go."""
        self._take(len(self._partial))
        while True:
            self._take_rows()
            if (self._flush() or not self._dirty_since) and not self._waiting and self._write_record(storage):
                return
            if self._waiting and not self.trouble:
                continue
            left = self._deadline - time.monotonic() - _LAST_BACKOFF_SECONDS
            if left <= 0:
                log.warning("The run's archive is not complete: %s", self.trouble)
                return
            time.sleep(min(_LAST_BACKOFF_SECONDS, left))

    def _write_record(self, storage: Storage) -> bool:
        assert self._final is not None
        known = {"bytes": self._streams["log"].saved_end, "lostBytes": self._lost_bytes, "lostRows": self._lost_rows}
        record = self._final({name: value for name, value in known.items() if value or name == "bytes"})
        if record is None:
            return True
        text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
        try:
            storage.write(record_key(self.folder), text.encode(errors="replace"))
        except LevadaError as error:
            self._failed(error)
            return False
        return True


def dismiss(channel: socket.socket) -> None:
    """Tell the keeper that nothing more is archived."""
    with contextlib.suppress(OSError):
        channel.send(b"B")
    channel.close()


def _masked(data: bytes) -> bytes:
    """The output without the secrets that this process knows."""
    text = data.decode("utf-8", "surrogateescape")
    hidden = masked(text)
    return data if hidden is text or hidden == text else hidden.encode("utf-8", "surrogateescape")


def salvage(env: Mapping[str, str], offset: int, rest: bytes) -> None:
    """Archive the end of the log of a process that died: called in its keeper, which knows no secret but those of the environment."""
    try:
        from levada.runner.run import hide_given_secrets

        hide_given_secrets(env)
        folder = run_folder(env[names.ENV_NAMESPACE], env[names.ENV_RUN], env[names.ENV_RUN_UID])
        key = chunk_key(folder, "log", int(env[names.ENV_ATTEMPT]), offset)
        storage_of(env[names.ENV_STORAGE]).write(key, _masked(rest))
    except (LevadaError, KeyError, ValueError) as error:
        os.write(2, f"levada: the end of the log is not archived: {error}\n".encode())
