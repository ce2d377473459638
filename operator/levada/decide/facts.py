"""What a decision is made from: slim, frozen views of the cluster's objects, and the facts about one object with `now`.

views.py makes the views from API dicts, operator/gather.py puts the facts together. If a decision needs to know something,
it is a field here, never a call. Views leave out everything that no decision reads: thousands of them are kept in memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from levada.decide.code import Signature
from levada.decide.definitions import DeploymentView, FlowView, QueueView
from levada.resources.phases import RunPhase


@dataclass(frozen=True, slots=True)
class Pin:
    """The code that a run was started with: later changes of the Flow do not reach it."""

    name: str
    generation: int
    code_config_map: str = ""


@dataclass(frozen=True, slots=True)
class SlotView:
    """Slots of a ConcurrencyLimit that a task of a run waits for or holds, as the run's status has it."""

    id: str
    limit: str
    occupy: int
    attempt: int
    state: str  # Waiting, Held or Refused
    requested_at: datetime
    granted_at: datetime | None = None
    priority: int | None = None
    rate: bool = False


@dataclass(frozen=True, slots=True)
class TaskPodView:
    """A pod of its own that the code of a run has asked for. The run writes it: nothing in it is believed but what is checked."""

    id: str
    attempt: int
    state: str  # Waiting, Granted, Ended or Refused
    requested_at: datetime
    holder: str = ""
    granted_at: datetime | None = None
    reason: str = ""
    message: str = ""
    wanted: Mapping[str, Any] = field(default_factory=dict)  # image, resources, nodeSelector, tolerations


@dataclass(frozen=True, slots=True)
class RunEnd:
    """What only the end of a run tells. Times are in seconds; None: nobody measured.

    tasks: for each task run that ran and has a row, the name of the task (of its function, not of the run) and how long it took.
    counts: all task runs by state, as status.taskCounts has them.
    task_retries: how many tries beyond the first the rows show.
    """

    duration_s: float | None = None
    wait_s: float | None = None
    import_s: float | None = None
    hold_s: float | None = None
    user_s: float | None = None
    tasks: tuple[tuple[str, float], ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    task_retries: int = 0


@dataclass(frozen=True, slots=True)
class RunView:
    """A FlowRun, without its task rows."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    created_at: datetime
    deployment: str
    generation: int = 1
    deleting: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    cancel: bool = False
    suspend: bool = False
    retry_of: str = ""
    from_scratch: bool = False
    results_key: str = ""  # inherited from the repeated run; empty: its own
    parameters_digest: str = ""
    priority: int | None = None
    scheduled_at: datetime | None = None
    delay_s: float = 0.0
    prestart_s: int = 0
    schedule: str = ""
    schedule_uid: str = ""
    backfill: str = ""
    backfill_uid: str = ""
    traceparent: str = ""
    phase: str = ""
    reason: str = ""
    message: str = ""
    queue: str = ""
    attempt: int = 0
    attempts: tuple[Mapping[str, Any], ...] = ()
    infrastructure_failures: int = 0
    code_failures: int = 0
    next_attempt_at: datetime | None = None
    admitted_at: datetime | None = None
    pin: Pin | None = None
    pod_name: str = ""
    code_revision: str = ""
    queued_seconds: float = 0.0
    started_at: datetime | None = None
    completed_at: datetime | None = None
    succeeded: Mapping[str, Any] | None = None  # the condition of this name, as it stands
    other_conditions: tuple[Mapping[str, Any], ...] = ()  # the rest: who writes one writes them all
    slots: tuple[SlotView, ...] = ()
    task_pods: tuple[TaskPodView, ...] = ()
    end: RunEnd | None = None  # in a terminal phase only

    @property
    def due_at(self) -> datetime:
        """When the flow is to start: at its scheduled time and its jitter, but not before there was a run."""
        if self.scheduled_at is None:
            return self.created_at
        return max(self.created_at, self.scheduled_at + timedelta(seconds=self.delay_s))

    @property
    def concluded(self) -> bool:
        """Whether the failure of the current attempt is already on record, so that only its successor is missing."""
        return any(record.get("number") == self.attempt for record in self.attempts)

    @property
    def parked(self) -> bool:
        """Whether the run has stopped between two attempts and holds no slot: suspended, or queued again after that."""
        return self.phase in {RunPhase.PAUSED, RunPhase.QUEUED} and self.attempt > 0 and self.concluded

    @property
    def admitted(self) -> bool:
        """Whether the run has been let in and not stopped since: it holds its place, also between two attempts."""
        return self.attempt > 0 and not self.parked


@dataclass(frozen=True, slots=True)
class JobView:
    """A Job that carries LABEL_RUN. `entrypoint`, `code_dir` and `requirements` are what it told the runner: a later attempt repeats them."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    run: str
    attempt: int
    owner_uid: str
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    deadline_s: int | None = None
    suspended: bool = False
    deleting: bool = False
    active: int = 0
    verdict: str = ""  # "Complete" or "Failed"; a target condition counts: the pods are on their way out
    reason: str = ""
    message: str = ""
    entrypoint: str = ""
    code_dir: str = ""
    requirements: str = ""
    kueue: bool = False  # Kueue says when it may have a pod: while it may not, the Job is suspended
    task_pod: str = ""  # the entry of status.taskPods that it is for; empty: it is an attempt of the run itself

    @property
    def pod_due_since(self) -> datetime:
        """Since when a pod of it should be there."""
        return self.started_at or self.created_at if self.kueue else self.created_at

    @property
    def waits_for_kueue(self) -> bool:
        """Whether Kueue has not admitted it yet, or has taken its place away again."""
        return self.kueue and not (self.verdict or self.deleting) and (self.suspended or self.started_at is None)

    @property
    def can_make_pods(self) -> bool:
        """Whether the Job controller may still start or keep a pod for it."""
        return not (self.verdict or self.deleting) and (self.kueue or not self.suspended)


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod of a run's Job, reduced to its flow container. `gone`: it was deleted, and this is the last that was seen."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    run: str
    attempt: int
    job: str
    created_at: datetime
    run_uid: str = ""
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    node: str = ""
    deletion_due_at: datetime | None = None
    gone: bool = False
    disruption: str = ""  # reason of the DisruptionTarget condition
    disruption_message: str = ""
    unready_since: datetime | None = None  # it runs, and Kubernetes says that it is not ready
    scheduled_at: datetime | None = None  # a node was chosen; whole seconds, as the API server has it
    unschedulable: str = ""  # message of PodScheduled=False
    waiting: str = ""  # reason why a container waits: ErrImagePull, CreateContainerConfigError, ...
    waiting_message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    signal: int = 0
    exit_reason: str = ""  # OOMKilled, Error, StartError, DeadlineExceeded, ...
    termination_message: str = ""
    task_pod: str = ""  # as of its Job
    failed_container: str = ""  # set when another container than the flow's is the one that failed

    @property
    def finished(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.gone or self.phase in {"Succeeded", "Failed"}

    @property
    def running(self) -> bool:
        """Whether the flow container has been started and has not ended, as far as the node says."""
        return not self.finished and self.started_at is not None and self.finished_at is None


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node, asked for because its pod has long been silent. `unready_since` None: it is ready, or nobody may know."""

    exists: bool = True
    unready_since: datetime | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class RepeatedRun:
    """The run that spec.retryOf names: under which key its results are stored, and of how many of its tasks there are some.

    `root` is the first of a chain of retries, `phase` is empty before the run's first.
    """

    exists: bool = True
    root: str = ""
    key: str = ""
    phase: str = ""
    persisted: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """The places in one of the scopes with a limit (the operator, a queue, a Deployment), as one waiting run sees them."""

    limit: int | None = None
    held: int = 0  # by runs that have started or are about to, this one not among them
    ahead: int = (
        0  # runs that wait before this one. Where that is not counted: 0 for the first of those who could start, else 1
    )
    scarce: bool = False  # not everybody who waits could start: the order counts

    @property
    def full(self) -> bool:
        """Whether the runs that have started leave no place."""
        return self.limit is not None and self.held >= self.limit

    @property
    def taken(self) -> bool:
        """Whether there is no place left for this run, after those who come before it."""
        return self.limit is not None and self.held + self.ahead >= self.limit


@dataclass(frozen=True, slots=True)
class Replaceable:
    """A run that is active and has not been asked to stop."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """The queue as one waiting run sees it: derived from live runs at this moment, never counted up and down."""

    view: QueueView | None = None
    deployment: Room = Room()
    queue: Room = Room()
    operator: Room = Room()
    # Runs of the Deployment that could make room for this one, the oldest first; for policy Replace.
    replaceable: tuple[Replaceable, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator's command line and its patience add to the objects. Patience is in seconds."""

    default_image: str = "levada-flow:latest"
    # Of Deployments that name none; empty: their runs are not archived.
    storage: str = ""
    # What Deployments may name beside it, by the beginning of the URL.
    allowed_storages: tuple[str, ...] = ("s3://", "gs://", "gcs://", "abfs://", "abfss://", "az://")
    # A reference that is not there may be the next line of the same `kubectl apply`.
    reference_grace_s: float = 10.0
    # A pod that waits longer than this gets the cause into the run's REASON column.
    note_after_s: float = 10.0
    # A wait without a known cause is mentioned later: in a burst of runs it is only the queue of the cluster, and each mention is two writes.
    note_unexplained_after_s: float = 60.0
    # A run that waits for admission longer than this gets an Event that says what for.
    long_wait_s: float = 300.0
    # A broken image reference or missing Secret does not heal by itself; this is for the one that is being applied right now.
    fail_fast_s: float = 60.0
    # A pull that fails for another reason than a wrong name may go better on another node, with another attempt.
    pull_patience_s: float = 120.0
    # Kubernetes tells of a pod and of its Job on two watches: the Job's verdict may come a little later, or first.
    verdict_wait_s: float = 5.0
    # A runner that reported its end leaves by itself; after this the Job is stopped.
    terminal_grace_s: float = 60.0
    # A pod that is still there so long after its deletion was due sits on a node that is lost.
    lost_after_s: float = 30.0
    # A node that has not been ready for so long is lost: what Kubernetes, too, waits before it evicts.
    node_lost_after_s: float = 300.0


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Everything known about one run at one moment.

    `jobs` and `pods` are those owned by this very run (by uid), `foreign_job` is a Job of another owner that has the name of
    the next attempt. `signature` is that of the flow's function, when its code can be looked at. `job_seen`: this process has seen or created the current attempt's Job, so if it is not among `jobs` it
    has been deleted. `node` and `repeated` are there when a plan has asked for them. `announced`: the Event of the terminal phase has been written.
    `waits_for`: an earlier run of its schedule that has to end first. `looked_up`: the Deployment or Flow that is missing here was asked
    for by name, and is missing in the cluster.
    """

    now: datetime
    run: RunView
    jobs: tuple[JobView, ...] = ()
    pods: tuple[PodView, ...] = ()
    deployment: DeploymentView | None = None
    flow: FlowView | None = None
    signature: Signature | None = None
    queue: QueueFacts = QueueFacts()
    job_seen: bool = False
    foreign_job: JobView | None = None
    node: NodeView | None = None
    repeated: RepeatedRun | None = None
    announced: bool = False
    waits_for: str = ""
    looked_up: bool = False
    settings: Settings = Settings()

    @property
    def job(self) -> JobView | None:
        """The Job of the current attempt."""
        return next((job for job in self.jobs if job.attempt == self.run.attempt), None)

    @property
    def pod(self) -> PodView | None:
        """The pod of the current attempt: a living one before one that is gone, then the newest."""
        mine = [
            pod for pod in self.pods if pod.attempt == self.run.attempt and not self._is_of_an_earlier_admission(pod)
        ]
        return max(mine, key=lambda pod: (not pod.gone, pod.created_at), default=None)

    def _is_of_an_earlier_admission(self, pod: PodView) -> bool:
        """Whether the pod is one that Kueue has evicted. The Job starts anew with each admission, and then gets a pod of its own."""
        job = self.job
        if job is None or not job.kueue or not pod.finished:
            return False
        return job.started_at is not None and not job.suspended and pod.created_at < job.started_at
