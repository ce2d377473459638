"""API objects (dicts) of the kinds that people write, to views. Nothing here raises for what an object lacks, as in views.py."""

from datetime import datetime

from levada.decide.definitions import (
    QUEUE,
    BackfillView,
    BlockView,
    DeploymentView,
    FailureRule,
    FlowView,
    History,
    LimitView,
    Notification,
    QueueView,
    RetryPolicy,
    ScheduleView,
)
from levada.decide.schedule_rule import Rule
from levada.decide.times import parse
from levada.decide.views import EMPTY, EPOCH, Object, created
from levada.resources import sources
from levada.resources.names import (
    ANNOTATION_NOTIFY,
    DEFAULT_QUEUE,
    RUNNER_SERVICE_ACCOUNT,
)
from levada.resources.phases import DEFAULT_OCCASIONS
from levada.resources.requirements import requirements_text


def flow_view(obj: Object) -> FlowView:
    """A Flow."""
    meta, spec = obj["metadata"], obj.get("spec") or EMPTY
    source = spec.get("source") or EMPTY
    return FlowView(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        generation=meta.get("generation", 1),
        entrypoint=spec.get("entrypoint") or "",
        created_at=created(meta),
        inline=source.get("inline"),
        config_map=(source.get("configMap") or EMPTY).get("name", ""),
        image_path=(source.get("image") or EMPTY).get("path", ""),
        remote=sources.text_of(sources.place_of(source)),
        requirements=requirements_text(spec),
        parameter_schema=spec.get("parameterSchema"),
        status=obj.get("status") or EMPTY,
        deleting="deletionTimestamp" in meta,
    )


def deployment_view(obj: Object) -> DeploymentView:
    """A Deployment."""
    meta, spec = obj["metadata"], obj.get("spec") or EMPTY
    infrastructure = spec.get("infrastructure") or EMPTY
    concurrency = spec.get("concurrency") or EMPTY
    return DeploymentView(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        generation=meta.get("generation", 1),
        flow=(spec.get("flowRef") or EMPTY).get("name", ""),
        created_at=created(meta),
        parameters=spec.get("parameters") or EMPTY,
        queue=spec.get("workQueue") or DEFAULT_QUEUE,
        infrastructure=infrastructure,
        service_account=infrastructure.get("serviceAccountName") or RUNNER_SERVICE_ACCOUNT,
        allow_overrides=frozenset(spec.get("allowOverrides") or ()),
        grace_s=_default(infrastructure.get("terminationGracePeriodSeconds"), 30),
        retries=_policy(spec.get("retries"), limit=0, max_delay_s=600.0),
        infrastructure_retries=_policy(spec.get("infrastructureRetries"), limit=3, max_delay_s=300.0),
        failure_rules=tuple(map(_failure_rule, (spec.get("failurePolicy") or EMPTY).get("rules") or ())),
        persist_results=spec.get("persistResults"),
        timeout_s=spec.get("timeoutSeconds"),
        pending_timeout_s=_default(spec.get("pendingTimeoutSeconds"), 600),
        paused=bool(spec.get("paused")),
        storage=spec.get("storage") or "",
        history=_history(spec.get("history") or EMPTY),
        notifications=tuple(_notification(each) for each in spec.get("notifications") or ()),
        priority=spec.get("priority") or 0,
        concurrency_limit=concurrency.get("limit"),
        concurrency_policy=concurrency.get("policy") or QUEUE,
        status=obj.get("status") or EMPTY,
        deleting="deletionTimestamp" in meta,
    )


def _notification(spec: Object) -> Notification:
    phases = spec.get("phases")
    return Notification(
        name=spec.get("name") or "",
        phases=frozenset(DEFAULT_OCCASIONS if phases is None else phases),
        to=spec.get("to") or EMPTY,
        late_after_s=float(_default(spec.get("lateAfterSeconds"), 600)),
        subject=spec.get("subject") or "",
        body=spec.get("body") or "",
    )


def block_view(obj: Object) -> BlockView:
    """A Block."""
    meta, spec = obj["metadata"], obj.get("spec") or EMPTY
    return BlockView(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        type=spec.get("type") or "",
        values=spec.get("values") or EMPTY,
        secret_refs=spec.get("secretRefs") or EMPTY,
        notify=(meta.get("annotations") or EMPTY).get(ANNOTATION_NOTIFY),
    )


def queue_view(obj: Object) -> QueueView:
    """A WorkQueue."""
    meta, spec = obj["metadata"], obj.get("spec") or EMPTY
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
        status=obj.get("status") or EMPTY,
    )


def limit_view(obj: Object) -> LimitView:
    """A ConcurrencyLimit."""
    meta, spec, status = obj["metadata"], obj.get("spec") or EMPTY, obj.get("status") or EMPTY
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
    meta, spec = obj["metadata"], obj.get("spec") or EMPTY
    return ScheduleView(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        generation=meta.get("generation", 1),
        created_at=created(meta),
        deployment=(spec.get("deploymentRef") or EMPTY).get("name", ""),
        rule=Rule.of(spec),
        edited_at=_edited(meta),
        parameters=spec.get("parameters") or EMPTY,
        catch_up=spec.get("catchUp") or "Latest",
        max_catch_up=_default(spec.get("maxCatchUp"), 100),
        deadline_s=_default(spec.get("startingDeadlineSeconds"), 3600),
        policy=spec.get("concurrencyPolicy") or "Allow",
        jitter_s=spec.get("jitterSeconds") or 0,
        prestart_s=spec.get("prestartSeconds") or 0,
        suspended=bool(spec.get("suspend")),
        deleting="deletionTimestamp" in meta,
        status=obj.get("status") or EMPTY,
    )


def backfill_view(obj: Object) -> BackfillView:
    """A Backfill. The schema asks for the window; what lacks it has no tick."""
    meta, spec = obj["metadata"], obj.get("spec") or EMPTY
    return BackfillView(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        generation=meta.get("generation", 1),
        created_at=created(meta),
        deployment=(spec.get("deploymentRef") or EMPTY).get("name", ""),
        schedule=(spec.get("scheduleRef") or EMPTY).get("name", ""),
        rule=Rule.of({name: value for name, value in spec.items() if name not in {"startTime", "endTime"}}),
        start_at=parse(spec.get("startTime")) or created(meta),
        end_at=parse(spec.get("endTime")) or EPOCH,
        parameters=spec.get("parameters") or EMPTY,
        max_active=spec.get("maxActive") or 5,
        reverse=bool(spec.get("reverse")),
        reprocess=spec.get("reprocess") or "None",
        dry_run=bool(spec.get("dryRun")),
        paused=bool(spec.get("paused")),
        cancel=bool(spec.get("cancel")),
        status=obj.get("status") or EMPTY,
        deleting="deletionTimestamp" in meta,
    )


def _edited(meta: Object) -> datetime | None:
    """When somebody last wrote the object itself, not its status."""
    written = (item.get("time") for item in meta.get("managedFields") or () if not item.get("subresource"))
    return max((time for time in map(parse, written) if time is not None), default=None)


def _failure_rule(spec: Object) -> FailureRule:
    codes = spec.get("onExitCodes") or EMPTY
    return FailureRule(
        action=spec.get("action") or "",
        codes=frozenset(codes.get("values") or ()),
        codes_in=codes.get("operator") != "NotIn",
        reasons=frozenset(spec.get("onReasons") or ()),
    )


def _policy(spec: Object | None, *, limit: int, max_delay_s: float) -> RetryPolicy:
    spec = spec or EMPTY
    return RetryPolicy(
        limit=_default(spec.get("limit"), limit),
        delay_s=float(_default(spec.get("delaySeconds"), 10)),
        max_delay_s=float(_default(spec.get("maxDelaySeconds"), int(max_delay_s))),
    )


def _history(spec: Object) -> History:
    return History(spec.get("ttlSeconds"), spec.get("keepSuccessful"), spec.get("keepFailed"))


def _default(value: int | None, default: int) -> int:
    return default if value is None else value
