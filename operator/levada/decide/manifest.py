"""The Job of one attempt: a pure builder.

The pod meets the `restricted` Pod Security Standard. The Deployment's podTemplate is laid over the template as a JSON merge
patch; lists whose items have names (containers, volumes, env, mounts) are merged by name, because a list replaced whole could
only break the run. What the runner lives on (names, labels, command, our env and mounts, restart policy) cannot be changed.
"""

import copy
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from levada.decide.definitions import DeploymentView, QueueView
from levada.decide.facts import RunView, Settings
from levada.decide.parameters import escape
from levada.decide.rerun import own_key, repeats
from levada.decide.retries import retries_left
from levada.decide.times import stamp
from levada.resources import names
from levada.resources.kinds import FLOW_RUNS, JOBS
from levada.resources.sources import GitPlace, read_place

_TRACEPARENT: Final = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
Manifest = dict[str, Any]

_CODE_VOLUME: Final = "levada-code"
_SOURCE_VOLUME: Final = "levada-source"
_IDENTITY_VOLUME: Final = "levada-identity"
_SCRATCH_VOLUME: Final = "levada-scratch"
_TOKEN_TTL_S: Final = 3600
# Lists of a pod spec whose items are told apart by this key.
_LIST_KEYS: Final = {
    "containers": "name", "initContainers": "name", "volumes": "name", "env": "name", "volumeMounts": "mountPath", "ports": "name",
    "imagePullSecrets": "name",
}  # fmt: skip
_APPENDED: Final = frozenset({"tolerations", "envFrom"})


@dataclass(frozen=True, slots=True)
class Code:
    """Where the runner finds the flow: a ConfigMap that is mounted, a folder of the image, or a place elsewhere (sources.py)."""

    flow: str
    entrypoint: str
    directory: str
    config_map: str = ""
    requirements: str = ""

    @property
    def env_secret(self) -> str:
        """The Secret whose keys become variables."""
        place = read_place(self.directory)
        return place.secret if place is not None and not isinstance(place, GitPlace) else ""

    @property
    def mounted_secret(self) -> str:
        """The Secret whose keys become files: git takes keys and certificates from files."""
        place = read_place(self.directory)
        return place.secret if isinstance(place, GitPlace) else ""


def job_name(run: str, attempt: int) -> str:
    """The Job's name: never used again for the same run, so it is also the lock on the attempt."""
    return f"{run}-{attempt}"


def build_job(
    run: RunView,
    deployment: DeploymentView,
    code: Code,
    *,
    attempt: int,
    parameters: str,
    settings: Settings,
    now: datetime,
    queue: QueueView | None = None,
) -> Manifest:
    """The Job of an attempt. With a queue that Kueue serves it is created suspended, and Kueue starts it."""
    labels = _labels(run, deployment, code, attempt)
    annotations = {names.ANNOTATION_RUN_UID: run.uid}
    ours = {
        "metadata": {"labels": labels, "annotations": annotations},
        "spec": _pod_spec(run, deployment, code, attempt=attempt, parameters=parameters, settings=settings, now=now),
    }
    template = protect(merge_template(ours, deployment.infrastructure.get("podTemplate") or {}), ours)
    spec: Manifest = {"backoffLimit": 0, "completions": 1, "parallelism": 1, "template": template}
    if deployment.timeout_s is not None:
        # The time for which the runner holds the flow back is not the flow's.
        spec["activeDeadlineSeconds"] = deployment.timeout_s + math.ceil(_early_s(run, now))
    kueue = _kueue_labels(queue)
    if kueue:
        spec["suspend"] = True
    return {
        "apiVersion": JOBS.api_version,
        "kind": JOBS.kind,
        "metadata": {
            "name": job_name(run.name, attempt),
            "namespace": run.namespace,
            "labels": labels | kueue,
            "annotations": annotations,
            "ownerReferences": [owner_of(run)],
        },
        "spec": spec,
    }


def _early_s(run: RunView, now: datetime) -> float:
    """How long before its time the run's pod is started."""
    return max(0.0, (run.due_at - now).total_seconds()) if run.prestart_s else 0.0


def _labels(run: RunView, deployment: DeploymentView, code: Code, attempt: int) -> dict[str, str]:
    labels = {
        names.LABEL_RUN: run.name,
        names.LABEL_ATTEMPT: str(attempt),
        names.LABEL_DEPLOYMENT: deployment.name,
        names.LABEL_QUEUE: deployment.queue,
        names.LABEL_FLOW: code.flow,
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
    }
    return {**labels, names.LABEL_SCHEDULE: run.schedule} if run.schedule else labels


def _kueue_labels(queue: QueueView | None) -> dict[str, str]:
    """What makes Kueue take charge of the Job."""
    if queue is None or not queue.local_queue:
        return {}
    labels = {names.LABEL_KUEUE_QUEUE: queue.local_queue}
    if queue.workload_priority_class:
        labels[names.LABEL_KUEUE_PRIORITY] = queue.workload_priority_class
    return labels


def owner_of(run: RunView) -> Manifest:
    """The owner reference of what belongs to a run."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": FLOW_RUNS.kind,
        "name": run.name,
        "uid": run.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def _pod_spec(
    run: RunView,
    deployment: DeploymentView,
    code: Code,
    *,
    attempt: int,
    parameters: str,
    settings: Settings,
    now: datetime,
) -> Manifest:
    infrastructure = deployment.infrastructure
    spec: Manifest = {
        "restartPolicy": "Never",
        "serviceAccountName": deployment.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": deployment.grace_s,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "affinity": _affinity(deployment.queue),
        "tolerations": [
            {"key": names.TAINT_AGENT, "operator": "Exists", "effect": "NoSchedule"},
            *infrastructure.get("tolerations", ()),
        ],
        "containers": [
            _container(run, deployment, code, attempt=attempt, parameters=parameters, settings=settings, now=now)
        ],
        "volumes": _volumes(code),
    }
    if infrastructure.get("nodeSelector"):
        spec["nodeSelector"] = infrastructure["nodeSelector"]
    if infrastructure.get("imagePullSecrets"):
        spec["imagePullSecrets"] = infrastructure["imagePullSecrets"]
    return spec


def _affinity(queue: str) -> Manifest:
    """Any node with containers, or an agent that serves the run's queue."""
    terms = [
        {"matchExpressions": [{"key": names.LABEL_AGENT, "operator": "DoesNotExist"}]},
        {"matchExpressions": [{"key": names.QUEUE_LABEL_PREFIX + queue, "operator": "In", "values": ["true"]}]},
    ]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def _container(
    run: RunView,
    deployment: DeploymentView,
    code: Code,
    *,
    attempt: int,
    parameters: str,
    settings: Settings,
    now: datetime,
) -> Manifest:
    infrastructure = deployment.infrastructure
    mounts: list[Manifest] = [
        {"name": _IDENTITY_VOLUME, "mountPath": names.SERVICE_ACCOUNT_DIR, "readOnly": True},
        {"name": _SCRATCH_VOLUME, "mountPath": names.SCRATCH_DIR},
    ]
    if code.config_map:
        mounts.append({"name": _CODE_VOLUME, "mountPath": names.CODE_DIR, "readOnly": True})
    if code.mounted_secret:
        mounts.append({"name": _SOURCE_VOLUME, "mountPath": names.SOURCE_SECRET_DIR, "readOnly": True})
    ours = _env(run, deployment, code, attempt=attempt, parameters=parameters, now=now)
    storage = deployment.storage or settings.storage
    if storage:
        ours.append({"name": names.ENV_STORAGE, "value": escape(storage)})
    container: Manifest = {
        "name": names.CONTAINER_NAME,
        "image": infrastructure.get("image") or settings.default_image,
        "command": ["python", "-m", "levada.runner"],
        "env": _merge_items(ours, infrastructure.get("env", ()), "name"),
        "volumeMounts": mounts,
        "terminationMessagePath": names.TERMINATION_LOG,
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    for field in ("imagePullPolicy", "resources", "envFrom"):
        if infrastructure.get(field):
            container[field] = infrastructure[field]
    if code.env_secret:
        container["envFrom"] = [{"secretRef": {"name": code.env_secret}}, *container.get("envFrom", ())]
    return container


def _env(
    run: RunView, deployment: DeploymentView, code: Code, *, attempt: int, parameters: str, now: datetime
) -> list[Manifest]:
    order = {
        names.ENV_RUN: run.name,
        names.ENV_RUN_UID: run.uid,
        names.ENV_NAMESPACE: run.namespace,
        names.ENV_ATTEMPT: str(attempt),
        names.ENV_RETRIES_LEFT: str(retries_left(deployment, run)),
        names.ENV_INFRASTRUCTURE_RETRIES: str(deployment.infrastructure_retries.limit),
        names.ENV_GRACE_SECONDS: str(deployment.grace_s),
        names.ENV_DEPLOYMENT: deployment.name,
        names.ENV_ENTRYPOINT: code.entrypoint,
        names.ENV_CREATED_AT: stamp(now),
        names.ENV_RESULTS_KEY: run.results_key or own_key(run.name, run.uid),
        names.ENV_GOES_ON: "true" if attempt > 1 or repeats(run) else "false",
    }
    # Alone: what an agent rewrites (paths), and what may be long.
    literal = {
        names.ENV_ORDER: escape(json.dumps(order)),
        names.ENV_CODE_DIR: code.directory,
        names.ENV_SERVICE_ACCOUNT_DIR: names.SERVICE_ACCOUNT_DIR,
        names.ENV_TERMINATION_LOG: names.TERMINATION_LOG,
        names.ENV_PARAMETERS: escape(parameters),
        "TMPDIR": names.SCRATCH_DIR,
        "HOME": names.SCRATCH_DIR,
    }
    if deployment.persist_results is not None:
        literal[names.ENV_PERSIST_RESULTS] = "true" if deployment.persist_results else "false"
    if code.requirements:
        literal[names.ENV_REQUIREMENTS] = escape(code.requirements)
    if code.mounted_secret:
        literal[names.ENV_SOURCE_SECRET_DIR] = names.SOURCE_SECRET_DIR
    if _TRACEPARENT.fullmatch(run.traceparent):  # anybody may annotate, and the environment is no place for anything
        literal[names.ENV_TRACEPARENT] = run.traceparent
    if _early_s(run, now):
        literal[names.ENV_START_AT] = stamp(run.due_at)
    fields = {names.ENV_POD: "metadata.name", names.ENV_NODE: "spec.nodeName"}
    return [{"name": name, "value": value} for name, value in literal.items()] + [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()
    ]


def _volumes(code: Code) -> list[Manifest]:
    sources: list[Manifest] = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": _TOKEN_TTL_S}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]
    volumes: list[Manifest] = [
        {"name": _IDENTITY_VOLUME, "projected": {"sources": sources}},
        {"name": _SCRATCH_VOLUME, "emptyDir": {}},
    ]
    if code.config_map:
        volumes.append({"name": _CODE_VOLUME, "configMap": {"name": code.config_map}})
    if code.mounted_secret:
        # Optional: a pod that waits for a Secret says less than a run that fails for the lack of it.
        secret = {"secretName": code.mounted_secret, "defaultMode": 0o440, "optional": True}
        volumes.append({"name": _SOURCE_VOLUME, "secret": secret})
    return volumes


# --- the user's podTemplate --------------------------------------------------------------------------------------------


def merge_template(base: Any, patch: Any) -> Any:
    """RFC 7386 merge patch, except that lists of named items are merged item by item. Neither argument is changed."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    merged: Manifest = dict(base) if isinstance(base, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif key in _LIST_KEYS and _is_list(value) and _is_list(merged.get(key)):
            merged[key] = _merge_items(merged[key], value, _LIST_KEYS[key])
        elif key in _APPENDED and _is_list(value) and _is_list(merged.get(key)):
            merged[key] = [*merged[key], *copy.deepcopy(value)]
        else:
            merged[key] = merge_template(merged.get(key), value)
    return merged


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _merge_items(base: Sequence[Any], patch: Sequence[Any], key: str) -> list[Any]:
    items = list(base)
    for change in patch:
        name = change.get(key) if isinstance(change, Mapping) else None
        at = next(
            (i for i, item in enumerate(items) if isinstance(item, Mapping) and name and item.get(key) == name), None
        )
        if at is None:
            items.append(copy.deepcopy(change))
        else:
            items[at] = merge_template(items[at], change)
    return items


def protect(template: Manifest, ours: Manifest) -> Manifest:
    """Put back what the runner and the operator live on, whatever the user's patch did to it."""
    metadata, spec = template.get("metadata"), template.get("spec")
    template["metadata"] = metadata = dict(metadata) if isinstance(metadata, Mapping) else {}
    for field in ("labels", "annotations"):
        metadata[field] = {**(metadata.get(field) or {}), **ours["metadata"][field]}
    for field in ("name", "generateName", "namespace", "ownerReferences", "finalizers"):
        metadata.pop(field, None)
    template["spec"] = spec = dict(spec) if isinstance(spec, Mapping) else dict(ours["spec"])
    spec["restartPolicy"] = "Never"
    spec["automountServiceAccountToken"] = False
    spec["volumes"] = _put_back(spec.get("volumes"), ours["spec"]["volumes"], "name")
    spec["containers"] = _protect_containers(spec.get("containers"), ours["spec"]["containers"][0])
    return template


def _protect_containers(containers: Any, flow: Manifest) -> list[Any]:
    found = list(containers) if _is_list(containers) else []
    at = next(
        (i for i, item in enumerate(found) if isinstance(item, Mapping) and item.get("name") == flow["name"]), None
    )
    mine = dict(found[at]) if at is not None else dict(flow)
    if at is None:
        found.insert(0, mine)
    else:
        found[at] = mine
    mine["command"] = flow["command"]
    mine.pop("args", None)
    mine["terminationMessagePath"], mine["terminationMessagePolicy"] = names.TERMINATION_LOG, "File"
    ours_env = [item for item in flow["env"] if item["name"].startswith("LEVADA_")]
    mine["env"] = _put_back(mine.get("env"), ours_env, "name")
    mine["volumeMounts"] = _put_back(
        mine.get("volumeMounts"),
        [mount for mount in flow["volumeMounts"] if mount["name"].startswith("levada-")],
        "mountPath",
    )
    return found


def _put_back(items: Any, ours: Sequence[Manifest], key: str) -> list[Any]:
    taken = {item[key] for item in ours}
    theirs = (
        [item for item in items if not (isinstance(item, Mapping) and item.get(key) in taken)]
        if _is_list(items)
        else []
    )
    return [*ours, *theirs]
