"""The Ready condition that Flow, Deployment, Schedule and WorkQueue share: one status write, one Event when it turns bad."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from levada.decide.plan import WARNING, ConditionSpec, EventSpec, clip, condition
from levada.decide.references import ready_condition


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
) -> tuple[dict[str, Any] | None, tuple[EventSpec, ...]]:
    """The merge patch of .status (None: nothing changes) and the Events that go with it. `extra`: further status fields."""
    old = ready_condition(status)
    new = condition(
        ConditionSpec("Ready", "True" if verdict.ok else "False", verdict.reason, verdict.message),
        now=now,
        generation=generation,
        old=old,
    )
    fields = dict(extra or {})
    same = old == new and status.get("observedGeneration") == generation
    if same and all(status.get(key) == value for key, value in fields.items()):
        return None, ()
    events: tuple[EventSpec, ...] = ()
    if not verdict.ok and (old is None or (old.get("status"), old.get("reason")) != ("False", verdict.reason)):
        name = f"ready-{generation}-{verdict.reason.lower()}"
        events = (EventSpec(WARNING, verdict.reason, clip(verdict.message), name),)
    return {"observedGeneration": generation, "conditions": [new], **fields}, events
