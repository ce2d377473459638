"""What people write, as decisions see it: slim, frozen views of Flow, Deployment, WorkQueue, Schedule and their like.

definition_views.py makes them from API dicts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from levada.decide.schedule_rule import Rule
from levada.resources.names import DEFAULT_QUEUE, RUNNER_SERVICE_ACCOUNT

# Deployment.spec.concurrency.policy
QUEUE, SKIP, REPLACE = "Queue", "Skip", "Replace"


@dataclass(frozen=True, slots=True)
class FlowView:
    """A Flow with what is known of its code."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    entrypoint: str
    created_at: datetime
    inline: str | None = None
    config_map: str = ""
    image_path: str = ""
    remote: str = ""  # code in a bucket or repository, as resources.sources writes it
    requirements: str = ""  # as resources.requirements writes it
    parameter_schema: Mapping[str, Any] | None = None
    status: Mapping[str, Any] = field(default_factory=dict)
    deleting: bool = False

    @property
    def code_config_map(self) -> str:
        """The ConfigMap that holds the code of this generation, once there is one."""
        return str(self.status.get("codeConfigMap") or "")


@dataclass(frozen=True, slots=True)
class FailureRule:
    """A rule of the Deployment's failurePolicy. What is empty fits everything; `codes_in` False: all codes but these."""

    action: str
    codes: frozenset[int] = frozenset()
    codes_in: bool = True
    reasons: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a run may start again, and how long it waits before."""

    limit: int
    delay_s: float = 10.0
    max_delay_s: float = 600.0


@dataclass(frozen=True, slots=True)
class History:
    """Which finished runs of a Deployment stay. None is the default, which history.py knows."""

    ttl_s: int | None = None
    keep_successful: int | None = None
    keep_failed: int | None = None


@dataclass(frozen=True, slots=True)
class Notification:
    """Whom to tell about runs, and when. `to` is the target as the resource spells it.

    `namespace`: where its Block and Secrets are, if not with the run: a default of the whole cluster.
    """

    name: str
    phases: frozenset[str]
    to: Mapping[str, Any]
    late_after_s: float = 600.0
    subject: str = ""
    body: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """A Deployment with its defaults filled in."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    flow: str
    created_at: datetime
    parameters: Mapping[str, Any] = field(default_factory=dict)
    queue: str = DEFAULT_QUEUE
    infrastructure: Mapping[str, Any] = field(default_factory=dict)
    service_account: str = RUNNER_SERVICE_ACCOUNT
    allow_overrides: frozenset[str] = frozenset()
    grace_s: int = 30
    retries: RetryPolicy = RetryPolicy(limit=0)
    infrastructure_retries: RetryPolicy = RetryPolicy(limit=3, max_delay_s=300.0)
    failure_rules: tuple[FailureRule, ...] = ()
    persist_results: bool | None = None
    timeout_s: int | None = None
    pending_timeout_s: int = 600
    paused: bool = False
    storage: str = ""
    history: History = History()
    notifications: tuple[Notification, ...] = ()
    priority: int = 0
    concurrency_limit: int | None = None
    concurrency_policy: str = QUEUE
    status: Mapping[str, Any] = field(default_factory=dict)
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class BlockView:
    """A Block: its type, what it says, where its secrets are, and when it wants to be told of every run (None: never)."""

    namespace: str
    name: str
    uid: str
    resource_version: str = field(compare=False)
    type: str
    values: Mapping[str, Any] = field(default_factory=dict)
    secret_refs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    notify: str | None = None


@dataclass(frozen=True, slots=True)
class QueueView:
    """A WorkQueue. A queue without an object has no limit."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    limit: int | None = None
    paused: bool = False
    priority: int = 0
    local_queue: str = ""
    workload_priority_class: str = ""
    status: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LimitView:
    """A ConcurrencyLimit. `full_at`: when all slots that turns have used up will have come back."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    limit: int
    decay_per_s: float = 0.0
    full_at: datetime | None = None
    status: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A Schedule with its defaults filled in. `edited_at`: when its spec was last written, to the second, as the API server noted it."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    created_at: datetime
    deployment: str
    rule: Rule
    edited_at: datetime | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    catch_up: str = "Latest"
    max_catch_up: int = 100
    deadline_s: int = 3600
    policy: str = "Allow"
    jitter_s: int = 0
    prestart_s: int = 0
    suspended: bool = False
    deleting: bool = False
    status: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BackfillView:
    """A Backfill. `rule` is its own, if it names no Schedule."""

    namespace: str
    name: str
    uid: str
    resource_version: str = field(compare=False)
    generation: int
    created_at: datetime
    deployment: str
    rule: Rule
    start_at: datetime
    end_at: datetime
    schedule: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    max_active: int = 5
    reverse: bool = False
    reprocess: str = "None"
    dry_run: bool = False
    paused: bool = False
    cancel: bool = False
    status: Mapping[str, Any] = field(default_factory=dict)
    deleting: bool = False
