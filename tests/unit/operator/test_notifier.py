"""The notifier on a cluster in memory: what it reads and writes, what survives lost answers, and when it lets go."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from levada.decide.definitions import Notification
from levada.decide.times import stamp
from levada.decide.views import run_view
from levada.kube import Conflict, ConnectionLost
from levada.operator import notifications
from levada.operator.controller import Controller, Work
from levada.operator.settings import OperatorSettings
from levada.operator.store import Key
from levada.resources.kinds import BLOCKS, DEPLOYMENTS, FLOW_RUNS
from levada.resources.names import ANNOTATION_NOTIFY
from support.facts import SETTINGS, T0, a_deployment
from support.fake_cluster import FakeCluster
from support.operator_play import until
from support.receiver import Receiver, receiving


@pytest.fixture
def receiver():
    with receiving() as made:
        yield made


@dataclass
class World:
    cluster: FakeCluster
    controller: Controller

    def run(self, name: str = "r", **status: Any) -> dict[str, Any]:
        self.cluster.create(FLOW_RUNS, {"metadata": {"name": name}, "spec": {"deploymentRef": {"name": "d"}}})
        body = self.cluster.patch(FLOW_RUNS, name, {"status": {"phase": "Running", "attempt": 1, **status}})
        self.controller.take_run(run_view(body))
        return body

    def ends(self, name: str = "r", phase: str = "Failed") -> None:
        self.cluster.report(name, phase=phase)
        self.controller.take_run(run_view(self.cluster.get(FLOW_RUNS, name)))

    def status(self, name: str = "r") -> dict[str, Any]:
        return self.cluster.get(FLOW_RUNS, name)["status"]

    @property
    def pending(self) -> int:
        return len(self.controller.notifier._pending)

    async def settled(self) -> None:
        await self.until(lambda: not self.pending)

    async def until(self, seen: Callable[[], Any]) -> None:
        async def look() -> Any:
            return seen()

        await until(look, what="what was waited for")


@asynccontextmanager
async def world(*notifications: Notification) -> AsyncIterator[World]:
    cluster = FakeCluster(T0)
    settings = OperatorSettings(decide=SETTINGS, notify_allow=("127.0.0.1",))
    controller = Controller(cluster.client, settings, now=lambda: cluster.now)
    controller.store.put_deployment(a_deployment(notifications=notifications))
    controller.start()
    async with controller.notifier.sender:
        workers = [asyncio.create_task(controller.notifier.work()) for _ in range(4)]
        try:
            yield World(cluster, controller)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            controller.notifier.close()
            controller.queue.close()


def hook(receiver: Receiver, *phases: str, name: str = "ops") -> Notification:
    return Notification(name, frozenset(phases or ("Failed",)), {"webhook": {"url": receiver.url}})


async def test_a_run_that_nobody_asks_about_costs_nothing(receiver):
    async with world() as it:
        it.run()
        it.ends()
        assert it.pending == 0
    async with world(hook(receiver, "Completed")) as it:
        it.run()
        it.ends()
        assert it.pending == 0
        assert it.cluster.client.writes == 0
    assert not receiver.got


async def test_each_phase_that_is_told_is_one_write_however_many_are_told(receiver):
    phases = ("Running", "Failed")
    async with world(*(hook(receiver, *phases, name=name) for name in ("a", "b", "c"))) as it:
        it.run()
        await it.settled()
        assert it.cluster.client.writes == 1
        it.ends()
        await it.settled()
        assert it.cluster.client.writes == 2
        assert it.status()["notified"] is True
    assert len({got.delivery for got in receiver.got}) == 6


async def test_a_first_look_back_that_fails_is_tried_again_soon(receiver, monkeypatch):
    """History lets no run go before it has gone through: it must not wait for the next list of everything."""
    monkeypatch.setattr(notifications, "FIRST_LOOK_AGAIN_S", 0.01)
    async with world(hook(receiver)) as it:
        notifier, real, failures = it.controller.notifier, it.cluster.client.pages, [ConnectionLost("away")] * 3

        def pages(*arguments, **more):
            if failures:
                raise failures.pop()
            return real(*arguments, **more)

        monkeypatch.setattr(it.cluster.client, "pages", pages)
        looking = asyncio.create_task(notifier.look_back())
        await it.until(lambda: notifier.looked_back)
        looking.cancel()
    assert not failures


async def test_progress_is_no_news(receiver):
    async with world(hook(receiver, "Running")) as it:
        it.run()
        await it.settled()
        for done in range(5):
            body = it.cluster.patch(FLOW_RUNS, "r", {"status": {"message": f"{done}/5"}})
            it.controller.take_run(run_view(body))
        assert it.pending == 0
    assert len(receiver.got) == 1


@pytest.mark.parametrize("fault", ["lost before", "lost after", "error"])
async def test_a_record_whose_answer_is_lost_is_written_again_and_nobody_is_told_twice(receiver, fault):
    async with world(hook(receiver)) as it:
        it.run()
        it.cluster.faults.append(fault)
        it.ends()
        await it.settled()
        assert it.status()["notifications"]["ops"]["told"] == ["Failed"]
        assert it.status()["notified"] is True
    assert len(receiver.got) == 1


async def test_who_else_writes_the_run_meanwhile_does_not_disturb_the_record(receiver, monkeypatch):
    async with world(hook(receiver)) as it:
        real, conflicts = it.cluster.client.patch, []

        async def patch(kind, name, body, *rest, **more):
            if len(conflicts) < 2:
                conflicts.append(name)
                it.cluster.patch(FLOW_RUNS, "r", {"status": {"archive": {"url": f"u{len(conflicts)}"}}})
                raise Conflict(409, "Conflict", "changed")
            return await real(kind, name, body, *rest, **more)

        monkeypatch.setattr(it.cluster.client, "patch", patch)
        it.run()
        it.ends()
        await it.settled()
        assert it.status()["notified"] is True
        assert it.status()["archive"] == {"url": "u2"}
    assert len(receiver.got) == 1


async def test_a_run_that_is_deleted_at_its_end_is_told_from_what_was_seen(receiver):
    async with world(hook(receiver)) as it:
        it.run()
        it.cluster.report("r", phase="Failed")
        view = run_view(it.cluster.get(FLOW_RUNS, "r"))
        it.cluster.delete(FLOW_RUNS, "r")
        it.controller.take_run(view)
        await it.settled()
        assert it.cluster.client.writes == 0
    assert receiver.got[0].json["message"] == "said the runner"


async def test_a_message_that_is_not_taken_is_given_up_on_at_once(receiver):
    receiver.answers = [400]
    async with world(hook(receiver)) as it:
        it.run()
        it.ends()
        await it.settled()
        assert it.status()["notified"] is True
        assert it.status()["notifications"]["ops"] == {"lastError": "HTTP 400: it does not take this message"}
    assert len(receiver.got) == 1


async def test_a_day_later_it_is_given_up_on(receiver):
    receiver.answers = [503]
    async with world(hook(receiver)) as it:
        it.run()
        it.ends()
        await it.until(lambda: it.status().get("notifications"))
        assert "notified" not in it.status()
        it.cluster.now += timedelta(hours=25)
        await it.settled()
        condition = next(item for item in it.status()["conditions"] if item["type"] == "Notified")
        assert (condition["status"], condition["reason"]) == ("False", "DeliveryFailed")
        assert condition["message"].endswith("It is not tried again.")
        assert it.status()["notified"] is True
    health = it.controller.notifier.health(Key("ns", "d"))
    assert [problem.message for problem in health.problems] == ["HTTP 503"]


async def test_what_ended_before_the_notification_was_there_is_no_news_when_it_is_found(receiver):
    async with world(hook(receiver)) as it:
        since = {"ops": {"since": stamp(T0 + timedelta(minutes=10))}}
        it.controller.store.put_deployment(
            a_deployment(notifications=(hook(receiver),), resource_version="2", status={"notifications": since})
        )
        for name, minutes in (("old", 1), ("new", 11)):
            it.cluster.now = T0 + timedelta(minutes=minutes)
            it.cluster.create(FLOW_RUNS, {"metadata": {"name": name}, "spec": {"deploymentRef": {"name": "d"}}})
            it.cluster.report(name, phase="Failed")
            it.controller.notifier._consider(run_view(it.cluster.get(FLOW_RUNS, name)), live=False)
        await it.settled()
        assert [got.json["run"] for got in receiver.got] == ["new"]
        assert "notified" not in it.status("old")


async def test_the_deployment_is_looked_at_when_its_notifications_get_well_or_ill_and_only_then(receiver):
    receiver.answers = [200, 200, 503]
    looked: list[str] = []
    async with world(hook(receiver)) as it:
        it.controller.enqueue = lambda kind, key: looked.append(kind)  # type: ignore[method-assign]
        for number, expected in enumerate((1, 1, 2)):
            it.run(f"r{number}")
            it.ends(f"r{number}")
            await it.until(lambda number=number: it.status(f"r{number}").get("notifications"))
            assert looked.count(DEPLOYMENTS.kind) == expected


async def test_more_notifications_than_a_status_can_keep_are_left_out_and_told_of():
    """Else the API server would refuse the status, and the Deployment would never be Ready."""
    own = Notification("own", frozenset({"Failed"}), {"slack": {"url": "http://127.0.0.1:1/"}})
    async with world(own) as play:
        controller = play.controller
        for number in range(70):
            block = {
                "metadata": {
                    "namespace": "ns",
                    "name": f"b{number:02}",
                    "uid": f"b{number}",
                    "annotations": {ANNOTATION_NOTIFY: ""},
                }
            }
            controller.definitions.on_change(BLOCKS, "ADDED", block)
        await controller.reconcile(Work(BLOCKS.kind, Key("ns", "b00")))
        held = controller.notifier.holding(Key("ns", "d"))
        assert (len(held), held[0]) == (64, own)
        left = [
            each.name
            for each in controller.notifier.health(Key("ns", "d")).problems
            if each.reason == "TooManyNotifications"
        ]
        assert left == [f"b{number}" for number in range(63, 70)]
