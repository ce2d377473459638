"""The reporters that need nothing but this process."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from levada.engine.reporter import (
    ConsoleReporter,
    FileReporter,
    MemoryReporter,
    NullReporter,
    TaskReport,
    TeeReporter,
    default_reporter,
)
from levada.resources.phases import RunPhase, TaskState

T0 = datetime(2026, 1, 1, tzinfo=UTC)
REPORT = TaskReport("train-0", "train", TaskState.RUNNING, 2, T0, None, "again", False, ("load-0",))


def test_a_file_has_a_line_for_each_change(tmp_path):
    path = tmp_path / "deep" / "report.jsonl"
    reporter = FileReporter(path)
    reporter.task_changed(REPORT)
    reporter.flow_changed(RunPhase.COMPLETED, "é")
    reporter.artifact_created(type("Artifact", (), {"key": "report", "type": "markdown"}))
    reporter.close()
    reporter.close()
    reporter.flow_changed(RunPhase.FAILED, "")  # opens it again
    reporter.close()
    first, second, third, fourth = map(json.loads, path.read_text().splitlines())
    assert first == {
        "kind": "task",
        "id": "train-0",
        "name": "train",
        "state": "Running",
        "attempt": 2,
        "start_time": "2026-01-01T00:00:00+00:00",
        "end_time": None,
        "message": "again",
        "cached": False,
        "upstream": ["load-0"],
        "persisted": False,
        "parent": "",
    }
    assert second == {"kind": "flow", "phase": "Completed", "message": "é"}
    assert third == {"kind": "artifact", "key": "report", "type": "markdown"}
    assert fourth["phase"] == "Failed"


def test_the_console_has_a_line_for_each_change(capsys):
    reporter = ConsoleReporter()
    reporter.task_changed(REPORT)
    reporter.task_changed(TaskReport("a-0", "a", TaskState.COMPLETED, 0, T0, T0, cached=True))
    reporter.flow_changed(RunPhase.RUNNING, "")
    assert capsys.readouterr().err.splitlines() == [
        "train-0: Running (attempt 2): again",
        "a-0: Completed, cached",
        "run: Running",
    ]


def test_several_are_told_and_nobody_is():
    first, second = MemoryReporter(), MemoryReporter()
    tee = TeeReporter(first, second, NullReporter())
    tee.task_changed(REPORT)
    tee.flow_changed(RunPhase.RUNNING, "m")
    tee.artifact_created(None)
    assert first.tasks == second.tasks == [REPORT]
    assert first.phases == second.phases == [(RunPhase.RUNNING, "m")]


@pytest.mark.parametrize(("value", "kind"), [("", type(None)), ("console", ConsoleReporter), ("r.jsonl", FileReporter)])
def test_the_variable_chooses(monkeypatch, value, kind):
    monkeypatch.setenv("LEVADA_REPORT", value)
    assert type(default_reporter()) is kind


def test_nothing_is_lost_when_the_process_is_killed(tmp_path):
    program = """
import os, signal
from levada import flow, task
@task
def t(i):
    if i == 3:
        os.kill(os.getpid(), signal.SIGKILL)
@flow
def f():
    for i in range(5):
        t(i)
f()
"""
    path = tmp_path / "r.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "LEVADA_REPORT": str(path)}, capture_output=True
    )
    assert done.returncode == -9
    said = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["id"], line["state"]) for line in said if line["kind"] == "task"] == [
        (f"t-{i}", state) for i in range(4) for state in ("Running", "Completed") if (i, state) != (3, "Completed")
    ]
