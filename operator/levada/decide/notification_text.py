"""What a notification says: what fills in the names of its template, and the default words. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from levada.decide.definitions import Notification
from levada.decide.facts import RunView
from levada.decide.times import seconds_between, stamp
from levada.resources.notification_names import PLACEHOLDER
from levada.resources.phases import PHASE_VERBS, Occasion, TaskState

Object = Mapping[str, Any]

DEFAULT_SUBJECT: Final = "{{ deployment }}: run {{ run }} {{ verb }}"
# The default text: these lines, without those that have nothing to say.
_LINES: Final = (
    ("Run", "run"), ("Namespace", "namespace"), ("Phase", "phase"), ("Reason", "reason"), ("Message", "message"),
    ("Failed tasks", "failed_tasks"), ("Diagnosis", "diagnosis"), ("What to do", "resolution"), ("Duration", "duration"),
    ("Logs", "logs"),
)  # fmt: skip
_MAX_TASKS_NAMED: Final = 20


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its names filled in, once: what is filled in is never looked at again."""
    return PLACEHOLDER.sub(lambda match: values.get(match[1].strip(), match[0]), template)


def message(notification: Notification, values: Mapping[str, str]) -> tuple[str, str]:
    """Subject (one line) and text."""
    subject = " ".join(fill(notification.subject or DEFAULT_SUBJECT, values).split())
    if notification.body:
        return subject, fill(notification.body, values)
    return subject, "\n".join(f"{label}: {values[name]}" for label, name in _LINES if values.get(name))


def values_of(run: RunView, occasion: str, body: Object, *, notification: str = "") -> dict[str, str]:
    """What fills in the names.

    Args:
        run: the run as it was when there was something to tell.
        occasion: what is told.
        body: the FlowRun as it is now, for what the view leaves out; empty if it is gone.
        notification: name of the notification.
    """
    status: Object = body.get("status") or {}
    diagnosis: Object = status.get("diagnosis") or {}
    took_s = seconds_between(run.started_at, run.completed_at)
    return {
        "run": run.name,
        "namespace": run.namespace,
        "deployment": run.deployment,
        "flow": run.pin.name if run.pin is not None else "",
        "phase": occasion,
        "verb": "is late" if occasion == Occasion.LATE else PHASE_VERBS.get(occasion, occasion),
        "reason": run.reason,
        "message": run.message,
        "attempt": str(run.attempt or ""),
        "scheduled": _time(run.scheduled_at or run.created_at),
        "started": _time(run.started_at),
        "ended": _time(run.completed_at),
        "duration": duration(took_s) if run.completed_at is not None and run.started_at is not None else "",
        "failed_tasks": ", ".join(failed_tasks(body)),
        "diagnosis": str(diagnosis.get("summary") or ""),
        "resolution": str(diagnosis.get("resolution") or ""),
        "logs": f"levada runs logs {run.name} -n {run.namespace}",
        "notification": notification,
    }


def document(
    values: Mapping[str, str], *, failed: tuple[str, ...], delivery: str, uid: str, subject: str, text: str
) -> dict[str, Any]:
    """What a webhook's body says, for programs: the values by their names, and the message."""
    named = {name: value for name, value in values.items() if name not in {"verb", "failed_tasks", "attempt", "logs"}}
    return {
        "id": delivery,
        **named,
        "runUid": uid,
        "attempt": int(values["attempt"] or 0),
        "failedTasks": list(failed),
        "subject": subject,
        "text": text,
    }


def failed_tasks(body: Object) -> tuple[str, ...]:
    """Names of the tasks of a FlowRun that failed or crashed, the first of them."""
    rows = ((body.get("status") or {}).get("tasks") or {}).values()
    bad = [row for row in rows if row.get("state") in {TaskState.FAILED, TaskState.CRASHED}]
    bad.sort(key=lambda row: (row.get("endTime") or "", row.get("name") or ""))
    named = [str(row.get("name") or "") for row in bad[:_MAX_TASKS_NAMED]]
    more = len(bad) - len(named)
    return (*named, f"and {more} more") if more else tuple(named)


def duration(seconds: float) -> str:
    """A time in words, at most two units: `2.5 s`, `3 min 4 s`, `1 d 2 h`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole, parts = int(seconds), []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def _time(moment: datetime | None) -> str:
    return stamp(moment.replace(microsecond=0)).replace(".000Z", "Z") if moment is not None else ""
