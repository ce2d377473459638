"""Which path gives what: one table, read by the server (which handler, which query and order) and by the description.

A handler is named after its route's `name`. What every answer can be (401, 403, 404, 422, 503) is an `Error`.
"""

from dataclasses import dataclass
from typing import Final, Literal

from levada.dashboard import models as m
from levada.dashboard.models import queries as q
from levada.dashboard.models.common import Wire

PREFIX: Final = "/api/v1"
Method = Literal["GET", "POST", "DELETE"]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. `events`: it answers with server-sent events of these models; `text`: with YAML."""

    method: Method
    path: str
    name: str
    summary: str
    answer: type[Wire] | None = None
    query: type[Wire] | None = None
    order: type[Wire] | None = None
    events: tuple[type[Wire], ...] = ()
    text: bool = False

    @property
    def parameters(self) -> list[str]:
        """The names in the path, as in `{name}`."""
        return [part[1:-1] for part in self.path.split("/") if part.startswith("{")]


_RUN, _DEPLOYMENT = "/runs/{namespace}/{name}", "/deployments/{namespace}/{name}"
_SCHEDULE, _QUEUE, _BACKFILL = (
    "/schedules/{namespace}/{name}",
    "/queues/{namespace}/{name}",
    "/backfills/{namespace}/{name}",
)

ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", "/session", "session", "Who looks, how to write, and what this is. Answers everybody.", m.Session),
    Route("GET", "/health", "health", "How API server, watches and operator are.", m.Health),
    Route("GET", "/overview", "overview", "The first page.", m.Overview, q.ScopeQuery),
    Route("GET", "/runs", "list_runs", "Runs in the cluster: filtered, sorted, page by page.", m.RunList, q.RunQuery),
    Route("GET", "/archive/runs", "list_archived_runs", "Runs that have left the cluster.", m.ArchivedRunList, q.ArchiveQuery),
    Route("GET", _RUN, "get_run", "Everything about a run; from the archive, if it has left the cluster.", m.RunDetail),
    Route("GET", f"{_RUN}/logs", "get_logs", "A part of its log.", m.LogPage, q.LogQuery),
    Route(
        "GET", f"{_RUN}/logs/stream", "stream_logs", "Its log as it comes. The id of an event is <attempt>.<next line>.",
        query=q.LogStreamQuery, events=(m.LogChunk, m.LogWaiting, m.LogEnd),
    ),
    Route("GET", f"{_RUN}/events", "get_events", "Kubernetes' Events about it, its Jobs and pods.", m.EventList),
    Route("GET", f"{_RUN}/yaml", "get_yaml", "The object as YAML.", text=True),
    Route("GET", f"{_RUN}/retry-plan", "get_retry_plan", "What a retry would do.", m.RetryPlan, q.RetryPlanQuery),
    Route("POST", f"{_RUN}/cancel", "cancel_run", "Ask it to stop.", m.Done),
    Route("POST", f"{_RUN}/suspend", "suspend_run", "Stop it for a while.", m.Done),
    Route("POST", f"{_RUN}/resume", "resume_run", "Let it go on.", m.Done, order=m.ResumeOrder),
    Route("POST", f"{_RUN}/retry", "retry_run", "Repeat it, from what is not stored.", m.Created, order=m.RetryOrder),
    Route("POST", f"{_RUN}/rerun", "rerun_run", "Run it anew with other parameters.", m.Created, order=m.RerunOrder),
    Route("DELETE", _RUN, "delete_run", "Delete it. What is archived stays.", m.Done),
    Route("GET", "/deployments", "list_deployments", "Deployments.", m.DeploymentList, q.ScopeQuery),
    Route("GET", _DEPLOYMENT, "get_deployment", "Everything about a Deployment, with its form.", m.DeploymentDetail),
    Route("POST", f"{_DEPLOYMENT}/run", "run_deployment", "Start a run.", m.Created, order=m.RunOrder),
    Route("POST", f"{_DEPLOYMENT}/pause", "pause_deployment", "Start no new runs.", m.Done),
    Route("POST", f"{_DEPLOYMENT}/resume", "resume_deployment", "Start runs again.", m.Done),
    Route("GET", "/schedules", "list_schedules", "Schedules.", m.ScheduleList, q.ScopeQuery),
    Route("GET", "/schedules/ticks", "list_ticks", "What became of past ticks, and which are to come.", m.TickList, q.TickQuery),
    Route("GET", _SCHEDULE, "get_schedule", "Everything about a Schedule.", m.ScheduleDetail),
    Route("POST", f"{_SCHEDULE}/pause", "pause_schedule", "Start no more runs by it.", m.Done),
    Route("POST", f"{_SCHEDULE}/resume", "resume_schedule", "Start runs by it again.", m.Done),
    Route("POST", f"{_SCHEDULE}/backfill", "backfill_schedule", "Run its ticks of the past.", m.Created, order=m.BackfillOrder),
    Route("GET", "/backfills", "list_backfills", "Backfills.", m.BackfillList, q.ScopeQuery),
    Route("POST", f"{_BACKFILL}/pause", "pause_backfill", "Start no further runs.", m.Done),
    Route("POST", f"{_BACKFILL}/resume", "resume_backfill", "Go on.", m.Done),
    Route("POST", f"{_BACKFILL}/cancel", "cancel_backfill", "Start no further runs, and cancel those under way.", m.Done),
    Route("GET", "/queues", "list_queues", "WorkQueues, also those that only Deployments name.", m.QueueList, q.ScopeQuery),
    Route("POST", f"{_QUEUE}/pause", "pause_queue", "Start no new runs of it. Makes the object if there is none.", m.Done),
    Route("POST", f"{_QUEUE}/resume", "resume_queue", "Start runs of it again.", m.Done),
    Route("POST", f"{_QUEUE}/limit", "limit_queue", "Set its limit. Makes the object if there is none.", m.Done, order=m.LimitOrder),
    Route("GET", "/limits", "list_limits", "ConcurrencyLimits.", m.LimitList, q.ScopeQuery),
    Route("GET", "/blocks", "list_blocks", "Blocks, with the names of their secrets.", m.BlockList, q.ScopeQuery),
    Route("GET", "/agents", "list_agents", "Agents.", m.AgentList),
    Route(
        "GET", "/stream", "stream", "Changes as they come; with Last-Event-ID nothing is lost. Read it by fetch, which can send Authorization.",
        query=q.StreamQuery, events=(m.Change, m.Stale, m.Reset),
    ),
)  # fmt: skip
