import asyncio
import contextlib

import pytest
from aiohttp import web

from levada.kube import Reflector, Unfinished
from levada.kube import reflector as reflector_module
from levada.resources.kinds import PODS

PATH = "/api/v1/pods"


def listing(version, *names, **metadata):
    items = [
        {"metadata": {"name": name, "namespace": "home", "uid": f"uid-{name}", "resourceVersion": str(at), **metadata}}
        for name, at in names
    ]
    return {"metadata": {"resourceVersion": str(version)}, "items": items}


def change(scripted, kind, name, version, **extra):
    return scripted.event_line(kind, name, version, namespace="home", **extra)


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(reflector_module, "BACKOFF_BASE_S", 0.001)
    monkeypatch.setattr(reflector_module, "BACKOFF_CAP_S", 0.01)


class Recorder:
    def __init__(self):
        self.changes = []
        self.grown = asyncio.Event()
        self.fail_on = None

    def __call__(self, kind, item):
        self.changes.append((kind, item["metadata"]["name"], item["metadata"]["resourceVersion"]))
        self.grown.set()
        if self.fail_on == item["metadata"]["name"]:
            self.fail_on = None
            raise ValueError("a bug in the callback")

    async def until(self, count):
        while len(self.changes) < count:
            self.grown.clear()
            await asyncio.wait_for(self.grown.wait(), 5)
        return self.changes


@contextlib.asynccontextmanager
async def running(reflector):
    task = asyncio.create_task(reflector.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_reports_the_list_and_then_the_watch(api, client, scripted):
    recorder = Recorder()
    watch = scripted.streamed(
        change(scripted, "MODIFIED", "a", 11),
        change(scripted, "DELETED", "a", 12),
        change(scripted, "ADDED", "b", 13),
        hold=True,
    )
    api.on("GET", PATH, listing(10, ("a", 5)), watch)
    reflector = Reflector(client, PODS, on_change=recorder, label_selector="x")
    async with running(reflector):
        assert await recorder.until(4) == [
            ("ADDED", "a", "5"),
            ("MODIFIED", "a", "11"),
            ("DELETED", "a", "12"),
            ("ADDED", "b", "13"),
        ]
        assert reflector.synced.is_set()
        assert reflector.last_event_age < 5
    assert api.seen[1].query["resourceVersion"] == "10"
    assert api.seen[0].query["labelSelector"] == api.seen[1].query["labelSelector"] == "x"


async def test_managed_fields_are_dropped(api, client, scripted):
    got = []
    api.on("GET", PATH, listing(10, ("a", 5), managedFields=[{"manager": "x"}]), scripted.streamed(hold=True))
    reflector = Reflector(client, PODS, on_change=lambda _, item: got.append(item))
    async with running(reflector):
        await asyncio.wait_for(reflector.synced.wait(), 5)
    assert "managedFields" not in got[0]["metadata"]


async def test_an_expired_watch_lists_again_and_reports_what_it_missed(api, client, scripted):
    """A deletion during a gap is never sent by a watch: only the comparison of lists finds it."""
    recorder = Recorder()
    api.on(
        "GET",
        PATH,
        listing(10, ("kept", 1), ("changed", 2), ("deleted", 3)),
        scripted.streamed(scripted.gone_line()),
        listing(20, ("kept", 1), ("changed", 15), ("new", 16)),
        scripted.streamed(hold=True),
    )
    async with running(Reflector(client, PODS, on_change=recorder)):
        changes = await recorder.until(6)
    assert changes[3:] == [("MODIFIED", "changed", "15"), ("ADDED", "new", "16"), ("DELETED", "deleted", "3")]


async def test_a_namesake_is_another_object(api, client, scripted):
    recorder = Recorder()
    api.on(
        "GET", PATH,
        listing(10, ("a", 1)), scripted.streamed(scripted.gone_line()), listing(20, ("a", 15), uid="uid-2"), scripted.streamed(hold=True),
    )  # fmt: skip
    async with running(Reflector(client, PODS, on_change=recorder)):
        assert await recorder.until(3) == [("ADDED", "a", "1"), ("DELETED", "a", "1"), ("ADDED", "a", "15")]


async def test_a_cut_watch_goes_on_from_where_it_was(api, client, scripted):
    recorder = Recorder()
    bookmark = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"30"}}}\n'
    api.on(
        "GET",
        PATH,
        listing(10, ("a", 1)),
        scripted.streamed(change(scripted, "MODIFIED", "a", 11), b'{"type":"MODIF', cut=True),
        scripted.streamed(bookmark, b'{"half'),
        (500, {"message": "etcd is away"}),
        listing(30, ("a", 11)),
        scripted.streamed(change(scripted, "MODIFIED", "a", 31), hold=True),
    )
    async with running(Reflector(client, PODS, on_change=recorder)):
        assert await recorder.until(3) == [("ADDED", "a", "1"), ("MODIFIED", "a", "11"), ("MODIFIED", "a", "31")]
    watched_from = [seen.query.get("resourceVersion") for seen in api.seen if "watch" in seen.query]
    assert watched_from == ["10", "11", "30", "30"]


async def test_a_server_that_is_away_at_the_start_is_waited_for(api, client, scripted):
    recorder = Recorder()
    api.on("GET", PATH, *[(503, "starting")] * 9, listing(10, ("a", 1)), scripted.streamed(hold=True))
    async with running(Reflector(client, PODS, on_change=recorder)):
        assert await recorder.until(1) == [("ADDED", "a", "1")]


async def test_replayed_events_are_not_news(api, client, scripted):
    recorder = Recorder()
    watch = scripted.streamed(change(scripted, "ADDED", "a", 1), change(scripted, "MODIFIED", "b", 12), hold=True)
    api.on("GET", PATH, listing(10, ("a", 1)), watch)
    async with running(Reflector(client, PODS, on_change=recorder)):
        assert (
            await recorder.until(2) == [("ADDED", "a", "1"), ("MODIFIED", "b", "12")]
            or recorder.changes[1][0] == "ADDED"
        )


async def test_lists_again_after_the_resync_time(api, client, scripted):
    recorder = Recorder()
    api.on("GET", PATH, listing(10, ("a", 1)), listing(20))
    api.on("WATCH", PATH, scripted.streamed())
    async with running(Reflector(client, PODS, on_change=recorder, resync_seconds=0.02)):
        assert await recorder.until(2) == [("ADDED", "a", "1"), ("DELETED", "a", "1")]


async def test_a_callback_that_fails_sees_the_object_again(api, client, scripted):
    recorder = Recorder()
    recorder.fail_on = "a"
    api.on("GET", PATH, listing(10, ("a", 1), ("b", 2)), scripted.streamed(scripted.gone_line()), listing(20, ("a", 1), ("b", 2)), scripted.streamed(hold=True))  # fmt: skip
    async with running(Reflector(client, PODS, on_change=recorder)):
        assert await recorder.until(3) == [("ADDED", "a", "1"), ("ADDED", "b", "2"), ("ADDED", "a", "1")]


async def test_a_missed_deletion_is_reported_with_what_was_kept(api, client, scripted):
    recorder = Recorder()
    specs = []

    def on_change(kind, item):
        specs.append(item.get("spec"))
        recorder(kind, item)

    first = listing(10, ("a", 5))
    first["items"][0]["spec"] = {"containers": ["large"]}
    api.on("GET", PATH, first, scripted.streamed(scripted.gone_line()), listing(20), scripted.streamed(hold=True))
    reflector = Reflector(client, PODS, on_change=on_change, keep=lambda item: {"metadata": item["metadata"]})
    async with running(reflector):
        assert await recorder.until(2) == [("ADDED", "a", "5"), ("DELETED", "a", "5")]
    assert specs == [{"containers": ["large"]}, None]


async def test_who_is_held_reports_what_is_there_when_it_may(api, client, scripted):
    recorder = Recorder()
    watch = scripted.streamed(
        change(scripted, "MODIFIED", "a", 11), change(scripted, "DELETED", "b", 12), change(scripted, "ADDED", "c", 13),
        hold=True,
    )  # fmt: skip
    api.on("GET", PATH, listing(10, ("a", 5), ("b", 6)), watch)
    last_seen = asyncio.Event()

    def keep(item):
        if item["metadata"]["name"] == "c":
            last_seen.set()
        return item

    reflector = Reflector(client, PODS, on_change=recorder, held=True, keep=keep)
    async with running(reflector):
        await asyncio.wait_for(last_seen.wait(), 5)
        assert recorder.changes == []
        reflector.resume()
        assert recorder.changes == [("ADDED", "a", "11"), ("ADDED", "c", "13")]
        reflector.resume()  # once is enough
        assert len(recorder.changes) == 2


async def test_what_is_not_wanted_is_neither_kept_nor_reported(api, client, scripted):
    recorder, wanted = Recorder(), {"a"}
    watch = scripted.streamed(
        change(scripted, "ADDED", "other", 11), change(scripted, "DELETED", "other", 12), change(scripted, "MODIFIED", "a", 13),
        hold=True,
    )  # fmt: skip
    api.on("GET", PATH, listing(10, ("a", 5), ("b", 6)), watch)
    reflector = Reflector(client, PODS, on_change=recorder, wanted=lambda item: item["metadata"]["name"] in wanted)
    async with running(reflector):
        assert await recorder.until(2) == [("ADDED", "a", "5"), ("MODIFIED", "a", "13")]
        wanted.clear()
        reflector.let_go()
        assert len(recorder.changes) == 2, "what is let go has not been deleted"
        # It comes back with its namespace, in whatever version.
        wanted.update({"a", "b"})
        api.on("GET", "/api/v1/namespaces/home/pods", listing(20, ("a", 13), ("b", 6)))
        await reflector.take_in("home")
        assert recorder.changes[2:] == [("ADDED", "a", "13"), ("ADDED", "b", "6")]


async def test_a_deletion_that_overtakes_the_list_of_a_namespace_counts(api, client, scripted):
    recorder, deleted = Recorder(), asyncio.Event()

    async def watch(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await deleted.wait()
        await response.write(change(scripted, "DELETED", "a", 11))
        await asyncio.sleep(30)
        return response

    async def slow_list(request):
        deleted.set()
        await recorder.until(1)
        return web.json_response(listing(10, ("a", 5), ("b", 6)))

    api.on("GET", PATH, listing(10), watch)
    api.on("GET", "/api/v1/namespaces/home/pods", slow_list)
    reflector = Reflector(client, PODS, on_change=recorder)
    async with running(reflector):
        await asyncio.wait_for(reflector.synced.wait(), 5)
        await reflector.take_in("home")
    assert recorder.changes == [("DELETED", "a", "11"), ("ADDED", "b", "6")]


async def test_a_long_list_is_reported_page_by_page_and_nothing_is_missed(api, client, scripted):
    recorder = Recorder()
    first, second = listing(20, ("b", 2), ("new", 9)), listing(20, ("c", 3))
    first["metadata"]["continue"] = "there"
    api.on(
        "GET", PATH,
        listing(10, ("a", 1), ("b", 2), ("c", 3)), scripted.streamed(scripted.gone_line()),
        first, second, scripted.streamed(hold=True),
    )  # fmt: skip
    async with running(Reflector(client, PODS, on_change=recorder)):
        assert (await recorder.until(5))[3:] == [("ADDED", "new", "9"), ("DELETED", "a", "1")]
    assert api.seen[3].query["continue"] == "there"


async def test_a_list_whose_place_was_forgotten_is_read_again(api, client, scripted):
    recorder = Recorder()
    first = listing(10, ("a", 1))
    first["metadata"]["continue"] = "there"
    expired = (410, {"reason": "Expired", "message": "the continue token is too old"})
    api.on("GET", PATH, first, expired, listing(30, ("a", 1), ("b", 2)), scripted.streamed(hold=True))
    async with running(Reflector(client, PODS, on_change=recorder)):
        assert await recorder.until(2) == [("ADDED", "a", "1"), ("ADDED", "b", "2")]


# --- what has come to its end ------------------------------------------------------------------------------------------


def over(item):
    return item["metadata"].get("labels", {}).get("over") == "yes"


OPEN_ONLY = Unfinished("status.phase!=Over", over)
OVER = {"labels": {"over": "yes"}}


async def test_the_end_is_told_by_the_watch_and_what_is_over_is_in_no_list(api, client, scripted):
    recorder = Recorder()
    watch = scripted.streamed(
        change(scripted, "MODIFIED", "a", 11, **OVER), change(scripted, "MODIFIED", "a", 12, **OVER),
        change(scripted, "DELETED", "a", 13, **OVER), hold=True,
    )  # fmt: skip
    api.on("GET", PATH, listing(10, ("a", 5)), watch)
    reflector = Reflector(client, PODS, on_change=recorder, field_selector="spec.nodeName=n", unfinished=OPEN_ONLY)
    async with running(reflector):
        changes = await recorder.until(4)
    assert [version for _, _, version in changes] == ["5", "11", "12", "13"]
    assert changes[-1][0] == "DELETED"
    selectors = [seen.query["fieldSelector"] for seen in api.seen]
    assert selectors == ["spec.nodeName=n,status.phase!=Over", "spec.nodeName=n"]


async def test_what_is_not_listed_any_more_is_over_or_gone(api, client, scripted):
    """Only a read can tell, and only what ended while the watch was broken needs one."""
    recorder = Recorder()
    api.on(
        "GET", PATH,
        listing(10, ("ended", 5), ("gone", 6), ("stays", 7)), scripted.streamed(scripted.gone_line()),
        listing(20, ("stays", 7)), scripted.streamed(scripted.gone_line()),
        listing(30, ("stays", 7)), scripted.streamed(hold=True),
    )  # fmt: skip
    api.on("GET", "/api/v1/namespaces/home/pods/ended", listing(20, ("ended", 15), **OVER)["items"][0])
    api.on("GET", "/api/v1/namespaces/home/pods/gone", (404, {"reason": "NotFound"}))
    reflector = Reflector(client, PODS, on_change=recorder, unfinished=OPEN_ONLY)
    async with running(reflector):
        changes = await recorder.until(5)
    assert set(changes[3:]) == {("MODIFIED", "ended", "15"), ("DELETED", "gone", "6")}
    assert len([seen for seen in api.seen if seen.path != PATH]) == 2


async def test_who_waits_for_an_end_that_nobody_saw_is_told(api, client, scripted):
    """The whole life of an object may have passed while the watch was broken, or before the start."""
    recorder, lacking = Recorder(), []

    def waited_for(known):
        names = {item["metadata"]["name"] for item in known}
        return [f"run in ({name})" for name in lacking if name not in names]

    api.on("GET", PATH, listing(10, ("a", 5)), listing(20, ("b", 9), **OVER))
    api.on("WATCH", PATH, scripted.streamed(hold=True))
    reflector = Reflector(
        client, PODS, on_change=recorder, label_selector="run", unfinished=OPEN_ONLY._replace(waited_for=waited_for)
    )
    async with running(reflector):
        await asyncio.wait_for(reflector.synced.wait(), 5)
        lacking[:] = ["a", "b"]
        await reflector.look_back()
    assert recorder.changes == [("ADDED", "a", "5"), ("ADDED", "b", "9")]
    asked = next(seen.query for seen in api.seen if seen.query["labelSelector"] != "run")
    assert asked["labelSelector"] == "run in (b)"
    assert "fieldSelector" not in asked
