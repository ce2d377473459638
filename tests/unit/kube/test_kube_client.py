import asyncio
import socket

import pytest

from levada.kube import (
    AlreadyExists,
    ApiError,
    Client,
    Conflict,
    Connection,
    ConnectionLost,
    Gone,
    Invalid,
    NotFound,
    ServerError,
    TooManyRequests,
    Unauthorized,
)
from levada.kube.credentials import Anonymous, StaticHeader, TokenFile
from levada.kube.retry import RetryPolicy
from levada.resources.kinds import FLOW_RUNS, JOBS, NODES, PODS

JOBS_PATH = "/apis/batch/v1/namespaces/home/jobs"


def status(code, reason="", **extra):
    return (code, {"kind": "Status", "code": code, "reason": reason, "message": f"says {reason}", **extra})


async def test_get_uses_the_context_namespace(api, client):
    api.on("GET", "/api/v1/namespaces/home/pods/p", {"metadata": {"name": "p"}})
    assert await client.get(PODS, "p") == {"metadata": {"name": "p"}}


async def test_cluster_scoped_kinds_have_no_namespace(api, client):
    api.on("GET", "/api/v1/nodes/n", {"metadata": {"name": "n"}})
    await client.get(NODES, "n", "ignored")
    assert api.seen[0].path == "/api/v1/nodes/n"


async def test_create_takes_the_namespace_of_the_body(api, client):
    api.on("POST", "/apis/batch/v1/namespaces/other/jobs", {"metadata": {"name": "j"}})
    await client.create(JOBS, {"metadata": {"name": "j", "namespace": "other"}}, dry_run=True)
    assert api.seen[0].query == {"dryRun": "All"}


async def test_list_reads_all_pages_and_names_the_kind(api, client):
    api.on(
        "GET",
        "/apis/batch/v1/jobs",
        {"metadata": {"resourceVersion": "7", "continue": "next"}, "items": [{"metadata": {"name": "a"}}]},
        {"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "b"}}]},
    )
    items, version = await client.list(JOBS, label_selector="x=y", field_selector="status.phase=Running")
    assert [item["metadata"]["name"] for item in items] == ["a", "b"]
    assert {(item["apiVersion"], item["kind"]) for item in items} == {("batch/v1", "Job")}
    assert version == "7"
    assert api.seen[0].query == {"limit": "500", "labelSelector": "x=y", "fieldSelector": "status.phase=Running"}
    assert api.seen[1].query["continue"] == "next"


async def test_list_starts_over_when_the_continue_token_expires(api, client):
    api.on(
        "GET",
        "/apis/batch/v1/jobs",
        {"metadata": {"resourceVersion": "7", "continue": "next"}, "items": [{"metadata": {"name": "a"}}]},
        status(410, "Expired"),
        {"metadata": {"resourceVersion": "9"}, "items": [{"metadata": {"name": "z"}}]},
    )
    items, version = await client.list(JOBS)
    assert ([item["metadata"]["name"] for item in items], version) == (["z"], "9")
    assert "limit" not in api.seen[2].query


async def test_list_of_a_null_is_empty(api, client):
    api.on("GET", "/apis/batch/v1/jobs", {"metadata": {"resourceVersion": "1"}, "items": None})
    assert await client.list(JOBS) == ([], "1")


async def test_a_read_is_repeated_through_trouble(api, client):
    api.on(
        "GET",
        f"{JOBS_PATH}/j",
        status(500, "InternalError"),
        (429, {}, {"Retry-After": "0"}),
        (503, "starting"),
        {"metadata": {"name": "j"}},
    )
    assert (await client.get(JOBS, "j"))["metadata"]["name"] == "j"
    assert len(api.seen) == 4


async def test_a_read_gives_up(api, client):
    api.on("GET", f"{JOBS_PATH}/j", (503, "the storage is away"))
    with pytest.raises(ServerError, match="the storage is away"):
        await client.get(JOBS, "j")
    assert len(api.seen) == 4


async def test_retry_after_is_obeyed(api, client):
    api.on("POST", JOBS_PATH, (429, {}, {"Retry-After": "0.05"}), {"metadata": {"name": "j"}})
    before = asyncio.get_running_loop().time()
    await client.create(JOBS, {"metadata": {"name": "j"}})
    assert asyncio.get_running_loop().time() - before >= 0.05


async def test_a_write_in_trouble_is_never_repeated(api, client):
    api.on("POST", JOBS_PATH, status(500, "InternalError"))
    with pytest.raises(ServerError):
        await client.create(JOBS, {"metadata": {"name": "j"}})
    assert len(api.seen) == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_write_without_an_answer_is_never_repeated(api, client, method):
    """Also not by aiohttp, which by itself repeats PUT and DELETE on a kept-alive connection."""

    async def cut(request):
        request.transport.abort()
        await asyncio.sleep(0)

    api.on("GET", f"{JOBS_PATH}/j", {"metadata": {"name": "j"}})
    api.on(method, JOBS_PATH if method == "POST" else f"{JOBS_PATH}/j", cut)
    await client.get(JOBS, "j")  # a kept-alive connection
    body = {"metadata": {"name": "j"}}
    write = {
        "POST": lambda: client.create(JOBS, body),
        "PUT": lambda: client.replace(JOBS, body),
        "PATCH": lambda: client.patch(JOBS, "j", body),
        "DELETE": lambda: client.delete(JOBS, "j"),
    }[method]
    with pytest.raises(ConnectionLost) as caught:
        await write()
    assert caught.value.sent
    assert len(api.calls(method)) == 1


async def test_a_shed_write_is_repeated(api, client):
    api.on("PATCH", f"{JOBS_PATH}/j", (429, {}, {"Retry-After": "0"}), {"metadata": {"name": "j"}})
    await client.patch(JOBS, "j", {"spec": {"suspend": True}})
    assert len(api.seen) == 2


async def test_nobody_listening_is_said_with_the_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    connection = Connection(server=url, namespace="home", credentials=Anonymous())
    async with Client(connection, retries=RetryPolicy(tries=2, base_s=0.001)) as client:
        with pytest.raises(ConnectionLost, match=url) as caught:
            await client.create(JOBS, {"metadata": {"name": "j"}})
    assert not caught.value.sent


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (status(404, "NotFound"), NotFound),
        (status(409, "AlreadyExists"), AlreadyExists),
        (status(409, "Conflict"), Conflict),
        (status(422, "Invalid"), Invalid),
        (status(429, "TooManyRequests", details={"retryAfterSeconds": 0}), TooManyRequests),
        ((400, "Client sent an HTTP request to an HTTPS server."), ApiError),
    ],
)
async def test_refusals_are_typed(api, client, answer, error):
    api.on("POST", JOBS_PATH, answer)
    with pytest.raises(error) as caught:
        await client.create(JOBS, {"metadata": {"name": "j"}})
    assert caught.value.message


async def test_an_answer_that_is_no_json_is_said(api, client):
    api.on("GET", f"{JOBS_PATH}/j", (200, "<html>a proxy's login page</html>"))
    with pytest.raises(ConnectionLost, match="really a Kubernetes API server"):
        await client.get(JOBS, "j")


@pytest.mark.parametrize(
    ("patch_type", "content_type"),
    [
        ("merge", "application/merge-patch+json"),
        ("json", "application/json-patch+json"),
        ("strategic", "application/strategic-merge-patch+json"),
    ],
)
async def test_patch(api, client, patch_type, content_type):
    api.on("PATCH", f"{JOBS_PATH}/j/status", {"metadata": {"name": "j"}})
    await client.patch(JOBS, "j", {"a": 1}, subresource="status", patch_type=patch_type, field_manager="me")
    assert api.seen[0].headers["Content-Type"] == content_type
    assert api.seen[0].query == {"fieldManager": "me"}
    assert api.seen[0].body == {"a": 1}


async def test_delete_says_what_it_means(api, client):
    api.on("DELETE", f"{JOBS_PATH}/j", {})
    await client.delete(JOBS, "j", grace_period_seconds=0, uid="u1", propagation="Foreground")
    assert api.seen[0].body == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Foreground",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": "u1"},
    }


async def test_apply_discovers_kinds_once(api, client):
    resources = [
        {"name": "widgets", "kind": "Widget", "namespaced": True},
        {"name": "widgets/status", "kind": "Widget", "namespaced": True},
    ]
    api.on("GET", "/apis/example.com/v1", {"resources": resources})
    api.on("PATCH", "/apis/example.com/v1/namespaces/home/widgets/w", {"metadata": {"name": "w"}})
    body = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
    await client.apply(body, field_manager="me")
    await client.apply(body, field_manager="me", force=False)
    assert len(api.calls("GET")) == 1
    assert api.calls("PATCH")[0].query == {"fieldManager": "me", "force": "true"}
    assert api.calls("PATCH")[1].query["force"] == "false"
    assert api.calls("PATCH")[0].headers["Content-Type"] == "application/apply-patch+yaml"


async def test_levada_kinds_need_no_discovery(api, client):
    assert await client.kind_of({"apiVersion": "levada.dev/v1alpha1", "kind": "FlowRun"}) == FLOW_RUNS
    assert not api.seen


async def test_an_unknown_kind_is_said(api, client):
    api.on("GET", "/api/v1", {"resources": []})
    with pytest.raises(NotFound, match="no kind Gadget in v1"):
        await client.apply({"apiVersion": "v1", "kind": "Gadget", "metadata": {"name": "w"}}, field_manager="me")


async def test_watch_asks_for_bookmarks_and_ends_with_the_server(api, client, scripted):
    api.on("GET", "/api/v1/pods", scripted.streamed(("ADDED", "a", 6), ("BOOKMARK", "", 8)))
    seen = [(event.type, event.resource_version) async for event in client.watch(PODS, resource_version="5")]
    assert seen == [("ADDED", "6"), ("BOOKMARK", "8")]
    assert api.seen[0].query == {
        "watch": "1",
        "allowWatchBookmarks": "true",
        "resourceVersion": "5",
        "timeoutSeconds": "300",
    }


async def test_a_cut_watch_is_a_lost_connection(api, client, scripted):
    api.on("GET", "/api/v1/pods", scripted.streamed(("ADDED", "a", 6), cut=True))
    watch = client.watch(PODS, resource_version="5")
    assert (await anext(watch)).type == "ADDED"
    with pytest.raises(ConnectionLost):
        await anext(watch)


@pytest.mark.parametrize("answer", [status(410, "Expired"), None])
async def test_a_watch_that_is_too_old(api, client, scripted, answer):
    api.on("GET", "/api/v1/pods", answer or scripted.streamed(scripted.gone_line()))
    with pytest.raises(Gone):
        async for _ in client.watch(PODS, resource_version="5"):
            pass


async def test_stream_gives_bytes(api, client, scripted):
    api.on("GET", "/log", scripted.streamed(b"one\n", b"two\n"))
    assert b"".join([chunk async for chunk in client.stream("/log", {"follow": "true"})]) == b"one\ntwo\n"


async def test_stream_raises_a_refusal(api, client):
    api.on("GET", "/log", status(404, "NotFound"))
    with pytest.raises(NotFound):
        async for _ in client.stream("/log"):
            pass


async def test_every_request_is_measured(api):
    seen = []
    connection = Connection(server=api.url, namespace="home", credentials=StaticHeader("Bearer t"))
    api.on("GET", f"{JOBS_PATH}/j", (503, "x"), {"metadata": {"name": "j"}})
    retries = RetryPolicy(base_s=0.001)
    async with Client(connection, retries=retries, on_request=lambda *call: seen.append(call)) as client:
        await client.get(JOBS, "j")
    assert [call[:3] for call in seen] == [("get", "jobs", 503), ("get", "jobs", 200)]
    assert all(call[3] >= 0 for call in seen)
    assert api.seen[0].headers["Authorization"] == "Bearer t"


async def test_a_renewed_token_is_used_after_401(api, tmp_path):
    token = tmp_path / "token"
    token.write_text("old")
    connection = Connection(server=api.url, namespace="home", credentials=TokenFile(token))

    async def refuse(request):
        token.write_text("new\n")
        from aiohttp import web

        return web.json_response({"reason": "Unauthorized"}, status=401)

    api.on("GET", f"{JOBS_PATH}/j", refuse, {"metadata": {"name": "j"}})
    async with Client(connection) as client:
        await client.get(JOBS, "j")
    assert [seen.headers["Authorization"] for seen in api.seen] == ["Bearer old", "Bearer new"]


async def test_a_fixed_token_is_refused_once(api):
    connection = Connection(server=api.url, namespace="home", credentials=StaticHeader("Bearer t"))
    api.on("GET", f"{JOBS_PATH}/j", status(401, "Unauthorized"))
    async with Client(connection) as client:
        with pytest.raises(Unauthorized):
            await client.get(JOBS, "j")
    assert len(api.seen) == 1


async def test_a_client_that_is_not_open_says_so():
    client = Client(Connection(server="http://127.0.0.1:1", namespace="x", credentials=Anonymous()))
    with pytest.raises(RuntimeError, match="async with"):
        await client.get(PODS, "p")
