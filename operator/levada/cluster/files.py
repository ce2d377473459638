"""Writing files so that a `kill -9` in the middle never leaves half of one, and locks that die with their holder."""

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from levada.cluster.errors import LockBusyError

PRIVATE: Final = 0o600
_POLL_SECONDS: Final = 0.05


def write_atomically(path: Path, content: str | bytes, mode: int = PRIVATE) -> None:
    """Replace the file in one step. Files are private by default: nearly all of them hold keys."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    data = content.encode() if isinstance(content, str) else content
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, *, wait_seconds: float, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold an exclusive lock on the file; the kernel frees it when its holder dies.

    The file stays: removing it would let two processes hold locks on two files of one name.

    Raises:
        LockBusyError: somebody else held it for `wait_seconds`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        _acquire(file.fileno(), path, wait_seconds, on_wait)
        yield


def _acquire(descriptor: int, path: Path, wait_seconds: float, on_wait: Callable[[], None]) -> None:
    deadline = time.monotonic() + wait_seconds
    waited = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise LockBusyError(
                    f"another process has held {path} for {wait_seconds:.0f} s",
                    f"wait for the other `levada cluster` command, or find it with `fuser {path}`",
                ) from None
        if not waited:
            waited = True
            on_wait()
        time.sleep(_POLL_SECONDS)
