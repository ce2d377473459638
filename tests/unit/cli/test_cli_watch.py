"""`levada runs watch`: the picture on a recorded console and on a real terminal, and the lines in a pipe."""

import asyncio
import io
import json
import os
import pty
import queue
import re
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from rich.console import Console
from rich.spinner import Spinner

from levada.cli import watch
from levada.kube.watch import WatchEvent
from support.shown_runs import COMPLETED, CRASHED, NOW, RUNNING, UNSEEN, a_row, a_run, check_frozen, rendered

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
QUEUED = a_run(phase="Queued", reason="QueueLimit", message="queue big runs 2 of 2", attempt=2, progress="1/3")
PATIENCE_SECONDS = 30


def many_tasks():
    rows = {f"load-{n:02}": a_row("load", "Completed", f"00:{n:02}", f"01:{n:02}") for n in range(30)}
    rows |= {"slow-0": a_row("slow", "Running", "00:00"), "bad-0": a_row("bad", "Failed", "00:01", "00:02")}
    rows |= {"late-0": a_row("late", "Pending", attempt=0)}
    return a_run(
        phase="Running", startTime="2026-03-01T12:00:00Z", progress="31/40", tasks=rows, truncatedTasks=7,
        stages={"queuedSeconds": 0.05, "waitSeconds": 1.2},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "run"),
    [("running", RUNNING), ("queued", QUEUED), ("many", many_tasks()), ("unseen", UNSEEN), ("crashed", CRASHED)],
)
def test_frames_are_as_frozen(name, run):
    check_frozen(f"watch_{name}", rendered(watch.frame(run, NOW, Spinner("dots"), 20), 100))


@pytest.mark.parametrize("height", [1, 10, 24, 50])
def test_a_frame_fits_its_screen(height):
    lines = rendered(watch.frame(many_tasks(), NOW, Spinner("dots"), height), 100).splitlines()
    assert len(lines) < max(height, watch.OTHER_LINES + 1)


def test_what_fails_and_goes_is_shown_first():
    assert list(watch.most_urgent(many_tasks()["status"]["tasks"], 3)) == ["bad-0", "slow-0", "load-29"]


class Screen(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self):
        return True


def terminal(file=None, **options):
    return Console(file=file or Screen(), force_terminal=True, width=100, height=30, **options)


def test_where_a_picture_moves():
    assert watch.is_live(terminal())
    assert not watch.is_live(terminal(io.StringIO()))  # FORCE_COLOR in a pipe
    assert not watch.is_live(terminal(_environ={"TERM": "dumb"}))


class Cluster:
    """A run that goes through what it is given."""

    def __init__(self, *steps):
        self.first, *self.later = [{**step, "metadata": {**step["metadata"], "resourceVersion": "1"}} for step in steps]

    async def get(self, _kind, _name, _namespace):
        return self.first

    async def watch(self, _kind, _namespace, **_options):
        for each in self.later:
            await asyncio.sleep(0)
            yield WatchEvent("MODIFIED", each)
        if not self.later:
            await asyncio.Event().wait()


def test_the_picture_ends_as_the_page_of_the_run(monkeypatch):
    console = terminal(record=True)
    monkeypatch.setattr(watch, "make_console", lambda: console)
    assert asyncio.run(watch.watch_run(Cluster(QUEUED, RUNNING, CRASHED), "etl-x7k2p", "team")) == "Crashed"
    written = console.file.getvalue()
    assert "\x1b[?25l" in written
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")  # the cursor is there again
    plain = ANSI.sub("", written)
    assert plain.rstrip().endswith("or load less at once.")
    assert "What went wrong: OutOfMemory" in plain


def test_in_a_pipe_there_is_a_line_for_each_change(monkeypatch, capsys):
    monkeypatch.setattr(watch, "make_console", lambda: Console(file=io.StringIO()))
    assert asyncio.run(watch.watch_run(Cluster(QUEUED, RUNNING, RUNNING, COMPLETED), "r", "team")) == "Completed"
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == [
        "Queued  1/3  QueueLimit: queue big runs 2 of 2",
        "Running  1/2  greet-1",
        "Completed  3/3  result 6.675",
    ]


class Served:
    """An API server with one run, which changes when the test says so."""

    def __init__(self):
        self.changes = queue.Queue()
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                if "watch=1" not in self.path:
                    self.wfile.write(json.dumps(_versioned(RUNNING)).encode())
                    return
                while (run := served.changes.get()) is not None:
                    self.wfile.write(json.dumps({"type": "MODIFIED", "object": _versioned(run)}).encode() + b"\n")

            def log_message(self, *_arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.changes.put(None)
        self.server.shutdown()
        self.server.server_close()


def _versioned(run):
    return {**run, "metadata": {**run["metadata"], "resourceVersion": "1"}}


@pytest.fixture
def served(tmp_path):
    """A cluster, and the environment of a command that talks to it."""
    api = Served()
    named = {"cluster": {"server": f"http://127.0.0.1:{api.server.server_port}"}, "name": "c"}
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [named], "users": [{"name": "c", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c", "namespace": "team"}}],
    }  # fmt: skip
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    yield (
        api,
        {**os.environ, "KUBECONFIG": str(tmp_path / "kubeconfig"), "TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
    )
    api.close()


class Terminal:
    """A command on a terminal of its own, and what it has written there."""

    def __init__(self, arguments, environment):
        self._screen, ours = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "levada.cli", *arguments], stdin=ours, stdout=ours, stderr=ours, env=environment, start_new_session=True
        )  # fmt: skip
        os.close(ours)
        self.written = ""

    def until(self, text):
        """Read until the text is there; None reads until the command has closed the terminal."""
        while text is None or text not in ANSI.sub("", self.written):
            try:
                part = os.read(self._screen, 65536)
            except OSError:  # Linux: the other end is closed
                part = b""
            if not part:
                assert text is None, f"{text!r} never came: {self.written!r}"
                os.close(self._screen)
                return
            self.written += part.decode(errors="replace")


@pytest.mark.timeout(PATIENCE_SECONDS)
def test_on_a_real_terminal(served):
    api, environment = served
    screen = Terminal(["runs", "watch", RUNNING["metadata"]["name"]], environment)
    screen.until("1 of 2 tasks")
    api.changes.put(CRASHED)
    screen.until(None)
    assert screen.process.wait() == 1
    assert ANSI.sub("", screen.written).rstrip().endswith("or load less at once.")
    assert screen.written.rindex("\x1b[?25h") > screen.written.rindex("\x1b[?25l")


@pytest.mark.timeout(PATIENCE_SECONDS)
@pytest.mark.parametrize(("sent", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_leaves_the_last_picture_and_a_whole_terminal(served, sent, exit_code):
    _, environment = served
    screen = Terminal(["runs", "watch", "hello-9qw4z"], environment)
    screen.until("1 of 2 tasks")
    screen.process.send_signal(sent)
    screen.until(None)
    assert screen.process.wait() == exit_code  # of a process that SIGTERM has ended the shell says 143
    plain = ANSI.sub("", screen.written)
    assert plain.rstrip().endswith("`levada runs cancel hello-9qw4z` stops it")
    assert "Traceback" not in plain
    assert screen.written.rindex("\x1b[?25h") > screen.written.rindex("\x1b[?25l")
