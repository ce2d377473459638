"""What a page may order. Everything is checked before it is sent on with the viewer's rights."""

from typing import Any, Literal

from pydantic import Field

from levada.dashboard.models.common import Time, Wire
from levada.resources.names import MAX_NAME_LENGTH

_REQUEST_ID = Field(
    None,
    min_length=8,
    max_length=64,
    pattern="^[A-Za-z0-9_-]+$",
    description="A random text, the same for each try of the same order: sent twice, the order makes one object.",
)
_NAME = Field(
    None, min_length=1, max_length=MAX_NAME_LENGTH, description="Name of the new object; made up when absent."
)


class RunOrder(Wire):
    """Start a run of a Deployment."""

    parameters: dict[str, Any] = Field(
        default_factory=dict, max_length=200, description="Arguments laid over those of the Deployment."
    )
    overrides: dict[str, Any] | None = Field(
        None, description="What the run has otherwise, as far as allowOverrides opens it."
    )
    priority: int | None = Field(None, ge=-1_000_000, le=1_000_000, description="Among waiting runs.")
    name: str | None = _NAME
    request_id: str | None = _REQUEST_ID


class RetryOrder(Wire):
    """Repeat a run that has ended, from the tasks whose results are not stored."""

    parameters: dict[str, Any] = Field(
        default_factory=dict, max_length=200, description="Other values of some parameters; the rest as before."
    )
    from_scratch: bool = Field(False, description="Run every task again.")
    name: str | None = _NAME
    request_id: str | None = _REQUEST_ID


class RerunOrder(Wire):
    """Run the same Deployment anew, with these parameters in place of the run's own. No stored result is used."""

    parameters: dict[str, Any] = Field(
        default_factory=dict, max_length=200, description="Arguments laid over those of the Deployment."
    )
    name: str | None = _NAME
    request_id: str | None = _REQUEST_ID


class TaskShare(Wire):
    """What a retry would do with the task runs of one task."""

    name: str = Field(description="Name of the task.")
    reused: int = Field(description="Task runs whose stored results are used.")
    to_run: int = Field(description="Task runs that run again.")


class RetryPlan(Wire):
    """What a retry would do."""

    reused: int = Field(description="Task runs whose stored results are used.")
    to_run: int = Field(description="Task runs that run again.")
    tasks: list[TaskShare] = Field(
        default_factory=list, description="The same task by task, as far as their rows are known."
    )
    notes: list[str] = Field(default_factory=list, description="Sentences for a person, before saying yes.")


class ResumeOrder(Wire):
    """Let a run go on that is suspended, or whose flow waits for a person."""

    input: Any = Field(None, description="For a flow that waits for input: the value.")


class LimitOrder(Wire):
    """Set how many runs of a queue may go at once."""

    limit: int | None = Field(ge=0, le=100_000, description="How many; null: any number.")


class BackfillOrder(Wire):
    """Run a Schedule's ticks of the past, one run a tick."""

    start_time: Time = Field(description="The first moment of the window.")
    end_time: Time = Field(description="The last moment of the window.")
    max_active: int = Field(5, ge=1, le=1000, description="How many runs at a time.")
    reverse: bool = Field(False, description="The newest tick first.")
    reprocess: Literal["None", "Failed", "Completed"] = Field(
        "None", description="What to do with ticks that have a run."
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, max_length=200, description="Arguments laid over the Schedule's."
    )
    dry_run: bool = Field(False, description="Only plan.")
    name: str | None = _NAME
    request_id: str | None = _REQUEST_ID
