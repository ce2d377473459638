"""What the operator watches in masses (FlowRuns, their Jobs, their pods), and what it keeps of it.

Of what has come to its end it keeps nothing: a start, a comparison and the memory cost what is under way, whatever the history. A run
that has not ended may have a Job or a pod that has: while no operator was there, while this one stood by, or while a watch was
broken. Those are asked for by the labels of their runs, a hundred runs a request.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from levada.decide.views import job_env
from levada.kube import Reflector, Unfinished
from levada.operator.controller import Controller
from levada.operator.store import Store
from levada.resources.kinds import FLOW_RUNS, JOBS, PODS, Kind
from levada.resources.names import (
    ANNOTATION_RUN_UID,
    CONTAINER_NAME,
    ENV_CODE_DIR,
    ENV_ENTRYPOINT,
    LABEL_ATTEMPT,
    LABEL_RUN,
    LABEL_TASK_POD,
)
from levada.resources.phases import TERMINAL_PHASES, is_terminal

Object = dict[str, Any]

# The small fields of a spec that views read; the pod template is most of an object's memory.
KEPT_OF_SPEC: Final = frozenset({"nodeName", "activeDeadlineSeconds", "suspend", "deploymentRef", "cancel"})
KEPT_OF_ENV: Final = (ENV_ENTRYPOINT, ENV_CODE_DIR)
UNFINISHED_RUNS: Final = ",".join(f"status.phase!={phase}" for phase in sorted(TERMINAL_PHASES))
# The only field of its status that a Job can be selected by: failed ones are listed too, and dropped.
UNFINISHED_JOBS: Final = "status.successful=0"
UNFINISHED_PODS: Final = "status.phase!=Failed,status.phase!=Succeeded"
# A name has up to 63 characters, and all of them are in one URL.
RUNS_A_REQUEST: Final = 100


class Feed(NamedTuple):
    """How a kind comes in. keep: what is kept of an object that has not come to its end."""

    kind: Kind
    on_change: Callable[[str, Any], None]
    unfinished: Unfinished
    keep: Callable[[Object], Object]
    label_selector: str | None = None


def make_reflectors(controller: Controller) -> dict[str, Reflector]:
    """One per kind and namespace, by a name for metrics and logs."""
    settings = controller.settings
    reflectors = {
        f"{feed.kind.plural}/{namespace}" if namespace else feed.kind.plural: Reflector(
            controller.client,
            feed.kind,
            namespace,
            on_change=feed.on_change,
            label_selector=feed.label_selector,
            unfinished=feed.unfinished,
            resync_seconds=settings.relist_s,
            keep=feed.keep,
            wanted=lambda item: controller.serves(item["metadata"]["namespace"]),
            held=settings.election is not None,
        )
        for namespace in settings.namespaces or (None,)
        for feed in _feeds(controller, namespace)
    }

    def on_made(kind: Kind, body: Mapping[str, Any]) -> None:
        name = f"{kind.plural}/{body['metadata']['namespace']}" if settings.namespaces else kind.plural
        reflectors[name].note(dict(body))

    controller.on_made = on_made
    return reflectors


def _feeds(controller: Controller, namespace: str | None) -> Iterable[Feed]:
    waited_for = partial(runs_without, controller.store, namespace)
    jobs = Unfinished(UNFINISHED_JOBS, job_is_over, waited_for)
    pods = Unfinished(UNFINISHED_PODS, pod_is_over, waited_for)
    return (
        Feed(FLOW_RUNS, controller.on_run, Unfinished(UNFINISHED_RUNS, run_is_over), without_rows),
        Feed(JOBS, controller.on_job, jobs, without_spec, LABEL_RUN),
        Feed(PODS, controller.on_pod, pods, without_spec, LABEL_RUN),
    )


def run_is_over(run: Object) -> bool:
    """Whether a FlowRun is in a phase that is final."""
    return is_terminal((run.get("status") or {}).get("phase"))


def job_is_over(job: Object) -> bool:
    """Whether a Job has its verdict, and no pod any more."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    return any(each.get("type") in {"Complete", "Failed"} and each.get("status") == "True" for each in conditions)


def pod_is_over(pod: Object) -> bool:
    """Whether a pod's containers have ended for good."""
    return (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}


def runs_without(store: Store, namespace: str | None, unfinished: Iterable[Object]) -> list[str]:
    """Label selectors of the runs under way whose newest attempt is in none of these unfinished objects."""
    have = {(item["metadata"].get("namespace"), *_attempt(item)) for item in unfinished if not _is_of_a_task(item)}
    names = sorted({
        run.name
        for run in store.runs.values()
        if run.attempt
        and namespace in {None, run.namespace}
        and (run.namespace, run.name, str(run.attempt)) not in have
    })  # fmt: skip
    batches = (names[start : start + RUNS_A_REQUEST] for start in range(0, len(names), RUNS_A_REQUEST))
    return [f"{LABEL_RUN} in ({','.join(batch)})" for batch in batches]


def _attempt(item: Object) -> tuple[str | None, str | None]:
    labels: Mapping[str, str] = item["metadata"].get("labels") or {}
    return labels.get(LABEL_RUN), labels.get(LABEL_ATTEMPT)


def _is_of_a_task(item: Object) -> bool:
    return LABEL_TASK_POD in (item["metadata"].get("labels") or {})


def without_rows(item: Object) -> Object:
    """What a reflector keeps of a FlowRun: all that a view reads, for a standby that comes to lead. The rows of its tasks may be large."""
    return {**item, "status": {name: value for name, value in (item.get("status") or {}).items() if name != "tasks"}}


def without_spec(item: Object) -> Object:
    """What a reflector keeps of a Job or pod: all that a view reads, for a standby that comes to lead."""
    metadata = {name: value for name, value in item["metadata"].items() if name != "annotations"}
    annotations = {k: v for k, v in (item["metadata"].get("annotations") or {}).items() if k == ANNOTATION_RUN_UID}
    spec = {name: value for name, value in (item.get("spec") or {}).items() if name in KEPT_OF_SPEC}
    if "template" in (item.get("spec") or {}):
        spec["template"] = _told_in(item["spec"])  # the next attempt may need it
    return {"metadata": metadata | {"annotations": annotations}, "spec": spec, "status": item.get("status") or {}}


def _told_in(spec: Any) -> Object:
    """Of a Job's pod template, where the code is: it is the same for all runs of a Flow, so one copy of the text will do."""
    told = job_env(spec)
    env = [{"name": name, "value": sys.intern(str(told[name]))} for name in KEPT_OF_ENV if name in told]
    return {"spec": {"containers": [{"name": CONTAINER_NAME, "env": env}]}}
