"""Deployments: a flow with all that is needed to run it in a cluster, as what `kubectl apply` takes.

    Deployment.build_from_flow(etl, "nightly", schedule=CronSchedule("0 2 * * *"), tags=["ml"]).apply()

A deployment renders to a Flow (where the code is), a Deployment (how it is run), a Schedule for each rule, and perhaps a
ConfigMap with the code. What cannot work is said when it is built.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levada import _manifests
from levada._deployment_notifications import notifications_of
from levada._packages import packages_of
from levada.exceptions import DeploymentError, NotSupported, OptionError
from levada.infrastructure import Infrastructure, KubernetesJob, Process
from levada.schedules import Schedule, schedules_of

if TYPE_CHECKING:
    from levada.flows import Flow

__all__ = ["Deployment", "deploy", "to_deployment"]

DEFAULT_QUEUE = "default"
MAX_NAME_CHARS = 50
MAX_TAGS, MAX_TAG_CHARS = 32, 63
_QUEUE = re.compile(r"[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?")
# What a user of Prefect may write, and what is there instead.
_ABSENT = {
    "triggers": "react to a FlowRun's status with a hook (on_completion=...) or with kubectl",
    "_sla": "watch FlowRuns with your monitoring; the operator exports metrics",
    "concurrency_limit": "create a WorkQueue with spec.concurrencyLimit and name it as work_queue_name",
    "global_limit": "use limit=",
    "webserver": "a served deployment has no web server",
    "push": "build and push the image with your own tools, and name it as image='...'",
}
# The options that are a schedule's rule, each with the schedule that it stands for.
_RULES = {"cron": "Cron(...)", "interval": "Interval(...)", "rrule": "RRule(...)"}
# What Prefect asks and what has one answer here: the flow's file travels with what it imports, and nothing else.
_MEANINGLESS = ("entrypoint_type", "version_type", "ignore_file")


class Deployment:
    """A flow with parameters, schedules and the place where it runs.

    Args:
        flow: the flow; it must stand at the top of a file.
        name: the deployment's name; in a cluster in small letters, digits and dashes, at most 50.
        version: free text.
        schedule: a schedule.
        schedules: more of them.
        infrastructure: what the pod of a run gets: `Process()` or `KubernetesJob(...)`.
        tags: words to find the deployment by.
        parameters: arguments of the flow.
        storage: a block for the code: `S3.load(...)`, `LocalFileSystem.load(...)`, or `"s3://bucket/folder"` with the keys of this
            machine's environment. Without it small code travels in the Flow itself, and several files in a ConfigMap.
        source: `"git"`: runs fetch the commit that is checked out here, which must be pushed.
        git_secret: with `source="git"`: name of the Secret that opens the repository.
        requirements: packages that runs install where they are missing: a list such as `["pandas>=2"]`, or a requirements file.
        work_queue_name: the WorkQueue whose limits count and that agents serve.
        work_pool_name: the queue, if `work_queue_name` is not given.
        description: what the flow does; the flow's own without it.
        path: a folder of the image that holds the code already.
        entrypoint: `path.py:function`, if Python does not know where the flow is written.
        is_schedule_active: False suspends the schedules.
        paused: start no runs for now.
        notifications: whom the operator tells about runs: saved blocks (`SlackWebhook.load("ops")`), names of Blocks, or entries
            as `spec.notifications` has them: see docs/howto/notifications.md.
        enforce_parameter_schema: whether the cluster refuses parameters that do not fit the flow's signature.
        skip_upload: leave the storage as it is.

    Raises:
        DeploymentError: it cannot be built; the message names the cause and the fix.
        OptionError: an option means nothing.
        ParameterError: a parameter does not fit the flow.
    """

    def __init__(
        self,
        flow: "Flow[..., Any]",
        name: str,
        *,
        version: str | None = None,
        schedule: Any = None,
        schedules: Any = None,
        infrastructure: Infrastructure | None = None,
        tags: Iterable[str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        storage: Any = None,
        work_queue_name: str | None = None,
        work_pool_name: str | None = None,
        description: str | None = None,
        path: str | None = None,
        entrypoint: str | None = None,
        is_schedule_active: bool | None = None,
        paused: bool | None = None,
        notifications: Iterable[Any] | None = None,
        enforce_parameter_schema: bool = True,
        skip_upload: bool = False,
        source: str | None = None,
        git_secret: str | None = None,
        requirements: Iterable[str] | str | Path | None = None,
    ) -> None:
        from levada import _parameter_schema as schemas
        from levada import _sources

        self.flow = _flow(flow)
        self.name = _name(name)
        self.slug = slug_of(self.name)
        self.version = _text(version, "version", 128)
        self.description = _text(description, "description", 4096)
        self.schedules = schedules_of(schedule=schedule, schedules=schedules)
        self.infrastructure = _infrastructure(infrastructure)
        self.tags = _tags(tags)
        self.parameters = schemas.parameters_for(flow, parameters)
        for each in self.schedules:
            schemas.parameters_for(flow, each.parameters)
            _complete(flow, {**self.parameters, **each.parameters}, each)
        self.parameter_schema = schemas.schema_of(flow) if enforce_parameter_schema else None
        self.work_queue_name = _queue(work_queue_name or work_pool_name or DEFAULT_QUEUE)
        self.storage = _storage(storage)
        self.path = path
        self.paused = bool(paused)
        self.notifications = notifications_of(notifications)
        self.schedules_active = is_schedule_active is not False
        self.skip_upload = skip_upload
        self.place = _sources.place_of(flow, entrypoint)
        if path is not None and storage is not None:
            raise DeploymentError("give path (the code is in the image) or storage (it is uploaded), not both")
        self.source = _source(source, git_secret, {"path": path, "storage": storage})
        self.git_secret = git_secret
        self.requirements = packages_of(requirements)

    @classmethod
    def build_from_flow(
        cls,
        flow: "Flow[..., Any]",
        name: str,
        *,
        output: str | Path | None = None,
        apply: bool = False,
        infra_overrides: Mapping[str, Any] | None = None,
        job_variables: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> "Deployment":
        """Build a deployment of a flow.

        Args:
            flow: the flow.
            name: the deployment's name.
            output: a file to write the YAML to.
            apply: apply it to the configured cluster at once.
            infra_overrides: options of `KubernetesJob`, laid over the infrastructure.
            job_variables: likewise.
            **options: see `Deployment`.

        Raises:
            DeploymentError: it cannot be built; the message names the cause and the fix.
        """
        _refuse(options)
        infrastructure = _overlaid(
            options.pop("infrastructure", None), {**(infra_overrides or {}), **(job_variables or {})}
        )
        made = cls(flow, name, infrastructure=infrastructure, **options)
        if output is not None:
            made.to_yaml(output)
        if apply:
            made.apply()
        return made

    @property
    def flow_name(self) -> str:
        """The flow's name."""
        return self.flow.name

    @property
    def entrypoint(self) -> str:
        """The flow's file and function, as path.py:function."""
        return f"{self.place.file}:{self.place.function}"

    @property
    def schedule(self) -> Schedule | None:
        """The first schedule."""
        return self.schedules[0] if self.schedules else None

    def to_resources(self) -> list[dict[str, Any]]:
        """What `kubectl apply` takes, in order. With `storage=`, the code is uploaded now, unless `skip_upload`.

        Raises:
            DeploymentError: the code cannot be kept in a cluster.
            StorageError: the storage cannot be reached.
        """
        return _manifests.resources_of(self)

    def to_yaml(self, path: str | Path | None = None) -> str:
        """The resources as YAML; also written to a file, if one is named."""
        text = _manifests.yaml_of(self.to_resources())
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def apply(self, upload: bool = True) -> list[str]:
        """Apply the resources to the cluster of the kubeconfig ($KUBECONFIG, ~/.kube/config) by server-side apply.

        Schedules of this deployment that it does not have any more are deleted.

        Args:
            upload: whether code is uploaded to the storage, if there is one.

        Returns:
            What was applied, each as kind/name.

        Raises:
            DeploymentError: there is no cluster, or it refuses; the message says what to do.
        """
        from levada import _apply

        self.skip_upload = self.skip_upload or not upload
        return _apply.apply(_manifests.with_secrets(self), self.infrastructure.namespace)

    def __repr__(self) -> str:
        return f"<Deployment {self.name!r} of flow {self.flow.name!r}>"


def to_deployment(flow: "Flow[..., Any]", name: str, **options: Any) -> Deployment:
    """A deployment of a flow, with its schedules as `cron=`, `interval=`, `rrule=`, `schedule=` or `schedules=`.

    Args:
        flow: the flow.
        name: the deployment's name.
        **options: also `timezone` and `anchor_date` of these schedules, `image`, `job_variables` (options of
            `KubernetesJob`), and those of `Deployment`.

    Raises:
        DeploymentError: it cannot be built.
        OptionError: an option means nothing.
    """
    rules = {key: options.pop(key, None) for key in (*_RULES, "timezone", "anchor_date")}
    _one_rule(rules)
    schedules = schedules_of(schedule=options.pop("schedule", None), schedules=options.pop("schedules", None), **rules)
    image = options.pop("image", None)
    variables = {**(options.pop("job_variables", None) or {}), **({"image": image} if image else {})}
    return Deployment.build_from_flow(flow, name, schedules=schedules, job_variables=variables, **options)


def deploy(
    flow: "Flow[..., Any]",
    name: str,
    *,
    build: bool = False,
    push: bool = False,
    print_next_steps: bool = True,
    ignore_warnings: bool = False,
    **options: Any,
) -> Deployment:
    """Build a deployment and apply it to the configured cluster. Images are never built or pushed here.

    Args:
        flow: the flow.
        name: the deployment's name.
        build: there for those who come from Prefect; with `image=` the code travels in the Flow, so nothing needs building.
        push: likewise.
        print_next_steps: say how to start a run.
        ignore_warnings: nothing is warned of.
        **options: see `to_deployment`.

    Raises:
        DeploymentError: it cannot be built, there is no cluster, or it refuses.
    """
    made = to_deployment(flow, name, **options)
    applied = made.apply()
    if print_next_steps:
        print(f"{', '.join(applied)} applied; `levada deployment run {made.slug}` starts a run")
    return made


def slug_of(name: str) -> str:
    """A name as Kubernetes takes it: small letters, digits and dashes, at most 50."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:MAX_NAME_CHARS].strip("-")


def _flow(flow: Any) -> "Flow[..., Any]":
    from levada.flows import Flow

    if isinstance(flow, Flow):
        return flow
    raise DeploymentError(f"{flow!r} is not a flow; decorate the function with @flow")


def _name(name: object) -> str:
    if not isinstance(name, str) or not slug_of(name):
        raise DeploymentError(f"name={name!r}: a deployment's name is a text with at least one letter or digit")
    return name


def _one_rule(options: Mapping[str, Any]) -> None:
    """Refuse options for a schedule that mean several schedules, or none."""
    given = [name for name in _RULES if options[name] is not None]
    if len(given) > 1:
        raise DeploymentError(
            f"{' and '.join(f'{name}=' for name in given)} are two rules for one schedule; give one of them, or "
            f"schedules=[{', '.join(_RULES[name] for name in given)}] for several schedules"
        )
    if options["timezone"] is not None and not given:
        raise DeploymentError(
            f"timezone={options['timezone']!r} belongs to a schedule; give cron=, interval= or rrule= with it, or write it "
            "into the schedule: CronSchedule('0 6 * * *', timezone=...)"
        )
    if options["anchor_date"] is not None and options["interval"] is None:
        raise DeploymentError("anchor_date= says when an interval begins; give interval= with it")


def _complete(flow: "Flow[..., Any]", parameters: Mapping[str, Any], schedule: Schedule) -> None:
    """Refuse a schedule whose runs could not start, as nobody gives them what they need."""
    from levada._parameter_schema import missing

    names = missing(flow, parameters)
    if names:
        shown = ", ".join(f"{name!r}: ..." for name in names)
        raise DeploymentError(
            f"flow {flow.name!r} needs the parameter{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}, and "
            f"{schedule.rule!r} gives no value: add parameters={{{shown}}} to the deployment or the schedule, or give "
            "the flow a default"
        )


def _text(value: object, option: str, most: int) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str | int | float):
        raise DeploymentError(f"{option}={value!r} must be a text")
    if len(str(value)) > most:
        raise DeploymentError(f"{option} has {len(str(value))} characters; {most} are possible")
    return str(value)


def _infrastructure(given: object) -> Infrastructure:
    if given is None:
        return Process()
    if isinstance(given, Infrastructure):
        return given
    raise DeploymentError(f"infrastructure={given!r} must be Process() or KubernetesJob(...) of levada.infrastructure")


def _storage(given: Any) -> Any:
    from levada import _code_storage

    return None if given is None else _code_storage.block_of(given)


def _source(source: str | None, secret: str | None, others: Mapping[str, Any]) -> str | None:
    if source not in {None, "git"}:
        raise DeploymentError(f"source={source!r} must be 'git', or absent: the code's size and files decide then")
    if source is None and secret is not None:
        raise DeploymentError("git_secret= opens a repository; give source='git' with it")
    given = [name for name, value in others.items() if value is not None]
    if source is not None and given:
        raise DeploymentError(f"give source='git' (runs fetch the code from a repository) or {given[0]}, not both")
    return source


def _overlaid(given: Any, variables: Mapping[str, Any]) -> Any:
    """The infrastructure with some options changed: a `KubernetesJob` then, which has them all."""
    if not variables:
        return given
    base = {} if given is None else {key: value for key, value in vars(_infrastructure(given)).items() if value}
    env = {**base.pop("env", {}), **(variables.get("env") or {})}
    return KubernetesJob(**{**base, **variables, "env": env})


def _tags(tags: Iterable[str] | None) -> list[str]:
    if isinstance(tags, str) or not isinstance(tags or (), Iterable):
        raise DeploymentError(f"tags={tags!r} must be a list of texts, such as tags=[{str(tags)!r}]")
    found = list(dict.fromkeys(tags or ()))
    for tag in found:
        if not isinstance(tag, str) or not 1 <= len(tag) <= MAX_TAG_CHARS:
            raise DeploymentError(f"tags holds {tag!r}; a tag is a text of 1 to {MAX_TAG_CHARS} characters")
    if len(found) > MAX_TAGS:
        raise DeploymentError(f"there are {len(found)} tags; {MAX_TAGS} are possible")
    return found


def _queue(name: object) -> str:
    if isinstance(name, str) and _QUEUE.fullmatch(name):
        return name
    hint = f", for example {slug_of(name)!r}" if isinstance(name, str) and slug_of(name) else ""
    raise DeploymentError(f"work queue {name!r}: its name is small letters, digits and dashes, at most 50{hint}")


def _refuse(options: dict[str, Any]) -> None:
    """Name an option that does not exist, and what to use instead; take out those that ask for nothing."""
    import inspect

    known = list(inspect.signature(Deployment).parameters)
    for option, value in list(options.items()):
        if option in known:
            continue
        if option in _ABSENT and value:
            raise NotSupported(f"a deployment has no {option}: {_ABSENT[option]}")
        if option in _ABSENT or option in _MEANINGLESS:
            del options[option]
            continue
        from difflib import get_close_matches

        close = get_close_matches(option, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it takes: {', '.join(known)}"
        raise OptionError(f"a deployment has no option {option!r}; {hint}")
