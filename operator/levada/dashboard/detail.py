"""Everything about one run, from its FlowRun and what the archive adds. Pure."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from levada.dashboard.models import (
    Action,
    ArchivePlace,
    ArtifactItem,
    AttemptItem,
    Diagnosis,
    FlowCode,
    RecentRun,
    RerunInfo,
    ResultItem,
    RunDetail,
    SlotItem,
    StageItem,
    StageTimes,
    TaskCounts,
    TaskEdge,
    TaskItem,
    TaskTry,
)
from levada.dashboard.rows import EMPTY, conditions, run_row, status_of
from levada.decide.times import parse, seconds_between
from levada.decide.views import run_view
from levada.resources.phases import RunPhase, TaskState, is_terminal

Object = Mapping[str, Any]
StageName = Literal["queued", "schedule", "image", "start", "import", "hold", "user", "idle"]
ARTIFACT_TYPES: Final = frozenset({"markdown", "table", "link", "image", "progress"})
_NEVER: Final = "~"  # sorts after every time


class Beside(NamedTuple):
    """What is known of a run beside its FlowRun. `earlier`: task rows of earlier attempts, by attempt."""

    deployment: Object | None = None
    flow: Object | None = None
    artifacts: Iterable[Object] = ()
    earlier: Mapping[int, Mapping[str, Object]] = {}
    retries: tuple[RecentRun, ...] = ()
    place: ArchivePlace | None = None
    archived: bool = False


def detail_of(run: Object, beside: Beside, *, now: datetime, actions: list[Action], stale: bool) -> RunDetail:
    """Everything a page shows."""
    spec, status = run.get("spec") or EMPTY, status_of(run)
    deployment = (beside.deployment or EMPTY).get("spec") or EMPTY
    row = run_row(
        run,
        flow=(deployment.get("flowRef") or EMPTY).get("name", ""),
        tags=deployment.get("tags") or (),
        archived=beside.archived,
    )
    tasks = task_items(status, beside.earlier, now=now)
    ids = {task.id for task in tasks}
    own = dict(spec.get("parameters") or {})
    flow_spec = (beside.flow or EMPTY).get("spec") or EMPTY
    return RunDetail(
        run=row,
        stale=stale,
        as_of=now,
        resource_version="" if beside.archived else run["metadata"].get("resourceVersion", ""),
        conditions=conditions(run),
        diagnosis=diagnosis_of(status),
        waiting_for=waiting_for(status),
        parameters={**(deployment.get("parameters") or {}), **own},
        own_parameters=own,
        parameter_schema=flow_spec.get("parameterSchema"),
        overrides=dict(spec.get("overrides") or {}),
        code=_code(status, row.flow, flow_spec),
        pod=status.get("podName") or "",
        attempts=attempt_items(status),
        infrastructure_failures=status.get("infrastructureFailures") or 0,
        code_failures=status.get("codeFailures") or 0,
        stages=stage_times(run, now=now),
        task_counts=TaskCounts.model_validate(
            {name: value for name, value in (status.get("taskCounts") or {}).items() if name in TaskCounts.model_fields}
        ),
        tasks=tasks,
        edges=[TaskEdge(source=up, target=task.id) for task in tasks for up in task.upstream if up in ids],
        truncated_tasks=status.get("truncatedTasks") or 0,
        slots=_slots(status),
        artifacts=[item for item in map(artifact_item, beside.artifacts) if item is not None],
        results=_results(status, tasks, beside.place),
        archive=beside.place,
        rerun=_rerun(status),
        retries=list(beside.retries),
        actions=actions,
    )


_IN_THE_CODE: Final = (
    "The log shows where. Mend the code or the parameters, then retry: tasks with a stored result do not run again."
)
_NOT_STARTED: Final = (
    "No pod was started, so there is no log. Mend what the message names; with other parameters, use Rerun with…"
)


def diagnosis_of(status: Object) -> Diagnosis | None:
    """What went wrong. Of a flow that failed by itself the status has only reason and message."""
    said = status.get("diagnosis")
    ended = [each for each in status.get("attempts") or () if each.get("kind")]
    whose = ended[-1].get("kind") if ended else None
    if said:
        return Diagnosis(
            category=said.get("category") or "",
            summary=said.get("summary") or "",
            resolution=said.get("resolution") or "",
            whose=whose,
        )
    if status.get("phase") not in {RunPhase.FAILED, RunPhase.CRASHED, RunPhase.TIMED_OUT}:
        return None
    return Diagnosis(
        category=status.get("reason") or str(status.get("phase")),
        summary=_summary(status),
        resolution=_IN_THE_CODE if status.get("attempt") else _NOT_STARTED,
        whose=whose or "Code",
    )


def _summary(status: Object) -> str:
    """The run's own message, and the task that failed first; its error only where the message does not have it."""
    message = status.get("message") or "The flow failed."
    for task, row in (status.get("tasks") or {}).items():
        if row.get("state") in {"Failed", "Crashed"}:
            error = row.get("message") or "see its log"
            return f"{message.removesuffix('.')}. Task {task} failed{'' if error in message else f': {error}'}."
    return str(message)


def waiting_for(status: Object) -> str:
    """What a run that has not started waits for."""
    phase = status.get("phase")
    if not phase:
        return "The operator has not looked at it yet: if that lasts, it is not running."
    if phase in {RunPhase.SCHEDULED, RunPhase.QUEUED, RunPhase.PENDING, RunPhase.PAUSED, RunPhase.RETRYING}:
        return str(status.get("message") or status.get("reason") or "")
    return ""


def attempt_items(status: Object) -> list[AttemptItem]:
    """The attempts, with the one under way."""
    items = [_attempt(each, status.get("attempt") or 0) for each in status.get("attempts") or ()]
    newest = status.get("attempt") or 0
    if newest and newest not in {each.number for each in items}:
        items.append(
            AttemptItem(
                number=newest,
                pod=status.get("podName") or "",
                node=status.get("nodeName") or "",
                start_time=parse(status.get("startTime")),
                end_time=parse(status.get("completionTime")),
                duration_seconds=status.get("durationSeconds"),
                reason=(status.get("reason") or "") if is_terminal(status.get("phase")) else "",
                current=True,
            )
        )
    return sorted(items, key=lambda each: each.number)


def _attempt(said: Object, newest: int) -> AttemptItem:
    start, end = parse(said.get("startTime")), parse(said.get("endTime"))
    return AttemptItem(
        number=said.get("number") or 0,
        job=said.get("job") or "",
        pod=said.get("pod") or "",
        node=said.get("node") or "",
        start_time=start,
        end_time=end,
        # The end of a pod comes in whole seconds, and may seem to lie before the start that its process told.
        duration_seconds=max(0.0, seconds_between(start, end)) if start and end else None,
        reason=said.get("reason") or "",
        message=said.get("message") or "",
        exit_code=said.get("exitCode"),
        whose=said.get("kind"),
        current=said.get("number") == newest,
    )


def stage_times(run: Object, *, now: datetime) -> StageTimes:
    """Where the time went, so far or in all; the stages follow each other from the run's due time on."""
    view, status = run_view(run), status_of(run)
    told = status.get("stages") or EMPTY
    total_s = max(0.0, seconds_between(view.due_at, view.completed_at or now))
    known: list[tuple[StageName, float]] = [
        (name, float(value)) for name, value in _measured(told) if value is not None and value > 0
    ]
    user_known = told.get("userSeconds") is not None
    spent_s = sum(seconds for _, seconds in known)
    if view.completed_at is None:
        if view.phase == RunPhase.RUNNING and not user_known and total_s > spent_s:
            known.append(("user", total_s - spent_s))
        elif not known and total_s:
            known.append(("queued", total_s))
    elif total_s - spent_s > 0.001:
        known.append(("idle", total_s - spent_s))
    user_s = sum(seconds for name, seconds in known if name == "user")
    items, at = [], view.due_at
    for name, seconds in known:
        ratio = min(1.0, seconds / total_s) if total_s else 0.0
        items.append(
            StageItem(
                name=name, seconds=round(seconds, 3), ratio=round(ratio, 4), overhead=name != "user", start_time=at
            )
        )
        with suppress(
            OverflowError
        ):  # a run writes its status itself, and may say that it waited for longer than there are years
            at += timedelta(seconds=seconds)
    tells = user_known and total_s > 0
    return StageTimes(
        items=items,
        total_seconds=round(total_s, 3),
        overhead_seconds=round(max(0.0, total_s - user_s), 3) if tells else None,
        overhead_ratio=round(min(1.0, max(0.0, 1 - user_s / total_s)), 4) if tells else None,
        install_seconds=told.get("installSeconds"),
        complete=view.completed_at is not None,
    )


def _measured(told: Object) -> Iterable[tuple[StageName, float | None]]:
    """The measured stages. `wait` is schedule and image together, and knows fractions of seconds; where both are told it is divided."""
    yield "queued", told.get("queuedSeconds")
    wait, schedule, image = told.get("waitSeconds"), told.get("scheduleSeconds"), told.get("imageSeconds")
    if schedule is None or image is None or not schedule + image:
        yield "start", wait if wait is not None else (schedule or 0.0) + (image or 0.0)
    else:
        whole = wait if wait is not None else schedule + image
        yield "schedule", whole * schedule / (schedule + image)
        yield "image", whole * image / (schedule + image)
    yield "import", told.get("importSeconds")
    yield "hold", told.get("holdSeconds")
    yield "user", told.get("userSeconds")


def task_items(status: Object, earlier: Mapping[int, Mapping[str, Object]], *, now: datetime) -> list[TaskItem]:
    """The task runs in the order in which they began, with every try that is known."""
    rows: Mapping[str, Object] = status.get("tasks") or EMPTY
    levels = _levels(rows)
    newest = status.get("attempt") or 1
    ordered = sorted(rows.items(), key=lambda item: (item[1].get("startTime") or _NEVER, item[0]))
    items = []
    for task_id, row in ordered:
        tries = [_try(number, earlier[number][task_id]) for number in sorted(earlier) if task_id in earlier[number]]
        if row.get("startTime"):
            tries.append(_try(newest, row))
        start, end = parse(row.get("startTime")), parse(row.get("endTime"))
        running = row.get("state") in {TaskState.RUNNING, TaskState.RETRYING}
        until = end or (now if running else None)
        items.append(
            TaskItem(
                id=task_id,
                name=row.get("name") or task_id,
                state=TaskState(row["state"]),
                attempt=row.get("attempt") or 0,
                start_time=start,
                end_time=end,
                duration_seconds=max(0.0, seconds_between(start, until)) if start and until else None,
                message=row.get("message") or "",
                cached=bool(row.get("cached")),
                persisted=bool(row.get("persisted")),
                upstream=list(row.get("upstream") or ()),
                tries=tries,
                level=levels[task_id],
            )
        )
    return items


def _try(run_attempt: int, row: Object) -> TaskTry:
    return TaskTry(
        run_attempt=run_attempt,
        number=max(1, row.get("attempt") or 1),
        state=TaskState(row["state"]),
        start_time=parse(row.get("startTime")),
        end_time=parse(row.get("endTime")),
        message=row.get("message") or "",
    )


def _levels(rows: Mapping[str, Object]) -> dict[str, int]:
    """Of each task, how long the longest chain before it is. Without recursion: a chain may have a thousand tasks."""
    waiting = {
        each: {up for up in row.get("upstream") or () if up in rows and up != each} for each, row in rows.items()
    }
    following: dict[str, list[str]] = {}
    for each, ups in waiting.items():
        for up in ups:
            following.setdefault(up, []).append(each)
    levels = dict.fromkeys(rows, 0)
    free = [each for each, ups in waiting.items() if not ups]
    while free:
        done = free.pop()
        for each in following.get(done, ()):
            levels[each] = max(levels[each], levels[done] + 1)
            waiting[each].discard(done)
            if not waiting[each]:
                free.append(each)
    return levels


def artifact_item(row: Object) -> ArtifactItem | None:
    """An artifact as the archive keeps it."""
    kind = row.get("type")
    if kind not in ARTIFACT_TYPES:
        return None
    omitted = "" if "data" in row else "It is too large for the archive: the storage of results has it."
    return ArtifactItem(
        id=str(row.get("id") or ""),
        key=row.get("key"),
        type=kind,
        data=row.get("data"),
        omitted=omitted,
        description=row.get("description") or "",
        task=row.get("task_run_id") or "",
        created_time=parse(row.get("created")),
        updated_time=parse(row.get("updated")),
    )


def _code(status: Object, flow: str, flow_spec: Object) -> FlowCode:
    pin = status.get("flow") or EMPTY
    return FlowCode(
        name=pin.get("name") or flow,
        generation=pin.get("generation"),
        config_map=pin.get("codeConfigMap") or "",
        revision=status.get("codeRevision") or "",
        entrypoint=flow_spec.get("entrypoint") or "",
    )


def _slots(status: Object) -> list[SlotItem]:
    return [
        SlotItem(
            limit=each.get("limit") or "",
            occupy=each.get("occupy") or 1,
            state=each.get("state") or "",
            holder=each.get("holder") or "",
            requested_time=parse(each.get("requestedTime")),
            granted_time=parse(each.get("grantedTime")),
            message=each.get("message") or "",
        )
        for each in (status.get("slots") or {}).values()
    ]


def _results(status: Object, tasks: list[TaskItem], place: ArchivePlace | None) -> list[ResultItem]:
    folder = f"{place.storage}/results" if place is not None else ""
    own = [ResultItem(task="", preview=status["result"])] if status.get("result") is not None else []
    return own + [ResultItem(task=task.id, persisted=True, place=folder) for task in tasks if task.persisted]


def _rerun(status: Object) -> RerunInfo | None:
    said = status.get("rerun")
    return RerunInfo(of=said["of"], reused=said.get("reused") or 0, to_run=said.get("toRun") or 0) if said else None
