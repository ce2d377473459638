"""The queue for the slots of one limit: a folder that all processes of this machine share.

```
mutex            held for the moment in which the queue is looked at or changed
queue/7-2-held   the seventh to ask has two slots
queue/9-1-wait   the ninth waits for one
```

Each entry is a file on which its owner holds a lock as long as it lives, so the entry of a process that was killed is told
from a living one without any clock, and removed by whoever looks next. Slots go strictly in the order of asking: nobody
overtakes, so who wants many slots does not starve.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from levada._locks import FileLock, is_locked
from levada._steps import Steps

_MUTEX_POLL_SECONDS: Final = 0.001
_SHORTEST_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.002, 0.1
_POLL_SHARE: Final = 0.02  # of the time that nothing has happened: short waits end at once, long ones cost nothing
_HELD, _WAITING = "held", "wait"


class Entry(NamedTuple):
    """One line of the queue."""

    number: int
    slots: int
    kind: str
    folder: Path

    @property
    def path(self) -> Path:
        """Its file."""
        return self.folder / "queue" / f"{self.number}-{self.slots}-{self.kind}"


class NoRoom(Exception):  # noqa: N818  never leaves this package
    """The slots were not free in time; who has them."""

    def __init__(self, holders: list[str]) -> None:
        super().__init__(", ".join(holders))
        self.holders = holders


class Slots:
    """Some slots of a limit: waited for, then held, then given back. For one use."""

    def __init__(self, folder: Path, count: int, owner: str) -> None:
        self.folder = folder
        self.count = count
        self.owner = owner
        self._number = 0
        self._lock: FileLock | None = None
        self._held = False

    def taking(self, limit: Callable[[], int | None], deadline: float | None) -> Steps[None]:
        """Wait for the slots.

        Args:
            limit: how many there are in all, asked again and again; None: as many as anybody wants.
            deadline: until when to wait, by `time.monotonic`; None: for ever.

        Raises:
            NoRoom: the deadline came first.
        """
        mutex = FileLock(self.folder / "mutex")
        ahead_before, since = -1, time.monotonic()
        try:
            while True:
                ahead = self._ahead()
                if not ahead:
                    while not mutex.try_acquire():
                        yield _MUTEX_POLL_SECONDS
                    try:
                        total = limit()
                        if total is not None:
                            ahead = self._try_to_take(total)
                    finally:
                        mutex.release()
                    if total is None or self._held:
                        return
                now = time.monotonic()
                if deadline is not None and now >= deadline:
                    raise NoRoom(holders(self.folder))
                if ahead != ahead_before:
                    ahead_before, since = ahead, now
                poll = poll_seconds(ahead, now - since)
                yield poll if deadline is None else min(poll, deadline - now)
        finally:
            if not self._held:
                self.release()

    def _ahead(self) -> int:
        """How many wait before this one, by a quick look without the mutex; 0 if it is time for a thorough one."""
        if self._lock is None:
            return 0
        before = [entry for entry in entries_in(self.folder) if entry.kind == _WAITING and entry.number < self._number]
        # Each watches the one just before it, so that a dead one is noticed whichever it is.
        return len(before) if before and is_locked(before[-1].path) else 0

    def _try_to_take(self, total: int) -> int:
        """Take the slots if it is their turn and they are free. Called with the mutex.

        Returns:
            How many wait before this one.
        """
        entries = living(self.folder)
        if self._lock is None:
            self._number = max((entry.number for entry in entries), default=0) + 1
            self._lock = self._entered()
        ahead = sum(entry.kind == _WAITING and entry.number < self._number for entry in entries)
        used = sum(entry.slots for entry in entries if entry.kind == _HELD)
        if not ahead and used + self.count <= total:
            held = self._path(_HELD)
            self._lock.path.rename(held)
            self._lock.path = held
            self._held = True
        return ahead

    def _entered(self) -> FileLock:
        lock = FileLock(self._path(_WAITING))
        taken = lock.try_acquire()
        assert taken, "the number is new and the mutex is held, so nobody else has this file"
        lock.write(self.owner.encode())
        return lock

    def _path(self, kind: str) -> Path:
        return Entry(self._number, self.count, kind, self.folder).path

    def release(self) -> None:
        """Give them back, or leave the queue."""
        lock, self._lock = self._lock, None
        # In a forked child the lock is the parent's, and not held here.
        if lock is not None and lock.is_held:
            lock.path.unlink(missing_ok=True)
            lock.release()


def poll_seconds(ahead: int, quiet_seconds: float) -> float:
    """How long to wait before looking again: the closer to the turn and the livelier the queue, the shorter."""
    by_place = _SHORTEST_POLL_SECONDS * (ahead + 1)
    return min(_LONGEST_POLL_SECONDS, max(by_place, _POLL_SHARE * quiet_seconds))


def entries_in(folder: Path) -> list[Entry]:
    """The queue, in order."""
    try:
        names = os.listdir(folder / "queue")  # noqa: PTH208  who waits looks often; Paths would cost more than all the rest
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        number, _, rest = name.partition("-")
        slots, _, kind = rest.partition("-")
        if number.isdecimal() and slots.isdecimal() and kind in {_HELD, _WAITING}:
            found.append(Entry(int(number), int(slots), kind, folder))
    return sorted(found)


def living(folder: Path) -> list[Entry]:
    """The entries whose owners live; the others are removed. Called with the mutex."""
    found = []
    for entry in entries_in(folder):
        if is_locked(entry.path):
            found.append(entry)
        else:
            entry.path.unlink(missing_ok=True)
    return found


def holders(folder: Path) -> list[str]:
    """Who has slots now, in words."""
    found = []
    for entry in entries_in(folder):
        if entry.kind == _HELD and is_locked(entry.path):
            try:
                owner = entry.path.read_text(encoding="utf-8")
            except OSError:
                continue  # given back between the two looks
            found.append(f"{owner} has {entry.slots}")
    return found


def used_slots(folder: Path) -> int:
    """How many slots are taken now."""
    return sum(entry.slots for entry in entries_in(folder) if entry.kind == _HELD and is_locked(entry.path))
