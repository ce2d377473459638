"""Levada: Python flows, run where Kubernetes has room.

What a flow author imports. Every name is loaded when it is first used, so `import levada` costs a millisecond and
loads no pydantic, asyncio, kopf or pandas.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from levada import exceptions as exceptions
    from levada import runtime as runtime
    from levada import states as states
    from levada.annotations import allow_failure as allow_failure
    from levada.annotations import quote as quote
    from levada.annotations import unmapped as unmapped
    from levada.blocks import Block as Block
    from levada.context import current_flow_run as current_flow_run
    from levada.context import current_task_run as current_task_run
    from levada.context import tags as tags
    from levada.flows import Flow as Flow
    from levada.flows import flow as flow
    from levada.futures import Future as Future
    from levada.futures import as_completed as as_completed
    from levada.futures import wait as wait
    from levada.logging import get_run_logger as get_run_logger
    from levada.pausing import pause_flow_run as pause_flow_run
    from levada.pausing import resume_flow_run as resume_flow_run
    from levada.pausing import suspend_flow_run as suspend_flow_run
    from levada.serving import serve as serve
    from levada.states import State as State
    from levada.tasks import Task as Task
    from levada.tasks import exponential_backoff as exponential_backoff
    from levada.tasks import task as task
    from levada.transactions import transaction as transaction

__version__ = "0.1.0"

# Where each public name lives. A value without a name after the colon is the module itself.
_EXPORTS = {
    "Block": "levada.blocks:Block",
    "Flow": "levada.flows:Flow",
    "Future": "levada.futures:Future",
    "State": "levada.states:State",
    "Task": "levada.tasks:Task",
    "allow_failure": "levada.annotations:allow_failure",
    "as_completed": "levada.futures:as_completed",
    "current_flow_run": "levada.context:current_flow_run",
    "current_task_run": "levada.context:current_task_run",
    "exceptions": "levada.exceptions:",
    "exponential_backoff": "levada.tasks:exponential_backoff",
    "flow": "levada.flows:flow",
    "get_run_logger": "levada.logging:get_run_logger",
    "pause_flow_run": "levada.pausing:pause_flow_run",
    "quote": "levada.annotations:quote",
    "resume_flow_run": "levada.pausing:resume_flow_run",
    "runtime": "levada.runtime:",
    "serve": "levada.serving:serve",
    "states": "levada.states:",
    "suspend_flow_run": "levada.pausing:suspend_flow_run",
    "tags": "levada.context:tags",
    "task": "levada.tasks:task",
    "transaction": "levada.transactions:transaction",
    "unmapped": "levada.annotations:unmapped",
    "wait": "levada.futures:wait",
}

__all__ = [  # noqa: PLE0604  the names come from the table above, so they cannot differ from it
    "__version__",
    *_EXPORTS,
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use and keep it."""
    target = _EXPORTS.get(name)
    if target is None:
        raise AttributeError(f"module 'levada' has no attribute {name!r}")
    from importlib import import_module

    module_name, _, attribute = target.partition(":")
    module = import_module(module_name)
    value = getattr(module, attribute) if attribute else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
