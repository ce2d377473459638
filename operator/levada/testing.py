"""For tests of flows: a home of their own, a clock that jumps, and a record of what each task did.

```python no-run
pytest_plugins = ["levada.testing"]          # conftest.py: brings the fixture levada_harness

def test_etl(levada_harness):
    with FakeClock() as clock:
        record = run_and_record(etl, day="2026-01-31")
    assert record.states == {"extract-0": "Completed", "load-0": "Failed"}
    assert record.tasks["load-0"].attempts == 3
    assert clock.waits == [10, 20]
```
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Self

from levada.engine import clock
from levada.engine.reporter import MemoryReporter, TaskReport
from levada.exceptions import OptionError
from levada.settings import HOME_VARIABLE, PERSIST_VARIABLE, RESULTS_VARIABLE

if TYPE_CHECKING:
    from levada.artifacts import Artifact
    from levada.flows import Flow
    from levada.states import State

__all__ = ["FakeClock", "Record", "TaskRecord", "levada_test_harness", "run_and_record"]

# Settings of the user that would let a test depend on whose machine it runs on.
_HIDDEN: Final = (RESULTS_VARIABLE, PERSIST_VARIABLE, "LEVADA_BLOCK_PROVIDER", "LEVADA_REPORT")


@contextmanager
def levada_test_harness(server_startup_timeout: float | None = None) -> Iterator[Path]:
    """Give the code inside an empty home: no results, blocks, variables or limits of the user's. It is removed afterwards.

    Args:
        server_startup_timeout: accepted for Prefect's sake; there is no server.

    Yields:
        The folder.
    """
    with tempfile.TemporaryDirectory(prefix="levada-test-", ignore_cleanup_errors=True) as folder:
        before = {name: os.environ.pop(name, None) for name in (HOME_VARIABLE, *_HIDDEN)}
        os.environ[HOME_VARIABLE] = folder
        try:
            yield Path(folder)
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


class FakeClock:
    """A clock that jumps over the engine's waits: delays of retries, rates, pauses, the expiry of caches.

    As a context manager it takes the place of the real one, for the whole process. What user code sleeps is real.

    Attributes:
        waits: the waits that were jumped over, in seconds.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        if start.tzinfo is None:
            raise OptionError(f"FakeClock({start!r}): the time needs a time zone, such as tzinfo=UTC")
        self.waits: list[float] = []
        self._start = start.astimezone(UTC)
        self._passed_seconds = 0.0
        self._lock = Lock()
        self._used: list[AbstractContextManager[None]] = []

    def now(self) -> datetime:
        """The present moment, in UTC."""
        return self._start + timedelta(seconds=self._passed_seconds)

    def monotonic(self) -> float:
        """Seconds since the start."""
        return self._passed_seconds

    def skips(self, seconds: float) -> bool:
        """Jump over a wait."""
        with self._lock:
            self.waits.append(seconds)
        self.advance(seconds)
        return True

    def advance(self, seconds: float | timedelta) -> None:
        """Let time pass.

        Raises:
            OptionError: it would go back.
        """
        passed = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        if not passed >= 0:
            raise OptionError(f"FakeClock.advance({seconds!r}): time does not go back")
        with self._lock:
            self._passed_seconds += passed

    def __enter__(self) -> Self:
        used = clock.use(self)
        used.__enter__()
        self._used.append(used)
        return self

    def __exit__(self, *error: object) -> None:
        self._used.pop().__exit__(None, None, None)


class TaskRecord:
    """What one task run, or subflow, did.

    Attributes:
        id: its id, such as `train-0`.
        reports: all its reports, in order.
    """

    __slots__ = ("id", "reports")

    def __init__(self, run_id: str) -> None:
        self.id = run_id
        self.reports: list[TaskReport] = []

    @property
    def name(self) -> str:
        """The task's name."""
        return self.reports[-1].name

    @property
    def state(self) -> str:
        """How it ended, such as `Completed` or `Failed`."""
        return self.reports[-1].state

    @property
    def message(self) -> str:
        """What was said about it last."""
        return self.reports[-1].message

    @property
    def attempts(self) -> int:
        """How many tries it took."""
        return self.reports[-1].attempt

    @property
    def cached(self) -> bool:
        """Whether its result was there already."""
        return self.reports[-1].cached

    @property
    def upstream(self) -> tuple[str, ...]:
        """The ids of the runs that it waited for."""
        return self.reports[-1].upstream

    @property
    def history(self) -> list[str]:
        """Its states in order, such as `["Running", "Retrying", "Running", "Completed"]`."""
        return [str(report.state) for report in self.reports]

    def __repr__(self) -> str:
        return f"<{self.id}: {' → '.join(self.history)}>"


class Record:
    """What a flow run did.

    Attributes:
        state: its final state.
        tasks: its task runs and subflows by id, in the order in which they were first heard of.
        phases: the phases of the run, with their messages.
        artifacts: the artifacts that it made.
    """

    def __init__(self, state: "State[Any]", reporter: "_Recorder") -> None:
        self.state = state
        self.phases = reporter.phases
        self.artifacts = reporter.artifacts
        self.tasks: dict[str, TaskRecord] = {}
        for report in reporter.tasks:
            self.tasks.setdefault(report.id, TaskRecord(report.id)).reports.append(report)

    @property
    def value(self) -> Any:
        """What the flow returned.

        Raises:
            BaseException: what ended it, if it did not complete.
        """
        return self.state.result()

    @property
    def states(self) -> dict[str, str]:
        """The final state of each task run."""
        return {run_id: str(task.state) for run_id, task in self.tasks.items()}

    def of(self, name: str) -> list[TaskRecord]:
        """The runs of one task, by its name.

        Raises:
            KeyError: there is none.
        """
        found = [task for task in self.tasks.values() if task.name == name]
        if not found:
            known = ", ".join(dict.fromkeys(task.name for task in self.tasks.values())) or "no task at all"
            raise KeyError(f"no task {name!r} ran; there ran {known}")
        return found

    def __repr__(self) -> str:
        return f"<Record {self.state}, {len(self.tasks)} task runs>"


class _Recorder(MemoryReporter):
    """Keeps artifacts as well."""

    def __init__(self) -> None:
        super().__init__()
        self.artifacts: list[Artifact] = []

    def artifact_created(self, artifact: "Artifact") -> None:
        """Keep it."""
        self.artifacts.append(artifact)


def run_and_record(flow: "Flow[..., Any]", /, **parameters: Any) -> Record:
    """Run a flow and keep what it and its tasks did. Does not raise what the flow raises: ask `record.value`.

    An async flow is run in an event loop of its own, so call this from a test that is not async.

    Args:
        flow: the flow.
        **parameters: its parameters.
    """
    from levada.engine.run import run_flow

    reporter = _Recorder()
    return Record(run_flow(flow, parameters, reporter=reporter), reporter)


def __getattr__(name: str) -> Any:
    """The pytest fixture, made when pytest or a conftest.py asks for it: others need no pytest."""
    if name != "levada_harness":
        raise AttributeError(f"module 'levada.testing' has no attribute {name!r}")
    import pytest

    @pytest.fixture
    def levada_harness() -> Iterator[Path]:
        """An empty home for one test; its folder."""
        with levada_test_harness() as folder:
            yield folder

    globals()[name] = levada_harness
    return levada_harness


def __dir__() -> list[str]:
    return sorted({*globals(), "levada_harness"})
