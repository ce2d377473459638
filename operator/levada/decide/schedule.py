"""Schedules: this version keeps and checks them, and starts nothing by them. Each one is told so.

A schedule that looks accepted and never fires is the worst of answers, so the Ready condition and an Event say it.
"""

from datetime import datetime
from typing import Final

from levada.decide.deployment import ConditionPlan
from levada.decide.facts import ScheduleView
from levada.decide.readiness import Verdict, ready_patch

NOT_SERVED: Final = Verdict(
    ok=False,
    reason="NotServed",
    message=(
        "This version of the operator starts no runs by schedules. Start them with `levada deployment run NAME`, "
        "or let a Kubernetes CronJob create the FlowRun."
    ),
)


def decide_schedule(schedule: ScheduleView, now: datetime) -> ConditionPlan:
    """Say on the Schedule that nothing will start."""
    return ConditionPlan(*ready_patch(NOT_SERVED, status=schedule.status, generation=schedule.generation, now=now))
