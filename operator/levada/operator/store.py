"""What the operator knows: slim views of unfinished runs and what belongs to them, with the indexes that decisions need.

Fed by watches, by lists and by the answers to our own writes, in any order: an object never goes back to an older version.
Derived facts (who holds a place, who waits: line.py) are indexes that follow the views; nothing is counted by hand.
Finished runs are dropped once nothing of theirs is alive, so memory goes with the work at hand, not with history.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterator
from typing import Any, Final, Generic, Protocol, TypeVar

from levada.decide.code import Code
from levada.decide.definitions import (
    BackfillView,
    BlockView,
    DeploymentView,
    FlowView,
    LimitView,
    QueueView,
    ScheduleView,
)
from levada.decide.facts import JobView, PodView, Replaceable, RunView
from levada.decide.overlap import first_to_wait_for
from levada.operator.keys import Key
from levada.operator.line import Line
from levada.resources.phases import RunPhase, is_terminal

__all__ = ["Key", "Store", "Table", "is_older"]


class _Versioned(Protocol):
    @property
    def uid(self) -> str: ...

    @property
    def resource_version(self) -> str: ...


V = TypeVar("V", bound=_Versioned)
K = TypeVar("K", bound=Hashable)
_GRAVES_KEPT: Final = 10_000


def is_older(candidate: str, known: str) -> bool:
    """Whether a resource version is older than another. Kubernetes lets versions of one kind be compared as numbers."""
    return candidate.isdecimal() and known.isdecimal() and int(candidate) < int(known)


class Table(Generic[V]):
    """The views of one kind by key."""

    def __init__(self) -> None:
        self._views: dict[Key, V] = {}
        # Removed objects by uid, with the version that they had: an event or answer that arrives late must not revive them.
        # No version: the object does not exist any more.
        self._graves: dict[str, str] = {}

    def get(self, key: Key) -> V | None:
        return self._views.get(key)

    def __len__(self) -> int:
        return len(self._views)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._views)

    def values(self) -> Iterator[V]:
        return iter(self._views.values())

    def accepts(self, key: Key, view: V) -> bool:
        """Whether the view is news: not of a removed object, and not older than what is known."""
        known = self._views.get(key)
        buried = self._graves.get(view.uid)
        if buried is not None and (not buried or is_older(view.resource_version, buried)):
            return False
        return known is None or known.uid != view.uid or is_older(known.resource_version, view.resource_version)

    def put(self, key: Key, view: V) -> None:
        self._views[key] = view

    def remove(self, key: Key, *, exists: bool = False) -> V | None:
        """Forget an object. `exists`: it is still there, but of no interest in this version."""
        view = self._views.pop(key, None)
        if view is not None:
            self._graves[view.uid] = view.resource_version if exists else ""
            if len(self._graves) > _GRAVES_KEPT:
                del self._graves[next(iter(self._graves))]
        return view


class Store:
    """Use from one event loop only: there is no await inside, so what one reads is consistent."""

    def __init__(self, *, max_active_runs: int | None = None) -> None:
        self.runs: Table[RunView] = Table()
        self.flows: Table[FlowView] = Table()
        self.deployments: Table[DeploymentView] = Table()
        self.queues: Table[QueueView] = Table()
        self.schedules: Table[ScheduleView] = Table()
        self.limits: Table[LimitView] = Table()
        self.blocks: Table[BlockView] = Table()
        self.backfills: Table[BackfillView] = Table()
        self.jobs: dict[Key, dict[str, JobView]] = {}  # by run
        self.pods: dict[Key, dict[str, PodView]] = {}  # by run
        self.codes: dict[Key, tuple[str, int, Code]] = {}  # by Flow: uid, generation, what inspection found
        self.announced: set[str] = set()  # uids of runs whose end has been told
        self.refused: dict[Key, tuple[str, int, str]] = {}  # by Deployment: uid, generation, the dry run's refusal
        self.archive_troubles: dict[Key, str] = {}  # by Deployment: what the storage last said; empty: it took all
        self.runs_of_deployment: defaultdict[Key, set[Key]] = defaultdict(set)
        self.deployments_of_flow: defaultdict[Key, set[Key]] = defaultdict(set)
        self.runs_of_schedule: defaultdict[str, set[Key]] = defaultdict(set)  # by the Schedule's uid
        self.schedules_of_deployment: defaultdict[Key, set[Key]] = defaultdict(set)
        self._jobs_seen: defaultdict[str, set[int]] = defaultdict(set)  # attempts by uid of the run
        self.line = Line(max_active_runs)

    # --- runs ---------------------------------------------------------------------------------------------------------

    def put_run(self, view: RunView) -> bool:
        """Take a run in. Returns whether anything that a decision reads has changed."""
        key = Key(view.namespace, view.name)
        if not self.runs.accepts(key, view):
            return False
        known = self.runs.get(key)
        if known is not None and known.uid != view.uid:
            self.remove_run(key)
            known = None
        self.runs.put(key, view)
        self.runs_of_deployment[Key(view.namespace, view.deployment)].add(key)
        if view.schedule_uid:
            self.runs_of_schedule[view.schedule_uid].add(key)
        if known is None:
            self.line.arrive(key)
        self.place(key)
        return known is None or _differs(known, view)

    def remove_run(self, key: Key, *, exists: bool = False) -> RunView | None:
        """Forget a run and everything of it. `exists`: it is over, not deleted."""
        view = self.runs.remove(key, exists=exists)
        if view is None:
            return None
        self.line.forget(key)
        self.drop_jobs(key)
        self.pods.pop(key, None)
        self._jobs_seen.pop(view.uid, None)
        self.announced.discard(view.uid)
        self._drop(self.runs_of_deployment, Key(view.namespace, view.deployment), key)
        self._drop(self.runs_of_schedule, view.schedule_uid, key)
        return view

    # --- what belongs to a run ----------------------------------------------------------------------------------------

    def put_job(self, view: JobView) -> bool:
        """Take a Job in. Returns whether it is news."""
        jobs = self.jobs.setdefault(Key(view.namespace, view.run), {})
        known = jobs.get(view.name)
        if known is not None and known.uid == view.uid and not is_older(known.resource_version, view.resource_version):
            return False
        jobs[view.name] = view
        self._jobs_seen[view.owner_uid].add(view.attempt)
        return known is None or _differs(known, view)

    def remove_job(self, view: JobView) -> bool:
        """A Job was deleted. That it was there is remembered with its run."""
        key = Key(view.namespace, view.run)
        known = self.jobs.get(key, {}).get(view.name)
        if known is None or known.uid != view.uid:
            return False
        del self.jobs[key][view.name]
        if not self.jobs[key]:
            del self.jobs[key]
        return True

    def drop_jobs(self, key: Key) -> None:
        """Forget the Jobs of a run that is not known: of thousands of old ones nothing may stay."""
        known = self.runs.get(key)
        for job in self.jobs.pop(key, {}).values():
            if known is None or known.uid != job.owner_uid:
                self._jobs_seen.pop(job.owner_uid, None)

    def forget_job(self, key: Key, name: str) -> bool:
        """A Job of a run is not there any more, and no watch has told. Returns whether it was known."""
        known = self.jobs.get(key, {}).get(name)
        return known is not None and self.remove_job(known)

    def put_pod(self, view: PodView) -> bool:
        """Take a pod in; a pod that is gone stays with what was last seen of it, until its run is forgotten."""
        pods = self.pods.setdefault(Key(view.namespace, view.run), {})
        known = pods.get(view.name)
        if known is not None and known.uid == view.uid and not _is_later(known, view):
            return False
        pods[view.name] = view
        return known is None or _differs(known, view)

    def job_seen(self, run: RunView) -> bool:
        """Whether this process has seen the Job of the run's current attempt."""
        return run.attempt in self._jobs_seen.get(run.uid, ())

    # --- places -------------------------------------------------------------------------------------------------------

    def place(self, key: Key) -> None:
        """Put a run where it belongs now: among those that hold a place, those that wait for one, or neither."""
        run = self.runs.get(key)
        if run is None or is_terminal(run.phase):
            self.line.forget(key)
        elif run.admitted:
            self.line.hold(run)
        else:
            deployment = self.deployments.get(Key(key.namespace, run.deployment))
            if deployment is None or run.cancel or run.suspend or self.waits_for(run):
                self.line.leave(key)
            else:
                self.line.wait(run, deployment)

    def replaceable(self, deployment: Key) -> tuple[Replaceable, ...]:
        """The active runs of a Deployment that nobody has asked to stop, the oldest first."""
        runs = [run for key in self.line.active_of(deployment) if (run := self.runs.get(key)) is not None]
        going = [run for run in runs if not (run.cancel or run.deleting or run.phase == RunPhase.CANCELLING)]
        going.sort(key=lambda run: (run.due_at, run.name))
        return tuple(Replaceable(run.name, run.uid) for run in going)

    def put_queue(self, view: QueueView) -> bool:
        """Take a WorkQueue in. Returns whether it is news in more than its version."""
        key = Key(view.namespace, view.name)
        if not self.queues.accepts(key, view):
            return False
        known = self.queues.get(key)
        self.queues.put(key, view)
        if known is None or known.generation != view.generation or known.uid != view.uid:
            self.line.set_queue(key, view)
        return known is None or _differs(known, view)

    def remove_queue(self, key: Key, *, exists: bool = False) -> bool:
        """A WorkQueue was deleted: its runs wait for nothing any more. `exists`: it is only forgotten."""
        if self.queues.remove(key, exists=exists) is None:
            return False
        self.line.set_queue(key, None)
        return True

    # --- schedules ----------------------------------------------------------------------------------------------------

    def put_schedule(self, view: ScheduleView) -> bool:
        """Take a Schedule in. Returns whether it is news."""
        key = Key(view.namespace, view.name)
        if not self.schedules.accepts(key, view):
            return False
        known = self.schedules.get(key)
        if known is not None and known.deployment != view.deployment:
            self._drop(self.schedules_of_deployment, Key(view.namespace, known.deployment), key)
        self.schedules.put(key, view)
        self.schedules_of_deployment[Key(view.namespace, view.deployment)].add(key)
        return known is None or _differs(known, view)

    def remove_schedule(self, key: Key, *, exists: bool = False) -> bool:
        """A Schedule was deleted; `exists`: it is only not ours any more."""
        view = self.schedules.remove(key, exists=exists)
        if view is None:
            return False
        self._drop(self.schedules_of_deployment, Key(view.namespace, view.deployment), key)
        return True

    def active_runs_of(self, schedule_uid: str) -> tuple[RunView, ...]:
        """The runs of a Schedule that have not ended."""
        found = (self.runs.get(key) for key in self.runs_of_schedule.get(schedule_uid, ()))
        return tuple(run for run in found if run is not None and not is_terminal(run.phase))

    def waits_for(self, run: RunView) -> str:
        """The earlier run of its Schedule that has to end before this one may start; empty if there is none."""
        schedule = self.schedules.get(Key(run.namespace, run.schedule)) if run.schedule_uid else None
        if schedule is None or schedule.uid != run.schedule_uid:
            return ""
        return first_to_wait_for(schedule.policy, self.active_runs_of(schedule.uid), run)

    # --- the other kinds ----------------------------------------------------------------------------------------------

    def put_deployment(self, view: DeploymentView) -> bool:
        """Take a Deployment in; its waiting runs may now belong to another queue."""
        key = Key(view.namespace, view.name)
        if not self.deployments.accepts(key, view):
            return False
        known = self.deployments.get(key)
        self.deployments.put(key, view)
        if known is not None and known.flow != view.flow:
            self._drop(self.deployments_of_flow, Key(view.namespace, known.flow), key)
        self.deployments_of_flow[Key(view.namespace, view.flow)].add(key)
        if known is None or known.generation != view.generation or known.uid != view.uid:
            self.line.set_deployment(key, view)
            self._place_runs_of(key)
        return known is None or _differs(known, view)

    def remove_deployment(self, key: Key, *, exists: bool = False) -> bool:
        """A Deployment was deleted; `exists`: it is only not ours any more."""
        view = self.deployments.remove(key, exists=exists)
        if view is None:
            return False
        self._drop(self.deployments_of_flow, Key(view.namespace, view.flow), key)
        self.refused.pop(key, None)
        self.archive_troubles.pop(key, None)
        self._place_runs_of(key)
        self.line.unset_deployment(key)
        return True

    def _place_runs_of(self, deployment: Key) -> None:
        for run in list(self.runs_of_deployment.get(deployment, ())):
            self.place(run)

    @staticmethod
    def _drop(index: defaultdict[K, set[Key]], key: K, member: Key) -> None:
        members = index.get(key)
        if members is not None:
            members.discard(member)
            if not members:
                del index[key]


def _differs(known: Any, view: Any) -> bool:
    """Whether two views of one object differ in more than their version."""
    return any(getattr(known, name) != getattr(view, name) for name in view.__slots__ if name != "resource_version")


def _is_later(known: PodView, view: PodView) -> bool:
    """Whether a pod has moved on. Nothing comes after its deletion."""
    return not known.gone and (view.gone or is_older(known.resource_version, view.resource_version))
