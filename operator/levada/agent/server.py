"""The agent's kubelet endpoint: container logs for `kubectl logs`, over TLS on loopback, for the API server only.

The caller needs a client certificate of the cluster's authority, and then, as with a kubelet, the right to use this node's
proxy, which the API server is asked for. So a run, or another user of this machine, cannot read logs here.
"""

import logging
import ssl
import time
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiohttp import web

from levada.agent import logs
from levada.agent.fields import ADDRESS
from levada.kube import Client, KubeError

log = logging.getLogger(__name__)

REVIEWS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
ALLOWED_FOR_S: Final = 300.0
REFUSED_FOR_S: Final = 30.0


class LogSource(NamedTuple):
    """Where a container's log is, and whether more may come."""

    path: Path
    ended: Callable[[], bool]


FindLog = Callable[[str, str, str], LogSource | None]


class Caller(NamedTuple):
    """Who a client certificate says that it is."""

    user: str
    groups: tuple[str, ...]


def caller_of(certificate: dict[str, Any] | None) -> Caller | None:
    """The identity in a verified client certificate, as the API server reads it."""
    names = [pair for group in (certificate or {}).get("subject", ()) for pair in group]
    user = next((value for key, value in names if key == "commonName"), None)
    return Caller(user, tuple(value for key, value in names if key == "organizationName")) if user else None


class LogServer:
    """The endpoint."""

    def __init__(self, client: Client, node_name: str, tls: ssl.SSLContext, find_log: FindLog) -> None:
        self._client = client
        self._node_name = node_name
        self._tls = tls
        self._find_log = find_log
        self._verdicts: dict[Caller, tuple[bool, float]] = {}
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Listen on a free port, which is returned."""
        app = web.Application(middlewares=[self._authorize])
        app.router.add_get("/healthz", _healthz)
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        for verb in ("exec", "attach", "portForward", "run"):
            app.router.add_route("*", f"/{verb}/{{tail:.*}}", _unsupported)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, ADDRESS, 0, ssl_context=self._tls)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening; end what is being followed."""
        if self._runner:
            await self._runner.cleanup()

    @web.middleware
    async def _authorize(self, request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
        transport = request.transport
        caller = caller_of(transport.get_extra_info("peercert") if transport else None)
        if caller is None:
            raise web.HTTPUnauthorized(text="the agent answers only clients with a certificate of the cluster\n")
        if not await self._may_use_node(caller):
            raise web.HTTPForbidden(text=f"{caller.user} may not use nodes/proxy of {self._node_name}\n")
        response: web.StreamResponse = await handler(request)
        return response

    async def _may_use_node(self, caller: Caller) -> bool:
        allowed, until_s = self._verdicts.get(caller, (False, 0.0))
        if time.monotonic() < until_s:
            return allowed
        attributes = {"verb": "get", "resource": "nodes", "subresource": "proxy", "name": self._node_name}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": caller.user, "groups": list(caller.groups), "resourceAttributes": attributes},
        }
        try:
            answer = await self._client.request("POST", REVIEWS, body=body)
        except KubeError as error:
            log.warning("cannot ask whether %s may read logs: %s", caller.user, error)
            return False
        allowed = bool((answer.get("status") or {}).get("allowed"))
        self._verdicts[caller] = (allowed, time.monotonic() + (ALLOWED_FOR_S if allowed else REFUSED_FOR_S))
        return allowed

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        names = request.match_info
        source = self._find_log(names["namespace"], names["pod"], names["container"])
        if source is None:
            raise web.HTTPNotFound(
                text=f'no log of container "{names["container"]}" of pod "{names["pod"]}" on this agent\n'
            )
        if request.query.get("previous") == "true":
            raise web.HTTPBadRequest(text=f'previous terminated container "{names["container"]}" not found\n')
        try:
            query = logs.LogQuery.parse(dict(request.query), datetime.now(UTC))
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
        await response.prepare(request)
        try:
            async with aclosing(logs.read(source.path, query, source.ended)) as pieces:
                async for piece in pieces:
                    await response.write(piece)
            await response.write_eof()
        except ConnectionError:
            log.debug("whoever read the log of %s went away", names["pod"])
        return response


async def _healthz(request: web.Request) -> web.Response:
    return web.Response(text="ok")


async def _unsupported(request: web.Request) -> web.Response:
    raise web.HTTPNotImplemented(
        text="a Levada agent runs processes, not containers: exec, attach and port-forward do not exist\n"
    )
