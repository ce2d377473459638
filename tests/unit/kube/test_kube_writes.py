"""What stands before every write of a client: reads pass it by, each repetition meets it again, and it can hold a write back."""

import asyncio

import pytest
from aiohttp import web

from levada.kube import Client, Connection, ConnectionLost, NotLeading, transport
from levada.kube.credentials import Anonymous
from levada.kube.retry import RetryPolicy
from levada.resources.kinds import JOBS, PODS

PATH = "/apis/batch/v1/namespaces/home/jobs"
BODY = {"metadata": {"name": "j"}}


@pytest.fixture
async def gated(api):
    """A client, what its gate was asked, and what the gate raises."""
    asked, refusals = [], []

    async def before_write(resource, body):
        asked.append((resource, body))
        if refusals:
            raise refusals.pop()

    connection = Connection(server=api.url, namespace="home", credentials=Anonymous())
    retries = RetryPolicy(tries=3, base_s=0.001, cap_s=0.002)
    async with Client(connection, retries=retries, before_write=before_write) as client:
        yield client, asked, refusals


async def test_every_write_is_asked_about_and_no_read(api, gated):
    client, asked, _ = gated
    for method in ("GET", "POST"):
        api.on(method, PATH, {"items": [], "metadata": {}})
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        api.on(method, f"{PATH}/j", BODY)
    await client.get(JOBS, "j")
    await client.list(JOBS, "home")
    assert asked == []
    await client.create(JOBS, BODY)
    await client.replace(JOBS, BODY)
    await client.patch(JOBS, "j", {"spec": {}})
    await client.delete(JOBS, "j")
    assert [resource for resource, _ in asked] == ["jobs"] * 4
    assert [body for _, body in asked[:3]] == [BODY, BODY, {"spec": {}}]


async def test_a_write_that_the_server_shed_is_asked_about_again(api, gated):
    client, asked, _ = gated
    api.on("POST", PATH, (429, {"message": "later"}, {"Retry-After": "0"}), BODY)
    await client.create(JOBS, BODY)
    assert len(asked) == 2


async def test_what_is_held_back_is_not_sent(api, gated):
    client, asked, refusals = gated
    refusals += [NotLeading("no")] * 3
    api.on("POST", PATH, BODY)
    with pytest.raises(NotLeading):
        await client.create(JOBS, BODY)
    assert api.seen == []
    assert len(asked) == 3, "nothing has happened, so it may be tried again"
    await client.create(JOBS, BODY)
    assert len(api.seen) == 1


async def test_the_lease_may_be_lost_between_two_tries(api, gated):
    client, _, refusals = gated

    async def shed(request):
        refusals.extend([NotLeading("no")] * 3)
        return web.json_response({"message": "later"}, status=429, headers={"Retry-After": "0"})

    api.on("POST", PATH, shed)
    with pytest.raises(NotLeading):
        await client.create(JOBS, BODY)
    assert len(api.seen) == 1


async def test_watches_leave_room_for_requests(api, client, scripted, monkeypatch):
    """Watches of many namespaces once filled the pool, and no request got through."""
    monkeypatch.setattr(transport, "MAX_CONNECTIONS", 2)
    connection = Connection(server=api.url, namespace="home", credentials=Anonymous())
    api.on("WATCH", "/api/v1/namespaces/home/pods", scripted.streamed(scripted.event_line("ADDED", "p", 1), hold=True))
    api.on("GET", f"{PATH}/j", BODY)
    async with Client(connection) as narrow:
        watches = [narrow.watch(PODS, "home", resource_version="0") for _ in range(5)]
        for watch in watches:
            assert (await asyncio.wait_for(anext(watch), 5)).type == "ADDED"
        assert await asyncio.wait_for(narrow.get(JOBS, "j"), 5) == BODY
        for watch in watches:
            await watch.aclose()


async def test_a_client_may_be_less_patient(api):
    async def silent(request):
        await asyncio.sleep(30)

    api.on("GET", f"{PATH}/j", silent)
    connection = Connection(server=api.url, namespace="home", credentials=Anonymous())
    async with Client(connection, retries=RetryPolicy(tries=1), request_timeout_s=0.05) as client:
        with pytest.raises(ConnectionLost, match="TimeoutError"):
            await asyncio.wait_for(client.get(JOBS, "j"), 5)
