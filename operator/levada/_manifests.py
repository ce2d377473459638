"""A deployment as resources: dicts that the models have checked and that `kubectl apply` takes, and their YAML."""

import hashlib
from typing import TYPE_CHECKING, Any

from levada._docstrings import before_arguments
from levada.exceptions import DeploymentError
from levada.resources import names

if TYPE_CHECKING:
    from levada.deployments import Deployment

Resource = dict[str, Any]
ANNOTATION_VERSION = f"{names.GROUP}/version"
ANNOTATION_DESCRIPTION = f"{names.GROUP}/description"


def resources_of(deployment: "Deployment") -> list[Resource]:
    """ConfigMap, Flow, Deployment and Schedules, checked.

    Raises:
        DeploymentError: the code cannot be kept in a cluster, or a resource does not fit its kind.
    """
    code, source, entrypoint = _source(deployment)
    found = [
        *code,
        _flow(deployment, source, entrypoint),
        _deployment(deployment),
        *_schedules(deployment),
    ]
    for each in found:
        check(each)
    return found


def with_secrets(deployment: "Deployment") -> list[Resource]:
    """The resources, and before them a Secret with the keys of the storage, if it has any: for a cluster, never for a file."""
    resources = deployment.to_resources()
    if deployment.storage is None:
        return resources
    from levada._code_storage import secrets_of

    return [*secrets_of(deployment), *resources]


def check(resource: Resource) -> None:
    """Check a resource against its model; other kinds than ours are left alone.

    Raises:
        DeploymentError: a field does not fit.
    """
    from levada.resources import models

    model = models.MODELS.get(str(resource.get("kind"))) if resource.get("apiVersion") == names.API_VERSION else None
    if model is None:
        return
    name = (resource.get("metadata") or {}).get("name")
    try:
        models.parse(model, resource)
    except models.InvalidResourceError as error:
        raise DeploymentError(f"{resource['kind']} {name!r}: {error}") from error


def _source(deployment: "Deployment") -> tuple[list[Resource], Resource, str]:
    """What keeps the code, how the Flow names it, and the entrypoint there."""
    from levada import _sources

    file, function = deployment.place
    if deployment.path is not None:
        return [], {"image": {"path": str(deployment.path)}}, f"{file.name}:{function}"
    if deployment.source == "git":
        from levada import _git_source

        source, where = _git_source.source_of(file, deployment.git_secret)
        return [], source, f"{where}:{function}"
    if deployment.storage is not None:
        from levada import _code_storage

        source = _code_storage.source_of(deployment)
        return [], source, f"{file.name}:{function}"
    image = bool(getattr(deployment.infrastructure, "image", None))
    files = _sources.files_of(deployment.place, image=image)
    if len(files) == 1 and len(files[file.name]) <= names.MAX_INLINE_CODE_CHARS:
        return [], {"inline": files[file.name] or "\n"}, f"{file.name}:{function}"
    config_map = _config_map(deployment, files)
    return [config_map], {"configMap": {"name": config_map["metadata"]["name"]}}, f"{file.name}:{function}"


def _config_map(deployment: "Deployment", files: dict[str, str]) -> Resource:
    """The files, under a name of their content: a run that has begun keeps the code that it began with."""
    content = "\0".join(part for pair in sorted(files.items()) for part in pair)
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    labels = {names.LABEL_FLOW: deployment.flow.slug, names.LABEL_MANAGED_BY: names.MANAGED_BY}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(deployment, f"{deployment.flow.slug}-files-{digest}", labels=labels),
        "immutable": True,
        "data": dict(sorted(files.items())),
    }


def _flow(deployment: "Deployment", source: Resource, entrypoint: str) -> Resource:
    flow = deployment.flow
    spec: Resource = {"entrypoint": entrypoint, "source": source}
    description = deployment.description or before_arguments(flow.description or "")
    if description:
        spec["description"] = description[:4096]
    version = flow.version or deployment.version
    if version:
        spec["version"] = version[:128]
    if deployment.requirements is not None:
        spec["requirements"] = deployment.requirements
    if deployment.parameter_schema is not None:
        spec["parameterSchema"] = deployment.parameter_schema
    return _object("Flow", _metadata(deployment, flow.slug), spec)


def _deployment(deployment: "Deployment") -> Resource:
    spec: Resource = {"flowRef": {"name": deployment.flow.slug}}
    more = {
        "parameters": deployment.parameters,
        "tags": deployment.tags,
        "workQueue": deployment.work_queue_name,
        "infrastructure": deployment.infrastructure.spec(),
        "paused": deployment.paused,
        "notifications": deployment.notifications,
    }
    said = {ANNOTATION_VERSION: deployment.version, ANNOTATION_DESCRIPTION: deployment.description}
    annotations = {name: text for name, text in said.items() if text}
    metadata = _metadata(deployment, deployment.slug, annotations=annotations)
    return _object("Deployment", metadata, spec | {name: value for name, value in more.items() if value})


def _schedules(deployment: "Deployment") -> list[Resource]:
    found = []
    for name, schedule in zip(schedule_names(deployment), deployment.schedules, strict=True):
        spec = {"deploymentRef": {"name": deployment.slug}, **schedule.rule.spec()}
        if schedule.parameters:
            spec["parameters"] = schedule.parameters
        if not (schedule.active and deployment.schedules_active):
            spec["suspend"] = True
        labels = {names.LABEL_DEPLOYMENT: deployment.slug, names.LABEL_MANAGED_BY: names.MANAGED_BY}
        found.append(_object("Schedule", _metadata(deployment, name, labels=labels), spec))
    return found


def schedule_names(deployment: "Deployment") -> list[str]:
    """The first is named as the deployment, the others by their slug or number."""
    from levada.deployments import MAX_NAME_CHARS, slug_of

    found: list[str] = []
    for number, schedule in enumerate(deployment.schedules, start=1):
        tail = slug_of(schedule.slug) if schedule.slug else "" if number == 1 else str(number)
        stem = deployment.slug[: MAX_NAME_CHARS - len(tail) - 1] if tail else deployment.slug
        found.append(f"{stem.strip('-')}-{tail}".strip("-"))
    return found


def _metadata(
    deployment: "Deployment", name: str, *, labels: Resource | None = None, annotations: Resource | None = None
) -> Resource:
    said = {"namespace": deployment.infrastructure.namespace, "labels": labels, "annotations": annotations}
    return {"name": name, **{key: value for key, value in said.items() if value}}


def _object(kind: str, metadata: Resource, spec: Resource) -> Resource:
    return {"apiVersion": names.API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def yaml_of(resources: list[Resource]) -> str:
    """The resources as one YAML file; code stays readable."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes texts of several lines as blocks, and the same object twice in full."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return yaml.dump_all(resources, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
