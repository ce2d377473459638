"""A scripted API server.

`api` (ScriptedApi): queue answers with `api.on(method, path, *answers)`; every request is recorded in `api.seen`.
The last answer of a queue repeats. `client`: an open levada.kube Client that talks to it with millisecond backoffs.
"""

import asyncio
import json
from collections import defaultdict

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from levada.kube import Client, Connection
from levada.kube.credentials import Anonymous
from levada.kube.retry import RetryPolicy


class Seen:
    """One request as the server got it."""

    def __init__(self, request, body):
        self.method, self.path, self.query, self.headers, self.body = (
            request.method,
            request.path,
            dict(request.query),
            request.headers,
            body,
        )


class ScriptedApi:
    def __init__(self):
        self.seen = []
        self._answers = defaultdict(list)
        self.url = ""

    def on(self, method, path, *answers):
        """Method WATCH: watches only (else they are GETs). Each answer: (status, body[, headers]), a dict (200), or an async function of the request."""
        self._answers[method, path].extend(answers)

    def calls(self, method):
        return [seen for seen in self.seen if seen.method == method]

    async def handle(self, request):
        text = await request.read()
        self.seen.append(Seen(request, json.loads(text) if text else None))
        queue = self._answers[request.method, request.path]
        if "watch" in request.query:
            queue = self._answers.get(("WATCH", request.path), queue)
        if not queue:
            return web.json_response({"message": f"nothing scripted for {request.method} {request.path}"}, status=418)
        answer = queue.pop(0) if len(queue) > 1 else queue[0]
        if callable(answer):
            return await answer(request)
        status, body, headers = (200, answer, {}) if isinstance(answer, dict) else (*answer, {})[:3]
        if isinstance(body, str):
            return web.Response(text=body, status=status, headers=headers)
        return web.json_response(body, status=status, headers=headers)


def streamed(*chunks, hold=False, cut=False):
    """A handler that sends chunks; then ends, breaks the connection (cut), or stays silent (hold)."""

    async def handler(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk if isinstance(chunk, bytes) else event_line(*chunk))
            await asyncio.sleep(0)
        if cut:
            request.transport.abort()
        if hold:
            await asyncio.sleep(30)
        return response

    return handler


def event_line(kind, name, version, **metadata):
    body = {"metadata": {"name": name, "resourceVersion": str(version), "uid": f"uid-{name}", **metadata}}
    return (json.dumps({"type": kind, "object": body}) + "\n").encode()


def gone_line():
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
    return (json.dumps({"type": "ERROR", "object": status}) + "\n").encode()


@pytest.fixture
def scripted():
    """The helpers above, because test modules cannot import a conftest in importlib mode."""

    class Helpers:
        pass

    Helpers.streamed, Helpers.event_line, Helpers.gone_line = map(staticmethod, (streamed, event_line, gone_line))
    return Helpers


@pytest.fixture
async def api():
    script = ScriptedApi()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", script.handle)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server(shutdown_timeout=0.01)
    script.url = str(server.make_url("")).rstrip("/")
    script.server = server
    yield script
    await server.close()


@pytest.fixture
async def client(api):
    connection = Connection(server=api.url, namespace="home", credentials=Anonymous())
    async with Client(connection, retries=RetryPolicy(tries=4, base_s=0.001, cap_s=0.002)) as opened:
        yield opened
