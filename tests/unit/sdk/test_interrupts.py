"""Signals that come at any moment: seeded, against a flow that does everything at once."""

import os
import random
import signal
import subprocess
import time

import pytest

from support.processes import python

BUSY = """
import asyncio, faulthandler, logging, sys, time
faulthandler.enable()
from levada import flow, task
from levada.engine.reporter import MemoryReporter
from levada.engine.run import run_flow

logging.getLogger("levada").setLevel(100)

@task
def plain(x):
    return x

@task(retries=1, retry_delay_seconds=0.001)
def bad(x):
    raise ValueError(x)

@task(timeout_seconds=0.005)
def near_its_deadline(x):
    time.sleep(0.003 + x % 5 * 0.001)

@task
async def coroutine(x):
    await asyncio.sleep(0)
    return x

@flow
def child(x):
    plain(x)
    plain.submit(x)

@flow
def sync_flow():
    print("started", flush=True)
    for x in range(10**9):
        futures = [plain.submit(x) for _ in range(20)]
        last = plain.submit(futures)
        plain(x)
        bad.submit(x)
        near_its_deadline.submit(x)
        near_its_deadline(x, return_state=True)
        coroutine.submit(x)
        if x % 7 == 0:
            last.wait()
        child(x)

@flow
async def async_flow():
    print("started", flush=True)
    for x in range(10**9):
        await asyncio.gather(*[coroutine(x) for _ in range(20)])
        plain.submit(plain(x)).wait()
        near_its_deadline(x, return_state=True)

reporter = MemoryReporter()
state = run_flow(globals()[sys.argv[1]], {}, reporter=reporter, handle_signals=True)
count = len(reporter.tasks)
time.sleep(0.03)
left = [run_id for run_id, report in reporter.last.items() if report.end_time is None]
print(state.type, "|", state.message, "| unfinished:", left[:5], "| late reports:", len(reporter.tasks) - count)
"""


@pytest.mark.parametrize("flow_name", ["sync_flow", "async_flow"])
@pytest.mark.parametrize("seed", range(4))
def test_a_signal_at_any_moment_leaves_every_task_ended(flow_name, seed, tmp_path):
    chance = random.Random(f"{flow_name} {seed}")
    program = tmp_path / "busy.py"
    program.write_text(BUSY)
    with python(program, flow_name, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == "started\n"
        time.sleep(chance.random() * 0.05)
        signum = chance.choice([signal.SIGTERM, signal.SIGINT])
        process.send_signal(signum)
        try:
            out, err = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGABRT)  # shows the stacks of all threads
            raise AssertionError(f"{signum.name} did not end it: {process.communicate(timeout=10)[1]}") from None
    assert process.returncode == 0, err
    words = "interrupted by Ctrl-C" if signum == signal.SIGINT else "terminated by SIGTERM"
    assert out == f"Cancelled | {words} | unfinished: [] | late reports: 0\n"
