"""Calls in workers, made without a flow around them: the same on processes and on Dask, where not said otherwise."""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from levada import current_flow_run, current_task_run, flow, get_run_logger, runtime, task
from levada.engine.deadlines import TooLate
from levada.engine.remote import RemoteCall
from levada.exceptions import OptionError, RunCancelled, RunFailed, SerializationError, WorkerCrashed
from levada.task_runners import DaskTaskRunner, ProcessPoolTaskRunner
from support.processes import is_running, until

pytest.importorskip("distributed")


def a_call(fn, *args, **changes):
    names = {"run_id": "fit-0", "task_name": "fit", "flow_run_name": "red-fox", "flow_name": "demo"}
    return RemoteCall(**{"fn": fn, "args": args, "kwargs": {}, **names, **changes})


@pytest.fixture(params=["processes", "dask"])
def workers(request):
    if request.param == "processes":
        opened = ProcessPoolTaskRunner(2).open()
    else:
        opened = DaskTaskRunner(cluster=request.getfixturevalue("dask_cluster")).open()
    yield opened
    opened.close(cancel=False)


@pytest.fixture
def processes():
    opened = ProcessPoolTaskRunner(2).open()
    yield opened
    opened.close(cancel=True)


class OddError(Exception):
    """Its `__init__` takes other arguments than those in `.args`."""

    def __init__(self, code, *, detail):
        super().__init__(f"code {code}: {detail}")
        self.code = code
        self.lock = threading.Lock()


class Model:
    def __init__(self, factor):
        self.factor = factor

    def predict(self, x):
        return x * self.factor


def pid():
    return os.getpid()


def find_key():
    return {}["missing"]


def fail_oddly():
    try:
        find_key()
    except KeyError as error:
        raise OddError(7, detail="no such key") from error


# Values and errors.
def test_a_call_happens_in_another_process(workers):
    assert workers.call(a_call(pid)) != os.getpid()


def test_values_go_there_and_back(workers):
    value = {"a": [1, 2.5, None], "b": (b"x", {"é"})}
    assert workers.call(a_call(lambda x, *, y: [x, y], value, kwargs={"y": range(3)})) == [value, range(3)]


def test_methods_and_classes_of_this_file(workers):
    model = workers.call(a_call(lambda: Model(3)))
    assert isinstance(model, Model)
    assert workers.call(a_call(model.predict, 4)) == 12


def test_big_values(workers):
    data = os.urandom(3_000_000)
    assert workers.call(a_call(lambda x: x + x, data)) == data + data


def test_async_functions_and_generators(workers):
    async def later(x):
        await asyncio.sleep(0)
        return x + 1

    def several():
        yield 1
        yield 2

    async def several_later():
        yield 3

    assert workers.call(a_call(later, 1, is_async=True)) == 2
    assert workers.call(a_call(several)) == [1, 2]
    assert workers.call(a_call(several_later, is_async=True)) == [3]


def test_many_threads_share_the_workers(workers):
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda x: workers.call(a_call(lambda y: y * y, x)), range(30)))
    assert results == [x * x for x in range(30)]


def test_an_exception_comes_with_its_traceback_and_its_cause(workers):
    with pytest.raises(OddError, match="code 7: no such key") as caught:
        workers.call(a_call(fail_oddly))
    error = caught.value
    assert error.code == 7
    assert not hasattr(error, "lock")
    assert isinstance(error.__cause__, KeyError)
    text = "".join(traceback.format_exception(error))
    assert 'return {}["missing"]' in text
    assert 'raise OddError(7, detail="no such key") from error' in text
    assert "in find_key" in text
    assert "raised in process" in text
    assert "engine/remote/carrying.py" not in text


def test_an_exception_that_cannot_be_pickled_becomes_text(workers):
    def fail():
        class Local(Exception):  # noqa: N818  a user's
            def __init__(self):
                super().__init__(threading.Lock())
                self.lock = threading.Lock()

            def __str__(self):
                return "deep trouble"

            def __reduce__(self):
                raise TypeError

            def __new__(cls, *args):
                if args:
                    raise RuntimeError("never from outside")
                return super().__new__(cls)

        raise Local

    with pytest.raises(RunFailed, match=r"Local: deep trouble \(only the text") as caught:
        workers.call(a_call(fail))
    assert "raise Local" in "".join(traceback.format_exception(caught.value))


def test_sys_exit_comes_back_and_the_worker_lives(processes):
    worker = processes.call(a_call(pid))
    with pytest.raises(SystemExit) as caught:
        processes.call(a_call(lambda: sys.exit("enough")))
    assert caught.value.code == "enough"
    assert processes.call(a_call(pid)) == worker


# What cannot be sent.
LOCK = threading.Lock()


def uses_a_global():
    return LOCK


def with_a_closure():
    lock = threading.Lock()

    def inner():
        return lock

    return inner


class Holder:
    def __init__(self):
        self.lock = threading.Lock()

    def get(self):
        return 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (a_call(lambda model: 1, threading.Lock()), r"argument 'model' \(a _thread.lock\) cannot be sent to a worker"),
        (a_call(lambda *, model: 1, kwargs={"model": [threading.Lock()]}), r"argument 'model' \(a list\)"),
        (a_call(lambda: 1, threading.Lock()), r"argument 'number 1' \(a _thread.lock\)"),
        (a_call(uses_a_global), r"the global 'LOCK' that its function uses \(a _thread.lock\)"),
        (a_call(with_a_closure()), r"the variable 'lock' that its function uses \(a _thread.lock\)"),
        (a_call(Holder().get), r"the object that its method belongs to \(a .*Holder\)"),
        (a_call(lambda: threading.Lock()), r"its result \(a _thread.lock\) cannot be sent back from the worker"),
    ],
)
def test_what_cannot_be_pickled_is_named(processes, call, message):
    if call.fn is uses_a_global:  # by value, as from a script
        call = call._replace(fn=type(uses_a_global)(uses_a_global.__code__, {"LOCK": LOCK, "__name__": "__main__"}))
    with pytest.raises(SerializationError, match=r"task 'fit' \(fit-0\): " + message):
        processes.call(call)
    assert processes.call(a_call(abs, -1)) == 1


class OnlyHere:
    """Unpickles in this process only."""

    def __reduce__(self):
        return only_in, (os.getpid(),)


def only_in(home):
    if os.getpid() != home:
        raise ImportError("no module named 'gold'")
    return OnlyHere()


class OnlyThere(OnlyHere):
    def __init__(self, home):
        self.home = home

    def __reduce__(self):
        return not_in, (self.home,)


def not_in(home):
    if os.getpid() == home:
        raise ImportError("no module named 'silver'")


def test_what_cannot_be_unpickled_is_told(workers):
    with pytest.raises(SerializationError, match=r"cannot be read in the worker: ImportError: no module named 'gold'"):
        workers.call(a_call(print, OnlyHere()))
    with pytest.raises(SerializationError, match="its result cannot be read: ImportError: no module named 'silver'"):
        workers.call(a_call(OnlyThere, os.getpid()))


# Surroundings.
def surroundings():
    return {
        "task": (current_task_run().id, current_task_run().name, current_task_run().attempt, current_task_run().tags),
        "flow": (current_flow_run().name, current_flow_run().flow_name, current_flow_run().parameters),
        "runtime": (runtime.flow_run.tags, runtime.task_run.parameters),
    }


def test_the_code_knows_where_it_is(workers):
    call = a_call(
        surroundings,
        attempt=2,
        tags=frozenset({"slow"}),
        parameters={"year": 2019, "lock": threading.Lock()},
        flow_run_tags=frozenset({"nightly"}),
        label="fit for 2019",
    )
    expected = {
        "task": ("fit-0", "fit for 2019", 2, frozenset({"slow"})),
        "flow": ("red-fox", "demo", {"year": 2019}),
        "runtime": (["nightly"], {}),
    }
    assert workers.call(call) == expected
    assert workers.call(call) == expected


def test_parameters_that_only_the_program_can_read_are_left_out(processes):
    call = a_call(lambda: current_flow_run().parameters, parameters={"x": OnlyHere()})
    assert processes.call(call) == {}


def test_arguments_are_the_parameters_of_the_task_run(workers):
    assert workers.call(a_call(lambda a, b=2: runtime.task_run.parameters, 1)) == {"a": 1, "b": 2}


def test_a_task_outside_of_any_flow(workers):
    call = a_call(lambda: (runtime.flow_run.name, current_task_run().id), flow_run_name="", flow_name="")
    assert workers.call(call) == (None, "fit-0")


def test_tasks_and_flows_called_in_a_worker_run_there(workers):
    @task
    def inner(x):
        return x + 1, os.getpid()

    @flow
    def subflow(x):
        return inner.submit(x).result()[0]

    def outer():
        inner.submit(5)  # is waited for
        return inner(1)[0], inner.submit(2).result()[0], subflow(3), inner(0)[1] == os.getpid()

    assert workers.call(a_call(outer)) == (2, 3, 4, True)


def test_log_lines_arrive_once_with_the_name_of_the_run(workers, caplog):
    def chat():
        print("a print", 1)
        get_run_logger().warning("a line of %s", "the run")
        logging.getLogger("my.library").error("a library's")
        try:
            find_key()
        except KeyError:
            get_run_logger().exception("it failed", extra={"colour": "red", "lock": threading.Lock()})
        get_run_logger().debug("nobody wants this")
        get_run_logger().warning("%d", "no number")

    with caplog.at_level(logging.INFO, logger="levada"):
        workers.call(a_call(chat, log_prints=True))
    lines = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert lines[:3] == [
        ("levada", "INFO", "a print 1"),
        ("levada", "WARNING", "a line of the run"),
        ("my.library", "ERROR", "a library's"),
    ]
    assert lines[3][2].startswith("it failed\nTraceback")
    assert 'return {}["missing"]' in lines[3][2]
    assert "cannot be formatted" in lines[4][2]
    assert len(lines) == 5
    assert {record.levada_run for record in caplog.records if record.name == "levada"} == {"fit-0"}
    assert caplog.records[3].colour == "red"
    assert not hasattr(caplog.records[3], "lock")


def test_log_lines_come_while_the_code_runs(workers, caplog, tmp_path):
    gate = tmp_path / "gate"

    def wait_for_gate():
        get_run_logger().warning("waiting")
        while not gate.exists():
            time.sleep(0.01)

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(workers.call, a_call(wait_for_gate))
        end = time.monotonic() + 20
        while "waiting" not in caplog.messages and time.monotonic() < end:
            time.sleep(0.01)
        assert not waiting.done()
        gate.touch()
        waiting.result()
    assert caplog.messages == ["waiting"]


def test_threads_of_the_code_log_as_well(processes, caplog):
    def in_a_thread():
        thread = threading.Thread(target=logging.getLogger("my.thread").error, args=["from a thread"])
        thread.start()
        thread.join()

    processes.call(a_call(in_a_thread))
    assert caplog.messages == ["from a thread"]


def test_secrets_that_only_the_worker_knows_are_hidden(workers, caplog):
    from levada.secrets import mask

    def leak():
        from levada.secrets import SecretStr

        secret = SecretStr(f"hunter2-{'x' * 5}")
        get_run_logger().warning("it is %s", secret.get_secret_value())
        raise ValueError(secret.get_secret_value())

    with pytest.raises(ValueError) as caught:
        workers.call(a_call(leak))
    assert caplog.messages == ["it is ********"]
    assert mask(str(caught.value)) == "********"


# Time.
def test_a_timeout_ends_code_at_its_next_instruction(workers):
    def count():
        while True:
            time.sleep(0.01)

    began = time.monotonic()
    with pytest.raises(TooLate):
        workers.call(a_call(count, timeout_seconds=0.2))
    assert 0.2 <= time.monotonic() - began < 5
    with pytest.raises(TooLate):
        workers.call(a_call(lambda: asyncio.sleep(30), timeout_seconds=0.1, is_async=True))
    assert workers.call(a_call(abs, -3, timeout_seconds=10)) == 3


def test_on_processes_a_timeout_interrupts_a_sleep_and_the_worker_lives(processes):
    def clean():
        try:
            time.sleep(30)
        finally:
            get_run_logger().warning("cleaned up")

    worker = processes.call(a_call(pid))
    began = time.monotonic()
    with pytest.raises(TooLate):
        processes.call(a_call(clean, timeout_seconds=0.2))
    assert time.monotonic() - began < 0.9
    assert processes.call(a_call(pid)) == worker


def test_what_cannot_be_interrupted_ends_with_its_worker(processes):
    def deaf():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        while True:
            pass

    worker = processes.call(a_call(pid))
    began = time.monotonic()
    with pytest.raises(TooLate):
        processes.call(a_call(deaf, timeout_seconds=0.1))
    assert time.monotonic() - began < 4
    until(lambda: not is_running(worker))
    assert processes.call(a_call(pid)) != worker


def test_on_dask_a_deaf_call_is_given_up_a_second_later(dask_cluster, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def deaf():
        return os.open(gate, os.O_RDONLY)  # one long C call

    workers = DaskTaskRunner(cluster=dask_cluster).open()
    began = time.monotonic()
    try:
        with pytest.raises(TooLate):
            workers.call(a_call(deaf, timeout_seconds=0.2))
        assert 1 < time.monotonic() - began < 5
    finally:
        os.close(os.open(gate, os.O_WRONLY))  # lets it go on
        workers.close(cancel=False)


# Deaths.
def die(flag):
    if not flag.exists():
        flag.touch()
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def test_a_killed_worker_fails_its_own_call_only(workers, tmp_path):
    with ThreadPoolExecutor(2) as threads:
        other = threads.submit(workers.call, a_call(lambda: time.sleep(0.3) or "fine"))
        with pytest.raises(WorkerCrashed, match=r"task 'fit' \(fit-0\): its .*worker"):
            workers.call(a_call(die, tmp_path / "flag"))
        assert other.result() == "fine"
    assert workers.call(a_call(die, tmp_path / "flag")) == "alive"


@pytest.mark.parametrize(
    ("fn", "how"),
    [
        (lambda: os._exit(3), "ended with exit code 3"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "was killed by SIGSEGV"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), r"was killed by SIGKILL \(is there enough memory\?\)"),
    ],
)
def test_how_a_worker_died_is_told(processes, fn, how):
    with pytest.raises(WorkerCrashed, match=how):
        processes.call(a_call(fn))


def test_a_worker_that_died_while_idle_is_replaced_without_a_word(processes):
    worker = processes.call(a_call(pid))
    os.kill(worker, signal.SIGKILL)
    assert processes.call(a_call(pid)) != worker


def test_an_initializer_is_called_once_in_each_worker(caplog):
    def setup(name):
        logging.getLogger("levada").warning("setup %s", name)
        os.environ["LEVADA_TEST_SETUP"] = name

    workers = ProcessPoolTaskRunner(1, initializer=setup, initargs=("blue",)).open()
    try:
        assert [workers.call(a_call(lambda: os.environ["LEVADA_TEST_SETUP"])) for _ in range(2)] == ["blue", "blue"]
    finally:
        workers.close(cancel=False)
    assert caplog.messages == ["setup blue"]


def test_an_initializer_that_fails_is_named():
    workers = ProcessPoolTaskRunner(1, initializer=find_key).open()
    try:
        with pytest.raises(WorkerCrashed, match=r"initializer of ProcessPoolTaskRunner failed .* KeyError") as caught:
            workers.call(a_call(pid))
        assert isinstance(caught.value.__cause__, KeyError)
    finally:
        workers.close(cancel=False)
    dying = ProcessPoolTaskRunner(1, initializer=os._exit, initargs=(4,)).open()
    with pytest.raises(WorkerCrashed, match=r"a new worker process .* ended with exit code 4 before its first task"):
        dying.call(a_call(pid))
    dying.close(cancel=False)
    with pytest.raises(SerializationError, match="initializer or its initargs cannot be sent"):
        ProcessPoolTaskRunner(1, initializer=print, initargs=(threading.Lock(),)).open()


# The end.
def test_cancelling_interrupts_the_code_and_leaves_nobody(tmp_path):
    def stubborn(folder):
        import subprocess

        child = subprocess.Popen(["sleep", "60"])
        (folder / "pids").write_text(f"{os.getpid()} {child.pid}")
        try:
            time.sleep(60)
        finally:
            (folder / "cleaned").touch()

    workers = ProcessPoolTaskRunner(1).open()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(workers.call, a_call(stubborn, tmp_path))
        while not (tmp_path / "pids").exists():
            time.sleep(0.01)
        time.sleep(0.05)
        began = time.monotonic()
        workers.close(cancel=True)
        with pytest.raises(RunCancelled, match="fit-0 was cancelled"):
            running.result()
    assert time.monotonic() - began < 4
    assert (tmp_path / "cleaned").exists()
    process_ids = [int(text) for text in (tmp_path / "pids").read_text().split()]
    until(lambda: not any(is_running(process_id) for process_id in process_ids))
    with pytest.raises(RunCancelled):
        workers.call(a_call(pid))


def test_closing_dask_workers_cancels_what_waits(dask_cluster):
    workers = DaskTaskRunner(cluster=dask_cluster).open()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(workers.call, a_call(lambda: time.sleep(1)))
        time.sleep(0.3)
        workers.close(cancel=True)
        with pytest.raises(RunCancelled, match="fit-0 was cancelled"):
            running.result(timeout=20)


def test_a_worker_does_not_outlive_a_program_that_was_killed(tmp_path):
    import subprocess

    program = """
import os, sys, time
from levada.engine.remote import RemoteCall
from levada.task_runners import ProcessPoolTaskRunner

def busy(path):
    with open(path + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(path + ".new", path)
    time.sleep(60)

ProcessPoolTaskRunner(1).open().call(RemoteCall(busy, (sys.argv[1],), {}, "busy-0", "busy"))
"""
    path = tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", program, str(path)]) as parent:
        while not path.exists():
            time.sleep(0.02)
        parent.kill()
    worker = int(path.read_text())
    until(lambda: not is_running(worker))


# Clusters.
def test_an_address_where_nobody_answers():
    with pytest.raises(OptionError, match=r"no scheduler answers at address='tcp://127.0.0.1:9'"):
        DaskTaskRunner(address="tcp://127.0.0.1:9", client_kwargs={"timeout": 0.5}).open()


# Dask's own classes complain in their destructors about what their constructors refused.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("runner", "message"),
    [
        (DaskTaskRunner(cluster_class="distributed.GoldCluster"), "'distributed.GoldCluster' cannot be imported"),
        (DaskTaskRunner(cluster_class="no_such_module:Cluster"), "cannot be imported: No module named"),
        (DaskTaskRunner(cluster_class=dict[str, int], cluster_kwargs={"n_workers": 1}), "no connection to its cluster"),
        (DaskTaskRunner(cluster_kwargs={"n_workers": "many"}), "LocalCluster does not start with"),
    ],
)
def test_a_cluster_that_cannot_start(runner, message):
    with pytest.raises(OptionError, match=message):
        runner.open()


def test_a_cluster_found_by_its_address_is_left_running(dask_cluster):
    for _ in range(2):
        workers = DaskTaskRunner(address=dask_cluster.scheduler_address).open()
        assert workers.call(a_call(abs, -1)) == 1
        workers.close(cancel=False)


@pytest.mark.parametrize("cluster_class", ["distributed.LocalCluster", "distributed:LocalCluster"])
def test_a_cluster_in_this_process_and_one_that_adapts(cluster_class, caplog):
    runner = DaskTaskRunner(
        cluster_class=cluster_class,
        cluster_kwargs={"n_workers": 0, "processes": False, "dashboard_address": ":0", "threads_per_worker": 1},
        adapt_kwargs={"minimum": 1, "maximum": 1},
    )
    workers = runner.open()
    try:
        assert workers.call(a_call(lambda: get_run_logger().warning("here") or os.getpid())) == os.getpid()
    finally:
        workers.close(cancel=False)
    assert caplog.messages.count("here") == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_cluster_that_cannot_adapt_is_closed():
    kwargs = {"n_workers": 0, "processes": False, "dashboard_address": ":0"}
    with pytest.raises(OptionError, match=r"LocalCluster does not adapt with \{'maximum': 'lots'"):
        DaskTaskRunner(cluster_kwargs=kwargs, adapt_kwargs={"maximum": "lots", "target_duration": 1}).open()
