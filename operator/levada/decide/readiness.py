"""The Ready condition that Flow, Deployment, Schedule and WorkQueue share: one status write, one Event when it turns bad."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from levada.decide.plan import WARNING, ConditionSpec, EventSpec, condition


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the object can be used, and why (not), for programs and for people."""

    ok: bool
    reason: str
    message: str


READY = Verdict(ok=True, reason="Ready", message="")


def ready_patch(
    verdict: Verdict,
    *,
    status: Mapping[str, Any],
    generation: int,
    now: datetime,
    extra: Mapping[str, Any] | None = None,
    more: tuple[ConditionSpec, ...] = (),
    without: frozenset[str] = frozenset(),
) -> tuple[dict[str, Any] | None, tuple[EventSpec, ...]]:
    """The merge patch of .status (None: nothing changes) and the Events that go with it.

    Args:
        verdict: the Ready condition to be.
        status: the status as it stands; conditions of other types stay.
        generation: of the object.
        now: this moment.
        extra: further status fields.
        more: further conditions to be.
        without: types of conditions that do not apply any more.
    """
    ready = ConditionSpec("Ready", "True" if verdict.ok else "False", verdict.reason, verdict.message)
    old = {item.get("type"): item for item in status.get("conditions") or ()}
    new = {
        spec.type: condition(spec, now=now, generation=generation, old=old.get(spec.type)) for spec in (ready, *more)
    }
    conditions = [*new.values(), *(item for kind, item in old.items() if kind not in new and kind not in without)]
    fields = dict(extra or {})
    same = {item["type"]: item for item in conditions} == old and status.get("observedGeneration") == generation
    if same and all(status.get(key) == value for key, value in fields.items()):
        return None, ()
    events = tuple(event for kind, item in new.items() if (event := _bad_news(item, old.get(kind), generation)))
    return {"observedGeneration": generation, "conditions": conditions, **fields}, events


def _bad_news(new: Mapping[str, Any], old: Mapping[str, Any] | None, generation: int) -> EventSpec | None:
    """The Event of a condition that has just turned bad, or has become bad for another reason."""
    if new["status"] != "False" or (
        old is not None and (old.get("status"), old.get("reason")) == ("False", new["reason"])
    ):
        return None
    return EventSpec(
        WARNING, new["reason"], new["message"], f"{new['type'].lower()}-{generation}-{new['reason'].lower()}"
    )
