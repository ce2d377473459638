"""`python flow.py` with workers in other processes: scripts without a guard, and what Ctrl-C and SIGTERM leave behind."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("distributed")

RUNNERS = {
    "processes": "ProcessPoolTaskRunner(max_workers=2)",
    "dask": "DaskTaskRunner(cluster_kwargs={'n_workers': 2, 'threads_per_worker': 1})",
}


def start(folder, source, runner, **options):
    file = folder / "flow.py"
    file.write_text(source.replace("RUNNER", RUNNERS[runner]))
    env = os.environ | {"LEVADA_TEST_MARK": str(folder), "LEVADA_HOME": str(folder / "home")}
    return subprocess.Popen(
        [sys.executable, "-W", "error", file], env=env, text=True, cwd=folder, start_new_session=True, **options
    )


def left_over(folder):
    """The processes that inherited the script's mark, without zombies."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"LEVADA_TEST_MARK={folder}\0" in (entry / "environ").read_text():
                    found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")[:120]
            except OSError:
                continue
    return found


def wait_for_silence(folder, seconds):
    end = time.monotonic() + seconds
    while (found := left_over(folder)) and time.monotonic() < end:
        time.sleep(0.05)
    return found


UNGUARDED = """
import os, sys
from dataclasses import dataclass
from levada import flow, task, get_run_logger
from levada.task_runners import *

print("top level", flush=True)

@dataclass
class Trip:
    fare: float

class Broken(Exception):
    pass

RATE = 1.5

def price(trip):
    return trip.fare * RATE

@task(log_prints=True)
def charge(trip):
    print("charging", trip)
    if trip.fare < 0:
        raise Broken(trip)
    return Trip(price(trip)), os.getpid()

@flow(task_runner=RUNNER)
def day():
    paid = [future.result() for future in charge.map([Trip(x) for x in range(10)])]
    try:
        charge.submit(Trip(-1)).result()
    except Broken as error:
        assert isinstance(error.args[0], Trip)
    assert all(type(trip) is Trip for trip, _ in paid)
    assert os.getpid() not in {pid for _, pid in paid}
    return sum(trip.fare for trip, _ in paid)

print("total", day())
"""


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_script_needs_no_guard(runner, tmp_path):
    with start(tmp_path, UNGUARDED, runner, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as script:
        out, err = script.communicate(timeout=50)
    assert out == "top level\ntotal 67.5\n", err
    assert script.returncode == 0
    assert err.count("charge-3 | charging Trip(fare=3)") == 1
    assert 'flow.py", line 25, in charge\n    raise Broken(trip)\n' in err
    assert not wait_for_silence(tmp_path, 5)


LONG = """
import os, subprocess, sys, time
from pathlib import Path
from levada import flow, task
from levada.task_runners import *

HERE = Path(os.environ["LEVADA_TEST_MARK"])
(HERE / "begun").touch()  # from here on, a signal meets the script and not Python's own start

def note(flow, run, state):
    (HERE / "hook").write_text(f"{state.type.value}: {state.message}")

@task
def long(i):
    (HERE / f"started-{i}").touch()
    try:
        while True:
            time.sleep(0.02)
    finally:
        (HERE / f"cleaned-{i}").touch()

@flow(task_runner=RUNNER, on_cancellation=[note])
def f():
    long.map(list(range(6))).wait()

try:
    f()
finally:
    (HERE / "program cleaned").touch()
"""


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "Ctrl-C"])
@pytest.mark.parametrize("runner", RUNNERS)
def test_signals_end_the_script_and_all_its_workers(runner, how, tmp_path):
    with start(tmp_path, LONG, runner, stderr=subprocess.PIPE) as script:
        while len(list(tmp_path.glob("started-*"))) < 2:
            assert script.poll() is None
            time.sleep(0.02)
        time.sleep(0.1)
        began = time.monotonic()
        if how == "Ctrl-C":  # the terminal sends it to all processes of the script's group
            os.killpg(script.pid, signal.SIGINT)
        else:
            script.send_signal(signal.Signals[how])
        _, err = script.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert script.returncode == (143 if how == "SIGTERM" else -signal.SIGINT), err
    assert (tmp_path / "program cleaned").exists()
    assert (tmp_path / "hook").read_text().startswith("Cancelled: ")
    assert not wait_for_silence(tmp_path, 5)
    if runner == "processes":
        assert len(list(tmp_path.glob("cleaned-*"))) == 2
    assert "Exception ignored" not in err
    assert "Traceback" not in err.replace("Traceback (most recent call last)", "", 1 if how != "SIGTERM" else 0)


@pytest.mark.parametrize("seed", range(6))
def test_a_signal_at_any_moment_leaves_nobody(seed, tmp_path):
    chance = random.Random(seed)
    with start(tmp_path, LONG, "processes", stderr=subprocess.PIPE) as script:
        while not (tmp_path / "begun").exists():
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.45))
        signum = chance.choice([signal.SIGINT, signal.SIGTERM])
        script.send_signal(signum)
        _, err = script.communicate(timeout=20)
    assert script.returncode in {143, -signum}, err
    assert not wait_for_silence(tmp_path, 5)


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_script_that_is_killed_leaves_no_workers(runner, tmp_path):
    with start(tmp_path, LONG, runner, stderr=subprocess.DEVNULL) as script:
        while len(list(tmp_path.glob("started-*"))) < 2:
            assert script.poll() is None
            time.sleep(0.02)
        script.kill()
    assert not wait_for_silence(tmp_path, 15)


FAILING = """
import time
from levada import flow, task
from levada.task_runners import *

@task
def long():
    time.sleep(0.3)
    return 1

@flow(task_runner=RUNNER)
def f():
    long.submit()
    raise ValueError("the flow fails while a task runs")

f()
"""


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_flow_that_fails_leaves_nobody(runner, tmp_path):
    with start(tmp_path, FAILING, runner, stderr=subprocess.PIPE) as script:
        _, err = script.communicate(timeout=30)
    assert script.returncode == 1
    assert "ValueError: the flow fails while a task runs" in err
    assert "Exception ignored" not in err
    assert not wait_for_silence(tmp_path, 5)
