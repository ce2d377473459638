"""The FlowRun of a tick: its name, which makes it the only one, and its manifest.

Whoever starts a run for a tick (the schedule itself, a backfill) names it here, so the API server lets only the first one be.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from levada.decide.definitions import ScheduleView
from levada.decide.templates import render
from levada.decide.times import stamp
from levada.resources import names
from levada.resources.kinds import FLOW_RUNS

_TIME: Final = "%Y%m%dt%H%M%Sz"
_STEM_CHARS: Final = names.MAX_NAME_LENGTH - len("-20260101t060000z")
_HASH_CHARS: Final = 6


def run_name(schedule: str, tick: datetime) -> str:
    """`<schedule>-<UTC time of the tick>`, such as `nightly-20260101t060000z`.

    A long name of a schedule is cut, and a hash of the whole keeps it apart from others that begin alike.
    """
    stem = schedule
    if len(stem) > _STEM_CHARS:
        digest = hashlib.sha256(schedule.encode()).hexdigest()[:_HASH_CHARS]
        stem = f"{schedule[: _STEM_CHARS - _HASH_CHARS - 1].rstrip('-')}-{digest}"
    return f"{stem}-{tick.astimezone(UTC).strftime(_TIME)}"


def tick_of(run: str) -> datetime | None:
    """The tick that a run is named after; None if it is not named so."""
    try:
        return datetime.strptime(run[-len("20260101t060000z") :], _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None


def template_context(schedule: ScheduleView, tick: datetime) -> dict[str, Any]:
    """What templates in a Schedule's parameters can name."""
    return {
        "scheduled_time": tick.astimezone(ZoneInfo(schedule.rule.time_zone)),
        "run_name": run_name(schedule.name, tick),
        "schedule": schedule.name,
        "deployment": schedule.deployment,
        "namespace": schedule.namespace,
    }


def parameters_at(schedule: ScheduleView, tick: datetime) -> dict[str, Any]:
    """The Schedule's parameters for one tick.

    Raises:
        TemplateError: a template in them means nothing.
    """
    return render(schedule.parameters, template_context(schedule, tick))


def tick_run(schedule: ScheduleView, tick: datetime, *, delay_s: float = 0.0, prestart_s: int = 0) -> dict[str, Any]:
    """The FlowRun to create for a tick.

    Raises:
        TemplateError: see `parameters_at`.
    """
    spec: dict[str, Any] = {"deploymentRef": {"name": schedule.deployment}, "scheduledTime": stamp(tick)}
    parameters = parameters_at(schedule, tick)
    if parameters:
        spec["parameters"] = parameters
    if delay_s:
        spec["delaySeconds"] = delay_s
    if prestart_s:
        spec["prestartSeconds"] = prestart_s
    return {
        "apiVersion": names.API_VERSION,
        "kind": FLOW_RUNS.kind,
        "metadata": {
            "name": run_name(schedule.name, tick),
            "namespace": schedule.namespace,
            "labels": {names.LABEL_SCHEDULE: schedule.name, names.LABEL_MANAGED_BY: names.MANAGED_BY},
            "annotations": {names.ANNOTATION_SCHEDULE_UID: schedule.uid},
        },
        "spec": spec,
    }


def belongs_to(run: Mapping[str, Any], schedule: ScheduleView) -> bool:
    """Whether a FlowRun that has the name of a tick's run is it, and not one of a Schedule that had the name before.

    A backfill of the Schedule may have been faster: then the tick has its run.
    """
    labels, annotations = run["metadata"].get("labels") or {}, run["metadata"].get("annotations") or {}
    if names.LABEL_BACKFILL in labels:
        return bool(labels.get(names.LABEL_SCHEDULE) == schedule.name)
    return bool(annotations.get(names.ANNOTATION_SCHEDULE_UID) == schedule.uid)
