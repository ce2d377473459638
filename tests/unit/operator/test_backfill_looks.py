"""What the operator keeps of backfills between two looks, and what a look asks for."""

import threading

import pytest

from levada.archive import index
from levada.archive.record import entry_of, record_of
from levada.decide.times import stamp
from levada.kube import AlreadyExists
from levada.operator import storages
from levada.operator.controller import Controller, Work
from levada.operator.settings import OperatorSettings
from levada.operator.store import Key
from levada.resources.kinds import BACKFILLS, FLOW_RUNS
from levada.resources.names import ANNOTATION_BACKFILL_UID, LABEL_BACKFILL
from levada.storage.memory import MemoryStorage
from support.facts import SETTINGS, T0, a_deployment, s
from support.fake_cluster import FakeCluster

KEY = Key("ns", "b")
SPEC = {
    "deploymentRef": {"name": "d"},
    "intervalSeconds": 3600,
    "startTime": stamp(T0 - s(3 * 3600)),
    "endTime": stamp(T0 - s(3600)),
}


class Client:
    """The fake cluster's verbs that a backfill uses, without faults."""

    def __init__(self, cluster):
        self.cluster = cluster

    async def get(self, kind, name, namespace=None):
        return self.cluster.get(kind, name)

    async def create(self, kind, body, namespace=None):
        return self.cluster.create(kind, body)

    async def patch(self, kind, name, body, namespace=None, **_):
        return self.cluster.patch(kind, name, body)

    async def pages(self, kind, namespace=None, *, field_selector=None):
        yield self.cluster.all(kind), "1"


@pytest.fixture
def cluster():
    return FakeCluster(T0)


@pytest.fixture
def controller(cluster):
    made = Controller(Client(cluster), OperatorSettings(decide=SETTINGS), now=lambda: cluster.now)
    made.start()
    yield made
    made.queue.close()


@pytest.fixture
def backfill(cluster, controller):
    controller.store.put_deployment(a_deployment(storage="s3://bucket"))
    made = cluster.create(BACKFILLS, {"metadata": {"name": "b"}, "spec": SPEC})
    controller.definitions.on_change(BACKFILLS, "ADDED", made)
    return made


@pytest.fixture
def storage(monkeypatch):
    made = MemoryStorage()
    monkeypatch.setattr(storages, "storage_of", lambda url: made)
    return made


async def look(controller):
    again_s = 0.0
    for _ in range(10):
        if again_s != 0.0:
            return
        again_s = await controller.reconcile(Work(BACKFILLS.kind, KEY))


def status(cluster):
    return cluster.get(BACKFILLS, "b")["status"]


def runs(cluster):
    return sorted(name for kind, name in cluster.objects if kind == FLOW_RUNS)


def end(cluster, controller, name, phase="Completed"):
    ended = {"phase": phase, "completionTime": stamp(T0)}
    controller.on_run("MODIFIED", cluster.patch(FLOW_RUNS, name, {"status": ended}))
    controller.forget_run(Key("ns", name))


async def test_nothing_is_kept_of_a_backfill_that_is_through(cluster, controller, backfill, storage):
    await look(controller)
    assert status(cluster)["fates"] == "aaa"
    for name in runs(cluster):
        end(cluster, controller, name)
    await look(controller)
    assert status(cluster)["phase"] == "Completed"
    assert (controller.backfills._active, controller.backfills._ended) == ({}, {})


async def test_nothing_is_kept_of_a_backfill_that_was_deleted(cluster, controller, backfill, storage):
    await look(controller)
    first, *others = runs(cluster)
    end(cluster, controller, first)
    controller.definitions.on_change(BACKFILLS, "DELETED", cluster.get(BACKFILLS, "b"))
    for name in others:
        end(cluster, controller, name)
    await look(controller)
    assert (controller.backfills._active, controller.backfills._ended) == ({}, {})


async def test_a_run_that_took_the_name_of_one_under_way_does_not_hold_the_backfill_up(
    cluster, controller, backfill, storage
):
    await look(controller)
    name = runs(cluster)[0]
    old = cluster.get(FLOW_RUNS, name)
    cluster.delete(FLOW_RUNS, name)
    cluster.create(FLOW_RUNS, {"metadata": {"name": name}, "spec": old["spec"]})
    controller.on_run("DELETED", old)
    await controller.reconcile(Work(FLOW_RUNS.kind, Key("ns", name)))
    for other in runs(cluster)[1:]:
        end(cluster, controller, other)
    await look(controller)
    assert (status(cluster)["phase"], status(cluster)["fates"]) == ("Failed", "LCC")


async def test_a_storage_that_hangs_does_not_hold_a_worker(cluster, controller, backfill, monkeypatch):
    free = threading.Event()

    class Hanging(MemoryStorage):
        def read(self, key):
            free.wait(20)
            return super().read(key)

    monkeypatch.setattr(storages, "storage_of", lambda url: Hanging())
    controller.storages = storages.Storages(0.1)
    await look(controller)
    free.set()
    assert "does not answer within 0.1 s" in status(cluster)["message"]
    assert runs(cluster) == []


async def test_of_runs_that_ended_at_one_moment_none_is_overlooked(cluster, controller, backfill, storage):
    """A thousand ends of one moment: whoever reads on `before` the last one misses the others."""
    ended = [f"x-{number}" for number in range(1100)] + [
        f"b-202603{tick}z" for tick in ("01t090000", "01t100000", "01t110000")
    ]
    bodies = [
        {
            "metadata": {"name": name, "namespace": "ns", "uid": f"{number:08}"},
            "spec": {"deploymentRef": {"name": "d"}},
            "status": {"phase": "Completed", "completionTime": stamp(T0 - s(60))},
        }
        for number, name in reversed(list(enumerate(reversed(ended))))
    ]  # fmt: skip
    entries = [entry_of(record_of(body, complete=True, written_by="runner", written_at=""), "f") for body in bodies]
    index.add(storage, "ns", "d", entries)
    await look(controller)
    assert (status(cluster)["phase"], status(cluster)["fates"]) == ("Completed", "===")


async def test_a_run_that_goes_while_it_is_met_costs_no_tick(cluster, controller, backfill, storage, monkeypatch):
    create, refused = controller.client.create, []

    async def in_the_way_once(kind, body, namespace=None):
        if not refused:
            refused.append(body["metadata"]["name"])
            raise AlreadyExists(409, "AlreadyExists", "it is being deleted")
        return await create(kind, body, namespace)

    monkeypatch.setattr(controller.client, "create", in_the_way_once)
    await look(controller)
    assert status(cluster)["fates"] == "aaa"
    run = cluster.get(FLOW_RUNS, refused[0])
    assert run["metadata"]["annotations"][ANNOTATION_BACKFILL_UID] == backfill["metadata"]["uid"]
    assert run["metadata"]["labels"][LABEL_BACKFILL] == "b"


async def test_of_a_storage_that_the_operator_has_no_package_for_the_status_tells(
    cluster, controller, backfill, monkeypatch
):
    from levada.exceptions import MissingDependencyError

    def no_package(url):
        raise MissingDependencyError("install levada[gcs]")

    monkeypatch.setattr(storages, "storage_of", no_package)
    await look(controller)
    assert "install levada[gcs]" in status(cluster)["message"]
