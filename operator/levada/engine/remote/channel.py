"""What the two ends of a pool of processes say to each other, over one socket.

Program to worker: first the initializer, then calls. Worker to program, for each of them: STARTED, any number of LOG, then DONE.
The end of the stream is the news that the other side has gone.
"""

from multiprocessing.connection import Connection
from typing import Final

STARTED: Final = b"s"
LOG: Final = b"l"
DONE: Final = b"d"

# How long a worker that was told to end may still run, for clean-up by the user's code.
GRACE_SECONDS: Final = 2.0


def say(connection: "Connection[bytes, bytes]", kind: bytes, data: bytes = b"") -> None:
    """Send one message to the program."""
    connection.send_bytes(kind + data)


def hear(connection: "Connection[bytes, bytes]") -> tuple[bytes, memoryview]:
    """The next message of a worker.

    Raises:
        EOFError: it has gone. Also ConnectionError.
    """
    message = memoryview(connection.recv_bytes())
    return bytes(message[:1]), message[1:]
