"""Processes: the right one is found and killed, a stranger never is."""

import os
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from levada.cluster import processes
from levada.cluster.processes import ProcessIdentity, Record, identify, is_alive, marked, spawn, stop, wait_gone

SLEEP = ["/bin/sleep", "60"]


@pytest.fixture
def start(tmp_path):
    started = []

    def run(command=SLEEP, marker=None):
        identity = spawn(command, log=tmp_path / "log", marker=marker or secrets.token_hex(8))
        started.append(identity)
        return identity

    yield run
    for identity in started:
        processes.send(identity, signal.SIGKILL)
        wait_gone(identity, 5)


def test_spawned_process_is_alive_until_it_is_stopped(start):
    identity = start()
    assert is_alive(identity)
    stop(identity, grace_seconds=5)
    assert not is_alive(identity)


def test_process_has_a_session_of_its_own(start):
    identity = start()
    assert os.getsid(identity.pid) == identity.pid


def test_killed_child_leaves_no_zombie(start):
    identity = start()
    os.kill(identity.pid, signal.SIGKILL)
    assert wait_gone(identity, 5)
    with pytest.raises(ProcessLookupError):
        os.kill(identity.pid, 0)


def test_zombie_of_another_parent_counts_as_dead():
    with subprocess.Popen(["/bin/true"]) as child:
        identity = identify(child.pid)
        deadline = time.monotonic() + 5
        while (state := processes._stat(child.pid)) and state[0] != "Z" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert state is None or state[0] == "Z"
        assert identity is None or not is_alive(identity)


@pytest.mark.parametrize("other", [{"start_ticks": 1}, {"boot_id": "another"}])
def test_reused_pid_is_another_process(start, other):
    """The pid is alive, but it is not the process that was recorded."""
    identity = start()
    stranger = replace(identity, **other)
    assert not is_alive(stranger)
    stop(stranger, grace_seconds=0.2)
    assert is_alive(identity)


def test_signal_to_a_dead_process_is_no_error():
    processes.send(ProcessIdentity(2**22 - 1, 1, processes.boot_id()), signal.SIGTERM)


def test_stubborn_process_is_killed_after_its_grace(start, tmp_path):
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    )
    identity = start([sys.executable, "-c", code])
    deadline = time.monotonic() + 10
    while "ready" not in (tmp_path / "log").read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    stop(identity, grace_seconds=0.1)
    assert not is_alive(identity)


def test_marked_finds_a_process_without_record(start):
    marker = secrets.token_hex(8)
    identity = start(marker=marker)
    start()
    assert list(marked(marker)) == [identity]
    assert list(marked(marker[:-1])) == []


def test_proxies_and_other_settings_are_not_inherited(start, monkeypatch, tmp_path):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    identity = start(["/usr/bin/env"])
    assert wait_gone(identity, 5)
    text = (tmp_path / "log").read_text()
    assert "PROXY" not in text
    assert f"{processes.MARKER}=" in text


def test_spawned_process_does_not_ignore_what_python_ignores(start, tmp_path):
    assert signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN
    assert wait_gone(start(["/bin/grep", "SigIgn", "/proc/self/status"]), 5)
    ignored = int((tmp_path / "log").read_text().split()[1], 16)
    assert not [number for number in (signal.SIGPIPE, signal.SIGXFSZ) if ignored >> (number - 1) & 1]


def test_record_survives_its_file(tmp_path):
    record = Record(ProcessIdentity(7, 8, "boot"), "abc", 1.5)
    processes.save_record(tmp_path / "r.json", record)
    assert processes.load_record(tmp_path / "r.json") == record


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"identity": {"pid": 1}}', "null"])
def test_damaged_record_counts_as_none(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    assert processes.load_record(tmp_path / "r.json") is None


def test_missing_program_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        spawn(["/nonexistent"], log=tmp_path / "log", marker="x")
