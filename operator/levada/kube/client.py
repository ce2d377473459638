"""One async client for everybody on the operator's side: the API's verbs over aiohttp, bodies as plain dicts.

Dicts, because an object that is read, changed and written back must keep the fields this version does not know.
Not here: typed models (resources/), caching (Reflector), limits on writes (`before_write` is where a caller puts them).
"""

import copy
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, Self

import aiohttp

from levada.kube import config
from levada.kube.config import Connection
from levada.kube.credentials import Credentials
from levada.kube.errors import Gone, NotFound
from levada.kube.retry import RetryPolicy
from levada.kube.transport import (
    CONNECT_TIMEOUT_S,
    REQUEST_TIMEOUT_S,
    BeforeWrite,
    OnDate,
    OnRefused,
    OnRequest,
    Transport,
)
from levada.kube.watch import WatchEvent, events
from levada.resources.kinds import LEVADA_KINDS, Kind

PAGE_SIZE: Final = 500
DEFAULT_USER_AGENT: Final = "levada"
PatchType = Literal["merge", "json", "strategic"]
_PATCH_TYPES: Final[dict[str, str]] = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}
_TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"
_APPLY: Final = "application/apply-patch+yaml"
# A watch must outlive its own server-side end; longer silence than that is a dead connection.
_WATCH_GRACE_S: Final = 15.0
Object = dict[str, Any]
Objects = list[Object]  # inside the class, `list` is the verb


class Row(NamedTuple):
    """One object in a table: its metadata, and its cells by the name of the column."""

    metadata: Object
    cells: Object


class Client:
    """The Kubernetes API. Use as an async context manager; share one instance per process."""

    def __init__(
        self,
        connection: Connection,
        *,
        user_agent: str = DEFAULT_USER_AGENT,
        retries: RetryPolicy | None = None,
        on_request: OnRequest | None = None,
        before_write: BeforeWrite | None = None,
        on_date: OnDate | None = None,
        on_refused: OnRefused | None = None,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        self.connection = connection
        self.namespace = connection.namespace
        self._transport = Transport(
            connection,
            user_agent=user_agent,
            retries=retries,
            on_request=on_request,
            before_write=before_write,
            on_date=on_date,
            on_refused=on_refused,
            request_timeout_s=request_timeout_s,
        )
        self._kinds: dict[tuple[str, str], Kind] = {(kind.api_version, kind.kind): kind for kind in LEVADA_KINDS}

    @classmethod
    def from_kubeconfig(
        cls,
        path: Path | str | None = None,
        context: str | None = None,
        *,
        user_agent: str = DEFAULT_USER_AGENT,
        on_request: OnRequest | None = None,
        on_date: OnDate | None = None,
    ) -> Self:
        """A client for `path`, else $KUBECONFIG, ~/.kube/config, or the pod's own service account.

        Raises:
            KubeconfigError: none of them can be used.
        """
        return cls(config.load(path, context), user_agent=user_agent, on_request=on_request, on_date=on_date)

    async def __aenter__(self) -> Self:
        """Open the connection pool."""
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self._transport.__aexit__(kind, error, trace)

    def acting_as(self, credentials: Credentials, headers: tuple[tuple[str, str], ...] = ()) -> Self:
        """The same open connections with somebody else's credentials, or as somebody whom ours may impersonate. It lives as long as this one.

        A client certificate of ours would win over a token: open this client with `Connection.without_identity` for that.
        """
        other = copy.copy(self)
        other.connection = replace(self.connection, credentials=credentials, headers=headers)
        other._transport = self._transport.sharing(other.connection)
        return other

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        """One object."""
        return await self._call("GET", "get", kind, self._scope(kind, namespace), name=name)

    async def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> tuple[Objects, str]:
        """All objects (of all namespaces, without one) and the resource version to watch from.

        Read in pages, so that neither side holds ten thousand objects in one answer. When the server has forgotten the
        place between two pages, the whole list is read at once: half of one list and half of another is no list.
        """
        selectors = _selectors(label_selector, field_selector)
        try:
            return await self._list(kind, namespace, {**selectors, "limit": str(PAGE_SIZE)})
        except Gone:
            return await self._list(kind, namespace, selectors)

    async def _list(self, kind: Kind, namespace: str | None, params: dict[str, str]) -> tuple[Objects, str]:
        items: Objects = []
        resource_version = ""
        async for page, resource_version in self._pages(kind, namespace, params):  # noqa: B007 - the last one counts
            items += page
        return items, resource_version

    def pages(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        limit: int = PAGE_SIZE,
    ) -> AsyncGenerator[tuple[Objects, str], None]:
        """As `list`, `limit` objects a page, for who looks at each object only once, each page with the resource version of the list.

        Raises:
            Gone: the server has forgotten the place between two pages: begin again, with `list`, or later.
        """
        return self._pages(kind, namespace, {**_selectors(label_selector, field_selector), "limit": str(limit)})

    async def _pages(
        self, kind: Kind, namespace: str | None, params: dict[str, str]
    ) -> AsyncGenerator[tuple[Objects, str], None]:
        while True:
            page = await self._call("GET", "list", kind, namespace, params=params)
            items: Objects = page.get("items") or []
            for item in items:
                # Lists leave these out; everybody else relies on them.
                item.setdefault("apiVersion", kind.api_version)
                item.setdefault("kind", kind.kind)
            metadata = page.get("metadata") or {}
            yield items, str(metadata.get("resourceVersion") or "")
            if not metadata.get("continue"):
                return
            params = {**params, "continue": metadata["continue"]}

    async def rows(
        self, kind: Kind, namespace: str | None = None, *, field_selector: str | None = None
    ) -> AsyncGenerator[Row, None]:
        """What `kubectl get -o wide` shows of each object, and its metadata: large objects cost the same as small ones.

        Read in pages, while they are used: the whole is never in memory.

        Raises:
            Gone: the server has forgotten the place between two pages; begin anew.
        """
        params = {**_selectors(None, field_selector), "limit": str(PAGE_SIZE), "includeObject": "Metadata"}
        while True:
            page = await self._call("GET", "list", kind, namespace, params=params, accept=_TABLE)
            names = [column["name"] for column in page.get("columnDefinitions") or ()]
            for row in page.get("rows") or ():
                yield Row(row["object"]["metadata"], dict(zip(names, row["cells"], strict=False)))
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return
            params = {**params, "continue": metadata["continue"]}

    async def create(self, kind: Kind, body: Object, namespace: str | None = None, *, dry_run: bool = False) -> Object:
        """Create; raises AlreadyExists if the name is taken."""
        params = {"dryRun": "All"} if dry_run else None
        return await self._call("POST", "create", kind, self._scope(kind, namespace, body), params=params, body=body)

    async def create_subresource(
        self, kind: Kind, name: str, subresource: str, body: Object, namespace: str | None = None
    ) -> Object:
        """POST to a subresource: a service account's `token`, a pod's `eviction`."""
        return await self._call(
            "POST", "create", kind, self._scope(kind, namespace), name=name, subresource=subresource, body=body
        )

    async def replace(
        self, kind: Kind, body: Object, namespace: str | None = None, *, subresource: str | None = None
    ) -> Object:
        """Write the whole object; raises Conflict if its resourceVersion is not the current one."""
        name = body["metadata"]["name"]
        return await self._call(
            "PUT", "update", kind, self._scope(kind, namespace, body), name=name, subresource=subresource, body=body
        )

    async def patch(
        self,
        kind: Kind,
        name: str,
        body: Object | Objects,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        patch_type: PatchType = "merge",
        field_manager: str | None = None,
    ) -> Object:
        """Change some fields. Put metadata.resourceVersion or metadata.uid into the body to make it conditional."""
        return await self._call(
            "PATCH", "patch", kind, self._scope(kind, namespace), name=name, subresource=subresource,
            params={"fieldManager": field_manager} if field_manager else None,
            body=body, content_type=_PATCH_TYPES[patch_type],
        )  # fmt: skip

    async def apply(
        self,
        body: Object,
        *,
        field_manager: str,
        force: bool = True,
        namespace: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        """Server-side apply of one manifest of any kind; a kind that we do not know is looked up on the server."""
        kind = await self.kind_of(body)
        params = {"fieldManager": field_manager, "force": "true" if force else "false"}
        if dry_run:
            params["dryRun"] = "All"
        return await self._call(
            "PATCH", "patch", kind, self._scope(kind, namespace, body), name=body["metadata"]["name"],
            params=params, body=body, content_type=_APPLY,
        )  # fmt: skip

    async def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str | None = None,
        *,
        propagation: str | None = "Background",
        grace_period_seconds: int | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> None:
        """Delete; with `uid` and `resource_version` only that very object as it was seen, else Conflict. Raises NotFound if it is not there."""
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if propagation:
            options["propagationPolicy"] = propagation
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        conditions = {"uid": uid, "resourceVersion": resource_version}
        if any(conditions.values()):
            options["preconditions"] = {name: value for name, value in conditions.items() if value}
        await self._call("DELETE", "delete", kind, self._scope(kind, namespace), name=name, body=options)

    async def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str | None = None,
        field_selector: str | None = None,
        timeout_seconds: int = 300,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Changes after `resource_version`, until the server ends the watch (a normal return).

        Bookmarks are yielded too: they carry the resource version to go on from.

        Raises:
            Gone: list again.
            ConnectionLost: watch again from the last resource version.
        """
        params = {
            **_selectors(label_selector, field_selector),
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_seconds),
        }
        timeout = aiohttp.ClientTimeout(
            total=timeout_seconds + _WATCH_GRACE_S, sock_connect=CONNECT_TIMEOUT_S, sock_read=None
        )
        async with (
            self._transport.open(
                "GET", kind.path(namespace), verb="watch", resource=kind.plural, params=params, timeout=timeout
            ) as response,
            aclosing(events(response.content.iter_any())) as stream,
        ):
            async for event in stream:
                yield event

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str | None = None,
    ) -> Object:
        """Any request that has no verb here: discovery, `/version`, reviews."""
        resource = path.partition("?")[0].rstrip("/").rpartition("/")[2]
        return await self._transport.call(
            method, path, verb=method.lower(), resource=resource, params=params, body=body, content_type=content_type
        )

    async def stream(self, path: str, params: Mapping[str, str] | None = None) -> AsyncGenerator[bytes, None]:
        """The bytes of a long answer as they come, such as a pod's log."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=None)
        resource = path.rpartition("/")[2]
        async with self._transport.open(
            "GET", path, verb="get", resource=resource, params=params, timeout=timeout
        ) as response:
            async for chunk in response.content.iter_any():
                yield chunk

    async def admit(self, resource: str) -> None:
        """For a write to another place than the API server: what holds writes back holds this one back too.

        Raises:
            KubeError: it must not be done.
        """
        await self._transport.admit(resource)

    async def kind_of(self, body: Object) -> Kind:
        """The Kind of a manifest, asked from the server once per API group.

        Raises:
            NotFound: the server has no such kind.
        """
        key = (str(body["apiVersion"]), str(body["kind"]))
        if key not in self._kinds:
            await self._discover(key[0])
        if key not in self._kinds:
            raise NotFound(404, "NotFound", f"the server has no kind {key[1]} in {key[0]}: is its CRD installed?")
        return self._kinds[key]

    async def _discover(self, api_version: str) -> None:
        group, _, version = api_version.rpartition("/")
        found = await self.request("GET", f"/apis/{api_version}" if group else f"/api/{version}")
        for resource in found.get("resources") or ():
            if "/" not in resource["name"]:
                kind = Kind(group, version, resource["name"], resource["kind"], bool(resource["namespaced"]))
                self._kinds[api_version, resource["kind"]] = kind

    def _scope(self, kind: Kind, namespace: str | None, body: Object | None = None) -> str | None:
        """The namespace of one object: as said, as its metadata says, else the context's."""
        if not kind.namespaced:
            return None
        return namespace or (body or {}).get("metadata", {}).get("namespace") or self.namespace

    async def _call(
        self,
        method: str,
        verb: str,
        kind: Kind,
        namespace: str | None,
        *,
        name: str | None = None,
        subresource: str | None = None,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str | None = None,
        accept: str | None = None,
    ) -> Object:
        return await self._transport.call(
            method,
            kind.path(namespace, name, subresource),
            accept=accept,
            verb=verb,
            resource=kind.plural,
            params=params,
            body=body,
            content_type=content_type,
        )


def _selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    chosen = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in chosen.items() if value}
