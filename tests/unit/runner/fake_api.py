"""A small HTTPS API server that knows one FlowRun: merge patches, preconditions, legal phases, and every kind of trouble.

It answers like the real one where the runner can tell the difference; `tests/apiserver` holds it to that.
"""

import contextlib
import copy
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from levada.resources.phases import is_terminal, may_become

NAMESPACE, RUN, POD, TOKEN = "team", "hello-1", "hello-1-1-abcde", "a-token"
LIMITS_PATH = f"/apis/levada.dev/v1alpha1/namespaces/{NAMESPACE}/concurrencylimits/"
BLOCKS_PATH = f"/apis/levada.dev/v1alpha1/namespaces/{NAMESPACE}/blocks/"
PATH = f"/apis/levada.dev/v1alpha1/namespaces/{NAMESPACE}/flowruns/{RUN}"


def make_identity(folder: Path) -> None:
    """A service account folder, and the server's certificate and key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fake")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "token").write_text(TOKEN)


@dataclass
class Call:
    """One request and what became of it."""

    method: str
    status: dict
    code: int
    at: float
    size: int = 0


@dataclass
class FakeApi:
    identity: Path
    token: str = TOKEN
    # Gets (method, path, body), returns (code, message) instead of the normal answer, or None.
    trouble: Callable[[str, str, dict], tuple[int, str] | None] = lambda *_: None
    # How many patches to carry out without answering.
    lose_answers: int = 0
    calls: list[Call] = field(default_factory=list)
    # By name: the spec of each Block.
    blocks: dict[str, dict] = field(default_factory=dict)
    # By name: spec and status of each ConcurrencyLimit.
    limits: dict[str, dict] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self.deleted = False
        self.run = {
            "apiVersion": "levada.dev/v1alpha1",
            "kind": "FlowRun",
            "metadata": {"name": RUN, "namespace": NAMESPACE, "resourceVersion": "1"},
            "spec": {"deploymentRef": {"name": "hello"}},
            "status": {"phase": "Pending", "attempt": 1},
        }
        self.history: list[str] = []
        self.server: _Server | None = None
        self.port = 0
        self.up()

    def up(self) -> None:
        """Listen, on the same port as before."""
        self.server = _Server(self)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def down(self) -> None:
        """Refuse and drop all connections, as a killed server does."""
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.thread.join()
            self.server.drop()
            self.server = None

    def write(self, **status: object) -> None:
        """Somebody else writes the status."""
        with self.lock:
            self._store(_merged(self.run["status"], status))

    def cancel(self) -> None:
        """Somebody cancels the run, and the operator notes it."""
        with self.lock:
            self.run["spec"]["cancel"] = True
            self.write(phase="Cancelling", reason="Cancelled")

    @property
    def status(self) -> dict:
        with self.lock:
            return copy.deepcopy(self.run["status"])

    @property
    def patches(self) -> list[dict]:
        """The patches that were carried out."""
        return [call.status for call in list(self.calls) if call.method == "PATCH" and call.code == 200]

    def until(self, condition: Callable[[dict], object], seconds: float = 20.0) -> dict:
        """Wait for the status to be so."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status = self.status
            if condition(status):
                return status
            time.sleep(0.01)
        raise AssertionError(f"still {self.status} after {seconds} s")

    def answer(self, method: str, path: str, headers: object, body: dict, size: int) -> tuple[int, dict] | None:
        with self.lock:
            code, document = self._answer(method, path.partition("?")[0], headers, body)
            self.calls.append(Call(method, body.get("status", {}), code, time.monotonic(), size))
            if method == "PATCH" and code == 200 and self.lose_answers:
                self.lose_answers -= 1
                return None
            return code, document

    def _answer(self, method: str, path: str, headers: object, body: dict) -> tuple[int, dict]:
        trouble = self.trouble(method, path, body)
        if trouble:
            return trouble[0], _failure(*trouble)
        if headers.get("Authorization") != f"Bearer {self.token}":
            return 401, _failure(401, "Unauthorized")
        if method == "GET" and path.startswith(BLOCKS_PATH):
            name = path.removeprefix(BLOCKS_PATH)
            if name not in self.blocks:
                return 404, _failure(404, f'blocks "{name}" not found', name=name)
            return 200, {"kind": "Block", "metadata": {"name": name}, "spec": copy.deepcopy(self.blocks[name])}
        if method == "GET" and path.startswith(LIMITS_PATH):
            name = path.removeprefix(LIMITS_PATH)
            if name not in self.limits:
                return 404, _failure(404, f'concurrencylimits "{name}" not found', name=name)
            return 200, {"kind": "ConcurrencyLimit", "metadata": {"name": name}, **copy.deepcopy(self.limits[name])}
        if self.deleted:
            return 404, _failure(404, f'flowruns "{RUN}" not found', name=RUN)
        if (method, path) == ("GET", PATH):
            return 200, copy.deepcopy(self.run)
        if (method, path) != ("PATCH", f"{PATH}/status") or headers.get(
            "Content-Type"
        ) != "application/merge-patch+json":
            return 404, _failure(404, "the server could not find the requested resource")
        return self._patch(body)

    def _patch(self, body: dict) -> tuple[int, dict]:
        version = body.get("metadata", {}).get("resourceVersion")
        if version is not None and version != self.run["metadata"]["resourceVersion"]:
            return 409, _failure(409, "the object has been modified", name=RUN)
        old, new = self.run["status"], _merged(self.run["status"], body["status"])
        if not may_become(old.get("phase"), new["phase"]):
            return 422, _failure(422, f"phase {old['phase']} cannot become {new['phase']}", name=RUN)
        if is_terminal(old.get("phase")) and any(
            old.get(k) != new.get(k) for k in ("phase", "reason", "completionTime")
        ):
            return 422, _failure(422, "a terminal phase is final", name=RUN)
        self._store(new)
        return 200, copy.deepcopy(self.run)

    def _store(self, status: dict) -> None:
        self.run["status"] = status
        self.run["metadata"]["resourceVersion"] = str(int(self.run["metadata"]["resourceVersion"]) + 1)
        if not self.history or self.history[-1] != status.get("phase"):
            self.history.append(status.get("phase"))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, api: FakeApi) -> None:
        super().__init__(("127.0.0.1", api.port), _Handler)
        self.api = api
        self.connections: set[socket.socket] = set()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(api.identity / "ca.crt", api.identity / "tls.key")

    def finish_request(self, request: socket.socket, client_address: object) -> None:
        with contextlib.suppress(OSError), self.context.wrap_socket(request, server_side=True) as secured:
            secured.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections.add(secured)
            try:
                self.RequestHandlerClass(secured, client_address, self)
            finally:
                self.connections.discard(secured)

    def drop(self) -> None:
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        answer = self.server.api.answer(self.command, self.path, self.headers, body, length)
        if answer is None:
            self.close_connection = True
            return
        content = json.dumps(answer[1]).encode()
        self.send_response(answer[0])
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_PATCH = do_GET  # noqa: N815 - the base class's way to name it

    def log_message(self, *_: object) -> None:
        pass


def _failure(code: int, message: str, name: str | None = None) -> dict:
    details = {"name": name, "group": "levada.dev", "kind": "flowruns"} if name else {}
    return {"kind": "Status", "status": "Failure", "message": message, "details": details, "code": code}


def _merged(target: object, patch: dict) -> dict:
    """RFC 7386, written down from the RFC."""
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            result[name] = _merged(result.get(name), value)
        else:
            result[name] = value
    return result
