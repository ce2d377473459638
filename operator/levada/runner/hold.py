"""Holding the flow back until its time, in a pod that was started early: so the flow starts on time and not a pod start later.

Everything is loaded before: code, libraries, what the engine needs for its first step. What is left at the moment itself is one call.
"""

import importlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

# Clocks that are set while we wait are noticed within this; the last stretch is one sleep, which ends to the millisecond.
STRETCH_S: Final = 0.5
# What the engine loads only when a flow is async or submits tasks: 20 ms.
_USED_SOON: Final = ("asyncio", "concurrent.futures.thread")


def warm_up() -> None:
    """Load what the first step of the flow may load."""
    for name in _USED_SOON:
        importlib.import_module(name)


def hold_until(
    moment: datetime,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Wait until a moment on the clock of the wall; return the seconds that it took.

    A signal that ends the run interrupts the wait, as it would the flow.
    """
    begun = time.perf_counter()
    while (left_s := (moment - now()).total_seconds()) > 0:
        sleep(min(left_s, STRETCH_S) if left_s <= STRETCH_S or left_s > 2 * STRETCH_S else left_s / 2)
    return time.perf_counter() - begun
