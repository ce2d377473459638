"""Grants of slots through the real controller, against a cluster in memory: whatever happens, no slot is given twice or lost."""

import asyncio
from collections import deque
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from levada.decide.times import stamp
from levada.kube import KubeError
from levada.operator.controller import Controller, Work
from levada.operator.settings import OperatorSettings
from levada.operator.store import Key
from levada.resources.kinds import CONCURRENCY_LIMITS, FLOW_RUNS
from levada.resources.phases import is_terminal
from support.facts import SETTINGS, T0, a_deployment
from support.fake_cluster import FakeCluster, OperatorKilled

DB = Key("ns", "db")


class World:
    """Runs that ask, an operator that grants and is killed, and a limit that changes."""

    def __init__(self, limit):
        self.cluster = FakeCluster(T0)
        self.cluster.create(CONCURRENCY_LIMITS, {"metadata": {"name": "db"}, "spec": {"limit": limit}})
        self.loop = asyncio.new_event_loop()
        self.count = 0
        self.start()

    def start(self):
        """A new operator process."""
        self.controller = Controller(
            self.cluster.client, OperatorSettings(decide=SETTINGS), now=lambda: self.cluster.now
        )
        self.controller.store.put_deployment(a_deployment())
        self.watch(everything=True)
        self.controller.started = True
        self.controller.enqueue(CONCURRENCY_LIMITS.kind, DB)

    def watch(self, *, everything=False):
        for kind in (CONCURRENCY_LIMITS, FLOW_RUNS):
            if everything:
                self.cluster.streams[kind].clear()
            events = (
                deque(("ADDED", item) for item in self.cluster.listed(kind))
                if everything
                else self.cluster.streams[kind]
            )
            while events:
                change, body = events.popleft()
                if kind == FLOW_RUNS:
                    self.controller.on_run(change, body)
                    if change == "DELETED":
                        self.work(Work(FLOW_RUNS.kind, Key("ns", body["metadata"]["name"])))
                else:
                    self.controller.definitions.on_change(kind, change, body)

    def work(self, work):
        async def reconcile():
            try:
                await self.controller.reconcile(work)
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

    def runs(self):
        return sorted(
            name for (kind, name), run in self.cluster.objects.items()
            if kind == FLOW_RUNS and not is_terminal(run["status"].get("phase"))
        )  # fmt: skip

    def asks(self, occupy, _):
        self.count += 1
        name = f"r{self.count}"
        self.cluster.create(FLOW_RUNS, {"metadata": {"name": name}, "spec": {"deploymentRef": {"name": "d"}}})
        entry = {
            "limit": "db",
            "occupy": occupy,
            "attempt": 1,
            "state": "Waiting",
            "requestedTime": stamp(self.cluster.now),
        }
        status = {"phase": "Running", "attempt": 1, "queue": "default", "slots": {"a": entry}}
        self.cluster.patch(FLOW_RUNS, name, {"status": status})
        self.cluster.now += timedelta(seconds=1)

    def gives_back(self, which, _):
        if self.runs():
            name = self.runs()[which % len(self.runs())]
            self.cluster.patch(FLOW_RUNS, name, {"status": {"slots": {"a": None}}})

    def ends(self, which, _):
        if self.runs():
            self.cluster.report(self.runs()[which % len(self.runs())], phase="Completed")

    def starts_anew(self, which, _):
        if self.runs():
            name = self.runs()[which % len(self.runs())]
            status = self.cluster.objects[FLOW_RUNS, name]["status"]
            self.cluster.patch(FLOW_RUNS, name, {"status": {"phase": "Running", "attempt": status["attempt"] + 1}})

    def limit_changes(self, limit, _):
        self.cluster.patch(CONCURRENCY_LIMITS, "db", {"spec": {"limit": limit}})

    def operator_works(self, at, fault):
        self.watch()
        self.cluster.faults.extend([""] * (at % 3) + [fault] if fault else [])
        before = self.held()
        self.work(Work(CONCURRENCY_LIMITS.kind, DB))
        # Holders keep what they have when the limit falls; but nothing is granted beyond it.
        assert self.held() <= max(self.limit, before)

    def operator_is_killed(self, *_):
        self.start()

    # --- what must be so

    @property
    def limit(self):
        return self.cluster.objects[CONCURRENCY_LIMITS, "db"]["spec"]["limit"]

    def entries(self, state):
        found = []
        for name in self.runs():
            status = self.cluster.objects[FLOW_RUNS, name]["status"]
            entry = (status.get("slots") or {}).get("a")
            if entry and entry["state"] == state and entry["attempt"] == status["attempt"]:
                found.append((entry["requestedTime"], entry["occupy"]))
        return sorted(found)

    def held(self):
        return sum(occupy for _, occupy in self.entries("Held"))

    def settle(self):
        for _ in range(4):
            self.operator_works(0, None)
        waiting = [occupy for _, occupy in self.entries("Waiting") if occupy <= self.limit]
        assert not waiting or self.held() + waiting[0] > self.limit, "who could have slots has them"


kinds = (
    "asks",
    "asks",
    "asks",
    "gives_back",
    "ends",
    "starts_anew",
    "limit_changes",
    "operator_works",
    "operator_is_killed",
)
faults = st.sampled_from((None, None, "lost before", "lost after", "error", "killed before", "killed after"))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    limit=st.integers(1, 4), steps=st.lists(st.tuples(st.sampled_from(kinds), st.integers(1, 4), faults), max_size=30)
)
def test_slots_are_never_given_twice_and_never_lost(limit, steps):
    world = World(limit)
    try:
        for name, number, fault in steps:
            getattr(world, name)(number, fault)
        world.settle()
        while world.runs():
            world.ends(0, None)
            world.settle()
    finally:
        world.loop.close()


def test_the_summary_names_the_holders_and_a_pod_that_ends_frees_its_slots_at_once():
    world = World(1)
    world.asks(1, None)
    world.asks(1, None)
    world.settle()
    assert world.entries("Held") == [("2026-03-01T12:00:00.000Z", 1)]
    world.cluster.now += timedelta(seconds=5)
    world.settle()
    status = world.cluster.objects[CONCURRENCY_LIMITS, "db"]["status"]
    assert (status["active"], status["waiting"], status["holders"][0]["run"]) == (1, 1, "r1")
    uid = world.cluster.objects[FLOW_RUNS, "r1"]["metadata"]["uid"]
    pod = {
        "metadata": {
            "name": "r1-1-abcde", "namespace": "ns", "uid": "p", "resourceVersion": "999",
            "labels": {"levada.dev/run": "r1", "levada.dev/attempt": "1"}, "annotations": {"levada.dev/run-uid": uid},
        },
        "status": {"phase": "Failed", "containerStatuses": [{"name": "flow", "state": {"terminated": {"exitCode": 137}}}]},
    }  # fmt: skip
    world.controller.on_pod("MODIFIED", pod)
    world.work(Work(CONCURRENCY_LIMITS.kind, DB))
    assert world.cluster.objects[FLOW_RUNS, "r2"]["status"]["slots"]["a"]["state"] == "Held"
    world.loop.close()
