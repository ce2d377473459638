"""The program that a process of the pool runs. `processes` starts it and sends it calls.

Calls are made in the main thread, so that signals can interrupt them. Another thread listens: when the program has gone, or has
closed the pool, the code is interrupted as by SIGTERM, and after a moment the process ends with all that it started.
"""

import os
import pickle
import select
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from types import FrameType
from typing import Final

from levada.engine.remote import logs, packing, raised
from levada.engine.remote.carrying import carry
from levada.engine.remote.channel import DONE, GRACE_SECONDS, LOG, STARTED, say
from levada.engine.signals import TerminationSignal

# A child that the program forked may keep the socket open after the program's death; so its death is looked for as well.
_LOOK_SECONDS: Final = 2.0


class Server:
    """Serves calls until the program goes."""

    def __init__(self, connection: "Connection[bytes, bytes]", parent_pid: int) -> None:
        self.connection = connection
        self.parent_pid = parent_pid
        self.busy = False
        self._calls: SimpleQueue[bytes | None] = SimpleQueue()
        self._speaking = threading.Lock()

    def serve(self) -> None:
        """Make calls, one after the other."""
        threading.Thread(target=self._listen, name="levada-listen", daemon=True).start()
        logs.send_all_to(self._log)
        initializer = self._calls.get()
        if initializer is None:
            return
        self._say(DONE, _prepare(initializer, self._log))
        while (payload := self._calls.get()) is not None:
            self.busy = True
            self._say(STARTED)
            outcome = carry(payload, self._log)
            del payload
            self.busy = False
            _flush()
            self._say(DONE, outcome)

    def _log(self, record: logs.Record) -> None:
        self._say(LOG, pickle.dumps(record))

    def _say(self, kind: bytes, data: bytes = b"") -> None:
        with self._speaking, suppress(ConnectionError):  # if nobody listens any more, _listen knows as well
            say(self.connection, kind, data)

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while self._program_lives():
                self._calls.put(self.connection.recv_bytes())
        self._calls.put(None)
        self._end()

    def _program_lives(self) -> bool:
        """Wait for the next message; False if the program has died without closing the socket."""
        while not select.select([self.connection], [], [], _LOOK_SECONDS)[0]:
            if os.getppid() != self.parent_pid:
                return False
        return True

    def _end(self) -> None:
        """Interrupt the code; whatever it does then, in a moment all is over."""
        if self.busy:
            os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(GRACE_SECONDS)
        os.killpg(0, signal.SIGKILL)

    def on_sigterm(self, signum: int, frame: FrameType | None) -> None:
        """Let the code clean up, then end."""
        if self.busy:
            raise TerminationSignal(signum)
        raise SystemExit(128 + signum)


def _prepare(initializer: bytes, sink: logs.Sink) -> bytes:
    """Call the user's initializer; gives back the packed exception if it raised one."""
    levels, call = pickle.loads(initializer)  # noqa: S301  it comes from this program's own other half
    try:
        with logs.sent_to(sink, levels):
            function, args = packing.loads(call)
            if function is not None:
                function(*args)
    except Exception as error:  # noqa: BLE001  the program hears of it
        return raised.pack(error)
    return b""


def _flush() -> None:
    """What the code printed should be seen when its run is over."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def main(fd: int, parent_pid: int) -> None:
    """Serve calls from a socket until it is closed."""
    server = Server(Connection(fd), parent_pid)
    signal.signal(signal.SIGTERM, server.on_sigterm)
    server.serve()
