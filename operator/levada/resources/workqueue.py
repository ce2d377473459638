"""WorkQueue: how many runs may go at once, and which come first."""

from typing import Literal

from pydantic import Field

from levada.resources.common import Model, ObjectName, Resource, Status


class WorkQueueSpec(Model):
    """The limits of the queue."""

    concurrency_limit: int | None = Field(
        None,
        ge=0,
        le=100_000,
        description="How many runs may go at once, over all Deployments of the queue; no limit when absent.",
    )
    priority: int = Field(
        0,
        ge=-1_000_000,
        le=1_000_000,
        description="Among queues with waiting runs that share the operator's limit, the higher number goes first.",
    )
    paused: bool = Field(False, description="Start no new runs; those under way go on.")
    local_queue: ObjectName | None = Field(
        None,
        description="Kueue's LocalQueue in this namespace: Jobs are created suspended, and start when Kueue admits them.",
    )
    workload_priority_class: ObjectName | None = Field(
        None, description="Kueue's WorkloadPriorityClass of the Jobs; with localQueue."
    )
    description: str | None = Field(None, max_length=4096, description="What the queue is for, for people.")


class WorkQueueStatus(Status):
    """What the operator found."""

    active: int | None = Field(None, ge=0, description="Runs that hold a slot, as of a few seconds ago.")
    waiting: int | None = Field(None, ge=0, description="Runs that wait for one, as of a few seconds ago.")


class WorkQueue(Resource):
    """A queue that runs wait in: how many may go at once, and which queue comes first."""

    kind: Literal["WorkQueue"] = "WorkQueue"
    spec: WorkQueueSpec = Field(description="The limits of the queue.")
    status: WorkQueueStatus = Field(
        default_factory=WorkQueueStatus, description="What the operator found; written by the operator."
    )
