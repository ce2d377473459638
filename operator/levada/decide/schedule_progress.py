"""How far a Schedule has come: the part of its status that decisions start from, and what a fate adds to it.

`decided_until` is the cursor: each tick up to it has its fate on record, none after it has. It moves only together with the
record, in one write.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from levada.decide.catch_up import LATE_REASONS
from levada.decide.definitions import ScheduleView
from levada.decide.schedule_rule import Rule
from levada.decide.times import parse, stamp

LEDGER_SIZE: Final = 20
RUN: Final = "Run"
SKIPPED: Final = "Skipped"


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a tick, or of several in a row that are skipped for one reason (from `tick` to `until`)."""

    tick: datetime
    run: str = ""
    reason: str = ""
    until: datetime | None = None
    count: int = 1

    @property
    def last(self) -> datetime:
        """The newest tick that it is about."""
        return self.until or self.tick

    def entry(self) -> dict[str, Any]:
        """As the ledger has it."""
        entry: dict[str, Any] = {"tick": stamp(self.tick), "outcome": RUN if self.run else SKIPPED}
        if self.run:
            entry["run"] = self.run
        if self.reason:
            entry["reason"] = self.reason
        if self.count > 1:
            entry |= {"until": stamp(self.last), "count": self.count}
        return entry


@dataclass(frozen=True, slots=True)
class Progress:
    """The rule in force, the cursor, and the record."""

    rule: Rule
    decided_until: datetime
    last_tick: str | None = None
    last_run: str | None = None
    ledger: tuple[Mapping[str, Any], ...] = ()
    started: int = 0
    missed: int = 0
    skipped: int = 0
    by_reason: Mapping[str, int] | None = None

    @classmethod
    def of(cls, schedule: ScheduleView) -> "Progress":
        """From the status; a Schedule that has none yet begins with its creation, and never before it."""
        status = schedule.status
        rule = status.get("rule") or {}
        decided_until = parse(rule.get("decidedUntil"))
        return cls(
            rule=Rule.of(rule) if decided_until is not None else schedule.rule,
            decided_until=decided_until if decided_until is not None else schedule.created_at,
            last_tick=status.get("lastTick"),
            last_run=status.get("lastRun"),
            ledger=tuple(status.get("ledger") or ()),
            started=status.get("started") or 0,
            missed=status.get("missed") or 0,
            skipped=status.get("skipped") or 0,
            by_reason=status.get("skippedByReason"),
        )

    def under(self, rule: Rule, since: datetime) -> "Progress":
        """A new rule is in force: its ticks after `since` are to be decided about."""
        return replace(self, rule=rule, decided_until=since)

    def has_run_for(self, tick: datetime) -> bool:
        """Whether the ledger has a run for the tick, perhaps under an earlier rule that had it, too."""
        at = stamp(tick)
        return any(entry.get("tick") == at and entry.get("outcome") == RUN for entry in self.ledger)

    def passed(self, tick: datetime) -> "Progress":
        """The tick is on record already."""
        return replace(self, decided_until=tick)

    def with_fate(self, fate: Fate) -> "Progress":
        """With one more fate on record."""
        ledger = (*_joined(self.ledger, fate),)[-LEDGER_SIZE:]
        done = replace(self, decided_until=fate.last, last_tick=stamp(fate.last), ledger=ledger)
        if fate.run:
            return replace(done, started=self.started + fate.count, last_run=fate.run)
        by_reason = dict(self.by_reason or {})
        by_reason[fate.reason] = by_reason.get(fate.reason, 0) + fate.count
        missed = self.missed + (fate.count if fate.reason in LATE_REASONS else 0)
        return replace(done, skipped=self.skipped + fate.count, missed=missed, by_reason=by_reason)

    def status(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of status that differ from what it says now, as a merge patch."""
        rule = {"decidedUntil": stamp(self.decided_until), **self.rule.fields()}
        fields = {
            "lastTick": self.last_tick,
            "lastRun": self.last_run,
            "ledger": [dict(entry) for entry in self.ledger],
            "started": self.started,
            "missed": self.missed,
            "skipped": self.skipped,
            "skippedByReason": dict(self.by_reason or {}),
        }
        changed = {name: value for name, value in fields.items() if value and value != before.get(name)}
        known = before.get("rule") or {}
        if known.get("decidedUntil") is None or any(known.get(name) != value for name, value in rule.items()):
            changed["rule"] = rule
        return changed


def _joined(ledger: tuple[Mapping[str, Any], ...], fate: Fate) -> tuple[Mapping[str, Any], ...]:
    """The ledger with the fate: skips in a row for one reason are one entry, so that a long pause does not push out the runs."""
    last = ledger[-1] if ledger else None
    if last is None or fate.run or (last.get("outcome"), last.get("reason")) != (SKIPPED, fate.reason):
        return (*ledger, fate.entry())
    longer = {**last, "until": stamp(fate.last), "count": (last.get("count") or 1) + fate.count}
    return (*ledger[:-1], longer)
