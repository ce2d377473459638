"""Overlap: what a tick does while runs of earlier ticks still go on, as concurrencyPolicy says.

Allow    run beside them
Forbid   skip the tick
Replace  cancel them, and start when they have ended
Queue    wait for them, oldest first

The last two create the run at once; it waits in admission for the earlier ones of its schedule. So at most one runs at a time, and
what waits is there to be seen and cancelled.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from levada.decide.facts import RunView
from levada.resources.phases import is_terminal

WAITING: Final = "WaitingForEarlierRun"
STILL_RUNNING: Final = "StillRunning"
WAITING_POLICIES: Final = frozenset({"Replace", "Queue"})


def earlier(active: Iterable[RunView], tick: datetime) -> list[RunView]:
    """The runs of earlier ticks that have not ended, oldest first."""
    found = [
        run for run in active if run.scheduled_at is not None and run.scheduled_at < tick and not is_terminal(run.phase)
    ]
    return sorted(found, key=lambda run: (run.scheduled_at, run.name))


def to_cancel(policy: str, before: Iterable[RunView]) -> tuple[str, ...]:
    """The runs that the new one replaces."""
    return tuple(run.name for run in before if not run.cancel) if policy == "Replace" else ()


def first_to_wait_for(policy: str, active: Iterable[RunView], run: RunView) -> str:
    """The run that has to end before this one may start; empty if there is none."""
    if policy not in WAITING_POLICIES or run.scheduled_at is None:
        return ""
    before = earlier(active, run.scheduled_at)
    return before[0].name if before else ""
