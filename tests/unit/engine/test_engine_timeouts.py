"""Runs that take too long: interrupted, cancelled or abandoned, tried again, and never reported twice."""

import asyncio
import sys
import threading
import time

import pytest

from levada import flow, task
from levada.engine.reporter import MemoryReporter
from levada.engine.run import run_flow
from levada.exceptions import RunTimedOut
from levada.resources.phases import RunPhase, TaskState

R, Y = TaskState.RUNNING, TaskState.RETRYING


@pytest.fixture
def reporter():
    return MemoryReporter()


def states_of(reporter, run_id):
    return [report.state for report in reporter.tasks if report.id == run_id]


@task
def double(x):
    return 2 * x


def test_a_finished_run_refuses_more_tasks():
    released, answers = threading.Event(), []

    @task(timeout_seconds=0.02)
    def runaway():
        try:
            released.wait(5)
        finally:
            try:
                double(1)
            except Exception as error:  # noqa: BLE001  whatever it is told
                answers.append(str(error))
            finally:
                ended.set()

    ended = threading.Event()

    @flow
    def f():
        return runaway.submit(return_state=True).type

    run_flow(f, {})
    released.set()
    assert ended.wait(5)
    assert len(answers) in {0, 1}  # the deadline may interrupt the clean-up itself
    assert all("flow run" in answer and "has ended" in answer for answer in answers)


@pytest.mark.parametrize("retries", [0, 1])
def test_a_flow_that_takes_too_long_has_timed_out(retries, reporter):
    @flow(timeout_seconds=0.03, retries=retries)
    def f():
        time.sleep(5)

    began = time.monotonic()
    state = run_flow(f, {}, reporter=reporter)
    assert time.monotonic() - began < 2
    assert state.type is RunPhase.TIMED_OUT
    assert isinstance(state.exception, RunTimedOut)
    assert isinstance(state.exception, TimeoutError)
    assert "not done within its timeout_seconds of 30 ms" in state.message
    assert reporter.phases[-1][0] is RunPhase.TIMED_OUT


def test_a_flow_times_out_while_it_waits_for_tasks(reporter):
    gate = threading.Event()

    @task
    def stuck():
        gate.wait(5)

    @flow(timeout_seconds=0.03)
    def f():
        first = stuck.submit()
        double.submit(first)

    try:
        state = run_flow(f, {}, reporter=reporter)
    finally:
        gate.set()
    assert state.type is RunPhase.TIMED_OUT
    assert {report.state for report in reporter.last.values()} == {TaskState.CANCELLED}
    assert reporter.last["stuck-0"].message == "stopped because the run around it took too long"
    count = len(reporter.tasks)
    time.sleep(0.02)
    assert len(reporter.tasks) == count, "a thread that comes too late changes nothing"


def test_a_flow_in_another_thread_times_out_while_it_waits_for_tasks():
    gate, states = threading.Event(), []

    @task
    def stuck():
        gate.wait(5)

    @flow(timeout_seconds=0.03)
    def f():
        stuck.submit().result()

    thread = threading.Thread(target=lambda: states.append(run_flow(f, {})))
    thread.start()
    try:
        thread.join(3)
        assert [state.type for state in states] == [RunPhase.TIMED_OUT]
    finally:
        gate.set()
        thread.join()


def test_an_abandoned_thread_that_sleeps_does_not_slow_a_traced_program():
    """While CPython has an exception to deliver to a sleeping thread, its tracer loops for ever in all others."""
    gate, seen = threading.Event(), []

    @task(timeout_seconds=0.02)
    def stuck():
        gate.wait(5)

    @flow
    def f():
        stuck.submit().wait()
        before = sys.gettrace()
        sys.settrace(lambda frame, event, arg: None)
        try:
            seen.extend(double(index) for index in range(20))
        finally:
            sys.settrace(before)
            gate.set()

    began = time.monotonic()
    run_flow(f, {})
    assert seen == [2 * index for index in range(20)]
    assert time.monotonic() - began < 3


def test_an_async_flow_that_takes_too_long_is_cancelled(reporter):
    cleaned = []

    @task
    async def slow():
        try:
            await asyncio.sleep(5)
        finally:
            cleaned.append(True)

    @flow(timeout_seconds=0.03)
    async def f():
        await slow()

    state = run_flow(f, {}, reporter=reporter)
    assert state.type is RunPhase.TIMED_OUT
    assert cleaned == [True]
    assert reporter.last["slow-0"].state is TaskState.CANCELLED


def test_a_users_timeout_error_is_no_timeout_of_ours():
    @flow(timeout_seconds=5)
    async def f():
        raise TimeoutError("theirs")

    @flow(timeout_seconds=5)
    def g():
        raise TimeoutError("theirs")

    for each in (f, g):
        assert run_flow(each, {}).type is RunPhase.FAILED


@pytest.mark.parametrize("how", ["call", "submit", "async", "async submit"])
def test_a_task_that_takes_too_long_is_tried_again_and_then_fails(how, reporter):
    gate = threading.Event()

    @task(timeout_seconds=0.03, retries=1)
    def slow():
        gate.wait(5)

    @task(timeout_seconds=0.03, retries=1, name="slow")
    async def aslow():
        await asyncio.sleep(5)

    @flow
    def f():
        if how == "call":
            return slow(return_state=True)
        return (aslow if how == "async submit" else slow).submit(return_state=True)

    @flow
    async def g():
        return await aslow(return_state=True)

    began = time.monotonic()
    try:
        state = run_flow(g if how == "async" else f, {}, reporter=reporter)
    finally:
        gate.set()
    assert time.monotonic() - began < 2
    assert isinstance(state.exception, RunTimedOut)
    assert states_of(reporter, "slow-0")[-4:] == [R, Y, R, TaskState.FAILED]
    assert "timed out: not done within its timeout_seconds of 30 ms" in reporter.last["slow-0"].message


def test_an_abandoned_tasks_late_result_is_ignored_and_its_successors_go_on(reporter):
    gate, late = threading.Event(), threading.Event()

    @task(timeout_seconds=0.03)
    def stubborn():
        while not gate.is_set():  # swallows the exception that is to stop it, as a bare except does
            try:
                gate.wait(0.01)
            except BaseException:  # noqa: BLE001  the point of this test
                continue
        late.set()
        return "late"

    @flow
    def f():
        future = stubborn.submit()
        after = double.submit(future)
        return [future.wait().type, after.wait().type]

    try:
        state = run_flow(f, {}, reporter=reporter)
    finally:
        gate.set()
    assert state.value == [RunPhase.TIMED_OUT, RunPhase.SKIPPED]
    assert reporter.last["double-0"].state is TaskState.SKIPPED
    assert late.wait(5)
    assert reporter.last["stubborn-0"].state is TaskState.FAILED
