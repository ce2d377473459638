"""A limit on writes that knows what matters: a token bucket whose waiters are served by lane, then in order.

For a client that shares its API server with others. What ends a run is written first, Events last: under a limit they are
what can wait. Nothing waits while there are tokens.
"""

import asyncio
import heapq
import time
from collections.abc import Callable
from enum import IntEnum


class Lane(IntEnum):
    """Who goes first when tokens are short."""

    URGENT = 0
    NORMAL = 1
    COURTESY = 2


class TokenBucket:
    """Holds up to `burst` tokens and gains `rate` a second. Pure: the caller brings the time, which must not go backwards.

    Raises:
        ValueError: a bucket that would never hold a whole token.
    """

    def __init__(self, rate: float, burst: float, *, now_s: float) -> None:
        if rate <= 0 or burst < 1:
            raise ValueError(f"a limit needs a rate above 0 and a burst of at least 1, not {rate:g} and {burst:g}")
        self.rate, self.burst = rate, burst
        self._tokens, self._at_s = burst, now_s

    def take(self, now_s: float) -> bool:
        """Take a token, if there is a whole one."""
        self._fill(now_s)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def wait_s(self, now_s: float) -> float:
        """Seconds until there is a whole token."""
        self._fill(now_s)
        return max(0.0, (1 - self._tokens) / self.rate)

    def _fill(self, now_s: float) -> None:
        if now_s > self._at_s:
            self._tokens = min(self.burst, self._tokens + (now_s - self._at_s) * self.rate)
            self._at_s = now_s


class WriteLimiter:
    """Lets writes pass at `rate` a second, `burst` of them at once. Use from one event loop only."""

    def __init__(self, rate: float, burst: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._bucket = TokenBucket(rate, burst, now_s=clock())
        self._waiting: list[tuple[Lane, int, asyncio.Future[None]]] = []
        self._arrivals = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many writes wait for a token."""
        return sum(not turn.done() for _, _, turn in self._waiting)

    async def acquire(self, lane: Lane = Lane.NORMAL) -> None:
        """Return when it is this write's turn. Whoever is cancelled while waiting has taken no token."""
        if not self._waiting and self._bucket.take(self._clock()):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrivals += 1
        heapq.heappush(self._waiting, (lane, self._arrivals, turn))
        self._serve()
        await turn

    def _serve(self) -> None:
        """Hand out what there is, and come back when there is more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            if self._waiting[0][2].done():  # cancelled
                heapq.heappop(self._waiting)
            elif self._bucket.take(self._clock()):
                heapq.heappop(self._waiting)[2].set_result(None)
            else:
                wait_s = self._bucket.wait_s(self._clock())
                self._timer = asyncio.get_running_loop().call_later(wait_s, self._serve)
                return
