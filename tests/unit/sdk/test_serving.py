"""Served deployments: real processes by a real clock where it matters, and a made-up clock where it does not."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from levada import _local_run, serving
from levada._loading import load_flow
from levada.deployments import to_deployment
from levada.exceptions import DeploymentError, OptionError
from levada.filesystems import LocalFileSystem
from levada.infrastructure import Process
from levada.schedules import Cron

pytestmark = pytest.mark.timeout(60)

FLOW = """
import os, time
from pathlib import Path
from levada import flow

def gone(flow, run, state):
    Path("hook").write_text(state.name)

@flow(on_cancellation=[gone])
def notes(text: str = "x", seconds: float = 0):
    with Path("notes").open("a") as file:
        file.write(f"{text} {os.environ.get('STAGE')}\\n")
    time.sleep(seconds)

if __name__ == "__main__":
    notes.serve("notes", interval=1, parameters={"text": "tick"}, limit=2)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("STAGE", raising=False)
    (tmp_path / "served_flow.py").write_text(FLOW)
    return tmp_path


@pytest.fixture
def flow(folder):
    path, modules = list(sys.path), set(sys.modules)
    yield load_flow("served_flow.py:notes", folder)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.endswith("served_flow"):
            del sys.modules[name]


def wait_for(file, lines, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if file.exists() and len(file.read_text().splitlines()) >= lines:
            return file.read_text().splitlines()
        time.sleep(0.05)
    raise AssertionError(f"{file} has not {lines} lines")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_served_file_starts_runs_until_it_is_told_to_stop(folder, signum):
    server = subprocess.Popen([sys.executable, "served_flow.py"], cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        assert set(wait_for(folder / "notes", 2)) == {"tick None"}
        server.send_signal(signum)
        out, _ = server.communicate(timeout=15)
    finally:
        server.kill()
    assert server.returncode == 0
    assert out.startswith("serving 'notes' of flow 'notes'; next run: 20")


def test_stopping_asks_the_runs_to_stop_and_their_hooks_run(folder):
    text = FLOW.replace('{"text": "tick"}', '{"text": "tick", "seconds": 30}').replace("limit=2", "limit=1")
    (folder / "served_flow.py").write_text(text)
    server = subprocess.Popen([sys.executable, "served_flow.py"], cwd=folder, stdout=subprocess.DEVNULL)
    try:
        wait_for(folder / "notes", 1)
        time.sleep(1.2)  # the next tick waits, because of the limit
        server.send_signal(signal.SIGINT)
        server.wait(timeout=15)
    finally:
        server.kill()
    assert (folder / "hook").read_text() == "Cancelled"
    assert (folder / "notes").read_text() == "tick None\n"


class Clock:
    def __init__(self):
        self.now = datetime(2026, 1, 1, 5, 59, tzinfo=UTC)

    def __call__(self):
        return self.now


@pytest.fixture
def started(monkeypatch):
    """What was started, instead of processes."""
    found = []

    class Run:
        def __init__(self, deployment, schedule):
            self.code = None
            found.append((deployment.name, schedule.slug, self))

        def poll(self):
            return self.code

    monkeypatch.setattr(serving, "start", Run)
    return found


def test_ticks_that_were_slept_through_are_one_run(flow, started):
    clock = Clock()
    server = serving.Server((to_deployment(flow, "a", cron="0 * * * *"),), now=clock)
    server.step()
    assert started == []
    clock.now += timedelta(hours=5)
    server.step()
    server.step()
    assert len(started) == 1
    clock.now += timedelta(hours=1)
    server.step()
    assert len(started) == 2


def test_the_limit_lets_runs_wait(flow, started):
    clock = Clock()
    made = to_deployment(flow, "a", schedules=[Cron("0 6 * * *", slug="one"), Cron("0 6 * * *", slug="two")])
    server = serving.Server((made,), 1, now=clock)
    clock.now += timedelta(minutes=1)
    server.step()
    assert [slug for _, slug, _ in started] == ["one"]
    server.step()
    assert len(started) == 1
    started[0][2].code = 0
    server.step()
    assert [slug for _, slug, _ in started] == ["one", "two"]


def test_what_sleeps_starts_nothing_and_an_empty_server_ends(flow, started):
    sleeping = [
        to_deployment(flow, "a", cron="* * * * *", paused=True),
        to_deployment(flow, "b", cron="* * * * *", is_schedule_active=False),
        to_deployment(flow, "c", schedules=[Cron("* * * * *", active=False)]),
        to_deployment(flow, "d", rrule="DTSTART:20200101\nRRULE:FREQ=DAILY;COUNT=1"),
    ]
    serving.serve(*sleeping)
    assert started == []


def test_the_place_of_a_run(flow, folder):
    (folder / "elsewhere").mkdir()
    place = Process(env={"STAGE": "prod"}, working_dir=str(folder / "elsewhere"))
    made = to_deployment(flow, "a", schedules=[Cron("* * * * *", parameters={"text": "mine"})], infrastructure=place)
    run = serving.start(made, made.schedules[0])
    assert run.wait(timeout=30) == 0
    assert (folder / "elsewhere" / "notes").read_text() == "mine prod\n"


def test_a_run_that_does_not_stop_is_killed(flow, folder, monkeypatch):
    monkeypatch.setattr(serving, "STOP_SECONDS", 0.2)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert run.stdout.readline() == b"1\n"
    server = serving.Server(())
    server._running.append(run)
    server._end()
    assert run.returncode == -signal.SIGKILL
    run.stdout.close()


def test_elsewhere_than_in_the_main_thread_signals_are_left_alone(flow):
    from threading import Thread

    before = signal.getsignal(signal.SIGTERM)
    server = serving.Server(())
    thread = Thread(target=server.run)
    thread.start()
    thread.join(10)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("serve", "error", "words"),
    [
        (lambda flow: serving.serve(), DeploymentError, "nothing to serve"),
        (lambda flow: serving.serve(flow), DeploymentError, "is no deployment"),
        (lambda flow: serving.serve_flow(flow, "a"), DeploymentError, "has no schedule"),
        (lambda flow: serving.serve_flow(flow, "a", cron="* * * * *", limit=0), OptionError, "limit=0"),
    ],
)
def test_what_cannot_be_served(flow, serve, error, words):
    with pytest.raises(error, match=words):
        serve(flow)


def test_a_served_run_does_not_serve_again(flow, monkeypatch):
    monkeypatch.setenv("LEVADA_SERVED_RUN", "1")
    serving.serve_flow(flow, "a")  # would be refused otherwise


def served_run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "levada._local_run", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_the_process_of_a_run(folder):
    assert served_run("served_flow.py:notes", json.dumps({"text": "a"}), cwd=folder).returncode == 0
    failed = served_run("served_flow.py:notes", '{"seconds": "long"}', "--prefect", cwd=folder)
    assert failed.returncode == 1
    assert "'seconds'" in failed.stderr
    missing = served_run("served_flow.py:nothing", "{}", cwd=folder)
    assert missing.returncode == 1
    assert missing.stderr.startswith("error: served_flow.py has no flow `nothing`")
    assert served_run("served_flow.py:notes", cwd=folder).returncode == 2


def test_flows_by_module(folder, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    package = folder / "served_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text(FLOW)
    (package / "broken.py").write_text("1 / 0")
    (package / "bad").mkdir()
    (package / "bad" / "__init__.py").write_text("raise ValueError('no')")
    assert _local_run.find_flow("served_package.inner:notes").name == "notes"
    for entrypoint, words in {
        "served_package.inner:other": "Flows in this file: notes",
        "served_package.nothing:x": "no module 'served_package.nothing'",
        "nothing_at_all.inner:x": "no module 'nothing_at_all.inner'",
        "served_package.broken:x": "ZeroDivisionError",
        "served_package.bad.inner:x": "ValueError",
        ":x": "path.py:function",
    }.items():
        with pytest.raises(Exception, match=words) as raised:
            _local_run.find_flow(entrypoint)
        assert type(raised.value).__name__ == "CodeError"
    for name in [name for name in sys.modules if name.startswith("served_package")]:
        monkeypatch.delitem(sys.modules, name)


def test_from_a_folder_a_block_and_a_repository(folder, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.endswith("served_flow")]:
        monkeypatch.delitem(sys.modules, name)
    code = folder / "code"
    code.mkdir()
    (code / "served_flow.py").write_text(FLOW)
    assert serving.from_source(code, "served_flow.py:notes").name == "notes"
    assert serving.from_source(str(code), "served_flow.py:notes").name == "notes"
    block = LocalFileSystem(basepath=str(code))
    assert serving.from_source(block, "served_flow.py:notes").name == "notes"
    script = """
        git init -q . && git add served_flow.py
        git -c user.name=a -c user.email=a@example.com commit -q -m one
    """
    subprocess.run(["sh", "-ec", textwrap.dedent(script)], cwd=code, check=True, env=os.environ)
    assert serving.from_source(f"file://{code}", "served_flow.py:notes").name == "notes"


@pytest.mark.parametrize(
    ("source", "entrypoint", "words"),
    [
        ("nowhere", "a.py:b", "no folder 'nowhere'"),
        (5, "a.py:b", "5 is no place of code"),
        (Path(__file__).parent, "nothing.py:b", "cannot be loaded"),
    ],
)
def test_from_nowhere(source, entrypoint, words):
    with pytest.raises(DeploymentError, match=words):
        serving.from_source(source, entrypoint)
