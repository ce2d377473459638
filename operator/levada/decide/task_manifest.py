"""The Job of a task's own pod: that of the run's attempt, with another command and what the Deployment lets its tasks set."""

import copy
import json
from collections.abc import Mapping
from typing import Any, Final

from levada.decide.facts import RunView, TaskPodView
from levada.decide.manifest import owner_of
from levada.decide.parameters import escape
from levada.decide.task_pods import job_name
from levada.resources import names
from levada.resources.kinds import JOBS

Manifest = dict[str, Any]

COMMAND: Final = ["python", "-m", "levada.runner.task_pod"]
# What the Job controller has added to the attempt's pods, and what only the run itself needs.
_CONTROLLERS: Final = (
    "controller-uid",
    "job-name",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
)
_OF_THE_RUN: Final = frozenset({names.ENV_PARAMETERS, names.ENV_START_AT, names.ENV_TRACEPARENT})
_KUEUE: Final = (names.LABEL_KUEUE_QUEUE, names.LABEL_KUEUE_PRIORITY)


def build_task_job(attempt_job: Mapping[str, Any], run: RunView, entry: TaskPodView) -> Manifest:
    """The Job. It is made from the attempt's Job as it stands, so both have the same code, rights and settings, whatever was edited since."""
    template = copy.deepcopy(attempt_job["spec"]["template"])
    metadata, spec = template["metadata"], template["spec"]
    mark = {names.LABEL_TASK_POD: entry.id}
    metadata["labels"] = {
        key: value for key, value in (metadata.get("labels") or {}).items() if key not in _CONTROLLERS
    } | mark
    metadata.pop("creationTimestamp", None)
    container = next(item for item in spec["containers"] if item["name"] == names.CONTAINER_NAME)
    container["command"] = list(COMMAND)
    container["env"] = _env(container.get("env") or [], entry)
    _lay_over(spec, container, entry.wanted)
    theirs = attempt_job["metadata"].get("labels") or {}
    job_spec: Manifest = {"backoffLimit": 0, "completions": 1, "parallelism": 1, "template": template}
    if attempt_job["spec"].get("activeDeadlineSeconds"):
        job_spec["activeDeadlineSeconds"] = attempt_job["spec"]["activeDeadlineSeconds"]
    if any(label in theirs for label in _KUEUE):
        job_spec["suspend"] = True
    return {
        "apiVersion": JOBS.api_version,
        "kind": JOBS.kind,
        "metadata": {
            "name": job_name(run.name, entry.attempt, entry.id),
            "namespace": run.namespace,
            "labels": dict(theirs) | mark,
            "annotations": {names.ANNOTATION_RUN_UID: run.uid},
            "ownerReferences": [owner_of(run)],
        },
        "spec": job_spec,
    }


def _env(env: list[Any], entry: TaskPodView) -> list[Any]:
    kept = [item for item in env if item.get("name") not in _OF_THE_RUN | {names.ENV_TASK_POD}]
    return [*kept, {"name": names.ENV_TASK_POD, "value": escape(json.dumps({"id": entry.id, "for": entry.holder}))}]


def _lay_over(spec: Manifest, container: Manifest, wanted: Mapping[str, Any]) -> None:
    if "image" in wanted:
        container["image"] = wanted["image"]
    if "resources" in wanted:
        container["resources"] = copy.deepcopy(wanted["resources"])
    if "nodeSelector" in wanted:
        spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), **wanted["nodeSelector"]}
    if "tolerations" in wanted:
        spec["tolerations"] = [*(spec.get("tolerations") or ()), *copy.deepcopy(list(wanted["tolerations"]))]
