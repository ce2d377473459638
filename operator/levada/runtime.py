"""Where the code runs, as plain attributes that can be asked from anywhere: `runtime.flow_run.name`.

Outside of a run every attribute is None, and every collection empty, so that a function that asks can also be called on its
own. Use `levada.context` where being outside is a mistake that should be told.
"""

import os
from datetime import datetime
from typing import Any, Final, NoReturn

from levada.context import FLOW_RUN, TASK_RUN, FlowRunInfo, TaskRunInfo
from levada.resources.names import ENV_DEPLOYMENT


class _Asked:
    """An object of which only properties are asked."""

    __slots__ = ()

    def __getattr__(self, name: str) -> NoReturn:
        known = ", ".join(sorted(key for key in dir(type(self)) if not key.startswith("_")))
        raise AttributeError(f"levada.runtime.{type(self).__name__.lower()} has no attribute {name!r}; it has {known}")

    def __repr__(self) -> str:
        return f"<levada.runtime.{type(self).__name__.lower()}>"


class Flow_Run(_Asked):  # noqa: N801  named in its error messages as users write it
    """The flow run around the caller."""

    __slots__ = ()

    @property
    def id(self) -> str | None:
        """What tells it from all others; in a cluster, the name of its FlowRun."""
        return None if (info := _flow_run()) is None else info.id

    @property
    def name(self) -> str | None:
        """What people call it."""
        return None if (info := _flow_run()) is None else info.name

    @property
    def flow_name(self) -> str | None:
        """The flow's name."""
        return None if (info := _flow_run()) is None else info.flow_name

    @property
    def flow_version(self) -> str | None:
        """The flow's version."""
        return None if (run := FLOW_RUN.get()) is None else run.flow.version

    @property
    def parameters(self) -> dict[str, Any]:
        """The validated parameters, by name."""
        return {} if (info := _flow_run()) is None else info.parameters

    @property
    def tags(self) -> list[str]:
        """Its tags, in order."""
        return [] if (info := _flow_run()) is None else sorted(info.tags)

    @property
    def run_count(self) -> int:
        """1 for the first try inside this process; 0 outside of a run."""
        return 0 if (info := _flow_run()) is None else info.attempt

    @property
    def scheduled_start_time(self) -> datetime | None:
        """When it started, in UTC."""
        return None if (run := FLOW_RUN.get()) is None else run.start_time

    @property
    def parent_flow_run_id(self) -> str | None:
        """For a subflow: the id of the flow run that called it."""
        run = FLOW_RUN.get()
        return None if run is None or run.parent is None else run.parent.id

    @property
    def root_flow_run_id(self) -> str | None:
        """The id of the outermost flow run; its own if it is that."""
        run = FLOW_RUN.get()
        while run is not None and run.parent is not None:
            run = run.parent
        return None if run is None else run.id


class Task_Run(_Asked):  # noqa: N801  as above
    """The task run around the caller."""

    __slots__ = ()

    @property
    def id(self) -> str | None:
        """The id within the flow run, such as `train-0`."""
        return None if (info := _task_run()) is None else info.id

    @property
    def name(self) -> str | None:
        """What people call it."""
        return None if (info := _task_run()) is None else info.name

    @property
    def task_name(self) -> str | None:
        """The task's name."""
        return None if (info := _task_run()) is None else info.task_name

    @property
    def parameters(self) -> dict[str, Any]:
        """Its arguments, by name."""
        return {} if (info := _task_run()) is None else info.parameters

    @property
    def tags(self) -> list[str]:
        """Its tags, in order."""
        return [] if (info := _task_run()) is None else sorted(info.tags)

    @property
    def run_count(self) -> int:
        """1 for the first try, 2 for the first retry; 0 outside of a task."""
        return 0 if (info := _task_run()) is None else info.attempt


class Deployment(_Asked):
    """The Deployment that the run is of. A flow that is called by a script has none."""

    __slots__ = ()

    @property
    def name(self) -> str | None:
        """Its name."""
        return os.environ.get(ENV_DEPLOYMENT) or None

    id = name

    @property
    def version(self) -> str | None:
        """The version of its flow."""
        return flow_run.flow_version if self.name else None

    @property
    def flow_run_id(self) -> str | None:
        """The id of its run: the outermost flow run."""
        return flow_run.root_flow_run_id if self.name else None


def _flow_run() -> FlowRunInfo | None:
    run = FLOW_RUN.get()
    return None if run is None else FlowRunInfo(run)


def _task_run() -> TaskRunInfo | None:
    run = TASK_RUN.get()
    return None if run is None else TaskRunInfo(run)


flow_run: Final = Flow_Run()
task_run: Final = Task_Run()
deployment: Final = Deployment()
