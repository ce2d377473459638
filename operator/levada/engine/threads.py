"""Threads for submitted tasks: as many as there is work that waits, kept for the next task.

A task's thread is reused, so a submitted task costs a queue entry and no thread. A few threads start at once. More follow while
jobs are waiting and the threads are held up by jobs that take long: thousands of tiny tasks run in a handful of threads, a
hundred downloads in a hundred.

A worker that waits for another task, or whose task was abandoned by its timeout, does not count against the limit, so a
limited pool cannot wait for itself. All threads are daemons: the end of the program never waits for a task that nobody
can stop.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from queue import Empty, SimpleQueue
from typing import Any

DEFAULT_LIMIT = 512
STARTED_AT_ONCE = 4
IDLE_SECONDS = 30.0
_TICK_SECONDS = 0.005
_BUSY_SHARE = 0.7
_BUSY_TICKS = 20
Job = Callable[[], None]


class ThreadPool:
    """Runs jobs in daemon threads."""

    def __init__(self, limit: int = DEFAULT_LIMIT, name: str = "levada", *, idle_seconds: float = IDLE_SECONDS) -> None:
        self.limit = limit
        self.name = name
        self.idle_seconds = idle_seconds
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._threads = 0
        self._uncounted = 0
        self._taken = 0
        self._closed = False
        self._foreman: threading.Thread | None = None
        self._foreman_awake = False
        self._foreman_calls: SimpleQueue[None] = SimpleQueue()

    def put(self, job: Job) -> None:
        """Run a job as soon as a thread is free. Jobs must not raise."""
        self._queue.put(job)
        self.hurry()

    def hurry(self) -> None:
        """If jobs wait for threads, let the foreman see whether more threads are needed."""
        if not self._foreman_awake and self._is_short():
            self._foreman_awake = True
            self._foreman_calls.put(None)
            if self._foreman is None:
                self._hire_foreman()

    def _hire_foreman(self) -> None:
        with self._lock:
            if self._foreman is None:
                self._foreman = threading.Thread(target=self._watch, name=f"{self.name}-foreman", daemon=True)
                self._foreman.start()

    def _waiting(self) -> int:
        """Jobs for which no thread is idle."""
        return self._queue.qsize() - self._idle

    def _is_short(self) -> bool:
        """Whether jobs wait and the limit allows one more thread."""
        return self._waiting() > 0 and self._threads - self._uncounted < self.limit and not self._closed

    def _watch(self) -> None:
        """The foreman, who starts all threads: an interrupt of the code that submits a job cannot harm that.

        While threads do not get through the jobs because they wait for something else, they are doubled each time. If the
        process keeps its core busy, more threads only take it from each other, so they come one by one.
        """
        busy_ticks = 0
        while not self._closed:
            if not self._is_short():
                # In this order: a job put after the look has the foreman called.
                self._foreman_awake = False
                if not self._is_short():
                    self._foreman_calls.get()
                busy_ticks = 0
                continue
            if self._threads - self._uncounted < min(STARTED_AT_ONCE, self.limit):
                self._grow()
                continue
            taken, wall, cpu = self._taken, time.monotonic(), time.process_time()
            time.sleep(_TICK_SECONDS)
            if self._taken - taken >= self._threads:
                continue
            slept = time.monotonic() - wall  # longer than a tick if others hold the interpreter's lock
            busy = slept > 2 * _TICK_SECONDS or time.process_time() - cpu > _BUSY_SHARE * slept
            busy_ticks = busy_ticks + 1 if busy else 0
            wanted = int(busy_ticks % _BUSY_TICKS == 0) if busy else self._threads
            for _ in range(min(wanted, self._waiting(), self.limit - self._threads + self._uncounted)):
                self._grow()

    def _grow(self) -> None:
        """Start one more thread."""
        with self._lock:
            self._threads += 1
            number = self._threads
        threading.Thread(target=self._work, name=f"{self.name}-{number}", daemon=True).start()

    def _work(self) -> None:
        ident = threading.get_ident()
        _workers[ident] = worker = Worker(self)
        try:
            while (job := self._next_job()) is not None:
                job()
                del job  # its arguments must not live on while the thread is idle
                if worker.abandoned:
                    worker.abandoned = False
                    self.shift(-1)
        finally:
            worker.close()
            _workers.pop(ident, None)
            with self._lock:
                self._threads -= 1

    def _next_job(self) -> Job | None:
        """The next job; None if this thread should end."""
        while True:
            with self._lock:
                self._idle += 1
            try:
                job = self._queue.get(timeout=self.idle_seconds)
            except Empty:
                with self._lock:
                    self._idle -= 1
                # From here on, a new job counts as waiting; one that came before must not be left behind.
                if self._queue.qsize():
                    continue
                return None
            with self._lock:
                self._idle -= 1
                self._taken += 1
            return job

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """The calling worker waits for something: let another thread take its place meanwhile."""
        self.shift(1)
        try:
            yield
        finally:
            self.shift(-1)

    def shift(self, threads: int) -> None:
        """So many threads more (or less) do not count against the limit, because they wait."""
        with self._lock:
            self._uncounted += threads
        if threads > 0:
            self.hurry()

    def close(self) -> None:
        """Let the threads end once the queue is empty."""
        with self._lock:
            self._closed = True
            count = self._threads
        self._foreman_calls.put(None)
        for _ in range(count):
            self._queue.put(None)


class Worker:
    """What belongs to one thread of a pool."""

    __slots__ = ("_loop", "_waits", "abandoned", "pool")

    def __init__(self, pool: ThreadPool) -> None:
        self.pool = pool
        self.abandoned = False
        self._waits = 0
        self._loop: Any = None

    @property
    def loop(self) -> Any:
        """An asyncio.Runner for the async tasks of this thread, made when first needed."""
        if self._loop is None:
            import asyncio

            self._loop = asyncio.Runner()
        return self._loop

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Its task waits for something. Several coroutines of one task may wait at once; that is still one thread."""
        self._waits += 1
        if self._waits == 1:
            self.pool.shift(1)
        try:
            yield
        finally:
            self._waits -= 1
            if not self._waits:
                self.pool.shift(-1)

    def abandon(self) -> None:
        """Its task is over although its code still runs: let another thread take its place until it returns."""
        self.abandoned = True
        self.pool.shift(1)

    def close(self) -> None:
        """Close the event loop, if there is one."""
        if self._loop is not None:
            self._loop.close()


_workers: dict[int, Worker] = {}
_shared: ThreadPool | None = None
_shared_lock = threading.Lock()


def current_worker() -> Worker | None:
    """The worker whose thread the caller is in."""
    return _workers.get(threading.get_ident())


def uncounted() -> AbstractContextManager[None]:
    """The caller waits for something; if it is a worker, another thread takes its place meanwhile."""
    worker = current_worker()
    return nullcontext() if worker is None else worker.uncounted()


def shared_pool() -> ThreadPool:
    """The pool of all runs of this process that bring no runner of their own."""
    global _shared  # noqa: PLW0603  a process has one shared pool
    if _shared is None:
        with _shared_lock:
            if _shared is None:
                _shared = ThreadPool()
    return _shared


def _forget_after_fork() -> None:
    """A forked child has none of its parent's threads."""
    global _shared, _shared_lock  # noqa: PLW0603  see shared_pool
    _shared = None
    _shared_lock = threading.Lock()
    _workers.clear()


os.register_at_fork(after_in_child=_forget_after_fork)
