"""What comes as server-sent events: `event` is the name in each docstring, `data` the model as JSON."""

from typing import Literal

from pydantic import Field

from levada.dashboard.models.common import Time, Wire
from levada.dashboard.models.definitions import AgentRow, BlockRow, DeploymentRow, LimitRow, QueueRow
from levada.dashboard.models.logs import LogLine
from levada.dashboard.models.runs import RunRow
from levada.dashboard.models.schedules import BackfillRow, ScheduleRow
from levada.resources.phases import RunPhase

WatchedKind = Literal[
    "FlowRun", "Deployment", "Schedule", "Backfill", "WorkQueue", "ConcurrencyLimit", "Block", "Flow", "Agent"
]


class Change(Wire):
    """Event `change`: an object is new, has changed, or is gone. Rows have no `actions`: ask for those."""

    kind: WatchedKind = Field(description="Kind of the object.")
    namespace: str = Field(description="Namespace; empty for an Agent.")
    name: str = Field(description="Name.")
    row: RunRow | DeploymentRow | ScheduleRow | BackfillRow | QueueRow | LimitRow | BlockRow | AgentRow | None = Field(
        None, description="Its row as in a list; null when it was deleted. Always null for a Flow."
    )
    deleted: bool = Field(False, description="It is gone.")


class Stale(Wire):
    """Event `stale`: what is shown may be old, because watches are broken; or it is not any more."""

    stale: bool = Field(description="True: broken. False: everything is known again, and changes were sent.")
    kinds: list[str] = Field(default_factory=list, description="Kinds whose watch is broken.")
    message: str = Field("", description="What is wrong.")
    as_of: Time | None = Field(None, description="When the API server was last heard of.")


class Reset(Wire):
    """Event `reset`: changes may have been missed (a new connection, a new server, a long absence): ask for everything again."""

    reason: Literal["connected", "restarted", "behind", "rights"] = Field(
        description="connected: the first event of a stream without Last-Event-ID. restarted, behind: its Last-Event-ID is not known any more. rights: what the viewer may see has changed."
    )


class LogChunk(Wire):
    """Event `lines`: lines of the log, in order."""

    attempt: int = Field(description="Which attempt.")
    lines: list[LogLine] = Field(description="The lines.")


class LogWaiting(Wire):
    """Event `waiting`: there is no log yet."""

    message: str = Field(description="What it waits for.")


class LogEnd(Wire):
    """Event `end`: the run is over, and so is its log. The server closes the stream; do not connect again."""

    phase: RunPhase | None = Field(None, description="How the run ended; null: it was deleted.")
