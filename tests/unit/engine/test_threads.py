import threading
import time

import pytest

from levada.engine.threads import ThreadPool, current_worker


@pytest.fixture
def make_pool():
    pools = []

    def make(*args, **kwargs):
        pools.append(ThreadPool(*args, **kwargs))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def eventually(check, seconds=5.0):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.002)


def test_jobs_that_wait_all_run_at_once(make_pool):
    pool = make_pool()
    barrier = threading.Barrier(60)
    for _ in range(60):
        pool.put(lambda: barrier.wait(10))
    eventually(lambda: barrier.broken or pool._taken == 60)
    assert not barrier.broken


def test_thousands_of_tiny_jobs_need_few_threads(make_pool):
    pool = make_pool()
    done = []
    for index in range(5000):
        pool.put(lambda index=index: done.append(index))
    eventually(lambda: len(done) == 5000)
    assert pool._threads < 200


def test_the_limit_holds(make_pool):
    pool = make_pool(3)
    running, most, lock = 0, 0, threading.Lock()

    def job():
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1

    for _ in range(60):
        pool.put(job)
    eventually(lambda: pool._taken == 60 and pool._idle == pool._threads)
    assert most == 3


def test_a_pool_of_one_does_not_wait_for_itself(make_pool):
    pool = make_pool(1)
    inner_done, outer_done = threading.Event(), threading.Event()

    def outer():
        pool.put(inner_done.set)
        with current_worker().pool.uncounted():
            assert inner_done.wait(5)
        outer_done.set()

    pool.put(outer)
    assert outer_done.wait(5)


def test_an_abandoned_worker_is_replaced_until_it_returns(make_pool):
    pool = make_pool(1)
    gate, started, second = threading.Event(), threading.Event(), threading.Event()

    def stuck():
        current_worker().abandon()
        started.set()
        gate.wait(5)

    pool.put(stuck)
    assert started.wait(5)
    pool.put(second.set)
    assert second.wait(5)
    gate.set()
    eventually(lambda: pool._uncounted == 0)


def test_idle_threads_end_and_come_back(make_pool):
    pool = make_pool(idle_seconds=0.01)
    for _ in range(3):
        ran = threading.Event()
        pool.put(ran.set)
        assert ran.wait(5)
        eventually(lambda: pool._threads == 0)


def test_no_job_is_left_behind_when_threads_end_all_the_time(make_pool):
    pool = make_pool(4, idle_seconds=0.0005)
    done = []
    for index in range(300):
        pool.put(lambda index=index: done.append(index))
        if index % 3 == 0:
            time.sleep(0.0006)
    eventually(lambda: len(done) == 300)


def test_outside_of_a_pool_there_is_no_worker():
    assert current_worker() is None
