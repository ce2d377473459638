"""The next attempt of a run: what has been done and stored is not done again, and no two calls are taken for each other."""

import asyncio
import datetime as dt
import threading
import time
from collections import Counter

import pytest

from levada import allow_failure, flow, task
from levada.caching import DEFAULT, INPUTS, NO_CACHE
from levada.engine.reporter import MemoryReporter
from levada.engine.resuming import Resume
from levada.engine.run import run_flow
from levada.resources.phases import RunPhase, TaskState
from levada.storage.memory import MemoryStorage

ANY = [
    ("default", {}),
    ("never cached", {"cache_policy": NO_CACHE}),
    ("by inputs", {"cache_policy": INPUTS}),
    ("always anew", {"cache_policy": INPUTS, "refresh_cache": True}),
    ("expired", {"cache_expiration": dt.timedelta(microseconds=1)}),
    ("a key that differs each time", {"cache_key_fn": lambda context, parameters: f"{time.monotonic_ns()}"}),
    ("no key", {"cache_key_fn": lambda context, parameters: None}),
    ("a place in storage", {"result_storage_key": "at/{parameters[x]}"}),
    ("kept in storage only", {"cache_result_in_memory": False}),
]


class Bench:
    """A storage, bodies that note that they ran, and attempts of one run."""

    def __init__(self):
        self.storage = MemoryStorage()
        self.ran = Counter()
        self.lock = threading.Lock()
        self.attempt_number = 0

    def note(self, what):
        with self.lock:
            self.ran[what] += 1

    def attempt(self, f, parameters=None, *, key="r-1", goes_on=None):
        self.attempt_number += 1
        reporter = MemoryReporter()
        resume = Resume(key, self.attempt_number > 1 if goes_on is None else goes_on)
        state = run_flow(f, parameters or {}, reporter=reporter, run_name="r", resume=resume)
        return state, reporter.last


@pytest.fixture
def bench():
    return Bench()


@pytest.mark.parametrize(("case", "options"), ANY, ids=[row[0] for row in ANY])
def test_a_task_that_is_done_is_not_done_again_whatever_its_cache_policy(case, options, bench):
    @task(persist_result=True, result_storage=bench.storage, **options)
    def square(x):
        bench.note(x)
        return x * x

    @flow
    def f():
        found = [square(n) for n in range(3)]
        if bench.attempt_number == 1:
            raise RuntimeError("the pod is lost")
        return [*found, square(3)]

    first, _ = bench.attempt(f)
    second, reports = bench.attempt(f)
    assert (first.type, second.type) == (RunPhase.FAILED, RunPhase.COMPLETED)
    assert second.value == [0, 1, 4, 9]
    assert bench.ran == dict.fromkeys(range(4), 1)
    assert [reports[f"square-{n}"].cached for n in range(4)] == [True, True, True, False]
    assert all(report.persisted for report in reports.values())


@pytest.mark.parametrize("goes_on", [True, False])
def test_only_a_later_attempt_looks_for_what_is_done(goes_on, bench):
    @task(persist_result=True, result_storage=bench.storage, cache_policy=NO_CACHE)
    def work():
        bench.note("work")

    @flow
    def f():
        work()

    bench.attempt(f)
    bench.attempt(f, goes_on=goes_on)
    assert bench.ran["work"] == (1 if goes_on else 2)


def test_another_run_finds_nothing(bench):
    @task(persist_result=True, result_storage=bench.storage)
    def work():
        bench.note("work")

    @flow
    def f():
        work()

    bench.attempt(f, key="r-1")
    bench.attempt(f, key="r-2", goes_on=True)
    assert bench.ran["work"] == 2


def test_calls_that_are_alike_keep_their_order(bench):
    """The third roll is the third roll, also when there were only two before the pod was lost."""

    @task(persist_result=True, result_storage=bench.storage, cache_policy=NO_CACHE)
    def roll():
        bench.note("roll")
        return bench.ran["roll"]

    @flow
    def f():
        found = [roll() for _ in range(2 if bench.attempt_number == 1 else 4)]
        if bench.attempt_number == 1:
            raise RuntimeError
        return found

    bench.attempt(f)
    assert bench.attempt(f)[0].value == [1, 2, 3, 4]


def test_submitted_calls_that_are_alike_are_numbered_as_the_flow_made_them(bench):
    gate = threading.Event()

    @task(persist_result=True, result_storage=bench.storage, cache_policy=NO_CACHE)
    def roll():
        with bench.lock:
            bench.ran["roll"] += 1
            mine = bench.ran["roll"]
        if mine == 1:
            gate.wait(10)  # whoever comes first ends last
        else:
            gate.set()
        return mine

    @flow
    def f():
        futures = [roll.submit() for _ in range(6)]
        return [future.result() for future in futures]

    first, _ = bench.attempt(f)
    again = {tuple(bench.attempt(f)[0].value) for _ in range(5)}
    assert again == {tuple(first.value)}
    assert bench.ran["roll"] == 6


def test_other_arguments_make_another_call(bench):
    @task(persist_result=True, result_storage=bench.storage)
    def square(x):
        bench.note(x)
        return x * x

    @flow
    def f(items: list):
        return square.map(items).result()

    assert bench.attempt(f, {"items": [1, 2, 3]})[0].value == [1, 4, 9]
    assert bench.attempt(f, {"items": [2, 3, 4]})[0].value == [4, 9, 16], "shifted places, and the same values"
    assert bench.ran == {1: 1, 2: 1, 3: 1, 4: 1}


def test_what_comes_of_a_changed_result_is_done_again(bench):
    @task
    def source():
        return bench.attempt_number

    @task(persist_result=True, result_storage=bench.storage, cache_policy=NO_CACHE)
    def double(x):
        bench.note(x)
        return 2 * x

    @flow
    def f():
        return double.submit(source.submit()).result()

    assert bench.attempt(f)[0].value == 2
    assert bench.attempt(f)[0].value == 4
    assert bench.ran == {1: 1, 2: 1}


def test_changed_code_is_run_again(bench):
    def of(factor):
        @task(name="scale", persist_result=True, result_storage=bench.storage, cache_policy=NO_CACHE)
        def scale(x):
            bench.note(factor)
            return factor * x

        @flow
        def f():
            return scale(1)

        return f

    assert [bench.attempt(of(factor))[0].value for factor in (2, 3, 3)] == [2, 3, 3]
    assert bench.ran == {2: 1, 3: 1}


def test_arguments_that_cannot_be_hashed_are_never_taken_for_one_another(bench, caplog):
    class Session:
        def __reduce__(self):
            raise TypeError("a session cannot be pickled")

    @task(persist_result=True, result_storage=bench.storage, cache_policy=NO_CACHE)
    def fetch(session):
        bench.note("fetch")
        return bench.ran["fetch"]

    @flow
    def f():
        return [fetch(Session()), fetch(Session())]

    assert bench.attempt(f)[0].value == [1, 2]
    state, reports = bench.attempt(f)
    assert state.value == [3, 4]
    assert not any(report.persisted for report in reports.values())
    assert "a later attempt of this run would run it again" in caplog.text


def test_a_value_that_another_call_wrote_over_is_not_used(bench):
    @task(persist_result=True, result_storage=bench.storage, result_storage_key="latest")
    def latest(x):
        bench.note(x)
        return x

    latest = latest.with_options(refresh_cache=True)

    @flow
    def f():
        return [latest(1), latest(2)]

    assert bench.attempt(f)[0].value == [1, 2]
    assert bench.attempt(f)[0].value == [1, 2], "the record of the second call is no answer to the first"
    assert bench.ran[1] == 2


def test_a_chain_of_coroutines_is_recognised_whoever_was_faster(bench):
    @task(persist_result=True, result_storage=bench.storage, cache_policy=NO_CACHE)
    async def step(name, n):
        bench.note((name, n))
        # The order of the second attempt is the reverse of the first's.
        await asyncio.sleep(0.002 * (n if bench.attempt_number == 1 else 5 - n))
        return f"{name}{n}"

    @flow
    async def f():
        async def chain(n):
            return await step(await step("a", n), n)

        found = await asyncio.gather(*(chain(n) for n in range(5)))
        if bench.attempt_number < 3:
            raise RuntimeError
        return found

    for _ in range(3):
        state, _ = bench.attempt(f)
    assert state.value == [f"a{n}{n}" for n in range(5)]
    assert set(bench.ran.values()) == {1}
    assert len(bench.ran) == 10


def test_tasks_of_subflows_and_tasks_inside_tasks_go_on_too(bench):
    @task(persist_result=True, result_storage=bench.storage, cache_policy=NO_CACHE)
    def inner(n):
        bench.note(("inner", n))
        return n

    @task(persist_result=True, result_storage=bench.storage, cache_policy=NO_CACHE)
    def outer(n):
        bench.note(("outer", n))
        return inner(n)

    @flow
    def part(n: int):
        return outer(n)

    @flow
    def f():
        found = [part(n) for n in range(3)]
        if bench.attempt_number == 1:
            raise RuntimeError
        return found

    bench.attempt(f)
    assert bench.attempt(f)[0].value == [0, 1, 2]
    assert set(bench.ran.values()) == {1}


def test_a_flow_that_is_tried_again_in_its_process_goes_on_as_well(bench):
    tries = []

    @task(persist_result=True, result_storage=bench.storage, cache_policy=NO_CACHE)
    def work(n):
        bench.note(n)
        return n

    @flow(retries=2)
    def f():
        tries.append(1)
        found = [work(n) for n in range(len(tries))]
        if len(tries) < 3:
            raise RuntimeError
        return found

    assert bench.attempt(f)[0].value == [0, 1, 2]
    assert bench.ran == {0: 1, 1: 1, 2: 1}


def test_failures_are_not_remembered(bench):
    @task(persist_result=True, result_storage=bench.storage)
    def shaky(n):
        bench.note(n)
        if n == 1 and bench.attempt_number == 1:
            raise ValueError("not yet")
        return n

    @flow
    def f():
        futures = shaky.map([0, 1, 2])
        return [allow_failure(future) for future in futures] and futures.result()

    first, _ = bench.attempt(f)
    second, reports = bench.attempt(f)
    assert (first.type, second.value) == (RunPhase.FAILED, [0, 1, 2])
    assert bench.ran == {0: 1, 1: 2, 2: 1}
    assert {report.state for report in reports.values()} == {TaskState.COMPLETED}


def test_what_is_not_kept_is_run_again_and_says_so(bench, tmp_path, monkeypatch):
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path))
    monkeypatch.delenv("LEVADA_STORAGE", raising=False)

    @task(persist_result=False)
    def never():
        bench.note("never")

    @task(persist_result=True)
    def in_the_pod():
        bench.note("in the pod")

    @flow
    def f():
        never()
        in_the_pod()

    _, reports = bench.attempt(f)
    assert not any(report.persisted for report in reports.values()), "the default folder goes with the pod"
    monkeypatch.setenv("LEVADA_STORAGE", f"file://{tmp_path.parent / 'kept'}")
    _, reports = bench.attempt(f)
    assert [reports[name].persisted for name in ("never-0", "in-the-pod-0")] == [False, True]
    assert bench.ran["never"] == 2


def test_the_default_policy_needs_no_second_record(bench):
    """Most tasks have the default policy: one write each."""

    @task(persist_result=True, result_storage=bench.storage, cache_policy=DEFAULT)
    def square(x):
        return x * x

    @flow
    def f():
        square(2)

    bench.attempt(f)
    assert len(list(bench.storage.list(""))) == 1
