"""How a run tells the world what happens to it: one small interface, and the reporters that need nothing else.

The runner brings its own reporter, which writes the FlowRun's status; a flow that is called by a script may have one by the
variable LEVADA_REPORT: `console`, or the path of a file for JSON lines. A reporter is called under the engine's lock, in
the order in which things happened, from any thread. It must only take note: what it does about it, it does in its own
time. One that raises is reported once in the log and never harms the flow.
"""

import os
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

from levada.resources.phases import RunPhase, TaskState


@dataclass(frozen=True, slots=True)
class TaskReport:
    """One task run as it stands now. A later report of the same `id` replaces an earlier one.

    `parent`: the id of the subflow that it is part of; empty: of the run itself.
    """

    id: str
    name: str
    state: TaskState
    attempt: int
    start_time: datetime | None
    end_time: datetime | None
    message: str = ""
    cached: bool = False
    upstream: tuple[str, ...] = ()
    persisted: bool = False
    parent: str = ""


class Reporter(Protocol):
    """Takes note of what happens to a run.

    A flow that is retried inside the process stays Running: `message` says which attempt it is. Its task runs start
    again with the same ids, so their reports begin again with Pending.
    """

    def task_changed(self, report: TaskReport) -> None:
        """A task run, or a subflow, is now as the report says."""

    def flow_changed(self, phase: RunPhase, message: str) -> None:
        """The run itself is now in this phase. The terminal phase comes last."""


class NullReporter:
    """Tells nobody."""

    def task_changed(self, report: TaskReport) -> None:
        """Ignore it."""

    def flow_changed(self, phase: RunPhase, message: str) -> None:
        """Ignore it."""


class MemoryReporter:
    """Keeps everything, in order: for tests and for looking at a run afterwards."""

    def __init__(self) -> None:
        self.tasks: list[TaskReport] = []
        self.phases: list[tuple[RunPhase, str]] = []

    def task_changed(self, report: TaskReport) -> None:
        """Keep it."""
        self.tasks.append(report)

    def flow_changed(self, phase: RunPhase, message: str) -> None:
        """Keep it."""
        self.phases.append((phase, message))

    @property
    def last(self) -> dict[str, TaskReport]:
        """The latest report of each task run."""
        return {report.id: report for report in self.tasks}


class TeeReporter:
    """Tells several reporters, one after the other."""

    def __init__(self, *reporters: Reporter) -> None:
        self.reporters = reporters

    def task_changed(self, report: TaskReport) -> None:
        """Tell them all."""
        for reporter in self.reporters:
            reporter.task_changed(report)

    def flow_changed(self, phase: RunPhase, message: str) -> None:
        """Tell them all."""
        for reporter in self.reporters:
            reporter.flow_changed(phase, message)

    def artifact_created(self, artifact: Any) -> None:
        """Tell those who listen to it."""
        for reporter in self.reporters:
            told = getattr(reporter, "artifact_created", None)
            if told is not None:
                told(artifact)


class FileReporter:
    """Appends each change to a file, one JSON object a line, as it happens.

    A line is handed to the operating system at once, so it is there even if the process is killed at the next moment.
    """

    def __init__(self, path: "str | Path") -> None:
        self.path = Path(path)
        self._descriptor = -1

    def task_changed(self, report: TaskReport) -> None:
        """Write it down."""
        said = {name: getattr(report, name) for name in _TASK_FIELDS}
        self._write({"kind": "task", **{name: _plain(value) for name, value in said.items()}})

    def flow_changed(self, phase: RunPhase, message: str) -> None:
        """Write it down."""
        self._write({"kind": "flow", "phase": phase.value, "message": message})

    def artifact_created(self, artifact: Any) -> None:
        """Write down that there is one, and where."""
        self._write(
            {"kind": "artifact", "key": getattr(artifact, "key", None), "type": getattr(artifact, "type", None)}
        )

    def _write(self, said: dict[str, Any]) -> None:
        import json

        if self._descriptor < 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        os.write(self._descriptor, json.dumps(said, ensure_ascii=False).encode(errors="replace") + b"\n")

    def close(self) -> None:
        """Let go of the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class ConsoleReporter:
    """Says each change in one line on stderr: for those who want to see every state."""

    def task_changed(self, report: TaskReport) -> None:
        """Say it."""
        attempt = f" (attempt {report.attempt})" if report.attempt > 1 else ""
        cached = ", cached" if report.cached else ""
        self._say(f"{report.id}: {report.state.value}{cached}{attempt}", report.message)

    def flow_changed(self, phase: RunPhase, message: str) -> None:
        """Say it."""
        self._say(f"run: {phase.value}", message)

    def _say(self, what: str, message: str) -> None:
        sys.stderr.write(f"{what}: {message}\n" if message else f"{what}\n")


_TASK_FIELDS: Final = tuple(TaskReport.__dataclass_fields__)
VARIABLE: Final = "LEVADA_REPORT"


def _plain(value: Any) -> Any:
    """A field of a report as JSON has it."""
    return value.isoformat() if isinstance(value, datetime) else value


def default_reporter() -> Reporter | None:
    """The reporter that LEVADA_REPORT asks for; None without it."""
    wanted = os.environ.get(VARIABLE, "")
    if not wanted:
        return None
    return ConsoleReporter() if wanted == "console" else FileReporter(wanted)
