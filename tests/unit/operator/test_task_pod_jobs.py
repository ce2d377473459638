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
from support.fake_cluster import FakeCluster, OperatorKilled

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

    def start(self):
        """A new operator process: it lists what is under way."""
        self.controller = Controller(
            self.cluster.client, OperatorSettings(decide=SETTINGS), now=lambda: self.cluster.now
        )
        opened = a_deployment(infrastructure={"taskPods": {"limit": LIMIT}})
        self.controller.store.put_deployment(opened)
        self.watch(everything=True)
        self.controller.start()

    def watch(self, *, everything=False):
        """Jobs and pods before runs: of what is old news, the run's own status is the oldest."""
        handlers = {JOBS: self.controller.on_job, PODS: self.controller.on_pod, FLOW_RUNS: self.controller.on_run}
        for kind, handle in handlers.items():
            if everything:
                self.cluster.streams[kind].clear()
            listed = deque(("ADDED", item) for item in self.cluster.listed(kind)) if everything else None
            events = listed if listed is not None else self.cluster.streams[kind]
            while events:
                handle(*events.popleft())

    def work(self, kind):
        async def reconcile():
            try:
                await self.controller.reconcile(Work(kind, R))
            finally:
                self.controller.queue.close()

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
    "operator_works", "operator_works", "operator_works_behind_the_news", "operator_is_killed", "late_writes_arrive",
)  # fmt: skip
faults = st.sampled_from((None, None, "lost before", "lost after", "error", "killed before", "killed after", "late"))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    steps=st.lists(st.tuples(st.sampled_from(kinds), st.integers(0, 3), faults), max_size=30),
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
