"""History: which finished runs leave the cluster's store. They stay readable in the archive, where there is one.

Counts are kept per Deployment and apart for the runs that completed and for those that did not: a flow that fails every
minute does not push its last success out, nor the other way round. What somebody still needs stays.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from levada.decide.definitions import History
from levada.resources.phases import RunPhase

# Enough for a day of runs every quarter of an hour, and some 300 KB in etcd. CronJob's 3 and 1 are too few to find anything.
KEEP_SUCCESSFUL: Final = 100
KEEP_FAILED: Final = 100
_SUCCESSFUL: Final = frozenset({RunPhase.COMPLETED, RunPhase.SKIPPED})


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run that has ended, as far as history asks. `ended` is its end, or its creation where no end is on record."""

    name: str
    uid: str
    resource_version: str
    phase: str
    ended: datetime
    pinned: bool = False

    @property
    def successful(self) -> bool:
        return self.phase in _SUCCESSFUL


def leaving(runs: Iterable[FinishedRun], history: History, *, archived: bool, now: datetime) -> tuple[FinishedRun, ...]:
    """The runs of one Deployment that may leave, the oldest first.

    Args:
        runs: all of its finished runs.
        history: what the Deployment says.
        archived: whether it has a storage. Without one a failure is kept until somebody says otherwise: it would be gone.
        now: the time.
    """
    kept_of = {
        True: KEEP_SUCCESSFUL if history.keep_successful is None else history.keep_successful,
        False: (KEEP_FAILED if archived else None) if history.keep_failed is None else history.keep_failed,
    }
    newest_first = sorted(runs, key=lambda run: (run.ended, run.uid), reverse=True)
    place = {True: 0, False: 0}
    gone = []
    for run in newest_first:
        place[run.successful] += 1
        kept = kept_of[run.successful]
        surplus = kept is not None and place[run.successful] > kept
        if (surplus or _is_expired(run, history, now)) and not run.pinned:
            gone.append(run)
    return tuple(reversed(gone))


def _is_expired(run: FinishedRun, history: History, now: datetime) -> bool:
    return history.ttl_s is not None and run.ended + timedelta(seconds=history.ttl_s) <= now


def next_expiry_s(runs: Iterable[FinishedRun], history: History, now: datetime) -> float | None:
    """Seconds until the next run leaves by its age; None if none will."""
    if history.ttl_s is None:
        return None
    moments = [run.ended + timedelta(seconds=history.ttl_s) for run in runs if not run.pinned]
    return min(((moment - now).total_seconds() for moment in moments if moment > now), default=None)
