"""What a controller does with a namespace that joins or leaves while it works."""

from dataclasses import replace

import pytest

from levada.decide.definitions import Notification
from levada.decide.tick_run import run_name
from levada.kube.ratelimit import Lane
from levada.operator.controller import RUN, Controller, Work
from levada.operator.election import default_lease_name, lane_of, own_identity
from levada.operator.settings import OperatorSettings
from levada.operator.store import Key
from levada.resources import names
from levada.resources.kinds import DEPLOYMENTS, FLOW_RUNS, FLOWS, JOBS, PODS, SCHEDULES
from support.facts import SETTINGS, T0, a_deployment, a_run, s
from support.fake_cluster import FakeCluster

KEY = Key("ns", "r")


@pytest.fixture
def cluster():
    cluster = FakeCluster(T0)
    run = cluster.create(FLOW_RUNS, {"metadata": {"name": "r"}, "spec": {"deploymentRef": {"name": "d"}}})
    cluster.patch(FLOW_RUNS, "r", {"status": {"phase": "Pending", "attempt": 1, "queue": "default"}})
    owner = {"uid": run["metadata"]["uid"], "controller": True}
    labels = {names.LABEL_RUN: "r", names.LABEL_ATTEMPT: "1"}
    cluster.create(JOBS, {"metadata": {"name": "r-1", "labels": labels, "ownerReferences": [owner]}, "spec": {}})
    cluster.create(DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": {"flowRef": {"name": "f"}}})
    return cluster


@pytest.fixture
def controller(cluster):
    controller = Controller(cluster.client, OperatorSettings(decide=SETTINGS), now=lambda: cluster.now)
    controller.serves = served = set()
    controller.serves = served.__contains__
    controller.served = served
    controller.start()
    yield controller
    controller.queue.close()


def join(controller):
    controller.joining.add("ns")
    controller.served.add("ns")


def feed(controller, cluster):
    controller.on_run("ADDED", cluster.get(FLOW_RUNS, "r"))
    controller.on_job("ADDED", cluster.get(JOBS, "r-1"))
    controller.definitions.on_change(DEPLOYMENTS, "ADDED", cluster.get(DEPLOYMENTS, "d"))


async def drain(controller):
    """Every key that waits, looked at as workers do."""
    seen = []
    while len(controller.queue):
        work = await controller.queue.get()
        seen.append(work)
        await controller.reconcile(work)
        controller.queue.done(work)
    return seen


async def test_nothing_is_taken_in_from_a_namespace_of_others(cluster, controller):
    controller.on_run("ADDED", cluster.get(FLOW_RUNS, "r"))
    controller.definitions.on_change(DEPLOYMENTS, "ADDED", cluster.get(DEPLOYMENTS, "d"))
    assert len(controller.queue) == len(controller.store.runs) == len(controller.store.deployments) == 0


async def test_nothing_is_decided_before_a_namespace_is_known(cluster, controller):
    """The run says that it has a Job, and the Job has not been listed yet: it must not pass for deleted."""
    join(controller)
    controller.on_run("ADDED", cluster.get(FLOW_RUNS, "r"))
    assert await drain(controller) == [Work(RUN, KEY)]
    assert cluster.client.writes == 0
    feed(controller, cluster)
    controller.settle("ns")
    assert Work(RUN, KEY) in await drain(controller)
    assert cluster.get(FLOW_RUNS, "r")["status"]["phase"] == "Pending"


async def test_a_job_that_is_told_before_its_run_is_kept_while_joining(cluster, controller):
    join(controller)
    controller.on_job("ADDED", cluster.get(JOBS, "r-1"))
    controller.on_run("ADDED", cluster.get(FLOW_RUNS, "r"))
    controller.settle("ns")
    assert list(controller.store.jobs[KEY]) == ["r-1"]


async def test_what_is_let_go_is_forgotten_and_can_come_back(cluster, controller):
    told = []
    controller.run_listeners.append(lambda before, after: told.append((before is None, after is None)))
    for _ in range(2):
        join(controller)
        feed(controller, cluster)
        controller.settle("ns")
        assert controller.store.runs.get(KEY) is not None
        assert len(controller.store.deployments) == 1
        await drain(controller)
        controller.served.clear()
        controller.let_go("ns")
        store = controller.store
        assert (len(store.runs), len(store.deployments), store.jobs, store.pods) == (0, 0, {}, {})
        writes = cluster.client.writes
        controller.on_run("DELETED", cluster.get(FLOW_RUNS, "r"))
        controller.enqueue(RUN, KEY)
        await drain(controller)
        assert cluster.client.writes == writes, "a look that was due finds nothing to do"
    assert told.count((True, False)) == told.count((False, True)) == 2


@pytest.mark.parametrize(
    ("namespaces", "selector", "same_as"),
    [
        ((), "", ((), "")),
        (("a", "b"), "", (("b", "a"), "")),
        ((), "shard=a", ((), "shard=a")),
    ],
)
def test_operators_of_the_same_namespaces_stand_for_the_same_lease(namespaces, selector, same_as):
    assert default_lease_name(namespaces, selector) == default_lease_name(*same_as)


def test_operators_of_different_namespaces_do_not_wait_for_each_other():
    scopes = [((), ""), (("a",), ""), (("a", "b"), ""), ((), "shard=a"), ((), "shard=b")]
    assert len({default_lease_name(*scope) for scope in scopes}) == len(scopes)
    assert default_lease_name((), "") == "levada-operator"


def test_two_processes_of_one_name_have_two_identities(monkeypatch):
    monkeypatch.setenv("POD_NAME", "levada-operator-0")
    assert own_identity() != own_identity()
    assert own_identity().startswith("levada-operator-0_")
    assert own_identity("given").startswith("given_")


@pytest.mark.parametrize(
    ("case", "kind", "body", "lane"),
    [
        ("the end of a run", FLOW_RUNS, {"status": {"phase": "Completed"}}, Lane.URGENT),
        ("another phase", FLOW_RUNS, {"status": {"phase": "Running"}}, Lane.NORMAL),
        ("no phase", FLOW_RUNS, {"status": {"stages": {}}}, Lane.NORMAL),
        ("a run that is made", FLOW_RUNS, {"spec": {}}, Lane.NORMAL),
        ("a JSON patch", FLOW_RUNS, [{"op": "add"}], Lane.NORMAL),
        ("a Job", JOBS, {"spec": {}}, Lane.NORMAL),
        ("a deletion", PODS, {"propagationPolicy": "Background"}, Lane.NORMAL),
        ("the status of a Flow", FLOWS, {"status": {"phase": "Failed"}}, Lane.NORMAL),
        ("an Event", JOBS._replace(plural="events"), {"type": "Warning"}, Lane.COURTESY),
    ],
)
def test_what_matters_is_written_first(case, kind, body, lane):
    assert lane_of(kind.plural, body) is lane, case


async def test_the_answer_to_a_write_does_not_bring_back_what_was_let_go_meanwhile(cluster, controller, monkeypatch):
    """Else this operator would go on with the Schedule, beside the one that serves it now."""
    join(controller)
    feed(controller, cluster)
    spec = {"deploymentRef": {"name": "d"}, "intervalSeconds": 3600}
    controller.definitions.on_change(
        SCHEDULES, "ADDED", cluster.create(SCHEDULES, {"metadata": {"name": "s"}, "spec": spec})
    )
    controller.settle("ns")
    patch = controller.client.patch

    async def slow(*args, **more):
        answer = await patch(*args, **more)
        controller.served.clear()
        controller.let_go("ns")
        return answer

    monkeypatch.setattr(controller.client, "patch", slow)
    await controller.reconcile(Work(SCHEDULES.kind, Key("ns", "s")))
    assert "nextRuns" in cluster.get(SCHEDULES, "s")["status"]
    assert len(controller.store.schedules) == 0


async def test_what_was_known_of_a_schedule_does_not_count_when_its_namespace_comes_back(cluster, controller):
    """Meanwhile another operator may have made a run and died before it put it on record: it must be looked for."""
    spec = {"deploymentRef": {"name": "d"}, "intervalSeconds": 3600, "suspend": True}
    cluster.create(SCHEDULES, {"metadata": {"name": "s"}, "spec": spec})
    for _ in range(2):
        join(controller)
        feed(controller, cluster)
        controller.definitions.on_change(SCHEDULES, "ADDED", cluster.get(SCHEDULES, "s"))
        controller.settle("ns")
        await controller.reconcile(Work(SCHEDULES.kind, Key("ns", "s")))
        controller.served.clear()
        controller.let_go("ns")
    name = run_name("s", T0 + s(3600))
    made = {
        "name": name,
        "annotations": {names.ANNOTATION_SCHEDULE_UID: cluster.get(SCHEDULES, "s")["metadata"]["uid"]},
    }
    cluster.create(FLOW_RUNS, {"metadata": made, "spec": {"deploymentRef": {"name": "d"}}})
    cluster.patch(FLOW_RUNS, name, {"status": {"phase": "Completed"}})
    cluster.now = T0 + s(3700)
    join(controller)
    feed(controller, cluster)
    controller.definitions.on_change(SCHEDULES, "ADDED", cluster.get(SCHEDULES, "s"))
    controller.settle("ns")
    await controller.reconcile(Work(SCHEDULES.kind, Key("ns", "s")))
    ledger = cluster.get(SCHEDULES, "s")["status"]["ledger"]
    assert [(entry["outcome"], entry.get("run")) for entry in ledger] == [("Run", name)]


async def test_of_what_was_let_go_nobody_is_told(cluster, controller):
    join(controller)
    feed(controller, cluster)
    controller.settle("ns")
    told = Notification("team", frozenset({"Failed"}), {"slack": {"url": "https://example.com"}})
    controller.store.put_deployment(a_deployment(resource_version="99", notifications=(told,)))
    run = a_run(attempt=1, phase="Running")
    controller.notifier.on_run(run, replace(run, phase="Failed", completed_at=T0))
    assert controller.notifier.untold() == {KEY}
    controller.served.clear()
    controller.let_go("ns")
    assert controller.notifier.untold() == set()
