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
            file = FileIO(self.path, "a+")
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = FileIO(self.path, "a+")
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

    def release(self) -> None:
        """Give it back. Nothing happens if it is not held."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


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


def _forget_after_fork() -> None:
    """A forked child shares the open files of its parent: without this, it would hold the parent's locks as well."""
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_forget_after_fork)
