"""Runs: the rows of a list, and everything about one."""

from typing import Any, Literal

from pydantic import Field

from levada.dashboard.models.common import Action, Condition, Said, Seconds, Time, Wire
from levada.dashboard.models.definitions import RecentRun
from levada.resources.phases import RunPhase, TaskState


class TaskCounts(Wire):
    """How many task runs stand where, also those without a row."""

    total: int = Field(0, description="All task runs known so far.")
    pending: int = Field(0, description="Waiting.")
    running: int = Field(0, description="Running.")
    retrying: int = Field(0, description="Failed, and waiting for the next try.")
    completed: int = Field(0, description="Done.")
    cached: int = Field(0, description="Of those done: with a result from the cache.")
    persisted: int = Field(0, description="Of those done: with a stored result, which a retry uses.")
    failed: int = Field(0, description="Failed on the last try.")
    cancelled: int = Field(0, description="Stopped because the run was.")
    crashed: int = Field(0, description="Under way when the process died.")
    skipped: int = Field(0, description="Not run.")


class RunRow(Wire):
    """One run in a list."""

    namespace: str = Field(description="Namespace.")
    name: str = Field(description="Name of the FlowRun.")
    uid: str = Field(description="Its uid: a name can be given again.")
    deployment: str = Field(description="Name of its Deployment.")
    flow: str = Field("", description="Name of its Flow; empty while it is not known.")
    phase: RunPhase | None = Field(None, description="Where it stands; null: the operator has not looked at it yet.")
    reason: str = Field("", description="One CamelCase word: why it stands there.")
    message: str = Field("", description="The same in a sentence.")
    queue: str = Field("", description="Its WorkQueue.")
    tags: list[str] = Field(default_factory=list, description="Tags of its Deployment.")
    schedule: str = Field("", description="The Schedule that made it.")
    backfill: str = Field("", description="The Backfill that made it.")
    retry_of: str = Field("", description="The run that it repeats.")
    node: str = Field("", description="Node of the newest attempt.")
    attempt: int = Field(0, description="Number of the newest attempt.")
    progress: str = Field("", description="Tasks done of tasks known, for example 3/6.")
    current_task: str = Field("", description="The task under way that started last.")
    tasks_total: int = Field(0, description="Task runs known so far.")
    tasks_done: int = Field(0, description="Of those, how many are completed or skipped.")
    tasks_failed: int = Field(0, description="Of those, how many failed or crashed.")
    created_time: Time = Field(description="When the FlowRun was created.")
    scheduled_time: Time | None = Field(None, description="The tick that it belongs to.")
    start_time: Time | None = Field(None, description="When the newest attempt's process started.")
    completion_time: Time | None = Field(None, description="When it ended.")
    next_attempt_time: Time | None = Field(None, description="In phase Retrying: when the next attempt starts.")
    duration_seconds: Seconds | None = Field(
        None, description="How long the newest attempt took, once it has ended; count from startTime while it runs."
    )
    overhead_ratio: float | None = Field(
        None, description="Of a run that is over: the part of its whole time that was not the flow's own, 0 to 1."
    )
    cancel_requested: bool = Field(False, description="Somebody has asked it to stop.")
    suspended: bool = Field(False, description="Somebody has suspended it.")
    archived: bool = Field(False, description="It has left the cluster: this is from the archive.")


class PhaseCounts(Wire):
    """How many runs are in each phase, over all that match the other filters. Unseen: the operator has not looked at them yet."""

    unseen: int = Field(0, description="Without a phase.")
    scheduled: int = Field(0, description="Scheduled.")
    queued: int = Field(0, description="Queued.")
    pending: int = Field(0, description="Pending.")
    running: int = Field(0, description="Running.")
    retrying: int = Field(0, description="Retrying.")
    paused: int = Field(0, description="Paused.")
    cancelling: int = Field(0, description="Cancelling.")
    completed: int = Field(0, description="Completed.")
    failed: int = Field(0, description="Failed.")
    crashed: int = Field(0, description="Crashed.")
    cancelled: int = Field(0, description="Cancelled.")
    timed_out: int = Field(0, description="TimedOut.")
    skipped: int = Field(0, description="Skipped.")


class RunList(Said):
    """A page of runs."""

    items: list[RunRow] = Field(description="The runs, in the order asked for.")
    total: int = Field(description="How many match all filters.")
    counts: PhaseCounts = Field(description="By phase, over what matches all filters but that of the phase.")
    cursor: str | None = Field(None, description="To be given as `cursor` for the next page; null: this is the last.")


class ArchivedRunList(Wire):
    """Runs that have ended, from the archive, the newest first."""

    items: list[RunRow] = Field(description="The runs; those that are in the cluster as well are left out.")
    cursor: str | None = Field(None, description="To be given as `cursor` for older ones; null: there are none.")
    problems: list[str] = Field(default_factory=list, description="Which archives could not be read, and why.")


class Diagnosis(Wire):
    """What went wrong, and what to do about it."""

    category: str = Field(description="One CamelCase word; stable.")
    summary: str = Field(description="What happened.")
    resolution: str = Field("", description="What to do about it.")
    whose: Literal["Infrastructure", "Code"] | None = Field(None, description="Whose failure it was.")
    traceback: str = Field("", description="The last lines of the log before the end, if they are known here.")


class AttemptItem(Wire):
    """One attempt of the run: a Job and its pod."""

    number: int = Field(description="1 for the first.")
    job: str = Field("", description="Name of the Job.")
    pod: str = Field("", description="Name of the pod.")
    node: str = Field("", description="The node it ran on.")
    start_time: Time | None = Field(None, description="When it started.")
    end_time: Time | None = Field(None, description="When it ended; null while it goes on.")
    duration_seconds: Seconds | None = Field(None, description="How long it took.")
    reason: str = Field("", description="How it ended, in one word.")
    message: str = Field("", description="The same in a sentence.")
    exit_code: int | None = Field(None, description="Exit code of the container.")
    whose: Literal["Infrastructure", "Code"] | None = Field(None, description="Whose failure it was.")
    current: bool = Field(False, description="It is the newest one.")


class StageItem(Wire):
    """One stage of the run on the timeline. The stages follow each other without gaps from the run's due time to its end."""

    name: Literal["queued", "schedule", "image", "start", "import", "hold", "user", "idle"] = Field(
        description="queued: for a slot. schedule: for a node. image: until the container starts. start: both, where they are not told apart. import: of the code. hold: until its time. user: in the flow. idle: what no other stage explains."
    )
    seconds: Seconds = Field(description="How long.")
    ratio: float = Field(description="Of the whole time, 0 to 1.")
    overhead: bool = Field(description="Not the flow's own time.")
    start_time: Time | None = Field(None, description="When it began.")


class StageTimes(Wire):
    """Where the run's time went."""

    items: list[StageItem] = Field(default_factory=list, description="The stages that are known, in their order.")
    total_seconds: Seconds | None = Field(None, description="From due to the end (or to now).")
    overhead_seconds: Seconds | None = Field(None, description="What of it was not the flow's own.")
    overhead_ratio: float | None = Field(None, description="The same as a part, 0 to 1; null until it can be told.")
    install_seconds: Seconds | None = Field(None, description="Of import: installing packages.")
    complete: bool = Field(False, description="The run is over: these do not change any more.")


class TaskTry(Wire):
    """One try of a task run, for the timeline."""

    run_attempt: int = Field(description="In which attempt of the run.")
    number: int = Field(description="Which try of the task; 1 for the first.")
    state: TaskState = Field(description="How it ended, or Running.")
    start_time: Time | None = Field(None, description="When it began.")
    end_time: Time | None = Field(None, description="When it ended.")
    message: str = Field("", description="Why it failed.")


class TaskItem(Wire):
    """One task run."""

    id: str = Field(description="Its id in the run.")
    name: str = Field(description="Its name.")
    state: TaskState = Field(description="Where it stands.")
    attempt: int = Field(0, description="Which try this is; 0 before the first.")
    start_time: Time | None = Field(None, description="When the first try began.")
    end_time: Time | None = Field(None, description="When it ended for good.")
    duration_seconds: Seconds | None = Field(None, description="From the first try's beginning to the end, or so far.")
    message: str = Field("", description="Why it failed or was skipped.")
    cached: bool = Field(False, description="The result came from the cache.")
    persisted: bool = Field(False, description="The result is stored: a retry does not run it again.")
    upstream: list[str] = Field(default_factory=list, description="Ids of the task runs whose results it took.")
    tries: list[TaskTry] = Field(
        default_factory=list, description="Every try that is known, oldest first; of earlier attempts too."
    )
    level: int = Field(0, description="Column in the graph: one more than the greatest of those before it.")


class TaskEdge(Wire):
    """Of the dependency graph: `target` took the result of `source`."""

    source: str = Field(description="Id of the earlier task run.")
    target: str = Field(description="Id of the later one.")


class SlotItem(Wire):
    """A slot of a ConcurrencyLimit that a task waits for or holds."""

    limit: str = Field(description="Name of the ConcurrencyLimit.")
    occupy: int = Field(description="How many slots.")
    state: str = Field(description="Waiting, Held or Refused.")
    holder: str = Field("", description="Who asked.")
    requested_time: Time | None = Field(None, description="When.")
    granted_time: Time | None = Field(None, description="When it got them.")
    message: str = Field("", description="Why it was refused.")


class ArtifactItem(Wire):
    """Something that the run shows to people."""

    id: str = Field(description="Its id.")
    key: str | None = Field(None, description="What it is a version of.")
    type: Literal["markdown", "table", "link", "image", "progress"] = Field(description="How `data` is to be shown.")
    data: Any = Field(
        None,
        description="markdown: a text, to be rendered without its HTML. table: a list of objects or of lists, or an object of lists. link: {link, text}. image: an address. progress: 0 to 100. null: see `omitted`.",
    )
    omitted: str = Field("", description="Why there is no data, for example because it is too large.")
    description: str = Field("", description="What it shows.")
    task: str = Field("", description="Id of the task run that made it.")
    created_time: Time | None = Field(None, description="When it was made.")
    updated_time: Time | None = Field(None, description="When it was last changed.")


class ResultItem(Wire):
    """Where a result lies."""

    task: str = Field(description="Id of the task run; empty: the flow's own return value.")
    preview: str | None = Field(None, description="The beginning of the value as JSON, where the status has it.")
    persisted: bool = Field(False, description="It is in the storage.")
    place: str = Field("", description="The folder of the storage, as a URL.")


class ArchivePlace(Wire):
    """Where log and record of the run lie."""

    storage: str = Field(description="URL of the storage.")
    path: str = Field(description="Folder in it.")
    complete: bool = Field(True, description="False: the run's process did not come to write its record.")
    problem: str = Field("", description="Why it cannot be read from here; empty if it can.")


class FlowCode(Wire):
    """The code that runs."""

    name: str = Field("", description="Name of the Flow.")
    generation: int | None = Field(None, description="Its generation at the first attempt.")
    config_map: str = Field("", description="The ConfigMap with the code.")
    revision: str = Field("", description="What was fetched: a Git commit or a checksum.")
    entrypoint: str = Field("", description="path.py:function")


class RerunInfo(Wire):
    """What a run that repeats another takes from it."""

    of: str = Field(description="The run whose results are used.")
    reused: int = Field(0, description="Task runs with a stored result, as planned at the start.")
    to_run: int = Field(0, description="Task runs to run again, as planned at the start.")


class RunDetail(Said):
    """Everything about one run, but its log, Events and YAML."""

    run: RunRow = Field(description="What a list says of it.")
    resource_version: str = Field("", description="Version of the object; empty: from the archive.")
    conditions: list[Condition] = Field(default_factory=list, description="Condition Succeeded, and others.")
    diagnosis: Diagnosis | None = Field(None, description="What went wrong, and what to do; null if nothing did.")
    waiting_for: str = Field("", description="Of a run that has not started: what it waits for, in a sentence.")
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="What the flow is called with: the Deployment's parameters and the run's own over them.",
    )
    own_parameters: dict[str, Any] = Field(default_factory=dict, description="Only what the run itself says.")
    parameter_schema: dict[str, Any] | None = Field(
        None, description="JSON Schema of the flow's parameters, as it is now; null if it is not known."
    )
    overrides: dict[str, Any] = Field(default_factory=dict, description="What it has otherwise than its Deployment.")
    code: FlowCode = Field(default_factory=FlowCode, description="The code that runs.")
    pod: str = Field("", description="Pod of the newest attempt.")
    attempts: list[AttemptItem] = Field(default_factory=list, description="Oldest first, with the one under way.")
    infrastructure_failures: int = Field(0, description="Attempts that the cluster failed.")
    code_failures: int = Field(0, description="Attempts that the code failed.")
    stages: StageTimes = Field(default_factory=StageTimes, description="Where the time went.")
    task_counts: TaskCounts = Field(default_factory=TaskCounts, description="How many task runs stand where.")
    tasks: list[TaskItem] = Field(
        default_factory=list, description="In the order in which they began; waiting ones last."
    )
    edges: list[TaskEdge] = Field(default_factory=list, description="Of the graph; both ends are in `tasks`.")
    truncated_tasks: int = Field(0, description="Task runs that are only counted.")
    slots: list[SlotItem] = Field(default_factory=list, description="Slots that tasks wait for or hold.")
    artifacts: list[ArtifactItem] = Field(default_factory=list, description="The newest version of each.")
    results: list[ResultItem] = Field(default_factory=list, description="The flow's return value first.")
    archive: ArchivePlace | None = Field(None, description="Where its log and record lie; null: nowhere.")
    rerun: RerunInfo | None = Field(None, description="What it takes from the run that it repeats.")
    retries: list[RecentRun] = Field(default_factory=list, description="Runs that repeat this one.")
    actions: list[Action] = Field(
        default_factory=list, description="cancel, retry, rerun, suspend, resume and delete: what can be done now."
    )
