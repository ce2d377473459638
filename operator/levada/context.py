"""Which run is the code in? Two context variables, so the answer is right in threads and coroutines alike."""

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from levada.exceptions import MissingContextError

if TYPE_CHECKING:
    from levada.engine.run import FlowRun
    from levada.engine.taskrun import TaskRun

FLOW_RUN: ContextVar["FlowRun | None"] = ContextVar("levada_flow_run", default=None)
TASK_RUN: ContextVar["TaskRun | None"] = ContextVar("levada_task_run", default=None)


class FlowRunInfo:
    """What user code may know about the flow run that it is in."""

    __slots__ = ("_run",)

    def __init__(self, run: "FlowRun") -> None:
        self._run = run

    @property
    def name(self) -> str:
        """The run's name; in a cluster, that of its FlowRun."""
        return self._run.name

    @property
    def flow_name(self) -> str:
        """The flow's name."""
        return self._run.flow.name

    @property
    def parameters(self) -> dict[str, Any]:
        """The validated parameters, by name."""
        return dict(self._run.parameters)

    @property
    def attempt(self) -> int:
        """1 for the first try inside this process."""
        return self._run.position.attempt


class TaskRunInfo:
    """What user code may know about the task run that it is in."""

    __slots__ = ("_run",)

    def __init__(self, run: "TaskRun") -> None:
        self._run = run

    @property
    def id(self) -> str:
        """The id within the run, such as `train-0`."""
        return self._run.id

    @property
    def task_name(self) -> str:
        """The task's name."""
        return self._run.name

    @property
    def tags(self) -> frozenset[str]:
        """The task's tags."""
        return self._run.task.tags

    @property
    def attempt(self) -> int:
        """1 for the first try, 2 for the first retry."""
        return self._run.position.attempt


def current_flow_run() -> FlowRunInfo:
    """The flow run around the caller.

    Raises:
        MissingContextError: there is none.
    """
    run = FLOW_RUN.get()
    if run is None:
        raise MissingContextError(
            "there is no flow run here; call this from a @flow function or from a task that it runs"
        )
    return FlowRunInfo(run)


def current_task_run() -> TaskRunInfo:
    """The task run around the caller.

    Raises:
        MissingContextError: there is none.
    """
    run = TASK_RUN.get()
    if run is None:
        raise MissingContextError("there is no task run here; call this from a @task function while it runs")
    return TaskRunInfo(run)
