"""A reverse proxy in front of the real API server that does to a client what networks and servers do, by a seeded plan.

A request may be refused (500, 429 with Retry-After, 409), carried out and its answer lost or replaced by a 500, held up, or answered with
what was true a moment ago. A watch may be cut in the middle of a line, end with 410, fall silent, or say things twice.

It may also be away altogether for a while, as a server that is gone, and it knows which watches are open through it.

The proxy has the client's identity: it holds the kubeconfig, the client gets one that names the proxy. A request with a token of its own
keeps that. Loopback only.
"""

import asyncio
import json
import logging
import random
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web

from levada.kube.config import from_kubeconfig

# A fault and its weight. `after`: the request is carried out, and the client is told that it failed.
REQUEST_FAULTS: Final = {
    "refused 500": 3,
    "refused 429": 3,
    "conflict": 2,
    "failed after": 3,
    "cut after": 3,
    "cut before": 2,
    "slow": 4,
    "stale": 3,
}
WATCH_FAULTS: Final = {"cut": 4, "gone": 2, "silent": 1, "twice": 4, "slow": 2}
SLOW_SECONDS: Final = (0.05, 1.0)
SILENT_SECONDS: Final = (2.0, 6.0)
# Words of the hop, not of the message.
_HOP: Final = {"transfer-encoding", "connection", "content-length", "content-encoding", "date"}


class FaultProxy:
    """Use through `running_proxy`. `share`: how many of all requests meet a fault; 0 lets everything pass."""

    def __init__(self, kubeconfig: Path, seed: int, share: float) -> None:
        logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # it would print a trace for every planned cut
        self.share = share
        self.done: Counter[str] = Counter()
        self.url = ""
        self._target = from_kubeconfig([kubeconfig])
        self._away = False
        self._watching: dict[int, web.Request] = {}  # by id: a request has no hash
        self._choose = random.Random(seed)
        self._older: dict[str, bytes] = {}  # by path: what a GET answered before
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10), "the proxy did not start"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    def go_away(self) -> None:
        """Cut everybody off, and who asks from now on."""
        self._away = True
        for request in list(self._watching.values()):
            self._loop.call_soon_threadsafe(self._cut, request)

    def come_back(self) -> None:
        self._away = False

    def watches(self) -> Counter[str]:
        """How many watches are open now, by path."""
        return Counter(
            each.path for each in list(self._watching.values()) if each.transport and not each.transport.is_closing()
        )

    def write_kubeconfig(self, path: Path) -> Path:
        """A kubeconfig without credentials that names this proxy."""
        cluster = {"name": "proxy", "cluster": {"server": self.url}}
        context = {"name": "proxy", "context": {"cluster": "proxy", "namespace": "default"}}
        path.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context], "users": [], "current-context": "proxy",
        }))  # fmt: skip
        return path

    # --- serving

    async def _serve(self) -> None:
        connector = aiohttp.TCPConnector(ssl=self._target.tls, limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        bare = aiohttp.TCPConnector(ssl=self._target.without_identity().tls, limit=0)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as self._session,
            aiohttp.ClientSession(connector=bare, timeout=timeout, auto_decompress=False) as self._bare_session,
        ):
            app = web.Application(client_max_size=16 * 1024 * 1024)
            app.router.add_route("*", "/{path:.*}", self._answer)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0]
            self.url = f"http://{host}:{port}"
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()
            # What still waits for a line of a watch.
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
        # The sessions' TLS connections say goodbye in the loop.
        await asyncio.sleep(0.25)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self._away:
            raise self._cut(request)
        watching = request.query.get("watch") in {"1", "true"}
        fault = self._fault(WATCH_FAULTS if watching else REQUEST_FAULTS)
        if fault:
            self.done[("watch " if watching else "") + fault] += 1
        body = await request.read()
        try:
            if watching:
                self._watching[id(request)] = request
                return await self._watch(request, fault)
            return await self._once(request, body, fault)
        except (aiohttp.ClientError, OSError):
            raise self._cut(request) from None
        finally:
            self._watching.pop(id(request), None)

    def _session_of(self, request: web.Request) -> aiohttp.ClientSession:
        """For the API server our client certificate would outdo a token."""
        return self._bare_session if "Authorization" in request.headers else self._session

    def _fault(self, weights: dict[str, int]) -> str:
        if self._choose.random() >= self.share:
            return ""
        return self._choose.choices(list(weights), list(weights.values()))[0]

    async def _once(self, request: web.Request, body: bytes, fault: str) -> web.Response:
        writes = request.method != "GET"
        match fault:
            case "refused 500":
                return _status(500, "InternalError", "etcdserver: leader changed")
            case "refused 429":
                return _status(429, "TooManyRequests", "the server has received too many requests", retry_after=True)
            case "conflict" if request.method in {"PATCH", "PUT"}:
                return _status(409, "Conflict", "the object has been modified; please apply your changes to the latest")
            case "cut before":
                raise self._cut(request)
            case "slow":
                await asyncio.sleep(self._choose.uniform(*SLOW_SECONDS))
                if request.transport is None or request.transport.is_closing():
                    raise self._cut(request)  # what a dead client had still to send does not arrive
            case "stale" if not writes and request.path_qs in self._older:
                return web.Response(body=self._older[request.path_qs], content_type="application/json")
        status, headers, answer = await self._forward(request, body)
        # A list without a resourceVersion is never old, whichever API server answers: limits are counted by it.
        if not writes and status == 200 and not _is_list(request.path):
            self._older[request.path_qs] = answer
        if fault == "failed after" and writes:
            return _status(500, "InternalError", "etcdserver: request timed out")
        if fault == "cut after":
            raise self._cut(request)
        return web.Response(status=status, body=answer, headers=headers)

    async def _forward(self, request: web.Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        url = self._target.server + request.path_qs
        session, headers = self._session_of(request), _headers(request.headers)
        # With an empty body aiohttp would name its type, and some routes refuse that.
        async with session.request(request.method, url, data=body or None, headers=headers) as response:
            return response.status, _headers(response.headers), await response.read()

    async def _watch(self, request: web.Request, fault: str) -> web.StreamResponse:
        url = self._target.server + request.path_qs
        async with self._session_of(request).get(url, headers=_headers(request.headers)) as upstream:
            answer = web.StreamResponse(status=upstream.status, headers=_headers(upstream.headers))
            await answer.prepare(request)
            # A fault comes after some lines, else no watch would ever say anything.
            left = self._choose.randrange(12) if fault else -1
            async for line in upstream.content:
                if left == 0 and await self._spoil(request, answer, line, fault):
                    return answer
                left -= 1
                await answer.write(line)
            return answer

    async def _spoil(self, request: web.Request, answer: web.StreamResponse, line: bytes, fault: str) -> bool:
        """Carry out a watch's fault; True ends the watch."""
        match fault:
            case "cut":
                await answer.write(line[: len(line) // 2])
                raise self._cut(request)
            case "gone":
                gone = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410}
                await answer.write(json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n")
                return True
            case "silent":
                await asyncio.sleep(self._choose.uniform(*SILENT_SECONDS))
            case "slow":
                await asyncio.sleep(self._choose.uniform(*SLOW_SECONDS))
            case "twice":
                await answer.write(line)
        return False

    @staticmethod
    def _cut(request: web.Request) -> Exception:
        """The connection is closed without an answer, or in the middle of one."""
        if request.transport is not None:
            request.transport.abort()
        return ConnectionResetError("cut by plan")


def _is_list(path: str) -> bool:
    """Whether a path names a collection: /apis/GROUP/VERSION[/namespaces/NAME]/PLURAL."""
    parts = path.strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    return len(rest) in {1, 3}


def _headers(headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP | {"host"}}


def _status(code: int, reason: str, message: str, *, retry_after: bool = False) -> web.Response:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "message": message,
        "code": code,
    }
    return web.json_response(body, status=code, headers={"Retry-After": "1"} if retry_after else None)


@contextmanager
def running_proxy(kubeconfig: Path, *, seed: int, share: float):
    """A proxy with the identity of the kubeconfig, until the end of the block."""
    proxy = FaultProxy(kubeconfig, seed, share)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
