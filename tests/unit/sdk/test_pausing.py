"""Pausing and resuming, between threads, processes and a terminal."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import pytest
from pydantic import BaseModel

from levada import flow, pausing, task
from levada.engine.reporter import MemoryReporter
from levada.engine.run import run_flow
from levada.exceptions import MissingContextError, NotSupported, OptionError, ParameterError, PauseTimeout
from levada.pausing import (
    Answer,
    Pause,
    apause_flow_run,
    aresume_flow_run,
    asuspend_flow_run,
    pause_flow_run,
    paused_runs,
    resume_flow_run,
    suspend_flow_run,
)
from levada.testing import FakeClock, run_and_record


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path))
    return tmp_path


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.005)


class Somebody(threading.Thread):
    """Resumes the next run that is paused, with each of the inputs until it goes on."""

    def __init__(self, *inputs):
        super().__init__()
        self.inputs = inputs or (None,)
        self.start()

    def run(self):
        until(paused_runs)
        for value in self.inputs:
            resume_flow_run(paused_runs()[0].run_id, value)
            time.sleep(0.05)


def test_a_run_waits_and_goes_on(home):
    reporter = MemoryReporter()

    @flow
    def f():
        return pause_flow_run(poll_interval=0.01)

    somebody = Somebody()
    state = run_flow(f, {}, reporter=reporter, run_name="r")
    somebody.join()
    assert state.is_completed()
    assert state.value is None
    assert [phase for phase, _ in reporter.phases] == ["Running", "Paused", "Running", "Completed"]
    assert "levada.pausing.resume_flow_run('r') lets it go on" in reporter.phases[1][1]
    assert "Paused for at most 1 h: " in reporter.phases[1][1]
    assert list((home / "pauses").iterdir()) == []


class Approval(BaseModel):
    approved: bool
    reason: str = ""


@dataclass
class Choice:
    rate: float


@pytest.mark.parametrize(
    ("wanted", "given", "expected"),
    [
        (str, "go", "go"),
        (int, "5", 5),
        (list[int], [1, 2], [1, 2]),
        (Approval, {"approved": True}, Approval(approved=True)),
        (Approval, Approval(approved=False, reason="no"), Approval(approved=False, reason="no")),
        (Choice, Choice(0.5), Choice(0.5)),
    ],
)
def test_a_run_waits_for_input(wanted, given, expected):
    @flow
    def f():
        return pause_flow_run(wait_for_input=wanted, poll_interval=0.01)

    somebody = Somebody(given)
    assert f() == expected
    somebody.join()


def test_input_that_does_not_fit_is_told_and_waited_on(caplog):
    @flow
    def f():
        return pause_flow_run(wait_for_input=Approval, poll_interval=0.01)

    somebody = Somebody("yes", {"approved": "perhaps"}, {"approved": True})
    assert f() == Approval(approved=True)
    somebody.join()
    told = [record.message for record in caplog.records if record.message.startswith("Still paused")]
    assert len(told) == 2
    assert "does not fit Approval: approved: Input should be a valid boolean" in told[1]


def test_nobody_comes():
    @flow
    def f():
        pause_flow_run(timeout=3600)

    with FakeClock() as clock:
        record = run_and_record(f)
        with pytest.raises(PauseTimeout, match="was paused, and nobody resumed it within 1 h"):
            _ = record.value
    assert sum(clock.waits) == pytest.approx(3600)
    assert record.state.is_failed()
    assert paused_runs() == []


async def test_async_flows_await_it():
    @flow
    async def f():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        ticker = asyncio.create_task(tick())
        first = await pause_flow_run(poll_interval=0.01, wait_for_input=str)
        second = await apause_flow_run(poll_interval=0.01, wait_for_input=str)
        third = await asuspend_flow_run(wait_for_input=str)
        ticker.cancel()
        return first, second, third, ticks

    async def somebody():
        for word in ("one", "two", "three"):
            while not paused_runs():  # noqa: ASYNC110  other processes have no events
                await asyncio.sleep(0.005)
            await aresume_flow_run(paused_runs()[0].run_name, word)
            await asyncio.sleep(0.25)

    results, _ = await asyncio.gather(f(), somebody())
    assert results[:3] == ("one", "two", "three")
    assert results[3] > 20


def test_an_async_flow_may_call_sync_code_that_pauses_in_a_thread():
    @flow
    async def f():
        return await asyncio.to_thread(pause_flow_run, wait_for_input=int, poll_interval=0.01)

    somebody = Somebody(5)
    assert asyncio.run(f()) == 5
    somebody.join()


def test_suspending_is_pausing_for_ever():
    @flow
    def f():
        suspend_flow_run(flow_run_id=pausing.FLOW_RUN.get().id)
        with pytest.raises(NotSupported, match=r"suspend_flow_run\(flow_run_id='other'\): a run can only pause itself"):
            suspend_flow_run(flow_run_id="other")
        return "done"

    somebody = Somebody()
    assert f() == "done"
    somebody.join()
    with pytest.raises(NotSupported):
        suspend_flow_run(flow_run_id="other")


def test_a_pause_with_a_name_comes_once():
    tries = []

    @flow(retries=1)
    def f():
        tries.append(pause_flow_run(wait_for_input=str, poll_interval=0.01, key="approval"))
        if len(tries) == 1:
            raise ValueError("again")
        return tries

    somebody = Somebody("yes")
    assert f() == ["yes", "yes"]
    somebody.join()


def test_tasks_go_on_while_the_flow_waits():
    done = threading.Event()

    @task
    def work():
        done.set()

    @flow
    def f():
        future = work.submit()
        pause_flow_run(poll_interval=0.01)
        assert done.is_set()
        future.wait()

    def somebody():
        until(paused_runs)
        assert done.wait(10)
        resume_flow_run(paused_runs()[0].run_id)

    thread = threading.Thread(target=somebody)
    thread.start()
    f()
    thread.join()


def test_only_the_code_of_a_flow_can_pause():
    with pytest.raises(MissingContextError, match="call it from the code of a @flow"):
        pause_flow_run()

    @task
    def t():
        pause_flow_run()

    @flow
    def f():
        t()

    with pytest.raises(MissingContextError, match="was called inside a task: call it from the code of the flow itself"):
        f()


def test_two_pauses_of_one_run():
    @flow
    def f():
        files = pausing.PauseFiles()
        files.opened(Pause("r", "r"))
        with pytest.raises(OptionError, match="flow run 'r' is paused already"):
            pausing.PauseFiles().opened(Pause("r", "r"))
        files.closed(Pause("r", "r"))
        files.closed(Pause("r", "r"))

    f()


def test_opening_waits_for_those_who_only_look(monkeypatch):
    tries = []
    try_acquire = pausing.FileLock.try_acquire

    def second_time(lock):
        tries.append(1)
        return len(tries) > 1 and try_acquire(lock)

    monkeypatch.setattr(pausing.FileLock, "try_acquire", second_time)
    files = pausing.PauseFiles()
    files.opened(Pause("r", "r"))
    assert len(tries) == 2
    files.closed(Pause("r", "r"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": -1}, "timeout=-1 must be a number of seconds, 0 or more"),
        ({"timeout": "1h"}, "timeout='1h' must be a number of seconds"),
        ({"poll_interval": 0}, "poll_interval=0 must be a number of seconds, 0.001 or more"),
        ({"poll_interval": None}, "poll_interval=None must be a number"),
        ({"key": ""}, "key='' must be a text that is not empty"),
        ({"wait_for_input": object()}, "must be a type, such as str, a dataclass or a pydantic model"),
    ],
)
def test_bad_options_are_told(options, message):
    @flow
    def f():
        pause_flow_run(**options)

    with pytest.raises(OptionError, match=re.escape(message)):
        f()


def test_resuming_a_run_that_does_not_wait():
    with pytest.raises(OptionError, match="no paused run 'etl'; no run is paused"):
        resume_flow_run("etl")
    files = pausing.PauseFiles()
    files.opened(Pause("one", "The One"))
    with pytest.raises(OptionError, match="no paused run 'etl'; paused are: 'The One'"):
        resume_flow_run("etl")
    with pytest.raises(ParameterError, match="run_input of type object cannot be written as JSON"):
        resume_flow_run("one", object())
    resume_flow_run("The One", {"a": 1})
    assert files.answer(Pause("one", "The One")) == Answer({"a": 1})
    assert files.answer(Pause("one", "The One")) is None
    files.closed(Pause("one", "The One"))


def test_files_that_are_no_pauses(home):
    files = pausing.PauseFiles()
    files.opened(Pause("one", "one"))
    (home / "pauses" / "one").write_text("[]")
    assert paused_runs() == []
    files.closed(Pause("one", "one"))


# Processes.
PROGRAM = """
import sys
from levada import flow
from levada.pausing import pause_flow_run
@flow
def etl():
    print("before", flush=True)
    print("got", pause_flow_run(wait_for_input={wanted}, poll_interval=0.01), flush=True)
etl()
"""


def start(wanted="str", **options):
    program = PROGRAM.format(wanted=wanted)
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, **options)


def test_another_process_resumes_it():
    with start(stdin=subprocess.DEVNULL) as process:
        until(paused_runs)
        (pause,) = paused_runs()
        assert pause.run_name.startswith("etl-")
        assert pause.input == "str"
        resume_flow_run(pause.run_name, "go")
        assert process.communicate(timeout=20)[0] == "before\ngot go\n"
        assert process.returncode == 0


def test_a_killed_process_does_not_wait_any_more(home):
    with start() as process:
        until(paused_runs)
        run_id = paused_runs()[0].run_id
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with pytest.raises(OptionError, match="no run is paused"):
        resume_flow_run(run_id, "go")
    assert list((home / "pauses").iterdir()) == []


def test_an_interrupt_ends_the_wait(home):
    with start() as process:
        until(paused_runs)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert process.returncode == 128 + signal.SIGTERM
    assert list((home / "pauses").iterdir()) == []


@pytest.mark.parametrize(
    ("wanted", "typed", "expected"),
    [("None", "\n", "None"), ("str", "hello there\n", "hello there"), ("int", "abc\n5\n", "5")],
)
def test_a_line_in_the_terminal_resumes_it(wanted, typed, expected):
    """A real pseudo-terminal, of which the flow is the foreground program."""
    program = f"import pty, sys; pty.spawn([sys.executable, '-c', {PROGRAM.format(wanted=wanted)!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        until(paused_runs)
        for line in typed.splitlines(keepends=True):
            process.stdin.write(line)
            process.stdin.flush()
            time.sleep(0.1)
        until(lambda: not paused_runs())
        out = process.communicate(timeout=20)[0]
    assert f"got {expected}" in out
    assert "and so does " in out


@pytest.mark.parametrize(
    ("wanted", "typed", "expected"),
    [
        ("", b"\n", Answer()),
        ("str", b"hello\n", Answer("hello")),
        ("int", b"5\n", Answer(5)),
        ("str", b"", None),
        ("str", b"\x04", None),
    ],
)
def test_what_is_typed(wanted, typed, expected):
    master, terminal = os.openpty()
    try:
        os.write(master, b"too early\n")
        pausing._forget_typed(terminal)
        assert pausing._typed(terminal, Pause("r", "r", None, wanted)) is None
        os.write(master, typed)
        assert pausing._typed(terminal, Pause("r", "r", None, wanted)) == expected
    finally:
        os.close(master)
        os.close(terminal)


@pytest.mark.parametrize(
    ("wanted", "timeout", "terminal", "expected"),
    [
        ("", None, None, "Paused: levada.pausing.resume_flow_run('r') lets it go on"),
        (
            "int",
            60,
            None,
            "Paused for at most 1 min: levada.pausing.resume_flow_run('r', run_input=<int>) lets it go on",
        ),
        ("", None, 0, "Paused: levada.pausing.resume_flow_run('r') lets it go on, and so does Enter here"),
    ],
)
def test_it_is_said_how_to_go_on(wanted, timeout, terminal, expected):
    assert pausing._how_to_go_on(Pause("r", "r", None, wanted), timeout, terminal) == expected


def test_a_stdin_that_is_no_file(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    assert pausing._terminal() is None


def test_another_provider(monkeypatch):
    class Cluster:
        def __init__(self):
            self.told = []

        def opened(self, pause):
            self.told.append("opened")

        def answer(self, pause):
            self.told.append("asked")
            return Answer(7) if len(self.told) > 3 else None

        def closed(self, pause):
            self.told.append("closed")

        def how_to_resume(self, pause):
            return "a word"

    @flow
    def f():
        return pause_flow_run(wait_for_input=int, poll_interval=0.001)

    cluster = Cluster()
    monkeypatch.setattr(pausing, "_provider", cluster)
    assert f() == 7
    assert cluster.told == ["opened", "asked", "asked", "asked", "closed"]


def test_run_ids_become_safe_names(home):
    path = pausing._path_of("../a b/ü")
    assert path.parent == home / "pauses"
    assert json.dumps(path.name) == '"%2E%2E%2Fa%20b%2F%C3%BC"'
