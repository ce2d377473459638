"""What a change means and what is done about it: watches in, keys into the queue, one reconcile per kind.

The three kinds that come in masses (FlowRun, Job, Pod) are reconciled here, under the key of their run; the others in
definitions.py. Nothing is decided before everything has been listed once: a fact that is only missing looks like one that is not so.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from levada.decide.attempt import failure_to_create
from levada.decide.facts import JobView, RunView
from levada.decide.plan import WARNING, EventSpec, Plan
from levada.decide.rights import missing_right
from levada.decide.run import decide_run
from levada.decide.views import job_view, pod_view, run_view
from levada.kube import ApiError, Client, Conflict, ConnectionLost, Invalid, NotFound
from levada.operator.announcer import Announcer, about_run
from levada.operator.apply import Answers, JobRefusedError, apply_run
from levada.operator.asking import answered
from levada.operator.backfills import Backfills
from levada.operator.definitions import Definitions
from levada.operator.gather import run_facts
from levada.operator.herald import Herald
from levada.operator.metrics import Metrics
from levada.operator.notifications import Notifier
from levada.operator.queues import Queues
from levada.operator.run_metrics import RunMetrics
from levada.operator.schedules import Schedules
from levada.operator.settings import OperatorSettings
from levada.operator.slots import Slots
from levada.operator.storages import Storages
from levada.operator.store import Key, Store
from levada.operator.task_pods import TaskPods
from levada.operator.workqueue import WorkQueue
from levada.resources.kinds import DEPLOYMENTS, FLOW_RUNS, FLOWS, JOBS, WORK_QUEUES, Kind
from levada.resources.phases import RunPhase, is_terminal

log = logging.getLogger(__name__)
Object = Mapping[str, Any]

RUN: Final = FLOW_RUNS.kind
# How long the counts of a queue may wait to be looked at: changes come in crowds.
COUNTS_AFTER_S: Final = 1.0
# What a run names, and may be there before the watch says so.
REFERENCES: Final = {kind.kind: kind for kind in (DEPLOYMENTS, FLOWS)}
LOOKED_UP_AGAIN_S: Final = 0.1

Reconcile = Callable[["Key"], Awaitable[float | None]]
"""Brings one object to where it should be; the answer is the seconds until the next look, if one is due."""

RunListener = Callable[[RunView | None, RunView | None], None]
"""Is told of a run's news: what was known before (None: nothing) and what is known now (None: the run is forgotten)."""


class Work(NamedTuple):
    """A key of the queue: which object of which kind to look at."""

    kind: str
    key: Key


def utc_now() -> datetime:
    """The only clock of the operator."""
    return datetime.now(UTC)


class Controller:
    """Feed it with `on_*`, call `start` once everything has been listed, then let workers `reconcile`."""

    def __init__(
        self,
        client: Client,
        settings: OperatorSettings,
        *,
        metrics: Metrics | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.client = client
        self.settings = settings
        self.store = Store(max_active_runs=settings.max_active_runs)
        self.metrics = metrics or Metrics()
        self.queue: WorkQueue[Work] = WorkQueue(on_wait=self.metrics.workqueue_wait.observe)
        self.now = now
        # For questions. What is written all the time has others (history.py), and nobody waits for the other.
        self.storages = Storages(settings.history.storage_timeout_s)
        self.herald = Herald(client, self.metrics, now)
        self.started = False
        self.serves: Callable[[str], bool] = lambda namespace: True  # of other namespaces nothing is taken in
        # Told of what we have made ourselves, so that a list that lacks it tells that it has been deleted.
        self.on_made: Callable[[Kind, Object], None] = lambda kind, body: None
        self.joining: set[str] = set()  # namespaces that are served, and have not been listed completely yet
        # Who looks at which kind. A kind with a module of its own registers itself here.
        self.reconcilers: dict[str, Reconcile] = {RUN: self._reconcile_run}
        # Called in the loop, on every news of a run, its end included: quick, and never raising.
        self.run_listeners: list[RunListener] = [
            RunMetrics(self.metrics, self.store, now).on_news,
            Announcer(self.herald, self.store).on_news,
        ]
        self.definitions = Definitions(self)
        self.schedules = Schedules(self)
        self.queues = Queues(self)
        self.notifier = Notifier(self)
        self.backfills = Backfills(self)
        self.slots = Slots(self)
        self.task_pods = TaskPods(self)
        self._stale: set[Key] = set()  # runs to be read from the API before they are decided about

    # --- changes ------------------------------------------------------------------------------------------------------

    def on_run(self, change: str, body: Object) -> None:
        """A FlowRun changed. Of one that is over and not known nothing is left to do here."""
        key = Key(body["metadata"].get("namespace", ""), body["metadata"]["name"])
        known = self.store.runs.get(key)
        if change == "DELETED":
            if known is not None and known.uid == body["metadata"].get("uid"):
                self._stale.add(key)  # a read tells whether there is another one of its name
                self.enqueue(RUN, key)
        elif known is not None or not is_terminal((body.get("status") or {}).get("phase")):
            self.take_run(run_view(body))

    def on_job(self, change: str, body: Object) -> None:
        """A Job of a run changed."""
        view = job_view(body)
        if view.task_pod:
            self.task_pods.on_job(change, view)
            return
        key = Key(view.namespace, view.run)
        if change == "DELETED":
            if self.store.remove_job(view) and self.store.runs.get(key) is not None:
                self.enqueue(RUN, key)
            return
        # Jobs that are kept while their run is being read count too: their end must not pass unseen.
        if self.store.runs.get(key) is not None or key in self.store.jobs or not self._settled(key):
            if self.store.put_job(view):
                self.enqueue(RUN, key)
        elif view.can_make_pods:
            self._adopt(view)

    def on_pod(self, change: str, body: Object) -> None:
        """A pod of a run changed. Pods of runs that nobody knows are the affair of their Job."""
        view = pod_view(body, gone=change == "DELETED")
        if view.task_pod:
            self.task_pods.on_pod(view)
            return
        key = Key(view.namespace, view.run)
        known = self.store.runs.get(key) is not None or key in self.store.jobs or not self._settled(key)
        if known and self.store.put_pod(view):
            self.enqueue(RUN, key)
            self.slots.look_again(key)
            self.task_pods.look_again(key)

    def take_run(self, view: RunView) -> None:
        """Put a run into the store, from wherever it came, and wake whom it concerns."""
        key = Key(view.namespace, view.name)
        if not self.serves(key.namespace):
            return
        known = self.store.runs.get(key)
        if self.store.put_run(view):
            self.enqueue(RUN, key)
            if known is not None and known.uid != view.uid:  # deleted and made anew: two runs, for whoever listens
                self._tell(known, None)
                known = None
            self._tell(known, view)
        self.wake_startable()

    def take_made(self, body: Object) -> None:
        """Put a run into the store that we have created."""
        self.on_made(FLOW_RUNS, body)
        self.take_run(run_view(body))

    def _tell(self, before: RunView | None, after: RunView | None) -> None:
        for listener in self.run_listeners:
            listener(before, after)

    def _adopt(self, job: JobView) -> None:
        """A Job that can still run something, of a run that is not under watch: it is over, or gone. Read it to know."""
        key = Key(job.namespace, job.run)
        self.store.put_job(job)
        self._stale.add(key)
        self.enqueue(RUN, key)

    def enqueue(self, kind: str, key: Key) -> None:
        """Have an object looked at."""
        self.queue.add(Work(kind, key))

    def wake_startable(self) -> None:
        """Places or limits have changed: look at the runs that can start now, and in a while at the counts of their queues."""
        if not self.started:
            return  # what holds a place may not have been listed yet
        line = self.store.line
        for key in line.to_look_at():
            self.enqueue(RUN, key)
        for queue in line.take_changed():
            if self.store.queues.get(queue) is not None:
                self.queue.add_after(Work(WORK_QUEUES.kind, queue), COUNTS_AFTER_S)

    def enqueue_after(self, kind: str, key: Key, delay_s: float) -> None:
        """Have an object looked at in a while."""
        self.queue.add_after(Work(kind, key), delay_s)

    def wake_runs(self, keys: Iterable[Key]) -> None:
        """What these runs wait for has changed. All get back in line before one is looked at: else whoever is first takes the place."""
        found = (run for key in keys if (run := self.store.runs.get(key)) is not None)
        waiting = [run for run in found if run.attempt == 0 or run.phase == RunPhase.RETRYING or run.parked]
        for run in sorted(waiting, key=lambda run: run.due_at):
            key = Key(run.namespace, run.name)
            self.store.line.call_back(key)
            self.store.place(key)
            self.enqueue(RUN, key)

    def start(self) -> None:
        """Everything has been listed: from now on what is not known is not there."""
        self.started = True
        self.queue.begin()
        self._settle(self._settled)

    def settle(self, namespace: str) -> None:
        """A namespace that has joined has been listed: what `start` is for the whole."""
        self.joining.discard(namespace)
        if self.started:
            self.definitions.enqueue_all(namespace)
            self._settle(lambda key: key.namespace == namespace)

    def _settled(self, key: Key) -> bool:
        return self.started and key.namespace not in self.joining

    def _settle(self, chosen: Callable[[Key], bool]) -> None:
        for key in filter(chosen, list(self.store.jobs)):
            if self.store.runs.get(key) is None:
                self._judge_strangers(key)
        for key in filter(chosen, list(self.store.pods)):
            if self.store.runs.get(key) is None and key not in self.store.jobs:
                del self.store.pods[key]
        for key in filter(chosen, self.store.runs):
            self.enqueue(RUN, key)
            self.slots.look_again(key)
        self.task_pods.settle(chosen)
        self.wake_startable()

    def let_go(self, namespace: str) -> None:
        """The namespace is somebody else's now. Nothing in it has ended; it is only forgotten."""
        self.joining.discard(namespace)
        for key in [key for key in self.store.runs if key.namespace == namespace]:
            self._tell(self.store.remove_run(key, exists=True), None)
        for key in [key for key in self.store.jobs if key.namespace == namespace]:
            self.store.drop_jobs(key)
        for key in [key for key in self.store.pods if key.namespace == namespace]:
            del self.store.pods[key]
        self._stale = {key for key in self._stale if key.namespace != namespace}
        self.definitions.let_go(namespace)
        self.schedules.let_go(namespace)
        self.notifier.let_go(namespace)
        self.task_pods.let_go(namespace)
        self.wake_startable()

    def _judge_strangers(self, key: Key) -> None:
        """Jobs without an unfinished run. Most are history; one that is still open may need to be stopped."""
        if any(job.can_make_pods for job in self.store.jobs[key].values()):
            self._stale.add(key)
            self.enqueue(RUN, key)
        else:
            self.store.drop_jobs(key)

    # --- work ---------------------------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Be one of the workers, for ever."""
        while True:
            work = await self.queue.get()
            try:
                await self._work_on(work)
            finally:
                self.queue.done(work)

    async def _work_on(self, work: Work) -> None:
        started_s = time.perf_counter()
        try:
            again_s = await self.reconcile(work)
        except (ApiError, ConnectionLost) as error:
            delay_s = self.queue.add_failed(work)
            self.metrics.reconcile_errors.labels(work.kind).inc()
            log.log(
                logging.INFO if isinstance(error, Conflict) else logging.WARNING,
                "%s %s/%s: %s; again in %.1f s", work.kind, *work.key, error, delay_s,
            )  # fmt: skip
            self._tell_of_right(work, error)
        except Exception:
            # A bug must not stop the others' runs. It is counted, logged with its trace, and tried again ever more slowly.
            delay_s = self.queue.add_failed(work)
            self.metrics.reconcile_errors.labels(work.kind).inc()
            log.exception("%s %s/%s: unexpected; again in %.1f s", work.kind, *work.key, delay_s)
        else:
            self.queue.forget(work)
            if again_s is not None:
                self.queue.add_after(work, again_s)
        self.metrics.reconcile_seconds.labels(work.kind).observe(time.perf_counter() - started_s)

    def _tell_of_right(self, work: Work, error: ApiError | ConnectionLost) -> None:
        """A right that is missing is told where its lack is felt: at the run."""
        run = self.store.runs.get(work.key) if work.kind == RUN else None
        right = missing_right(error.message) if isinstance(error, ApiError) else None
        if run is not None and right is not None:
            event = EventSpec(WARNING, "MissingRight", f"The operator cannot go on: {right}.", f"right-{right.verb}-{right.resource.replace('/', '-')}")  # fmt: skip
            self.herald.count(about_run(run), event)

    async def reconcile(self, work: Work) -> float | None:
        """Bring one object to where it should be. Returns the seconds until the next look, if one is due.

        Raises:
            ApiError, ConnectionLost: look again after a while.
        """
        if work.key.namespace in self.joining:
            return None  # `settle` has it looked at again
        return await self.reconcilers[work.kind](work.key)

    async def _reconcile_run(self, key: Key) -> float | None:
        if key in self._stale or (self.store.runs.get(key) is None and key in self.store.jobs):
            await self._refresh(key)
        now = self.now()
        self.store.line.call_back(key)
        self.store.place(key)
        facts = run_facts(self.store, key, now=now, settings=self.settings.decide)
        if facts is None:
            return None
        plan = decide_run(facts)
        if not facts.run.admitted:
            self._take_place(key, plan)
        if plan.ask is not None and plan.ask.kind in REFERENCES:
            if await self.definitions.look_up(REFERENCES[plan.ask.kind], Key(key.namespace, plan.ask.name)):
                return LOOKED_UP_AGAIN_S  # with all that follows from it
            facts = replace(facts, looked_up=True)
            plan = decide_run(facts)
        if plan.ask is not None:
            facts = await answered(self.client, self.storages, facts, plan.ask)
            plan = decide_run(facts)
            if not facts.run.admitted:
                self._take_place(key, plan)
        if plan.create_job is not None and facts.deployment is not None and not facts.run.admitted:
            queue = Key(key.namespace, facts.deployment.queue)
            if await self.definitions.look_for_queue(queue):
                return LOOKED_UP_AGAIN_S  # within its limit
        await self._carry_out(key, facts.run, plan, now)
        if plan.announced:
            self.store.announced.add(facts.run.uid)
        if plan.forget:
            self._tell(self.store.remove_run(key, exists=True), None)
        return plan.requeue_after_s

    async def _refresh(self, key: Key) -> None:
        """Read a run. If it is not there any more, everything of it is forgotten."""
        self._stale.discard(key)
        try:
            body = await self.client.get(FLOW_RUNS, key.name, key.namespace)
        except NotFound:
            self.forget_run(key)
        except Exception:
            self._stale.add(key)
            raise
        else:
            self.take_run(run_view(body))
            if self.store.runs.get(key) is None:
                self.store.drop_jobs(key)  # the store knows better: it has buried this run

    def forget_run(self, key: Key) -> None:
        """The run does not exist any more."""
        known = self.store.remove_run(key)
        if known is not None:
            self._tell(known, None)
        self.store.drop_jobs(key)
        self.store.pods.pop(key, None)
        self.wake_startable()

    def _take_place(self, key: Key, plan: Plan) -> None:
        """What a decision about a run that has not started means for those who wait. Before the first write, so nobody decides in between."""
        line = self.store.line
        if plan.create_job is not None or plan.ask is not None:
            line.claim(key)  # also while a question about it is under way
        elif not plan.queued:
            line.set_aside(key)
        elif line.is_claimed(key):
            line.leave(key)  # an earlier decision was not carried out, and is not repeated
            self.store.place(key)
        self.wake_startable()

    async def _carry_out(self, key: Key, run: RunView, plan: Plan, now: datetime) -> None:
        answers = Answers()
        try:
            await apply_run(self.client, run, plan, answers, now=now)
        except JobRefusedError as refusal:
            self._take(key, answers)
            await self._job_refused(key, refusal)
        except (ApiError, ConnectionLost) as error:
            # Somebody else was faster, or the answer is lost: decide again, from what there is then.
            self._take(key, answers)
            self._stale.add(key)
            if isinstance(error, Conflict | Invalid | NotFound) and self.store.line.is_claimed(key):
                # Certainly not written. Otherwise the place stays claimed until a read has told.
                self.store.line.set_aside(key)
                self.wake_startable()
            raise
        else:
            self._take(key, answers)
            self.herald.tell(about_run(run), plan.events)
            if answers.created and run.attempt == 0:
                self.metrics.start_latency.observe(max(0.0, (self.now() - run.due_at).total_seconds()))

    def _take(self, key: Key, answers: Answers) -> None:
        """Our own writes are news like any other, only sooner."""
        if answers.made is not None:
            self.on_made(JOBS, answers.made)
        for job in answers.jobs:
            if self.serves(job.namespace):
                self.store.put_job(job)
        for name in answers.gone:
            if self.store.forget_job(key, name):
                self.enqueue(RUN, key)
        for other in answers.others:
            self.take_run(other)
        if answers.run is not None:
            self.take_run(answers.run)

    async def _job_refused(self, key: Key, refusal: JobRefusedError) -> None:
        """The API server will not have the Job: say so, or end the run.

        Raises:
            ApiError: the refusal, so that the Job is tried again after a while.
        """
        now = self.now()
        facts = run_facts(self.store, key, now=now, settings=self.settings.decide)
        if facts is None:
            return
        error = refusal.error
        plan = failure_to_create(facts, error.status, error.reason, error.message)
        if plan is not None:
            await self._carry_out(key, facts.run, plan, now)
        run = self.store.runs.get(key)
        if run is not None and not is_terminal(run.phase):
            raise error
