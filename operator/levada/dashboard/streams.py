"""Handlers of logs, and of what comes as it happens. Each is named after its route."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Final

from starlette.responses import Response, StreamingResponse

from levada.dashboard import logs
from levada.dashboard.hub import Item
from levada.dashboard.models import LogPage
from levada.dashboard.problems import Problem
from levada.dashboard.server import Ask
from levada.dashboard.store import Key
from levada.dashboard.viewers import FRESH_S, Scope, may, need
from levada.kube.errors import KubeError
from levada.resources.kinds import FLOW_RUNS, LEVADA_KINDS, NODES

MAX_STREAMS: Final = 2000
MAX_STREAMS_OF_A_VIEWER: Final = 100
_EVENTS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def get_logs(ask: Ask) -> LogPage:
    """A part of the log."""
    found = await ask.server.run(ask.viewer, ask.namespace, ask.name)
    archives = ask.server.archives
    place = archives.place_of(found.run, ask.server.deployment_of(found.run))
    newest = int((found.run.get("status") or {}).get("attempt") or 0)
    return await logs.page(
        ask.viewer, ask.namespace, ask.name, ask.query, newest=newest, place=place, archives=archives
    )


async def stream_logs(ask: Ask) -> Response:
    """The log as it comes."""
    await _need_logs(ask)
    _need_room(ask)
    if Key(ask.namespace, ask.name) not in ask.server.store.runs:
        await ask.server.run(ask.viewer, ask.namespace, ask.name)
    start = logs.place_in(ask.request.headers.get("last-event-id", ""), ask.query.attempt, ask.query.from_)
    lines = logs.stream(ask.viewer, ask.server.store, ask.namespace, ask.name, attempt=ask.query.attempt, start=start)
    return StreamingResponse(_quietly(ask, lines), headers=_EVENTS, media_type="text/event-stream")


async def _need_logs(ask: Ask) -> None:
    await need(ask.viewer, "get", FLOW_RUNS.plural, ask.namespace)
    await need(ask.viewer, "list", "pods", ask.namespace, "")
    await need(ask.viewer, "get", "pods/log", ask.namespace, "")


async def _quietly(ask: Ask, lines: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    """A stream whose source breaks off ends, as does one whose viewer has lost the right: the browser connects again."""
    asked_s = time.monotonic()
    with suppress(KubeError, Problem), _counted(ask):
        async with aclosing(lines):
            async for each in lines:
                if time.monotonic() - asked_s > FRESH_S:
                    await ask.server.viewers.of(ask.request)
                    await _need_logs(ask)
                    asked_s = time.monotonic()
                yield each


async def stream(ask: Ask) -> Response:
    """Changes as they come."""
    _need_room(ask)
    seen = await _scopes(ask)
    server, query = ask.server, ask.query
    last = ask.request.headers.get("last-event-id", "") or query.last_event_id or ""

    def wanted(item: Item) -> bool:
        if query.kind and item.kind not in query.kind:
            return False
        if item.kind == "Deployment" and item.namespace not in seen["FlowRun"]:  # its row tells of its runs
            return False
        return item.namespace in seen.get(item.kind, _NOTHING)

    async def told() -> AsyncIterator[bytes]:
        renewal = asyncio.create_task(_renew(ask, seen))
        first = b"event: stale\ndata: " + server.feeds.stale_event() + b"\n\n"
        try:
            with _counted(ask):
                async for each in server.hub.follow(last, wanted, first):
                    yield each
                    if renewal.done():  # the viewer's token is not accepted any more
                        return
        finally:
            renewal.cancel()

    return StreamingResponse(told(), headers=_EVENTS, media_type="text/event-stream")


_NOTHING = Scope()


def _need_room(ask: Ask) -> None:
    """Each open stream costs memory, and one of a log a connection to the API server: nobody takes those of all.

    Raises:
        Problem: 429, there are too many.
    """
    counts, alone = ask.server.streams, ask.server.settings.mode in {"token", "proxy"}
    if counts.total() >= MAX_STREAMS or (alone and counts[ask.viewer.key] >= MAX_STREAMS_OF_A_VIEWER):
        raise Problem(429, "TooManyStreams", "too many streams are open", "Close pages.", retry_after_s=5)


@contextmanager
def _counted(ask: Ask) -> Iterator[None]:
    counts = ask.server.streams
    counts[ask.viewer.key] += 1
    try:
        yield
    finally:
        counts[ask.viewer.key] -= 1
        if not counts[ask.viewer.key]:
            del counts[ask.viewer.key]


async def _scopes(ask: Ask) -> dict[str, Scope]:
    """What the viewer may see of each kind."""
    found = {kind.kind: (await ask.server.scope(ask.viewer, kind)).within(ask.query.namespace) for kind in LEVADA_KINDS}
    found["Agent"] = Scope(everywhere=await may(ask.viewer, "list", NODES.plural, "", ""))
    return found


async def _renew(ask: Ask, seen: dict[str, Scope]) -> None:
    """Rights change while a stream is open: ask again now and then. Ends when the viewer is refused altogether."""
    while True:
        await asyncio.sleep(FRESH_S)
        try:
            await ask.server.viewers.of(ask.request)
            seen.update(await _scopes(ask))
        except Problem as problem:
            if problem.status in {401, 403}:
                return
