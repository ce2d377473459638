"""FlowRun: one run of a deployment, and everything that is known about it.

The spec is an order: it cannot change, except that the run may be suspended and cancelled. The status is written by the operator and
by the run's own pod (each its own fields), and ends in a terminal phase that the API server keeps from changing.
"""

from typing import Annotated, Literal

from pydantic import Field

from levada.resources.common import (
    LevadaName,
    LevadaRef,
    Message,
    Model,
    ObjectName,
    Parameters,
    Reason,
    Resource,
    Status,
    Time,
)
from levada.resources.deployment import Overrides, ResourceRequirements, Toleration
from levada.resources.names import (
    MAX_ATTEMPTS_KEPT,
    MAX_NOTIFICATIONS_HELD,
    MAX_SLOT_ENTRIES,
    MAX_TASK_PODS,
    MAX_TASK_ROWS,
    MAX_URL_CHARS,
)
from levada.resources.notification import NotificationRecord
from levada.resources.phases import RunPhase, TaskState

TaskId = Annotated[str, Field(min_length=1, max_length=256)]
# The API server compares free maps wrongly in CEL (one key renamed, and they are equal), but a map of free values rightly.
RunParameters = Annotated[
    Parameters,
    Field(json_schema_extra={"additionalProperties": {"x-kubernetes-preserve-unknown-fields": True, "nullable": True}}),
]

Seconds = float
"""A measured time. No minimum: two clocks may disagree, and a status must not be refused for that."""


class FlowRunSpec(Model):
    """The order to run a deployment once."""

    deployment_ref: LevadaRef = Field(description="The Deployment to run, in this namespace. Cannot change.")
    parameters: RunParameters = Field(
        default_factory=dict,
        description="Arguments laid over those of the Deployment; at most 64 KiB as JSON. Cannot change.",
    )
    overrides: Overrides | None = Field(
        None,
        description="What the run has otherwise than its Deployment, as far as the Deployment's allowOverrides opens it. Cannot change.",
    )
    cancel: bool = Field(False, description="Set to true to cancel the run. Cannot be taken back.")
    suspend: bool = Field(
        False,
        description="While true the run does not start, or is stopped and holds no slot; set to false, it goes on from the stored results of its tasks.",
    )
    priority: int | None = Field(
        None,
        ge=-1_000_000,
        le=1_000_000,
        description="Among waiting runs, the higher number starts first; the Deployment's when absent. Cannot change.",
    )
    scheduled_time: Time | None = Field(None, description="The tick that the run belongs to. Cannot change.")
    retry_of: LevadaName | None = Field(
        None,
        description="The FlowRun that this one repeats, from the tasks whose results are not stored. Cannot change.",
    )
    from_scratch: bool = Field(
        False, description="With retryOf: run every task again, whatever results are stored. Cannot change."
    )
    delay_seconds: float | None = Field(
        None,
        ge=0,
        le=86_400,
        description="The run starts so long after scheduledTime: a Schedule's jitter. Cannot change.",
    )
    prestart_seconds: int | None = Field(
        None,
        ge=1,
        le=3600,
        description="With scheduledTime: the pod starts so long before the run, and holds the flow back. Cannot change.",
    )


class Attempt(Model):
    """One Job of the run."""

    number: int = Field(ge=1, description="1 for the first.")
    job: ObjectName = Field(description="Name of the Job.")
    pod: str | None = Field(None, max_length=253, description="Name of its pod, when there was one.")
    node: str | None = Field(None, max_length=253, description="The node it ran on.")
    start_time: Time | None = Field(None, description="When it started.")
    end_time: Time | None = Field(None, description="When it ended.")
    reason: Reason = Field("", description="One CamelCase word: how it ended.")
    message: Message = Field("", description="The same in a sentence.")
    exit_code: int | None = Field(None, description="Exit code of the container, when it exited.")
    kind: Literal["Infrastructure", "Code"] | None = Field(
        None,
        description="Whose failure it was: the cluster's (counts for infrastructureRetries) or the code's (retries).",
    )


class PinnedFlow(Model):
    """The Flow as it was at the first attempt: a retry runs the same code."""

    name: LevadaName = Field(description="Name of the Flow.")
    generation: int | None = Field(None, ge=0, description="Its metadata.generation at the first attempt.")
    code_config_map: str | None = Field(
        None, max_length=253, description="ConfigMap with the code, unless it is in the image."
    )


class Stages(Model):
    """Where the time went. What is not the user's is overhead."""

    queued_seconds: Seconds | None = Field(
        None, description="From creation to the Job's: waiting for a slot and for the operator."
    )
    wait_seconds: Seconds | None = Field(
        None, description="From the Job's creation to Python's start: scheduling, image, container."
    )
    schedule_seconds: Seconds | None = Field(
        None, description="From the Job's creation to a node, in whole seconds; where the operator wrote the end."
    )
    image_seconds: Seconds | None = Field(
        None, description="From a node to a started container, in whole seconds; where the operator wrote the end."
    )
    import_seconds: Seconds | None = Field(None, description="Loading Levada and the flow's code.")
    install_seconds: Seconds | None = Field(None, description="Part of import: installing the flow's requirements.")
    hold_seconds: Seconds | None = Field(
        None, description="Ready, and holding the flow back until its time: see prestartSeconds."
    )
    user_seconds: Seconds | None = Field(None, description="In the flow itself.")


class TaskCounts(Model):
    """How many task runs stand where, including those whose rows are no longer kept."""

    total: int = Field(0, ge=0, description="All task runs known so far.")
    pending: int = Field(0, ge=0, description="Waiting for other tasks or for a worker.")
    running: int = Field(0, ge=0, description="Running.")
    retrying: int = Field(0, ge=0, description="Failed, and waiting for the next try.")
    completed: int = Field(0, ge=0, description="Done.")
    cached: int = Field(0, ge=0, description="Of those done, how many took their result from the cache.")
    persisted: int = Field(
        0, ge=0, description="Of those done, how many have a stored result: a later attempt does not run them again."
    )
    failed: int = Field(0, ge=0, description="Raised an exception on the last try.")
    cancelled: int = Field(0, ge=0, description="Stopped because the run was.")
    crashed: int = Field(0, ge=0, description="Under way when the process died.")
    skipped: int = Field(0, ge=0, description="Not run, because a task before it failed or said so.")


class TaskRow(Model):
    """One task run."""

    name: str = Field(max_length=256, description="Name of the task.")
    state: TaskState = Field(description="Where it stands.")
    attempt: int = Field(0, ge=0, description="Which try of the task this is: 1 for the first, 0 before it.")
    start_time: Time | None = Field(None, description="When the first try began.")
    end_time: Time | None = Field(None, description="When it ended for good.")
    message: Message | None = Field(None, description="Why it failed or was skipped.")
    cached: bool | None = Field(None, description="Whether the result came from the cache.")
    persisted: bool | None = Field(
        None, description="Whether the result is stored, so that a later attempt does not run the task again."
    )
    upstream: list[TaskId] = Field(
        default_factory=list, max_length=256, description="Ids of the task runs whose results it took."
    )


class Rerun(Model):
    """What a run that repeats another takes from it."""

    of: LevadaName = Field(description="The run whose results are used: the first of a chain of retries.")
    key: Annotated[str, Field(max_length=128)] = Field(description="The name under which those results are stored.")
    reused: int = Field(
        0, ge=0, description="Task runs of the repeated run whose results are stored, as planned at the start."
    )
    to_run: int = Field(
        0, ge=0, description="Task runs of the repeated run that are to run again, as planned at the start."
    )


class SlotEntry(Model):
    """Slots of a ConcurrencyLimit that a task of the run waits for or holds. The run asks and gives back, the operator grants."""

    limit: LevadaName = Field(description="Name of the ConcurrencyLimit.")
    occupy: int = Field(ge=1, le=1_000_000, description="How many slots.")
    attempt: int = Field(ge=1, description="The attempt that asked: when it is over, so is this.")
    rate: bool | None = Field(None, description="A turn of rate_limit: used up when granted, never held.")
    priority: int | None = Field(None, description="The higher number is served first; the run's when absent.")
    holder: str | None = Field(None, max_length=256, description="Who asked, in words.")
    state: Literal["Waiting", "Held", "Refused"] = Field(
        description="Waiting for slots, having them, or never to get them: see the message."
    )
    requested_time: Time = Field(description="When it was asked for. Among equals, the earliest is served first.")
    granted_time: Time | None = Field(None, description="When the operator granted it.")
    message: Message | None = Field(None, description="Why it was refused.")


class TaskPodEntry(Model):
    """A pod for one task, or for one Dask worker. The run asks and, when it has the outcome, takes the entry back; the operator makes the Job."""

    attempt: int = Field(ge=1, description="The attempt that asked: when it is over, so is this.")
    holder: str = Field("", max_length=256, description="The task run or Dask worker that it is for.")
    image: str | None = Field(None, min_length=1, max_length=1024, description="Image, if not the run's own.")
    resources: ResourceRequirements | None = Field(None, description="Resources, if not the run's own.")
    node_selector: dict[str, Annotated[str, Field(max_length=63)]] | None = Field(
        None, max_length=16, description="Labels that the node must have, beside those of the run's own pod."
    )
    tolerations: list[Toleration] | None = Field(
        None, max_length=16, description="Taints that the pod puts up with, beside those of the run's own pod."
    )
    state: Literal["Waiting", "Granted", "Ended", "Refused"] = Field(
        description="Waiting for a place; Granted: it has a Job, or is about to; Ended; or Refused: see the message."
    )
    requested_time: Time = Field(description="When it was asked for. The earliest is served first.")
    granted_time: Time | None = Field(None, description="When the operator granted it.")
    job: ObjectName | None = Field(None, description="Name of the Job.")
    reason: Reason | None = Field(None, description="One CamelCase word: how it ended, or what it waits for.")
    message: Message | None = Field(None, description="The same in a sentence, and what to do about it.")
    kind: Literal["Infrastructure", "Code"] | None = Field(None, description="Whose failure its end was.")


class Diagnosis(Model):
    """What went wrong, in words, and what to do about it."""

    category: str = Field(max_length=64, description="One CamelCase word for programs; stable.")
    summary: Message = Field(description="What happened.")
    resolution: Annotated[str, Field(max_length=2048)] = Field("", description="What to do about it.")


class Archive(Model):
    """Where the run's log and record lie."""

    storage: Annotated[str, Field(max_length=MAX_URL_CHARS)] = Field(description="URL of the storage.")
    path: str = Field(max_length=512, description="Folder of the run in it; levada runs logs and show read it.")
    complete: bool | None = Field(
        None, description="False: the run's process did not come to write its record, so the operator wrote it."
    )


class FlowRunStatus(Status):
    """Where the run stands. Condition Succeeded: True, False, or Unknown while it runs."""

    phase: RunPhase | None = Field(
        None, description="Where the run stands. Completed, Failed, Crashed, Cancelled, TimedOut and Skipped are final."
    )
    reason: Reason = Field("", description="One CamelCase word: why it stands there.")
    message: Message = Field("", description="The same in a sentence.")
    progress: str | None = Field(None, max_length=32, description="Tasks done of tasks known, for example 3/6.")
    current_task: str | None = Field(None, max_length=256, description="The task under way that started last.")
    queue: LevadaName | None = Field(None, description="The WorkQueue that the run is in.")
    attempt: int = Field(0, ge=0, description="Number of the newest attempt; 0 before the first. Never goes down.")
    attempts: list[Attempt] = Field(
        default_factory=list,
        max_length=MAX_ATTEMPTS_KEPT,
        description="The newest attempts that have ended.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["number"]},
    )
    infrastructure_failures: int = Field(0, ge=0, description="Attempts that the cluster failed.")
    code_failures: int = Field(0, ge=0, description="Attempts that the flow's code failed.")
    admitted_time: Time | None = Field(
        None, description="When the newest attempt got its slot: its pod is waited for since."
    )
    next_attempt_time: Time | None = Field(None, description="When the next attempt starts, in phase Retrying.")
    flow: PinnedFlow | None = Field(None, description="The Flow as it was at the first attempt.")
    pod_name: str | None = Field(None, max_length=253, description="Pod of the newest attempt: see `kubectl logs`.")
    node_name: str | None = Field(None, max_length=253, description="Node of the newest attempt.")
    start_time: Time | None = Field(None, description="When the newest attempt's process started.")
    completion_time: Time | None = Field(
        None, description="When the run ended. Never changes once set in a terminal phase."
    )
    duration_seconds: Seconds | None = Field(None, description="How long the newest attempt ran.")
    stages: Stages | None = Field(None, description="Where the time went.")
    code_revision: str | None = Field(
        None,
        max_length=128,
        description="What was fetched: the Git commit, which later attempts run too, or sha256: and the checksum of an archive.",
    )
    result: str | None = Field(
        None, max_length=1024, description="The flow's return value as JSON, cut to 1,024 characters."
    )
    task_counts: TaskCounts | None = Field(None, description="How many task runs stand where.")
    tasks: dict[str, TaskRow] = Field(
        default_factory=dict,
        max_length=MAX_TASK_ROWS,
        description="The task runs by id; in large runs finished ones are only counted.",
    )
    truncated_tasks: int = Field(0, ge=0, description="Task runs that are counted but have no row.")
    slots: dict[str, SlotEntry] = Field(
        default_factory=dict,
        max_length=MAX_SLOT_ENTRIES,
        description="Slots of ConcurrencyLimits that tasks of this run wait for or hold, by an id of the run's own.",
    )
    task_pods: dict[str, TaskPodEntry] = Field(
        default_factory=dict,
        max_length=MAX_TASK_PODS,
        description="Pods that tasks and Dask workers of this run wait for or have, by an id of the run's own.",
    )
    diagnosis: Diagnosis | None = Field(None, description="What went wrong and what to do about it.")
    archive: Archive | None = Field(
        None, description="Where the log and the record of the run lie, beyond its life here."
    )
    notifications: dict[str, NotificationRecord] = Field(
        default_factory=dict,
        max_length=MAX_NOTIFICATIONS_HELD,
        description="What has been told about the run, by notification.",
    )
    notified: bool | None = Field(
        None, description="Everybody who is to be told of the run's end has been, or has been given up on."
    )
    rerun: Rerun | None = Field(None, description="With spec.retryOf: what the run takes from the one that it repeats.")
    parameters_digest: str | None = Field(
        None, max_length=64, description="Digest of spec.parameters at the first attempt; later attempts need the same."
    )


class FlowRun(Resource):
    """One run of a deployment: create one to run a flow, read its status to see what became of it."""

    kind: Literal["FlowRun"] = "FlowRun"
    spec: FlowRunSpec = Field(description="The order to run a deployment once.")
    status: FlowRunStatus = Field(
        default_factory=FlowRunStatus, description="Where the run stands; written by the operator and the run itself."
    )
