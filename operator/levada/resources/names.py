"""The names that Levada writes into a cluster: API group, labels, annotations, environment variables, field managers.

Everything that two rooms must spell alike stands here, and nowhere else. Standard library only: the run's pod imports this.
"""

from typing import Final

GROUP: Final = "levada.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

# The condition of a Deployment that says whether what its runs leave gets into their storage.
CONDITION_ARCHIVED: Final = "Archived"

# Labels. Every Job and Pod of a run carries the first four; the operator watches only objects that have LABEL_RUN.
LABEL_RUN: Final = f"{GROUP}/run"
LABEL_ATTEMPT: Final = f"{GROUP}/attempt"
LABEL_DEPLOYMENT: Final = f"{GROUP}/deployment"
LABEL_QUEUE: Final = f"{GROUP}/queue"
LABEL_FLOW: Final = f"{GROUP}/flow"
LABEL_SCHEDULE: Final = f"{GROUP}/schedule"
LABEL_BACKFILL: Final = f"{GROUP}/backfill"
# On a run that repeats another (spec.retryOf): the name of that run.
LABEL_RETRY_OF: Final = f"{GROUP}/retry-of"
# On the Job and the pod of a single task, or of a Dask worker: which entry of status.taskPods asked for it.
LABEL_TASK_POD: Final = f"{GROUP}/task-pod"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "levada"

# An agent is a node: its label says that it is one, QUEUE_LABEL_PREFIX + queue which queues it serves, the taint keeps other pods away.
LABEL_AGENT: Final = f"{GROUP}/agent"
# How the agent keeps the limits of containers: cgroup-v2, cgroup-v1, rlimit or none. A nodeSelector may ask for it.
LABEL_LIMITS: Final = f"{GROUP}/limits"
QUEUE_LABEL_PREFIX: Final = f"queue.{GROUP}/"
TAINT_AGENT: Final = f"{GROUP}/agent"

ANNOTATION_RUN_UID: Final = f"{GROUP}/run-uid"
# On the FlowRun of a tick: which Schedule of that name it belongs to. One that was deleted and made anew has other ticks.
ANNOTATION_SCHEDULE_UID: Final = f"{GROUP}/schedule-uid"
ANNOTATION_BACKFILL_UID: Final = f"{GROUP}/backfill-uid"
# On a FlowRun whose flow is paused: a person says that it may go on. A pause with a key has an annotation of its own, `…/resume-<key>`.
ANNOTATION_RESUME: Final = f"{GROUP}/resume"
# On what was ordered with an id of the order: sent twice, it is the same object.
ANNOTATION_ORDER: Final = f"{GROUP}/order-id"

# On a Block that can be told: it is told of every run of its namespace, at the phases that the value lists; in OPERATOR_NAMESPACE of
# every run there is.
ANNOTATION_NOTIFY: Final = f"{GROUP}/notify"
# Kueue's labels on a Job that one of its LocalQueues admits.
LABEL_KUEUE_QUEUE: Final = "kueue.x-k8s.io/queue-name"
LABEL_KUEUE_PRIORITY: Final = "kueue.x-k8s.io/priority-class"

# On a FlowRun that was ordered inside a trace (W3C Trace Context): its pod goes on with that trace.
ANNOTATION_TRACEPARENT: Final = f"{GROUP}/traceparent"
ENV_TRACEPARENT: Final = "TRACEPARENT"

FIELD_MANAGER_OPERATOR: Final = "levada-operator"
FIELD_MANAGER_RUNNER: Final = "levada-runner"
FIELD_MANAGER_CLI: Final = "levada-cli"
FIELD_MANAGER_DASHBOARD: Final = "levada-dashboard"

OPERATOR_NAMESPACE: Final = "levada-system"
OPERATOR_SERVICE_ACCOUNT: Final = "levada-operator"
RUNNER_SERVICE_ACCOUNT: Final = "levada-runner"

DEFAULT_QUEUE: Final = "default"
CONTAINER_NAME: Final = "flow"

# What the operator tells the runner, as environment variables of the run's container. Short values travel together, as a JSON
# object in ENV_ORDER, and the runner spreads them out: every variable of a pod is work for the API server at each of its updates.
ENV_ORDER: Final = "LEVADA_ORDER"
ENV_RUN: Final = "LEVADA_RUN"
ENV_NAMESPACE: Final = "LEVADA_NAMESPACE"
ENV_POD: Final = "LEVADA_POD"
ENV_NODE: Final = "LEVADA_NODE"
ENV_ATTEMPT: Final = "LEVADA_ATTEMPT"
ENV_DEPLOYMENT: Final = "LEVADA_DEPLOYMENT"
ENV_ENTRYPOINT: Final = "LEVADA_ENTRYPOINT"
ENV_CODE_DIR: Final = "LEVADA_CODE_DIR"
# Set by the run's process itself, once it has fetched its code: for the pods of its tasks.
ENV_CODE_REVISION: Final = "LEVADA_CODE_REVISION"
ENV_PARAMETERS: Final = "LEVADA_PARAMETERS"
# What the flow needs to be installed, as resources.requirements writes it; not set: what the flow's file says itself (PEP 723).
ENV_REQUIREMENTS: Final = "LEVADA_REQUIREMENTS"
# The folder with the Secret that opens a Git repository.
ENV_SOURCE_SECRET_DIR: Final = "LEVADA_SOURCE_SECRET_DIR"  # noqa: S105  a name
# Where environments with the packages of flows are kept: an agent's own folder, a volume, or (not set) the pod's scratch folder.
ENV_ENVIRONMENTS_DIR: Final = "LEVADA_ENVIRONMENTS_DIR"
ENV_SERVICE_ACCOUNT_DIR: Final = "LEVADA_SERVICE_ACCOUNT_DIR"
ENV_TERMINATION_LOG: Final = "LEVADA_TERMINATION_LOG"
ENV_CREATED_AT: Final = "LEVADA_CREATED_AT"
# Of a run whose pod is started early: the moment until which the runner holds the flow back.
ENV_START_AT: Final = "LEVADA_START_AT"
ENV_RETRIES_LEFT: Final = "LEVADA_RETRIES_LEFT"
ENV_GRACE_SECONDS: Final = "LEVADA_GRACE_SECONDS"
# A FlowRun may be deleted and made anew under the same name while the old pod is still leaving: the uid tells them apart.
ENV_RUN_UID: Final = "LEVADA_RUN_UID"
# Where results, log and record of the run go, as a URL; not set: results stay in the pod, and nothing is archived.
ENV_STORAGE: Final = "LEVADA_STORAGE"

# Under which name the run keeps its tasks' results, and whether there may be some already: of an earlier attempt, or of the run that
# it repeats. ENV_PERSIST_RESULTS says for all tasks that do not say so themselves whether results are kept.
ENV_RESULTS_KEY: Final = "LEVADA_RESULTS_KEY"
ENV_GOES_ON: Final = "LEVADA_GOES_ON"
ENV_PERSIST_RESULTS: Final = "LEVADA_PERSIST_RESULTS"
# How often a pod that runs a single task is made anew, because the cluster failed it; and in such a pod: which entry it serves.
ENV_INFRASTRUCTURE_RETRIES: Final = "LEVADA_INFRASTRUCTURE_RETRIES"
ENV_TASK_POD: Final = "LEVADA_TASK_POD"

# How a Deployment gives a Secret that a Block names to the run: BLOCK_SECRET__<SECRET>__<KEY> holds the value of one key, as
# envFrom with that prefix makes it; BLOCK_SECRET_DIR__<SECRET> names the folder where the Secret is mounted.
ENV_BLOCK_SECRET: Final = "BLOCK_SECRET__"  # noqa: S105  a name
ENV_BLOCK_SECRET_DIR: Final = "BLOCK_SECRET_DIR__"  # noqa: S105  a name

# Where the container finds them. An agent has no mount namespace and rewrites these prefixes to folders of the pod.
CODE_DIR: Final = "/var/run/levada/code"
SERVICE_ACCOUNT_DIR: Final = "/var/run/secrets/levada.dev/serviceaccount"
SOURCE_SECRET_DIR: Final = "/var/run/secrets/levada.dev/source"  # noqa: S105  a folder
SCRATCH_DIR: Final = "/var/run/levada/scratch"
TERMINATION_LOG: Final = "/dev/termination-log"

# Bounds shared by schema, operator and runner.
MAX_NAME_LENGTH: Final = 50
MAX_PARAMETERS_BYTES: Final = 64 * 1024
MAX_TASK_ROWS: Final = 1000
MAX_TASK_ROWS_BYTES: Final = 512 * 1024
MAX_MESSAGE_CHARS: Final = 1024
MAX_INLINE_CODE_CHARS: Final = 256 * 1024
MAX_ATTEMPTS_KEPT: Final = 20
MAX_HOLDERS_SHOWN: Final = 10
MAX_BACKFILL_TICKS: Final = 10_000
MAX_URL_CHARS: Final = 1024
MAX_TOLD: Final = 32
MAX_NOTIFICATIONS_HELD: Final = 64
MAX_DELIVERY_ERROR_CHARS: Final = 512
MAX_SLOT_ENTRIES: Final = 256
MAX_TASK_PODS: Final = 100
# What a task may ask for its own pod, if the Deployment allows it.
TASK_POD_FIELDS: Final = ("image", "resources", "nodeSelector", "tolerations")

# In a Deployment's allowOverrides: an environment variable, by name.
OVERRIDE_ENV: Final = "env."


def limit_object(name: str) -> str:
    """The name of the ConcurrencyLimit that a limit's name in code means: `My_DB` is the object `my-db`."""
    plain = "".join(char if char.isascii() and char.isalnum() else "-" for char in name.lower())
    return "-".join(part for part in plain.split("-") if part)[:MAX_NAME_LENGTH].strip("-")
