"""A web hook's other side, for tests: a real HTTP server on loopback that does as it is told and keeps what it got."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Got(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]  # names in small letters
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def delivery(self) -> str:
        return self.headers["x-levada-delivery"]


class Receiver:
    """`answers` are statuses, one a request, the last for ever; `delay_s` passes before each; `redirect` is a Location."""

    def __init__(self, port: int = 0) -> None:
        self.got: list[Got] = []
        self.answers: list[int] = [200]
        self.delay_s = 0.0
        self.headers: dict[str, str] = {}
        self.body = b"secret-of-the-inner-network"
        self.at_a_time = 0
        self.most_at_a_time = 0
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                with receiver._lock:
                    receiver.at_a_time += 1
                    receiver.most_at_a_time = max(receiver.most_at_a_time, receiver.at_a_time)
                try:
                    receiver._handle(self)
                finally:
                    with receiver._lock:
                        receiver.at_a_time -= 1

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"] or 0))
        headers = {name.lower(): value for name, value in request.headers.items()}
        with self._lock:
            self.got.append(Got(request.path, headers, body))
            status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        time.sleep(self.delay_s)
        try:
            request.send_response(status)
            for name, value in self.headers.items():
                request.send_header(name, value)
            request.send_header("Content-Length", str(len(self.body)))
            request.end_headers()
            request.wfile.write(self.body)
        except OSError:
            pass  # the other side has given up

    def paths(self) -> Sequence[str]:
        return [each.path for each in self.got]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    receiver = Receiver(port)
    try:
        yield receiver
    finally:
        receiver.close()
