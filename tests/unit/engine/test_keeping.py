"""Results that outlive their run: what is found again, what is kept, and what is said when that does not work."""

import asyncio
import datetime as dt
from dataclasses import dataclass
from functools import partial

import pytest

from levada import current_flow_run, flow, tags, task, transaction
from levada.caching import DEFAULT, INPUTS, NO_CACHE, RUN_ID
from levada.engine import clock
from levada.engine.reporter import MemoryReporter
from levada.engine.run import run_flow
from levada.exceptions import CacheKeyError, ResultMissing, SerializationError, StorageError
from levada.resources.phases import RunPhase, TaskState
from levada.results import ResultStore
from levada.serializers import JSONSerializer, PickleSerializer
from levada.storage.memory import MemoryStorage


class Broken(MemoryStorage):
    """A storage that is away."""

    def read(self, key):
        raise StorageError("s3://gone cannot be reached: check endpoint_url")

    def write(self, key, data):
        raise StorageError("s3://gone cannot be reached: check endpoint_url")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def storage():
    return MemoryStorage()


def counted(storage, **options):
    """A task that counts its calls, and the counter."""
    calls = []

    @task(result_storage=storage, **options)
    def square(x, note=""):
        calls.append(x)
        return x * x

    return square, lambda: len(calls)


def test_the_same_inputs_run_once(storage):
    square, count = counted(storage, cache_policy=INPUTS)
    reporter = MemoryReporter()

    @flow
    def f():
        return [square(2), square(2), square.submit(2).result(), square(3)]

    assert run_flow(f, {}, reporter=reporter).value == [4, 4, 4, 9]
    assert f() == [4, 4, 4, 9]
    assert count() == 2
    cached = {report.id for report in reporter.last.values() if report.cached}
    assert cached == {"square-1", "square-2"}
    assert reporter.last["square-1"].attempt == 0


def test_a_cached_state_says_so(storage):
    square, _ = counted(storage, cache_policy=INPUTS)
    square(2)
    state = square(2, return_state=True)
    assert (state.type, state.name, state.is_cached(), state.result()) == (RunPhase.COMPLETED, "Cached", True, 4)


@pytest.mark.parametrize(
    ("case", "options", "calls"),
    [
        ("nothing is kept without a word", {}, 4),
        ("by inputs, in every run", {"cache_policy": INPUTS}, 1),
        ("without a note that does not matter", {"cache_policy": INPUTS - "note"}, 1),
        ("the default policy counts for one run", {"cache_policy": DEFAULT}, 2),
        ("kept results go by the default policy", {"persist_result": True}, 2),
        ("once a run", {"cache_policy": RUN_ID}, 2),
        ("never", {"cache_policy": NO_CACHE, "persist_result": True}, 4),
        ("a key of one's own", {"cache_key_fn": lambda context, **params: f"square-{params['x']}"}, 1),
        ("a key for some", {"cache_key_fn": lambda context, params: None}, 4),
        ("a storage key", {"result_storage_key": "squares/{parameters[x]}"}, 1),
        ("a storage key of the run", {"result_storage_key": "{flow_run.name}/{x}"}, 2),
        ("always anew", {"cache_policy": INPUTS, "refresh_cache": True}, 4),
    ],
)
def test_what_counts_as_the_same(case, options, calls, storage):
    square, count = counted(storage, **options)

    @flow
    def f():
        square(3)
        square(3)

    f()
    f()
    assert count() == calls, case


def test_persist_result_false_keeps_nothing_and_warns():
    with pytest.warns(UserWarning, match="persist_result=False keeps no results, so cache_policy"):
        square, count = counted(None, persist_result=False, cache_policy=INPUTS)
    square(2)
    square(2)
    assert count() == 2


def test_results_expire(storage):
    class Later:
        def __init__(self):
            self.time = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

        def now(self):
            return self.time

        def monotonic(self):
            return self.time.timestamp()

        def skips(self, seconds):
            self.time += dt.timedelta(seconds=seconds)
            return True

    square, count = counted(storage, cache_policy=INPUTS, cache_expiration=dt.timedelta(hours=1))
    later = Later()
    with clock.use(later):
        square(2)
        later.time += dt.timedelta(minutes=59)
        square(2)
        assert count() == 1
        later.time += dt.timedelta(minutes=2)
        square(2)
    assert count() == 2


def test_async_tasks(storage):
    calls = []

    @task(cache_policy=INPUTS, result_storage=storage)
    async def square(x):
        calls.append(x)
        return x * x

    @flow
    async def f():
        return [await square(2), await square(2), square.submit(2).result()]

    assert asyncio.run(f()) == [4, 4, 4]
    assert calls == [2]


def test_flows_hand_their_settings_down(storage):
    @task
    def inner():
        return {"a": 1}

    @flow
    def below():
        return inner()

    @flow(persist_result=True, result_storage=storage, result_serializer="json")
    def f():
        inner()
        below()
        return 7

    run_flow(f, {}, run_name="f-1")
    kept = [data for key in storage.list("") if (data := storage.read(key))]
    assert len(kept) == 3  # two task runs and the flow's own
    assert all(b'"serializer":"json"' in data for data in kept)
    assert ResultStore(storage, JSONSerializer()).load("runs/f-1/result").value == 7


def test_the_environment_can_ask_for_it(monkeypatch, home):
    monkeypatch.setenv("LEVADA_PERSIST_RESULTS", "true")

    @task
    def one():
        return 1

    @flow
    def f():
        return one()

    f()
    one()
    assert len(list((home / "results" / "results").iterdir())) == 2


def test_a_value_that_the_serializer_cannot_write_fails_the_task():
    @task(persist_result=True, result_serializer=JSONSerializer(), result_storage=MemoryStorage(), retries=3)
    def table():
        return {"frame": object()}

    state = table(return_state=True)
    assert state.is_failed()
    assert isinstance(state.result(raise_on_failure=False), SerializationError)
    assert "frame" in state.message


def test_a_storage_that_is_away():
    ran = []

    @task(persist_result=True, result_storage=Broken())
    def asked():
        ran.append("asked")

    @task(cache_policy=INPUTS, result_storage=Broken())
    def hoped():
        ran.append("hoped")
        return 5

    state = asked(return_state=True)
    assert state.is_failed()
    assert "s3://gone cannot be reached" in state.message
    assert ran == []  # said before the code runs
    assert hoped() == 5


def test_a_storage_that_goes_away_meanwhile(storage, caplog):
    class Leaving(MemoryStorage):
        def write(self, key, data):
            raise StorageError("it is full")

    @task(cache_policy=INPUTS, result_storage=Leaving())
    def hoped():
        return 5

    @flow(persist_result=True, result_storage=Leaving())
    def f():
        return 5

    with caplog.at_level("WARNING", "levada"):
        assert hoped() == 5
    assert "the result is not kept: StorageError: it is full" in caplog.text
    assert f(return_state=True).is_failed()


@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (lambda context, params: 5, "returned 5 (int); a cache key is a text"),
        (lambda context, params: params["url"], "raised KeyError: 'url'"),
    ],
)
def test_a_bad_cache_key_fails_the_run(fn, said):
    @task(cache_key_fn=fn, retries=2)
    def t(): ...

    state = t(return_state=True)
    assert isinstance(state.result(raise_on_failure=False), CacheKeyError)
    assert said in state.message


def test_inputs_that_cannot_be_hashed(storage, caplog):
    import threading

    @task(cache_policy=INPUTS, result_storage=storage)
    def explicit(lock): ...

    @task(persist_result=True, result_storage=storage, result_serializer=PickleSerializer())
    def implied(lock):
        return 3

    with pytest.raises(CacheKeyError, match="parameter 'lock'"):
        explicit(threading.Lock())
    with caplog.at_level("WARNING", "levada"):
        assert implied(threading.Lock()) == 3
    assert "no cache key, so this run is not recalled later" in caplog.text


def test_values_that_are_not_kept_in_memory(storage):
    @task(persist_result=True, result_storage=storage, cache_result_in_memory=False)
    def big(n):
        return list(range(n))

    @flow
    def f():
        future = big.submit(3)
        assert sum(big.submit(2).result()) == 1
        return total(future), future.state.result(), future.result(), big(1)

    @task
    def total(values):
        return sum(values)

    assert f() == (3, [0, 1, 2], [0, 1, 2], [0])
    state = big(4, return_state=True)
    for key in storage.list(""):
        storage.delete(key)
    with pytest.raises(ResultMissing, match="is not in memory of this process any more"):
        state.result()


def test_a_retried_flow_does_not_run_again_what_is_kept(storage):
    ran = []

    @task(persist_result=True, result_storage=storage)
    def step(n):
        ran.append(n)
        return n

    @flow(retries=1)
    def f():
        total = step(1) + step(2)
        if len(ran) == 2:
            ran.append("failed")
            raise OSError
        return total

    reporter = MemoryReporter()
    assert run_flow(f, {}, reporter=reporter).value == 3
    assert ran == [1, 2, "failed"]
    assert [report.cached for report in reporter.last.values()] == [True, True]


def test_names_from_templates(storage, caplog):
    @task(task_run_name="load {month:%Y-%m}")
    def load(month):
        return month

    @task(task_run_name=lambda: "always")
    def always(): ...

    @task(task_run_name="{month.wrong}")
    def wrong(month): ...

    @flow(flow_run_name="etl of {day}")
    def etl(day: int):
        load(dt.date(2019, 1, 5))
        always()
        return wrong(dt.date(2019, 1, 5), return_state=True)

    reporter = MemoryReporter()
    with caplog.at_level("INFO", "levada"):
        state = run_flow(etl, {"day": 3}, reporter=reporter, run_name="etl-x")
    assert [report.name for report in reporter.last.values()] == ["load 2019-01", "always", "wrong"]
    assert "cannot be filled in" in state.message
    assert {record.levada_run for record in caplog.records} >= {"etl of 3", "load 2019-01", "always"}

    @flow(flow_run_name=lambda: 3)
    def bad(): ...

    assert "became 3; it must become a text" in bad(return_state=True).message


def test_tags_around_runs():
    seen = []

    @task(tags=["own"], on_completion=[lambda task, run, state: seen.append(run.tags)])
    def t(): ...

    @flow
    def f():
        t()
        with tags("inner"):
            t()
            t.submit()

    with tags("outer"):
        f()
    assert seen == [{"own", "outer"}, {"own", "outer", "inner"}, {"own", "outer", "inner"}]


def test_results_of_a_transaction_are_kept_at_its_end(storage):
    undone = []

    @task(
        persist_result=True,
        result_storage=storage,
        result_storage_key="{x}",
        on_rollback=[lambda txn: undone.append(txn.value)],
    )
    def step(x):
        return x

    @flow
    def good():
        with transaction():
            step("a")
            assert storage.list("") == []

    @flow
    def bad():
        with transaction():
            step("b")
            raise OSError

    good()
    assert len(storage.list("")) == 1
    assert bad(return_state=True).is_failed()
    assert len(storage.list("")) == 1
    assert undone == ["b"]


def test_a_task_that_commits_alone():
    committed = []

    @task
    def t():
        return 1

    @t.on_commit
    def note(txn):
        committed.append(txn.value)

    @t.on_rollback
    def undo(txn):
        committed.append("undone")

    t()
    t.with_options(name="other").submit().wait()
    t.with_options(on_commit=[], on_rollback=[])()
    assert committed == [1, 1]


def test_only_a_state_that_completed_is_kept(storage):
    from levada import states

    @task(persist_result=True, result_storage=storage, result_storage_key="k")
    def t(word):
        return getattr(states, word)(data=5)

    assert t("Failed", return_state=True).is_failed()
    assert storage.list("") == []
    assert t("Completed") == 5
    assert len(storage.list("")) == 1


def test_task_states_of_the_report(storage):
    square, _ = counted(storage, cache_policy=INPUTS)
    reporter = MemoryReporter()

    @flow
    def f():
        square.submit(1).wait()
        square.submit(1).wait()

    run_flow(f, {}, reporter=reporter)
    assert [report.state for report in reporter.tasks if report.id == "square-1"] == [
        TaskState.PENDING,
        TaskState.COMPLETED,
    ]


class Adder:
    def __init__(self, n):
        self.n = n

    def __call__(self, x):
        return self.n + x

    @task(cache_policy=INPUTS, task_run_name="add {self.n}")
    def add(self, x):
        return self.n + x


@dataclass
class Times:  # equal by content, so it has no hash
    n: int

    def __call__(self, x):
        return self.n * x


def _first(bound, x):
    return ("first", bound, x)


def _second(bound, x):
    return ("second", bound, x)


def _closure(n):
    def add(x):
        return n + x

    return add


def test_the_object_of_a_method_is_an_input():
    assert (Adder(1).add(1), Adder(2).add(1), Adder(1).add.fn(5)) == (2, 3, 6)
    assert Adder(1).add(1, return_state=True).is_cached()


@pytest.mark.parametrize(
    "functions",
    [
        (partial(_first, 1), partial(_second, 1), partial(_first, 2)),
        (Adder(1), Adder(2)),
        (Times(1), Times(2)),
        (_closure(1), _closure(2)),
    ],
)
def test_what_is_bound_to_a_function_tells_it_from_others(functions):
    @flow(persist_result=True)
    def f():
        return [task(fn)(x=1) for fn in functions]

    assert f() == [fn(x=1) for fn in functions]


def test_a_subflow_of_another_run_recalls_nothing():
    calls = []

    @task
    def count(x):
        calls.append(x)

    @flow
    def inner():
        return count(1)

    @flow(persist_result=True)
    def outer():
        inner()

    outer()
    outer()
    assert calls == [1, 1]


def test_no_extra_arguments_are_arguments_too():
    @task(cache_policy=INPUTS - "extra")
    def f(x, **extra):
        return (x, extra)

    assert f(1) == (1, {})
    assert f(1, y=2) == (1, {})


def test_a_function_that_makes_a_name_may_take_the_parameters():
    def named(parameters):
        return f"load {parameters['month']}"

    reporter = MemoryReporter()

    @task(task_run_name=named)
    def load(month): ...

    @flow(flow_run_name=named)
    def f(month):
        load(month)
        return current_flow_run().name

    assert run_flow(f, {"month": "May"}, reporter=reporter).value == "load May"
    assert reporter.last["load-0"].name == "load May"
