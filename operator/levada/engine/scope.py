"""What all runs of one root run share: the reporter, the ids of task runs, the counts, the threads."""

import logging
import os
from typing import TYPE_CHECKING

from levada.engine.reporter import NullReporter, Reporter, TaskReport
from levada.engine.tracebacks import summary
from levada.logging import emit
from levada.resources.phases import RunPhase, TaskState

if TYPE_CHECKING:
    from levada.engine.resuming import Resume
    from levada.engine.run import FlowRun
    from levada.engine.tracing import Trail


class Scope:
    """One root run and everything below it."""

    __slots__ = (
        "_key",
        "_mute",
        "_warned",
        "alike",
        "completed",
        "failed",
        "flow_runs",
        "indexes",
        "name",
        "reporter",
        "resume",
        "total",
        "trail",
    )

    def __init__(
        self,
        name: str,
        reporter: Reporter | None = None,
        resume: "Resume | None" = None,
        trail: "Trail | None" = None,
    ) -> None:
        self.name = name
        self.trail = trail  # the spans of the run, where somebody traces it
        self.reporter: Reporter = reporter if reporter is not None else NullReporter()
        self._mute = reporter is None or type(reporter) is NullReporter
        self._warned = False
        self._key = ""
        self.resume = resume
        self.flow_runs: list[FlowRun] = []
        self.reset()

    def reset(self) -> None:
        """Start counting again: a flow that is tried again gives its task runs the same ids as before."""
        self.indexes: dict[str, int] = {}
        self.alike: dict[str, int] = {}  # how many calls of one task with one set of arguments there were
        self.total = 0
        self.completed = 0
        self.failed = 0

    @property
    def key(self) -> str:
        """For what is kept about runs outside of any flow: a name that no other process has."""
        if not self._key:
            self._key = f"{self.name}-{os.urandom(4).hex()}"
        return self._key

    @property
    def persists(self) -> bool:
        """Whether results of runs outside of any flow are kept."""
        from levada.settings import persist_results

        return persist_results()

    def next_id(self, slug: str) -> str:
        """A new id for a task of this name. Called under the lock."""
        index = self.indexes.get(slug, 0)
        self.indexes[slug] = index + 1
        self.total += 1
        return f"{slug}-{index}"

    def count(self, state: TaskState) -> None:
        """Count a task run that has ended. Called under the lock."""
        if state is TaskState.COMPLETED:
            self.completed += 1
        else:
            self.failed += 1

    @property
    def heard(self) -> bool:
        """Whether it is worth making a report."""
        return not self._mute

    def tell_task(self, report: TaskReport) -> None:
        """Report a task run. A defect of the reporter is not one of the flow."""
        try:
            self.reporter.task_changed(report)
        except Exception as error:  # noqa: BLE001  see above
            self._complain(error)

    def tell_flow(self, phase: RunPhase, message: str) -> None:
        """Report the run."""
        if self._mute:
            return
        try:
            self.reporter.flow_changed(phase, message)
        except Exception as error:  # noqa: BLE001  see tell_task
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            emit(logging.WARNING, self.name, f"the reporter failed, reports may be missing: {summary(error)}")
