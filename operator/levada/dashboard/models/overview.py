"""The first page: what runs, what failed, what comes, and how it has been going."""

from pydantic import Field

from levada.dashboard.models.common import Said, Seconds, Time, Wire
from levada.dashboard.models.health import HealthProblem
from levada.dashboard.models.runs import PhaseCounts, RunRow
from levada.dashboard.models.schedules import TickItem


class FailureReason(Wire):
    """Failures of one Deployment for one reason."""

    namespace: str = Field(description="Namespace.")
    deployment: str = Field(description="Name of the Deployment.")
    reason: str = Field(description="One CamelCase word.")
    message: str = Field("", description="What the newest of them says.")
    count: int = Field(description="How many in the time.")
    newest: RunRow = Field(description="The newest of them.")
    recovered: bool = Field(False, description="A later run of the Deployment has completed.")


class TrendBucket(Wire):
    """What ended in a stretch of time."""

    start_time: Time = Field(description="When it begins.")
    completed: int = Field(0, description="Runs that completed.")
    failed: int = Field(0, description="Runs that failed, crashed or timed out.")
    cancelled: int = Field(0, description="Runs that were cancelled or skipped.")
    success_ratio: float | None = Field(
        None, description="Completed of completed and failed, 0 to 1; null: none ended."
    )
    duration_p50_seconds: Seconds | None = Field(None, description="Median duration of those that completed.")
    duration_p95_seconds: Seconds | None = Field(None, description="95 % took no longer.")
    overhead_ratio: float | None = Field(None, description="Mean part of the time that was not the flows' own.")


class StartsBucket(Wire):
    """How many runs will start in a stretch of time."""

    start_time: Time = Field(description="When it begins.")
    starts: int = Field(description="How many start.")


class QueueForecast(Wire):
    """What Schedules will start in a queue, against its limit."""

    namespace: str = Field(description="Namespace.")
    queue: str = Field(description="Name of the WorkQueue.")
    limit: int | None = Field(None, description="How many may run at once; null: any number.")
    starts: int = Field(description="How many in all.")
    peak: int = Field(description="The most within one second.")
    buckets: list[StartsBucket] = Field(default_factory=list, description="By time; only those with starts.")


class Overview(Said):
    """The first page."""

    counts: PhaseCounts = Field(description="All runs in the cluster that the viewer may see, by phase.")
    active: list[RunRow] = Field(description="Runs that have not ended: running ones first, at most 50.")
    active_total: int = Field(description="How many there are.")
    failures: list[FailureReason] = Field(description="Failures since `failuresSince`, the newest first, at most 50.")
    failures_total: int = Field(description="How many runs failed since then.")
    failures_since: Time = Field(description="24 hours ago.")
    upcoming: list[TickItem] = Field(description="Ticks of the next hours, at most 100.")
    upcoming_until: Time = Field(description="How far it looks.")
    forecast: list[QueueForecast] = Field(
        description="The starts of those hours by queue, the busiest first, at most 20."
    )
    trend: list[TrendBucket] = Field(description="The last days, oldest first, without gaps.")
    trend_bucket_seconds: Seconds = Field(description="Length of a bucket.")
    trend_since: Time | None = Field(
        None, description="The oldest run that the trend knows: history lets finished runs leave the cluster."
    )
    success_ratio: float | None = Field(None, description="Over the last 24 hours, 0 to 1; null: none ended.")
    previous_success_ratio: float | None = Field(None, description="Over the 24 hours before.")
    deployments: int = Field(description="How many Deployments the viewer may see.")
    schedules: int = Field(description="How many Schedules.")
    problems: list[HealthProblem] = Field(
        default_factory=list, description="What is wrong with the cluster, for a banner."
    )
