"""The operator's web pages for machines: /metrics for Prometheus, /healthz and /readyz for the kubelet. One address, one server.

Served by threads of its own, so that a blocked event loop is seen: what the pages say is read in the loop, and one that does not answer
in time is the answer.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socketserver import TCPServer, ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING, Final, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client.exposition import choose_encoder

from levada.decide.health import HealthFacts, Patience, problems, unready
from levada.operator.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)
T = TypeVar("T")

PLAIN: Final = "text/plain; charset=utf-8"
# A probe of the kubelet gives up after a second by default; the chart allows it ten.
LOOP_ANSWERS_S: Final = 5.0


class LoopBlockedError(Exception):
    """The event loop does not come round: something in it does not give way."""

    def __init__(self) -> None:
        super().__init__(f"the event loop has not answered for {LOOP_ANSWERS_S:.0f} s")


class Pages:
    """The three pages as a WSGI application. `facts` is called in the loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
        facts: Callable[[], HealthFacts],
        patience: Patience,
    ) -> None:
        self._loop = loop
        self._metrics = metrics
        self._facts = facts
        self._patience = patience

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> "Iterable[bytes]":
        """Answer one request."""
        page = {"/metrics": self._metrics_page, "/healthz": self._healthz, "/readyz": self._readyz}
        path = environ.get("PATH_INFO", "/")
        if environ.get("REQUEST_METHOD") not in {"GET", "HEAD"} or path not in page:
            status, kind, body = "404 Not Found", PLAIN, f"There are {', '.join(page)}.\n".encode()
        else:
            try:
                status, kind, body = page[path](environ.get("HTTP_ACCEPT", ""))
            except LoopBlockedError as error:
                status, kind, body = "503 Service Unavailable", PLAIN, f"{error}\n".encode()
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]

    def _metrics_page(self, accept: str) -> tuple[str, str, bytes]:
        encode, kind = choose_encoder(accept)
        return "200 OK", kind, encode(self._metrics.registry)

    def _healthz(self, accept: str) -> tuple[str, str, bytes]:
        return _verdict(problems(self.read(self._facts), self._patience))

    def _readyz(self, accept: str) -> tuple[str, str, bytes]:
        return _verdict(unready(self.read(self._facts), self._patience))

    def read(self, question: Callable[[], T]) -> T:
        """Have a question answered in the loop.

        Raises:
            LoopBlockedError: no answer in time.
        """

        async def ask() -> T:
            return question()

        answer = asyncio.run_coroutine_threadsafe(ask(), self._loop)
        try:
            return answer.result(LOOP_ANSWERS_S)
        except TimeoutError:
            answer.cancel()
            raise LoopBlockedError from None


def _verdict(found: list[str]) -> tuple[str, str, bytes]:
    if found:
        return "503 Service Unavailable", PLAIN, "".join(f"{problem}\n" for problem in found).encode()
    return "200 OK", PLAIN, b"ok\n"


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without looking up the name of the host: the resolver may take seconds, and nobody reads the name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _Handler(WSGIRequestHandler):
    timeout = 10  # a client that says nothing gives its thread back

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is inherited
        """A scrape a quarter of a minute is no news."""


class AddressInUseError(OSError):
    """The pages cannot be served where they should be."""


@contextmanager
def served(pages: Pages, address: str) -> Iterator[int]:
    """Serve while the block runs; the port that it listens on. An empty address serves nothing.

    Raises:
        AddressInUseError: the address cannot be had.
    """
    if not address:
        yield 0
        return
    host, _, port = address.rpartition(":")
    try:
        server = make_server(
            host.strip("[]") or "127.0.0.1", int(port), pages, server_class=_Server, handler_class=_Handler
        )
    except OSError as error:
        raise AddressInUseError(f"--metrics-address {address} cannot be had: {error.strerror or error}") from error
    thread = Thread(target=server.serve_forever, args=(0.1,), name="levada-pages", daemon=True)
    thread.start()
    log.info("/metrics, /healthz and /readyz on http://%s:%d", *server.server_address[:2])
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
