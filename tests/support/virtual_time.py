"""An event loop whose time passes as soon as nobody has anything to do: a minute of waiting takes a millisecond."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Hurried(selectors.SelectSelector):
    """Never sleeps; tells the loop how long it would have slept."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise AssertionError("everybody waits, and nothing will ever happen")
            self.now_s += max(0.0, timeout)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """For coroutines that wait for timers and each other only, not for sockets or threads."""

    def __init__(self) -> None:
        self._hurried = _Hurried()
        super().__init__(self._hurried)

    def time(self) -> float:
        return self._hurried.now_s


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """As asyncio.run, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)
