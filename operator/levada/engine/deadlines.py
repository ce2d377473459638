"""Ending code that takes too long.

Python cannot stop a thread. What can be done, and is done here by one watcher thread for the whole process:

- Code in the **main thread** is interrupted by a signal (SIGALRM): a sleep, a wait or a read ends at once.
- Code in **another thread** gets an exception at its next Python instruction. While it is inside a C call (a long query, a
  `time.sleep`) that comes only after the call. A submitted task is therefore *abandoned* first: its run is over and its
  successors go on, while the thread ends whenever it does; what it returns then is ignored. The exception is held back
  while the thread uses no CPU time at all: CPython keeps all threads on a slow path while one has an exception to come
  (and with a tracer, such as coverage, in 3.11 in an endless loop).
- Coroutines need none of this: asyncio cancels them (`within_async`).

A deadline costs nothing to runs that have none.
"""

import heapq
import itertools
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, Final, TypeVar

from levada.engine import lost, signals, threads

R = TypeVar("R")

_POLL_SECONDS: Final = 0.05
_MAIN_POLL_SECONDS: Final = 0.5
_AGAIN_SECONDS: Final = 0.002
_MAX_DEFERRALS: Final = 100
_SWEEP_EVERY: Final = 1024
_ABSORB_STEPS: Final = 10_000


class TooLate(Exception):  # noqa: N818  private to the engine: it becomes RunTimedOut
    """The code was not done in time."""


class Expired(BaseException):
    """Raised into the code that takes too long. No `except Exception` swallows it."""


class _Entry:
    """One piece of code with a deadline."""

    __slots__ = (
        "cpu_seconds",
        "deferrals",
        "finished",
        "fired",
        "guard",
        "looks",
        "on_expiry",
        "raised",
        "thread_id",
        "when",
    )

    def __init__(self, when: float, thread_id: int, on_expiry: Callable[[], None] | None) -> None:
        self.when = when
        self.thread_id = thread_id
        self.on_expiry = on_expiry
        # Held while `fired` is set and the code interrupted, or while it is marked finished. A plain lock: the interrupt may
        # come at any instruction of the thread, and only a lock whose `with` is C code is never left behind by it.
        self.guard = threading.Lock()
        self.fired = False
        self.raised = False
        self.finished = False
        self.deferrals = 0  # because the moment was delicate
        self.looks = 0  # since the deadline
        self.cpu_seconds = -1.0  # of the thread, when it was last looked at after the deadline


class _Watcher:
    """One daemon thread that sleeps until the next deadline. Nobody else touches its heap."""

    def __init__(self) -> None:
        self.new: SimpleQueue[_Entry] = SimpleQueue()
        self.starting = threading.Lock()
        self.started = False

    def watch(self, entry: _Entry) -> None:
        """Take care of an entry from now on."""
        self.new.put(entry)
        if not self.started:
            with self.starting:
                if not self.started:
                    threading.Thread(target=self._loop, name="levada-deadlines", daemon=True).start()
                    self.started = True

    def _loop(self) -> None:
        heap: list[tuple[float, int, _Entry]] = []
        order = itertools.count(1)
        while True:
            left = max(0.0, heap[0][0] - time.monotonic()) if heap else None
            try:
                entry = self.new.get(timeout=left)
            except Empty:
                entry = heapq.heappop(heap)[2]
                if not _expire(entry):
                    again = min(_AGAIN_SECONDS * entry.looks, _POLL_SECONDS)
                    heapq.heappush(heap, (time.monotonic() + again, next(order), entry))
                continue
            number = next(order)
            heapq.heappush(heap, (entry.when, number, entry))
            if number % _SWEEP_EVERY == 0:  # most code ends long before its deadline
                heap = [item for item in heap if not item[2].finished]
                heapq.heapify(heap)


def _expire(entry: _Entry) -> bool:
    """Interrupt code whose deadline has come; whether that is done. If not, it is tried again."""
    if entry.finished:
        return True
    if not entry.fired:
        entry.fired = True
        if entry.on_expiry is not None:
            entry.on_expiry()
    return _interrupt(entry)


def _interrupt(entry: _Entry) -> bool:
    """Interrupt the code if it still runs and the moment is good; whether that is done."""
    with entry.guard:
        if entry.finished or entry.raised:
            return True
        entry.looks += 1
        if entry.deferrals < _MAX_DEFERRALS and _is_delicate(sys._current_frames().get(entry.thread_id)):
            entry.deferrals += 1
            return False
        if entry.thread_id == threading.main_thread().ident:
            signal.pthread_kill(entry.thread_id, signal.SIGALRM)
            return False  # the handler decides once more whether the moment is good; it may not be, so look again
        if _is_asleep(entry):
            return False
        entry.raised = True
        _raise_in(entry.thread_id)
        return True


def _is_asleep(entry: _Entry) -> bool:
    """Whether the entry's thread has used no CPU time since the last look, or this is the first one."""
    if not hasattr(time, "pthread_getcpuclockid"):  # not on every system; there, the exception is sent at once
        return False
    before, entry.cpu_seconds = entry.cpu_seconds, time.clock_gettime(time.pthread_getcpuclockid(entry.thread_id))
    return before < 0 or entry.cpu_seconds == before


# Code that holds a lock which other threads need, and is not safe against an exception at any instruction.
_DELICATE_FUNCTIONS: Final = {
    threading.__file__: frozenset({"__enter__", "__exit__", "start", "set", "notify", "notify_all"}),
    threads.__file__: frozenset({"put", "hurry", "shift", "uncounted"}),
    signals.__file__: frozenset({"_raise"}),  # a handler that is about to raise something more important
    lost.__file__: frozenset({"_hook"}),
    __file__.replace("deadlines.py", "run.py"): frozenset({"on_signal"}),
}
_DEEP: Final = 8


def _is_delicate(frame: FrameType | None) -> bool:
    """Whether an interrupt here could leave a lock of the standard library or of the pool held for ever."""
    for _ in range(_DEEP):
        if frame is None:
            return False
        code = frame.f_code
        if code.co_filename == logging.__file__ or code.co_name in _DELICATE_FUNCTIONS.get(code.co_filename, ()):
            return True
        frame = frame.f_back
    return False


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
    fired = [entry for entry in _entries.get(threading.get_ident(), ()) if entry.fired]
    due = [entry for entry in fired if not entry.raised and not entry.finished]
    if due:
        if due[0].deferrals < _MAX_DEFERRALS and _is_delicate(frame):
            due[0].deferrals += 1
            return
        for entry in due:
            entry.raised = True
        raise Expired
    if not fired and callable(_previous_handler):
        _previous_handler(signum, frame)


def _fire_again(error: BaseException) -> None:
    """The interrupt of a deadline of this thread was thrown away by Python: interrupt the code once more."""
    for entry in _entries.get(threading.get_ident(), ()):
        if entry.raised and not entry.finished:
            entry.raised = False
            _watcher.new.put(entry)


def poll_seconds() -> float | None:
    """How long a wait in this thread may block at a time; None: for ever.

    In the main thread a signal ends the wait, but not one that comes in the instant before the lock blocks: Python has noted it
    then and acts on it after the wait. So that is made in steps too, in long ones.
    """
    if threading.current_thread() is threading.main_thread():
        return _MAIN_POLL_SECONDS
    return _POLL_SECONDS if _entries.get(threading.get_ident()) else None


def raise_if_passed() -> None:
    """Raise in this thread if a deadline of its code has passed: for waits that use no CPU time between two looks."""
    for entry in _entries.get(threading.get_ident(), ()):
        if entry.fired and not entry.finished:
            raise Expired


def waited(take: Callable[[float], bool], timeout: float | None) -> bool:
    """Wait in `take(seconds)`, where -1 is for ever, until it succeeds; whether it did within `timeout` seconds.

    A pool puts another thread in the place of this one meanwhile. Where a deadline or a signal may have to end the wait, it is
    made in steps.
    """
    with threads.uncounted():
        poll = poll_seconds()
        if poll is None:
            return take(-1 if timeout is None else max(0.0, timeout))
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = poll if end is None else min(poll, max(0.0, end - time.monotonic()))
            if take(left):
                return True
            raise_if_passed()
            if end is not None and time.monotonic() >= end:
                return False


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
    interrupted = False
    try:
        _enter(entry)
        try:
            value = code()
        finally:
            _finish(entry)
    except Expired as error:
        interrupted = True
        if isinstance(error.__context__, KeyboardInterrupt):  # it came while that was on its way, and must not hide it
            _leave(entry)
            raise error.__context__ from None
    except KeyboardInterrupt:
        _leave(entry)
        raise
    except BaseException:
        if not entry.fired:
            _leave(entry)
            raise
    _leave(entry)
    if entry.fired:
        _absorb()
        _pass_on(thread_id)
        raise TooLate
    if interrupted:
        raise Expired  # an outer deadline of this thread: it is caught there
    return value


def _enter(entry: _Entry) -> None:
    global _previous_handler  # noqa: PLW0603  a process has one handler for a signal
    lost.retry_when_lost(Expired, _fire_again)
    entries = _entries.setdefault(entry.thread_id, [])
    entries.append(entry)
    if len(entries) == 1 and threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGALRM, _on_alarm)
        _previous_handler = None if before is _on_alarm else before
    _watcher.watch(entry)


def _finish(entry: _Entry) -> None:
    """From here on, the entry interrupts nobody. An interrupt on its way may still arrive."""
    with entry.guard:
        entry.finished = True


def _leave(entry: _Entry) -> None:
    """End an entry's watch."""
    _finish(entry)
    entry.on_expiry = None
    entries = _entries.get(entry.thread_id)
    if entries is None:
        return  # an interrupt came before the watch had begun
    entries[:] = [other for other in entries if not other.finished]
    if not entries:
        del _entries[entry.thread_id]
        if callable(_previous_handler) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGALRM, _previous_handler)
        # Otherwise our handler stays: the default action, which ends the process, must not meet an alarm that comes late.


def _absorb() -> None:
    """Let an exception that is still on its way to this thread arrive here, where it does no harm."""
    if threading.current_thread() is threading.main_thread():
        return  # the handler raises only while an entry is unfinished
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
