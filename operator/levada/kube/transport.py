"""HTTP to one API server: connections, credentials, retries, typed errors. Knows paths and JSON, but no kinds.

`Client` is the face of this room; this module is the part of it below Kubernetes' own vocabulary.
"""

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import orjson
from multidict import CIMultiDict

from levada.kube.config import Connection
from levada.kube.errors import ApiError, ConnectionLost, KubeError, from_status
from levada.kube.retry import RetryPolicy, next_delay_s, parse_retry_after

# (verb, resource, HTTP code or 0 when there was no answer, seconds)
OnRequest = Callable[[str, str, int, float], None]
# (resource, body), before each try of a write: may wait, or hold it back with a KubeError
BeforeWrite = Callable[[str, Any], Awaitable[None]]
# (the Date header of an answer, seconds since it was asked for): what the server's clock says
OnDate = Callable[[str | None, float], None]

# Told of every refusal, before anybody decides what to do about it: quick, and never raising
OnRefused = Callable[[ApiError], None]

REQUEST_TIMEOUT_S: Final = 30.0
CONNECT_TIMEOUT_S: Final = 10.0
MAX_CONNECTIONS: Final = 128


class Transport:
    """One pool of connections. Use as an async context manager."""

    def __init__(
        self,
        connection: Connection,
        *,
        user_agent: str,
        retries: RetryPolicy | None = None,
        on_request: OnRequest | None = None,
        before_write: BeforeWrite | None = None,
        on_date: OnDate | None = None,
        on_refused: OnRefused | None = None,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        self.connection = connection
        self._user_agent = user_agent
        self._retries = retries or RetryPolicy()
        self._on_request = on_request
        self._before_write = before_write
        self._on_date = on_date
        self._on_refused = on_refused
        self._request_timeout_s = request_timeout_s
        self._session: aiohttp.ClientSession | None = None
        self._streams: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the pool; no request is made yet."""
        self._session = self._pool(MAX_CONNECTIONS)
        # Watches keep their connections: in the pool of the requests, those of many namespaces would leave none for these.
        self._streams = self._pool(0)
        return self

    def _pool(self, limit: int) -> aiohttp.ClientSession:
        tls = self.connection.tls
        connector = aiohttp.TCPConnector(ssl=tls if tls is not None else True, limit=limit)
        # Compression costs the API server and us more than it saves inside a data centre.
        headers = {"User-Agent": self._user_agent, "Accept": "application/json", "Accept-Encoding": "identity"}
        session = aiohttp.ClientSession(connector=connector, headers=headers, auto_decompress=True)
        # aiohttp would repeat a PUT or DELETE by itself when a kept-alive connection dies: retry.py decides, nobody else.
        session._retry_connection = False
        return session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        for session in (self._session, self._streams):
            if session is not None:
                await session.close()
        self._session = self._streams = None

    def sharing(self, connection: Connection) -> Self:
        """One that speaks over the same open pools as somebody else. Whoever opened them closes them."""
        other = copy.copy(self)
        other.connection = connection
        return other

    async def call(
        self,
        method: str,
        path: str,
        *,
        verb: str,
        resource: str,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str | None = None,
        accept: str | None = None,
    ) -> dict[str, Any]:
        """One request, repeated as retry.py allows. Returns the answer's JSON object."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._once(
                    method, path, verb=verb, resource=resource, params=params, body=body,
                    content_type=content_type, accept=accept,
                )  # fmt: skip
            except KubeError as error:
                if isinstance(error, ApiError) and error.status == 401 and attempt == 1:
                    if not self.connection.credentials.forget():
                        raise
                    continue  # renewed credentials get one chance
                delay_s = next_delay_s(self._retries, error, attempt, is_read=method == "GET")
                if delay_s is None:
                    raise
            await asyncio.sleep(delay_s)

    async def _once(
        self,
        method: str,
        path: str,
        *,
        verb: str,
        resource: str,
        params: Mapping[str, str] | None,
        body: Any,
        content_type: str | None,
        accept: str | None,
    ) -> dict[str, Any]:
        headers = {"Accept": accept} if accept else {}
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else orjson.dumps(body)
            headers["Content-Type"] = content_type or "application/json"
        timeout = aiohttp.ClientTimeout(total=self._request_timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        if self._before_write is not None and method != "GET":
            await self._before_write(resource, body)
        async with self.open(
            method, path, verb=verb, resource=resource, params=params, data=data, headers=headers,
            pooled=True, timeout=timeout,
        ) as response:  # fmt: skip
            text = await response.read()
        return _as_object(text, method, path)

    async def admit(self, resource: str) -> None:
        """Let pass what may write elsewhere, by the rules of writes to the API."""
        if self._before_write is not None:
            await self._before_write(resource, None)

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        verb: str,
        resource: str,
        params: Mapping[str, str] | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        pooled: bool = False,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own timeouts tell connecting from reading
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request without retries; the body of the `with` reads the successful answer.

        `pooled`: it is short, and waits for its turn among other such requests.

        Raises:
            ApiError: the server refused.
            ConnectionLost: no answer, or it broke off while the body of the `with` was reading.
        """
        session = self._session if pooled else self._streams
        if session is None:
            raise RuntimeError("the client is not open: use `async with Client...`")
        header = await self.connection.credentials.header()
        extra = CIMultiDict({**(headers or {}), **({"Authorization": header} if header else {})})
        extra.extend(self.connection.headers)
        started_s, code = time.monotonic(), 0
        try:
            async with session.request(
                method,
                self.connection.server + path,
                params=params,
                data=data,
                headers=extra,
                timeout=timeout,
                proxy=self.connection.proxy,
                server_hostname=self.connection.tls_server_name,
                allow_redirects=False,
            ) as response:
                code = response.status
                if self._on_date:
                    self._on_date(response.headers.get("Date"), time.monotonic() - started_s)
                if not 200 <= code < 300:
                    refusal = _refusal(response, await response.read())
                    if self._on_refused:
                        self._on_refused(refusal)
                    raise refusal
                yield response
        except aiohttp.ClientConnectorError as error:
            raise ConnectionLost(f"cannot connect to {self.connection.server}: {error}", sent=False) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ConnectionLost(f"{method} {path}: {type(error).__name__}: {error}") from error
        finally:
            if self._on_request:
                self._on_request(verb, resource, code, time.monotonic() - started_s)


def _refusal(response: aiohttp.ClientResponse, text: bytes) -> ApiError:
    try:
        body = orjson.loads(text)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        # A proxy's page, or the API server's own plain text while it starts.
        body = {"message": text.decode(errors="replace").strip()[:1000] or response.reason or ""}
    return from_status(response.status, body, retry_after=parse_retry_after(response.headers))


def _as_object(text: bytes, method: str, path: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        value = orjson.loads(text)
    except ValueError as error:
        raise ConnectionLost(
            f"{method} {path}: the answer is no JSON (is this really a Kubernetes API server?)"
        ) from error
    return value if isinstance(value, dict) else {"value": value}
