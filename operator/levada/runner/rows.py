"""The board: what `status.tasks`, its counters and the summary columns should say about the tasks heard of so far.

A FlowRun is one object of at most 1.5 MB, and a flow may have a hundred thousand tasks. So the board shows at most
`limit.rows` rows of `limit.total_bytes`, the most telling first: what runs, what went wrong, what waits, then what is done and fine,
the newest of it. What is done and fine and no longer shown is folded into the counters, which are always exact, and forgotten
but for its id and state. Pure bookkeeping: no clock, no lock, no I/O.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from levada.engine.reporter import TaskReport
from levada.resources.names import MAX_MESSAGE_CHARS, MAX_TASK_ROWS, MAX_TASK_ROWS_BYTES
from levada.resources.phases import TERMINAL_TASK_STATES, TaskState
from levada.runner.text import bounded, time_text

Row = dict[str, Any]

MAX_UPSTREAM: Final = 256
MAX_NAME_CHARS: Final = 256
_FINE: Final = (TaskState.COMPLETED, TaskState.SKIPPED)
_SHOWN_FIRST: Final = (
    TaskState.RUNNING,
    TaskState.RETRYING,
    TaskState.FAILED,
    TaskState.CRASHED,
    TaskState.CANCELLED,
    TaskState.PENDING,
)


@dataclass(frozen=True, slots=True)
class Limit:
    """How much of the FlowRun the rows may take."""

    rows: int = MAX_TASK_ROWS
    total_bytes: int = MAX_TASK_ROWS_BYTES


class Board:
    """The tasks of one run. `on_fold(id, row)` is told the last row of each task that is folded."""

    def __init__(self, on_fold: Callable[[str, Row], None] | None = None) -> None:
        self._on_fold = on_fold
        # By state, in the order in which they came to it. Folded tasks are in none of these.
        self._reports: dict[TaskState, dict[str, TaskReport]] = {state: {} for state in TaskState}
        self._state_of: dict[str, TaskState] = {}
        self._cached: set[str] = set()
        self._persisted: set[str] = set()
        self._counts: dict[TaskState, int] = dict.fromkeys(TaskState, 0)
        # A row is made and measured once per report, not once per patch.
        self._made: dict[str, tuple[TaskReport, Row, int]] = {}

    def __len__(self) -> int:
        return len(self._state_of)

    def apply(self, report: TaskReport) -> None:
        """Note the newest report of a task. A folded task that starts again comes back."""
        old = self._state_of.get(report.id)
        if old is not None:
            self._counts[old] -= 1
            self._reports[old].pop(report.id, None)
        self._counts[report.state] += 1
        self._state_of[report.id] = report.state
        self._reports[report.state][report.id] = report
        for ids, said in ((self._cached, report.cached), (self._persisted, report.persisted)):
            if said:
                ids.add(report.id)
            else:
                ids.discard(report.id)

    def status(self, limit: Limit) -> dict[str, Any]:
        """Return the standing fields of the status, and fold what they no longer show."""
        rows = self._rows(limit)
        return {
            "tasks": rows,
            "truncatedTasks": len(self) - len(rows),
            "taskCounts": self.counts(),
            "progress": self.progress,
            "currentTask": self.current_task(),
        }

    @property
    def progress(self) -> str | None:
        """Tasks done of tasks known, or None as long as there are none."""
        finished = sum(self._counts[state] for state in TERMINAL_TASK_STATES)
        return f"{finished}/{len(self)}" if len(self) else None

    def counts(self) -> dict[str, int]:
        """Every task once, by its state; `cached` and `persisted` are of the completed ones."""
        by_state = {state.value.lower(): number for state, number in self._counts.items()}
        return {"total": len(self), **by_state, "cached": len(self._cached), "persisted": len(self._persisted)}

    def current_task(self) -> str | None:
        """Return the task that started last of those that run, and how many run beside it."""
        running = self._reports[TaskState.RUNNING] or self._reports[TaskState.RETRYING]
        if not running:
            return None
        name = bounded(next(reversed(running.values())).name, MAX_NAME_CHARS - 8)
        return name if len(running) == 1 else f"{name} +{len(running) - 1}"

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Every task that is not folded, and its row."""
        for reports in self._reports.values():
            for report in reports.values():
                yield report.id, self._row(report)[0]

    def _rows(self, limit: Limit) -> dict[str, Row]:
        rows: dict[str, Row] = {}
        room = limit.total_bytes
        for report in self._by_importance():
            row, size = self._row(report)
            if len(rows) >= limit.rows or size > room:
                break
            rows[report.id] = row
            room -= size
        self._fold(rows)
        return rows

    def _by_importance(self) -> Iterator[TaskReport]:
        for state in _SHOWN_FIRST:
            yield from self._reports[state].values()
        for state in _FINE:
            yield from reversed(self._reports[state].values())

    def _row(self, report: TaskReport) -> tuple[Row, int]:
        made = self._made.get(report.id)
        if made is None or made[0] is not report:
            row = row_of(report)
            made = (report, row, len(report.id) + len(json.dumps(row)) + 6)
            self._made[report.id] = made
        return made[1], made[2]

    def _fold(self, shown: dict[str, Row]) -> None:
        for state in _FINE:
            reports = self._reports[state]
            for task_id in [task_id for task_id in reports if task_id not in shown]:
                if self._on_fold is not None:
                    self._on_fold(task_id, self._row(reports[task_id])[0])
                del reports[task_id]
                self._made.pop(task_id, None)


def row_of(report: TaskReport) -> Row:
    """Return the row of `status.tasks` that says what the report says. None stands for a field that is not there."""
    return {
        "name": bounded(report.name, MAX_NAME_CHARS),
        "state": report.state.value,
        "attempt": report.attempt,
        "startTime": time_text(report.start_time),
        "endTime": time_text(report.end_time),
        "message": bounded(report.message, MAX_MESSAGE_CHARS) or None,
        "cached": report.cached or None,
        "persisted": report.persisted or None,
        "upstream": list(report.upstream[:MAX_UPSTREAM]) or None,
    }
