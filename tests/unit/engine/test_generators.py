"""Flows and tasks that are generators."""

import asyncio
import threading
import time

import pytest

from levada import current_flow_run, current_task_run, flow, task
from levada.context import FLOW_RUN, TASK_RUN
from levada.engine.reporter import MemoryReporter
from levada.engine.run import run_flow
from levada.exceptions import CacheKeyError, ParameterError, RunTimedOut, UpstreamFailed
from levada.resources.phases import RunPhase, TaskState


@task
def count(n):
    for i in range(n):
        assert current_task_run().task_name == "count"
        yield i


@task
async def acount(n):
    for i in range(n):
        await asyncio.sleep(0)
        yield i


def test_items_come_one_by_one_and_the_run_ends_with_the_last():
    reporter = MemoryReporter()
    seen = []

    @flow
    def f():
        for item in count(3):
            seen.append((item, reporter.last["count-0"].state))
            assert TASK_RUN.get() is None  # between two items, the code is the flow's
        return sum(item for item, _ in seen)

    state = run_flow(f, {}, reporter=reporter)
    assert state.value == 3
    assert seen == [(0, TaskState.RUNNING), (1, TaskState.RUNNING), (2, TaskState.RUNNING)]
    assert reporter.last["count-0"].state is TaskState.COMPLETED


def test_submitted_or_with_return_state_it_is_a_list():
    @flow
    def f():
        return count.submit(2).result(), count(2, return_state=True).result(), acount.submit(2).result()

    assert f() == ([0, 1], [0, 1], [0, 1])


def test_async_items():
    @flow
    async def f():
        return [item async for item in acount(3)]

    assert asyncio.run(f()) == [0, 1, 2]

    @flow
    async def numbers():
        async for item in acount(2):
            yield item * 10

    async def main():
        return [item async for item in numbers()]

    assert asyncio.run(main()) == [0, 10]
    assert run_flow(numbers, {}).value == [0, 10]


def test_a_generator_flow():
    @task
    def double(x):
        return 2 * x

    @flow
    def f(n: int):
        for item in count(n):
            yield double(item), current_flow_run().flow_name

    assert list(f(2)) == [(0, "f"), (2, "f")]
    assert FLOW_RUN.get() is None
    assert run_flow(f, {"n": 1}).value == [(0, "f")]
    with pytest.raises(ParameterError, match="parameter 'n'"):
        list(f("many"))


@pytest.mark.parametrize("run", [lambda f: list(f()), lambda f: run_flow(f, {}).result()])
def test_an_error_is_the_users_own(run):
    @flow
    def f():
        yield 1
        raise KeyError("k")

    with pytest.raises(KeyError):
        run(f)


def test_whoever_stops_asking_ends_the_run():
    reporter = MemoryReporter()
    cleaned = []

    @task
    def endless():
        try:
            while True:
                yield 1
        finally:
            cleaned.append(current_task_run().id)

    @task
    async def aendless():
        try:
            while True:
                yield 1
        finally:
            cleaned.append(current_task_run().id)

    @flow
    def f():
        for _ in endless():
            break

    @flow
    async def g():
        items = aendless()
        assert await anext(items) == 1
        await items.aclose()

    run_flow(f, {}, reporter=reporter)
    run_flow(g, {}, reporter=reporter)
    assert cleaned == ["endless-0", "aendless-0"]
    assert {report.state for report in reporter.last.values()} == {TaskState.COMPLETED}
    assert reporter.last["endless-0"].message == "its items were not asked for to the end"


def test_a_retry_only_before_the_first_item():
    tries = []

    @task(retries=2, retry_delay_seconds=0.001)
    def early():
        tries.append("early")
        if len(tries) < 2:
            raise OSError
        yield 1

    @task(retries=2)
    def late():
        tries.append("late")
        yield 1
        raise OSError

    @task(retries=1, retry_delay_seconds=0.001)
    async def aearly():
        tries.append("aearly")
        if len(tries) < 4:
            raise OSError
        yield 1

    @flow
    def f():
        assert list(early()) == [1]
        with pytest.raises(OSError):
            list(late())

    @flow
    async def g():
        return [item async for item in aearly()]

    f()
    tries[:] = tries[:3]
    tries.remove("late")
    asyncio.run(g())
    assert tries == ["early", "early", "aearly", "aearly"]


def test_what_is_sent_reaches_the_code():
    @task
    def echo():
        got = "first"
        while got != "stop":
            got = yield got

    items = echo()
    assert next(items) == "first"
    assert items.send("second") == "second"
    with pytest.raises(StopIteration):
        items.send("stop")


def test_the_timeout_counts_the_time_inside():
    @task(timeout_seconds=0.05)
    def slow():
        yield 1
        import time

        time.sleep(5)
        yield 2

    @task(timeout_seconds=0.05)
    async def aslow():
        yield 1
        await asyncio.sleep(5)
        yield 2

    items = slow()
    assert next(items) == 1
    with pytest.raises(RunTimedOut):
        next(items)

    async def main():
        aitems = aslow()
        assert await anext(aitems) == 1
        with pytest.raises(RunTimedOut):
            await anext(aitems)

    asyncio.run(main())


def test_upstreams_are_waited_for():
    @task
    def bad():
        raise KeyError

    @task
    def value():
        return 2

    @flow
    def f():
        assert list(count(value.submit())) == [0, 1]
        with pytest.raises(UpstreamFailed):
            list(count(bad.submit()))

    assert run_flow(f, {}).type is RunPhase.COMPLETED

    @flow
    async def g():
        return [item async for item in acount(value.submit())]

    assert asyncio.run(g()) == [0, 1]


def test_what_the_clean_up_raises_is_the_outcome():
    reporter = MemoryReporter()

    @task
    def broken():
        try:
            yield 1
        finally:
            raise ValueError("no disk")

    @task
    async def abroken():
        try:
            yield 1
        finally:
            raise ValueError("no disk")

    @flow
    def f():
        items = broken()
        assert next(items) == 1
        with pytest.raises(ValueError, match="no disk"):
            items.close()

    @flow
    async def g():
        items = abroken()
        assert await anext(items) == 1
        with pytest.raises(ValueError, match="no disk"):
            await items.aclose()

    run_flow(f, {}, reporter=reporter)
    run_flow(g, {}, reporter=reporter)
    assert {run_id: report.state for run_id, report in reporter.last.items()} == {
        "broken-0": TaskState.FAILED,
        "abroken-0": TaskState.FAILED,
    }


def test_what_the_caller_throws_in_arrives_in_the_code():
    @task
    def patient():
        try:
            yield 1
        except KeyError:
            yield "caught"

    items = patient()
    next(items)
    assert items.throw(KeyError()) == "caught"
    assert list(items) == []


def test_a_generators_run_has_its_name():
    reporter = MemoryReporter()

    @task(task_run_name="count to {n}")
    def named(n):
        yield from range(n)

    @task(task_run_name=lambda: "")
    def nameless():
        yield 1

    @flow
    def f():
        with pytest.raises(CacheKeyError):
            list(nameless())
        return list(named(2))

    assert run_flow(f, {}, reporter=reporter).value == [0, 1]
    assert reporter.last["named-0"].name == "count to 2"


def test_a_generator_flow_that_takes_too_long_does_not_wait_for_its_tasks():
    gate, reporter = threading.Event(), MemoryReporter()

    @task
    def held():
        gate.wait(10)

    @flow(timeout_seconds=0.2)
    def inner():
        held.submit()
        yield 1
        time.sleep(5)

    @flow
    def f():
        with pytest.raises(RunTimedOut):
            list(inner())

    run_flow(f, {}, reporter=reporter)
    gate.set()
    assert reporter.last["held-0"].state is TaskState.CANCELLED
