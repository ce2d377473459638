"""What people define: Deployments, WorkQueues, ConcurrencyLimits, Blocks; and the agents that run things."""

from typing import Any, Literal

from pydantic import Field

from levada.dashboard.models.common import Action, Condition, Said, Seconds, Time, Wire
from levada.dashboard.models.health import HealthProblem
from levada.resources.phases import RunPhase


class RecentRun(Wire):
    """A run in a few words, for a strip of bars."""

    namespace: str = Field(description="Namespace.")
    name: str = Field(description="Name.")
    phase: RunPhase | None = Field(None, description="Where it stands.")
    reason: str = Field("", description="Why.")
    created_time: Time = Field(description="When it was created.")
    duration_seconds: Seconds | None = Field(None, description="How long it took.")


class DeploymentRow(Wire):
    """One Deployment in a list."""

    namespace: str = Field(description="Namespace.")
    name: str = Field(description="Name.")
    flow: str = Field(description="Name of its Flow.")
    description: str = Field("", description="The Flow's description.")
    queue: str = Field(description="Its WorkQueue.")
    tags: list[str] = Field(default_factory=list, description="Words to find it by.")
    paused: bool = Field(False, description="It starts no new runs.")
    ready: Literal["True", "False", "Unknown"] = Field("Unknown", description="Whether runs can be started.")
    ready_reason: str = Field("", description="Why not.")
    ready_message: str = Field("", description="Why not, and what to do.")
    schedules: list[str] = Field(default_factory=list, description="Names of its Schedules.")
    next_tick: Time | None = Field(None, description="The next tick of its Schedules.")
    active: int = Field(0, description="Runs that have not ended.")
    success_ratio: float | None = Field(
        None, description="Of its newest runs (at most 50) that ended and were not cancelled or skipped: 0 to 1."
    )
    recent: list[RecentRun] = Field(default_factory=list, description="Its newest runs, at most 12, the newest last.")
    created_time: Time = Field(description="When it was created.")


class DeploymentList(Said):
    """Deployments."""

    items: list[DeploymentRow] = Field(description="By namespace and name.")


class DeploymentDetail(Said):
    """Everything about one Deployment: what a form needs to run it, and what it did."""

    deployment: DeploymentRow = Field(description="What a list says of it.")
    parameter_schema: dict[str, Any] | None = Field(
        None,
        description="JSON Schema of the flow's parameters, as pydantic writes it; null: nobody knows them, so ask for JSON.",
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="The Deployment's own values: what the form shows first. They win over the schema's defaults.",
    )
    allow_overrides: list[str] = Field(default_factory=list, description="What a run may have otherwise.")
    entrypoint: str = Field("", description="path.py:function")
    source: str = Field("", description="Where the code is: inline, a ConfigMap, an image, s3://… or a Git URL.")
    image: str = Field("", description="Container image; empty: the operator's default.")
    resources: dict[str, Any] = Field(default_factory=dict, description="Requests and limits of the run's container.")
    service_account: str = Field("", description="As whom the run's pod acts.")
    retries: int = Field(0, description="How many more attempts after the code's failure.")
    infrastructure_retries: int = Field(0, description="How many more attempts after the cluster's failure.")
    timeout_seconds: int | None = Field(None, description="How long one attempt may take; null: no limit.")
    concurrency_limit: int | None = Field(None, description="How many runs may go at once; null: no limit.")
    concurrency_policy: str = Field("", description="What becomes of one more.")
    priority: int = Field(0, description="Among the waiting runs of its queue.")
    storage: str = Field("", description="Where results, logs and history go; empty: nowhere.")
    conditions: list[Condition] = Field(default_factory=list, description="The operator's observations.")
    recent: list[RecentRun] = Field(default_factory=list, description="Its newest runs, at most 50, the newest first.")
    actions: list[Action] = Field(default_factory=list, description="run, pause and resume.")


class QueueRow(Wire):
    """One WorkQueue."""

    namespace: str = Field(description="Namespace.")
    name: str = Field(description="Name.")
    exists: bool = Field(True, description="False: Deployments name it, but there is no object, so it has no limit.")
    description: str = Field("", description="What it is for.")
    limit: int | None = Field(None, description="How many runs may go at once; null: any number.")
    priority: int = Field(0, description="The higher number goes first.")
    paused: bool = Field(False, description="It starts no new runs.")
    local_queue: str = Field("", description="Kueue's LocalQueue.")
    active: int = Field(0, description="Runs that hold a slot.")
    waiting: int = Field(0, description="Runs that wait for one.")
    oldest_waiting_time: Time | None = Field(None, description="Since when the first of them waits.")
    deployments: list[str] = Field(default_factory=list, description="Deployments that name it.")
    agents: list[str] = Field(default_factory=list, description="Agents that serve it.")
    conditions: list[Condition] = Field(default_factory=list, description="The operator's observations.")
    actions: list[Action] = Field(default_factory=list, description="pause, resume and limit.")


class QueueList(Said):
    """WorkQueues."""

    items: list[QueueRow] = Field(description="The highest priority first.")


class LimitHolder(Wire):
    """A run that holds slots."""

    run: str = Field(description="Name of the FlowRun.")
    slots: int = Field(description="How many.")
    since: Time | None = Field(None, description="Since when.")


class LimitRow(Wire):
    """One ConcurrencyLimit."""

    namespace: str = Field(description="Namespace.")
    name: str = Field(description="Name.")
    description: str = Field("", description="What it protects.")
    limit: int = Field(description="How many slots there are.")
    slots_per_second: float = Field(0.0, description="Of a rate: how many come back each second; 0: none of a rate.")
    active: int = Field(0, description="Slots that are held.")
    waiting: int = Field(0, description="Tasks that wait.")
    holders: list[LimitHolder] = Field(default_factory=list, description="Who has held slots the longest.")


class LimitList(Said):
    """ConcurrencyLimits."""

    items: list[LimitRow] = Field(description="By namespace and name.")


class SecretRef(Wire):
    """Where a secret value is. Never the value."""

    field: str = Field(description="Which setting it is.")
    secret: str = Field(description="Name of the Secret.")
    key: str = Field(description="Key in it.")


class BlockRow(Wire):
    """One Block."""

    namespace: str = Field(description="Namespace.")
    name: str = Field(description="Name.")
    type: str = Field(description="What kind of setting it is.")
    values: dict[str, Any] = Field(default_factory=dict, description="Its plain values.")
    secrets: list[SecretRef] = Field(default_factory=list, description="Its secret values, by name only.")
    notifies: str = Field("", description="At which phases of every run it is told; empty: it is not.")
    used_by: list[str] = Field(
        default_factory=list, description="Deployments whose notifications name it. What code loads is not known here."
    )
    conditions: list[Condition] = Field(default_factory=list, description="The operator's observations.")
    created_time: Time = Field(description="When it was created.")


class BlockList(Said):
    """Blocks."""

    items: list[BlockRow] = Field(description="By namespace and name.")


class AgentRow(Wire):
    """One agent: a node that runs flow runs without containers."""

    name: str = Field(description="Name of the node.")
    state: str = Field(description="Ready, NotReady or Stopped.")
    message: str = Field("", description="Why it is not ready.")
    cordoned: bool = Field(False, description="It is sent no further runs.")
    troubles: list[str] = Field(default_factory=list, description="DiskPressure, ClockSkew and their like.")
    queues: list[str] = Field(default_factory=list, description="WorkQueues that it serves.")
    running: list[RecentRun] = Field(
        default_factory=list, description="Runs that it has; only those the viewer may see."
    )
    running_count: int = Field(0, description="How many runs it has, seen or not.")
    capacity: int | None = Field(None, description="How many it can have.")
    cpu: str = Field("", description="CPUs that runs may request.")
    memory: str = Field("", description="Memory that runs may request.")
    limits: str = Field("", description="How limits are kept: cgroup-v2, cgroup-v1, rlimit or none.")
    version: str = Field("", description="Version of Levada.")
    heartbeat_time: Time | None = Field(None, description="When it last said that it is alive, to some minutes.")
    created_time: Time = Field(description="When it registered.")


class AgentList(Said):
    """Agents."""

    items: list[AgentRow] = Field(description="By name.")
    problem: HealthProblem | None = Field(None, description="Why there may be agents that are not listed.")
