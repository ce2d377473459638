"""Events in the background: told once, counted together, bounded, and flushed at the end."""

import asyncio
from datetime import timedelta

from levada.decide.plan import WARNING, EventSpec
from levada.operator import herald as module
from levada.operator.events import About
from levada.operator.herald import Herald
from levada.operator.metrics import Metrics
from levada.resources.kinds import DEPLOYMENTS, EVENTS, FLOW_RUNS
from support.facts import T0
from support.fake_cluster import FakeCluster

RUN = About(FLOW_RUNS, "ns", "r", "run-uid-of-it")
DEPLOYMENT = About(DEPLOYMENTS, "ns", "d", "dep-uid-of-it")


def spec(reason="Failed", message="no luck"):
    return EventSpec(WARNING, reason, message, reason.lower())


class Desk:
    """A herald with one writer, and the Events that arrived."""

    def __init__(self, room=100, cluster=None):
        self.cluster = cluster or FakeCluster(T0)
        self.metrics = Metrics()
        self.herald = Herald(self.cluster.client, self.metrics, lambda: self.cluster.now, room=room)

    async def write(self):
        writer = asyncio.create_task(self.herald.write())
        await self.herald.flush(1)
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)

    @property
    def events(self):
        return [item for (kind, _), item in self.cluster.objects.items() if kind == EVENTS]

    def outcome(self, outcome):
        return self.metrics.registry.get_sample_value("levada_events_total", {"outcome": outcome})


async def test_telling_costs_no_request_and_writing_follows():
    desk = Desk()
    desk.herald.tell(RUN, [spec("Started"), spec("Completed")])
    assert desk.events == []
    assert len(desk.herald) == 2
    await desk.write()
    assert [event["reason"] for event in desk.events] == ["Started", "Completed"]
    assert len(desk.herald) == 0


async def test_the_same_fact_is_told_once_also_by_the_process_after_this_one():
    desk = Desk()
    for _ in range(3):
        desk.herald.tell(RUN, [spec()])
    await desk.write()
    assert desk.outcome("written") == 1
    after = Desk(cluster=desk.cluster)
    after.herald.tell(RUN, [spec()])
    await after.write()
    assert len(after.events) == 1
    assert after.outcome("repeated") == 1


async def test_ten_thousand_failures_are_one_event_of_the_deployment():
    desk = Desk()
    for number in range(10_000):
        desk.herald.count(DEPLOYMENT, spec("RunFailed", f"run {number}"))
    await desk.write()
    (event,) = desk.events
    assert (event["count"], event["message"]) == (10_000, "run 9999")
    assert desk.outcome("written") == 1


async def test_a_count_goes_on_within_its_window_and_starts_anew_after_it():
    desk = Desk()
    for seconds in (0, 1, 2, 700):
        desk.cluster.now = T0 + timedelta(seconds=seconds)
        desk.herald.count(DEPLOYMENT, spec("RunFailed"))
        await desk.write()
    assert [event["count"] for event in desk.events] == [3, 1]
    assert desk.events[0]["lastTimestamp"] > desk.events[0]["firstTimestamp"]


async def test_a_restarted_operator_goes_on_counting():
    desk = Desk()
    for _ in range(5):
        desk.herald.count(DEPLOYMENT, spec("RunFailed"))
    await desk.write()
    after = Desk(cluster=desk.cluster)
    for _ in range(2):
        after.herald.count(DEPLOYMENT, spec("RunFailed"))
    await after.write()
    assert [event["count"] for event in after.events] == [7]


async def test_counts_are_written_now_and_then(monkeypatch):
    monkeypatch.setattr(module, "COUNT_EVERY_S", 0.01)
    desk = Desk()
    writer = asyncio.create_task(desk.herald.write())
    for count in (1, 2, 3):
        desk.herald.count(DEPLOYMENT, spec("RunFailed"))
        while not desk.events or desk.events[0]["count"] != count:  # noqa: ASYNC110 - a turn of the loop is what is waited for
            await asyncio.sleep(0)
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)


async def test_what_does_not_fit_is_dropped_and_counted():
    desk = Desk(room=2)
    for number in range(5):
        desk.herald.tell(RUN, [spec(f"Reason{number}")])
    assert desk.outcome("dropped") == 3
    await desk.write()
    assert len(desk.events) == 2


async def test_an_api_server_that_is_away_holds_nobody_up():
    desk = Desk()
    desk.cluster.faults.append("error")
    desk.herald.tell(RUN, [spec("Started"), spec("Completed")])
    await desk.write()
    assert [event["reason"] for event in desk.events] == ["Completed"]
    assert desk.outcome("failed") == 1


async def test_the_end_waits_for_a_hanging_request_only_so_long():
    desk = Desk()

    async def hang(*_):
        await asyncio.Event().wait()

    desk.herald._client = type("Hanging", (), {"create": hang})()
    desk.herald.tell(RUN, [spec("Started"), spec("Completed")])
    writer = asyncio.create_task(desk.herald.write())
    await desk.herald.flush(0.05)
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    assert desk.outcome("dropped") == 2
