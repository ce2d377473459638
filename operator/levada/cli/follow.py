"""Following one flow run until it has ended: by watch, through restarts of the API server."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from levada.cli.connection import find
from levada.cli.output import error, warn
from levada.resources.kinds import FLOW_RUNS
from levada.resources.phases import is_terminal

if TYPE_CHECKING:
    from levada.kube import Client

Run = dict[str, Any]
# A control plane that is being restarted is back within this; after it, a person should look.
GIVE_UP_AFTER_SECONDS: Final = 120.0
RETRY_EVERY_SECONDS: Final = 1.0
# An operator gives a run its first phase within a second or two, a new leader within 15.
UNSEEN_SECONDS: Final = 15.0


def has_ended(run: Run) -> bool:
    """Whether the run's phase is final."""
    return is_terminal((run.get("status") or {}).get("phase"))


@asynccontextmanager
async def reminded() -> AsyncIterator[Callable[[Run], None]]:
    """Say once, if it lasts, that nobody looks at the run that is being waited for. Give it the run whenever it is seen."""
    looked_at = asyncio.Event()

    async def remind() -> None:
        try:
            await asyncio.wait_for(looked_at.wait(), UNSEEN_SECONDS)
        except TimeoutError:
            warn("no operator has looked at the run yet: is one running? `levada operator run`; waiting for it")

    def see(run: Run) -> None:
        if (run.get("status") or {}).get("phase"):
            looked_at.set()

    task = asyncio.create_task(remind())
    try:
        yield see
    finally:
        task.cancel()


async def follow(client: "Client", name: str, namespace: str, on_change: Callable[[Run], None]) -> Run:
    """Report the run as it is and each change of it, and return it when it has ended.

    Raises:
        typer.Exit: there is no such run, or it was deleted meanwhile.
        ConnectionLost: the API server has been away for two minutes.
    """
    async with reminded() as see:

        def seen(run: Run) -> None:
            see(run)
            on_change(run)

        return await _follow(client, name, namespace, seen)


async def _follow(client: "Client", name: str, namespace: str, on_change: Callable[[Run], None]) -> Run:
    from levada.kube import ConnectionLost, Gone, ServerError, TooManyRequests

    lost_at: float | None = None
    while True:
        try:
            run = await find(client, FLOW_RUNS, name, namespace, called="flow run")
            lost_at = None
            on_change(run)
            ended = run if has_ended(run) else await _watch_until_end(client, run, on_change)
            if ended is not None:
                return ended
        except Gone:
            continue
        except (ConnectionLost, ServerError, TooManyRequests):
            if lost_at is None:
                lost_at = time.monotonic()
                warn("the API server does not answer; the run goes on, trying again")
            elif time.monotonic() - lost_at > GIVE_UP_AFTER_SECONDS:
                raise
            await asyncio.sleep(RETRY_EVERY_SECONDS)


async def _watch_until_end(client: "Client", run: Run, on_change: Callable[[Run], None]) -> Run | None:
    """The run when it has ended; None when the watch ended first."""
    meta = run["metadata"]
    changes = client.watch(
        FLOW_RUNS,
        meta["namespace"],
        resource_version=meta["resourceVersion"],
        field_selector=f"metadata.name={meta['name']}",
    )
    async with aclosing(changes):
        async for event in changes:
            if event.type == "BOOKMARK":
                continue
            if event.type == "DELETED":
                raise error(f"flow run {meta['name']!r} was deleted while it was being watched")
            on_change(event.object)
            if has_ended(event.object):
                return event.object
    return None
