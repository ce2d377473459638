"""Which run is the code in? Context variables, so the answer is right in threads and coroutines alike."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from levada.exceptions import MissingContextError

if TYPE_CHECKING:
    from levada.engine.run import FlowRun
    from levada.engine.taskrun import TaskRun

FLOW_RUN: ContextVar["FlowRun | None"] = ContextVar("levada_flow_run", default=None)
TASK_RUN: ContextVar["TaskRun | None"] = ContextVar("levada_task_run", default=None)
HOOK_OF: ContextVar[str] = ContextVar("levada_hook_of", default="")  # the name of the run whose hook the code is
TAGS: ContextVar[frozenset[str]] = ContextVar("levada_tags", default=frozenset())


@contextmanager
def tags(*new_tags: str) -> Iterator[frozenset[str]]:
    """Give these tags to the runs that start inside the block, besides those that they have anyway.

    Raises:
        OptionError: a tag is no text.
    """
    from levada._options import tags_of

    together = TAGS.get() | tags_of(new_tags, "tags(...)")
    token = TAGS.set(together)
    try:
        yield together
    finally:
        TAGS.reset(token)


class FlowRunInfo:
    """What user code may know about a flow run: what hooks get, and `current_flow_run()` gives."""

    __slots__ = ("_run",)

    def __init__(self, run: "FlowRun") -> None:
        self._run = run

    @property
    def id(self) -> str:
        """What tells it from all others; in a cluster, the name of its FlowRun."""
        return self._run.id

    @property
    def name(self) -> str:
        """What people call it: made by `flow_run_name`, or else the id."""
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
    def tags(self) -> frozenset[str]:
        """Its tags."""
        return self._run.tags

    @property
    def attempt(self) -> int:
        """1 for the first try inside this process."""
        return self._run.position.attempt

    run_count = attempt

    @property
    def state(self) -> Any:
        """How it stands now."""
        return self._run.state

    @property
    def parent_id(self) -> str | None:
        """The id of the flow run around it."""
        return self._run.parent.id if self._run.parent is not None else None

    def __repr__(self) -> str:
        return f"<flow run {self.name!r}>"


class TaskRunInfo:
    """What user code may know about a task run: what hooks get, and `current_task_run()` gives."""

    __slots__ = ("_run",)

    def __init__(self, run: "TaskRun") -> None:
        self._run = run

    @property
    def id(self) -> str:
        """The id within the run, such as `train-0`."""
        return self._run.id

    @property
    def name(self) -> str:
        """What people call it: made by `task_run_name`, or else the id."""
        return self._run.label

    @property
    def task_name(self) -> str:
        """The task's name."""
        return self._run.task.name

    @property
    def run_key(self) -> str:
        """The id of the flow run around it; without one, what stands for it in this process."""
        return self._run.run_key

    @property
    def flow_run_id(self) -> str | None:
        """The id of the flow run around it."""
        return self._run.flow_run.id if self._run.flow_run is not None else None

    @property
    def parameters(self) -> dict[str, Any]:
        """What the task was called with, by name, defaults filled in."""
        return self._run.parameters()

    @property
    def tags(self) -> frozenset[str]:
        """Those of its task, and those given by a `with` block around it."""
        return self._run.tags

    @property
    def attempt(self) -> int:
        """1 for the first try, 2 for the first retry."""
        return self._run.position.attempt

    run_count = attempt

    @property
    def state(self) -> Any:
        """How it stands now."""
        return self._run.state

    def __repr__(self) -> str:
        return f"<task run {self.id!r}>"


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


class FlowRunContext:
    """The flow run around the caller, as older code asks for it: `get_run_context().flow_run.name`.

    Attributes:
        flow: the flow.
        flow_run: what user code may know about its run.
        parameters: the validated parameters, by name.
    """

    def __init__(self, run: "FlowRun") -> None:
        self.flow = run.flow
        self.flow_run = FlowRunInfo(run)
        self.parameters = dict(run.parameters)

    @classmethod
    def get(cls) -> "FlowRunContext | None":
        """That around the caller; None outside of a flow run."""
        run = FLOW_RUN.get()
        return None if run is None else cls(run)


class TaskRunContext:
    """The task run around the caller, as older code asks for it: `get_run_context().task_run.name`.

    Attributes:
        task: the task.
        task_run: what user code may know about its run.
        parameters: its arguments by name.
    """

    def __init__(self, run: "TaskRun") -> None:
        self.task = run.task
        self.task_run = TaskRunInfo(run)
        self.parameters = run.parameters()

    @classmethod
    def get(cls) -> "TaskRunContext | None":
        """That around the caller; None outside of a task run."""
        run = TASK_RUN.get()
        return None if run is None else cls(run)


def get_run_context() -> FlowRunContext | TaskRunContext:
    """The innermost run around the caller.

    Raises:
        MissingContextError: there is none.
    """
    context = TaskRunContext.get() or FlowRunContext.get()
    if context is None:
        raise MissingContextError("there is no run here; call this from a @flow or @task function while it runs")
    return context
