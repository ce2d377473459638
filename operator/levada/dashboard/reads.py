"""Handlers of everything that only reads, but logs. Each is named after its route."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import version
from typing import Any

import yaml
from starlette.responses import Response

from levada.archive.reader import Archive
from levada.archive.record import Entry
from levada.archive.runs import run_of, with_tasks
from levada.dashboard import models as m
from levada.dashboard.actions import Rights
from levada.dashboard.definitions import ledger, without_runs
from levada.dashboard.detail import Beside, detail_of
from levada.dashboard.health import health_of, problem_of_agents
from levada.dashboard.listing import page_of
from levada.dashboard.overview import overview_of
from levada.dashboard.problems import Problem, not_found, of_kube
from levada.dashboard.rows import agent_row, backfill_row, block_row, conditions, limit_row, recent, run_row
from levada.dashboard.server import Ask, Server
from levada.dashboard.store import Key
from levada.dashboard.viewers import may, need
from levada.decide.definition_views import deployment_view, flow_view, schedule_view
from levada.decide.orders import plan_of, shares_of
from levada.decide.times import parse
from levada.kube.errors import KubeError
from levada.resources.kinds import (
    BACKFILLS,
    BLOCKS,
    CONCURRENCY_LIMITS,
    DEPLOYMENTS,
    EVENTS,
    FLOW_RUNS,
    FLOWS,
    NODES,
    SCHEDULES,
    WORK_QUEUES,
    Kind,
)

MAX_TICK_SPAN = timedelta(days=92)
Object = dict[str, Any]


def rights(ask: Ask) -> Rights:
    """What the viewer may do."""
    return Rights(ask.viewer, read_only=ask.server.settings.read_only)


def _of(ask: Ask, *kinds: str) -> dict[str, Any]:
    return {"stale": ask.server.feeds.stale(*kinds), "as_of": ask.server.feeds.last_answer}


async def _visible(ask: Ask, kind: Kind) -> list[Object]:
    """The objects of a kind that the viewer may list, by namespace and name."""
    seen = (await ask.server.scope(ask.viewer, kind)).within(ask.query.namespace)
    objects = ask.server.store.objects[kind.kind]
    return [objects[key] for key in sorted(objects) if key.namespace in seen]


async def session(ask: Ask) -> m.Session:
    """Who looks."""
    server, viewer = ask.server, ask.viewer
    seen = await server.scope(viewer, FLOW_RUNS)
    return m.Session(
        mode=server.settings.mode,
        authenticated=True,
        api_server_away=server.feeds.away,
        user=viewer.user,
        groups=list(viewer.groups),
        read_only=server.settings.read_only,
        csrf_token=server.viewers.csrf_token(viewer),
        namespaces=sorted(each for each in server.store.namespaces() if each in seen),
        namespace=server.settings.namespace,
        cluster=server.settings.cluster or server.own.connection.cluster,
        version=version("levada"),
        api_server_version=server.feeds.version,
    )


async def health(ask: Ask) -> m.Health:
    """How everything is."""
    return health_of(ask.server)


async def overview(ask: Ask) -> m.Overview:
    """The first page."""
    server = ask.server
    runs, deployments, schedules = [
        (await server.scope(ask.viewer, kind)).within(ask.query.namespace)
        for kind in (FLOW_RUNS, DEPLOYMENTS, SCHEDULES)
    ]
    now, said = datetime.now(UTC), _of(ask, "FlowRun")
    forecasts = await server.forecasts.of(schedules, now)
    return overview_of(
        server.store, server.views, runs, deployments, schedules, now=now, forecasts=forecasts,
        problems=health_of(server).problems, **said,
    )  # fmt: skip


async def list_runs(ask: Ask) -> Response:
    """A page of runs; the rows are kept as they are sent."""
    seen = (await ask.server.scope(ask.viewer, FLOW_RUNS)).within(ask.query.namespace)
    page = page_of(ask.server.store.newest_first(), ask.query, seen)
    said = m.RunList(
        items=[], total=page.total, counts=m.PhaseCounts.model_validate(page.counts), cursor=page.cursor, **_of(ask, "FlowRun")
    )  # fmt: skip
    head = said.model_dump_json(by_alias=True, exclude={"items"}).encode()
    body = head[:-1] + b',"items":[' + b",".join(entry.row for entry in page.entries) + b"]}"
    return Response(body, media_type="application/json")


async def list_archived_runs(ask: Ask) -> m.ArchivedRunList:
    """Runs that have left the cluster."""
    server, query = ask.server, ask.query
    for namespace in query.namespace:
        await need(ask.viewer, "list", FLOW_RUNS.plural, namespace)
    seen = await server.scope(ask.viewer, FLOW_RUNS)
    places = [
        (url, namespace)
        for namespace in query.namespace or sorted(each for each in server.store.namespaces() if each in seen)
        for url in server.archives.urls(server.deployments(namespace))
    ]
    entries, problems = await server.archives.list(places, query.deployment, limit=query.limit, before=query.cursor)
    there = {entry.uid for entry in server.store.runs.values()}
    rows = [row for entry in entries if entry.uid not in there and (row := _archived_row(entry)) is not None]
    cursor = entries[-1].ended if len(entries) == query.limit else None
    return m.ArchivedRunList(items=rows, cursor=cursor, problems=problems)


def _archived_row(entry: Entry) -> m.RunRow | None:
    """The row of a line of the index; None for one that only looks like a line: it must not hide the others."""
    try:
        return run_row(run_of(entry), archived=True)
    except (TypeError, ValueError):
        return None


async def get_run(ask: Ask) -> m.RunDetail:
    """Everything about a run."""
    server = ask.server
    found = await server.run(ask.viewer, ask.namespace, ask.name)
    run, deployment = found.run, server.deployment_of(found.run)
    place = server.archives.place_of(run, deployment)
    path, nothing = place.path if place else "", list[Any]()
    none: dict[str, Any] = {}
    artifacts, problem = await server.archives.try_read(place, lambda archive: archive.artifacts(path), nothing)
    status = run.get("status") or {}
    earlier: dict[int, Mapping[str, Any]] = {}
    for number in range(max(1, (status.get("attempt") or 1) - 5), status.get("attempt") or 1):
        rows, _ = await server.archives.try_read(place, partial(_tasks, path, number), none)
        earlier[number] = rows
    run = await _unfolded(server, run, place)
    of_deployment = Key(ask.namespace, ((run.get("spec") or {}).get("deploymentRef") or {}).get("name", ""))
    retries = [
        recent(row)
        for entry in server.store.runs_of_deployment(of_deployment)
        if (row := entry.as_row()).retry_of == ask.name
    ]
    beside = Beside(
        deployment=deployment if await may(ask.viewer, "get", DEPLOYMENTS.plural, ask.namespace) else None,
        flow=await _flow_of(ask, deployment),
        artifacts=artifacts,
        earlier=earlier,
        retries=tuple(retries),
        place=place.model_copy(update={"problem": place.problem or problem}) if place else None,
        archived=found.archived,
    )
    return detail_of(
        run, beside, now=datetime.now(UTC), actions=await rights(ask).of_run(run, archived=found.archived),
        stale=server.feeds.stale("FlowRun"),
    )  # fmt: skip


async def _flow_of(ask: Ask, deployment: Mapping[str, Any] | None) -> Object | None:
    """The Flow of a Deployment, for who may read it."""
    flow = ask.server.flow_of(deployment)
    return flow if flow is not None and await may(ask.viewer, "get", FLOWS.plural, ask.namespace) else None


async def _unfolded(server: Server, run: Object, place: m.ArchivePlace | None) -> Object:
    """The run with the task rows that its status has folded away, where its archive has them."""
    if place is None or not (run.get("status") or {}).get("truncatedTasks"):
        return run
    none: dict[str, Any] = {}
    rows, _ = await server.archives.try_read(place, partial(_tasks, place.path, None), none)
    return with_tasks(run, rows)


def _tasks(path: str, attempt: int | None, archive: Archive) -> dict[str, Any]:
    return archive.tasks(path, attempt)


async def get_retry_plan(ask: Ask) -> m.RetryPlan:
    """What a retry would do."""
    server, from_scratch = ask.server, ask.query.from_scratch
    run = (await server.run(ask.viewer, ask.namespace, ask.name)).run
    deployment = server.deployment_of(run)
    run = await _unfolded(server, run, server.archives.place_of(run, deployment))
    flow = server.flow_of(deployment)
    generation = flow["metadata"].get("generation") if flow else None
    plan = plan_of(run, changed={}, from_scratch=from_scratch, generation=generation, deployment=deployment)
    tasks = [m.TaskShare(**each._asdict()) for each in shares_of(run, from_scratch=from_scratch)]
    return m.RetryPlan(reused=plan.reused, to_run=plan.to_run, tasks=tasks, notes=list(plan.notes))


async def get_events(ask: Ask) -> m.EventList:
    """Events about the run, its Jobs and pods, with the viewer's own rights; of nothing else, as nobody may be a viewer with many."""
    names = [ask.name]
    found = await ask.server.run(ask.viewer, ask.namespace, ask.name)
    if not found.archived:
        status = found.run.get("status") or {}
        newest = (status.get("attempts") or ())[-2:]
        names += [each[field] for each in newest for field in ("job", "pod") if each.get(field)]
        names += [f"{ask.name}-{status['attempt']}"] if status.get("attempt") else []
        names += [status["podName"]] if status.get("podName") else []
    items: list[m.EventItem] = []
    try:
        for name in dict.fromkeys(names):
            events, _ = await ask.viewer.client.list(
                EVENTS, ask.namespace, field_selector=f"involvedObject.name={name}"
            )
            items += [_event(each) for each in events]
    except KubeError as error:
        raise of_kube(error) from None
    oldest = datetime.min.replace(tzinfo=UTC)
    return m.EventList(items=sorted(items, key=lambda each: each.last_time or oldest, reverse=True))


def _event(obj: Mapping[str, Any]) -> m.EventItem:
    about, source = obj.get("involvedObject") or {}, obj.get("source") or {}
    last = (
        parse(obj.get("lastTimestamp"))
        or parse(obj.get("eventTime"))
        or parse(obj["metadata"].get("creationTimestamp"))
    )
    return m.EventItem(
        type="Warning" if obj.get("type") == "Warning" else "Normal",
        reason=obj.get("reason") or "",
        message=obj.get("message") or "",
        about_kind=about.get("kind") or "",
        about_name=about.get("name") or "",
        count=obj.get("count") or 1,
        first_time=parse(obj.get("firstTimestamp")) or last,
        last_time=last,
        component=source.get("component") or obj.get("reportingComponent") or "",
    )


async def get_yaml(ask: Ask) -> Response:
    """The object as YAML, read with the viewer's own rights; from the archive, if it has left the cluster."""
    if Key(ask.namespace, ask.name) in ask.server.store.runs:
        try:
            body = await ask.viewer.client.get(FLOW_RUNS, ask.name, ask.namespace)
        except KubeError as error:
            raise of_kube(error) from None
        body["metadata"].pop("managedFields", None)
    else:
        body = (await ask.server.run(ask.viewer, ask.namespace, ask.name)).run
    return Response(yaml.safe_dump(body, sort_keys=False, allow_unicode=True), media_type="application/yaml")


async def list_deployments(ask: Ask) -> m.DeploymentList:
    """Deployments."""
    runs = await ask.server.scope(ask.viewer, FLOW_RUNS)
    rows = [ask.server.views.deployment(obj) for obj in await _visible(ask, DEPLOYMENTS)]
    items = [row if row.namespace in runs else without_runs(row) for row in rows]
    return m.DeploymentList(items=items, **_of(ask, "Deployment", "FlowRun"))


async def get_deployment(ask: Ask) -> m.DeploymentDetail:
    """Everything about a Deployment."""
    await need(ask.viewer, "get", DEPLOYMENTS.plural, ask.namespace)
    server = ask.server
    obj = server.store.get("Deployment", ask.namespace, ask.name)
    if obj is None:
        raise not_found("deployment", ask.name, ask.namespace)
    view, flow = deployment_view(obj), await _flow_of(ask, obj)
    code, row, runs = flow_view(flow) if flow else None, server.views.deployment(obj), list[m.RecentRun]()
    if await may(ask.viewer, "list", FLOW_RUNS.plural, ask.namespace):
        runs = [recent(e.as_row()) for e in server.store.runs_of_deployment(Key(ask.namespace, ask.name))[:50]]
    else:
        row = without_runs(row)
    infrastructure = view.infrastructure
    return m.DeploymentDetail(
        deployment=row,
        parameter_schema=dict(code.parameter_schema) if code and code.parameter_schema else None,
        parameters=dict(view.parameters),
        allow_overrides=sorted(view.allow_overrides),
        entrypoint=code.entrypoint if code else "",
        source=_source(flow) if flow else "",
        image=infrastructure.get("image") or "",
        resources=dict(infrastructure.get("resources") or {}),
        service_account=view.service_account,
        retries=view.retries.limit,
        infrastructure_retries=view.infrastructure_retries.limit,
        timeout_seconds=view.timeout_s,
        concurrency_limit=view.concurrency_limit,
        concurrency_policy=view.concurrency_policy,
        priority=view.priority,
        storage=(obj.get("status") or {}).get("storage") or view.storage,
        conditions=conditions(obj),
        recent=runs,
        actions=await rights(ask).of_deployment(obj),
        **_of(ask, "Deployment", "FlowRun"),
    )


def _source(flow: Mapping[str, Any]) -> str:
    view = flow_view(flow)
    if view.remote:
        return view.remote
    source = (flow.get("spec") or {}).get("source") or {}
    return (
        f"image {view.image_path}"
        if view.image_path
        else f"ConfigMap {view.config_map}"
        if view.config_map
        else "inline"
        if "inline" in source
        else ""
    )


async def list_schedules(ask: Ask) -> m.ScheduleList:
    """Schedules."""
    items = [
        ask.server.views.schedule(obj, await rights(ask).of_schedule(obj)) for obj in await _visible(ask, SCHEDULES)
    ]
    return m.ScheduleList(items=items, **_of(ask, "Schedule"))


async def get_schedule(ask: Ask) -> m.ScheduleDetail:
    """Everything about a Schedule."""
    await need(ask.viewer, "get", SCHEDULES.plural, ask.namespace)
    obj = ask.server.store.get("Schedule", ask.namespace, ask.name)
    if obj is None:
        raise not_found("schedule", ask.name, ask.namespace)
    view = schedule_view(obj)
    return m.ScheduleDetail(
        schedule=ask.server.views.schedule(obj, await rights(ask).of_schedule(obj)),
        parameters=dict(view.parameters),
        catch_up=view.catch_up,
        starting_deadline_seconds=view.deadline_s,
        concurrency_policy=view.policy,
        jitter_seconds=view.jitter_s,
        prestart_seconds=view.prestart_s,
        start_time=parse(view.rule.start_time),
        end_time=parse(view.rule.end_time),
        ledger=ledger(obj),
        conditions=conditions(obj),
        **_of(ask, "Schedule"),
    )


async def list_ticks(ask: Ask) -> m.TickList:
    """Past and future ticks."""
    query = ask.query
    if not timedelta(0) <= query.to - query.from_ <= MAX_TICK_SPAN:
        raise Problem(422, "Invalid", "`to` must be after `from`, by 92 days at most", "Ask for less time.")
    now, found = datetime.now(UTC), list[m.TickItem]()
    for obj in await _visible(ask, SCHEDULES):
        if not query.schedule or obj["metadata"]["name"] in query.schedule:
            found += ask.server.views.ticks(obj, query.from_, query.to, now, query.limit)
            await asyncio.sleep(0)  # thousands of ticks a Schedule: others have their turn between two
    found.sort(key=lambda item: (item.time, item.namespace, item.schedule))
    return m.TickList(items=found[: query.limit], truncated=len(found) > query.limit, **_of(ask, "Schedule"))


async def list_backfills(ask: Ask) -> m.BackfillList:
    """Backfills."""
    rows = [backfill_row(obj, await rights(ask).of_backfill(obj)) for obj in await _visible(ask, BACKFILLS)]
    return m.BackfillList(items=sorted(rows, key=lambda row: row.created_time, reverse=True), **_of(ask, "Backfill"))


async def list_queues(ask: Ask) -> m.QueueList:
    """WorkQueues."""
    server = ask.server
    seen = (await server.scope(ask.viewer, WORK_QUEUES)).within(ask.query.namespace)
    rows = []
    for key in sorted(server.views.queue_names()):
        if key.namespace in seen:
            obj = server.store.objects["WorkQueue"].get(key)
            paused = bool(((obj or {}).get("spec") or {}).get("paused"))
            actions = await rights(ask).of_queue(key.namespace, exists=obj is not None, paused=paused)
            rows.append(server.views.queue(key.namespace, key.name, actions))
    rows.sort(key=lambda row: (-row.priority, row.namespace, row.name))
    return m.QueueList(items=rows, **_of(ask, "WorkQueue", "FlowRun"))


async def list_limits(ask: Ask) -> m.LimitList:
    """ConcurrencyLimits."""
    items = [limit_row(obj) for obj in await _visible(ask, CONCURRENCY_LIMITS)]
    return m.LimitList(items=items, **_of(ask, "ConcurrencyLimit"))


async def list_blocks(ask: Ask) -> m.BlockList:
    """Blocks."""
    users = ask.server.views.users_of_block
    items = [
        block_row(obj, users(obj["metadata"]["namespace"], obj["metadata"]["name"]))
        for obj in await _visible(ask, BLOCKS)
    ]
    return m.BlockList(items=items, **_of(ask, "Block"))


async def list_agents(ask: Ask) -> m.AgentList:
    """Agents. Who may not list nodes may not see them."""
    server = ask.server
    await need(ask.viewer, "list", NODES.plural, "", "")
    seen = await server.scope(ask.viewer, FLOW_RUNS)
    rows = []
    for _, obj in sorted(server.store.objects["Node"].items()):
        runs = server.views.running_on(obj["metadata"]["name"])
        rows.append(agent_row(obj, [entry.as_row() for entry in runs if entry.namespace in seen], len(runs)))
    return m.AgentList(items=rows, problem=problem_of_agents(server), **_of(ask, "Node"))
