"""Slots of a ConcurrencyLimit: who gets some now?

Tasks ask in the status of their run, and the operator grants there, so who has what is derived from the runs that are alive and
never counted up and down. Strictly in order (priority, then age): who wants five slots is not starved by those who want one.

A turn of rate_limit is used up when it is granted. A limit with a rate is a bucket that leaks: `full_at` is when it will have
leaked dry, and it is written before the turns that it pays for, so a crash in between costs turns and never gives any away.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from levada.decide.definitions import LimitView
from levada.decide.facts import PodView, RunView, SlotView
from levada.decide.plan import clip
from levada.decide.readiness import Verdict, ready_patch
from levada.decide.times import stamp
from levada.resources.names import MAX_HOLDERS_SHOWN
from levada.resources.phases import RunPhase, is_terminal

WAITING: Final = "Waiting"
HELD: Final = "Held"
REFUSED: Final = "Refused"


@dataclass(frozen=True, slots=True)
class Ask:
    """Slots that a run waits for or holds."""

    run: str
    priority: int
    slot: SlotView

    @property
    def order(self) -> tuple[int, datetime, str, str]:
        """Priority, then age; the rest only settles ties. The time is that of the asking machine's clock."""
        return (-self.priority, self.slot.requested_at, self.run, self.slot.id)


@dataclass(frozen=True, slots=True)
class SlotFacts:
    """A limit and those who ask for it. `limit` None: there is no such object, and nobody waits for it.

    slots, turns: those who wait, in order. held: slots that are held.
    """

    now: datetime
    limit: LimitView | None
    held: int = 0
    slots: Iterable[Ask] = ()
    turns: Iterable[Ask] = ()


@dataclass(frozen=True, slots=True)
class SlotPlan:
    """What to write into the runs. `full_at`: write it into the limit first. `requeue_after_s`: when the next turn is due."""

    grants: tuple[Ask, ...] = ()
    refusals: tuple[tuple[Ask, str], ...] = ()
    full_at: datetime | None = None
    requeue_after_s: float | None = None


def is_alive(run: RunView, pod: PodView | None) -> bool:
    """Whether the run's attempt can hold slots: until it has ended, its pod has, or the operator has given it up.

    A pod that is only silent keeps its slots: a machine that is cut off may still be at work, and nobody may take its place
    until the pod is judged lost. `pod`: of the current attempt, None if it has not been seen.
    """
    if is_terminal(run.phase) or run.phase == RunPhase.RETRYING or not run.admitted:
        return False
    return pod is None or not pod.finished


def decide_slots(facts: SlotFacts) -> SlotPlan:
    """Who is granted what now."""
    limit = facts.limit
    if limit is None:
        return SlotPlan(grants=(*facts.slots, *facts.turns))
    granted, refused = _slots(limit, facts.held, facts.slots)
    turns, refused_turns, full_at, wait_s = _turns(limit, facts.turns, facts.now)
    return SlotPlan((*granted, *turns), (*refused, *refused_turns), full_at, wait_s)


def _slots(limit: LimitView, held: int, asks: Iterable[Ask]) -> tuple[list[Ask], list[tuple[Ask, str]]]:
    granted: list[Ask] = []
    refused: list[tuple[Ask, str]] = []
    for ask in asks:
        if limit.limit and ask.slot.occupy > limit.limit:
            refused.append((ask, _too_many(limit, ask)))
        elif held + ask.slot.occupy <= limit.limit:
            held += ask.slot.occupy
            granted.append(ask)
        else:
            break  # nobody overtakes
    return granted, refused


def _turns(
    limit: LimitView, asks: Iterable[Ask], now: datetime
) -> tuple[list[Ask], list[tuple[Ask, str]], datetime | None, float | None]:
    granted: list[Ask] = []
    refused: list[tuple[Ask, str]] = []
    dry_at = max(limit.full_at or now, now)
    for ask in asks:
        if not limit.decay_per_s:
            refused.append(
                (ask, f"ConcurrencyLimit {limit.name!r} has no slotDecayPerSecond: use concurrency({limit.name!r}).")
            )
        elif limit.limit and ask.slot.occupy > limit.limit:
            refused.append((ask, _too_many(limit, ask)))
        else:
            after = dry_at + timedelta(seconds=ask.slot.occupy / limit.decay_per_s)
            wait_s = (after - now).total_seconds() - limit.limit / limit.decay_per_s
            if not limit.limit:
                return granted, refused, dry_at if granted else None, None  # closed
            if wait_s > 0:
                return granted, refused, dry_at if granted else None, wait_s
            dry_at = after
            granted.append(ask)
    return granted, refused, dry_at if granted else None, None


def _too_many(limit: LimitView, ask: Ask) -> str:
    return f"occupy={ask.slot.occupy} can never be had, as the limit is {limit.limit}: take fewer, or raise it with `levada limits set {limit.name}`."


def granted_entry(now: datetime) -> dict[str, Any]:
    """What is merged into a slot's entry. One that the run has taken back meanwhile lacks the rest, and is refused."""
    return {"state": HELD, "grantedTime": stamp(now)}


def refused_entry(why: str) -> dict[str, Any]:
    """The same for one that is never to get its slots."""
    return {"state": REFUSED, "message": clip(why)}


def limit_status(limit: LimitView, held: Sequence[Ask], waiting: int, now: datetime) -> dict[str, Any] | None:
    """The summary for people; None: it stands there already."""
    holders: dict[str, list[Ask]] = {}
    for ask in held:
        holders.setdefault(ask.run, []).append(ask)
    shown = [
        {
            "run": run,
            "slots": sum(ask.slot.occupy for ask in asks),
            "since": stamp(min(ask.slot.granted_at or ask.slot.requested_at for ask in asks)),
        }
        for run, asks in holders.items()
    ]
    shown.sort(key=lambda holder: (str(holder["since"]), str(holder["run"])))
    extra = {
        "active": sum(ask.slot.occupy for ask in held),
        "waiting": waiting,
        "holders": shown[:MAX_HOLDERS_SHOWN],
    }
    reason, message = ("Ready", f"{limit.limit} slots.") if limit.limit else ("Closed", "No slots: everybody waits.")
    verdict = Verdict(ok=True, reason=reason, message=message)
    return ready_patch(verdict, status=limit.status, generation=limit.generation, now=now, extra=extra)[0]
