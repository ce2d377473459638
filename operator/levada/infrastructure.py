"""Where a deployment's runs happen: what the pod of a run gets.

    KubernetesJob(image="registry.example.com/flows:3", resources={"requests": {"memory": "2Gi"}})

Every run is a Kubernetes Job. On a node with containers its image counts; an agent (a machine without containers) runs the
same Job as a process.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from levada.exceptions import NotSupported, OptionError

_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_CONTAINER = "flow"


class Infrastructure:
    """What both kinds share: environment variables and labels of the run's pod.

    Args:
        env: environment variables.
        labels: labels of the pod.
        working_dir: the folder to start in.

    Raises:
        OptionError: a value cannot work.
    """

    def __init__(
        self,
        *,
        env: Mapping[str, str | None] | None = None,
        labels: Mapping[str, str] | None = None,
        working_dir: str | None = None,
    ) -> None:
        owner = type(self).__name__
        self.env = _env(env, owner)
        self.labels = _texts(labels, "labels", owner)
        self.working_dir = None if working_dir is None else str(working_dir)
        self.namespace: str | None = None

    def spec(self) -> dict[str, Any]:
        """The fields of `spec.infrastructure` of a Deployment resource; what is not said is not there."""
        found: dict[str, Any] = {}
        if self.env:
            found["env"] = [{"name": name, "value": value} for name, value in self.env.items()]
        template = self._template()
        if template:
            found["podTemplate"] = template
        return found

    def _template(self) -> dict[str, Any]:
        template: dict[str, Any] = {}
        if self.labels:
            template["metadata"] = {"labels": dict(self.labels)}
        if self.working_dir:
            template["spec"] = {"containers": [{"name": _CONTAINER, "workingDir": self.working_dir}]}
        return template

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # it holds dicts

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if value)
        return f"{type(self).__name__}({given})"


class Process(Infrastructure):
    """Runs need nothing but Python: a process on an agent, or a container of the operator's default image.

    Args:
        env: environment variables.
        labels: labels of the run's pod.
        working_dir: the folder to start in.
        **unknown: refused.

    Raises:
        OptionError: a value cannot work, or an option is unknown.
    """

    def __init__(
        self,
        *,
        env: Mapping[str, str | None] | None = None,
        labels: Mapping[str, str] | None = None,
        working_dir: str | None = None,
        **unknown: Any,
    ) -> None:
        _refuse(unknown, ("env", "labels", "working_dir"), "Process", {"command": _COMMAND, "stream_output": _LOGS})
        super().__init__(env=env, labels=labels, working_dir=working_dir)


_COMMAND = "a run's command is the runner's; put what must happen before into the flow or the image"
_LOGS = "a run's output is its pod's log: `levada runs logs RUN`, `kubectl logs`"
_ELSEWHERE = {
    "command": _COMMAND,
    "stream_output": _LOGS,
    "name": "a run's Job is named after the run",
    "finished_job_ttl": "a run's Job is kept with its FlowRun and goes with it",
    "job_watch_timeout_seconds": "set pendingTimeoutSeconds of the Deployment",
    "pod_watch_timeout_seconds": "set pendingTimeoutSeconds of the Deployment",
    "cluster_config": "choose the cluster by kubeconfig, where the deployment is applied",
    "customizations": "write them as pod_template={...}, a merge patch on the pod's template",
}
_JOB_OPTIONS = (
    "image", "namespace", "env", "labels", "working_dir", "image_pull_policy", "service_account_name", "image_pull_secrets",
    "resources", "node_selector", "tolerations", "env_from", "pod_template", "job", "task_pods",
)  # fmt: skip


class KubernetesJob(Infrastructure):
    """Runs get a pod of their own making.

    Args:
        image: container image with Python, levada and what the flow imports; the operator's default without it.
        namespace: where flow, deployment and runs live; that of the kubeconfig without it.
        env: environment variables.
        labels: labels of the run's pod.
        working_dir: the folder to start in.
        image_pull_policy: "Always", "IfNotPresent" or "Never".
        service_account_name: the pod's ServiceAccount; `levada-runner` without it.
        image_pull_secrets: names of Secrets for the image's registry.
        resources: `{"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {...}}`.
        node_selector: labels that a node must have.
        tolerations: taints that the pod puts up with, as in a pod.
        env_from: ConfigMaps and Secrets whose keys become environment variables, as in a pod.
        pod_template: a merge patch on the pod's template (metadata, spec) for everything else.
        job: a Job manifest; its `spec.template` counts as `pod_template`.
        task_pods: lets tasks have pods of their own: `{"limit": 10, "allow": ["resources"]}`; none may without it.
        **unknown: refused, with what to use instead.

    Raises:
        OptionError: a value cannot work, or an option is unknown.
    """

    def __init__(
        self,
        *,
        image: str | None = None,
        namespace: str | None = None,
        env: Mapping[str, str | None] | None = None,
        labels: Mapping[str, str] | None = None,
        working_dir: str | None = None,
        image_pull_policy: str | None = None,
        service_account_name: str | None = None,
        image_pull_secrets: Sequence[str] | None = None,
        resources: Mapping[str, Any] | None = None,
        node_selector: Mapping[str, str] | None = None,
        tolerations: Sequence[Mapping[str, Any]] | None = None,
        env_from: Sequence[Mapping[str, Any]] | None = None,
        pod_template: Mapping[str, Any] | None = None,
        job: Mapping[str, Any] | None = None,
        task_pods: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        _refuse(unknown, _JOB_OPTIONS, "KubernetesJob", _ELSEWHERE)
        super().__init__(env=env, labels=labels, working_dir=working_dir)
        policy = getattr(image_pull_policy, "value", image_pull_policy)
        if policy is not None and policy not in _PULL_POLICIES:
            raise OptionError(f"KubernetesJob: image_pull_policy={policy!r} must be one of {', '.join(_PULL_POLICIES)}")
        if pod_template is not None and job is not None:
            raise OptionError("KubernetesJob: give pod_template or job, not both")
        self.image = image
        self.namespace = namespace
        self.image_pull_policy = policy
        self.service_account_name = service_account_name
        self.image_pull_secrets = _listed(image_pull_secrets)
        self.resources = dict(resources or {})
        self.node_selector = _texts(node_selector, "node_selector", "KubernetesJob")
        self.tolerations = _listed(tolerations)
        self.env_from = _listed(env_from)
        self.pod_template = dict(pod_template or {}) or _template_of(job)
        self.task_pods = None if task_pods is None else dict(task_pods)

    def spec(self) -> dict[str, Any]:
        """The fields of `spec.infrastructure` of a Deployment resource; what is not said is not there."""
        said = {
            "image": self.image,
            "imagePullPolicy": self.image_pull_policy,
            "imagePullSecrets": [{"name": name} for name in self.image_pull_secrets],
            "resources": self.resources,
            "envFrom": self.env_from,
            "serviceAccountName": self.service_account_name,
            "nodeSelector": self.node_selector,
            "tolerations": self.tolerations,
        }
        opened = {} if self.task_pods is None else {"taskPods": self.task_pods}
        return {name: value for name, value in said.items() if value} | opened | super().spec()

    def _template(self) -> dict[str, Any]:
        return _merged(self.pod_template, super()._template())


class DockerContainer:
    """Not supported: a run is a Kubernetes Job.

    Raises:
        NotSupported: always.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        raise NotSupported(
            "DockerContainer is not supported: use KubernetesJob(image=...), or Process() with `levada agent start` on a "
            "machine without Kubernetes' containers"
        )


def _refuse(unknown: Mapping[str, Any], known: Iterable[str], owner: str, elsewhere: Mapping[str, str]) -> None:
    from difflib import get_close_matches

    for option in unknown:
        names = sorted(known)
        close = get_close_matches(option, names, n=1)
        hint = elsewhere.get(option) or (f"did you mean {close[0]!r}?" if close else f"it takes: {', '.join(names)}")
        raise OptionError(f"{owner} has no option {option!r}; {hint}")


def _env(env: Mapping[str, str | None] | None, owner: str) -> dict[str, str]:
    given = {name: value for name, value in env.items() if value is not None} if isinstance(env, Mapping) else env
    found = _texts(given, "env", owner)
    for name in found:
        if not name or "=" in name:
            raise OptionError(f"{owner}: env has the name {name!r}; a name is not empty and has no '='")
        if name.startswith("LEVADA_"):
            raise OptionError(f"{owner}: env has {name!r}; names that start with LEVADA_ are the operator's own")
    return found


def _texts(values: Mapping[str, Any] | None, option: str, owner: str) -> dict[str, str]:
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise OptionError(f"{owner}: {option}={values!r} must be a dict of texts")
    for name, value in values.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise OptionError(f"{owner}: {option} has {name!r}: {value!r}; both must be texts, so write {str(value)!r}")
    return dict(values)


def _listed(values: Sequence[Any] | None) -> list[Any]:
    return list(values or ())


def _template_of(job: Mapping[str, Any] | None) -> dict[str, Any]:
    if job is None:
        return {}
    template = (job.get("spec") or {}).get("template") if isinstance(job, Mapping) else None
    if not isinstance(template, Mapping):
        raise OptionError("KubernetesJob: job must be a Job manifest with spec.template")
    return {part: _without_names(template[part]) for part in ("metadata", "spec") if template.get(part)}


def _without_names(part: Any) -> Any:
    """A pod's part. A container without a name, as in a Job that was written as a patch, is the flow's."""
    if not isinstance(part, Mapping) or "containers" not in part:
        return dict(part)
    return {**part, "containers": [{"name": _CONTAINER, **container} for container in part["containers"]]}


def _merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Dicts are merged; lists of named items by name; anything else is replaced."""
    merged = dict(base)
    for key, value in patch.items():
        mine = merged.get(key)
        if isinstance(mine, Mapping) and isinstance(value, Mapping):
            merged[key] = _merged(mine, value)
        elif isinstance(mine, list) and isinstance(value, list):
            items = {item["name"]: item for item in mine}
            merged[key] = list(
                (items | {item["name"]: _merged(items.get(item["name"], {}), item) for item in value}).values()
            )
        else:
            merged[key] = value
    return merged
