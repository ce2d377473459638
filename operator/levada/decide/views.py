"""API objects (dicts) to views. Called for every watch event, so it reads few fields and copies none.

Nothing here raises for what an object lacks: an object that the schema let in is looked at, whatever its shape.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from levada.decide.facts import JobView, NodeView, Pin, PodView, RepeatedRun, RunEnd, RunView, SlotView, TaskPodView
from levada.decide.rerun import own_key
from levada.decide.times import parse, seconds_between
from levada.resources.names import (
    ANNOTATION_BACKFILL_UID,
    ANNOTATION_RUN_UID,
    ANNOTATION_SCHEDULE_UID,
    ANNOTATION_TRACEPARENT,
    CONTAINER_NAME,
    ENV_CODE_DIR,
    ENV_ENTRYPOINT,
    ENV_ORDER,
    ENV_REQUIREMENTS,
    LABEL_ATTEMPT,
    LABEL_BACKFILL,
    LABEL_KUEUE_QUEUE,
    LABEL_RUN,
    LABEL_SCHEDULE,
    LABEL_TASK_POD,
    TASK_POD_FIELDS,
)
from levada.resources.phases import is_terminal

Object = Mapping[str, Any]
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
EMPTY: Final[dict[str, Any]] = {}
_VERDICTS: Final = {
    "Complete": "Complete", "SuccessCriteriaMet": "Complete", "Failed": "Failed", "FailureTarget": "Failed",
}  # fmt: skip


def run_view(obj: Object) -> RunView:
    """A FlowRun."""
    meta, spec, status = obj["metadata"], obj.get("spec") or EMPTY, obj.get("status") or EMPTY
    pin = status.get("flow")
    conditions = status.get("conditions") or ()
    return RunView(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        created_at=created(meta),
        deployment=(spec.get("deploymentRef") or EMPTY).get("name", ""),
        generation=meta.get("generation", 1),
        deleting="deletionTimestamp" in meta,
        parameters=spec.get("parameters") or EMPTY,
        overrides=spec.get("overrides") or EMPTY,
        cancel=bool(spec.get("cancel")),
        suspend=bool(spec.get("suspend")),
        retry_of=spec.get("retryOf") or "",
        from_scratch=bool(spec.get("fromScratch")),
        results_key=(status.get("rerun") or EMPTY).get("key") or "",
        parameters_digest=status.get("parametersDigest") or "",
        priority=spec.get("priority"),
        scheduled_at=parse(spec.get("scheduledTime")),
        delay_s=spec.get("delaySeconds") or 0.0,
        prestart_s=spec.get("prestartSeconds") or 0,
        schedule=(meta.get("labels") or EMPTY).get(LABEL_SCHEDULE, ""),
        traceparent=(meta.get("annotations") or EMPTY).get(ANNOTATION_TRACEPARENT, ""),
        schedule_uid=(meta.get("annotations") or EMPTY).get(ANNOTATION_SCHEDULE_UID, ""),
        backfill=(meta.get("labels") or EMPTY).get(LABEL_BACKFILL, ""),
        backfill_uid=(meta.get("annotations") or EMPTY).get(ANNOTATION_BACKFILL_UID, ""),
        phase=status.get("phase") or "",
        reason=status.get("reason") or "",
        message=status.get("message") or "",
        queue=status.get("queue") or "",
        attempt=status.get("attempt") or 0,
        attempts=tuple(status.get("attempts") or ()),
        infrastructure_failures=status.get("infrastructureFailures") or 0,
        code_failures=status.get("codeFailures") or 0,
        next_attempt_at=parse(status.get("nextAttemptTime")),
        admitted_at=parse(status.get("admittedTime")),
        pin=Pin(pin.get("name", ""), pin.get("generation", 0), pin.get("codeConfigMap") or "") if pin else None,
        pod_name=status.get("podName") or "",
        queued_seconds=(status.get("stages") or EMPTY).get("queuedSeconds") or 0.0,
        code_revision=status.get("codeRevision") or "",
        started_at=parse(status.get("startTime")),
        completed_at=parse(status.get("completionTime")),
        succeeded=next((item for item in conditions if item.get("type") == "Succeeded"), None),
        other_conditions=tuple(item for item in conditions if item.get("type") != "Succeeded"),
        slots=_slots(status.get("slots")),
        task_pods=_task_pods(status.get("taskPods")),
        end=_run_end(status) if is_terminal(status.get("phase")) else None,
    )


def _run_end(status: Object) -> RunEnd:
    """The figures of a run that is over. Rows are written by the run's pod: what cannot be read is left out."""
    stages = status.get("stages") or EMPTY
    times, retries = [], 0
    for task_id, row in (status.get("tasks") or EMPTY).items():
        retries += max(0, (row.get("attempt") or 0) - 1)
        started, ended = parse(row.get("startTime")), parse(row.get("endTime"))
        if started is not None and ended is not None and not row.get("cached"):
            # The id is the slug of the task's function and a number; the row's name may hold anything, parameters too.
            times.append((sys.intern(task_id.rpartition("-")[0] or task_id), seconds_between(started, ended)))
    return RunEnd(
        duration_s=status.get("durationSeconds"),
        wait_s=stages.get("waitSeconds"),
        import_s=stages.get("importSeconds"),
        hold_s=stages.get("holdSeconds"),
        user_s=stages.get("userSeconds"),
        tasks=tuple(times),
        counts=status.get("taskCounts") or EMPTY,
        task_retries=retries,
    )


def job_view(obj: Object) -> JobView:
    """A Job with LABEL_RUN."""
    meta, spec, status = obj["metadata"], obj.get("spec") or EMPTY, obj.get("status") or EMPTY
    labels = meta.get("labels") or EMPTY
    verdict = _verdict(status.get("conditions") or ())
    env = job_env(spec)
    return JobView(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        run=labels.get(LABEL_RUN, ""),
        attempt=_number(labels.get(LABEL_ATTEMPT)),
        owner_uid=controller_uid(obj),
        created_at=created(meta),
        started_at=parse(status.get("startTime")),
        finished_at=parse(verdict.get("lastTransitionTime")),
        deadline_s=spec.get("activeDeadlineSeconds"),
        suspended=bool(spec.get("suspend")),
        deleting="deletionTimestamp" in meta,
        active=status.get("active") or 0,
        verdict=_VERDICTS.get(verdict.get("type", ""), ""),
        reason=verdict.get("reason") or "",
        message=verdict.get("message") or "",
        entrypoint=env.get(ENV_ENTRYPOINT, ""),
        code_dir=env.get(ENV_CODE_DIR, ""),
        requirements=env.get(ENV_REQUIREMENTS, "").replace("$$", "$"),
        kueue=LABEL_KUEUE_QUEUE in labels,
        task_pod=labels.get(LABEL_TASK_POD, ""),
    )


def pod_view(obj: Object, *, gone: bool = False) -> PodView:
    """A pod with LABEL_RUN."""
    meta, spec, status = obj["metadata"], obj.get("spec") or EMPTY, obj.get("status") or EMPTY
    labels = meta.get("labels") or EMPTY
    conditions = {item.get("type"): item for item in status.get("conditions") or ()}
    disruption = _when(conditions.get("DisruptionTarget"), "True")
    scheduled = conditions.get("PodScheduled")
    unscheduled = _when(scheduled, "False")
    unready = _when(conditions.get("Ready"), "False")
    flow, failed = _flow_container(status)
    state = flow.get("state") or EMPTY
    waiting = _waiting(status, state)
    terminated = state.get("terminated") or EMPTY
    started = parse(terminated.get("startedAt") or (state.get("running") or EMPTY).get("startedAt"))
    return PodView(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        run=labels.get(LABEL_RUN, ""),
        attempt=_number(labels.get(LABEL_ATTEMPT)),
        job=labels.get("batch.kubernetes.io/job-name", ""),
        created_at=created(meta),
        run_uid=(meta.get("annotations") or EMPTY).get(ANNOTATION_RUN_UID, ""),
        task_pod=labels.get(LABEL_TASK_POD, ""),
        phase=status.get("phase") or "Pending",
        reason=status.get("reason") or "",
        message=status.get("message") or "",
        node=spec.get("nodeName") or "",
        deletion_due_at=parse(meta.get("deletionTimestamp")),
        gone=gone,
        disruption=disruption.get("reason") or "",
        disruption_message=disruption.get("message") or "",
        unready_since=parse(unready.get("lastTransitionTime")) if state.get("running") else None,
        scheduled_at=parse(_when(scheduled, "True").get("lastTransitionTime")),
        unschedulable=unscheduled.get("message") or unscheduled.get("reason") or "",
        waiting=waiting.get("reason") or "",
        waiting_message=waiting.get("message") or "",
        started_at=started,
        finished_at=parse(terminated.get("finishedAt")),
        exit_code=terminated.get("exitCode"),
        signal=terminated.get("signal") or 0,
        exit_reason=terminated.get("reason") or "",
        termination_message=terminated.get("message") or "",
        failed_container=failed,
    )


def node_view(obj: Object) -> NodeView:
    """A Node. One that has no Ready condition yet has just been made."""
    conditions = (obj.get("status") or EMPTY).get("conditions") or ()
    ready = next((item for item in conditions if item.get("type") == "Ready"), EMPTY)
    if not ready or ready.get("status") == "True":
        return NodeView()
    return NodeView(unready_since=parse(ready.get("lastTransitionTime")), message=ready.get("message") or "")


def repeated_run(obj: Object) -> RepeatedRun:
    """A FlowRun, as the one that repeats it sees it."""
    meta, status = obj["metadata"], obj.get("status") or EMPTY
    inherited, counts = status.get("rerun") or EMPTY, status.get("taskCounts") or EMPTY
    return RepeatedRun(
        root=inherited.get("of") or meta["name"],
        key=inherited.get("key") or own_key(meta["name"], meta.get("uid", "")),
        phase=status.get("phase") or "",
        persisted=counts.get("persisted") or 0,
        total=counts.get("total") or 0,
    )


def controller_uid(obj: Object) -> str:
    """The uid of the object's controller, or nothing."""
    owners = obj["metadata"].get("ownerReferences") or ()
    return next((str(owner.get("uid") or "") for owner in owners if owner.get("controller")), "")


def _slots(entries: Any) -> tuple[SlotView, ...]:
    """What the run's tasks hold or wait for. The run writes it: the schema has checked it, nobody else."""
    if not entries:
        return ()
    return tuple(
        SlotView(
            id=name,
            limit=entry.get("limit") or "",
            occupy=entry.get("occupy") or 1,
            attempt=entry.get("attempt") or 0,
            state=entry.get("state") or "",
            requested_at=parse(entry.get("requestedTime")) or EPOCH,
            granted_at=parse(entry.get("grantedTime")),
            priority=entry.get("priority"),
            rate=bool(entry.get("rate")),
        )
        for name, entry in entries.items()
    )


def _task_pods(entries: Any) -> tuple[TaskPodView, ...]:
    """Pods that the run's code has asked for."""
    return tuple(
        TaskPodView(
            id=name,
            attempt=entry.get("attempt") or 0,
            state=entry.get("state") or "",
            requested_at=parse(entry.get("requestedTime")) or EPOCH,
            holder=entry.get("holder") or "",
            granted_at=parse(entry.get("grantedTime")),
            reason=entry.get("reason") or "",
            message=entry.get("message") or "",
            wanted={field: entry[field] for field in TASK_POD_FIELDS if entry.get(field)},
        )
        for name, entry in (entries or EMPTY).items()
    )


def created(meta: Object) -> datetime:
    """When an object was created."""
    return parse(meta.get("creationTimestamp")) or EPOCH


def _number(label: str | None) -> int:
    return int(label) if label and label.isascii() and label.isdecimal() else 0


def _when(item: Object | None, status: str) -> Object:
    return item if item is not None and item.get("status") == status else EMPTY


def _verdict(conditions: Iterable[Object]) -> Object:
    """The condition that decided the Job. FailureTarget and SuccessCriteriaMet come first: the pods are still leaving."""
    decided = [item for item in conditions if item.get("status") == "True" and item.get("type") in _VERDICTS]
    return min(decided, key=lambda item: item.get("type") in {"FailureTarget", "SuccessCriteriaMet"}, default=EMPTY)


def job_env(spec: Object) -> dict[str, str]:
    """What the Job told the runner, spread out as the runner sees it."""
    containers = ((spec.get("template") or EMPTY).get("spec") or EMPTY).get("containers") or ()
    for container in containers:
        if container.get("name") == CONTAINER_NAME:
            told = {item["name"]: item["value"] for item in container.get("env") or () if "value" in item}
            return told | _order(told.get(ENV_ORDER))
    return {}


def _order(text: Any) -> dict[str, str]:
    try:
        order = json.loads(text.replace("$$", "$"))
    except (AttributeError, ValueError, RecursionError):
        return {}
    return order if isinstance(order, dict) else {}


def _flow_container(status: Object) -> tuple[Object, str]:
    """The container status that tells the outcome, and its name if it is not the flow's.

    A pod can fail without its flow container: an init container or a sidecar that podTemplate added.
    """
    flow = next((item for item in status.get("containerStatuses") or () if item.get("name") == CONTAINER_NAME), EMPTY)
    if (flow.get("state") or EMPTY).get("running") or (flow.get("state") or EMPTY).get("terminated"):
        return flow, ""
    for item in status.get("initContainerStatuses") or ():
        if ((item.get("state") or EMPTY).get("terminated") or EMPTY).get("exitCode"):
            return item, str(item.get("name") or "init")
    return flow, ""


def _waiting(status: Object, state: Object) -> Object:
    """Why a container is not started; an init container's trouble comes before the flow container's PodInitializing."""
    for item in status.get("initContainerStatuses") or ():
        waiting = (item.get("state") or EMPTY).get("waiting")
        if waiting and waiting.get("reason") not in {None, "PodInitializing"}:
            return waiting  # type: ignore[no-any-return]  # it is the API's dict
    return state.get("waiting") or EMPTY
