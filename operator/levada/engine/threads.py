"""Threads for submitted tasks: as many as there is work to wait for, kept for the next task.

A task's thread is reused, so a submitted task costs a queue entry and no thread. A worker that waits for another task, or
whose task was abandoned by its timeout, does not count against the limit, so a limited pool cannot wait for itself.
All threads are daemons: the end of the program never waits for a task that nobody can stop.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

DEFAULT_LIMIT = 512
Job = Callable[[], None]


class ThreadPool:
    """Runs jobs in daemon threads."""

    def __init__(self, limit: int = DEFAULT_LIMIT, name: str = "levada") -> None:
        self.limit = limit
        self.name = name
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._threads = 0
        self._uncounted = 0
        self._closed = False

    def put(self, job: Job) -> None:
        """Run a job as soon as a thread is free. Jobs must not raise."""
        self._queue.put(job)
        if self._queue.qsize() > self._idle:
            self._grow()

    def _grow(self) -> None:
        """Start one more thread, if the limit allows it."""
        with self._lock:
            if self._closed or self._threads - self._uncounted >= self.limit:
                return
            self._threads += 1
            number = self._threads
        # `start` waits until the thread runs, which lets the other workers take jobs meanwhile.
        threading.Thread(target=self._work, name=f"{self.name}-{number}", daemon=True).start()

    def _work(self) -> None:
        ident = threading.get_ident()
        _workers[ident] = worker = Worker(self)
        lock = self._lock
        try:
            while True:
                with lock:
                    self._idle += 1
                job = self._queue.get()
                with lock:
                    self._idle -= 1
                if job is None:
                    return
                job()
                del job  # its arguments must not live on while the thread is idle
                if worker.abandoned:
                    worker.abandoned = False
                    with lock:
                        self._uncounted -= 1
        finally:
            worker.close()
            _workers.pop(ident, None)
            with lock:
                self._threads -= 1

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """The calling worker waits for something: let another thread take its place meanwhile."""
        with self._lock:
            self._uncounted += 1
        if self._queue.qsize() > self._idle:
            self._grow()
        try:
            yield
        finally:
            with self._lock:
                self._uncounted -= 1

    def close(self) -> None:
        """Let the threads end once the queue is empty."""
        with self._lock:
            self._closed = True
            count = self._threads
        for _ in range(count):
            self._queue.put(None)


class Worker:
    """What belongs to one thread of a pool."""

    __slots__ = ("_loop", "abandoned", "pool")

    def __init__(self, pool: ThreadPool) -> None:
        self.pool = pool
        self.abandoned = False
        self._loop: Any = None

    @property
    def loop(self) -> Any:
        """An asyncio.Runner for the async tasks of this thread, made when first needed."""
        if self._loop is None:
            import asyncio

            self._loop = asyncio.Runner()
        return self._loop

    def abandon(self) -> None:
        """Its task is over although its code still runs: let another thread take its place until it returns."""
        self.abandoned = True
        with self.pool._lock:
            self.pool._uncounted += 1
        if self.pool._queue.qsize() > self.pool._idle:
            self.pool._grow()

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
