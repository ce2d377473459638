import pickle
import threading

import pytest

from levada import as_completed, flow, task, wait
from levada.exceptions import RunCancelled
from levada.resources.phases import RunPhase


@pytest.fixture
def gate():
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def held(gate):
    @task(name="held")
    def task_fn(x=1):
        assert gate.wait(5)
        return x

    return task_fn


@task
def explode():
    raise ValueError("boom")


def test_a_future_tells_its_task_and_state(gate, held):
    future = held.submit()
    assert future.name == "held"
    assert future.run_id == future.task_run_id
    assert future.run_id.startswith("held-")
    assert not future.done()
    assert not future.state.is_final()
    gate.set()
    assert future.result() == 1
    assert future.done()
    assert future.state.type is RunPhase.COMPLETED
    assert repr(future) == f"<Future of {future.run_id}: Completed>"


def test_result_may_wait_only_so_long(gate, held):
    future = held.submit()
    with pytest.raises(TimeoutError, match=r"held-\d+ is not done after 0.01 s; it is "):
        future.result(timeout=0.01)
    waiters = len(future._run._waiters)
    future.wait(0.001)
    assert len(future._run._waiters) == waiters, "who has given up is forgotten"


def test_result_raises_or_returns_the_error():
    future = explode.submit()
    with pytest.raises(ValueError, match="boom"):
        future.result()
    assert isinstance(future.result(raise_on_failure=False), ValueError)
    future.wait()


def test_wait_tells_the_done_from_the_rest(gate, held):
    slow, quick = held.submit(), explode.submit()
    quick.wait()
    done, not_done = wait([slow, quick], timeout=0.01)
    assert (done, not_done) == ({quick}, {slow})
    gate.set()
    assert wait([slow, quick]).not_done == set()


def test_as_completed_gives_the_first_first(gate, held):
    slow, quick = held.submit(), explode.submit()
    results = as_completed([slow, quick, quick])
    assert next(results) is quick
    gate.set()
    assert list(results) == [slow]
    gate.clear()
    late = as_completed([held.submit()], timeout=0.01)
    with pytest.raises(TimeoutError, match="1 of 1 task runs are not done"):
        next(late)


def test_a_list_of_futures_waits_for_all(gate, held):
    futures = held.map([1, 2, 3])
    with pytest.raises(TimeoutError, match="3 of 3 task runs are not done"):
        futures.result(timeout=0.01)
    gate.set()
    futures.wait()
    assert futures.result() == [1, 2, 3]


def test_many_may_wait_for_one(gate, held):
    future, seen = held.submit(7), []
    threads = [threading.Thread(target=lambda: seen.append(future.result())) for _ in range(8)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(5)
    assert seen == [7] * 8


def test_the_result_of_a_cancelled_task_says_so(gate, held):
    kept = []

    @flow
    def f():
        kept.extend([held.submit(), held.with_options(name="waits").submit(held.submit())])
        threading.Timer(0.01, gate.set).start()
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError):
        f()
    with pytest.raises(RunCancelled, match=r"task run waits-0 is Cancelled: not run, because the flow failed"):
        kept[1].result()


def test_a_future_is_not_pickled():
    @task
    def t(): ...

    with pytest.raises(TypeError, match=r"future of t-\d+ cannot be pickled"):
        pickle.dumps(t.submit())
