"""Locks between the processes of one machine, in files.

The kernel drops a lock with the process that held it, however that ended: nothing needs to be cleaned up after `kill -9`.
"""

import os
import weakref
from io import FileIO
from pathlib import Path

_held: "weakref.WeakSet[FileLock]" = weakref.WeakSet()


class FileLock:
    """A lock on a file, for one holder at a time: thread or process. Not re-entrant."""

    __slots__ = ("__weakref__", "_file", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: FileIO | None = None

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it; whether it was taken. The file and its folder are made on demand."""
        import fcntl

        try:
            file = FileIO(self.path, "r+", opener=_opened)
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = FileIO(self.path, "r+", opener=_opened)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        except BaseException:
            file.close()
            raise
        self._file = file
        _held.add(self)
        if _is_current(file, self.path):
            return True
        self.release()  # the file was removed meanwhile, so this lock would keep nobody out
        return False

    @property
    def is_held(self) -> bool:
        """Whether this object holds it."""
        return self._file is not None

    def write(self, data: bytes) -> None:
        """Put a few bytes at the beginning of the file, over what was there: what the holder wants others to know.

        In place: a truncated or replaced file costs a millisecond on ext4.
        """
        if self._file is not None:
            os.pwrite(self._file.fileno(), data, 0)

    def read(self) -> bytes:
        """What the file holds, of the first 4 KiB. Nothing, if the lock is not held."""
        return b"" if self._file is None else os.pread(self._file.fileno(), 4096, 0)

    def release(self) -> None:
        """Give it back. Nothing happens if it is not held."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o666)


def _is_current(file: FileIO, path: Path) -> bool:
    """Whether the open file still is the one at the path."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    own = os.fstat(file.fileno())
    return (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino)


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock now. A file that is not there is not locked."""
    import fcntl

    try:
        file = FileIO(path, "r")
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def remove_if_free(path: Path) -> None:
    """Remove the file unless somebody holds its lock. To be called by one at a time.

    Two who remove could hit a file that was made and locked between the look of one and the deed of the other. Whoever takes
    the lock in just this moment notices that the file is gone, and makes a new one.
    """
    import fcntl

    try:
        file = FileIO(path, "r")
    except FileNotFoundError:
        return
    with file:
        try:
            # A shared lock keeps a new holder out until the file is gone, and does not look like a holder to `is_locked`.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if _is_current(file, path):
            path.unlink(missing_ok=True)


def _forget_after_fork() -> None:
    """A forked child shares the open files of its parent: without this, it would hold the parent's locks as well."""
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_forget_after_fork)
