"""Catching up: which of the ticks that passed while nobody was there still get a run?

A tick that is looked at within `ON_TIME_S` is on time, whatever the policy: a restart of the operator or the change of the leader
is no downtime. A later one is run only within startingDeadlineSeconds, and as catchUp says.
"""

from datetime import datetime
from typing import Final

from levada.decide.definitions import ScheduleView

ON_TIME_S: Final = 30.0
DEADLINE_EXCEEDED: Final = "DeadlineExceeded"
MISSED: Final = "Missed"
CATCH_UP_LIMIT: Final = "CatchUpLimit"
LATE_REASONS: Final = frozenset({DEADLINE_EXCEEDED, MISSED, CATCH_UP_LIMIT})


def skip_reason(schedule: ScheduleView, due: datetime, followers: int, now: datetime) -> str:
    """Why a tick that was due at `due` is too late for a run; empty if it is not.

    Args:
        schedule: catchUp, maxCatchUp and startingDeadlineSeconds are read.
        due: the tick with its jitter.
        followers: how many later ticks are due, too.
        now: the present.
    """
    late_s = (now - due).total_seconds()
    if late_s <= ON_TIME_S:
        return ""
    if late_s > schedule.deadline_s:
        return DEADLINE_EXCEEDED
    if schedule.catch_up == "All":
        return CATCH_UP_LIMIT if followers >= schedule.max_catch_up else ""
    if schedule.catch_up == "Latest" and followers == 0:
        return ""
    return MISSED
