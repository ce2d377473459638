"""Pausing and resuming, between processes and in a terminal."""

import os
import signal
import subprocess

import pytest

from levada import flow, pausing
from levada.exceptions import OptionError
from levada.pausing import Answer, Pause, pause_flow_run, paused_runs, resume_flow_run
from support.processes import python, until


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path))
    return tmp_path


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
    return python("-c", PROGRAM.format(wanted=wanted), stdout=subprocess.PIPE, **options)


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
        process.wait(timeout=20)
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


# Terminals.
@pytest.fixture
def pair():
    """A pseudo-terminal: the side of who types, and that of the program."""
    keyboard, terminal = os.openpty()
    yield keyboard, terminal
    os.close(keyboard)
    os.close(terminal)


def start_in_front(terminal, wanted):
    """The flow as the foreground program of a terminal that it has to itself."""
    program = "import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n" + PROGRAM.format(wanted=wanted)
    return python(
        "-c", program, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


@pytest.mark.parametrize(
    ("wanted", "typed", "expected"),
    [("None", b"\n", "None"), ("str", b"hello there\n", "hello there"), ("int", b"abc\n5\n", "5")],
)
def test_a_line_in_the_terminal_resumes_it(pair, wanted, typed, expected):
    """A real pseudo-terminal, of which the flow is the foreground program."""
    keyboard, terminal = pair
    with start_in_front(terminal, wanted) as process:
        until(paused_runs)
        os.write(keyboard, typed)
        out = process.communicate(timeout=20)[0]
    assert f"got {expected}\n" in out
    assert "and so does " in out
    assert ("Still paused" in out) == (wanted == "int")


def test_what_is_typed_once_the_pause_can_be_seen_is_its_answer(pair, monkeypatch):
    """And not what was typed before."""
    keyboard, terminal = pair

    class Quick(pausing.PauseFiles):
        def opened(self, pause):
            super().opened(pause)
            os.write(keyboard, b"in time\n")

    @flow
    def f():
        os.write(keyboard, b"too early\n")
        return pause_flow_run(wait_for_input=str, poll_interval=0.01, timeout=10)

    monkeypatch.setattr(pausing, "_provider", Quick())
    monkeypatch.setattr(pausing, "_terminal", lambda: terminal)
    monkeypatch.setattr(pausing, "_is_in_front", lambda descriptor: descriptor == terminal)
    assert f() == "in time"


def test_a_program_in_the_background_leaves_the_lines_to_others(pair, monkeypatch):
    keyboard, terminal = pair
    os.write(keyboard, b"ls\n")
    monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp() + 1)
    assert pausing._typed(terminal, Pause("r", "r", None, "str")) is None
    monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp())
    assert pausing._typed(terminal, Pause("r", "r", None, "str")) == Answer("ls")


def test_a_terminal_of_somebody_else_or_that_hung_up(pair):
    assert not pausing._is_in_front(pair[1])


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
def test_what_is_typed(pair, monkeypatch, wanted, typed, expected):
    keyboard, terminal = pair
    monkeypatch.setattr(pausing, "_is_in_front", lambda descriptor: descriptor == terminal)
    os.write(keyboard, b"too early\n")
    pausing._forget_typed(terminal)
    assert pausing._typed(terminal, Pause("r", "r", None, wanted)) is None
    os.write(keyboard, typed)
    assert pausing._typed(terminal, Pause("r", "r", None, wanted)) == expected


def test_a_stdin_that_is_no_file(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    assert pausing._terminal() is None
