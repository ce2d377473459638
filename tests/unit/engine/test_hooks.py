"""Hooks: called once, in order, with what they need, and never able to change the run."""

import asyncio
import threading
import time
from dataclasses import dataclass

import pytest

from levada import flow, get_run_logger, states, task
from levada.blocks import Block
from levada.engine.reporter import MemoryReporter
from levada.engine.run import run_flow
from levada.resources.phases import RunPhase


class Boom(Exception):  # noqa: N818  it is thrown, not explained
    pass


def recorder(calls, word):
    def hook(subject, run, state):
        calls.append((word, subject.name, run.name, state.type))

    return hook


def all_hooks(calls):
    options = ("on_running", "on_completion", "on_failure", "on_cancellation", "on_crashed")
    return {option: recorder(calls, option) for option in options}


def test_a_flow_that_completes():
    calls = []

    @flow(**all_hooks(calls))
    def f(): ...

    run_flow(f, {}, run_name="r1")
    assert calls == [
        ("on_running", "f", "r1", RunPhase.RUNNING),
        ("on_completion", "f", "r1", RunPhase.COMPLETED),
    ]


@pytest.mark.parametrize(
    ("end", "word", "phase"),
    [
        (lambda: 1 / 0, "on_failure", RunPhase.FAILED),
        (lambda: states.Failed("no"), "on_failure", RunPhase.FAILED),
        (lambda: states.Cancelled("no"), "on_cancellation", RunPhase.CANCELLED),
    ],
)
def test_the_end_chooses_the_hook(end, word, phase):
    calls = []

    @task(**all_hooks(calls))
    def t():
        return end()

    @flow(**all_hooks(calls))
    def f():
        return t(return_state=True)

    run_flow(f, {}, run_name="r")
    assert calls == [
        ("on_running", "f", "r", RunPhase.RUNNING),
        ("on_running", "t", "t-0", RunPhase.RUNNING),
        (word, "t", "t-0", phase),
        (word, "f", "r", phase),
    ]


def test_an_interrupt_is_a_cancellation_and_any_other_base_exception_a_crash():
    calls = []

    class Strange(BaseException):
        pass

    def ending_with(error):
        @flow(**all_hooks(calls))
        def f():
            raise error

        return run_flow(f, {}, run_name="r").type

    assert ending_with(KeyboardInterrupt()) is RunPhase.CANCELLED
    assert ending_with(Strange()) is RunPhase.CRASHED
    assert [call[0] for call in calls] == ["on_running", "on_cancellation", "on_running", "on_crashed"]


def test_a_timeout_is_a_failure():
    calls = []

    @task(timeout_seconds=0.02, **all_hooks(calls))
    def t():
        threading.Event().wait(1)

    @flow
    def f():
        return t.submit()

    assert run_flow(f, {}).type is RunPhase.FAILED
    assert calls[-1] == ("on_failure", "t", "t-0", RunPhase.TIMED_OUT)


def test_retries_call_the_running_hook_once_and_the_end_hook_at_the_end():
    calls = []

    @task(retries=2, **all_hooks(calls))
    def t():
        raise Boom

    @flow
    def f():
        t(return_state=True)

    run_flow(f, {})
    assert [call[0] for call in calls] == ["on_running", "on_failure"]


def test_a_hook_that_fails_is_logged_and_changes_nothing(caplog):
    calls = []

    def broken(subject, run, state):
        raise Boom("the hook's own")

    @flow(on_completion=[broken, recorder(calls, "next")])
    def f():
        return 5

    with caplog.at_level("ERROR", "levada"):
        assert f() == 5
    assert "hook 'broken' failed, the run's state stays Completed" in caplog.text
    assert "the hook's own" in caplog.text
    assert [call[0] for call in calls] == ["next"]


def test_async_hooks_in_sync_and_async_flows():
    calls = []

    async def hook(subject, run, state):
        await asyncio.sleep(0)
        calls.append((subject.name, state.name))

    async def failing(subject, run, state):
        await asyncio.sleep(0)
        raise Boom

    @flow(on_completion=[failing, hook])
    def sync_flow(): ...

    @task(on_completion=[hook])
    async def t(): ...

    @flow(on_completion=[failing, hook])
    async def async_flow():
        await t()

    sync_flow()
    asyncio.run(async_flow())
    assert calls == [("sync-flow", "Completed"), ("t", "Completed"), ("async-flow", "Completed")]


def test_a_slow_hook_of_an_async_task_does_not_hold_up_the_loop():
    gate = threading.Event()

    def slow(subject, run, state):
        assert gate.wait(5)

    @task(on_completion=[slow])
    async def t(): ...

    @flow
    async def f():
        async def others():
            gate.set()

        await asyncio.gather(t(), others())

    asyncio.run(f())


def test_the_flow_does_not_end_before_the_hooks_of_its_tasks():
    order = []

    def slow(subject, run, state):
        threading.Event().wait(0.05)
        order.append("hook")

    @task(on_completion=[slow])
    def t(): ...

    @flow
    def f():
        t.submit()

    f()
    order.append("end")
    assert order == ["hook", "end"]


def test_a_future_is_not_done_before_the_hooks():
    order = []

    @task(on_completion=[lambda subject, run, state: order.append("hook")])
    def t():
        return 1

    @flow
    def f():
        future = t.submit()
        future.add_done_callback(lambda done: order.append("callback"))
        assert future.result() == 1
        assert future.done()
        order.append("result")

    f()
    assert order[0] == "hook"
    assert set(order[1:]) == {"callback", "result"}


def test_hooks_see_parameters_and_the_value():
    seen = []

    def hook(subject, run, state):
        seen.append((run.parameters, state.result()))

    @task(on_completion=hook)
    def add(x, y=2):
        return x + y

    @flow(on_completion=hook)
    def f(n: int):
        return add(n)

    f(1)
    assert seen == [({"x": 1, "y": 2}, 3), ({"n": 1}, 3)]


def test_hooks_added_by_decorators_and_kept_by_with_options():
    calls = []

    @flow
    def f(): ...

    @f.on_completion
    def first(flow, run, state):
        calls.append("first")

    f.with_options(version="2")()
    f.with_options(on_completion=[lambda flow, run, state: calls.append("other")])()
    assert calls == ["first", "other"]
    assert first.__name__ == "first"

    @task
    def t():
        raise Boom

    t.on_failure(lambda task, run, state: calls.append("failed"))
    t.on_running(lambda task, run, state: calls.append("running"))
    t.on_cancellation(lambda task, run, state: calls.append("cancelled"))
    t.on_crashed(lambda task, run, state: calls.append("crashed"))
    t(return_state=True)
    assert calls[2:] == ["running", "failed"]


def test_a_notification_block_gets_the_message():
    class Pager(Block):
        block_type = "test-pager"
        url: str

        def notify(self, body, subject=None):
            sent.append((subject, body))

    sent = []

    @flow(on_failure=[Pager(url="x")])
    def nightly():
        raise Boom("no trips")

    run_flow(nightly, {}, run_name="nightly-1")
    ((subject, body),) = sent
    assert "nightly" in subject
    assert "failed" in subject
    assert "no trips" in body


def test_hooks_log_as_their_run(caplog):
    def hook(subject, run, state):
        get_run_logger().info("told")

    async def ahook(subject, run, state):
        get_run_logger().info("told")

    @flow(on_completion=[hook, ahook])
    def f(): ...

    @flow(on_completion=[hook, ahook])
    async def g(): ...

    with caplog.at_level("INFO", "levada"):
        run_flow(f, {}, run_name="f-1")
        run_flow(g, {}, run_name="g-1")
    said = [record.levada_run for record in caplog.records if record.getMessage() == "told"]
    assert said == ["f-1", "f-1", "g-1", "g-1"]


def test_reports_come_before_hooks():
    reporter = MemoryReporter()
    seen = []

    @flow(on_completion=[lambda flow, run, state: seen.append(list(reporter.phases))])
    def f(): ...

    run_flow(f, {}, reporter=reporter)
    assert seen[0][-1][0] is RunPhase.COMPLETED


def test_a_try_that_took_too_long_is_no_failure_while_a_retry_is_left():
    calls, tries, reporter = [], [], MemoryReporter()

    @task(retries=1, timeout_seconds=0.05, on_failure=[recorder(calls, "failed")])
    def t():
        tries.append(1)
        if len(tries) == 1:
            time.sleep(0.1)
        return "made it"

    @flow
    def f():
        return t.submit().result()

    assert run_flow(f, {}, reporter=reporter).value == "made it"
    assert len(tries) == 2
    assert calls == []


def test_the_state_between_two_tries_is_not_final():
    seen = []

    def condition(_task, run, _state):
        asked.set()
        return True

    asked = threading.Event()

    @task(retries=1, retry_delay_seconds=30, timeout_seconds=0.01, retry_condition_fn=condition)
    def t():
        time.sleep(0.05)

    @flow
    def f():
        future = t.submit()
        assert asked.wait(5)
        while future.state.type is RunPhase.RUNNING:
            time.sleep(0.001)
        seen.append(future.state)
        raise Boom

    f(return_state=True)
    assert seen[0].type is RunPhase.RETRYING
    assert not seen[0].is_final()


@pytest.mark.parametrize("is_async", [False, True])
def test_a_hook_may_ask_for_its_own_result(is_async):
    seen, futures = [], []

    def hook(_task, _run, _state):
        seen.append(futures[0].result())

    async def ahook(_task, _run, _state):
        seen.append(await plain(futures[0]))

    @task
    async def plain(x):
        return x

    @task(on_completion=[ahook if is_async else hook])
    def t():
        assert begun.wait(5)
        return 7

    begun = threading.Event()

    @flow
    def f():
        futures.append(t.submit())
        begun.set()
        futures[0].wait(5)

    f()
    assert seen == [7]


def test_an_async_notification_is_awaited():
    class Later(Block):
        block_type = "test-later"
        url: str

        async def notify(self, body, subject=None):
            await asyncio.sleep(0)
            sent.append(subject)

    sent = []

    @flow(on_completion=[Later(url="x")])
    def f(): ...

    f()
    assert len(sent) == 1


def test_an_exception_that_cannot_be_changed_ends_its_run_all_the_same(caplog):
    @dataclass(frozen=True)
    class Frozen(Exception):  # noqa: N818  it is thrown, not explained
        code: int = 1

    @task
    def t():
        raise Frozen

    @flow
    def f():
        future = t.submit()
        with pytest.raises(Frozen):
            future.result(timeout=5)
        with pytest.raises(Frozen):
            t()

    f()
    assert "Traceback" in caplog.text
