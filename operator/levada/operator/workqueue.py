"""A queue of keys to look at, after client-go's: level-triggered work, not messages.

A key is in it once however often it is added. A key that is added while a worker has it is handed out again after that
worker is done, never to a second worker at the same time; so no reconcile needs a lock. Failures come back later and later.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

BACKOFF_BASE_S: Final = 0.05
BACKOFF_CAP_S: Final = 30.0


class WorkQueue(Generic[K]):
    """Use from one event loop only. `on_wait` is told how many seconds each key has waited for its worker."""

    def __init__(self, *, on_wait: Callable[[float], None] = lambda seconds: None) -> None:
        self._ready: deque[K] = deque()
        self._dirty: set[K] = set()  # to be looked at: in `_ready`, or with a worker and changed since
        self._working: dict[K, float] = {}  # since when, in order
        self._since: dict[K, float] = {}  # when a key of `_ready` came there
        self._done_at_s = time.monotonic()
        self._on_wait = on_wait
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._getters: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        """Keys that wait for a worker."""
        return len(self._ready)

    @property
    def working(self) -> int:
        """Keys that workers have."""
        return len(self._working)

    @property
    def oldest_wait_s(self) -> float:
        """How long the key that is next has waited; 0 if none waits."""
        return time.monotonic() - self._since[self._ready[0]] if self._ready else 0.0

    @property
    def longest_work_s(self) -> float:
        """How long the slowest worker has had its key; 0 if all are idle."""
        return time.monotonic() - next(iter(self._working.values())) if self._working else 0.0

    @property
    def slowest(self) -> K | None:
        """The key that a worker has had for longest."""
        return next(iter(self._working), None)

    @property
    def idle_s(self) -> float:
        """Seconds since a worker last finished with a key."""
        return time.monotonic() - self._done_at_s

    def begin(self) -> None:
        """The workers begin: what has waited until now was not theirs."""
        now_s = self._done_at_s = time.monotonic()
        self._since = dict.fromkeys(self._since, now_s)

    def add(self, key: K) -> None:
        """Have the key looked at as soon as possible."""
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._working:
            self._line_up(key)

    def _line_up(self, key: K) -> None:
        self._ready.append(key)
        self._since[key] = time.monotonic()
        self._wake_one()

    def add_after(self, key: K, delay_s: float) -> None:
        """Have the key looked at after a while. Of several such wishes the earliest counts."""
        if delay_s <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + delay_s:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(delay_s, self._due, key)

    def add_failed(self, key: K) -> float:
        """Have the key looked at again after a failure; returns the seconds until then."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        full_s: float = min(BACKOFF_BASE_S * 2.0 ** min(failures - 1, 30), BACKOFF_CAP_S)
        delay_s = full_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret
        self.add_after(key, delay_s)
        return delay_s

    def forget(self, key: K) -> None:
        """The key is well: the next failure starts with the shortest delay."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """The next key. The caller must call `done` with it."""
        while not self._ready:
            getter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                if not getter.cancelled() and self._ready:
                    self._wake_one()  # the wake-up was ours, and we cannot take it
                raise
        key = self._ready.popleft()
        self._dirty.discard(key)
        now_s = time.monotonic()
        self._working[key] = now_s
        self._on_wait(now_s - self._since.pop(key))
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()  # this look decides anew when the next one is due
        return key

    def done(self, key: K) -> None:
        """The worker has finished with the key."""
        self._working.pop(key, None)
        self._done_at_s = time.monotonic()
        if key in self._dirty:
            self._line_up(key)

    def close(self) -> None:
        """Cancel all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def _wake_one(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return
