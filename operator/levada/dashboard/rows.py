"""Objects of the API as rows of lists. Pure: dicts in, models out; nothing raises for what an object lacks."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Literal, cast

from levada.dashboard.models import (
    Action,
    AgentRow,
    BackfillRow,
    BlockRow,
    Condition,
    LimitHolder,
    LimitRow,
    RecentRun,
    RunRow,
    SecretRef,
)
from levada.decide.stages import stages_of
from levada.decide.times import parse
from levada.decide.views import EPOCH, run_view
from levada.resources.names import (
    ANNOTATION_NOTIFY,
    LABEL_BACKFILL,
    LABEL_LIMITS,
    LABEL_SCHEDULE,
    QUEUE_LABEL_PREFIX,
)
from levada.resources.phases import RunPhase, is_terminal

Object = Mapping[str, Any]
EMPTY: Final[dict[str, Any]] = {}
TROUBLES: Final = ("DiskPressure", "MemoryPressure", "PIDPressure", "ClockSkew")
ENDED_BACKFILLS: Final = frozenset({"Completed", "Failed", "Cancelled"})


def created(obj: Object) -> datetime:
    """When an object was created."""
    return parse(obj["metadata"].get("creationTimestamp")) or EPOCH


def status_of(obj: Object) -> Mapping[str, Any]:
    """The status; empty while there is none."""
    found: Mapping[str, Any] = obj.get("status") or EMPTY
    return found


def phase_of(text: Any) -> RunPhase | None:
    """A phase; None for none, and for one of a later version."""
    try:
        return RunPhase(text) if text else None
    except ValueError:
        return None


def run_row(obj: Object, *, flow: str = "", tags: Iterable[str] = (), archived: bool = False) -> RunRow:
    """A FlowRun. `flow` and `tags` are its Deployment's."""
    meta, spec, status = obj["metadata"], obj.get("spec") or EMPTY, status_of(obj)
    counts, labels = status.get("taskCounts") or EMPTY, meta.get("labels") or EMPTY
    stages = stages_of(run_view(obj)) if is_terminal(status.get("phase")) else None
    return RunRow(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta.get("uid", ""),
        deployment=(spec.get("deploymentRef") or EMPTY).get("name", ""),
        flow=(status.get("flow") or EMPTY).get("name") or flow,
        phase=phase_of(status.get("phase")),
        reason=status.get("reason") or "",
        message=status.get("message") or "",
        queue=status.get("queue") or "",
        tags=list(tags),
        schedule=labels.get(LABEL_SCHEDULE, ""),
        backfill=labels.get(LABEL_BACKFILL, ""),
        retry_of=spec.get("retryOf") or "",
        node=status.get("nodeName") or "",
        attempt=status.get("attempt") or 0,
        progress=status.get("progress") or "",
        current_task=status.get("currentTask") or "",
        tasks_total=counts.get("total") or 0,
        tasks_done=(counts.get("completed") or 0) + (counts.get("skipped") or 0),
        tasks_failed=(counts.get("failed") or 0) + (counts.get("crashed") or 0),
        created_time=created(obj),
        scheduled_time=parse(spec.get("scheduledTime")),
        start_time=parse(status.get("startTime")),
        completion_time=parse(status.get("completionTime")),
        next_attempt_time=parse(status.get("nextAttemptTime")) if status.get("phase") == "Retrying" else None,
        duration_seconds=status.get("durationSeconds"),
        overhead_ratio=None if stages is None or stages.overhead_ratio is None else round(stages.overhead_ratio, 4),
        cancel_requested=bool(spec.get("cancel")),
        suspended=bool(spec.get("suspend")),
        archived=archived,
    )


def recent(row: RunRow) -> RecentRun:
    """A run in a few words."""
    return RecentRun(
        namespace=row.namespace,
        name=row.name,
        phase=row.phase,
        reason=row.reason,
        created_time=row.created_time,
        duration_seconds=row.duration_seconds,
    )


def conditions(obj: Object) -> list[Condition]:
    """The operator's observations."""
    return [
        Condition(
            type=each.get("type") or "",
            status=each.get("status") if each.get("status") in {"True", "False"} else "Unknown",
            reason=each.get("reason") or "",
            message=each.get("message") or "",
            last_transition_time=parse(each.get("lastTransitionTime")),
        )
        for each in status_of(obj).get("conditions") or ()
    ]


def ready(obj: Object) -> tuple[Literal["True", "False", "Unknown"], str, str]:
    """The condition Ready: status, and, where it is not true, reason and message."""
    found = next((each for each in conditions(obj) if each.type == "Ready"), None)
    if found is None:
        return "Unknown", "Unseen", "The operator has not looked at it yet."
    return found.status, found.reason, "" if found.status == "True" else found.message


def backfill_row(obj: Object, actions: Iterable[Action] = ()) -> BackfillRow:
    """A Backfill."""
    meta, spec, status = obj["metadata"], obj.get("spec") or EMPTY, status_of(obj)
    return BackfillRow(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        deployment=(spec.get("deploymentRef") or EMPTY).get("name", ""),
        schedule=(spec.get("scheduleRef") or EMPTY).get("name", ""),
        phase=status.get("phase") or "Pending",
        message=status.get("message") or "",
        progress=status.get("progress") or "",
        total=status.get("total") or 0,
        to_run=status.get("toRun") or 0,
        active=status.get("active") or 0,
        succeeded=status.get("succeeded") or 0,
        failed=status.get("failed") or 0,
        fates=status.get("fates") or "",
        start_time=parse(spec.get("startTime")),
        end_time=parse(spec.get("endTime")),
        dry_run=bool(spec.get("dryRun")),
        created_time=created(obj),
        actions=list(actions),
    )


def limit_row(obj: Object) -> LimitRow:
    """A ConcurrencyLimit."""
    meta, spec, status = obj["metadata"], obj.get("spec") or EMPTY, status_of(obj)
    holders = [
        LimitHolder(run=each.get("run") or "", slots=each.get("slots") or 1, since=parse(each.get("since")))
        for each in status.get("holders") or ()
    ]
    return LimitRow(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        description=spec.get("description") or "",
        limit=spec.get("limit") or 0,
        slots_per_second=spec.get("slotDecayPerSecond") or 0.0,
        active=status.get("active") or 0,
        waiting=status.get("waiting") or 0,
        holders=holders,
    )


def block_row(obj: Object, used_by: Iterable[str] = ()) -> BlockRow:
    """A Block. What its secret values are, it does not know itself."""
    meta, spec = obj["metadata"], obj.get("spec") or EMPTY
    refs = spec.get("secretRefs") or EMPTY
    return BlockRow(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        type=spec.get("type") or "",
        values=spec.get("values") or {},
        secrets=[
            SecretRef(field=field, secret=ref.get("name") or "", key=ref.get("key") or "")
            for field, ref in sorted(refs.items())
        ],
        notifies=(meta.get("annotations") or EMPTY).get(ANNOTATION_NOTIFY) or "",
        used_by=sorted(used_by),
        conditions=conditions(obj),
        created_time=created(obj),
    )


def agent_row(obj: Object, running: Iterable[RunRow] = (), count: int = 0) -> AgentRow:
    """An agent's Node."""
    meta, status = obj["metadata"], status_of(obj)
    labels, room = meta.get("labels") or EMPTY, status.get("allocatable") or EMPTY
    found = {each.get("type"): each for each in status.get("conditions") or ()}
    is_ready = found.get("Ready") or EMPTY
    state = "Ready" if is_ready.get("status") == "True" else "NotReady"
    if state == "NotReady" and is_ready.get("reason") == "AgentStopped":
        state = "Stopped"
    pods = str(room.get("pods") or "")
    info = cast("Mapping[str, Any]", status.get("nodeInfo") or EMPTY)
    return AgentRow(
        name=meta["name"],
        state=state,
        message="" if state == "Ready" else is_ready.get("message") or "",
        cordoned=bool((obj.get("spec") or EMPTY).get("unschedulable")),
        troubles=[kind for kind in TROUBLES if (found.get(kind) or EMPTY).get("status") == "True"],
        queues=queues_of(obj),
        running=[recent(row) for row in running],
        running_count=count,
        capacity=int(pods) if pods.isdecimal() else None,
        cpu=str(room.get("cpu") or ""),
        memory=str(room.get("memory") or ""),
        limits=labels.get(LABEL_LIMITS, ""),
        version=str(info.get("kubeletVersion") or "").removesuffix("-levada-agent").lstrip("v"),
        heartbeat_time=parse(is_ready.get("lastHeartbeatTime")),
        created_time=created(obj),
    )


def queues_of(node: Object) -> list[str]:
    """The WorkQueues that an agent serves."""
    labels = node["metadata"].get("labels") or EMPTY
    return sorted(name.removeprefix(QUEUE_LABEL_PREFIX) for name in labels if name.startswith(QUEUE_LABEL_PREFIX))
