"""Prefect's names for Levada's things: `import levada.prefect` above them lets a file with `prefect` imports run unchanged.

    import levada.prefect
    from prefect import flow, task                       # levada.flows.flow, levada.tasks.task
    from prefect.task_runners import ConcurrentTaskRunner  # levada.task_runners.ConcurrentTaskRunner

`levada run --prefect file.py:flow` does the same without a change to the file. Two tables say it all: `HOMES`, where Levada has a
name, and `ABSENT`, what to use instead of one that it has not; asking for such a name, or for any other of Prefect, raises
NotSupported at its import. Nothing is loaded before it is used. docs/sdk/coming-from-prefect.md shows the tables to readers.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

from levada.exceptions import NotSupported

_STATES = (
    "AwaitingConcurrencySlot AwaitingRetry Cancelled Cancelling Completed Crashed Failed Late Paused Pending Retrying"
    " Running Scheduled State StateGroup Suspended get_state_exception raise_state_exception"
)
_CACHE_POLICIES = (
    "CachePolicy CacheKeyFnPolicy CompoundCachePolicy DEFAULT FLOW_PARAMETERS FlowParameters INPUTS Inputs NO_CACHE NONE"
    " RUN_ID RunId TASK_SOURCE TaskSource"
)
_SCHEDULES = "CronSchedule IntervalSchedule RRuleSchedule"
_WEBHOOKS = "CustomWebhookNotificationBlock DiscordWebhook MattermostWebhook MicrosoftTeamsWebhook NotificationBlock SlackWebhook"
_PAUSING = "apause_flow_run aresume_flow_run asuspend_flow_run pause_flow_run resume_flow_run suspend_flow_run"

# Prefect's module -> Levada's module -> names. `Old=New` is a name that is called otherwise here.
HOMES: Final[Mapping[str, Mapping[str, str]]] = {
    "prefect": {
        "levada": "__version__",
        "levada.flows": "Flow flow",
        "levada.annotations": "allow_failure quote unmapped",
        "levada.tasks": "Task task",
        "levada.context": "tags",
        "levada.logging": "get_run_logger",
        "levada.pausing": _PAUSING,
        "levada.serving": "serve",
        "levada.states": "State",
        "levada.transactions": "Transaction",
    },
    "prefect.artifacts": {
        "levada.artifacts": "create_image_artifact create_link_artifact create_markdown_artifact create_progress_artifact"
        " create_table_artifact update_progress_artifact acreate_image_artifact acreate_link_artifact"
        " acreate_markdown_artifact acreate_progress_artifact acreate_table_artifact aupdate_progress_artifact Artifact"
    },
    "prefect.blocks.core": {"levada.blocks": "Block"},
    "prefect.blocks.notifications": {"levada.notifications": _WEBHOOKS},
    "prefect.blocks.system": {"levada.blocks": "DateTime JSON Secret String"},
    "prefect.blocks.webhook": {"levada.notifications": "Webhook"},
    "prefect.cache_policies": {"levada.caching": _CACHE_POLICIES},
    "prefect.client.schemas.objects": {
        "levada.context": "FlowRun=FlowRunInfo TaskRun=TaskRunInfo",
        "levada.resources.phases": "StateType=RunPhase",
        "levada.states": "State",
    },
    "prefect.client.schemas.schedules": {"levada.schedules": _SCHEDULES},
    "prefect.concurrency.asyncio": {"levada.concurrency": "concurrency rate_limit=arate_limit"},
    "prefect.concurrency.sync": {"levada.concurrency": "concurrency rate_limit"},
    "prefect.context": {"levada.context": "FlowRunContext TaskRunContext get_run_context tags"},
    "prefect.deployments": {"levada.deployments": "Deployment", "levada.serving": "serve"},
    "prefect.engine": {"levada.pausing": _PAUSING},
    "prefect.exceptions": {
        "levada.exceptions": "CancelledRun=RunCancelled CrashedRun=WorkerCrashed FailedRun=RunFailed FlowPauseTimeout=PauseTimeout"
        " MissingContextError MissingFlowError=OptionError MissingResult=ResultMissing ParameterBindError=ParameterError"
        " ParameterTypeError=ParameterError PrefectException=LevadaError SerializationError"
        " SignatureMismatchError=ParameterError UpstreamTaskError=UpstreamFailed"
    },
    "prefect.filesystems": {"levada.filesystems": "LocalFileSystem RemoteFileSystem S3"},
    "prefect.flow_runs": {"levada.pausing": _PAUSING},
    "prefect.flows": {"levada.flows": "Flow flow", "levada.serving": "serve"},
    "prefect.futures": {
        "levada.futures": "DoneAndNotDoneFutures=DoneAndNotDone PrefectConcurrentFuture=Future PrefectFuture=Future"
        " PrefectFutureList=FutureList PrefectTaskRunFuture=Future as_completed resolve_futures_to_results"
        " resolve_futures_to_states wait"
    },
    "prefect.infrastructure": {"levada.infrastructure": "KubernetesJob Process"},
    "prefect.infrastructure.kubernetes": {"levada.infrastructure": "KubernetesJob"},
    "prefect.infrastructure.process": {"levada.infrastructure": "Process"},
    "prefect.logging": {"levada.logging": "get_run_logger get_logger disable_run_logger"},
    "prefect.notifications": {"levada.notifications": _WEBHOOKS},
    "prefect.results": {"levada.results": "ResultRecord ResultStore get_result_store"},
    "prefect.runner": {"levada.serving": "serve"},
    "prefect.runner.storage": {"levada.filesystems": "GitRepository"},
    "prefect.runtime": {"levada.runtime": "deployment flow_run task_run"},
    "prefect.schedules": {"levada.schedules": "Cron Interval RRule Schedule"},
    "prefect.serializers": {
        "levada.serializers": "CompressedJSONSerializer CompressedPickleSerializer CompressedSerializer JSONSerializer"
        " PickleSerializer Serializer"
    },
    "prefect.server.schemas.states": {"levada.resources.phases": "StateType=RunPhase", "levada.states": _STATES},
    "prefect.states": {"levada.states": _STATES},
    "prefect.task_runners": {
        "levada.task_runners": "ConcurrentTaskRunner DaskTaskRunner ProcessPoolTaskRunner SequentialTaskRunner"
        " TaskRunner ThreadPoolTaskRunner"
    },
    "prefect.tasks": {"levada.caching": "task_input_hash", "levada.tasks": "Task exponential_backoff task"},
    "prefect.testing.utilities": {"levada.testing": "prefect_test_harness=levada_test_harness"},
    "prefect.transactions": {
        "levada.transactions": "CommitMode IsolationLevel Transaction TransactionState atransaction get_transaction"
        " transaction"
    },
    "prefect.utilities.annotations": {"levada.annotations": "allow_failure quote unmapped"},
    "prefect.variables": {"levada.variables": "Variable"},
    "prefect_aws": {"levada.filesystems": "AwsCredentials S3Bucket"},
    "prefect_aws.credentials": {"levada.filesystems": "AwsCredentials"},
    "prefect_aws.s3": {"levada.filesystems": "S3Bucket"},
    "prefect_azure": {"levada.filesystems": "AzureBlobStorageContainer=AzureBlobStorage"},
    "prefect_dask": {"levada.task_runners": "DaskTaskRunner"},
    "prefect_dask.task_runners": {"levada.task_runners": "DaskTaskRunner"},
    "prefect_gcp": {"levada.filesystems": "GcsBucket=GCSBucket"},
    "prefect_gcp.cloud_storage": {"levada.filesystems": "GcsBucket=GCSBucket"},
    "prefect_slack": {"levada.notifications": "SlackWebhook"},
}

# Prefect's modules that hold the same names as another one.
TWINS: Final[Mapping[str, str]] = {
    "prefect.client.schemas": "prefect.client.schemas.objects",
    "prefect.deployments.deployments": "prefect.deployments",
    "prefect.logging.loggers": "prefect.logging",
    "prefect.orion.schemas.schedules": "prefect.client.schemas.schedules",
    "prefect.orion.schemas.states": "prefect.server.schemas.states",
    "prefect.server.schemas.schedules": "prefect.client.schemas.schedules",
}

_NO_SERVER = (
    "Levada has no server and no client of one: a run is a FlowRun in Kubernetes (kubectl get flowruns, levada runs)"
)
_START_RUN = "start a run with `levada deployment run NAME`, or create a FlowRun object"
_SETTINGS = "Levada is set by environment variables (LEVADA_HOME, LEVADA_LOGGING_LEVEL, ...)"
_KUBERNETES_EVENTS = "watch FlowRuns with kubectl, or use the flow's hooks (on_failure=[...])"
_OWN_CLIENT = "call the service's own Python client inside a @task"
_BACKGROUND = "there are no task workers: use .submit inside a flow, or a flow run of its own"
_ASSETS = "Levada keeps no catalogue of assets: create_link_artifact() says where something was written"
_RAY = "use DaskTaskRunner for a cluster of machines, or ProcessPoolTaskRunner for the CPUs of one"
_FIRST_GENERATION = "this is Prefect 1: write the flow as a function with @flow, and its parameters as arguments"
_URL = "use SlackWebhook, MicrosoftTeamsWebhook, DiscordWebhook, Email or a Webhook to the service's HTTP interface"
_ARTIFACT = "use create_{}_artifact(...), or Artifact.get(key) to read one"
_LIMITS = "use concurrency(names) and rate_limit(names) of prefect.concurrency.sync or prefect.concurrency.asyncio"
_NO_DRAWING = "flows are not drawn: `levada runs show NAME` lists the tasks of a run"
_CALL_IT = "call the flow or the task itself"
_ASYNC = "use asyncio: asyncio.run(f()) calls async code from sync code, `await asyncio.to_thread(f)` sync code from async code"
_OTHER_STORAGE = "use S3Bucket, GCSBucket, AzureBlobStorage, LocalFileSystem or RemoteFileSystem of levada.filesystems"

# Prefect's module, or a name in one -> what to use instead. A module stands for everything below it.
ABSENT: Final[Mapping[str, str]] = {
    "prefect.Parameter": _FIRST_GENERATION,
    "prefect.aserve": "use serve() in a process of its own",
    "prefect.artifacts.ImageArtifact": _ARTIFACT.format("image"),
    "prefect.artifacts.LinkArtifact": _ARTIFACT.format("link"),
    "prefect.artifacts.MarkdownArtifact": _ARTIFACT.format("markdown"),
    "prefect.artifacts.ProgressArtifact": _ARTIFACT.format("progress"),
    "prefect.artifacts.TableArtifact": _ARTIFACT.format("table"),
    "prefect.assets": _ASSETS,
    "prefect.automations": _KUBERNETES_EVENTS,
    "prefect.blocks.notifications.AppriseNotificationBlock": _URL,
    "prefect.blocks.notifications.OpsgenieWebhook": _URL,
    "prefect.blocks.notifications.PagerDutyWebHook": _URL,
    "prefect.blocks.notifications.SendgridEmail": "use levada.notifications.Email",
    "prefect.blocks.notifications.TwilioSMS": _URL,
    "prefect.client.orchestration": _NO_SERVER,
    "prefect.client.get_client": _NO_SERVER,
    "prefect.concurrency.context": _LIMITS,
    "prefect.concurrency.services": _LIMITS,
    "prefect.concurrency.v1": _LIMITS,
    "prefect.deploy": "call flow.deploy() for each flow, or Deployment.build_from_flow(...).apply()",
    "prefect.deployments.DeploymentImage": "give the image's name as image='...'; build it with your own tools",
    "prefect.deployments.run_deployment": _START_RUN,
    "prefect.docker": "give the image's name as image='...'; build it with your own tools",
    "prefect.events": _KUBERNETES_EVENTS,
    "prefect.executors": _FIRST_GENERATION,
    "prefect.filesystems.Azure": "use levada.filesystems.AzureBlobStorage",
    "prefect.filesystems.GCS": "use levada.filesystems.GCSBucket",
    "prefect.filesystems.GitHub": "use levada.filesystems.GitRepository",
    "prefect.filesystems.SMB": _OTHER_STORAGE,
    "prefect.flow_engine": _CALL_IT,
    "prefect.flow_runs.wait_for_flow_run": "kubectl wait --for=condition=Succeeded flowrun/NAME, or --for=jsonpath='{.status.completionTime}' for any end",
    "prefect.get_client": _NO_SERVER,
    "prefect.infrastructure.DockerContainer": "use KubernetesJob(image='...'): runs are Kubernetes Jobs",
    "prefect.infrastructure.docker": "use KubernetesJob(image='...'): runs are Kubernetes Jobs",
    "prefect.input": "pause_flow_run(wait_for_input=...) takes any type: a pydantic model, a dataclass, str",
    "prefect.packaging": "code travels inside the Flow object, in the image, or in a storage block",
    "prefect.run_configs": _FIRST_GENERATION,
    "prefect.settings": _SETTINGS,
    "prefect.storage": _FIRST_GENERATION,
    "prefect.task_engine": _CALL_IT,
    "prefect.task_runners.PrefectTaskRunner": _BACKGROUND,
    "prefect.task_runners.RayTaskRunner": _RAY,
    "prefect.task_worker": _BACKGROUND,
    "prefect.utilities.asyncutils": _ASYNC,
    "prefect.utilities.hashing": "use levada.caching.hash_of(value)",
    "prefect.utilities.visualization": _NO_DRAWING,
    "prefect.workers": "there are no workers: the operator starts each run as a Kubernetes Job; `levada agent` serves a bare machine",
    "prefect_airbyte": _OWN_CLIENT,
    "prefect_aws.MinIOCredentials": "give S3Bucket the endpoint_url, aws_access_key_id and aws_secret_access_key",
    "prefect_aws.ecs": "runs are Kubernetes Jobs: use KubernetesJob",
    "prefect_aws.s3.s3_download": "use S3Bucket.read_path(...) inside a @task",
    "prefect_aws.s3.s3_upload": "use S3Bucket.write_path(...) inside a @task",
    "prefect_azure.AzureBlobStorageCredentials": "give AzureBlobStorage its connection string",
    "prefect_bitbucket": "use levada.filesystems.GitRepository",
    "prefect_dask.get_dask_client": "use distributed.get_client() inside the task",
    "prefect_databricks": _OWN_CLIENT,
    "prefect_dbt": "run dbt by subprocess.run([...], check=True) inside a @task",
    "prefect_docker": "use KubernetesJob(image='...'): runs are Kubernetes Jobs",
    "prefect_email": "use levada.notifications.Email(host=..., to=...).notify(body, subject)",
    "prefect_gcp.GcpCredentials": "give GCSBucket its service account, or set GOOGLE_APPLICATION_CREDENTIALS",
    "prefect_github": "use levada.filesystems.GitRepository",
    "prefect_gitlab": "use levada.filesystems.GitRepository",
    "prefect_kubernetes": "runs are Kubernetes Jobs by themselves: use KubernetesJob of levada.infrastructure, or the kubernetes client",
    "prefect_ray": _RAY,
    "prefect_redis": _OWN_CLIENT,
    "prefect_shell": "use subprocess.run([...], check=True) inside a @task",
    "prefect_slack.SlackCredentials": "use SlackWebhook(url=...).notify(body, subject)",
    "prefect_snowflake": _OWN_CLIENT,
    "prefect_sqlalchemy": _OWN_CLIENT,
}

_GUIDE = "docs/sdk/coming-from-prefect.md"


class PrefectModule(ModuleType):
    """A module of Prefect that consists of Levada's names, each loaded when it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        """A name, or a module below this one.

        Raises:
            AttributeError: Prefect's name is not one of Levada's; says what to use instead. It is no NotSupported, so that
                `hasattr` and pickle's search through all modules work; `from prefect import NAME` raises NotSupported.
        """
        if f"{self.__name__}.{name}" in _MODULES:
            return import_module(f"{self.__name__}.{name}")
        try:
            value = _load(home_of(self.__name__, name))
        except NotSupported as error:
            raise AttributeError(str(error), name=name, obj=self) from None
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *names_of(self.__name__)})

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        # A function that holds on to this module may be sent to another process, where nobody has imported levada.prefect.
        return module_named, (self.__name__,)


def module_named(name: str) -> ModuleType:
    """One of Prefect's modules, as Levada makes it. What a pickled module is loaded by."""
    return import_module(name)


class PrefectFinder:
    """Finds Prefect's modules, and says of those that Levada cannot be what to use instead. Stands on `sys.meta_path`."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for whatever belongs to Prefect; None leaves a module, such as your own `prefect_helpers`, to others."""
        if name.partition(".")[0] not in _ROOTS:
            return None
        # A loader by its methods: importlib.abc, whose class the type wants, loads tempfile and more.
        return ModuleSpec(name, cls(), origin=__name__, is_package=True)  # type: ignore[arg-type]  # see above

    def create_module(self, spec: ModuleSpec) -> PrefectModule:
        """An empty module.

        Raises:
            NotSupported: Levada has nothing of it.
        """
        if spec.name not in _MODULES:
            raise NotSupported(_refusal(spec.name))
        return PrefectModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Fill in the list of names; the names themselves come with their use."""
        module.__all__ = sorted(name for name in names_of(module.__name__) if not name.startswith("__"))  # type: ignore[attr-defined]  # modules are open


def names_of(module: str) -> dict[str, str]:
    """The names of one of Prefect's modules, each with its home as `levada.module:name`."""
    homes = HOMES.get(TWINS.get(module, module), {})
    found = {}
    for home, names in homes.items():
        for entry in names.split():
            old, _, new = entry.partition("=")
            found[old] = f"{home}:{new or old}"
    return found


def home_of(module: str, name: str) -> str:
    """Where Levada has a name of Prefect's, as `levada.module:name`.

    Raises:
        NotSupported: nowhere; says what to use instead.
    """
    home = names_of(module).get(name)
    if home is None:
        raise NotSupported(_refusal(f"{module}.{name}"), name=f"{module}.{name}")
    return home


def _load(home: str) -> Any:
    """The object that a home names."""
    module, _, name = home.partition(":")
    return getattr(import_module(module), name)


def _refusal(asked: str) -> str:
    """Why a name cannot be had: the advice for it or for the nearest module above it."""
    module, _, name = asked.rpartition(".")
    advice = ABSENT.get(f"{TWINS.get(module, module)}.{name}")
    above = asked
    while advice is None and above:
        advice = ABSENT.get(above)
        above = above.rpartition(".")[0]
    if advice is None:
        below = {name.removeprefix(f"{module}.") for name in _MODULES if name.startswith(f"{module}.")}
        advice = f"of {module} it has {', '.join(sorted(names_of(module) or below))}"
    return f"Levada does not have {asked}: {advice} (see {_GUIDE})"


def _with_parents(modules: Sequence[str]) -> set[str]:
    """The modules and the packages around them."""
    parts = [module.split(".") for module in modules]
    return {".".join(each[:end]) for each in parts for end in range(1, len(each) + 1)}


_MODULES: Final = _with_parents([*HOMES, *TWINS])
_ROOTS: Final = {name.partition(".")[0] for name in (*_MODULES, *ABSENT)}


def install() -> None:
    """Let `import prefect` find Levada from now on. Called by the import of this module; doing it again changes nothing.

    Raises:
        NotSupported: the real Prefect is already imported, so both would mix.
    """
    real = sorted(root for root in _ROOTS if root in sys.modules and not _is_ours(sys.modules[root]))
    if real:
        raise NotSupported(
            f"{', '.join(real)} is already imported, so levada.prefect cannot stand in for it; put `import levada.prefect` "
            f"above the first import of prefect, or run the file with `levada run --prefect`"
        )
    if PrefectFinder not in sys.meta_path:
        sys.meta_path.insert(0, PrefectFinder)


def _is_ours(module: ModuleType) -> bool:
    """Whether a module of Prefect's name was made here."""
    spec = module.__spec__
    return spec is not None and spec.origin == __name__


install()
