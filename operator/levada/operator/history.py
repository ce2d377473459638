"""History: finished runs go into the archive soon after their end, and leave the cluster when the Deployment's history says so.

Two ways lead here: the news of a run that has ended, and now and then a list of all finished runs, as rows of a table, so that they
cost little on either side and are in no watch. What the one misses (a restart, a storage that was away) the other finds.

A run with a storage is deleted only once it stands in the index, which it does only if its record is written. So a storage that is
away stops history, and nothing else.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from levada.archive.record import sortable
from levada.decide.definitions import History as Policy
from levada.decide.facts import RunView
from levada.decide.history import FinishedRun, leaving
from levada.decide.schedule_progress import Progress
from levada.decide.storages import is_allowed, storage_of_runs
from levada.decide.tick_run import tick_of
from levada.decide.times import parse
from levada.exceptions import LevadaError
from levada.kube import ApiError, Conflict, ConnectionLost, NotFound
from levada.kube.ratelimit import WriteLimiter
from levada.operator.archivist import Archivist, Ended, Shelf, key_of
from levada.operator.storages import Storages
from levada.operator.store import Key
from levada.resources.kinds import DEPLOYMENTS, FLOW_RUNS
from levada.resources.names import LABEL_BACKFILL, LABEL_SCHEDULE
from levada.resources.phases import ACTIVE_PHASES, is_terminal

if TYPE_CHECKING:
    from levada.operator.controller import Controller

log = logging.getLogger(__name__)

FINISHED: Final = ",".join(["status.phase!=", *(f"status.phase!={phase}" for phase in sorted(ACTIVE_PHASES))])
TICK_S: Final = 1.0
# More than that wait for the next list of all.
MAX_WAITING: Final = 10_000
# A list of all finds runs whose process may still be writing its record: those wait for their own news.
FRESH_S: Final = 120.0


class Waiting(NamedTuple):
    """A run that has ended and is to be archived, and when."""

    uid: str
    deployment: str
    due_s: float


class HistoryKeeper:
    """Register it with the controller, and let `run` go on beside the workers."""

    def __init__(self, controller: "Controller") -> None:
        self._c = controller
        self._settings = controller.settings.history
        self._archivist = Archivist(controller, Storages(self._settings.storage_timeout_s))
        self._waiting: dict[Key, Waiting] = {}
        self._indexed: set[str] = set()  # uids that are known to be in an index, of runs that are still there
        rate = self._settings.removals_per_second
        self._removals = WriteLimiter(rate, max(1.0, rate))
        controller.run_listeners.append(self.on_run)

    def on_run(self, before: RunView | None, after: RunView | None) -> None:
        """A run is forgotten when it is over and nothing of it is alive: its process has written what it could."""
        if after is None and before is not None and is_terminal(before.phase) and len(self._waiting) < MAX_WAITING:
            due_s = time.monotonic() + self._settings.settle_s
            self._waiting[Key(before.namespace, before.name)] = Waiting(before.uid, before.deployment, due_s)

    async def run(self) -> None:
        """Archive and let go, for ever."""
        next_sweep_s = time.monotonic() + self._settings.first_sweep_s
        while True:
            await asyncio.sleep(TICK_S)
            await self._guarded(self.archive_ended)
            # What an operator before us has not told is known once the notifier has looked back.
            if time.monotonic() >= next_sweep_s and self._c.notifier.looked_back:
                await self._guarded(self.sweep)
                next_sweep_s = time.monotonic() + self._settings.sweep_s

    async def _guarded(self, work: Any) -> None:
        try:
            await work()
        except (ApiError, ConnectionLost) as error:
            log.warning("history: %s; it goes on later", error)
        except LevadaError as error:
            log.warning("history: %s", error)
        except Exception:
            # Whatever somebody wrote into a storage, it must not stop the operator.
            log.exception("history: unexpected; it goes on later")

    # --- runs that have just ended ------------------------------------------------------------------------------------

    async def archive_ended(self) -> None:
        """Archive the runs that ended a moment ago."""
        now_s = time.monotonic()
        by_shelf: defaultdict[Shelf, list[Ended]] = defaultdict(list)
        for key, run in list(self._waiting.items()):
            if run.due_s > now_s:
                continue
            del self._waiting[key]
            shelf = self._shelf(Key(key.namespace, run.deployment))
            if shelf is not None and self._c.serves(key.namespace):
                by_shelf[shelf].append(Ended(key.name, run.uid))
        self._c.metrics.archive_backlog.set(len(self._waiting) + sum(map(len, by_shelf.values())))
        for shelf, runs in by_shelf.items():
            if not await self._archive(shelf, runs):
                self._wait_again(shelf, runs)

    def _wait_again(self, shelf: Shelf, runs: Iterable[Ended]) -> None:
        due_s = time.monotonic() + self._settings.sweep_s / 4
        for run in runs:
            if len(self._waiting) < MAX_WAITING:
                self._waiting.setdefault(Key(shelf.namespace, run.name), Waiting(run.uid, shelf.deployment, due_s))

    async def _archive(self, shelf: Shelf, runs: list[Ended]) -> bool:
        """Archive runs of a Deployment, and tell in its condition how that went. Returns whether it went well."""
        try:
            self._indexed |= await self._archivist.archive(shelf, runs)
        except LevadaError as error:
            self._trouble(shelf, error, "archive")
            return False
        except (ApiError, ConnectionLost) as error:
            log.warning("runs of %s/%s are archived later: %s", shelf.namespace, shelf.deployment, error)
            return False
        self._note(shelf, "")
        return True

    def _trouble(self, shelf: Shelf, error: Exception, operation: str) -> None:
        self._c.metrics.archive_errors.labels(operation).inc()
        log.warning("the archive of %s/%s: %s", shelf.namespace, shelf.deployment, error)
        self._note(shelf, str(error))

    def _note(self, shelf: Shelf, trouble: str) -> None:
        """Let the Deployment say what its storage said, when that has changed."""
        key, known = key_of(shelf), self._c.store.archive_troubles
        if self._c.store.deployments.get(key) is not None and known.get(key) != trouble:
            known[key] = trouble
            self._c.enqueue(DEPLOYMENTS.kind, key)

    def _shelf(self, deployment: Key) -> Shelf | None:
        """Where the runs of a Deployment are archived; None: nowhere, or where the operator may not go."""
        settings = self._c.settings.decide
        url = storage_of_runs(self._c.store.deployments.get(deployment), settings)
        return Shelf(url, *deployment) if url and is_allowed(url, settings) else None

    # --- all finished runs --------------------------------------------------------------------------------------------

    async def sweep(self) -> None:
        """Look at all finished runs: archive what is not, and let go what history does not keep.

        Raises:
            ApiError, ConnectionLost: the runs cannot be listed.
        """
        by_deployment: defaultdict[Key, list[FinishedRun]] = defaultdict(list)
        pinned = self._pinned() | self._c.notifier.untold()
        seen: set[str] = set()
        for namespace in self._c.settings.namespaces or (None,):
            async for metadata, cells in self._c.client.rows(FLOW_RUNS, namespace, field_selector=FINISHED):
                key = Key(metadata["namespace"], metadata["name"])
                if self._is_ours(key) and "deletionTimestamp" not in metadata:
                    seen.add(metadata["uid"])
                    needed = key in pinned or self._is_counted(metadata) or self._is_unrecorded(metadata)
                    run = _finished_run(metadata, cells, pinned=needed)
                    by_deployment[Key(key.namespace, str(cells.get("Deployment") or ""))].append(run)
        self._indexed &= seen
        for deployment, runs in by_deployment.items():
            await self._sweep_one(deployment, runs)

    def _is_ours(self, key: Key) -> bool:
        """Whether nothing of the run is under way, and everything about its namespace is known."""
        known = self._c.serves(key.namespace) and key.namespace not in self._c.joining
        return known and self._c.store.runs.get(key) is None

    def _pinned(self) -> set[Key]:
        """Runs that another one repeats and has not finished with."""
        return {
            Key(run.namespace, run.retry_of)
            for run in self._c.store.runs.values()
            if run.retry_of and not is_terminal(run.phase)
        }

    def _is_counted(self, metadata: dict[str, Any]) -> bool:
        """Whether the run is one of a Backfill that is not through: its runs are what it knows of its ticks."""
        name = (metadata.get("labels") or {}).get(LABEL_BACKFILL)
        backfill = self._c.store.backfills.get(Key(metadata["namespace"], name)) if name else None
        return backfill is not None and not backfill.status.get("completionTime")

    def _is_unrecorded(self, metadata: dict[str, Any]) -> bool:
        """Whether the run's Schedule has not put its tick on record: it knows by the run alone that the tick has had one."""
        name, tick = (metadata.get("labels") or {}).get(LABEL_SCHEDULE), tick_of(metadata["name"])
        schedule = self._c.store.schedules.get(Key(metadata["namespace"], name)) if name else None
        return schedule is not None and tick is not None and tick > Progress.of(schedule).decided_until

    async def _sweep_one(self, deployment: Key, runs: list[FinishedRun]) -> None:
        view = self._c.store.deployments.get(deployment)
        now, shelf = self._c.now(), self._shelf(deployment)
        if shelf is None and (view is None or storage_of_runs(view, self._c.settings.decide)):
            return  # nothing is lost because a Deployment was deleted, or because the operator may not use its storage
        if shelf is not None:
            await self._archive_old(shelf, runs, now)
        gone = leaving(runs, view.history if view is not None else Policy(), archived=shelf is not None, now=now)
        if not gone:
            return
        certain = {run.uid for run in gone} if shelf is None else await self._certainly_archived(shelf, gone)
        for run in gone:
            if run.uid in certain:
                await self._remove(deployment.namespace, run)

    async def _archive_old(self, shelf: Shelf, runs: list[FinishedRun], now: datetime) -> None:
        """Archive the runs whose end nobody saw: they ended while no operator was there, or their storage was away."""
        unknown = [
            run for run in runs if run.uid not in self._indexed and (now - run.ended).total_seconds() > self._fresh_s
        ]
        if unknown:
            self._indexed |= await self._certainly_archived(shelf, unknown)
        rest = [Ended(run.name, run.uid) for run in unknown if run.uid not in self._indexed]
        if rest:
            await self._archive(shelf, rest)

    @property
    def _fresh_s(self) -> float:
        return min(FRESH_S, self._settings.sweep_s)

    async def _certainly_archived(self, shelf: Shelf, runs: Sequence[FinishedRun]) -> set[str]:
        """Ask the index itself, not our memory of it: what is deleted next is nowhere else."""
        try:
            known = await self._archivist.known(shelf, {run.uid: sortable(run.ended.isoformat()) for run in runs})
        except LevadaError as error:
            self._trouble(shelf, error, "look")
            return set()
        if len(known) == len(runs) and self._c.store.archive_troubles.get(key_of(shelf)):
            self._note(shelf, "")  # all is there, although an answer was lost
        return known

    async def _remove(self, namespace: str, run: FinishedRun) -> None:
        """Delete a run, with its Jobs and pods, if it is still the one that was looked at."""
        await self._removals.acquire()
        try:
            await self._c.client.delete(
                FLOW_RUNS, run.name, namespace, uid=run.uid, resource_version=run.resource_version
            )
        except (NotFound, Conflict) as error:
            log.info("run %s/%s stays for now: %s", namespace, run.name, error)
        else:
            self._c.metrics.runs_removed.inc()


def _finished_run(metadata: dict[str, Any], cells: dict[str, Any], *, pinned: bool) -> FinishedRun:
    ended = parse(cells.get("Ended")) or parse(metadata.get("creationTimestamp"))
    assert ended is not None, metadata
    return FinishedRun(
        metadata["name"], metadata["uid"], metadata["resourceVersion"], str(cells.get("Phase")), ended, pinned=pinned
    )
