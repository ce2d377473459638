"""The parts of the operator process: all or none, the lease given up last and always."""

import asyncio

import pytest

from levada.kube import LeadershipLost
from levada.operator import shell
from levada.operator.controller import Controller
from levada.operator.settings import OperatorSettings
from support.facts import SETTINGS, T0
from support.fake_cluster import FakeCluster


class Leader:
    """A leadership that the test decides about, and a diary of what was done in which order."""

    def __init__(self, diary):
        self.elected, self.lost = asyncio.Event(), asyncio.Event()
        self.diary, self.leading = diary, False

    async def run(self):
        self.elected.set()
        self.leading = True
        await self.lost.wait()
        self.leading = False
        raise LeadershipLost("it is somebody else's")

    async def watch(self):
        await asyncio.Event().wait()

    async def resign(self):
        self.leading = False
        self.diary.append("resigned")


class Stage:
    def __init__(self, monkeypatch, cluster):
        self.diary, self.working = [], asyncio.Event()
        self.leader = Leader(self.diary)
        self.controller = Controller(cluster.client, OperatorSettings(decide=SETTINGS, workers=1))
        self.controller.work = self._work
        self.moments = None
        self.failure = asyncio.Event()
        monkeypatch.setattr(shell, "run_kopf", self._kopf)
        monkeypatch.setattr(shell, "_list_definitions", self._list)
        monkeypatch.setattr(shell, "_calm_collector", lambda: None)

    async def _list(self, controller):
        self.diary.append("listed")

    async def _work(self):
        self.working.set()
        try:
            await self.failure.wait()
            raise ValueError("a worker died")
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)  # the last write is on its way
            self.diary.append("worker ended")
            raise

    async def _kopf(self, controller, moments):
        self.moments = moments
        await moments.kopf_may_end.wait()
        self.diary.append("kopf ended")

    def serve(self):
        return asyncio.create_task(
            shell._serve_as(self.leader, self.controller, {}, lambda: self.diary.append("ready"))
        )


@pytest.fixture
async def stage(monkeypatch):
    return Stage(monkeypatch, FakeCluster(T0))


async def test_asked_to_stop_the_workers_end_before_the_lease_is_given_up_and_kopf_last(stage):
    serving = stage.serve()
    await asyncio.wait_for(stage.working.wait(), 5)
    stage.moments.asked_to_stop.set()
    await asyncio.wait_for(serving, 5)
    assert stage.diary[:5] == ["listed", "ready", "worker ended", "resigned", "kopf ended"]


async def test_when_the_payload_dies_the_lease_is_given_up(stage):
    serving = stage.serve()
    await asyncio.wait_for(stage.working.wait(), 5)
    stage.failure.set()
    with pytest.raises(ExceptionGroup) as died:
        await asyncio.wait_for(serving, 5)
    assert died.group_contains(ValueError, match="a worker died")
    assert stage.diary[-1] == "resigned"


async def test_when_the_lease_is_lost_the_payload_ends(stage):
    serving = stage.serve()
    await asyncio.wait_for(stage.working.wait(), 5)
    stage.leader.lost.set()
    with pytest.raises(LeadershipLost, match="somebody else"):
        await asyncio.wait_for(serving, 5)
    assert stage.diary[-2:] == ["worker ended", "resigned"]


async def test_a_standby_does_not_work(stage):
    stage.leader.run = asyncio.Event().wait
    serving = stage.serve()
    await asyncio.sleep(0.05)
    assert stage.diary == []
    assert not stage.working.is_set()
    stage.moments.asked_to_stop.set()
    await asyncio.wait_for(serving, 5)
