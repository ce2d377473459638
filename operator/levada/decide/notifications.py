"""Who is to be told what about a run, what has been told already, and what becomes of a delivery that fails.

What was told stands in the run's status (`notifications`, `notified`), written after the delivery: so a crash between the two
tells it once more, under the same id. What may be told is derived from the run as it is and that record; nothing is kept elsewhere.
"""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from levada.decide.definitions import BlockView, DeploymentView, Notification
from levada.decide.facts import RunView
from levada.decide.plan import ConditionSpec, clip, condition
from levada.decide.readiness import Verdict
from levada.decide.times import parse, stamp
from levada.resources.names import MAX_DELIVERY_ERROR_CHARS, MAX_TOLD
from levada.resources.notification_names import template_problem
from levada.resources.phases import DEFAULT_OCCASIONS, Occasion, RunPhase, is_terminal

# An alarm that comes a day late helps nobody.
GIVE_UP_AFTER: Final = timedelta(hours=24)
# The end of a run is stamped in its pod, the beginning of a notification by the operator.
_CLOCKS_DIFFER: Final = timedelta(seconds=5)
HEALTHY: Final = "NotificationsHealthy"
NOTIFIED: Final = "Notified"
_FIRST_WAIT_S: Final = 2.0
_LONGEST_WAIT_S: Final = 600.0
_DELIVERIES: Final = uuid.uuid5(uuid.NAMESPACE_DNS, "notifications.levada.dev")
_NOT_STARTED: Final = frozenset({"", RunPhase.SCHEDULED, RunPhase.QUEUED, RunPhase.PENDING})
_OCCASIONS: Final = frozenset(str(occasion) for occasion in Occasion)


class Point(NamedTuple):
    """Something about a run that may be told: a phase that it reached, or that it is late. `at`: when, if that is known."""

    occasion: str
    attempt: int = 0
    at: datetime | None = None

    @property
    def key(self) -> str:
        """How the record spells it. What can come again has its attempt: Running/2."""
        return f"{self.occasion}/{self.attempt}" if self.attempt else self.occasion

    @property
    def terminal(self) -> bool:
        """Whether it is the run's end."""
        return is_terminal(self.occasion)


class Result(NamedTuple):
    """What became of one delivery: told (no error), or not.

    gave_up: and it will not be tried again. waiting: nothing has become of it yet.
    """

    name: str
    error: str = ""
    gave_up: bool = False
    waiting: bool = False


class Problem(NamedTuple):
    """What is wrong with a notification: for programs, and for people."""

    name: str
    reason: str
    message: str


# --- which notifications hold ------------------------------------------------------------------------------------------


def default_of(block: BlockView) -> Notification | None:
    """The notification that a Block asks for by its annotation; None: it asks for none.

    Words in the annotation that are no occasion count for nothing here: `annotation_problem` tells of them.
    """
    if block.notify is None:
        return None
    words = _words(block.notify)
    phases = frozenset(words) & _OCCASIONS if words else frozenset(map(str, DEFAULT_OCCASIONS))
    return Notification(block.name, phases, {"block": {"name": block.name}}, namespace=block.namespace)


def annotation_problem(block: BlockView) -> str:
    """What is wrong with the annotation of a Block; empty: nothing."""
    wrong = [word for word in _words(block.notify or "") if word not in _OCCASIONS]
    if not wrong:
        return ""
    return (
        f"its annotation levada.dev/notify lists {', '.join(map(repr, wrong))}; possible are: {', '.join(sorted(_OCCASIONS))}, "
        "separated by commas"
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def holding(*layers: Iterable[Notification]) -> tuple[Notification, ...]:
    """The notifications that hold: of those with one name, that of the first layer."""
    found: dict[str, Notification] = {}
    for layer in layers:
        for notification in layer:
            found.setdefault(notification.name, notification)
    return tuple(found.values())


# --- is there something to tell? ---------------------------------------------------------------------------------------


def point_of(run: RunView) -> Point | None:
    """What there is to tell about a run as it stands; None: nothing that anybody could ask for."""
    if run.phase not in _OCCASIONS:
        return None
    if is_terminal(run.phase):
        return Point(run.phase, at=run.completed_at)
    return Point(run.phase, max(run.attempt, 1), run.started_at if run.phase == RunPhase.RUNNING else None)


def late_waits_s(run: RunView, notifications: Iterable[Notification], now: datetime) -> list[float]:
    """Seconds until the run is late for each who wants to be told, 0 for who finds it late already; none if it has started."""
    if run.attempt or run.phase not in _NOT_STARTED:
        return []
    asked = [each for each in notifications if Occasion.LATE in each.phases]
    return sorted(max(0.0, (_late_at(run, each) - now).total_seconds()) for each in asked)


def _late_at(run: RunView, notification: Notification) -> datetime:
    due = max(run.created_at, run.scheduled_at or run.created_at)
    return due + timedelta(seconds=notification.late_after_s)


def due(
    run: RunView,
    point: Point,
    notifications: Iterable[Notification],
    status: Mapping[str, Any],
    *,
    since: Mapping[str, datetime],
    now: datetime,
) -> tuple[Notification, ...]:
    """The notifications that are to tell this and have not.

    Args:
        run: the run.
        point: what there is to tell.
        notifications: those that hold for the run.
        status: the run's, for the record of what has been told.
        since: by name, since when the notification is there. What happened before, it does not tell.
        now: this moment.
    """
    if point.at is not None and now - point.at > GIVE_UP_AFTER:
        return ()
    if point.terminal and status.get("notified"):
        return ()
    records: Mapping[str, Mapping[str, Any]] = status.get("notifications") or {}
    return tuple(
        each
        for each in notifications
        if point.occasion in each.phases
        and point.key not in (records.get(each.name, {}).get("told") or ())
        and not (point.at is not None and each.name in since and point.at < since[each.name] - _CLOCKS_DIFFER)
        and (point.occasion != Occasion.LATE or _late_at(run, each) <= now)
    )


def delivery_id(run_uid: str, notification: str, point: Point) -> str:
    """The same for every try of the same delivery, by whichever operator: a receiver can drop doubles."""
    return str(uuid.uuid5(_DELIVERIES, f"{run_uid}/{notification}/{point.key}"))


def wait_s(failures: int, luck: float) -> float:
    """Seconds until a receiver that has failed so often is tried again. `luck` is from 0 to 1: not everybody at once."""
    full_s: float = min(_FIRST_WAIT_S * 2.0 ** min(failures - 1, 30), _LONGEST_WAIT_S)
    return full_s * (0.5 + luck / 2)


def expired(point: Point, first_seen: datetime, now: datetime) -> bool:
    """Whether it is too late to tell."""
    return now - (point.at or first_seen) > GIVE_UP_AFTER


# --- what is written ---------------------------------------------------------------------------------------------------


def record(
    status: Mapping[str, Any], point: Point, results: Iterable[Result], *, generation: int, now: datetime
) -> dict[str, Any] | None:
    """The merge patch of the run's status after deliveries; None: it says so already.

    A try that failed like the one before it is not written again.
    """
    everything = tuple(results)
    results = tuple(each for each in everything if not each.waiting)
    known: Mapping[str, Mapping[str, Any]] = status.get("notifications") or {}
    changes = {
        each.name: change for each in results if (change := _change(known.get(each.name) or {}, point, each, now))
    }
    patch: dict[str, Any] = {"notifications": changes} if changes else {}
    if not results:
        return None
    ended = all(not each.waiting and (each.gave_up or not each.error) for each in everything)
    if point.terminal and ended and not status.get("notified"):
        patch["notified"] = True
    conditions = status.get("conditions") or ()
    old = next((item for item in conditions if item.get("type") == NOTIFIED), None)
    errors = {name: entry["lastError"] for name, entry in known.items() if entry.get("lastError")}
    errors |= {each.name: each.error for each in results}
    new = condition(_notified(point, errors, results), now=now, generation=generation, old=old)
    if old != new:
        patch["conditions"] = [*(item for item in conditions if item.get("type") != NOTIFIED), new]
    return patch or None


def _change(old: Mapping[str, Any], point: Point, result: Result, now: datetime) -> dict[str, Any]:
    if result.error:
        error = clip(result.error, MAX_DELIVERY_ERROR_CHARS)
        return {"lastError": error} if old.get("lastError") != error else {}
    told = old.get("told") or []
    if point.key in told:
        return {}
    return {"told": [*told, point.key][-MAX_TOLD:], "lastDeliveryTime": stamp(now), "lastError": None}


def _notified(point: Point, errors: Mapping[str, str], results: Iterable[Result]) -> ConditionSpec:
    bad = {name: error for name, error in errors.items() if error}
    if not bad:
        return ConditionSpec(NOTIFIED, "True", "Delivered", f"Everybody who is to be told of {point.key} has been.")
    gave_up = [each.name for each in results if each.gave_up]
    words = "; ".join(f"{name}: {error}" for name, error in sorted(bad.items()))
    end = "It is not tried again." if gave_up else "It is tried again, for 24 h in all."
    return ConditionSpec(NOTIFIED, "False", "DeliveryFailed", f"{words.rstrip('.')}. {end}")


# --- the Deployment ----------------------------------------------------------------------------------------------------


def since_of(deployment: DeploymentView, notifications: Iterable[Notification], now: datetime) -> dict[str, datetime]:
    """Since when each notification is there, by name.

    One that has not been written down is as old as a Deployment that nobody has looked at yet; in another it is new.
    """
    known: Mapping[str, Mapping[str, Any]] = deployment.status.get("notifications") or {}
    otherwise = now if deployment.status.get("observedGeneration") else deployment.created_at
    return {each.name: parse((known.get(each.name) or {}).get("since")) or otherwise for each in notifications}


def since_patch(status: Mapping[str, Any], notifications: Iterable[Notification], now: datetime) -> dict[str, Any]:
    """What the Deployment's status has to learn: new notifications are there from now on, others not any more."""
    known: Mapping[str, Any] = status.get("notifications") or {}
    names = {each.name for each in notifications}
    changes: dict[str, Any] = {name: {"since": stamp(now)} for name in sorted(names) if name not in known}
    changes |= dict.fromkeys(sorted(known.keys() - names))
    return {"notifications": changes} if changes else {}


def template_verdict(notifications: Iterable[Notification]) -> Verdict | None:
    """What is wrong with the templates, if something is."""
    for each in notifications:
        for field, template in (("subject", each.subject), ("body", each.body)):
            problem = template_problem(field, template)
            if problem:
                message = f"Notification {each.name!r}: {problem}"
                return Verdict(ok=False, reason="NotificationTemplateInvalid", message=message)
    return None


@dataclass(frozen=True, slots=True)
class Health:
    """How a Deployment's notifications do. `told`: since the operator started, one has got through."""

    problems: tuple[Problem, ...] = ()
    told: bool = False


HEALTHY_SO_FAR: Final = Health()


def health_condition(health: Health, old: Mapping[str, Any] | None) -> ConditionSpec:
    """The NotificationsHealthy condition.

    Whether receivers answer is known from deliveries only: right after a start nobody knows, and what was said last stays.
    """
    if health.problems:
        words = " ".join(f"{each.name}: {each.message.rstrip('.')}." for each in health.problems)
        return ConditionSpec(HEALTHY, "False", health.problems[0].reason, words)
    if old is not None and not health.told and old.get("reason") == "DeliveryFailed":
        return ConditionSpec(HEALTHY, "False", "DeliveryFailed", str(old.get("message") or ""))
    return ConditionSpec(HEALTHY, "True", "AsExpected", "")
