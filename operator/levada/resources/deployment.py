"""Deployment: how a flow is run: parameters, queue, pod, retries, time limits.

The name is that of apps/v1's kind as well, so `kubectl get deployments` shows the other one: say `kubectl get fdep`.
"""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from levada.resources.common import (
    LevadaName,
    LevadaRef,
    Model,
    ObjectName,
    ObjectRef,
    Parameters,
    Quantity,
    Resource,
    Status,
)
from levada.resources.names import (
    DEFAULT_QUEUE,
    MAX_NOTIFICATIONS_HELD,
    MAX_TASK_PODS,
    MAX_URL_CHARS,
    OVERRIDE_ENV,
    RUNNER_SERVICE_ACCOUNT,
)
from levada.resources.notification import KnownNotification, Notifications

ImagePullPolicy = Literal["Always", "IfNotPresent", "Never"]
Amounts = Annotated[dict[str, Quantity], Field(max_length=32)]
BY_NAME: dict[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}


class EnvVar(Model):
    """One environment variable: a value, or where to take it from."""

    name: str = Field(
        min_length=1, max_length=256, description="Name of the variable. Names starting with LEVADA_ are ours."
    )
    value: str | None = Field(
        None, max_length=32768, description="The value itself. Quote numbers and booleans in YAML."
    )
    value_from: dict[str, Any] | None = Field(
        None,
        max_length=4,
        description="Where the value comes from, as in a pod: secretKeyRef, configMapKeyRef, fieldRef or resourceFieldRef.",
    )


class EnvSource(Model):
    """A ConfigMap or Secret."""

    name: ObjectName = Field(description="Name of the object, in this object's namespace.")
    optional: bool | None = Field(None, description="Start the run even if the object does not exist.")


class EnvFrom(Model):
    """All keys of a ConfigMap or Secret as environment variables."""

    prefix: str | None = Field(None, max_length=128, description="Put before each key.")
    config_map_ref: EnvSource | None = Field(None, description="The ConfigMap to take the variables from.")
    secret_ref: EnvSource | None = Field(None, description="The Secret to take the variables from.")


class ResourceRequirements(Model):
    """What the run's container asks for and may use."""

    requests: Amounts | None = Field(
        None, description="What the scheduler sets aside, for example cpu: 500m, memory: 1Gi."
    )
    limits: Amounts | None = Field(
        None, description="What the container may use at most; beyond its memory it is killed."
    )


class Toleration(Model):
    """A taint of a node that the run's pod puts up with."""

    key: str | None = Field(
        None, max_length=317, description="Key of the taint; empty with operator Exists: every taint."
    )
    operator: Literal["Exists", "Equal"] | None = Field(
        None, description="Exists ignores the value; the default is Equal."
    )
    value: str | None = Field(None, max_length=63, description="Value of the taint, with operator Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Effect of the taint; every effect when absent."
    )
    toleration_seconds: int | None = Field(
        None, ge=0, le=31_536_000, description="With NoExecute: how long the pod stays after the taint has appeared."
    )


class TaskPods(Model):
    """What the code of a run may ask of the operator: pods of its own for single tasks and for Dask workers."""

    limit: int = Field(
        10, ge=1, le=MAX_TASK_PODS, description="How many such pods a run may have at once; others wait."
    )
    allow: list[Literal["image", "resources", "nodeSelector", "tolerations"]] = Field(
        default_factory=list,
        max_length=4,
        description="What the code may set otherwise than the run's own pod has it. Nothing when absent.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    images: list[Annotated[str, Field(min_length=1, max_length=1024)]] = Field(
        default_factory=list,
        max_length=32,
        description="With image allowed: which ones, as patterns such as registry.example.com/ml/*; any when absent.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


class Infrastructure(Model):
    """The pod of a run. What is not said here comes from the operator's settings."""

    image: str | None = Field(
        None,
        min_length=1,
        max_length=1024,
        description="Container image with Python and levada; the operator's default when absent.",
    )
    image_pull_policy: ImagePullPolicy | None = Field(None, description="When the node fetches the image, as in a pod.")
    image_pull_secrets: list[ObjectRef] = Field(
        default_factory=list,
        max_length=16,
        description="Secrets with credentials for the image's registry.",
        json_schema_extra=BY_NAME,
    )
    resources: ResourceRequirements | None = Field(
        None, description="CPU, memory and other amounts of the run's container."
    )
    env: list[EnvVar] = Field(
        default_factory=list,
        max_length=128,
        description="Environment variables of the run's container.",
        json_schema_extra=BY_NAME,
    )
    env_from: list[EnvFrom] = Field(
        default_factory=list,
        max_length=16,
        description="ConfigMaps and Secrets whose keys become environment variables.",
    )
    service_account_name: ObjectName = Field(
        RUNNER_SERVICE_ACCOUNT,
        description="ServiceAccount of the run's pod. It must be allowed to patch flowruns/status, as levada-runner is.",
    )
    node_selector: dict[str, Annotated[str, Field(max_length=63)]] | None = Field(
        None, max_length=32, description="Labels that a node must have to run the pod."
    )
    tolerations: list[Toleration] = Field(
        default_factory=list, max_length=32, description="Taints of nodes that the pod puts up with."
    )
    pod_template: dict[str, Any] | None = Field(
        None,
        max_length=8,
        description="Merge patch on the pod template (metadata, spec) for everything that has no field here. Containers, volumes, env and mounts merge by name; other lists are replaced.",
    )
    termination_grace_period_seconds: int = Field(
        30, ge=0, le=86_400, description="Seconds between asking a run to stop (SIGTERM) and killing it (SIGKILL)."
    )
    task_pods: TaskPods | None = Field(
        None, description="Lets tasks and Dask workers have pods of their own; without it none may."
    )


class RetryPolicy(Model):
    """New attempts after the flow's own failure: an exception, an exit code, too much memory."""

    limit: int = Field(0, ge=0, le=100, description="How many more attempts a run may have after the first.")
    delay_seconds: int = Field(
        10, ge=0, le=86_400, description="Wait before the first retry; doubled for each further one."
    )
    max_delay_seconds: int = Field(600, ge=0, le=604_800, description="The longest wait between two attempts.")


class InfrastructureRetryPolicy(Model):
    """New attempts after the cluster's failure: eviction, preemption, a lost node. They never use up `retries`."""

    limit: int = Field(
        3, ge=0, le=100, description="How often a run may be started anew because the cluster failed it."
    )
    delay_seconds: int = Field(
        10, ge=0, le=86_400, description="Wait before the first retry; doubled for each further one."
    )
    max_delay_seconds: int = Field(300, ge=0, le=604_800, description="The longest wait between two attempts.")


StorageUrl = Annotated[str, Field(min_length=1, max_length=MAX_URL_CHARS)]


class History(Model):
    """Which finished runs stay as objects. What leaves is read from the archive, if there is a storage."""

    ttl_seconds: int | None = Field(
        None,
        ge=0,
        le=315_360_000,
        description="A finished run leaves so long after its end, whatever the counts say; without it only the counts decide.",
    )
    keep_successful: int | None = Field(
        None, ge=0, le=10_000, description="How many of the runs that completed stay, the newest; 100 when absent."
    )
    keep_failed: int | None = Field(
        None,
        ge=0,
        le=10_000,
        description="How many of the runs that ended otherwise stay, the newest; when absent 100 with a storage, and all without one.",
    )


class ExitCodes(Model):
    """Exit codes of the flow's container."""

    operator: Literal["In", "NotIn"] = Field("In", description="In: one of values. NotIn: none of them, and not 0.")
    values: list[Annotated[int, Field(ge=1, le=255)]] = Field(
        min_length=1,
        max_length=255,
        description="Exit codes, for example 2; 137 is SIGKILL, 139 is SIGSEGV.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


class FailureRule(Model):
    """What to do about an attempt that failed in a certain way."""

    action: Literal["Fail", "Retry", "RetryInfrastructure"] = Field(
        description="Fail: no further attempt. Retry: counts for retries. RetryInfrastructure: counts for infrastructureRetries."
    )
    on_exit_codes: ExitCodes | None = Field(None, description="Exit codes that the rule is for.")
    on_reasons: list[Annotated[str, Field(min_length=1, max_length=64, pattern="^[A-Za-z][A-Za-z0-9-]*$")]] = Field(
        default_factory=list,
        max_length=32,
        description="Reasons that the rule is for: of the run (OutOfMemory, Evicted, FlowFailed) or of the pod (OOMKilled).",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


class FailurePolicy(Model):
    """Which failures are worth another attempt, and from which budget. Without a rule that fits, Levada's own judgement holds."""

    rules: list[FailureRule] = Field(
        min_length=1, max_length=20, description="Looked at in order: the first rule that fits decides."
    )


class Concurrency(Model):
    """How many runs of the Deployment may go at once, and what becomes of one more."""

    limit: int = Field(ge=1, le=100_000, description="How many runs of this Deployment may go at once.")
    policy: Literal["Queue", "Skip", "Replace"] = Field(
        "Queue",
        description="A run beyond the limit: Queue lets it wait, Skip ends it as Skipped, Replace cancels the oldest active runs and starts it when they have gone.",
    )


# What a FlowRun may ever override: nothing of it brings rights or secrets that the Deployment has not.
OVERRIDABLE: Final = ("image", "resources", "nodeSelector", "tolerations", "timeoutSeconds", "retries")
Override = Annotated[
    str,
    Field(max_length=260, pattern=rf"^({'|'.join(OVERRIDABLE)}|{re.escape(OVERRIDE_ENV)}[A-Za-z_][A-Za-z0-9_.-]*)$"),
]


class PlainEnvVar(Model):
    """One environment variable with a value of its own."""

    name: str = Field(min_length=1, max_length=256, description="Name of the variable.")
    value: str = Field("", max_length=4096, description="The value, taken literally.")


class Overrides(Model):
    """What a run has otherwise than its Deployment, as far as the Deployment's allowOverrides opens it."""

    image: str | None = Field(None, min_length=1, max_length=1024, description="Another container image.")
    resources: ResourceRequirements | None = Field(
        None, description="Other amounts; those that are not named here stay as the Deployment has them."
    )
    env: list[PlainEnvVar] = Field(
        default_factory=list,
        max_length=32,
        description="Other values of environment variables; each is opened by its name, as env.NAME.",
        json_schema_extra=BY_NAME,
    )
    node_selector: dict[str, Annotated[str, Field(max_length=63)]] | None = Field(
        None, max_length=32, description="Further labels that a node must have, or other values of the Deployment's."
    )
    tolerations: list[Toleration] = Field(
        default_factory=list, max_length=32, description="Further taints of nodes that the pod puts up with."
    )
    timeout_seconds: int | None = Field(
        None, ge=1, le=31_536_000, description="How long one attempt may take, from the start of its Job."
    )
    retries: RetryPolicy | None = Field(None, description="New attempts after the flow's own failure.")


class DeploymentSpec(Model):
    """How to run the flow."""

    flow_ref: LevadaRef = Field(description="The Flow to run, in this namespace.")
    parameters: Parameters = Field(
        default_factory=dict, description="Arguments of the flow; a FlowRun's own parameters are laid over them."
    )
    tags: list[Annotated[str, Field(min_length=1, max_length=63)]] = Field(
        default_factory=list,
        max_length=32,
        description="Words to find the deployment by; the flow's code sees them too.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    work_queue: LevadaName = Field(
        DEFAULT_QUEUE, description="WorkQueue whose limits count for the runs, and which agents serve by name."
    )
    priority: int = Field(
        0,
        ge=-1_000_000,
        le=1_000_000,
        description="Among the waiting runs of a queue, the higher number starts first; a FlowRun may say its own.",
    )
    concurrency: Concurrency | None = Field(
        None, description="How many runs of this Deployment may go at once; no limit of its own when absent."
    )
    infrastructure: Infrastructure = Field(default_factory=Infrastructure, description="The pod that a run gets.")
    allow_overrides: list[Override] = Field(
        default_factory=list,
        max_length=64,
        description=f"What a FlowRun may say otherwise in its spec.overrides: {', '.join(OVERRIDABLE)}, or {OVERRIDE_ENV}NAME for a variable. Nothing when empty. Who opens the image lets everybody who may start runs run any code with the rights of the run's pod.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    retries: RetryPolicy = Field(default_factory=RetryPolicy, description="New attempts after the flow's own failure.")
    infrastructure_retries: InfrastructureRetryPolicy = Field(
        default_factory=InfrastructureRetryPolicy,
        description="New attempts after the cluster's failure; they never use up retries.",
    )
    failure_policy: FailurePolicy | None = Field(
        None, description="Exit codes and reasons that are not to be retried, or from another budget."
    )
    persist_results: bool | None = Field(
        None,
        description="Whether results of tasks are stored where the code does not say; what is stored is not run again by a later attempt or a retry.",
    )
    timeout_seconds: int | None = Field(
        None,
        ge=1,
        le=31_536_000,
        description="How long one attempt may take, from the start of its Job; no limit when absent.",
    )
    pending_timeout_seconds: int = Field(
        600, ge=1, le=604_800, description="How long a pod may take to start before the attempt counts as crashed."
    )
    paused: bool = Field(False, description="Start no new runs; those under way go on.")
    storage: StorageUrl | None = Field(
        None,
        description="Where results, logs and history of the runs go, as a URL such as s3://bucket/prefix; the operator's --storage when absent.",
    )
    history: History = Field(
        default_factory=History, description="Which finished runs stay as objects; the others live on in the storage."
    )
    notifications: Notifications = Field(
        default_factory=list,
        description="Whom the operator tells about runs, and when; also about those that crashed or never started.",
    )


class DeploymentStatus(Status):
    """Whether runs can be started; condition Ready says why not."""

    storage: StorageUrl | None = Field(
        None, description="Where results, logs and history of its runs go: spec.storage, or the operator's default."
    )
    notifications: dict[str, KnownNotification] = Field(
        default_factory=dict,
        max_length=MAX_NOTIFICATIONS_HELD,
        description="The notifications that hold for runs, by name: its own, and those of the namespace and the cluster.",
    )


class Deployment(Resource):
    """How a flow is run: parameters, queue, pod, retries and time limits. Use the short name fdep: `deployments` is taken by apps/v1."""

    kind: Literal["Deployment"] = "Deployment"
    spec: DeploymentSpec = Field(description="How to run the flow.")
    status: DeploymentStatus = Field(
        default_factory=DeploymentStatus, description="What the operator found; written by the operator."
    )
