"""Whole flows whose tasks run in workers."""

import asyncio
import importlib.util
import logging
import os
import signal
import sys
import threading
import time

import pytest

from levada import current_flow_run, current_task_run, flow, get_run_logger, runtime, task
from levada.engine.reporter import MemoryReporter
from levada.engine.run import run_flow
from levada.exceptions import RunTimedOut, SerializationError, UpstreamFailed, WorkerCrashed
from levada.resources.phases import RunPhase, TaskState
from levada.task_runners import DaskTaskRunner, ProcessPoolTaskRunner

pytest.importorskip("distributed")


@pytest.fixture(params=["processes", "dask"])
def runner(request):
    if request.param == "processes":
        return ProcessPoolTaskRunner(max_workers=2)
    return DaskTaskRunner(cluster=request.getfixturevalue("dask_cluster"))


@task
def add(x, y=1):
    return x + y


@task
async def double(x):
    await asyncio.sleep(0)
    return 2 * x


@task
def where(*_):
    return os.getpid()


@task
def fail(text):
    raise LookupError(text)


class Scaler:
    def __init__(self, factor):
        self.factor = factor

    @task
    def scale(self, x):
        return x * self.factor


def test_a_hundred_tasks_and_their_dependencies(runner):
    @flow(task_runner=runner)
    def f():
        firsts = add.map(range(100))
        seconds = [double.submit(x) for x in firsts[:10]]
        total = task(lambda groups, *, extra: sum(groups["a"]) + extra, name="total").submit(
            {"a": seconds}, extra=firsts[99]
        )
        pids = {future.result() for future in where.map(range(8), wait_for=[total])}
        return total.result(), pids

    total, pids = f()
    assert total == 2 * sum(range(1, 11)) + 100
    assert os.getpid() not in pids


def test_methods_and_lambdas(runner):
    @flow(task_runner=runner)
    def f():
        scaled = Scaler(3).scale.submit(2)
        return task(lambda x: x + 1, name="plus").submit(scaled).result()

    assert f() == 7


def test_errors_keep_their_traceback_and_block_what_follows(runner, caplog):
    @flow(task_runner=runner)
    def f():
        return add.submit(fail.submit("gone"))

    reporter = MemoryReporter()
    assert run_flow(f, {}, reporter=reporter).type is RunPhase.FAILED
    assert reporter.last["fail-0"].state is TaskState.FAILED
    assert reporter.last["add-0"].state is TaskState.SKIPPED
    failure = next(record.getMessage() for record in caplog.records if "Failed: LookupError" in record.getMessage())
    assert "raise LookupError(text)" in failure
    assert "levada/engine" not in failure

    @flow(task_runner=runner)
    def g():
        with pytest.raises(LookupError, match="gone"):
            fail.submit("gone").result()
        with pytest.raises(UpstreamFailed):
            add.submit(fail.submit("gone")).result()
        return 1

    assert g() == 1


def test_retries_count_and_know_their_attempt(runner):
    @task(retries=2)
    def third_time():
        if current_task_run().attempt < 3:
            raise OSError("not yet")
        return current_task_run().attempt

    @flow(task_runner=runner)
    def f():
        return third_time.submit().result()

    assert f() == 3


def test_a_worker_that_is_killed_costs_one_attempt(runner, tmp_path, caplog):
    @task(retries=1)
    def die_once(flag):
        if not flag.exists():
            flag.touch()
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    @flow(task_runner=runner)
    def f():
        return die_once.submit(tmp_path / "flag").result()

    assert f() == "done"
    assert any("attempt 1 of 2" in message and "WorkerCrashed" in message for message in caplog.messages)


def test_a_worker_that_is_killed_without_retries_is_a_crash():
    @task
    def die():
        os._exit(1)

    @flow(task_runner=ProcessPoolTaskRunner(1))
    def f():
        state = die.submit(return_state=True)
        return state.type, type(state.exception), add.submit(1).result()

    kind, error, rest = f(return_state=True).value
    assert (kind, error, rest) == (RunPhase.CRASHED, WorkerCrashed, 2)


def test_a_timeout_ends_the_task_run(runner):
    @task(timeout_seconds=0.2)
    def slow():
        while True:
            time.sleep(0.01)

    @flow(task_runner=runner)
    def f():
        began = time.monotonic()
        state = slow.submit(return_state=True)
        return state.type, type(state.exception), time.monotonic() - began

    kind, error, seconds = f()
    assert (kind, error) == (RunPhase.TIMED_OUT, RunTimedOut)
    assert seconds < 5


def test_what_cannot_be_sent_fails_its_task_and_is_named(runner):
    @task
    def use(model):
        return threading.Lock()

    @flow(task_runner=runner)
    def f():
        states = use.submit(threading.Lock(), return_state=True), use.submit(1, return_state=True)
        return [(type(state.exception), state.message) for state in states]

    (first, message), (second, other) = f()
    assert first is second is SerializationError
    assert "task 'use' (use-0): argument 'model' (a _thread.lock) cannot be sent" in message
    assert "task 'use' (use-1): its result (a _thread.lock) cannot be sent back" in other


def test_logs_and_prints_arrive_once(runner, caplog, capfd):
    @task(task_run_name="talk about {x}", log_prints=True)
    def talk(x):
        print("printed", x)
        get_run_logger().info("logged %s", x)

    @flow(task_runner=runner)
    def f():
        talk.map([1, 2]).wait()

    with caplog.at_level(logging.INFO, logger="levada"):
        f()
    lines = [(record.levada_run, record.getMessage()) for record in caplog.records if record.name == "levada"]
    for x, name in ((1, "talk about 1"), (2, "talk about 2")):
        assert lines.count((name, f"printed {x}")) == 1
        assert sum(message == f"logged {x}" for _, message in lines) == 1
    assert "printed" not in capfd.readouterr().out


def test_workers_know_the_flow_run(runner):
    @task(tags=["gpu"])
    def look():
        run = current_flow_run()
        return run.name, run.id, run.flow_name, run.parameters, runtime.flow_run.tags, sorted(current_task_run().tags)

    @flow(task_runner=runner, flow_run_name="night of {year}")
    def nightly(year):
        run = current_flow_run()
        here = run.name, run.id, run.flow_name, run.parameters, runtime.flow_run.tags, ["gpu"]
        return look.submit().result() == here, run.name

    assert nightly(2019) == (True, "night of 2019")


def test_results_are_cached_by_the_program(runner, tmp_path, monkeypatch):
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path))

    @task(cache_key_fn=lambda context, parameters: f"day-{parameters['day']}")
    def load(day):
        return os.getpid(), time.monotonic()

    @flow(task_runner=runner)
    def f():
        return load.submit(3).result()

    assert f() == f()


class Listener(MemoryReporter):
    def __init__(self):
        super().__init__()
        self.artifacts = []

    def artifact_created(self, artifact):
        self.artifacts.append((artifact.key, artifact.data, artifact.task_run_id))
        if artifact.key == "broken":
            raise OSError("the reporter is ill")


def test_artifacts_made_in_workers_lie_where_the_flow_says_and_are_reported(runner, tmp_path, caplog):
    from levada.artifacts import create_markdown_artifact

    @task
    def draw(key):
        create_markdown_artifact("# A title", key=key)

    @flow(task_runner=runner)
    def inner():
        draw.submit("plot").wait()
        draw.submit("broken").wait()

    @flow(result_storage=tmp_path / "kept")
    def outer():
        inner()

    reporter = Listener()
    assert run_flow(outer, {}, reporter=reporter).is_completed()
    assert reporter.artifacts == [("plot", "# A title", "draw-0"), ("broken", "# A title", "draw-1")]
    assert len([path for path in (tmp_path / "kept").rglob("*") if path.is_file()]) == 2
    assert "the reporter failed, an artifact may be missing: OSError: the reporter is ill" in caplog.messages


def test_async_flows_submit_as_well(runner):
    @flow(task_runner=runner)
    async def f():
        return [double.submit(x).result() for x in (1, 2)]

    assert asyncio.run(f()) == [2, 4]


def test_a_flow_file_loaded_by_path(runner, tmp_path):
    """Its module cannot be imported by a worker: all that it defines goes by value, and comes back as the same classes."""
    file = tmp_path / "flow-file.py"
    file.write_text("""
from levada import flow, task

FACTOR = 3

class Point:
    def __init__(self, x):
        self.x = x

class OutOfMap(Exception):
    pass

def helper(x):
    return Point(x * FACTOR)

@task
def make(x):
    if x > 5:
        raise OutOfMap(x)
    return helper(x)

@task
def move(point):
    assert isinstance(point, Point)
    return helper(point.x)

@flow
def main():
    point = move.submit(make.submit(2)).result()
    assert type(point) is Point
    try:
        make.submit(6).result()
    except OutOfMap:
        return point.x
""")
    spec = importlib.util.spec_from_file_location("levada_flow_file_by_path", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        assert module.main.with_options(task_runner=runner)() == 18
    finally:
        del sys.modules[spec.name]


def test_ten_folds_on_a_dask_cluster_of_its_own():
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold

    @task
    def score(x, y, train, test):
        model = LogisticRegression(max_iter=200).fit(x[train], y[train])
        return float(model.score(x[test], y[test]))

    @flow(task_runner=DaskTaskRunner(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1}))
    def cross_validate():
        x, y = load_iris(return_X_y=True)
        folds = KFold(10, shuffle=True, random_state=0).split(x)
        scores = [score.submit(x, y, train, test) for train, test in folds]
        return [future.result() for future in scores]

    scores = cross_validate()
    assert len(scores) == 10
    assert sum(scores) / 10 > 0.9


def test_a_failed_start_of_the_cluster_is_told_by_the_flow():
    from levada.exceptions import OptionError

    @flow(task_runner=DaskTaskRunner(address="tcp://127.0.0.1:9", client_kwargs={"timeout": 0.5}))
    def f():
        add.submit(1)

    with pytest.raises(OptionError, match="no scheduler answers"):
        f()
