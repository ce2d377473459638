"""Who holds a Lease, as one candidate may believe it. Pure: the caller brings what it saw and the time of its own clock.

The rules are those of client-go's leader election. A candidate never compares its clock with times that another machine
wrote: it notes when *it* saw the record change, and takes over only after the record has not changed for as long as the
record itself promises. A holder counts from the moment *before* it sent a renewal, and stops believing in its lease
`renew_deadline_s` after that, well before anybody else may take it. So two candidates whose clocks run at about the same
speed never both believe that they lead, however late requests, answers and watches are.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from levada.kube.errors import NotLeading

Object = Mapping[str, Any]
NEVER_S: Final = float("-inf")


def boot_time_s() -> float:
    """Seconds of a clock that only goes forward, and goes on while the machine sleeps: a laptop wakes without its lease."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """How patient an election is.

    duration_s: others wait for so long after the last sign of life; whole seconds, as the Lease keeps it.
    renew_deadline_s: the holder gives up when it could not renew for so long; the rest of `duration_s` is the safety margin.
    retry_s: how often it renews.

    Raises:
        ValueError: they do not grow in the order retry, deadline, duration.
    """

    duration_s: int = 12
    renew_deadline_s: float = 8.0
    retry_s: float = 2.0

    def __post_init__(self) -> None:
        """Check the order."""
        if not 0 < self.retry_s < self.renew_deadline_s < self.duration_s:
            raise ValueError(
                "the times of a lease must be: 0 < retry period < renew deadline < lease duration, "
                f"not {self.retry_s:g}, {self.renew_deadline_s:g}, {self.duration_s:g} seconds"
            )


@dataclass(frozen=True, slots=True)
class Record:
    """What a Lease says. `renewed` is opaque: it tells that something changed, never when."""

    holder: str
    duration_s: float | None
    acquired: str
    renewed: str
    transitions: int


def record_of(lease: Object) -> Record:
    """The record in a Lease object, whatever it lacks."""
    spec = lease.get("spec") or {}
    return Record(
        holder=spec.get("holderIdentity") or "",
        duration_s=spec.get("leaseDurationSeconds"),
        acquired=spec.get("acquireTime") or "",
        renewed=spec.get("renewTime") or "",
        transitions=spec.get("leaseTransitions") or 0,
    )


class Candidate:
    """One candidate's knowledge. All times are seconds of its own clock, which must only go forward."""

    def __init__(self, identity: str, times: LeaseTimes) -> None:
        self.identity = identity
        self.times = times
        self.certain_until_s = NEVER_S  # before this, nobody else can hold the lease
        self._seen: Record | None = None
        self._changed_at_s = NEVER_S

    @property
    def holder(self) -> str:
        """Who was last seen to hold the lease; empty for nobody."""
        return self._seen.holder if self._seen is not None else ""

    def is_leading(self, now_s: float) -> bool:
        """Whether the lease is certainly ours."""
        return now_s < self.certain_until_s

    def observe(self, seen: Record | None, now_s: float) -> None:
        """Take in what the API server said. None: there is no Lease.

        A Lease that somebody deleted frees nobody from waiting: its holder may not know yet.
        """
        if seen is not None and seen != self._seen:
            self._seen, self._changed_at_s = seen, now_s

    def may_claim_at_s(self) -> float:
        """From when on this candidate may write itself into the Lease it has seen."""
        if self._seen is None or self._seen.holder in {"", self.identity}:
            return NEVER_S
        promised_s = self._seen.duration_s
        return self._changed_at_s + (self.times.duration_s if promised_s is None else promised_s)

    def claim(self, wall: datetime) -> dict[str, Any]:
        """The spec to write: taking the lease, or renewing it. `wall` is for people; nobody decides by it."""
        seen = self._seen
        renews = seen is not None and seen.holder == self.identity
        stamp = _micro_time(wall)
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.times.duration_s,
            "acquireTime": seen.acquired if seen is not None and renews and seen.acquired else stamp,
            "renewTime": stamp,
            "leaseTransitions": 0 if seen is None else seen.transitions + (not renews),
        }

    def written(self, record: Record, *, sent_at_s: float, now_s: float) -> None:
        """Our claim, sent at `sent_at_s`, was accepted."""
        self.observe(record, now_s)
        self.certain_until_s = sent_at_s + self.times.renew_deadline_s

    def resign(self) -> None:
        """Believe in the lease no longer."""
        self.certain_until_s = NEVER_S

    def farewell(self, wall: datetime) -> dict[str, Any]:
        """The spec that lets the next candidate in at once."""
        return {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _micro_time(wall)}


class Fence:
    """Stands before every write of a leader. A process that was paused finds it closed, whatever its memory says."""

    def __init__(self, candidate: Candidate, clock: Callable[[], float] = boot_time_s) -> None:
        self._candidate = candidate
        self._clock = clock

    def check(self) -> None:
        """Pass, or raise.

        Raises:
            NotLeading: the lease is not certainly ours at this moment.
        """
        if not self._candidate.is_leading(self._clock()):
            raise NotLeading(f"{self._candidate.identity} does not hold its lease now: nothing is written")


def _micro_time(wall: datetime) -> str:
    return wall.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
