"""Pods of single tasks and Dask workers: the operator makes and removes their Jobs, and tells the runs how they ended.

Runs ask in their status (decide/task_pods.py). The Jobs carry the label of their run and one of their own, so they come in by the
watches that are there anyway; here they are kept apart from the attempts of runs. Nothing else is remembered.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from levada.decide.manifest import job_name as attempt_job_name
from levada.decide.task_manifest import build_task_job
from levada.decide.task_pods import TaskPodFacts, TaskPodPlan, decide_task_pods, job_name, refused_job
from levada.decide.views import controller_uid, job_view, pod_view, run_view
from levada.kube import AlreadyExists, ApiError, Conflict, NotFound, ServerError
from levada.operator.apply import patch_status
from levada.operator.asking import node_of
from levada.operator.keys import Key
from levada.resources.kinds import FLOW_RUNS, JOBS, PODS
from levada.resources.names import LABEL_RUN, LABEL_TASK_POD

if TYPE_CHECKING:
    from collections.abc import Callable

    from levada.decide.facts import JobView, NodeView, PodView, RunView, TaskPodView
    from levada.operator.controller import Controller

log = logging.getLogger(__name__)

KIND: Final = "TaskPods"
# A Job that was refused for want of a right or of quota.
_AGAIN_S: Final = 5.0
_MOST_LOOKS: Final = 4


class TaskPods:
    """The reconciler of the pods that runs ask for; one look at a run sees to all of its."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller
        self._jobs: dict[Key, dict[str, JobView]] = {}  # by run, then by name
        self._pods: dict[Key, dict[str, PodView]] = {}
        self._seen: dict[str, set[str]] = {}  # by uid of the run: names of Jobs that were there
        self._unsure: set[Key] = set()  # runs to be read before they are decided about
        controller.reconcilers[KIND] = self._reconcile
        controller.run_listeners.append(self._on_run)

    # --- news ---------------------------------------------------------------------------------------------------------

    def _on_run(self, before: RunView | None, after: RunView | None) -> None:
        run = after or before
        if run is None:
            return
        key = Key(run.namespace, run.name)
        if after is None:
            self._seen.pop(run.uid, None)
        if run.task_pods or key in self._jobs:
            self._c.enqueue(KIND, key)

    def look_again(self, key: Key) -> None:
        """The run's own pod changed: when it has ended, nobody waits for its tasks."""
        run = self._c.store.runs.get(key)
        if key in self._jobs or (run is not None and run.task_pods):
            self._c.enqueue(KIND, key)

    def on_job(self, change: str, view: JobView) -> None:
        """A Job of a task changed."""
        key = Key(view.namespace, view.run)
        if not self._c.serves(view.namespace):
            return
        jobs = self._jobs.setdefault(key, {})
        if change == "DELETED":
            if (known := jobs.get(view.name)) is not None and known.uid == view.uid:
                del jobs[view.name]
            if not jobs:
                del self._jobs[key]
        else:
            self._take_job(key, view)
        self._c.enqueue(KIND, key)

    def _take_job(self, key: Key, view: JobView) -> None:
        self._jobs.setdefault(key, {})[view.name] = view
        self._seen.setdefault(view.owner_uid, set()).add(view.name)

    def on_pod(self, view: PodView) -> None:
        """A pod of a task changed."""
        key = Key(view.namespace, view.run)
        if self._c.serves(view.namespace):
            self._pods.setdefault(key, {})[view.name] = view
            self._c.enqueue(KIND, key)

    def settle(self, chosen: Callable[[Key], bool]) -> None:
        """Everything has been listed: look at all that is there."""
        asking = (key for key in self._c.store.runs if self._c.store.runs.get(key).task_pods)  # type: ignore[union-attr]
        for key in {*filter(chosen, self._jobs), *filter(chosen, asking)}:
            self._c.enqueue(KIND, key)

    def let_go(self, namespace: str) -> None:
        """The namespace is somebody else's now."""
        for index in (self._jobs, self._pods):
            for key in [key for key in index if key.namespace == namespace]:
                del index[key]
        self._unsure = {key for key in self._unsure if key.namespace != namespace}

    # --- work ---------------------------------------------------------------------------------------------------------

    async def _reconcile(self, key: Key) -> float | None:
        run = self._c.store.runs.get(key)
        if run is None or key in self._unsure:
            run = await self._read(key)
        if run is None:
            await self._remove(key, list(self._jobs.get(key, {}).values()))
            self._pods.pop(key, None)
            return None
        looked: set[str] = set()
        nodes: dict[str, NodeView] = {}
        for _ in range(_MOST_LOOKS):
            facts = self._facts(key, run, frozenset(looked), nodes)
            plan = decide_task_pods(facts)
            if not plan.look_up and not plan.ask_nodes:
                break
            looked |= set(plan.look_up)
            fresh = await self._look_up(key, run, plan)
            nodes |= {name: await node_of(self._c.client, name) for name in plan.ask_nodes}
            if fresh is None:
                return None  # its news wake us again
            run = fresh
        else:
            return _AGAIN_S
        return await self._carry_out(key, run, plan)

    def _facts(self, key: Key, run: RunView, looked: frozenset[str], nodes: dict[str, NodeView]) -> TaskPodFacts:
        own = [pod for pod in self._c.store.pods.get(key, {}).values() if pod.run_uid == run.uid]
        own = [pod for pod in own if pod.attempt == run.attempt]
        seen = self._seen.get(run.uid, ())
        return TaskPodFacts(
            now=self._c.now(),
            run=run,
            deployment=self._c.store.deployments.get(Key(run.namespace, run.deployment)),
            pod=next((pod for pod in own if not pod.finished), own[0] if own else None),
            jobs=tuple(self._jobs.get(key, {}).values()),
            pods=tuple(pod for pod in self._pods.get(key, {}).values() if pod.run_uid == run.uid),
            looked_up=looked,
            seen=frozenset(entry.id for entry in run.task_pods if job_name(run.name, entry.attempt, entry.id) in seen),
            nodes=nodes,
            settings=self._c.settings.decide,
        )

    async def _read(self, key: Key) -> RunView | None:
        """The run as it is; None if it is over or gone, so that nothing of it may be left."""
        try:
            view = run_view(await self._c.client.get(FLOW_RUNS, key.name, key.namespace))
        except NotFound:
            self._unsure.discard(key)
            return None
        self._unsure.discard(key)
        self._c.take_run(view)
        return self._c.store.runs.get(key)

    async def _look_up(self, key: Key, run: RunView, plan: TaskPodPlan) -> RunView | None:
        """Read what the watches may not have told: the run, the Jobs of some of its entries, and their pods."""
        for name in plan.look_up:
            try:
                job = job_view(await self._c.client.get(JOBS, job_name(run.name, run.attempt, name), run.namespace))
            except NotFound:
                self._jobs.get(key, {}).pop(job_name(run.name, run.attempt, name), None)
                continue
            if job.owner_uid == run.uid:
                self._take_job(key, job)
        if plan.look_up:
            selector = f"{LABEL_RUN}={run.name},{LABEL_TASK_POD} in ({','.join(plan.look_up)})"
            for body in (await self._c.client.list(PODS, run.namespace, label_selector=selector))[0]:
                self._pods.setdefault(key, {})[body["metadata"]["name"]] = pod_view(body)
            # After the Jobs: an entry that is still granted then, and has no Job, has not had one and lost it since.
            return await self._read(key)
        return run

    async def _carry_out(self, key: Key, run: RunView, plan: TaskPodPlan) -> float | None:
        if plan.entries:
            run = await self._write(key, run, plan.entries)
        template: dict[str, Any] | None = None
        again_s = [plan.requeue_after_s] if plan.requeue_after_s is not None else []
        for entry in plan.create:
            if template is None:
                template = await self._c.client.get(JOBS, attempt_job_name(run.name, run.attempt), run.namespace)
            if not await self._create(key, run, entry, template):
                again_s.append(_AGAIN_S)
        await self._remove(key, list(plan.delete))
        self._drop_pods(key, run)
        return min(again_s, default=None)

    async def _write(self, key: Key, run: RunView, entries: Any) -> RunView:
        """Into the run, if it is still the one that was looked at."""
        try:
            body = await patch_status(
                self._c.client,
                FLOW_RUNS,
                key.namespace,
                key.name,
                {"taskPods": entries},
                uid=run.uid,
                resource_version=run.resource_version,
            )
        except Exception:
            self._unsure.add(key)
            raise
        view = run_view(body)
        self._c.take_run(view)
        return view

    async def _create(self, key: Key, run: RunView, entry: TaskPodView, template: dict[str, Any]) -> bool:
        """Make the Job of an entry. Whether that is settled: the Job is there, or never will be."""
        manifest = build_task_job(template, run, entry)
        try:
            made = await self._c.client.create(JOBS, manifest, run.namespace)
        except AlreadyExists:
            made = await self._c.client.get(JOBS, manifest["metadata"]["name"], run.namespace)
            if controller_uid(made) != run.uid:
                name = manifest["metadata"]["name"]
                await self._refuse(key, entry, 422, f"Job {name!r} belongs to somebody else: it must go first.")
                return True
        except (Conflict, ServerError):
            raise
        except ApiError as error:
            log.warning("Job of %s %s for run %s/%s: %s", entry.id, entry.holder, *key, error)
            return await self._refuse(key, entry, error.status, str(error))
        self._c.on_made(JOBS, made)
        self._take_job(key, job_view(made))
        return True

    async def _refuse(self, key: Key, entry: TaskPodView, status: int, message: str) -> bool:
        said = refused_job(status, message)
        run = self._c.store.runs.get(key)
        if said is None or run is None:
            return False
        await self._write(key, run, {entry.id: said})
        return True

    async def _remove(self, key: Key, jobs: list[JobView]) -> None:
        """Delete Jobs with their pods, which get the grace period of their run."""
        await asyncio.gather(*(self._delete(key, job) for job in jobs if not job.deleting))

    async def _delete(self, key: Key, job: JobView) -> None:
        try:
            await self._c.client.delete(JOBS, job.name, job.namespace, uid=job.uid)
        except (NotFound, Conflict):
            self._jobs.get(key, {}).pop(job.name, None)
        else:
            if job.name in self._jobs.get(key, {}):
                self._jobs[key][job.name] = replace(job, deleting=True)

    def _drop_pods(self, key: Key, run: RunView) -> None:
        """Forget pods that have gone, and that no entry is waiting to learn the end of."""
        open_ = {entry.id for entry in run.task_pods if entry.attempt == run.attempt}
        pods = self._pods.get(key, {})
        for name in [name for name, pod in pods.items() if pod.gone and pod.task_pod not in open_]:
            del pods[name]
        if not pods:
            self._pods.pop(key, None)
