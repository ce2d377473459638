"""Whatever the order of events, faults and kills: no run is lost, none runs an attempt twice, none stays undecided.

The real controller, store and decisions against a cluster in memory. Hypothesis chooses who moves next.
"""

import asyncio
import os
import re
from collections import Counter
from collections.abc import Hashable
from datetime import timedelta

from hypothesis import HealthCheck, Phase, settings, target
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from levada.decide.facts import RetryPolicy
from levada.kube import Invalid, KubeError
from levada.operator.controller import RUN, Controller, Work
from levada.operator.feeds import runs_without
from levada.operator.settings import OperatorSettings
from levada.operator.store import Key
from levada.resources.kinds import FLOW_RUNS, JOBS, PODS
from levada.resources.names import LABEL_RUN
from levada.resources.phases import is_terminal
from support.facts import SETTINGS, T0, a_deployment, a_flow, a_queue
from support.fake_cluster import FakeCluster, OperatorKilled

KINDS = (FLOW_RUNS, JOBS, PODS)
FAULTS = ("lost before", "lost after", "error", "killed before", "killed after")
LIMIT = 2
RUN_NAME = re.compile(r"\br\d+\b")
WATCHES = {FLOW_RUNS: "on_run", JOBS: "on_job", PODS: "on_pod"}


class VirtualQueue:
    """The work queue in the model's time."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self.ready: dict[Hashable, None] = {}
        self.due: dict[Hashable, object] = {}

    def __len__(self) -> int:
        return len(self.ready)

    def begin(self) -> None:
        pass

    def add(self, key: Hashable) -> None:
        self.ready[key] = None

    def add_after(self, key: Hashable, delay_s: float) -> None:
        at = self._cluster.now + timedelta(seconds=delay_s)
        self.due[key] = min(self.due.get(key, at), at)

    def wake(self) -> None:
        for key in [key for key, at in self.due.items() if at <= self._cluster.now]:
            del self.due[key]
            self.add(key)


def there_is(kind, condition=lambda item: True):
    """A rule that could do nothing wastes a step of the example."""
    return precondition(
        lambda self: any(of == kind and condition(item) for (of, _), item in self.cluster.objects.items())
    )


def is_pending(pod):
    return pod["status"]["phase"] == "Pending" and "deletionTimestamp" not in pod["metadata"]


def is_running(pod):
    return pod["status"]["phase"] == "Running"


def parked(status):
    """Suspended between two attempts."""
    concluded = any(record["number"] == status["attempt"] for record in status.get("attempts") or ())
    return concluded and status["phase"] in {"Paused", "Queued"}


def is_leaving(pod):
    return "deletionTimestamp" in pod["metadata"]


class Model(RuleBasedStateMachine):
    """Rules are the actors; invariants are the promises."""

    @initialize(limited=st.booleans())
    def set_up(self, limited):
        self.cluster = FakeCluster(T0)
        self.limited = limited
        self.loop = asyncio.new_event_loop()
        self.run_count = 0
        self.job_deleted: set[str] = set()
        self.illegal_writes: list[KubeError] = []
        self.user_creates_a_run()
        self.user_creates_a_run()
        self.start_operator()

    def teardown(self):
        try:
            if hasattr(self, "cluster"):
                target(float(len(self.cluster.pods_started)), label="attempts that ran")
                self.everything_ends()
        finally:
            if hasattr(self, "loop"):
                self.loop.close()

    # --- the operator -------------------------------------------------------------------------------------------------

    def start_operator(self):
        """A new process: it knows what it lists, and nothing else."""
        controller = Controller(self.cluster.client, OperatorSettings(decide=SETTINGS), now=lambda: self.cluster.now)
        controller.queue = VirtualQueue(self.cluster)
        limit = RetryPolicy(2, 1, 5)
        controller.store.put_deployment(
            a_deployment(retries=limit, infrastructure_retries=limit, pending_timeout_s=120)
        )
        controller.store.flows.put(Key("ns", "f"), a_flow())
        if self.limited:
            controller.store.put_queue(a_queue(limit=LIMIT))
        for kind in KINDS:
            self.cluster.streams[kind].clear()
            for item in self.cluster.listed(kind):
                getattr(controller, WATCHES[kind])("ADDED", item)
        for kind in (JOBS, PODS):
            for selector in runs_without(controller.store, None, self.cluster.listed(kind)):
                for item in self.cluster.all_of(kind):
                    if item["metadata"]["labels"][LABEL_RUN] in RUN_NAME.findall(selector):
                        getattr(controller, WATCHES[kind])("ADDED", item)
        controller.start()
        self.controller = controller

    @rule()
    def operator_is_killed(self):
        self.start_operator()

    @precondition(lambda self: any(self.cluster.streams.values()))
    @rule(kind=st.sampled_from(KINDS), count=st.integers(1, 5), twice=st.booleans())
    def watch_delivers(self, kind, count, twice):
        for _ in range(count):
            if not self.cluster.streams[kind]:
                return
            change, item = self.cluster.streams[kind].popleft()
            for _ in range(1 + twice):
                getattr(self.controller, WATCHES[kind])(change, item)

    @precondition(lambda self: len(self.controller.queue))
    @rule(which=st.integers(0, 9), fault=st.sampled_from((None, None, None, *FAULTS)), at=st.integers(0, 2))
    def worker_works(self, which, fault, at):
        queue = self.controller.queue
        if not queue.ready:
            return
        work = list(queue.ready)[which % len(queue.ready)]
        del queue.ready[work]
        queue.due.pop(work, None)
        self.cluster.faults.extend([""] * at + [fault] if fault else [])
        try:
            again_s = self.loop.run_until_complete(self.controller.reconcile(work))
        except OperatorKilled:
            self.start_operator()
        except KubeError as error:
            self.illegal_writes += [error] if isinstance(error, Invalid) else []
            queue.add_after(work, 1)
        else:
            if again_s is not None:
                queue.add_after(work, again_s)
        finally:
            self.cluster.faults.clear()

    @rule(kinds=st.sets(st.sampled_from(KINDS), min_size=1))
    def operator_catches_up(self, kinds):
        """Without this, most examples would end before the first pod starts. Some watches may stay behind."""
        for kind in KINDS:
            if kind in kinds:
                self.watch_delivers(kind, 100, twice=False)
        for _ in range(10):
            self.worker_works(0, None, 0)

    @there_is(JOBS)
    @rule()
    def cluster_catches_up(self):
        self.cluster.control_jobs()
        for pod in sorted(pod["metadata"]["name"] for pod in self.cluster.pods()):
            if self.cluster.objects[PODS, pod]["status"]["phase"] == "Pending":
                self.cluster.start_pod(pod)

    @rule(seconds=st.sampled_from((0.5, 2, 6, 15, 40, 130)))
    def time_passes(self, seconds):
        self.cluster.now += timedelta(seconds=seconds)
        self.controller.queue.wake()

    # --- users --------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.run_count < 4)
    @rule()
    def user_creates_a_run(self):
        self.run_count += 1
        self.cluster.create(
            FLOW_RUNS, {"metadata": {"name": f"r{self.run_count}"}, "spec": {"deploymentRef": {"name": "d"}}}
        )

    @there_is(FLOW_RUNS)
    @rule(data=st.data())
    def user_cancels_a_run(self, data):
        name = self.pick(data, FLOW_RUNS)
        if name:
            self.cluster.patch(FLOW_RUNS, name, {"spec": {"cancel": True}})

    @there_is(FLOW_RUNS)
    @rule(data=st.data(), suspend=st.booleans())
    def user_suspends_or_resumes_a_run(self, data, suspend):
        name = self.pick(data, FLOW_RUNS)
        if name:
            self.cluster.patch(FLOW_RUNS, name, {"spec": {"suspend": suspend}})

    @there_is(FLOW_RUNS)
    @rule(data=st.data())
    def user_deletes_a_run(self, data):
        name = self.pick(data, FLOW_RUNS)
        if name:
            self.cluster.delete(FLOW_RUNS, name)

    @there_is(JOBS)
    @rule(data=st.data())
    def user_deletes_a_job(self, data):
        name = self.pick(data, JOBS)
        if name:
            self.job_deleted.add(name)
            self.cluster.delete(JOBS, name)

    @there_is(PODS)
    @rule(data=st.data())
    def user_deletes_a_pod(self, data):
        name = self.pick(data, PODS)
        if name:
            self.cluster.ask_to_end(name)

    # --- the cluster --------------------------------------------------------------------------------------------------

    @there_is(JOBS)
    @rule()
    def job_controller_works(self):
        self.cluster.control_jobs()

    @there_is(PODS, is_pending)
    @rule(data=st.data())
    def pod_starts(self, data):
        name = self.pick(data, PODS, is_pending)
        if name:
            self.cluster.start_pod(name)

    @there_is(PODS, is_running)
    @rule(data=st.data(), phase=st.sampled_from(("Completed", "Failed", "Retrying")))
    def runner_reports(self, data, phase):
        name = self.pick(data, PODS, is_running)
        if name:
            self.cluster.report(self.run_of(name), phase=phase)

    @there_is(PODS, is_running)
    @rule(data=st.data(), how=st.sampled_from((0, 1, 137, 139, "evicted")))
    def pod_ends(self, data, how):
        name = self.pick(data, PODS, is_running)
        if name and how == "evicted":
            self.cluster.end_pod(name, 143, reason="Evicted", message="low on memory")
        elif name:
            self.cluster.end_pod(name, how)

    @there_is(PODS, is_leaving)
    @rule(data=st.data())
    def kubelet_removes_a_pod(self, data):
        name = self.pick(data, PODS)
        if name:
            self.cluster.remove_pod(name)

    def pick(self, data, kind, condition=lambda item: True):
        found = sorted(name for (of, name), item in self.cluster.objects.items() if of == kind and condition(item))
        return data.draw(st.sampled_from(found)) if found else None

    def run_of(self, pod):
        return self.cluster.objects[PODS, pod]["metadata"]["labels"]["levada.dev/run"]

    # --- promises -----------------------------------------------------------------------------------------------------

    def runs(self):
        return {name: item for (kind, name), item in self.cluster.objects.items() if kind == FLOW_RUNS}

    @invariant()
    @precondition(lambda self: hasattr(self, "cluster"))
    def no_illegal_write_is_even_tried(self):
        assert not self.illegal_writes

    @invariant()
    @precondition(lambda self: hasattr(self, "cluster"))
    def no_attempt_runs_twice(self):
        assert all(count == 1 for count in Counter(self.cluster.pods_started).values())

    @invariant()
    @precondition(lambda self: hasattr(self, "cluster"))
    def no_job_is_made_twice(self):
        twice = [name for name, count in Counter(self.cluster.jobs_created).items() if count > 1]
        assert not [name for name in twice if name not in self.job_deleted]

    @invariant()
    @precondition(lambda self: hasattr(self, "cluster"))
    def the_queue_s_limit_holds(self):
        statuses = [run.get("status") or {} for run in self.runs().values()]
        holding = [
            status
            for status in statuses
            if status.get("attempt") and not is_terminal(status.get("phase")) and not parked(status)
        ]
        assert not self.limited or len(holding) <= LIMIT

    @invariant()
    @precondition(lambda self: hasattr(self, "cluster"))
    def a_job_s_attempt_is_on_record(self):
        runs = self.runs()
        for (kind, _), job in self.cluster.objects.items():
            labels = job["metadata"].get("labels") or {}
            if kind == JOBS and labels["levada.dev/run"] in runs:
                assert (runs[labels["levada.dev/run"]].get("status") or {}).get("attempt", 0) >= int(
                    labels["levada.dev/attempt"]
                )

    @invariant()
    @precondition(lambda self: hasattr(self, "cluster"))
    def no_two_pods_of_a_run_at_a_time(self):
        lost = timedelta(seconds=SETTINGS.lost_after_s)
        living = Counter()
        for pod in self.cluster.pods():
            due = pod["metadata"].get("deletionTimestamp")
            forgotten = due is not None and self.cluster.now.isoformat() >= due[:19] and lost
            if pod["status"]["phase"] == "Running" and not forgotten:
                living[pod["metadata"]["annotations"]["levada.dev/run-uid"]] += 1
        assert all(count == 1 for count in living.values()), living

    def everything_ends(self):
        """Let everybody work without faults until nothing moves: every run must be decided, and nothing left running."""
        for name in self.runs():
            self.cluster.patch(FLOW_RUNS, name, {"spec": {"suspend": False}})
        for _ in range(150):
            for kind in KINDS:
                self.watch_delivers(kind, 1000, twice=False)
            for _ in range(50):
                self.worker_works(0, None, 0)
            self.cluster.control_jobs()
            for pod in [pod["metadata"]["name"] for pod in self.cluster.pods()]:
                if (PODS, pod) in self.cluster.objects:
                    self.cluster.remove_pod(pod)
                if (PODS, pod) in self.cluster.objects and self.cluster.objects[PODS, pod]["status"][
                    "phase"
                ] == "Pending":
                    self.cluster.start_pod(pod)
                elif (PODS, pod) in self.cluster.objects:
                    self.cluster.end_pod(pod, 0)
            self.no_attempt_runs_twice()
            self.the_queue_s_limit_holds()
            self.time_passes(5)
            if self.at_rest():
                break
        undecided = {
            name: run.get("status")
            for name, run in self.runs().items()
            if not is_terminal((run.get("status") or {}).get("phase"))
        }
        assert not undecided, undecided
        assert not [
            pod["metadata"]["name"] for pod in self.cluster.pods() if pod["status"]["phase"] in {"Pending", "Running"}
        ]
        assert len(self.controller.store.runs) == 0, "what is over is forgotten"
        assert not self.controller.store.jobs and not self.controller.store.pods

    def at_rest(self):
        over = all(is_terminal((run.get("status") or {}).get("phase")) for run in self.runs().values())
        return (
            over
            and not len(self.controller.queue)
            and not any(self.cluster.streams.values())
            and not len(self.controller.store.runs)
        )


# Shrinking takes minutes; a person who debugs can have it back with LEVADA_SHRINK=1.
PHASES = (
    tuple(Phase) if os.environ.get("LEVADA_SHRINK") else (Phase.explicit, Phase.reuse, Phase.generate, Phase.target)
)
Model.TestCase.settings = settings(
    max_examples=int(os.environ.get("LEVADA_EXAMPLES", "100")),
    # The suite tries the same hundred histories each time; LEVADA_EXAMPLES=1000 goes looking for new ones.
    derandomize="LEVADA_EXAMPLES" not in os.environ,
    stateful_step_count=100,
    deadline=None,
    phases=PHASES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestModel = Model.TestCase
assert Work(RUN, Key("ns", "r")).kind == "FlowRun"
