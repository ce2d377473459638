"""The operator's history over a cluster in memory and a storage that fails when told: nothing is deleted that is not in the index."""

import asyncio
import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

from levada.archive.reader import Archive
from levada.archive.record import record_of
from levada.decide.definition_views import schedule_view
from levada.decide.definitions import History, Notification
from levada.decide.tick_run import run_name
from levada.decide.times import stamp
from levada.exceptions import StorageError
from levada.kube import Conflict, NotFound
from levada.kube.client import Row
from levada.operator import storages
from levada.operator.controller import Controller
from levada.operator.history import HistoryKeeper
from levada.operator.settings import HistorySettings, OperatorSettings
from levada.operator.store import Key
from levada.resources.kinds import FLOW_RUNS
from levada.resources.names import LABEL_BACKFILL, LABEL_SCHEDULE
from support.facts import T0, a_deployment, a_run, s
from unit.archive.failing import FailingStorage

URL = "s3://bucket"
NOW = s(1000) + T0


class Cluster:
    """Finished runs, and the verbs that history uses."""

    def __init__(self):
        self.runs = {}
        self.deleted = []
        self.patched = {}

    def add(self, name, at, phase="Completed", **status):
        self.runs[name] = {
            "metadata": {"name": name, "namespace": "ns", "uid": f"{name}-uid-0123", "resourceVersion": "7", "creationTimestamp": stamp(T0)},
            "spec": {"deploymentRef": {"name": "d"}},
            "status": {"phase": phase, "completionTime": stamp(T0 + s(at)), "podName": f"{name}-1-abcde", **status},
        }  # fmt: skip

    async def rows(self, kind, namespace=None, *, field_selector=None):
        for run in list(self.runs.values()):
            yield Row(
                run["metadata"],
                {"Phase": run["status"]["phase"], "Ended": run["status"]["completionTime"], "Deployment": "d"},
            )

    async def get(self, kind, name, namespace=None):
        if name not in self.runs:
            raise NotFound(404, "NotFound", name)
        return self.runs[name]

    async def patch(self, kind, name, body, namespace=None, **_):
        self.patched[name] = body["status"]
        return self.runs[name]

    async def delete(self, kind, name, namespace=None, *, uid=None, resource_version=None):
        if (uid, resource_version) != (
            self.runs[name]["metadata"]["uid"],
            self.runs[name]["metadata"]["resourceVersion"],
        ):
            raise Conflict(409, "Conflict", name)
        del self.runs[name]
        self.deleted.append(name)

    async def admit(self, resource):
        pass


@pytest.fixture
def storage(monkeypatch):
    failing = FailingStorage()
    monkeypatch.setattr(storages, "storage_of", lambda url: failing)
    return failing


@pytest.fixture
def cluster():
    return Cluster()


@pytest.fixture
def controller(cluster):
    made = Controller(cluster, OperatorSettings(history=HistorySettings(settle_s=0.0, sweep_s=5.0)), now=lambda: NOW)
    yield made
    made.queue.close()


@pytest.fixture
def keeper(controller):
    return HistoryKeeper(controller)


def deploy(controller, **fields):
    controller.store.put_deployment(a_deployment(storage=URL, **fields))


def indexed(storage):
    return sorted(entry.name for entry in Archive(storage).list_runs("ns", "d", limit=100))


async def test_what_history_does_not_keep_is_archived_then_deleted_oldest_first(controller, keeper, cluster, storage):
    deploy(controller, history=History(keep_successful=1, keep_failed=1))
    for at, phase in enumerate(["Completed", "Failed", "Completed", "Crashed", "Completed"]):
        cluster.add(f"r{at}", at, phase)
    await keeper.sweep()
    assert cluster.deleted == ["r0", "r1", "r2"]
    assert indexed(storage) == ["r0", "r1", "r2", "r3", "r4"]
    entry = Archive(storage).list_runs("ns", "d")[-1]
    assert (entry.name, entry.complete, Archive(storage).record(entry.folder).written_by) == ("r0", False, "operator")
    assert cluster.patched["r4"]["archive"] == {"storage": URL, "path": "runs/ns/r4-r4-uid-0", "complete": False}


@pytest.mark.parametrize("failing_write", range(6))
@pytest.mark.parametrize("how", ["before", "after"])
async def test_whichever_write_fails_nothing_is_lost(*, failing_write, how, controller, keeper, cluster, storage):
    deploy(controller, history=History(keep_successful=0))
    for at in range(4):
        cluster.add(f"r{at}", at)
    storage.plan = [""] * failing_write + [how]
    await keeper.sweep()
    assert set(indexed(storage)) >= set(cluster.deleted)
    if how == "before" and failing_write < 5:
        assert cluster.deleted == []
        assert controller.store.archive_troubles[Key("ns", "d")] == "away"
    await keeper.sweep()
    assert cluster.runs == {}
    assert indexed(storage) == ["r0", "r1", "r2", "r3"]
    assert controller.store.archive_troubles[Key("ns", "d")] == ""


async def test_the_record_of_a_runs_own_process_is_taken_as_it_is(controller, keeper, cluster, storage):
    deploy(controller)
    cluster.add("r", 1)
    record = record_of(cluster.runs["r"], complete=True, written_by="runner", written_at="")
    storage.write("runs/ns/r-r-uid-01/record.json", json.dumps(record).encode())
    keeper.on_run(a_run(name="r", uid="r-uid-0123", phase="Completed"), None)
    await keeper.archive_ended()
    assert [entry.complete for entry in Archive(storage).list_runs("ns", "d")] == [True]
    assert cluster.patched == {}


async def test_a_run_that_is_deleted_before_it_is_archived_is_nobody(controller, keeper, cluster, storage):
    """Its process had written nothing, and there is nothing left to write it from."""
    deploy(controller)
    cluster.add("r", 1)
    for name in ("gone", "r"):
        keeper.on_run(a_run(name=name, uid=f"{name}-uid-0123", phase="Failed"), None)
    await keeper.archive_ended()
    assert indexed(storage) == ["r"]
    keeper.on_run(a_run(name="gone", uid="gone-uid-0123", phase="Failed"), None)
    await keeper.archive_ended()
    assert indexed(storage) == ["r"]


async def test_a_run_under_way_is_not_news(controller, keeper, cluster, storage):
    deploy(controller)
    keeper.on_run(a_run(phase="Running"), None)
    keeper.on_run(a_run(phase="Running"), a_run(phase="Completed"))
    await keeper.archive_ended()
    assert storage.writes == 0


async def test_a_run_that_another_repeats_stays(controller, keeper, cluster, storage):
    deploy(controller, history=History(keep_successful=0))
    cluster.add("r", 1)
    controller.store.put_run(a_run(name="again", uid="2", phase="Running", attempt=1, retry_of="r"))
    await keeper.sweep()
    assert cluster.deleted == []


@pytest.mark.parametrize(("status", "deleted"), [({}, []), ({"completionTime": stamp(T0)}, ["r"])])
async def test_the_runs_of_a_backfill_stay_until_it_is_through(
    *, status, deleted, controller, keeper, cluster, storage
):
    deploy(controller, history=History(keep_successful=0))
    cluster.add("r", 1)
    cluster.runs["r"]["metadata"]["labels"] = {LABEL_BACKFILL: "b"}
    key = Key("ns", "b")
    controller.store.backfills.put(key, SimpleNamespace(uid="b", resource_version="1", status=status))
    await keeper.sweep()
    assert cluster.deleted == deleted


@pytest.mark.parametrize(("decided", "deleted"), [(T0, []), (T0 + s(60), ["d-20260301t120100z"])])
async def test_the_run_of_a_tick_stays_until_its_schedule_has_it_on_record(
    *, decided, deleted, controller, keeper, cluster, storage
):
    """Runs are made first and put on record seconds later. A tick whose run is gone would get another one."""
    deploy(controller, history=History(ttl_s=0))
    name = run_name("d", T0 + s(60))
    cluster.add(name, 61)
    cluster.runs[name]["metadata"]["labels"] = {LABEL_SCHEDULE: "d"}
    spec = {"deploymentRef": {"name": "d"}, "intervalSeconds": 60}
    status = {"rule": {"decidedUntil": stamp(decided), "intervalSeconds": 60}}
    body = {
        "metadata": {"name": "d", "namespace": "ns", "uid": "s", "resourceVersion": "1"},
        "spec": spec,
        "status": status,
    }
    controller.store.put_schedule(schedule_view(body))
    await keeper.sweep()
    assert cluster.deleted == deleted


async def test_a_run_that_is_still_to_be_told_of_stays_for_an_hour(controller, keeper, cluster, storage, monkeypatch):
    told = Notification("team", frozenset({"Failed"}), {"slack": {"url": "https://example.com"}})
    deploy(controller, history=History(keep_failed=0), notifications=(told,))
    cluster.add("r", 1, "Failed")
    controller.start()
    running = a_run(name="r", uid="r-uid-0123", phase="Running", attempt=1)
    ended = replace(running, phase="Failed", completed_at=T0 + s(1))
    controller.notifier.on_run(running, ended)
    await keeper.sweep()
    assert cluster.deleted == []
    controller.now = lambda: NOW + s(3601)
    await keeper.sweep()
    assert cluster.deleted == ["r"]


async def test_a_run_that_changed_since_it_was_listed_stays(controller, keeper, cluster, storage):
    deploy(controller, history=History(keep_successful=0))
    cluster.add("r", 1)
    rows = cluster.rows

    async def old(*args, **more):
        async for row in rows(*args, **more):
            yield Row({**row.metadata, "resourceVersion": "6"}, row.cells)

    cluster.rows = old
    await keeper.sweep()
    assert cluster.deleted == []


@pytest.mark.parametrize(
    ("case", "deployment", "stays"),
    [
        ("without a storage its own counts hold", a_deployment(history=History(keep_successful=1)), ["r1"]),
        ("a folder that the operator may not use", a_deployment(storage="file:///etc", history=History(keep_successful=0)), ["r0", "r1"]),
        ("a Deployment that is gone", None, ["r0", "r1"]),
    ],
)  # fmt: skip
async def test_who_has_no_storage(*, case, deployment, stays, controller, keeper, cluster, storage):
    if deployment is not None:
        controller.store.put_deployment(deployment)
    for at in range(2):
        cluster.add(f"r{at}", at)
    await keeper.sweep()
    assert sorted(cluster.runs) == stays
    assert storage.writes == 0


async def test_a_storage_that_hangs_is_given_up_and_not_written_by_two(controller, cluster, monkeypatch, caplog):
    free = threading.Event()

    class Hanging(FailingStorage):
        def read(self, key):
            free.wait(20)
            return super().read(key)

    hanging = Hanging()
    monkeypatch.setattr(storages, "storage_of", lambda url: hanging)
    controller.settings = OperatorSettings(history=HistorySettings(settle_s=0.0, sweep_s=5.0, storage_timeout_s=0.1))
    keeper = HistoryKeeper(controller)
    deploy(controller, history=History(keep_successful=0))
    cluster.add("r", 1)
    await keeper.sweep()
    assert "does not answer within 0.1 s" in caplog.text
    assert "has not answered yet" in controller.store.archive_troubles[Key("ns", "d")]
    assert cluster.deleted == []
    free.set()


@pytest.mark.parametrize("how", ["it cannot be made", "other storages hold all threads"])
async def test_a_storage_whose_work_never_began_is_asked_again(how, controller, cluster, monkeypatch):
    """What never began is not under way: nobody waits for its end for ever."""
    free, well, memory = threading.Event(), threading.Event(), FailingStorage()

    def storage_of(url):
        if url == URL and how == "it cannot be made" and not well.is_set():
            raise StorageError("no such disk")
        return memory

    monkeypatch.setattr(storages, "storage_of", storage_of)
    controller.settings = replace(controller.settings, history=HistorySettings(storage_timeout_s=0.2))
    keeper = HistoryKeeper(controller)
    deploy(controller, history=History(keep_successful=0))
    cluster.add("r", 1)
    calls = keeper._archivist._storages
    holding = [
        asyncio.ensure_future(calls.call("s3://other", lambda _: free.wait(20)))
        for _ in range(storages.MAX_THREADS if how.startswith("other") else 0)
    ]
    await asyncio.sleep(0)
    await keeper.sweep()
    assert cluster.deleted == []
    assert controller.store.archive_troubles[Key("ns", "d")] != ""
    free.set()
    well.set()
    await asyncio.gather(*holding, return_exceptions=True)
    await asyncio.sleep(0)
    await keeper.sweep()
    assert cluster.deleted == ["r"]
    assert indexed(memory) == ["r"]


async def test_who_wrote_a_record_is_counted_once(controller, keeper, cluster, storage):
    deploy(controller)
    cluster.add("own", 1)
    cluster.add("dead", 2)
    record = record_of(cluster.runs["own"], complete=True, written_by="runner", written_at="")
    storage.write("runs/ns/own-own-uid-/record.json", json.dumps(record).encode())
    await keeper.sweep()
    counted = {by: controller.metrics.archived.labels(by)._value.get() for by in ("runner", "operator")}
    assert counted == {"runner": 1, "operator": 1}


def test_kinds_are_listed_as_a_table_of_finished_runs():
    from levada.operator.history import FINISHED
    from levada.resources.phases import ACTIVE_PHASES

    assert FINISHED.split(",")[0] == "status.phase!="
    assert {part.partition("!=")[2] for part in FINISHED.split(",")[1:]} == set(ACTIVE_PHASES)
    assert FLOW_RUNS.plural == "flowruns"


async def test_whatever_stands_in_a_storage_does_not_stop_the_operator(controller, keeper, cluster, storage, caplog):
    """The pods of runs write there, too. One failure of a part of the process would end all of it, again and again."""
    deploy(controller, history=History(keep_successful=0))
    cluster.add("r", 1)
    line = {"name": "x", "namespace": "ns", "uid": "u", "deployment": "d", "folder": "f", "phase": "Failed", "ended": 7}
    storage.write("index/ns/d/latest.json", json.dumps({"levada": 1, "entries": [line], "pages": []}).encode())
    await keeper._guarded(keeper.sweep)
    assert "history: unexpected" in caplog.text
    assert cluster.deleted == []
