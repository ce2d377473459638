"""Pods of tasks through the real controller, against a cluster in memory: whatever happens, no Job is made twice, and none is left."""

import asyncio
from collections import Counter, deque
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from levada.decide.times import stamp
from levada.kube import KubeError
from levada.operator.controller import RUN, Controller, Work
from levada.operator.settings import OperatorSettings
from levada.operator.store import Key
from levada.operator.task_pods import KIND
from levada.resources import names
from levada.resources.kinds import FLOW_RUNS, JOBS, PODS
from levada.resources.phases import is_terminal
from support.facts import SETTINGS, T0, a_deployment
from support.fake_cluster import FakeCluster, OperatorKilled, clone

R = Key("ns", "r")
LIMIT = 2


class World:
    """A run under way that asks for pods, nodes that run them, and an operator that is killed."""

    def __init__(self):
        self.cluster = FakeCluster(T0)
        run = self.cluster.create(FLOW_RUNS, {"metadata": {"name": "r"}, "spec": {"deploymentRef": {"name": "d"}}})
        uid = run["metadata"]["uid"]
        labels = {names.LABEL_RUN: "r", names.LABEL_ATTEMPT: "1"}
        about = {"labels": labels, "annotations": {names.ANNOTATION_RUN_UID: uid}}
        container = {"name": "flow", "env": []}
        owner = {"uid": uid, "controller": True}
        spec = {"template": {"metadata": about, "spec": {"containers": [container]}}}
        self.cluster.create(JOBS, {"metadata": {"name": "r-1", **about, "ownerReferences": [owner]}, "spec": spec})
        self.cluster.patch(
            FLOW_RUNS, "r", {"status": {"phase": "Running", "attempt": 1, "queue": "default", "podName": "p"}}
        )
        self.cluster.control_jobs()
        (pod,) = self.cluster.pods()
        self.cluster.patch(PODS, pod["metadata"]["name"], {"status": {"phase": "Running", "containerStatuses": [
            {"name": "flow", "state": {"running": {"startedAt": stamp(T0)}}}]}})  # fmt: skip
        self.loop = asyncio.new_event_loop()
        self.count = 0
        self.start()
        self.other, self.news = self.new_operator(), {kind: deque() for kind in (JOBS, PODS, FLOW_RUNS)}

    def new_operator(self, *, only_runs=False):
        """An operator process: it lists what is under way. `only_runs`: it has not come to the rest yet."""
        controller = Controller(self.cluster.client, OperatorSettings(decide=SETTINGS), now=lambda: self.cluster.now)
        controller.store.put_deployment(a_deployment(infrastructure={"taskPods": {"limit": LIMIT}}))
        self.tell(controller, FLOW_RUNS, (("ADDED", item) for item in self.cluster.listed(FLOW_RUNS)))
        if not only_runs:
            self.list_the_rest(controller)
        return controller

    def list_the_rest(self, controller):
        for kind in (JOBS, PODS):
            self.tell(controller, kind, (("ADDED", item) for item in self.cluster.listed(kind)))
        controller.start()

    @staticmethod
    def tell(controller, kind, events):
        handle = {JOBS: controller.on_job, PODS: controller.on_pod, FLOW_RUNS: controller.on_run}[kind]
        for change, body in events:
            handle(change, clone(body))

    def start(self):
        """A new process in place of the old one."""
        self.controller = self.new_operator()

    def watch(self):
        """All news for the one operator; the other gets them one kind at a time."""
        for kind in (JOBS, PODS, FLOW_RUNS):
            events = list(self.cluster.streams[kind])
            self.cluster.streams[kind].clear()
            self.news[kind].extend(events)
            self.tell(self.controller, kind, events)

    def work(self, kind, controller=None):
        controller = controller or self.controller

        async def reconcile():
            try:
                await controller.reconcile(Work(kind, R))
            finally:
                controller.queue.close()

        try:
            self.loop.run_until_complete(reconcile())
        except OperatorKilled:
            self.start()
        except KubeError:
            pass
        finally:
            self.cluster.faults.clear()

    # --- steps

    @property
    def status(self):
        return self.cluster.objects[FLOW_RUNS, "r"]["status"]

    @property
    def entries(self):
        return self.status.get("taskPods") or {}

    def pods(self):
        """Those of tasks that have not ended."""
        return sorted(
            pod["metadata"]["name"] for pod in self.cluster.pods()
            if names.LABEL_TASK_POD in pod["metadata"]["labels"] and pod["status"]["phase"] not in {"Succeeded", "Failed"}
        )  # fmt: skip

    def asks(self, *_):
        if is_terminal(self.status["phase"]):
            return
        self.count += 1
        entry = {"attempt": 1, "state": "Waiting", "requestedTime": stamp(self.cluster.now)}
        self.cluster.patch(FLOW_RUNS, "r", {"status": {"taskPods": {f"t{self.count}": entry}}})
        self.cluster.now += timedelta(seconds=1)

    def takes_back(self, which, _):
        if self.entries:
            name = sorted(self.entries)[which % len(self.entries)]
            self.cluster.patch(FLOW_RUNS, "r", {"status": {"taskPods": {name: None}}})

    def pod_ends(self, which, _):
        if self.pods():
            self.cluster.end_pod(self.pods()[which % len(self.pods())], 137 if which % 2 else 0)

    def pod_is_deleted(self, which, _):
        if self.pods():
            self.cluster.delete(PODS, self.pods()[which % len(self.pods())])

    def time_goes_by(self, *_):
        self.cluster.now += timedelta(seconds=6)

    def nodes_work(self, *_):
        self.cluster.control_jobs()

    def operator_works(self, at, fault):
        self.watch()
        self.cluster.faults.extend([""] * (at % 3) + [fault] if fault else [])
        self.work(KIND)
        self.check()

    def operator_works_behind_the_news(self, at, fault):
        """It knows nothing of what has happened since it last looked."""
        self.cluster.faults.extend([""] * (at % 3) + [fault] if fault else [])
        self.work(KIND)
        self.check()

    def another_starts(self, *_):
        """A second operator. Between its lists much may happen."""
        self.watch()
        self.other = self.new_operator(only_runs=True)
        for news in self.news.values():
            news.clear()

    def another_hears(self, which, _):
        self.watch()
        if not self.other.started:
            self.list_the_rest(self.other)
            self.news[JOBS].clear()
            self.news[PODS].clear()
            return
        kind = (JOBS, PODS, FLOW_RUNS)[which % 3]
        self.tell(self.other, kind, self.news[kind])
        self.news[kind].clear()

    def another_works(self, *_):
        """Its watches are behind, each as far as it likes."""
        if self.other.started:
            self.work(KIND, self.other)
            self.check()

    def operator_is_killed(self, *_):
        self.start()

    def late_writes_arrive(self, *_):
        self.cluster.late_writes_arrive()
        self.check()

    def check(self):
        made = Counter(name for _, name in self.cluster.jobs_created)
        assert max(made.values()) == 1, f"a Job was made twice: {made}"
        granted = [entry for entry in self.entries.values() if entry["state"] == "Granted"]
        assert len(granted) <= LIMIT

    def settle(self):
        for _ in range(5):
            self.nodes_work()
            self.time_goes_by()
            self.operator_works(0, None)

    def task_jobs(self):
        return {
            item["metadata"]["name"]
            for item in self.cluster.all(JOBS)
            if names.LABEL_TASK_POD in item["metadata"]["labels"]
        }


kinds = (
    "asks", "asks", "asks", "takes_back", "pod_ends", "pod_is_deleted", "nodes_work", "nodes_work", "time_goes_by",
    "operator_works", "operator_works", "operator_works_behind_the_news", "another_starts", "another_hears", "another_hears",
     "another_works", "another_works", "operator_is_killed", "late_writes_arrive",
)  # fmt: skip
faults = st.sampled_from((None, None, "lost before", "lost after", "error", "killed before", "killed after", "late"))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    steps=st.lists(st.tuples(st.sampled_from(kinds), st.integers(0, 3), faults), max_size=40),
    end=st.sampled_from(("Completed", "Crashed", "cancel", "deleted")),
)
def test_no_job_is_made_twice_and_none_is_left(steps, end):
    world = World()
    try:
        for name, number, fault in steps:
            getattr(world, name)(number, fault)
        world.cluster.late_writes_arrive()
        world.settle()
        alive = {name for name, entry in world.entries.items() if entry["state"] == "Granted"}
        waiting = [entry for entry in world.entries.values() if entry["state"] == "Waiting"]
        assert not waiting or len(alive) == LIMIT, "who could have a pod has one"
        assert world.task_jobs() == {f"r-1-{name}" for name in alive}
        if end == "deleted":
            world.cluster.delete(FLOW_RUNS, "r")
            world.watch()
            world.work(RUN)
        elif end == "cancel":
            world.cluster.patch(FLOW_RUNS, "r", {"spec": {"cancel": True}})
        else:
            world.cluster.report("r", phase=end)
        for _ in range(2):
            world.watch()
            world.work(KIND)
        assert world.task_jobs() == set()
    finally:
        world.loop.close()


def test_the_jobs_of_a_run_that_ended_while_no_operator_was_there_go():
    world = World()
    world.asks()
    world.settle()
    assert world.task_jobs() == {"r-1-t1"}
    world.cluster.report("r", phase="Completed")
    world.start()
    assert world.controller.store.runs.get(R) is None
    world.work(KIND)
    assert world.task_jobs() == set()
    world.loop.close()


def test_a_job_that_came_and_went_between_the_lists_of_another_operator_is_not_made_again():
    world = World()
    world.asks()
    world.settle()
    world.another_starts(0)
    world.pod_ends(0, None)
    world.settle()
    world.takes_back(0, None)
    world.settle()
    assert world.task_jobs() == set()
    world.another_hears(0, None)
    world.another_works()
    assert world.task_jobs() == set()
    world.loop.close()
