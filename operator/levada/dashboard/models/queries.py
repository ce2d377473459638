"""What may stand behind the question mark of a path: one model a route. Lists are given by repeating the name, or with commas."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from levada.dashboard.models.common import Time, Wire
from levada.dashboard.models.logs import Level
from levada.resources.phases import RunPhase


def _split(value: Any) -> Any:
    """`a,b` and `a&…=b` alike."""
    given = value if isinstance(value, list) else [value]
    return [part for each in given for part in (each.split(",") if isinstance(each, str) else [each]) if part != ""]


Words = Annotated[list[str], BeforeValidator(_split), Field(max_length=50)]
Phases = Annotated[list[RunPhase | Literal["Unseen"]], BeforeValidator(_split)]
Levels = Annotated[list[Level], BeforeValidator(_split)]


class ScopeQuery(Wire):
    """Which namespaces."""

    namespace: Words = Field(
        default_factory=list, description="Only of these namespaces; all that the viewer may see when absent."
    )


class RunQuery(ScopeQuery):
    """Which runs, in which order."""

    phase: Phases = Field(default_factory=list, description="Only in these phases; Unseen: without one.")
    deployment: Words = Field(default_factory=list, description="Only of these Deployments.")
    flow: Words = Field(default_factory=list, description="Only of these Flows.")
    queue: Words = Field(default_factory=list, description="Only in these WorkQueues.")
    tag: Words = Field(default_factory=list, description="Only with all of these tags.")
    schedule: Words = Field(default_factory=list, description="Only of these Schedules.")
    since: Time | None = Field(None, description="Only created at or after this moment.")
    until: Time | None = Field(None, description="Only created before this moment.")
    q: str = Field(
        "", max_length=200, description="Only with all these words in name, deployment, flow, reason or message."
    )
    sort: Literal["created", "started", "completed", "duration", "name", "deployment", "phase"] = Field(
        "created", description="By what to sort."
    )
    order: Literal["desc", "asc"] = Field("desc", description="Which way.")
    limit: int = Field(100, ge=1, le=1000, description="How many at most.")
    cursor: str | None = Field(
        None, max_length=600, description="As the page before gave it; the other filters must be the same."
    )


class ArchiveQuery(ScopeQuery):
    """Which archived runs."""

    deployment: str | None = Field(None, description="Only of this Deployment.")
    limit: int = Field(50, ge=1, le=500, description="How many at most.")
    cursor: str | None = Field(None, max_length=64, description="As the page before gave it.")


class TickQuery(ScopeQuery):
    """Which ticks."""

    schedule: Words = Field(default_factory=list, description="Only of these Schedules.")
    from_: Time = Field(alias="from", description="First moment.")
    to: Time = Field(description="Last moment; at most 92 days after the first.")
    limit: int = Field(2000, ge=1, le=10_000, description="How many at most.")


class LogQuery(Wire):
    """Which lines of the log."""

    attempt: int | None = Field(None, ge=1, description="Which attempt; the newest when absent.")
    level: Levels = Field(
        default_factory=list, description="Only of these levels; what was only printed counts as INFO."
    )
    task: Words = Field(default_factory=list, description="Only of these task runs, or of the run itself.")
    q: str = Field("", max_length=200, description="Only lines with this text, whatever its case.")
    limit: int = Field(1000, ge=1, le=10_000, description="How many lines at most.")
    cursor: str | None = Field(None, max_length=64, description="As the page before gave it.")
    tail: bool = Field(False, description="The last lines in place of the first.")


class LogStreamQuery(Wire):
    """From where to follow the log."""

    attempt: int | None = Field(None, ge=1, description="Which attempt; without it the newest, and those that follow.")
    from_: int = Field(1, alias="from", ge=1, description="Number of the first line; a Last-Event-ID wins.")


class StreamQuery(ScopeQuery):
    """Which changes."""

    kind: Words = Field(default_factory=list, description="Only of these kinds; all when absent.")
    last_event_id: str | None = Field(None, max_length=64, description="In place of the header Last-Event-ID.")


class RetryPlanQuery(Wire):
    """Of which retry."""

    from_scratch: bool = Field(False, description="As in the order.")
