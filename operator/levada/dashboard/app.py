"""The ASGI application: routes to handlers, who may call them, and what every answer carries."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from ipaddress import ip_address
from socket import gethostname
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route as Path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from levada.dashboard import openapi, reads, streams, writes
from levada.dashboard.files import Files
from levada.dashboard.models import FieldProblem, Session
from levada.dashboard.models.common import Wire
from levada.dashboard.problems import Problem, of_kube
from levada.dashboard.routes import PREFIX, ROUTES, Route
from levada.dashboard.server import Ask, Server
from levada.dashboard.settings import LOOPBACK, DashboardSettings
from levada.kube.errors import KubeError

log = logging.getLogger(__name__)
MAX_ORDER_BYTES: Final = 512 * 1024
CSP: Final = (
    "default-src 'self'; img-src 'self' data:; style-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS: Final = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
# What Kubernetes calls an object. Anything else in a path (`?`, `#`, an encoded slash) would ask the API server for something else.
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
NO_PAGES: Final = "The dashboard's pages are not built here: `make pages` builds them. The API answers under /api/v1.\n"
Handler = Callable[[Ask], Awaitable[Any]]


def handler_of(route: Route) -> Handler:
    """The function that is named after the route."""
    found = next((getattr(m, route.name) for m in (reads, streams, writes) if hasattr(m, route.name)), None)
    if found is None:
        raise LookupError(f"no handler {route.name}")
    handler: Handler = found
    return handler


def application(server: Server) -> ASGIApp:
    """The whole dashboard."""
    files = Files(server.settings.static)

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(each) for each in (server.feeds.run(), asyncio.to_thread(files.warm))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    paths = [Path(PREFIX + route.path, _endpoint(server, route), methods=[route.method]) for route in ROUTES]
    paths += [
        Path(f"{PREFIX}/openapi.json", _openapi, methods=["GET"]),
        Path("/healthz", _alive, methods=["GET"]),
        Path("/readyz", _ready_of(server), methods=["GET"]),
        Path("/{path:path}", _pages_of(files), methods=["GET"]),
    ]
    return Starlette(
        routes=paths,
        lifespan=life,
        middleware=[
            Middleware(Guard, settings=server.settings),
            Middleware(GZipMiddleware, minimum_size=1024, compresslevel=4),
        ],
        exception_handlers={Problem: _problem, KubeError: _kube, HTTPException: _http, Exception: _bug},
    )


class Guard:
    """Security headers on every answer; requests under a name that is not ours are refused, so that no other site's name leads here."""

    def __init__(self, app: ASGIApp, settings: DashboardSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(each for each in HEADERS if each[0] not in names)]
            await send(message)

        host = Request(scope).headers.get("host", "")
        probe = scope["path"] in {"/healthz", "/readyz"}
        if not probe and not is_own_host(host, self._settings):
            problem = Problem(
                421, "WrongHost", f"this dashboard is not {host!r}", "`levada dashboard --allow-host NAME` lets it be."
            )
            await problem.response()(scope, receive, sending)
            return
        await self._app(scope, receive, sending)


def is_own_host(host: str, settings: DashboardSettings) -> bool:
    """Whether the dashboard is meant. On loopback only by this machine's names: a foreign name that resolves to it is an attack.

    Elsewhere by any name, as nothing is told without a token or the proxy; but an anonymous one tells everything, so there it has to
    be an address, which nobody can make resolve to something else, or this machine's name.
    """
    name = _host_of(f"//{host}")
    if name in LOOPBACK or name in settings.hosts:
        return True
    if settings.hosts or settings.host in LOOPBACK:
        return False
    return settings.mode != "anonymous" or _is_address(name) or name == gethostname()


def _host_of(url: str) -> str:
    """The name of the host in a URL; empty where none can be read."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _endpoint(server: Server, route: Route) -> Callable[[Request], Awaitable[Response]]:
    handler = handler_of(route)

    async def answer(request: Request) -> Response:
        if route.method != "GET":
            _check_origin(request, server.settings)
        try:
            viewer = await server.viewers.of(request)
        except Problem as problem:
            if route.name == "session" and problem.status == 401 and server.settings.mode == "token":
                return _encoded(_nobody(server, wrong="authorization" in request.headers, problem=problem))
            raise
        if route.method != "GET" and request.headers.get("x-levada-csrf", "") != server.viewers.csrf_token(viewer):
            raise Problem(
                403,
                "CsrfRefused",
                "the write lacks the session's token",
                "Ask for /api/v1/session again, and send csrfToken as X-Levada-CSRF.",
            )
        _check_names(request)
        ask = Ask(server, viewer, request, query=_query(route, request), order=await _order(route, request))
        return _encoded(await handler(ask))

    return answer


def _nobody(server: Server, *, wrong: bool, problem: Problem) -> Session:
    if wrong:
        raise problem
    away = server.feeds.away
    return Session(
        mode="token",
        authenticated=False,
        api_server_away=away,
        cluster=server.settings.cluster,
        version=version("levada"),
    )


def _check_names(request: Request) -> None:
    for noun, value in request.path_params.items():
        if not _NAME.fullmatch(value):
            words = f"{value[:100]!r} is no {noun} of an object"
            raise Problem(404, "NotFound", words, "Names have small letters, digits, `-` and `.`.")


def _check_origin(request: Request, settings: DashboardSettings) -> None:
    """Refuse a write that another site's page sends."""
    if settings.read_only:
        raise Problem(
            403, "ReadOnly", "this dashboard is read-only", "Start it in another mode: see docs/howto/dashboard.md."
        )
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host", ""):
        raise Problem(
            403, "CsrfRefused", f"the write comes from another site ({origin})", "Open the dashboard's own address."
        )
    if origin is None and request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise Problem(403, "CsrfRefused", "the write comes from another site", "Open the dashboard's own address.")


def _query(route: Route, request: Request) -> Any:
    if route.query is None:
        return None
    given: dict[str, Any] = {}
    lists = {
        n for n, f in route.query.model_json_schema(by_alias=True)["properties"].items() if f.get("type") == "array"
    }
    for name in request.query_params:
        values = request.query_params.getlist(name)
        given[name] = values if name in lists else values[-1]
    return _valid(route.query, given, "query")


async def _order(route: Route, request: Request) -> Any:
    if route.order is None:
        return None
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_ORDER_BYTES:
            raise Problem(
                413, "TooLarge", f"an order takes at most {MAX_ORDER_BYTES:,} bytes", "Pass a path or URL to the data."
            )
    if not request.headers.get("content-type", "application/json").startswith("application/json"):
        raise Problem(415, "Invalid", "an order is JSON", "Send Content-Type: application/json.")
    try:
        given = json.loads(body or b"{}")
        orjson.dumps(given)  # as it would be sent on: half characters, endless numbers and deep nesting end here
    except (ValueError, TypeError, RecursionError):
        raise Problem(422, "Invalid", "the order is no JSON") from None
    return _valid(route.order, given, "order")


def _valid(model: type[Wire], given: Any, noun: str) -> Wire:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        problems = [
            FieldProblem(field=".".join(map(str, each["loc"])), message=each["msg"])
            for each in error.errors(include_url=False)
        ]
        words = "; ".join(f"{each.field}: {each.message}" for each in problems[:5])
        raise Problem(422, "Invalid", f"the {noun} does not fit: {words}", problems=problems) from None


def _encoded(said: Any) -> Response:
    if isinstance(said, Response):
        said.headers.setdefault("Cache-Control", "no-store")
        return said
    return Response(
        said.model_dump_json(by_alias=True), headers={"Cache-Control": "no-store"}, media_type="application/json"
    )


# --- what is no route of the table -------------------------------------------------------------------------------------


async def _openapi(_: Request) -> Response:
    return JSONResponse(openapi.description())


async def _alive(_: Request) -> Response:
    return PlainTextResponse("ok\n")


def _ready_of(server: Server) -> Callable[[Request], Awaitable[Response]]:
    async def ready(_: Request) -> Response:
        if server.feeds.synced:
            return PlainTextResponse("ok\n")
        return PlainTextResponse("not everything has been listed yet\n", 503)

    return ready


def _pages_of(files: Files) -> Callable[[Request], Awaitable[Response]]:
    """The built files by name, and for every other path the one page, which reads the path itself."""

    async def page(request: Request) -> Response:
        path = request.path_params["path"]
        if path.startswith("api/"):
            raise Problem(404, "NotFound", f"there is no /{path}", "/api/v1/openapi.json describes what there is.")
        index = files.answer("index.html", request)
        if index is None:
            return PlainTextResponse(NO_PAGES, 404)
        asset = files.answer(path, request)
        if asset is None and path.startswith("assets/"):
            return PlainTextResponse("not found\n", 404)
        return asset or index

    return page


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _kube(_: Request, error: Exception) -> Response:
    assert isinstance(error, KubeError)
    return of_kube(error).response()


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reason = {404: "NotFound", 405: "MethodNotAllowed"}.get(error.status_code, "Invalid")
    return Problem(error.status_code, reason, error.detail, "/api/v1/openapi.json describes what there is.").response()


async def _bug(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return Problem(
        500, "Internal", "the dashboard failed at this request: its log tells why", "Please report it."
    ).response()
