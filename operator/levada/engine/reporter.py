"""How a run tells the world what happens to it: one small interface, and the reporters that need nothing else.

The runner brings its own reporter, which writes the FlowRun's status. A reporter is called under the engine's lock, in
the order in which things happened, from any thread. It must only take note: what it does about it, it does in its own
time. One that raises is reported once in the log and never harms the flow.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from levada.resources.phases import RunPhase, TaskState


@dataclass(frozen=True, slots=True)
class TaskReport:
    """One task run as it stands now. A later report of the same `id` replaces an earlier one."""

    id: str
    name: str
    state: TaskState
    attempt: int
    start_time: datetime | None
    end_time: datetime | None
    message: str = ""
    cached: bool = False
    upstream: tuple[str, ...] = ()


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
