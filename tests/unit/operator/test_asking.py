"""What a decision asks for is read where it is: in the cluster, or in the archive when it has left."""

import json
from dataclasses import replace

import pytest

from levada.archive.layout import record_key, run_folder
from levada.archive.record import record_of
from levada.decide.facts import NodeView, RepeatedRun
from levada.decide.plan import Ask
from levada.kube import ConnectionLost, Forbidden, NotFound
from levada.operator.asking import answered
from levada.operator.storages import Storages
from levada.storage import storage_of
from support.facts import SETTINGS, a_deployment, a_run, facts

STORAGES = Storages(5.0)
NODE, RUN = Ask("Node", "n1"), Ask("FlowRun", "old")


class Cluster:
    """Answers every read with the same object or refusal."""

    def __init__(self, answer):
        self.answer = answer

    async def get(self, kind, name, namespace=None):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


GONE = NotFound(404, "NotFound", "not found")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}, NodeView()),
        (GONE, NodeView(exists=False)),
        (Forbidden(403, "Forbidden", "no"), NodeView()),
    ],
)
async def test_a_node(answer, expected):
    assert (await answered(Cluster(answer), STORAGES, facts(), NODE)).node == expected


def old(uid, ended, persisted):
    return {
        "metadata": {"name": "old", "namespace": "ns", "uid": uid},
        "spec": {"deploymentRef": {"name": "d"}},
        "status": {"phase": "Failed", "completionTime": ended, "taskCounts": {"total": 5, "persisted": persisted}},
    }


def archived(folder, *runs):
    storage = storage_of(f"file://{folder}")
    for run in runs:
        record = record_of(run, complete=True, written_by="runner", written_at="2026-01-01T00:00:00Z")
        storage.write(record_key(run_folder("ns", "old", run["metadata"]["uid"])), json.dumps(record).encode())
    where = f"file://{folder}"
    return facts(
        a_run(retry_of="old"),
        deployment=a_deployment(storage=where),
        settings=replace(SETTINGS, allowed_storages=(where,)),
    )


async def test_a_run_that_is_there(tmp_path):
    found = await answered(Cluster(old("1234567890", "2026-01-01T00:00:00Z", 2)), STORAGES, archived(tmp_path), RUN)
    assert found.repeated == RepeatedRun(root="old", key="old-12345678", phase="Failed", persisted=2, total=5)


async def test_a_run_that_has_left_is_read_from_the_archive_the_newest_of_its_name(tmp_path):
    look = archived(
        tmp_path, old("aaaaaaaa-1", "2026-01-02T00:00:00Z", 3), old("bbbbbbbb-2", "2026-01-01T00:00:00Z", 1)
    )
    found = await answered(Cluster(GONE), STORAGES, look, RUN)
    assert found.repeated == RepeatedRun(root="old", key="old-aaaaaaaa", phase="Failed", persisted=3, total=5)


async def test_a_run_that_is_nowhere(tmp_path):
    assert (await answered(Cluster(GONE), STORAGES, archived(tmp_path), RUN)).repeated == RepeatedRun(exists=False)
    assert (await answered(Cluster(GONE), STORAGES, facts(), RUN)).repeated == RepeatedRun(exists=False)


async def test_an_archive_that_may_not_be_read_is_none(tmp_path):
    look = archived(tmp_path, old("aaaaaaaa-1", "2026-01-02T00:00:00Z", 3))
    found = await answered(Cluster(GONE), STORAGES, replace(look, settings=SETTINGS), RUN)
    assert found.repeated == RepeatedRun(exists=False)


async def test_an_archive_in_trouble_is_asked_again_later(tmp_path):
    look = archived(tmp_path, old("aaaaaaaa-1", "2026-01-02T00:00:00Z", 3))
    for path in tmp_path.rglob("record.json"):
        path.write_text("half a rec")
    with pytest.raises(ConnectionLost, match="the archive file://"):
        await answered(Cluster(GONE), STORAGES, look, RUN)
