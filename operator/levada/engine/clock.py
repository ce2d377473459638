"""The engine's time: what is said in states, waited for before a retry, and compared with a cache's expiry.

Tests put another clock in its place (`levada.testing.FakeClock`); everything else never notices.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A source of time."""

    def now(self) -> datetime:
        """The present moment, in UTC."""

    def monotonic(self) -> float:
        """Seconds that only ever grow."""

    def skips(self, seconds: float) -> bool:
        """Whether a wait of so many seconds takes no real time; the clock has then moved on by itself."""


class RealClock:
    """The machine's own time."""

    def now(self) -> datetime:
        """The present moment, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that only ever grow."""
        return time.monotonic()

    def skips(self, seconds: float) -> bool:
        """Real waits take real time."""
        return False


_clock: Clock = RealClock()


def now() -> datetime:
    """The present moment, in UTC."""
    return _clock.now()


def monotonic() -> float:
    """Seconds that only ever grow."""
    return _clock.monotonic()


def skips(seconds: float) -> bool:
    """Whether a wait of so many seconds takes no real time."""
    return _clock.skips(seconds)


@contextmanager
def use(clock: Clock) -> Iterator[None]:
    """Let another clock count inside the block, for the whole process."""
    global _clock  # noqa: PLW0603  a process has one time
    before, _clock = _clock, clock
    try:
        yield
    finally:
        _clock = before
