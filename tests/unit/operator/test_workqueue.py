"""The de-duplicating queue."""

import asyncio

import pytest

from levada.operator import workqueue
from levada.operator.workqueue import WorkQueue


@pytest.fixture
async def queue():
    queue = WorkQueue()
    yield queue
    queue.close()


async def test_a_key_is_in_it_once_however_often_it_is_added(queue):
    for key in ("a", "b", "a", "a"):
        queue.add(key)
    assert [await queue.get(), await queue.get()] == ["a", "b"]
    assert len(queue) == 0


async def test_a_key_with_a_worker_is_handed_out_again_only_after_it_is_done(queue):
    queue.add("a")
    key = await queue.get()
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    queue.done(key)
    assert await asyncio.wait_for(queue.get(), 1) == "a"
    queue.done("a")
    assert (len(queue), queue.working) == (0, 0)


async def test_no_key_is_ever_with_two_workers(queue):
    inside: set[int] = set()
    handled = 0

    async def worker():
        nonlocal handled
        while True:
            key = await queue.get()
            assert key not in inside
            inside.add(key)
            await asyncio.sleep(0)
            inside.discard(key)
            handled += 1
            queue.done(key)

    workers = [asyncio.create_task(worker()) for _ in range(5)]
    for round_ in range(200):
        queue.add(round_ % 3)
        await asyncio.sleep(0)
    for _ in range(50):
        await asyncio.sleep(0)
    for task in workers:
        task.cancel()
    ends = await asyncio.gather(*workers, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends)
    assert handled > 3 and len(queue) == 0


async def test_a_delayed_key_comes_when_it_is_due_and_the_earliest_wish_counts(queue):
    queue.add_after("a", 0.03)
    queue.add_after("a", 0.005)
    queue.add_after("a", 0.02)
    assert len(queue) == 0
    assert await asyncio.wait_for(queue.get(), 0.02) == "a"
    queue.done("a")
    await asyncio.sleep(0.035)
    assert len(queue) == 0, "the later wishes were replaced"


async def test_handing_a_key_out_cancels_its_timer(queue):
    queue.add_after("a", 0.005)
    queue.add("a")
    await queue.get()
    queue.done("a")
    await asyncio.sleep(0.01)
    assert len(queue) == 0


async def test_failures_come_back_later_and_later_until_forgotten(queue, monkeypatch):
    monkeypatch.setattr(workqueue.random, "uniform", lambda low, high: high)
    assert [queue.add_failed("a") for _ in range(4)] == [0.05, 0.1, 0.2, 0.4]
    assert [queue.add_failed("b") for _ in range(20)][-1] == 30.0
    queue.forget("a")
    assert queue.add_failed("a") == 0.05


async def test_a_cancelled_worker_passes_its_wake_up_on(queue):
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    assert await asyncio.wait_for(second, 1) == "a"
    assert (await asyncio.gather(first, return_exceptions=True))[0].__class__ is asyncio.CancelledError
