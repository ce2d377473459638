"""What somebody may try who has a token, an archive, a log or a Schedule of their own; each of these was possible once."""

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from itertools import islice
from types import SimpleNamespace

import httpx
import pytest
from starlette.requests import Request

from levada.archive import index, layout
from levada.archive.record import entry_of, record_of
from levada.dashboard import logs, streams, viewers
from levada.dashboard.app import application, is_own_host
from levada.dashboard.archives import Archives
from levada.dashboard.definitions import Views
from levada.dashboard.detail import Beside, detail_of
from levada.dashboard.hub import Hub
from levada.dashboard.loglines import LineReader
from levada.dashboard.models.queries import LogQuery, LogStreamQuery, StreamQuery
from levada.dashboard.outlook import NextTicks
from levada.dashboard.overview import SHOWN, failures_of
from levada.dashboard.server import Ask, Server
from levada.dashboard.settings import DashboardSettings
from levada.dashboard.store import FAILED, Store
from levada.dashboard.viewers import MAX_ANSWERS, MAX_VIEWERS, Viewer, Viewers, may
from levada.decide.schedule_rule import Rule
from levada.storage.local import LocalStorage
from support.played_api import RIGHTS, PlayedClient, PlayedServer, bearer, run_of


@pytest.fixture
def played():
    return PlayedServer()


def schedule(**spec):
    return {"metadata": {"namespace": "a", "name": "s"}, "spec": {"deploymentRef": {"name": "d"}, **spec}}


@pytest.fixture
def app_of(played):
    """The whole application and its server, with room for what a test puts into the store."""

    def go(mode="token", client=PlayedClient, **settings):
        server = Server(DashboardSettings(mode=mode, **settings), client(played, "admin"), client(played, None))
        for namespace in ("a", "b"):
            server.store.put_run(run_of(namespace))
            server.store.put(
                "Deployment",
                {
                    "metadata": {"name": "d", "namespace": namespace},
                    "spec": {"flowRef": {"name": "f"}, "parameters": {"key": f"hidden-{namespace}"}},
                },
            )
            schema = {"type": "object", "required": [f"customer_{namespace}"]}
            server.store.put(
                "Flow", {"metadata": {"name": "f", "namespace": namespace}, "spec": {"parameterSchema": schema}}
            )
        transport = httpx.ASGITransport(application(server), client=("127.0.0.1", 4000), raise_app_exceptions=False)
        return server, httpx.AsyncClient(transport=transport, base_url="http://localhost")

    return go


# --- who may know what ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["deployments/b/d/run", "deployments/b/none/run", "deployments/b/d/pause", "schedules/b/none/pause",
             "schedules/b/none/backfill", "backfills/b/none/cancel", "queues/b/default/pause", "queues/b/none/pause"],
)  # fmt: skip
async def test_an_order_tells_nothing_to_who_may_not_give_it(app_of, path):
    _, http = app_of()
    csrf = (await http.get("/api/v1/session", headers=bearer("reader"))).json()["csrfToken"]
    window = {"startTime": "2026-01-01T00:00:00Z", "endTime": "2026-01-02T00:00:00Z"}
    order = window if path.endswith("backfill") else {} if path.endswith("run") else None
    answer = await http.post(f"/api/v1/{path}", json=order, headers={**bearer("reader"), "X-Levada-CSRF": csrf})
    assert answer.status_code == 403, answer.text
    assert "customer_b" not in answer.text and "there is no" not in answer.text


class Listing(PlayedClient):
    """A client that lists: of Events those about anything."""

    async def list(self, kind, namespace=None, **_):
        return [{"metadata": {"name": "e"}, "message": f"an event in {namespace}"}], "1"


async def test_events_are_those_of_runs_only(app_of):
    server, http = app_of("anonymous", client=Listing)
    server.archives = Archives(())
    assert "an event in a" in (await http.get("/api/v1/runs/a/r/events")).text
    for path in ("a/some-pod", "kube-system/some-pod"):
        answer = await http.get(f"/api/v1/runs/{path}/events")
        assert answer.status_code in {403, 404} and "an event" not in answer.text


async def test_the_archived_log_needs_the_right_to_logs(app_of, tmp_path):
    url = archived_run(tmp_path, "a", "r", log=b"secret words\n")
    server, http = app_of(storages=(url,))
    server.store.objects["Deployment"]["a", "d"]["spec"]["storage"] = url
    answer = await http.get("/api/v1/runs/a/r/logs", headers=bearer("reader"))
    assert answer.status_code == 403 and "pods/log" in answer.text and "secret" not in answer.text


def archived_run(folder, namespace, name, *, log=b"", claims=None, uid=None):
    """Write a run into the archive of a namespace; `claims`: what its record says of itself. Returns the URL."""
    storage = LocalStorage(folder)
    run = {**run_of(namespace, "Completed")}
    run["metadata"] = {**run["metadata"], "name": name, "uid": uid or f"uid-{namespace}", **(claims or {})}
    place = layout.run_folder(namespace, name, run["metadata"]["uid"])
    record = record_of(run, complete=True, written_by="runner", written_at="2026-01-01T00:00:00Z")
    storage.write(layout.record_key(place), json.dumps(record).encode())
    storage.write(layout.chunk_key(place, "log", 1, 0), log)
    known = index.with_entries(index.read(storage, namespace, "d"), [entry_of(record, place)])
    storage.write(layout.latest_key(namespace, "d"), index.dumped(known))
    return f"file://{folder}"


async def test_a_record_speaks_for_its_own_namespace_only(app_of, tmp_path):
    url = archived_run(tmp_path, "a", "sly", claims={"namespace": "b"}, uid="12345678")
    server, http = app_of(storages=(url,))
    server.store.objects["Deployment"]["a", "d"]["spec"]["storage"] = url
    answer = await http.get("/api/v1/runs/a/sly", headers=bearer("reader"))
    assert answer.status_code == 200 and answer.json()["run"]["archived"]
    assert "hidden-b" not in answer.text and "customer_b" not in answer.text
    rows = (await http.get("/api/v1/archive/runs", headers=bearer("reader"))).json()["items"]
    assert [row for row in rows if row["namespace"] != "a"] == []


async def test_a_forged_line_of_an_index_hides_no_other(app_of, tmp_path):
    url = archived_run(tmp_path, "a", "good", uid="87654321")
    storage, key = LocalStorage(tmp_path), layout.latest_key("a", "d")
    said = json.loads(storage.read(key))
    said["entries"].append({**said["entries"][0], "uid": "forged", "duration_s": "long", "reason": ["x"]})
    storage.write(key, json.dumps(said).encode())
    server, http = app_of(storages=(url,))
    server.store.objects["Deployment"]["a", "d"]["spec"]["storage"] = url
    answer = await http.get("/api/v1/archive/runs", headers=bearer("reader"))
    assert [row["uid"] for row in answer.json()["items"]] == ["87654321"]
    storage.write(key, json.dumps({**said, "entries": [7]}).encode())
    answer = await http.get("/api/v1/archive/runs", headers=bearer("reader"))
    assert answer.json()["items"] == [] and answer.json()["problems"]


async def test_a_storage_does_not_lead_out_of_its_folder(tmp_path):
    archives = Archives(("file:///srv/levada", "gs://ours/levada"))
    assert archives.problem("file:///srv/levada/team") == archives.problem("file:///srv/levada") == ""
    for url in ("file:///srv/levada/../other", "file:///srv/levada/..", "gs://ours/levada/x::http://evil/", "gs://ours/levada/?project=x"):  # fmt: skip
        assert archives.problem(url), url


RIGHTS["runs-only"] = {("list", "flowruns", "a"), ("get", "flowruns", "a")}
RIGHTS["deployments-only"] = {("list", "deployments", "a"), ("get", "deployments", "a")}


async def test_a_right_to_one_kind_shows_nothing_of_others(app_of):
    _, http = app_of()
    run = (await http.get("/api/v1/runs/a/r", headers=bearer("runs-only"))).json()
    assert run["parameters"] == {"secret": "of b"} and run["parameterSchema"] is None
    one = (await http.get("/api/v1/deployments/a/d", headers=bearer("deployments-only"))).json()
    [row] = (await http.get("/api/v1/deployments", headers=bearer("deployments-only"))).json()["items"]
    assert one["recent"] == one["deployment"]["recent"] == row["recent"] == [] and one["parameterSchema"] is None
    assert len((await http.get("/api/v1/deployments", headers=bearer("view-a"))).json()["items"][0]["recent"]) == 1


RIGHTS["view-a"] = RIGHTS["runs-only"] | RIGHTS["deployments-only"]


async def test_the_stream_shows_a_deployment_with_its_runs_only_to_who_may_see_those(app_of):
    server, _ = app_of()
    told = {}
    for user in ("deployments-only", "view-a"):
        request = Request({"type": "http", "headers": [(b"authorization", f"Bearer {user}".encode())]})
        ask = Ask(server, await server.viewers.of(request), request, query=StreamQuery())
        body = (await streams.stream(ask)).body_iterator
        assert b"reset" in await anext(body) and b"stale" in await anext(body)
        server.hub.publish("change", b"a row", "Deployment", "a", "d")
        server.hub.publish("stale", b"the end")
        told[user] = b"a row" in await anext(body)
        assert server.streams.total() == 1
        await body.aclose()
    assert told == {"deployments-only": False, "view-a": True} and not server.streams


async def test_nobody_takes_the_streams_of_all(app_of):
    server, http = app_of()
    viewer = await server.viewers.of(Request({"type": "http", "headers": [(b"authorization", b"Bearer reader")]}))
    server.streams[viewer.key] = streams.MAX_STREAMS_OF_A_VIEWER
    assert (await http.get("/api/v1/stream", headers=bearer("reader"))).status_code == 429
    server.streams["others"] = streams.MAX_STREAMS
    assert (await http.get("/api/v1/stream", headers=bearer("admin"))).status_code == 429


async def test_an_open_log_ends_with_the_right_to_it(app_of, monkeypatch):
    async def endless(*_, **__):
        while True:
            yield b"a line"

    server, _ = app_of()
    monkeypatch.setitem(RIGHTS, "r-logs", RIGHTS["reader"] | {("list", "pods", "a"), ("get", "pods", "a")})
    monkeypatch.setattr(logs, "stream", endless)
    request = Request({
        "type": "http", "headers": [(b"authorization", b"Bearer r-logs")], "path_params": {"namespace": "a", "name": "r"},
    })  # fmt: skip
    ask = Ask(server, await server.viewers.of(request), request, query=LogStreamQuery())
    body = (await streams.stream_logs(ask)).body_iterator
    assert await anext(body) == b"a line"
    monkeypatch.setitem(RIGHTS, "r-logs", RIGHTS["reader"])
    monkeypatch.setattr(streams, "FRESH_S", -1.0)
    monkeypatch.setattr(viewers, "FRESH_S", -1.0)
    assert [each async for each in body] == []


# --- who it is --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        [("X-Forwarded-User", "admin"), ("X-Forwarded-User", "reader"), ("X-Levada-Proxy-Secret", "shared")],
        [("X-Forwarded-User", "admin"), ("X-Levada-Proxy-Secret", "guess"), ("X-Levada-Proxy-Secret", "shared")],
    ],
)
async def test_a_header_that_the_proxy_did_not_drop_is_not_believed(app_of, given):
    _, http = app_of("proxy", proxy_secret="shared")
    answer = await http.get("/api/v1/runs", headers=given)
    assert answer.status_code == 401 and "2 times" in answer.text


async def test_wrong_tokens_make_nobody_forgotten(played):
    everybody = Viewers(DashboardSettings(mode="token"), PlayedClient(played, "admin"), PlayedClient(played, None))

    def asks(user):
        return SimpleNamespace(headers=httpx.Headers(bearer(user)), client=None)

    known = await everybody.of(asks("reader"))
    played.away = True
    for number in range(MAX_VIEWERS + 1):
        with pytest.raises(Exception, match="does not answer"):
            await everybody.of(asks(f"wrong-{number}"))
    assert await everybody.of(asks("reader")) is known


async def test_what_is_remembered_of_a_viewer_is_bounded(played):
    viewer = Viewer("k", PlayedClient(played, "reader"))
    for number in range(MAX_ANSWERS + 10):
        await may(viewer, "get", "flowruns", f"made-up-{number}")
    assert len(viewer.answers) == MAX_ANSWERS


@pytest.mark.parametrize(
    ("host", "settings", "own"),
    [
        ("rebound.example:8686", DashboardSettings(mode="anonymous", host="0.0.0.0"), False),
        ("10.0.0.7:8686", DashboardSettings(mode="anonymous", host="0.0.0.0"), True),
        ("[fd00::7]:8686", DashboardSettings(mode="anonymous", host="::"), True),
        ("wall.example", DashboardSettings(mode="anonymous", host="0.0.0.0", hosts=("wall.example",)), True),
        ("[", DashboardSettings(), False),
        ("[::1", DashboardSettings(mode="anonymous", host="0.0.0.0"), False),
    ],
)
def test_no_foreign_name_leads_to_what_needs_no_token(host, settings, own):
    assert is_own_host(host, settings) is own


# --- what is broken -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "params", "status"),
    [
        ("runs/a/r%3Fwatch=true", {}, 404),  # the API server would be asked for something else, as the server itself
        ("runs/a/r%2523/yaml", {}, 404),
        ("runs/a/%252e%252e/logs", {}, 404),
        ("runs", {"cursor": base64.urlsafe_b64encode(b'[%s,"a","b"]' % (b"9" * 400)).decode()}, 422),
        ("schedules/ticks", {"from": "9999-12-01T00:00:00Z", "to": "9999-12-02T00:00:00Z"}, 200),
    ],
)
async def test_addresses_that_mean_nothing_are_refused(app_of, played, path, params, status):
    _, http = app_of()
    answer = await http.get(f"/api/v1/{path}", params=params or None, headers=bearer("reader"))
    assert (answer.status_code, played.got) == (status, []), answer.text


@pytest.mark.parametrize("path", ["/%00", "/assets/%00", f"/{'a' * 5000}", "/..%2f..%2fetc/passwd", "//etc/passwd"])
async def test_paths_that_no_file_can_have_are_the_page(app_of, tmp_path, path):
    (tmp_path / "index.html").write_text("the page")
    _, http = app_of(static=tmp_path)
    answer = await http.get(f"http://localhost{path}")
    assert (answer.status_code, answer.text) in {(200, "the page"), (404, "not found\n")}
    refused = await http.get("/", headers={"Host": "["})
    assert refused.status_code == 421 and refused.headers["content-security-policy"]


@pytest.mark.parametrize(
    "parameters", ['"\\ud800"', "[" * 400 + "]" * 400, "1" + "0" * 30], ids=["half a character", "deep", "endless"]
)
async def test_an_order_that_cannot_be_sent_on_is_refused(app_of, played, parameters):
    server, http = app_of()
    server.store.objects["Flow"].clear()
    editor = {**bearer("editor"), "Content-Type": "application/json"}
    csrf = (await http.get("/api/v1/session", headers=editor)).json()["csrfToken"]
    body = f'{{"parameters": {{"x": {parameters}}}}}'
    answer = await http.post("/api/v1/deployments/a/d/run", content=body, headers={**editor, "X-Levada-CSRF": csrf})
    assert answer.status_code == 422 and not played.created


def test_event_ids_of_any_length_are_read():
    hub = Hub()
    assert hub.place_of(f"{hub.server}-{'9' * 6000}") == (1, "restarted")
    assert logs.place_in(f"1.{'9' * 6000}", None, 7) == (0, 7)


# --- what would stop it for all --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "ticks"),
    [
        ({"intervalSeconds": 60, "startTime": "0001-01-01T00:00:00+14:00"}, 5),
        ({"cron": "* * * * *", "startTime": "9999-12-31T23:59:59-14:00"}, 0),
        ({"cron": "* * * * *", "timeZone": "Asia/Tokyo", "startTime": "9999-12-31T23:59:59Z"}, 0),
        ({"intervalSeconds": 60, "anchor": "9999-12-31T23:59:59-10:00", "timeZone": "America/Los_Angeles"}, 0),
    ],
)
def test_a_schedule_at_the_end_of_the_calendar_is_a_row_like_others(spec, ticks):
    assert len(Views(Store()).schedule(schedule(**spec)).next_ticks) == ticks


@pytest.mark.parametrize(
    "said", [{"stages": {"queuedSeconds": 1e308}}, {"completionTime": "9999-12-31T23:59:59-14:00"}]
)
def test_a_run_that_tells_of_impossible_times_has_a_page(said):
    run = {**run_of("a"), "status": {"phase": "Completed", "completionTime": "2026-01-01T00:01:00Z", **said}}
    Store().put_run(run)
    assert detail_of(run, Beside(), now=datetime.now(UTC), actions=[], stale=False).stages.items


async def test_ticks_that_cost_much_are_looked_for_once(app_of, monkeypatch):
    searched = []
    ticks = Rule.ticks
    monkeypatch.setattr(Rule, "ticks", lambda rule, after: searched.append(rule) or ticks(rule, after))
    server, http = app_of()
    monkeypatch.setitem(RIGHTS, "everything", {("list", kind, "") for kind in ("schedules", "deployments", "flowruns")})
    ended = {"rrule": "DTSTART:20200101T000000\nRRULE:FREQ=SECONDLY;COUNT=3"}
    for name, spec in (("ended", ended), ("often", {"intervalSeconds": 3600})):
        server.store.put("Schedule", {**schedule(**spec), "metadata": {"namespace": "a", "name": name}})
    pages = []
    for _ in range(3):
        for path in ("overview", "schedules", "deployments"):
            answer = await http.get(f"/api/v1/{path}", headers=bearer("everything"))
            assert answer.status_code == 200, answer.text
            pages.append(answer.json())
    assert len(searched) == 4, "twice each: by the rows, and by the forecast"
    assert [tick["schedule"] for tick in pages[-3]["upcoming"]] == ["often"] * len(pages[-3]["upcoming"])
    assert len(pages[-3]["upcoming"]) in {6, 7} and pages[-3]["forecast"][0]["starts"] in {6, 7}
    assert [len(row["nextTicks"]) for row in pages[-2]["items"]] == [0, 5]


def test_kept_ticks_are_those_of_the_rule():
    now, rule, kept = datetime(2026, 1, 1, tzinfo=UTC), Rule(interval_seconds=7), NextTicks()
    for seconds in (0, 0.5, 7, 600, 690, 695, 5000):
        at = now + timedelta(seconds=seconds)
        for count in (1, 5, 100):
            assert kept.after(rule, at, count) == list(islice(rule.ticks(at), count))


def test_failures_with_a_reason_each_are_not_all_looked_at():
    store, looked = Store(), []
    for number in range(4 * SHOWN):
        run = run_of("a")
        run["metadata"] |= {"name": f"r{number}", "uid": f"u{number}"}
        run["status"] = {"phase": "Failed", "reason": f"R{number}", "completionTime": f"2026-01-01T{number // 60:02}:{number % 60:02}:00Z"}  # fmt: skip
        store.put_run(run)

    class Counting(Store):
        @property
        def runs_of(self):
            looked.append(1)
            return store.runs_of

        @runs_of.setter
        def runs_of(self, value): ...

    counting = Counting()
    counting.runs = store.runs
    found = failures_of([e for e in store.runs.values() if e.phase in FAILED], counting)
    assert [each.reason for each in found] == [f"R{n}" for n in range(4 * SHOWN - 1, 3 * SHOWN - 1, -1)]
    assert len(looked) == SHOWN


def test_a_line_that_does_not_end_is_not_kept_whole():
    reader = LineReader(stamped=False)
    for _ in range(64):
        assert list(reader.feed(b"x" * 65536)) == []
    assert len(reader._rest) <= 4 * 65536
    [line, after] = reader.feed(b"end\nnext\n")
    assert len(line.message) == 65536 and (after.number, after.message) == (2, "next")


@pytest.mark.parametrize("tail", [False, True])
async def test_a_page_of_long_lines_fits_into_an_answer(tail):
    async def pieces():
        for number in range(500):
            yield (b"%d " % number) + b"x" * 60_000 + b"\n"

    page = await logs._page(pieces(), LogQuery(limit=10_000, tail=tail), 1, [1], "archive", live=False)
    assert sum(len(line.message) for line in page.items) <= logs.MAX_PAGE_CHARS and page.message
    if tail:
        assert page.items[-1].number == 500 and page.cursor is None
    else:
        assert page.items[0].number == 1 and int(page.cursor) == page.items[-1].number + 1


async def test_a_slow_viewer_of_a_log_holds_some_pieces_of_it_and_no_more(monkeypatch):
    read = []

    async def pieces(*_, **__):
        for number in range(200):
            read.append(number)
            yield b"".join(b"%d " % line + b"x" * 1000 + b"\n" for line in range(60))

    monkeypatch.setattr(logs, "_of_pod", pieces)
    monkeypatch.setattr(logs, "GATHER_S", 0.0)
    followed = logs._follow(None, "a", logs.Pod("p", "u", 1, started=True, ended=True), 1)
    chunks = [await anext(followed)]
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(read) < 40
    chunks += [each async for each in followed]
    numbers = [line["number"] for each in chunks for line in json.loads(each.partition(b"data: ")[2])["lines"]]
    assert numbers == list(range(1, 200 * 60 + 1))


async def test_a_viewer_who_leaves_a_log_leaves_nothing_behind(monkeypatch):
    async def pieces(*_, **__):
        while True:
            yield b"line\n" * 2000

    monkeypatch.setattr(logs, "_of_pod", pieces)
    followed = logs._follow(None, "a", logs.Pod("p", "u", 1, started=True, ended=False), 1)
    await anext(followed)
    for _ in range(5):  # as much is read as waits for the viewer
        await asyncio.sleep(0)
    await followed.aclose()
    for _ in range(5):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:  # what waits to tell its end needs a second word
        task.cancel()
    assert not left
