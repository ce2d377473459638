"""Ending code that takes too long.

Python cannot stop a thread. What can be done, and is done here by one watcher thread for the whole process:

- Code in the **main thread** is interrupted by a signal (SIGALRM): a sleep, a wait or a read ends at once.
- Code in **another thread** gets an exception at its next Python instruction. While it is inside a C call (a long query, a
  `time.sleep`) that comes only after the call. A submitted task is therefore *abandoned* first: its run is over and its
  successors go on, while the thread ends whenever it does; what it returns then is ignored.
- Coroutines need none of this: asyncio cancels them (`within_async`).

A deadline costs nothing to runs that have none.
"""

import heapq
import itertools
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any, Final, TypeVar

R = TypeVar("R")

_POLL_SECONDS: Final = 0.05
_ABSORB_STEPS: Final = 10_000


class TooLate(Exception):  # noqa: N818  private to the engine: it becomes RunTimedOut
    """The code was not done in time."""


class Expired(BaseException):
    """Raised into the code that takes too long. No `except Exception` swallows it."""


class _Entry:
    """One piece of code with a deadline."""

    __slots__ = ("finished", "fired", "on_expiry", "thread_id", "when")

    def __init__(self, when: float, thread_id: int, on_expiry: Callable[[], None] | None) -> None:
        self.when = when
        self.thread_id = thread_id
        self.on_expiry = on_expiry
        self.fired = False
        self.finished = False


class _Watcher:
    """One daemon thread that sleeps until the next deadline."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.heap: list[tuple[float, int, _Entry]] = []
        self.order = itertools.count()
        self.started = False

    def watch(self, entry: _Entry) -> None:
        """Take care of an entry from now on."""
        with self.changed:
            heapq.heappush(self.heap, (entry.when, next(self.order), entry))
            if not self.started:
                self.started = True
                threading.Thread(target=self._loop, name="levada-deadlines", daemon=True).start()
            elif self.heap[0][2] is entry:
                self.changed.notify()

    def _loop(self) -> None:
        while True:
            with self.changed:
                while not self.heap or self.heap[0][0] > time.monotonic():
                    left = self.heap[0][0] - time.monotonic() if self.heap else None
                    self.changed.wait(left)
                entry = heapq.heappop(self.heap)[2]
                expired = not entry.finished
                entry.fired = expired
            if expired:
                self._expire(entry)

    def _expire(self, entry: _Entry) -> None:
        if entry.on_expiry is not None:
            entry.on_expiry()
        with self.changed:
            if entry.finished:
                return  # it ended by itself in the meantime: there is nobody to interrupt
            if entry.thread_id == threading.main_thread().ident:
                signal.pthread_kill(entry.thread_id, signal.SIGALRM)
            else:
                _raise_in(entry.thread_id)


_watcher = _Watcher()
_entries: dict[int, list[_Entry]] = {}  # by thread; each thread changes only its own list
_previous_handler: Any = None


def _forget_after_fork() -> None:
    """A forked child has no watcher thread and none of the parent's deadlines."""
    global _watcher  # noqa: PLW0603  the process's own watcher
    _watcher = _Watcher()
    _entries.clear()


os.register_at_fork(after_in_child=_forget_after_fork)


def _raise_in(thread_id: int) -> None:
    """Let another thread raise Expired at its next instruction."""
    import ctypes

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(Expired))


def _on_alarm(signum: int, frame: FrameType | None) -> None:
    """The main thread's SIGALRM. One that is not ours goes to whoever had the signal before."""
    if any(entry.fired and not entry.finished for entry in _entries.get(threading.get_ident(), ())):
        raise Expired
    if callable(_previous_handler):
        _previous_handler(signum, frame)


def poll_seconds() -> float | None:
    """How long a wait in this thread may block at a time; None: for ever, a signal ends it."""
    entries = _entries.get(threading.get_ident())
    if not entries or threading.current_thread() is threading.main_thread():
        return None
    return _POLL_SECONDS


def within(seconds: float, code: Callable[[], R], on_expiry: Callable[[], None] | None = None) -> R:
    """Run code in this thread, for at most so many seconds.

    Args:
        seconds: the limit.
        code: what to run.
        on_expiry: called by the watcher thread at the deadline, before the code is interrupted.

    Raises:
        TooLate: the deadline came first.
    """
    thread_id = threading.get_ident()
    entry = _Entry(time.monotonic() + seconds, thread_id, on_expiry)
    landed = False
    try:
        _enter(entry)
        try:
            value = code()
        finally:
            _leave(entry)
    except Expired:
        landed = True
        _leave(entry)
    except KeyboardInterrupt:
        _leave(entry)
        raise
    except BaseException:
        _leave(entry)
        if not entry.fired:
            raise
        _absorb(entry)
        raise TooLate from None
    if entry.fired:
        _absorb(entry)
        _pass_on(thread_id)
        raise TooLate
    if landed:
        raise Expired  # an outer deadline of this thread: it is caught there
    return value


def _enter(entry: _Entry) -> None:
    global _previous_handler  # noqa: PLW0603  a process has one handler for a signal
    entries = _entries.setdefault(entry.thread_id, [])
    entries.append(entry)
    if len(entries) == 1 and threading.current_thread() is threading.main_thread():
        _previous_handler = signal.signal(signal.SIGALRM, _on_alarm)
    _watcher.watch(entry)


def _leave(entry: _Entry) -> None:
    """End an entry's watch. May be called again, when an interrupt came in between."""
    with _watcher.changed:
        entry.finished = True
    entries = _entries.get(entry.thread_id)
    if entries is None or entry not in entries:
        return
    entries.remove(entry)
    if not entries:
        del _entries[entry.thread_id]
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGALRM, _previous_handler if _previous_handler is not None else signal.SIG_DFL)


def _absorb(entry: _Entry) -> None:
    """Let an exception that is still on its way to this thread arrive here, where it does no harm."""
    if threading.current_thread() is threading.main_thread():
        return  # the handler raises only while the entry is unfinished
    try:
        for _ in range(_ABSORB_STEPS):
            pass
    except Expired:
        return


def _pass_on(thread_id: int) -> None:
    """Only one exception can be on its way to a thread: if an outer deadline has passed as well, raise for it."""
    if any(entry.fired for entry in _entries.get(thread_id, ())):
        raise Expired


async def within_async(seconds: float, awaitable: Awaitable[R]) -> R:
    """Await something for at most so many seconds; it is cancelled then.

    Raises:
        TooLate: the deadline came first.
    """
    import asyncio

    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            return await awaitable
    except TimeoutError:
        if scope.expired():
            raise TooLate from None
        raise
