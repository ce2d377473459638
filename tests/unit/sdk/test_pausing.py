"""Pausing and resuming, between threads."""

import asyncio
import json
import re
import threading
from dataclasses import dataclass

import pytest
from pydantic import BaseModel

from levada import _locks, flow, pausing, task
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
from support.processes import until


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path))
    return tmp_path


def all_answers_are_taken():
    return not list((pausing.settings.home() / "pauses").glob("*.answer"))


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
            until(all_answers_are_taken)  # else the next one would replace it


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
            await asyncio.sleep(0.1)
            await aresume_flow_run(paused_runs()[0].run_name, word)
            while not all_answers_are_taken():  # noqa: ASYNC110  as above
                await asyncio.sleep(0.005)

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
        files, first, second = pausing.PauseFiles(), Pause("r", "r"), Pause("r", "r")
        files.opened(first)
        resume_flow_run("r", 5)
        with pytest.raises(OptionError, match="flow run 'r' is paused already"):
            files.opened(second)
        files.closed(second)
        assert paused_runs() == [first]
        assert files.answer(first) == Answer(5)
        files.closed(first)
        files.closed(first)
        assert paused_runs() == []

    f()


def test_an_interrupt_just_when_a_pause_begins_ends_it(monkeypatch, home):
    class Interrupted(pausing.PauseFiles):
        def opened(self, pause):
            super().opened(pause)
            raise KeyboardInterrupt

    @flow
    def f():
        with pytest.raises(KeyboardInterrupt):
            pause_flow_run()

    monkeypatch.setattr(pausing, "_provider", Interrupted())
    f()
    assert list((home / "pauses").iterdir()) == []


def test_opening_waits_for_those_who_only_look(monkeypatch):
    tries = []
    try_acquire = pausing.FileLock.try_acquire

    def second_time(lock):
        tries.append(1)
        return len(tries) > 1 and try_acquire(lock)

    monkeypatch.setattr(pausing.FileLock, "try_acquire", second_time)
    files, pause = pausing.PauseFiles(), Pause("r", "r")
    files.opened(pause)
    assert len(tries) == 2
    files.closed(pause)


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
    files, pause = pausing.PauseFiles(), Pause("one", "The One")
    files.opened(pause)
    with pytest.raises(OptionError, match="no paused run 'etl'; paused are: 'The One'"):
        resume_flow_run("etl")
    with pytest.raises(ParameterError, match="run_input of type object cannot be written as JSON"):
        resume_flow_run("one", object())
    resume_flow_run("The One", {"a": 1})
    assert files.answer(pause) == Answer({"a": 1})
    assert files.answer(pause) is None
    files.closed(pause)


def test_files_that_are_no_pauses(home):
    files, pause = pausing.PauseFiles(), Pause("one", "one")
    files.opened(pause)
    (home / "pauses" / "one").write_text("[]")
    assert paused_runs() == []
    files.closed(pause)


def test_a_look_just_when_a_pause_begins_leaves_its_file(monkeypatch, home):
    file, pause, files = home / "pauses" / "r", Pause("r", "r"), pausing.PauseFiles()
    file.parent.mkdir()
    file.write_text("what a killed process left, and longer than the text that comes instead of it " * 2)
    is_locked = pausing.is_locked

    def opened_after_the_look(path):
        locked = is_locked(path)
        files.opened(pause)
        return locked

    with monkeypatch.context() as patch:
        patch.setattr(pausing, "is_locked", opened_after_the_look)
        assert paused_runs() == []
    assert paused_runs() == [pause]
    files.closed(pause)
    assert not file.exists()


def test_what_is_left_over_is_removed_by_one_at_a_time(monkeypatch, home):
    file, mutex = home / "pauses" / "r", pausing.FileLock(home / "locks" / "pauses")
    file.parent.mkdir()
    file.touch()
    assert mutex.try_acquire()
    assert paused_runs() == []
    mutex.release()
    with monkeypatch.context() as patch:
        patch.setattr(_locks, "_is_current", lambda opened, path: path != file)  # another file came to its place
        assert paused_runs() == []
    assert file.exists()
    assert paused_runs() == []
    assert not file.exists()
    _locks.remove_if_free(file)


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
