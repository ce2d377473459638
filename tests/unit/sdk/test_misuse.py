"""What users get wrong, and what they are told."""

import asyncio
import gc
import warnings

import pytest

from levada import flow, get_run_logger, task
from levada.engine.run import run_flow
from levada.exceptions import BlockError, OptionError, ParameterError
from levada.resources.phases import RunPhase


@task
def add(x, y=1):
    return x + y


@task
async def aadd(x, y=1):
    return x + y


def awaited(*args, **kwargs):
    return asyncio.run(aadd(*args, **kwargs))


@pytest.mark.parametrize(
    "call", [lambda t: t(1, 2, 3), lambda t: t(), lambda t: t(1, z=3), lambda t: t(1, x=2), lambda t: t(y=1)]
)
@pytest.mark.parametrize("tried", [add, add.submit, awaited], ids=["called", "submitted", "awaited"])
def test_arguments_that_do_not_fit_are_told_at_the_call(call, tried):
    with pytest.raises(ParameterError, match="was called with arguments that do not fit"):
        call(tried)


class Shop:
    @task
    def price(self, x, *, tax=0):
        return x + tax

    @task
    def plain(self, x):
        return x


@pytest.mark.parametrize(
    "call", [lambda: Shop().price(1, tax=2), lambda: Shop().plain(1), lambda: Shop().plain(x=1), lambda: add(1, y=2)]
)
def test_arguments_that_fit(call):
    assert call() > 0


@pytest.mark.parametrize(
    "call", [lambda: Shop().price(1, 2), lambda: Shop().plain(), lambda: Shop().plain(1, 2), lambda: Shop().plain(z=1)]
)
def test_arguments_of_methods_that_do_not_fit(call):
    with pytest.raises(ParameterError):
        call()


def test_a_type_error_of_the_code_stays_one():
    @task
    def inner():
        return len(5)

    with pytest.raises(TypeError, match="has no len") as caught:
        inner()
    assert not isinstance(caught.value, ParameterError)


def test_older_async_code_awaits_futures():
    @task
    async def double(x):
        await asyncio.sleep(0)
        return 2 * x

    @flow
    async def f():
        one = await double.submit(1)
        others = await asyncio.gather(*[double.submit(i) for i in range(3)])
        mapped = await double.map([5, 6])
        state = await one.wait()
        assert state.is_completed()
        assert (await double.submit(8).wait_async()).result() == 16
        return (
            one.result(),
            [other.result() for other in others],
            mapped.result(),
            await double.submit(7).result_async(),
        )

    assert asyncio.run(f()) == (2, [0, 2, 4], [10, 12], 14)


def test_waiting_for_a_result_leaves_the_loop_alone():
    import threading

    gate = threading.Event()

    @task
    def held():
        return gate.wait(10)

    @flow
    async def f():
        future = held.submit()
        with pytest.raises(TimeoutError, match=r"held-0 is not done after 0\.01 s"):
            await future.result_async(timeout=0.01)
        waiting = asyncio.ensure_future(future.result_async())
        await asyncio.sleep(0)
        gate.set()
        return await waiting

    assert asyncio.run(f()) is True


def test_prints_belong_to_the_flow_that_prints(caplog, capsys):
    @flow
    def child():
        print("inherited")

    @flow(log_prints=False)
    def plain():
        print("plain")

    @task(log_prints=False)
    def quiet():
        print("quiet")

    @flow(log_prints=True)
    def parent():
        child()
        plain()
        quiet()
        print("own")

    with caplog.at_level("INFO", "levada"):
        run_flow(parent, {}, run_name="parent-1")
    said = {record.getMessage(): record.levada_run for record in caplog.records}
    assert (said["inherited"], said["own"]) == ("child-0", "parent-1")
    assert capsys.readouterr().out == "plain\nquiet\n"


def test_a_flow_whose_tasks_failed_says_so_with_a_warning(caplog):
    @task
    def bad():
        raise ValueError("v")

    @flow
    def f():
        bad.submit()

    assert run_flow(f, {}).type is RunPhase.COMPLETED
    last = caplog.records[-1]
    assert (last.levelname, "0 of 1 task runs completed" in last.getMessage()) == ("WARNING", True)


def test_a_storage_that_is_not_there_is_told_before_the_flow_runs():
    ran = []

    @flow(persist_result=True, result_storage="s3-bucket/nope")
    def f():
        ran.append(1)

    state = f(return_state=True)
    assert isinstance(state.exception, BlockError)
    assert ran == []


def test_a_coroutine_that_is_not_awaited_has_the_users_name():
    @flow
    async def load_trips(): ...

    @task
    async def fetch(): ...

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_trips()
        fetch()
        gc.collect()
    said = " ".join(str(each.message) for each in caught)
    assert "load_trips' was never awaited" in said
    assert "fetch' was never awaited" in said


def test_a_flow_that_returns_a_coroutine_fails():
    @task
    async def fetch(): ...

    @flow
    def f():
        return fetch()

    assert "returned a coroutine that nobody has run: make the flow `async def`" in f(return_state=True).message


def test_a_function_is_a_flow_or_a_task():
    with pytest.raises(OptionError, match="@flow was put on the task 'add', which is decorated already"):
        flow(add)


def test_a_timeout_is_said_once(caplog):
    import time

    @task(timeout_seconds=0.01)
    def slow():
        time.sleep(5)

    @flow
    def f():
        slow(return_state=True)
        get_run_logger().info("went on")

    f()
    assert "Timed out: not done within its timeout_seconds" in caplog.text
    assert "timed out: " not in caplog.text
