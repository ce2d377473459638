"""A conversation with the API server about one FlowRun: read it, patch its status, read the Blocks that it loads.

A light synchronous client on `http.client`: one kept-alive TLS connection, used by one thread at a time. It tries a
request once (twice where a kept connection turned out to be dead, or the token had been rotated) and turns the answer into
a result or a typed error. Waiting and trying again is the caller's, because by then there is something newer to say.

Errors, and who handles them:

    ApiProblem
    ├── Unreachable   no answer, 429, 5xx, or an API server that does not serve FlowRuns yet: later, with back-off
    ├── NotAllowed    401, 403: later and less often; right after a start an API server refuses what it soon allows
    ├── Conflict      409: somebody else wrote; read, then decide
    ├── RunGone       404 for this very object: stop
    └── Rejected      400, 413, 422: this body will never pass; say less
"""

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from levada.resources.kinds import BLOCKS, CONCURRENCY_LIMITS, FLOW_RUNS
from levada.resources.names import FIELD_MANAGER_RUNNER
from levada.runner.settings import Settings


class ApiProblem(Exception):  # noqa: N818 - the tree's leaves are named after what the server said
    """The API server did not do what was asked."""


class Unreachable(ApiProblem):
    """No usable answer. The request may have been carried out all the same."""

    def __init__(self, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NotAllowed(ApiProblem):
    """The token or the rights do not suffice."""


class Conflict(ApiProblem):
    """The object has changed since it was read."""


class RunGone(ApiProblem):
    """The FlowRun was deleted."""


class Rejected(ApiProblem):
    """The body is invalid or too large."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP response."""

    code: int
    body: bytes
    retry_after_seconds: float = 0.0


class RunApi:
    """The one FlowRun that this process may write.

    Token and CA are read from files again whenever a connection is made or the token is refused: both rotate.
    """

    def __init__(
        self,
        host: str,
        port: int,
        service_account_dir: Path,
        namespace: str,
        run: str,
        *,
        timeout_seconds: float = 10.0,
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self._host = host
        self._port = port
        self._token_file = service_account_dir / "token"
        self._ca_file = service_account_dir / "ca.crt"
        self._namespace = namespace
        self._run = run
        self._path = FLOW_RUNS.path(namespace, run)
        self._status_path = f"{FLOW_RUNS.path(namespace, run, 'status')}?fieldManager={FIELD_MANAGER_RUNNER}"
        self._user_agent = "levada-runner"
        self._connection: http.client.HTTPSConnection | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The client of a run's pod."""
        return cls(settings.api_host, settings.api_port, settings.service_account_dir, settings.namespace, settings.run)

    def read(self) -> dict[str, Any]:
        """Return the FlowRun as it is now."""
        return self._call("GET", self._path, None)

    def read_block(self, name: str) -> dict[str, Any]:
        """Return a Block of the run's namespace; RunGone says that there is none of this name."""
        return self._call("GET", BLOCKS.path(self._namespace, name), None, name)

    def read_limit(self, name: str) -> dict[str, Any]:
        """Return a ConcurrencyLimit of the run's namespace; RunGone says that there is none of this name."""
        return self._call("GET", CONCURRENCY_LIMITS.path(self._namespace, name), None, name)

    def patch_slots(self, slots: Mapping[str, Any], uid: str) -> dict[str, Any]:
        """Merge entries into the FlowRun's slots, whatever else has changed, and return the whole object.

        They speak of this process alone, and name its attempt: there is nothing that they could write over. Conflict says that the
        name is another FlowRun's now.
        """
        return self._patch_map("slots", slots, uid)

    def patch_task_pods(self, pods: Mapping[str, Any], uid: str) -> dict[str, Any]:
        """The same for the pods that its tasks ask for."""
        return self._patch_map("taskPods", pods, uid)

    def _patch_map(self, name: str, entries: Mapping[str, Any], uid: str) -> dict[str, Any]:
        metadata = {"uid": uid} if uid else {}
        body = {"metadata": metadata, "status": {name: entries}}
        return self._call("PATCH", self._status_path, json.dumps(body, separators=(",", ":")).encode())

    def patch_status(self, status: Mapping[str, Any], resource_version: str) -> dict[str, Any]:
        """Merge `status` into the FlowRun, if it is still at `resource_version`, and return the whole object.

        The precondition makes the patch safe to repeat, and keeps an attempt that the operator has given up
        from writing over its successor.
        """
        body = {"metadata": {"resourceVersion": resource_version}, "status": status}
        return self._call("PATCH", self._status_path, json.dumps(body, separators=(",", ":")).encode())

    def close(self) -> None:
        """Drop the connection; the next call makes a new one."""
        if self._connection:
            self._connection.close()
        self._connection = None

    def abort(self) -> None:
        """End a request that hangs in another thread."""
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _call(self, method: str, path: str, body: bytes | None, name: str | None = None) -> dict[str, Any]:
        answer = self._exchange(method, path, body)
        if answer.code == 401:
            # Rotated since it was read, or this connection's server has just lost its caches. One more look at the file.
            self.close()
            answer = self._exchange(method, path, body)
        return interpret(answer, name or self._run)

    def _exchange(self, method: str, path: str, body: bytes | None) -> Answer:
        kept = self._connection is not None
        try:
            return self._send(method, path, body)
        except (http.client.HTTPException, OSError) as problem:
            self.close()
            if not kept or isinstance(problem, TimeoutError):
                raise Unreachable(self._described(problem)) from problem
        # The server closes idle connections: that says nothing about the server. Repeating is safe, see patch_status.
        try:
            return self._send(method, path, body)
        except (http.client.HTTPException, OSError) as problem:
            self.close()
            raise Unreachable(self._described(problem)) from problem

    def _send(self, method: str, path: str, body: bytes | None) -> Answer:
        token = self._token_file.read_text().strip()
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "User-Agent": self._user_agent}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json"
        connection = self._connected()
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
        if response.will_close:
            self.close()
        return Answer(response.status, content, _seconds(response.getheader("Retry-After")))

    def _connected(self) -> http.client.HTTPSConnection:
        if self._connection is None:
            context = ssl.create_default_context(cafile=str(self._ca_file))
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=self.timeout_seconds, context=context
            )
            connection.connect()
            # Headers and body go out in two writes: with Nagle's algorithm the second would wait for an acknowledgement.
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection = connection
        elif self._connection.sock is not None:
            self._connection.sock.settimeout(self.timeout_seconds)
        return self._connection

    def _described(self, problem: Exception) -> str:
        where = f"The API server at {self._host}:{self._port}"
        if isinstance(problem, FileNotFoundError):
            return f"The pod's identity is incomplete: {problem.filename} is missing."
        if isinstance(problem, ssl.SSLCertVerificationError):
            return f"{where} shows a certificate that {self._ca_file} does not vouch for: {problem.verify_message}."
        if isinstance(problem, TimeoutError):
            return f"{where} did not answer within {self.timeout_seconds:g} s."
        return f"{where} cannot be reached: {problem or type(problem).__name__}."


def interpret(answer: Answer, name: str) -> dict[str, Any]:
    """Return the object of a good answer, or raise what a bad one means for the object of this name."""
    document = _document(answer.body)
    if 200 <= answer.code < 300:
        if not document:
            raise Unreachable(f"HTTP {answer.code} without a JSON object; is there a proxy in between?")
        return document
    told = str(document.get("message") or answer.body[:200].decode(errors="replace")).strip()
    message = f"HTTP {answer.code}: {told}"
    details = document.get("details")
    named = details.get("name") if isinstance(details, dict) else None
    if answer.code in {401, 403}:
        raise NotAllowed(message)
    if answer.code == 404 and named == name:
        raise RunGone(message)
    if answer.code == 409:
        raise Conflict(message)
    # etcd's own refusal of a large object arrives as a 500.
    if answer.code in {400, 413, 415, 422} or "request is too large" in told:
        raise Rejected(message)
    raise Unreachable(message, answer.retry_after_seconds)


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _seconds(header: str | None) -> float:
    return float(header) if header and header.isdigit() else 0.0
