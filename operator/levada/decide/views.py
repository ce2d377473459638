"""API objects (dicts) to views. Called for every watch event, so it reads few fields and copies none.

Nothing here raises for what an object lacks: an object that the schema let in is looked at, whatever its shape.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from levada.decide.facts import (
    QUEUE,
    BackfillView,
    BlockView,
    DeploymentView,
    FailureRule,
    FlowView,
    History,
    JobView,
    LimitView,
    NodeView,
    Notification,
    Pin,
    PodView,
    QueueView,
    RepeatedRun,
    RetryPolicy,
    RunEnd,
    RunView,
    ScheduleView,
    SlotView,
)
from levada.decide.rerun import own_key
from levada.decide.schedule_rule import Rule
from levada.decide.times import parse, seconds_between
from levada.resources import sources
from levada.resources.names import (
    ANNOTATION_BACKFILL_UID,
    ANNOTATION_NOTIFY,
    ANNOTATION_RUN_UID,
    ANNOTATION_SCHEDULE_UID,
    ANNOTATION_TRACEPARENT,
    CONTAINER_NAME,
    DEFAULT_QUEUE,
    ENV_CODE_DIR,
    ENV_ENTRYPOINT,
    ENV_ORDER,
    LABEL_ATTEMPT,
    LABEL_BACKFILL,
    LABEL_KUEUE_QUEUE,
    LABEL_RUN,
    LABEL_SCHEDULE,
    RUNNER_SERVICE_ACCOUNT,
)
from levada.resources.phases import DEFAULT_OCCASIONS, is_terminal

Object = Mapping[str, Any]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EMPTY: Final[dict[str, Any]] = {}
_VERDICTS: Final = {
    "Complete": "Complete", "SuccessCriteriaMet": "Complete", "Failed": "Failed", "FailureTarget": "Failed",
}  # fmt: skip


def run_view(obj: Object) -> RunView:
    """A FlowRun."""
    meta, spec, status = obj["metadata"], obj.get("spec") or _EMPTY, obj.get("status") or _EMPTY
    pin = status.get("flow")
    conditions = status.get("conditions") or ()
    return RunView(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        created_at=_created(meta),
        deployment=(spec.get("deploymentRef") or _EMPTY).get("name", ""),
        generation=meta.get("generation", 1),
        deleting="deletionTimestamp" in meta,
        parameters=spec.get("parameters") or _EMPTY,
        cancel=bool(spec.get("cancel")),
        suspend=bool(spec.get("suspend")),
        retry_of=spec.get("retryOf") or "",
        from_scratch=bool(spec.get("fromScratch")),
        results_key=(status.get("rerun") or _EMPTY).get("key") or "",
        parameters_digest=status.get("parametersDigest") or "",
        priority=spec.get("priority"),
        scheduled_at=parse(spec.get("scheduledTime")),
        delay_s=spec.get("delaySeconds") or 0.0,
        prestart_s=spec.get("prestartSeconds") or 0,
        schedule=(meta.get("labels") or _EMPTY).get(LABEL_SCHEDULE, ""),
        traceparent=(meta.get("annotations") or _EMPTY).get(ANNOTATION_TRACEPARENT, ""),
        schedule_uid=(meta.get("annotations") or _EMPTY).get(ANNOTATION_SCHEDULE_UID, ""),
        backfill=(meta.get("labels") or _EMPTY).get(LABEL_BACKFILL, ""),
        backfill_uid=(meta.get("annotations") or _EMPTY).get(ANNOTATION_BACKFILL_UID, ""),
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
        queued_seconds=(status.get("stages") or _EMPTY).get("queuedSeconds") or 0.0,
        started_at=parse(status.get("startTime")),
        completed_at=parse(status.get("completionTime")),
        succeeded=next((item for item in conditions if item.get("type") == "Succeeded"), None),
        other_conditions=tuple(item for item in conditions if item.get("type") != "Succeeded"),
        slots=_slots(status.get("slots")),
        end=_run_end(status) if is_terminal(status.get("phase")) else None,
    )


def _run_end(status: Object) -> RunEnd:
    """The figures of a run that is over. Rows are written by the run's pod: what cannot be read is left out."""
    stages = status.get("stages") or _EMPTY
    times, retries = [], 0
    for task_id, row in (status.get("tasks") or _EMPTY).items():
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
        counts=status.get("taskCounts") or _EMPTY,
        task_retries=retries,
    )


def job_view(obj: Object) -> JobView:
    """A Job with LABEL_RUN."""
    meta, spec, status = obj["metadata"], obj.get("spec") or _EMPTY, obj.get("status") or _EMPTY
    labels = meta.get("labels") or _EMPTY
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
        created_at=_created(meta),
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
        kueue=LABEL_KUEUE_QUEUE in labels,
    )


def pod_view(obj: Object, *, gone: bool = False) -> PodView:
    """A pod with LABEL_RUN."""
    meta, spec, status = obj["metadata"], obj.get("spec") or _EMPTY, obj.get("status") or _EMPTY
    labels = meta.get("labels") or _EMPTY
    conditions = {item.get("type"): item for item in status.get("conditions") or ()}
    disruption = _when(conditions.get("DisruptionTarget"), "True")
    scheduled = conditions.get("PodScheduled")
    unscheduled = _when(scheduled, "False")
    unready = _when(conditions.get("Ready"), "False")
    flow, failed = _flow_container(status)
    state = flow.get("state") or _EMPTY
    waiting = _waiting(status, state)
    terminated = state.get("terminated") or _EMPTY
    started = parse(terminated.get("startedAt") or (state.get("running") or _EMPTY).get("startedAt"))
    return PodView(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        run=labels.get(LABEL_RUN, ""),
        attempt=_number(labels.get(LABEL_ATTEMPT)),
        job=labels.get("batch.kubernetes.io/job-name", ""),
        created_at=_created(meta),
        run_uid=(meta.get("annotations") or _EMPTY).get(ANNOTATION_RUN_UID, ""),
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


def flow_view(obj: Object) -> FlowView:
    """A Flow."""
    meta, spec = obj["metadata"], obj.get("spec") or _EMPTY
    source = spec.get("source") or _EMPTY
    return FlowView(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        generation=meta.get("generation", 1),
        entrypoint=spec.get("entrypoint") or "",
        created_at=_created(meta),
        inline=source.get("inline"),
        config_map=(source.get("configMap") or _EMPTY).get("name", ""),
        image_path=(source.get("image") or _EMPTY).get("path", ""),
        remote=sources.url_of(sources.place_of(source["s3"])) if source.get("s3") else "",
        parameter_schema=spec.get("parameterSchema"),
        status=obj.get("status") or _EMPTY,
        deleting="deletionTimestamp" in meta,
    )


def deployment_view(obj: Object) -> DeploymentView:
    """A Deployment."""
    meta, spec = obj["metadata"], obj.get("spec") or _EMPTY
    infrastructure = spec.get("infrastructure") or _EMPTY
    concurrency = spec.get("concurrency") or _EMPTY
    return DeploymentView(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        generation=meta.get("generation", 1),
        flow=(spec.get("flowRef") or _EMPTY).get("name", ""),
        created_at=_created(meta),
        parameters=spec.get("parameters") or _EMPTY,
        queue=spec.get("workQueue") or DEFAULT_QUEUE,
        infrastructure=infrastructure,
        service_account=infrastructure.get("serviceAccountName") or RUNNER_SERVICE_ACCOUNT,
        grace_s=_default(infrastructure.get("terminationGracePeriodSeconds"), 30),
        retries=_policy(spec.get("retries"), limit=0, max_delay_s=600.0),
        infrastructure_retries=_policy(spec.get("infrastructureRetries"), limit=3, max_delay_s=300.0),
        failure_rules=tuple(map(_failure_rule, (spec.get("failurePolicy") or _EMPTY).get("rules") or ())),
        persist_results=spec.get("persistResults"),
        timeout_s=spec.get("timeoutSeconds"),
        pending_timeout_s=_default(spec.get("pendingTimeoutSeconds"), 600),
        paused=bool(spec.get("paused")),
        storage=spec.get("storage") or "",
        history=_history(spec.get("history") or _EMPTY),
        notifications=tuple(_notification(each) for each in spec.get("notifications") or ()),
        priority=spec.get("priority") or 0,
        concurrency_limit=concurrency.get("limit"),
        concurrency_policy=concurrency.get("policy") or QUEUE,
        status=obj.get("status") or _EMPTY,
        deleting="deletionTimestamp" in meta,
    )


def _notification(spec: Object) -> Notification:
    phases = spec.get("phases")
    return Notification(
        name=spec.get("name") or "",
        phases=frozenset(DEFAULT_OCCASIONS if phases is None else phases),
        to=spec.get("to") or _EMPTY,
        late_after_s=float(_default(spec.get("lateAfterSeconds"), 600)),
        subject=spec.get("subject") or "",
        body=spec.get("body") or "",
    )


def block_view(obj: Object) -> BlockView:
    """A Block."""
    meta, spec = obj["metadata"], obj.get("spec") or _EMPTY
    return BlockView(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        type=spec.get("type") or "",
        values=spec.get("values") or _EMPTY,
        secret_refs=spec.get("secretRefs") or _EMPTY,
        notify=(meta.get("annotations") or _EMPTY).get(ANNOTATION_NOTIFY),
    )


def queue_view(obj: Object) -> QueueView:
    """A WorkQueue."""
    meta, spec = obj["metadata"], obj.get("spec") or _EMPTY
    return QueueView(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        generation=meta.get("generation", 1),
        limit=spec.get("concurrencyLimit"),
        paused=bool(spec.get("paused")),
        priority=spec.get("priority") or 0,
        local_queue=spec.get("localQueue") or "",
        workload_priority_class=spec.get("workloadPriorityClass") or "",
        status=obj.get("status") or _EMPTY,
    )


def limit_view(obj: Object) -> LimitView:
    """A ConcurrencyLimit."""
    meta, spec, status = obj["metadata"], obj.get("spec") or _EMPTY, obj.get("status") or _EMPTY
    return LimitView(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        generation=meta.get("generation", 1),
        limit=spec.get("limit") or 0,
        decay_per_s=float(spec.get("slotDecayPerSecond") or 0.0),
        full_at=parse(status.get("fullAt")),
        status=status,
    )


def schedule_view(obj: Object) -> ScheduleView:
    """A Schedule."""
    meta, spec = obj["metadata"], obj.get("spec") or _EMPTY
    return ScheduleView(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        generation=meta.get("generation", 1),
        created_at=_created(meta),
        deployment=(spec.get("deploymentRef") or _EMPTY).get("name", ""),
        rule=Rule.of(spec),
        edited_at=_edited(meta),
        parameters=spec.get("parameters") or _EMPTY,
        catch_up=spec.get("catchUp") or "Latest",
        max_catch_up=_default(spec.get("maxCatchUp"), 100),
        deadline_s=_default(spec.get("startingDeadlineSeconds"), 3600),
        policy=spec.get("concurrencyPolicy") or "Allow",
        jitter_s=spec.get("jitterSeconds") or 0,
        prestart_s=spec.get("prestartSeconds") or 0,
        suspended=bool(spec.get("suspend")),
        deleting="deletionTimestamp" in meta,
        status=obj.get("status") or _EMPTY,
    )


def backfill_view(obj: Object) -> BackfillView:
    """A Backfill. The schema asks for the window; what lacks it has no tick."""
    meta, spec = obj["metadata"], obj.get("spec") or _EMPTY
    return BackfillView(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        generation=meta.get("generation", 1),
        created_at=_created(meta),
        deployment=(spec.get("deploymentRef") or _EMPTY).get("name", ""),
        schedule=(spec.get("scheduleRef") or _EMPTY).get("name", ""),
        rule=Rule.of({name: value for name, value in spec.items() if name not in {"startTime", "endTime"}}),
        start_at=parse(spec.get("startTime")) or _created(meta),
        end_at=parse(spec.get("endTime")) or _EPOCH,
        parameters=spec.get("parameters") or _EMPTY,
        max_active=spec.get("maxActive") or 5,
        reverse=bool(spec.get("reverse")),
        reprocess=spec.get("reprocess") or "None",
        dry_run=bool(spec.get("dryRun")),
        paused=bool(spec.get("paused")),
        cancel=bool(spec.get("cancel")),
        status=obj.get("status") or _EMPTY,
        deleting="deletionTimestamp" in meta,
    )


def node_view(obj: Object) -> NodeView:
    """A Node. One that has no Ready condition yet has just been made."""
    conditions = (obj.get("status") or _EMPTY).get("conditions") or ()
    ready = next((item for item in conditions if item.get("type") == "Ready"), _EMPTY)
    if not ready or ready.get("status") == "True":
        return NodeView()
    return NodeView(unready_since=parse(ready.get("lastTransitionTime")), message=ready.get("message") or "")


def repeated_run(obj: Object) -> RepeatedRun:
    """A FlowRun, as the one that repeats it sees it."""
    meta, status = obj["metadata"], obj.get("status") or _EMPTY
    inherited, counts = status.get("rerun") or _EMPTY, status.get("taskCounts") or _EMPTY
    return RepeatedRun(
        root=inherited.get("of") or meta["name"],
        key=inherited.get("key") or own_key(meta["name"], meta.get("uid", "")),
        phase=status.get("phase") or "",
        persisted=counts.get("persisted") or 0,
        total=counts.get("total") or 0,
    )


def _edited(meta: Object) -> datetime | None:
    """When somebody last wrote the object itself, not its status."""
    written = (item.get("time") for item in meta.get("managedFields") or () if not item.get("subresource"))
    return max((time for time in map(parse, written) if time is not None), default=None)


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
            requested_at=parse(entry.get("requestedTime")) or _EPOCH,
            granted_at=parse(entry.get("grantedTime")),
            priority=entry.get("priority"),
            rate=bool(entry.get("rate")),
        )
        for name, entry in entries.items()
    )


def _created(meta: Object) -> datetime:
    return parse(meta.get("creationTimestamp")) or _EPOCH


def _number(label: str | None) -> int:
    return int(label) if label and label.isascii() and label.isdecimal() else 0


def _default(value: int | None, default: int) -> int:
    return default if value is None else value


def _when(item: Object | None, status: str) -> Object:
    return item if item is not None and item.get("status") == status else _EMPTY


def _failure_rule(spec: Object) -> FailureRule:
    codes = spec.get("onExitCodes") or _EMPTY
    return FailureRule(
        action=spec.get("action") or "",
        codes=frozenset(codes.get("values") or ()),
        codes_in=codes.get("operator") != "NotIn",
        reasons=frozenset(spec.get("onReasons") or ()),
    )


def _policy(spec: Object | None, *, limit: int, max_delay_s: float) -> RetryPolicy:
    spec = spec or _EMPTY
    return RetryPolicy(
        limit=_default(spec.get("limit"), limit),
        delay_s=float(_default(spec.get("delaySeconds"), 10)),
        max_delay_s=float(_default(spec.get("maxDelaySeconds"), int(max_delay_s))),
    )


def _history(spec: Object) -> History:
    return History(spec.get("ttlSeconds"), spec.get("keepSuccessful"), spec.get("keepFailed"))


def _verdict(conditions: Iterable[Object]) -> Object:
    """The condition that decided the Job. FailureTarget and SuccessCriteriaMet come first: the pods are still leaving."""
    decided = [item for item in conditions if item.get("status") == "True" and item.get("type") in _VERDICTS]
    return min(decided, key=lambda item: item.get("type") in {"FailureTarget", "SuccessCriteriaMet"}, default=_EMPTY)


def job_env(spec: Object) -> dict[str, str]:
    """What the Job told the runner, spread out as the runner sees it."""
    containers = ((spec.get("template") or _EMPTY).get("spec") or _EMPTY).get("containers") or ()
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
    flow = next((item for item in status.get("containerStatuses") or () if item.get("name") == CONTAINER_NAME), _EMPTY)
    if (flow.get("state") or _EMPTY).get("running") or (flow.get("state") or _EMPTY).get("terminated"):
        return flow, ""
    for item in status.get("initContainerStatuses") or ():
        if ((item.get("state") or _EMPTY).get("terminated") or _EMPTY).get("exitCode"):
            return item, str(item.get("name") or "init")
    return flow, ""


def _waiting(status: Object, state: Object) -> Object:
    """Why a container is not started; an init container's trouble comes before the flow container's PodInitializing."""
    for item in status.get("initContainerStatuses") or ():
        waiting = (item.get("state") or _EMPTY).get("waiting")
        if waiting and waiting.get("reason") not in {None, "PodInitializing"}:
            return waiting  # type: ignore[no-any-return]  # it is the API's dict
    return state.get("waiting") or _EMPTY
