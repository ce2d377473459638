"""What a flow run does and what its reporter hears of it."""

import asyncio
import threading
import time
from typing import NamedTuple

import pytest

from levada import flow, task
from levada.context import current_flow_run, current_task_run
from levada.engine.reporter import MemoryReporter, TeeReporter
from levada.engine.run import run_flow
from levada.exceptions import ParameterError, UpstreamFailed
from levada.resources.phases import RunPhase, TaskState
from levada.states import Cancelled, Completed, Failed

P, R, Y, C = TaskState.PENDING, TaskState.RUNNING, TaskState.RETRYING, TaskState.COMPLETED


@pytest.fixture
def reporter():
    return MemoryReporter()


def states_of(reporter, run_id):
    return [report.state for report in reporter.tasks if report.id == run_id]


@task
def double(x):
    return 2 * x


@task
def explode(x=None):
    raise ValueError("boom")


@task
async def adouble(x):
    await asyncio.sleep(0)
    return 2 * x


def test_a_flow_returns_its_value_and_reports_its_phases(reporter):
    @flow
    def f(x):
        return double(x) + 1

    state = run_flow(f, {"x": 3}, reporter=reporter)
    assert (state.type, state.value, state.exception) == (RunPhase.COMPLETED, 7, None)
    assert reporter.phases == [(RunPhase.RUNNING, ""), (RunPhase.COMPLETED, "")]
    assert states_of(reporter, "double-0") == [R, C]


def test_an_async_flow_does_the_same(reporter):
    @flow
    async def f(x):
        one = await adouble(x)
        return one + sum(await asyncio.gather(adouble(1), adouble(2))) + double(1)

    state = run_flow(f, {"x": 3}, reporter=reporter)
    assert (state.type, state.value) == (RunPhase.COMPLETED, 14)
    assert [phase for phase, _ in reporter.phases] == [RunPhase.RUNNING, RunPhase.COMPLETED]
    assert states_of(reporter, "adouble-2") == [R, C]


def test_every_submitted_task_is_known_at_once(reporter):
    gate = threading.Event()

    @task
    def wait_for_gate():
        assert gate.wait(5)
        return 1

    @flow
    def f():
        first = wait_for_gate.submit()
        rest = [double.submit(first) for _ in range(5)]
        known = {report.id for report in reporter.tasks}
        gate.set()
        return [known, [future.result() for future in rest]]

    known, results = run_flow(f, {}, reporter=reporter).value
    assert known == {"wait-for-gate-0", *(f"double-{index}" for index in range(5))}
    assert results == [2] * 5
    assert states_of(reporter, "double-4") == [P, R, C]
    assert reporter.last["double-4"].upstream == ("wait-for-gate-0",)


def test_reports_carry_times_attempts_and_messages(reporter):
    tries = []

    @task(retries=2)
    def flaky():
        tries.append(current_task_run().attempt)
        if len(tries) < 3:
            raise OSError("no route")
        return "there"

    @flow
    def f():
        return flaky()

    assert run_flow(f, {}, reporter=reporter).value == "there"
    assert tries == [1, 2, 3]
    assert states_of(reporter, "flaky-0") == [R, Y, R, Y, R, C]
    assert [report.attempt for report in reporter.tasks] == [1, 1, 2, 2, 3, 3]
    assert reporter.tasks[1].message == "attempt 1 of 3 failed, next now: OSError: no route"
    last = reporter.last["flaky-0"]
    assert last.start_time == reporter.tasks[0].start_time
    assert last.start_time <= last.end_time
    assert reporter.tasks[0].end_time is None


def test_a_flow_that_raises_fails_with_the_users_error(reporter):
    @flow
    def f():
        explode()

    state = run_flow(f, {}, reporter=reporter)
    assert state.type is RunPhase.FAILED
    assert isinstance(state.exception, ValueError)
    assert state.message == "ValueError: boom"
    assert reporter.phases[-1] == (RunPhase.FAILED, "ValueError: boom")
    assert reporter.last["explode-0"].state is TaskState.FAILED


def test_a_task_is_skipped_when_its_upstream_fails_and_so_is_what_follows(reporter):
    @flow
    def f():
        bad = explode.submit()
        after = double.submit([bad])
        last = double.submit(after)
        for future in (bad, after, last):
            future.wait()
        return "still here"

    state = run_flow(f, {}, reporter=reporter)
    assert state.type is RunPhase.COMPLETED
    assert state.message == "3 of 3 task runs did not complete"
    skipped = reporter.last["double-0"]
    assert skipped.state is TaskState.SKIPPED
    assert skipped.message == "not run, because upstream 'explode-0' is Failed: ValueError: boom"
    assert reporter.last["double-1"].message == skipped.message, "the cause is named, not what lies between"
    assert skipped.start_time is None


def test_the_result_of_a_skipped_task_names_the_upstream_and_its_cause():
    @flow
    def f():
        double.submit(explode.submit()).result()

    state = run_flow(f, {})
    assert isinstance(state.exception, UpstreamFailed)
    assert str(state.exception) == "double-0 was not run, because upstream 'explode-0' is Failed: ValueError: boom"
    assert isinstance(state.exception.__cause__, ValueError)


def test_a_direct_call_waits_for_futures_and_is_skipped_too(reporter):
    @flow
    def f():
        good = double(double.submit(1))
        try:
            double(explode.submit())
        except UpstreamFailed:
            return good

    assert run_flow(f, {}, reporter=reporter).value == 4
    assert sorted(report.state for report in reporter.last.values()) == [C, C, TaskState.FAILED, TaskState.SKIPPED]


def test_wait_for_orders_tasks_without_passing_values(reporter):
    order = []

    @task
    def note(name):
        order.append(name)

    @flow
    def f():
        a = note.submit("a")
        b = note.submit("b", wait_for=[a])
        note("c", wait_for=[b])
        explode.submit().wait()
        return note.submit("d", wait_for=[explode.submit()], return_state=True).type

    assert run_flow(f, {}, reporter=reporter).value is RunPhase.SKIPPED
    assert order == ["a", "b", "c"]
    assert reporter.last["note-1"].upstream == ("note-0",)


def test_the_flow_waits_for_tasks_that_nobody_asked_about(reporter):
    @task
    def late():
        time.sleep(0.02)

    @flow
    def f():
        late.submit()

    run_flow(f, {}, reporter=reporter)
    assert reporter.last["late-0"].state is C
    assert reporter.phases[-1][0] is RunPhase.COMPLETED


def test_when_the_flow_fails_what_waits_is_cancelled_and_what_runs_may_finish(reporter):
    started, gate = threading.Event(), threading.Event()

    @task
    def running():
        started.set()
        assert gate.wait(5)

    @flow
    def f():
        first = running.submit()
        double.submit(first)
        assert started.wait(5)
        threading.Timer(0.02, gate.set).start()
        raise RuntimeError("enough")

    state = run_flow(f, {}, reporter=reporter)
    assert state.message == "RuntimeError: enough"
    assert reporter.last["running-0"].state is C
    assert reporter.last["double-0"].state is TaskState.CANCELLED
    assert reporter.last["double-0"].message == "not run, because the flow failed: RuntimeError: enough"
    assert reporter.phases[-1][0] is RunPhase.FAILED


def test_a_flow_is_tried_again_and_its_tasks_keep_their_ids(reporter):
    @flow(retries=1)
    def f():
        double(1)
        if current_flow_run().attempt == 1:
            raise OSError("first")
        return double(2)

    state = run_flow(f, {}, reporter=reporter)
    assert state.value == 4
    assert [phase for phase, _ in reporter.phases] == [RunPhase.RUNNING] * 3 + [RunPhase.COMPLETED]
    assert reporter.phases[1][1] == "attempt 1 of 2 failed, next now: OSError: first"
    assert reporter.phases[2][1] == "attempt 2 of 2"
    assert sorted(reporter.last) == ["double-0", "double-1"]


def test_a_subflow_is_a_node_of_the_run(reporter):
    @flow
    def child(x):
        return double(x)

    @flow
    def f():
        double(1)
        return child(5)

    assert run_flow(f, {}, reporter=reporter).value == 10
    assert [report.id for report in reporter.tasks] == [
        "double-0",
        "double-0",
        "child-0",
        "double-1",
        "double-1",
        "child-0",
    ]
    assert reporter.last["child-0"].name == "child"
    assert [phase for phase, _ in reporter.phases] == [RunPhase.RUNNING, RunPhase.COMPLETED]


def test_async_subflows_run_side_by_side(reporter):
    @flow
    async def child(x):
        return await adouble(x)

    @flow
    async def f():
        return await asyncio.gather(child(1), child(2))

    assert run_flow(f, {}, reporter=reporter).value == [2, 4]
    assert {"child-0", "child-1", "adouble-0", "adouble-1"} == set(reporter.last)


def test_a_failing_subflow_fails_where_it_is_called(reporter):
    @flow
    def child():
        explode()

    @flow
    def f():
        try:
            child()
        except ValueError:
            return child(return_state=True).message

    assert run_flow(f, {}, reporter=reporter).value == "ValueError: boom"
    assert reporter.last["child-1"].state is TaskState.FAILED


def test_async_tasks_can_be_submitted_from_anywhere():
    @flow
    def f():
        return [future.result() for future in [adouble.submit(index) for index in range(20)]]

    @flow
    async def g():
        return adouble.submit(double.submit(3)).result()

    assert run_flow(f, {}).value == [2 * index for index in range(20)]
    assert run_flow(g, {}).value == 12


def test_a_task_may_submit_tasks():
    @task
    def outer(x):
        return double.submit(x).result() + 1

    @flow
    def f():
        return sum(future.result() for future in [outer.submit(index) for index in range(50)])

    assert run_flow(f, {}).value == sum(2 * index + 1 for index in range(50))


@pytest.mark.parametrize(
    ("returned", "phase", "message"),
    [
        (lambda: 5, RunPhase.COMPLETED, ""),
        (lambda: None, RunPhase.COMPLETED, ""),
        (lambda: Completed("fine", data=3), RunPhase.COMPLETED, "fine"),
        (lambda: Failed("no trips"), RunPhase.FAILED, "no trips"),
        (lambda: Cancelled("not today"), RunPhase.CANCELLED, "not today"),
        (lambda: double.submit(1), RunPhase.COMPLETED, ""),
        (lambda: explode.submit(), RunPhase.FAILED, "ValueError: boom"),
        (lambda: [double.submit(1), double.submit(2)], RunPhase.COMPLETED, "all states completed"),
        (lambda: [double.submit(1), explode.submit()], RunPhase.FAILED, "1/2 states failed"),
        (lambda: (double(1, return_state=True), explode(return_state=True)), RunPhase.FAILED, "1/2 states failed"),
        (lambda: [Cancelled(), Failed()], RunPhase.CANCELLED, "1/2 states cancelled"),
        (lambda: [double.submit(1), 5], RunPhase.COMPLETED, ""),
        (list, RunPhase.COMPLETED, ""),
    ],
)
def test_the_return_value_decides_the_final_state(returned, phase, message):
    @flow
    def f():
        return returned()

    state = run_flow(f, {})
    assert (state.type, state.message) == (phase, message)


def test_a_task_may_return_a_state():
    @task
    def picky():
        return Failed("said no")

    @task
    def fine():
        return Completed("ok", data=7)

    @flow
    def f():
        state = picky(return_state=True)
        return [state.type, state.message, fine()]

    assert run_flow(f, {}).value == [RunPhase.FAILED, "said no", 7]


def test_parameters_that_do_not_fit_end_the_run_before_its_first_line(reporter):
    ran = []

    @flow
    def f(n: int):
        ran.append(n)

    state = run_flow(f, {"n": "many"}, reporter=reporter)
    assert state.type is RunPhase.FAILED
    assert isinstance(state.exception, ParameterError)
    assert "parameter 'n' of flow f() must be int, but got 'many' (str)" in state.message
    assert ran == []
    assert [phase for phase, _ in reporter.phases] == [RunPhase.FAILED]


def test_sys_exit_is_a_failure_and_is_not_tried_again(reporter):
    @flow(retries=3)
    def f():
        raise SystemExit(3)

    state = run_flow(f, {}, reporter=reporter)
    assert (state.type, state.message) == (RunPhase.FAILED, "the code called sys.exit(3)")
    assert isinstance(state.exception, SystemExit)


def test_sys_exit_in_a_thread_reaches_the_flow():
    @task(retries=2)
    def leave():
        raise SystemExit(4)

    @flow
    def f():
        leave.submit().result()

    state = run_flow(f, {})
    assert isinstance(state.exception, SystemExit)
    assert state.type is RunPhase.FAILED


def test_a_broken_reporter_does_not_harm_the_flow(caplog):
    class Broken:
        def task_changed(self, report):
            raise RuntimeError("disk full")

        def flow_changed(self, phase, message):
            raise RuntimeError("disk full")

    @flow
    def f():
        return double(1)

    assert run_flow(f, {}, reporter=Broken()).value == 2
    complaints = [r.getMessage() for r in caplog.records if "reporter failed" in r.getMessage()]
    assert complaints == ["the reporter failed, reports may be missing: RuntimeError: disk full"]


def test_a_tee_tells_everybody():
    one, two = MemoryReporter(), MemoryReporter()

    @flow
    def f():
        double(1)

    run_flow(f, {}, reporter=TeeReporter(one, two))
    assert one.tasks == two.tasks != []
    assert one.phases == two.phases != []


def test_an_async_flow_inside_a_loop_says_to_await_it():
    @flow
    async def f():
        return 1

    async def main():
        with pytest.raises(RuntimeError, match="await the flow instead"):
            run_flow(f, {})
        return await f()

    assert asyncio.run(main()) == 1


def test_runs_in_many_threads_do_not_disturb_each_other():
    @flow
    def f(x):
        return double.submit(double(x)).result()

    results = {}

    def one(x):
        results[x] = run_flow(f, {"x": x}).value

    threads = [threading.Thread(target=one, args=(x,)) for x in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {x: 4 * x for x in range(20)}


def test_a_failed_async_flow_waits_for_its_tasks_without_holding_up_the_loop():
    begun, gate, went_on = threading.Event(), threading.Event(), []

    @task
    def held():
        begun.set()
        went_on.append(gate.wait(3))

    @flow
    async def failing():
        held.submit()
        await asyncio.to_thread(begun.wait, 5)
        raise ValueError

    @flow
    async def other():
        await asyncio.sleep(0.05)
        gate.set()
        return 1

    async def both():
        return await asyncio.gather(failing(), other(), return_exceptions=True)

    error, value = asyncio.run(both())
    assert isinstance(error, ValueError)
    assert (value, went_on) == (1, [True])


def test_futures_in_a_named_tuple_are_returned_as_states():
    class Pair(NamedTuple):
        left: object
        right: object

    @flow
    def f():
        return Pair(double.submit(2), 1)

    pair = f()
    assert (pair.left.result(), pair.right) == (4, 1)
