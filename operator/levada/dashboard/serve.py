"""The process: clients to the API server, the application, and the socket that it listens on."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack

import uvicorn

from levada.dashboard.app import application
from levada.dashboard.server import Server
from levada.dashboard.settings import DashboardSettings
from levada.kube.client import Client
from levada.kube.config import Connection
from levada.kube.errors import ApiError
from levada.kube.retry import RetryPolicy

# A person waits: better a clear word soon than an answer late.
PATIENCE = RetryPolicy(tries=2, base_s=0.1, cap_s=0.5)
REQUEST_TIMEOUT_S = 10.0
USER_AGENT = "levada-dashboard"


async def serve(connection: Connection, settings: DashboardSettings, started: Callable[[str], None]) -> None:
    """Serve until the process is told to stop. `started` is told the address.

    Raises:
        OSError: it cannot listen there.
    """
    server: Server | None = None

    def refused(error: ApiError) -> None:
        if server is not None:
            server.feeds.note_refusal(error)

    async with AsyncExitStack() as stack:
        own = await stack.enter_async_context(
            Client(
                connection,
                user_agent=USER_AGENT,
                retries=PATIENCE,
                request_timeout_s=REQUEST_TIMEOUT_S,
                on_refused=refused,
            )
        )
        bare = await stack.enter_async_context(
            Client(
                connection.without_identity(),
                user_agent=USER_AGENT,
                retries=PATIENCE,
                request_timeout_s=REQUEST_TIMEOUT_S,
            )
        )
        server = Server(settings, own, bare)
        listening = listen(settings.host, settings.port)
        config = uvicorn.Config(
            application(server), log_level="warning", access_log=False, server_header=False, proxy_headers=False,
            timeout_graceful_shutdown=2, lifespan="on",
        )  # fmt: skip
        running = uvicorn.Server(config)
        started(address(settings.host, listening.getsockname()[1]))
        await running.serve(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        OSError: the address is taken, or none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(256)
    except OSError:
        sock.close()
        raise
    sock.set_inheritable(False)
    return sock


def address(host: str, port: int) -> str:
    """Where a browser finds it."""
    shown = "localhost" if host in {"127.0.0.1", "0.0.0.0", "::"} else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/"


def run(connection: Connection, settings: DashboardSettings, started: Callable[[str], None]) -> None:
    """`serve`, in an event loop of its own."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(connection, settings, started))
