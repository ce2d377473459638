"""The pure parts of the dashboard: lists and cursors, stages, graph, log lines, the ring of changes, hosts, and that description and handlers agree."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from levada.dashboard import openapi
from levada.dashboard.app import handler_of, is_own_host
from levada.dashboard.archives import Archives
from levada.dashboard.detail import diagnosis_of, stage_times, task_items
from levada.dashboard.health import _of_watches, operator_of, problem_of_agents
from levada.dashboard.hub import Hub
from levada.dashboard.listing import page_of
from levada.dashboard.loglines import LineReader, fits
from levada.dashboard.models import WatchHealth
from levada.dashboard.models.queries import LogQuery, RunQuery
from levada.dashboard.problems import Problem
from levada.dashboard.routes import ROUTES
from levada.dashboard.settings import DashboardSettings
from levada.dashboard.store import Key, Store
from levada.dashboard.viewers import Scope
from levada.decide.orders import TaskShare, shares_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVERYWHERE = Scope(everywhere=True)


def run(name, phase="Completed", *, minutes=0, deployment="d", namespace="a", **status):
    created = (NOW + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", "resourceVersion": "1", "creationTimestamp": created},
        "spec": {"deploymentRef": {"name": deployment}},
        "status": {"phase": phase, **status} if phase else {},
    }  # fmt: skip


def store_of(*objects):
    store = Store()
    for each in objects:
        store.put_run(each)
    return store


def names(store, scope=EVERYWHERE, **query):
    return [entry.name for entry in page_of(store.newest_first(), RunQuery.model_validate(query), scope).entries]


def test_description_is_current_and_each_route_has_its_handler():
    assert openapi.FILE.read_text() == openapi.text()
    for route in ROUTES:
        handler_of(route)
    assert len({route.name for route in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({}, ["c", "b", "a"]),
        ({"sort": "name", "order": "asc"}, ["a", "b", "c"]),
        ({"phase": "Failed"}, ["b"]),
        ({"phase": ["Unseen", "Failed"]}, ["c", "b"]),
        ({"q": "out of"}, ["b"]),
        ({"since": "2026-03-01T12:01:00Z"}, ["c", "b"]),
        ({"until": "2026-03-01T12:01:00Z"}, ["a"]),
        ({"deployment": "other"}, []),
        ({"sort": "duration"}, ["a", "c", "b"]),
    ],
)
def test_runs_are_filtered_and_sorted(query, wanted):
    store = store_of(
        run("a", durationSeconds=9), run("b", "Failed", minutes=1, message="Out of memory"), run("c", "", minutes=2)
    )
    assert names(store, **query) == wanted


@pytest.mark.parametrize("sort", ["created", "name", "duration", "completed", "phase"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_show_each_run_once(sort, order):
    store = store_of(*(run(f"r{i}", minutes=i // 2, durationSeconds=i % 3) for i in range(11)))
    seen, cursor = [], None
    while True:
        query = RunQuery(sort=sort, order=order, limit=2, cursor=cursor)
        page = page_of(store.newest_first(), query, EVERYWHERE)
        seen += [entry.name for entry in page.entries]
        cursor = page.cursor
        if cursor is None:
            break
        store.put_run(run(f"new{len(seen)}", minutes=99, namespace="unseen-elsewhere", deployment="new"))
        store.remove_run(Key("unseen-elsewhere", f"new{len(seen)}"))
    assert sorted(seen) == sorted(f"r{i}" for i in range(11))


def test_a_viewer_sees_only_their_namespaces():
    store = store_of(run("a"), run("b", namespace="secret"))
    assert names(store, Scope(names=frozenset({"a"}))) == ["a"]
    assert names(store, Scope(names=frozenset({"a"})).within(["secret"])) == []


def test_a_cursor_of_nobody_is_refused():
    with pytest.raises(Problem) as refused:
        names(store_of(run("a")), cursor="bm9uc2Vuc2U")
    assert refused.value.status == 422


def test_the_store_follows_changes():
    store = store_of(run("a", "Running"))
    store.put(
        "Deployment", {"metadata": {"namespace": "a", "name": "d"}, "spec": {"flowRef": {"name": "f"}, "tags": ["t"]}}
    )
    assert names(store, tag="t", flow="f") == ["a"]
    store.put_run(run("a", "Completed"))
    assert [entry.phase for entry in store.newest_first()] == ["Completed"]
    store.remove_run(Key("a", "a"))
    assert not store.runs and not store.runs_of and names(store) == []


def test_stages_fill_the_whole_time():
    times = {
        "queuedSeconds": 1.0,
        "waitSeconds": 2.0,
        "scheduleSeconds": 1.0,
        "imageSeconds": 3.0,
        "importSeconds": 0.5,
        "userSeconds": 5.0,
    }
    found = stage_times(run("a", completionTime="2026-03-01T12:00:10Z", durationSeconds=6, stages=times), now=NOW)
    assert [(each.name, each.seconds) for each in found.items] == [
        ("queued", 1.0), ("schedule", 0.5), ("image", 1.5), ("import", 0.5), ("user", 5.0), ("idle", 1.5),
    ]  # fmt: skip
    assert (found.total_seconds, found.overhead_seconds, found.overhead_ratio) == (10.0, 5.0, 0.5)


@pytest.mark.parametrize(("attempt", "advice"), [(1, "The log shows where."), (0, "No pod was started")])
def test_nobody_is_sent_to_the_log_of_a_run_that_has_none(attempt, advice):
    found = diagnosis_of({"phase": "Failed", "reason": "InvalidParameters", "message": "no.", "attempt": attempt})
    assert (found.summary, found.resolution.startswith(advice)) == ("no.", True)


def test_the_graph_of_a_long_chain_has_levels():
    tasks = {
        f"t-{i}": {"name": "t", "state": "Completed", "upstream": [f"t-{i - 1}"] if i else []} for i in range(1000)
    }
    items = task_items({"tasks": tasks}, {}, now=NOW)
    assert {item.id: item.level for item in items}["t-999"] == 999


def test_log_lines_are_records():
    text = "12:00:00.001 | ERROR   | load-0 | it broke\nTraceback\nplain ünd | so\n".encode()
    reader = LineReader(stamped=False)
    lines = [line for byte in text for line in reader.feed(bytes([byte]))]
    assert [(x.number, x.level, x.source, x.message, x.continued) for x in lines] == [
        (1, "ERROR", "load-0", "it broke", False), (2, "ERROR", "load-0", "Traceback", True), (3, "ERROR", "load-0", "plain ünd | so", True),
    ]  # fmt: skip
    stamped = LineReader(stamped=True)
    [line] = stamped.feed(b"2026-03-01T12:00:00.123456789Z printed\n")
    assert line.time == datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC) and line.message == "printed"
    assert fits(line, LogQuery(level=["INFO"])) and not fits(line, LogQuery(level=["ERROR"]))
    assert fits(lines[0], LogQuery(task=["load-0"], q="BROKE")) and not fits(lines[0], LogQuery(task=["load"]))


async def test_a_viewer_that_comes_back_goes_on_where_it_was():
    hub = Hub(size=4)
    for number in range(1, 4):
        hub.publish("change", b"%d" % number, "FlowRun", "a", f"r{number}")
    stream = hub.follow(f"{hub.server}-1", lambda item: item.name != "r2")
    assert await asyncio.wait_for(anext(stream), 1) == b": connected\n\n"
    assert await asyncio.wait_for(anext(stream), 1) == f"id: {hub.server}-3\nevent: change\ndata: 3\n\n".encode()
    await stream.aclose()
    assert hub.viewers == 0


@pytest.mark.parametrize(
    ("last", "wanted"),
    [("", "connected"), ("other-1", "restarted"), ("-1", "behind"), ("-99", "restarted"), ("-6", "")],
)
def test_who_was_away_too_long_is_told(last, wanted):
    hub = Hub(size=4)
    for number in range(7):
        hub.publish("change", b"{}", "FlowRun", "a", f"r{number}")
    place = f"{hub.server}{last}" if last.startswith("-") else last
    assert hub.place_of(place)[1] == wanted


@pytest.mark.parametrize(
    ("host", "settings", "own"),
    [
        ("localhost:8686", DashboardSettings(), True),
        ("evil.example:8686", DashboardSettings(), False),
        ("flows.example", DashboardSettings(hosts=("flows.example",)), True),
        ("anything", DashboardSettings(mode="token", host="0.0.0.0"), True),
        ("anything", DashboardSettings(mode="token", host="0.0.0.0", hosts=("flows.example",)), False),
    ],
)
def test_only_own_names_are_answered(host, settings, own):
    assert is_own_host(host, settings) is own


def test_an_archive_is_read_only_where_it_may_be():
    archives = Archives(("s3://ours/levada",))
    assert archives.problem("s3://ours/levada") == archives.problem("s3://ours/levada/team") == ""
    assert archives.problem("s3://ours/levada-secret") and archives.problem("file:///etc")
    sly = run("a", archive={"storage": "s3://ours/levada", "path": "runs/other/b-12345678"})
    assert archives.place_of(sly, None).problem


@pytest.mark.parametrize(
    ("leases", "unseen", "state"),
    [
        (None, 0, "Unknown"), ([], 2, "Down"),
        ([{"metadata": {"name": "levada-operator"}, "spec": {"holderIdentity": "me", "renewTime": "2026-03-01T11:59:55Z", "leaseDurationSeconds": 12}}], 0, "Up"),
        ([{"metadata": {"name": "levada-operator"}, "spec": {"holderIdentity": "me", "renewTime": "2026-03-01T11:59:00Z", "leaseDurationSeconds": 12}}], 0, "Down"),
    ],
)  # fmt: skip
def test_the_operator_is_known_by_its_lease(leases, unseen, state):
    assert operator_of(leases, unseen, NOW, namespace="levada-system").state == state


@pytest.mark.parametrize(
    ("message", "task", "summary"),
    [
        ("ValueError: too low", "ValueError: too low", "ValueError: too low. Task check-1 failed."),
        ("2 tasks failed", "ValueError: too low", "2 tasks failed. Task check-1 failed: ValueError: too low."),
        ("", None, "The flow failed. Task check-1 failed: see its log."),
    ],
)
def test_a_failed_flow_is_told_once(message, task, summary):
    tasks = {"check-1": {"name": "check", "state": "Failed", "message": task}}
    found = diagnosis_of({"phase": "Failed", "reason": "FlowFailed", "message": message, "tasks": tasks})
    assert found.summary == summary


def test_what_a_retry_does_is_told_task_by_task_in_the_order_of_their_start():
    done, failed = {"state": "Completed", "persisted": True}, {"state": "Failed"}
    rows = {
        "b-0": {"name": "b", "startTime": "2026-03-01T12:00:02Z", **failed},
        "a-1": {"name": "a", "startTime": "2026-03-01T12:00:01Z", **failed},
        "a-0": {"name": "a", "startTime": "2026-03-01T12:00:00Z", **done},
        "c-0": {"state": "Pending"},
    }
    told = shares_of(run("x", "Failed", tasks=rows), from_scratch=False)
    assert told == [TaskShare("a", 1, 1), TaskShare("b", 0, 1), TaskShare("c-0", 0, 1)]
    assert [each.reused for each in shares_of(run("x", "Failed", tasks=rows), from_scratch=True)] == [0, 0, 0]
    assert shares_of(run("x", "Failed"), from_scratch=False) == []


def watch(kind, error=""):
    return WatchHealth(kind=kind, synced=not error, stale=bool(error), silence_seconds=1.0, objects=0, error=error)


def test_a_missing_right_to_list_nodes_is_told_where_the_agents_would_be_and_is_no_problem_of_everything():
    watches = [watch("FlowRun"), watch("Agent", "nodes is forbidden")]
    server = SimpleNamespace(feeds=SimpleNamespace(watches=lambda: watches))
    assert _of_watches(watches, reachable=True) == []
    assert problem_of_agents(server).reason == "RightMissing"
    assert "nodes is forbidden" in problem_of_agents(server).message
    watches[:] = [watch("FlowRun", "flowruns is forbidden"), watch("Agent")]
    assert [each.reason for each in _of_watches(watches, reachable=True)] == ["RightMissing"]
    assert problem_of_agents(server) is None
