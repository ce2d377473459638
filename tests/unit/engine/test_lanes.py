"""Where submitted tasks run: one after the other, in so many threads, or where a runner of one's own says."""

import asyncio
import threading

import pytest

from levada import as_completed, flow, task
from levada.engine.lanes import Lane
from levada.engine.run import run_flow
from levada.exceptions import UpstreamFailed
from levada.resources.phases import RunPhase
from levada.task_runners import SequentialTaskRunner, TaskRunner, ThreadPoolTaskRunner


@task
def thread(*_):
    return threading.get_ident()


@task
async def athread(*_):
    await asyncio.sleep(0)
    return threading.get_ident()


def test_sequential_runs_in_the_callers_thread():
    @flow(task_runner=SequentialTaskRunner)
    def f():
        future = thread.submit()
        assert future.done()
        return {future.result(), thread.submit(future).result(), athread.submit(future).result()}

    assert f() == {threading.get_ident()}


def test_sequential_async_tasks_under_a_running_loop_are_carried_by_a_thread():
    @flow(task_runner=SequentialTaskRunner())
    async def f():
        future = athread.submit()
        assert future.done()
        return future.result()

    assert asyncio.run(f()) != threading.get_ident()


def test_sequential_errors_stay_in_the_future_and_interrupts_do_not():
    @task
    def bad(error):
        raise error

    @flow(task_runner=SequentialTaskRunner())
    def f():
        first = bad.submit(ValueError("v"))
        assert first.state.is_failed()
        with pytest.raises(UpstreamFailed):
            thread.submit(first).result()
        bad.submit(KeyboardInterrupt())
        pytest.fail("an interrupt is for everybody")

    assert run_flow(f, {}).type is RunPhase.CANCELLED


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_are_bounded(workers):
    running, most, lock = set(), [], threading.Lock()

    @task
    def busy(i):
        with lock:
            running.add(i)
            most.append(len(running))
        threading.Event().wait(0.01)
        with lock:
            running.discard(i)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=workers))
    def f():
        busy.map(list(range(8))).wait()

    f()
    assert max(most) == workers


def test_a_bounded_pool_does_not_wait_for_itself():
    @task
    def inner():
        return 1

    @task
    def outer():
        return inner.submit().result()

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def f():
        return outer.submit().result()

    assert f() == 1


class Elsewhere(TaskRunner):
    """Notes the calls, and makes them itself."""

    name = "elsewhere"
    max_workers = 2

    def __init__(self):
        self.calls, self.ends = [], []

    def open(self):
        return self

    def call(self, call):
        self.calls.append((call.run_id, call.task_name, call.attempt, call.args, sorted(call.tags)))
        return call.fn(*call.args, **call.kwargs)

    def close(self, *, cancel):
        self.ends.append(cancel)


def test_a_runner_makes_the_calls_of_submitted_tasks():
    runner = Elsewhere()

    @task(tags=["gpu"], retries=1)
    def add(x, y=1):
        if len(runner.calls) == 1:
            raise OSError
        return x + y

    @flow(task_runner=runner)
    def f():
        return add.submit(add.submit(1)).result()

    assert f() == 3
    assert runner.calls == [
        ("add-0", "add", 1, (1,), ["gpu"]),
        ("add-0", "add", 2, (1,), ["gpu"]),
        ("add-1", "add", 1, (2,), ["gpu"]),
    ]
    assert runner.ends == [False]


@pytest.mark.parametrize(("error", "cancel"), [(ValueError(), False), (KeyboardInterrupt(), True)])
def test_workers_are_let_go_when_the_flow_fails(error, cancel):
    runner = Elsewhere()

    @flow(task_runner=runner)
    def f():
        thread.submit().wait()
        raise error

    run_flow(f, {})
    assert runner.ends == [cancel]


def test_a_flow_without_submitted_tasks_opens_nothing():
    runner = Elsewhere()

    @flow(task_runner=runner)
    def f():
        return thread()

    assert f() == threading.get_ident()
    assert runner.ends == []


@task
async def passed_on(x):
    return x


@task
def first_to_end():
    return [future.result() for future in as_completed([thread.submit() for _ in range(3)])]


@task
async def awaited():
    return await asyncio.gather(*[passed_on(thread.submit()) for _ in range(3)])


@pytest.mark.parametrize("waits", [first_to_end, awaited])
def test_a_pool_of_one_thread_does_not_wait_for_itself(waits):
    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def f():
        return waits.submit().result(timeout=5)

    assert len(f()) == 3


def test_a_deadline_ends_a_wait_for_whatever_ends_first():
    gate = threading.Event()

    @task
    def held():
        gate.wait(5)

    @flow(timeout_seconds=0.1)
    def f():
        list(as_completed([held.submit()]))

    states = []
    carrier = threading.Thread(target=lambda: states.append(f(return_state=True)))  # no signal reaches it there
    carrier.start()
    carrier.join(4)
    gate.set()
    assert states[0].type is RunPhase.TIMED_OUT


def test_an_inline_task_waits_for_what_others_run():
    gate = threading.Event()

    @task
    def held():
        assert gate.wait(5)
        return 1

    @flow(task_runner=SequentialTaskRunner())
    async def inner(futures):
        threading.Timer(0.05, gate.set).start()
        return passed_on.submit(futures.pop()).result()

    @flow
    async def outer():
        return await inner.with_options(validate_parameters=False)(Box(held.submit()))

    assert asyncio.run(outer()) == 1


class Box:
    def __init__(self, content):
        self.content = content

    def pop(self):
        return self.content


def test_the_first_tasks_of_several_threads_share_one_pool():
    lane = Lane(ThreadPoolTaskRunner(max_workers=2))
    barrier, pools = threading.Barrier(4), set()

    def look():
        barrier.wait()
        pools.add(lane.pool)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(pools) == 1
    lane.close(cancel=False)
