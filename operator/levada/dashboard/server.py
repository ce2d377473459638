"""What all handlers share: the store, the watches, the viewers, the archive; and reading one object for one viewer."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from starlette.requests import Request

from levada.dashboard.archives import Archives
from levada.dashboard.definitions import Views
from levada.dashboard.feeds import Feeds
from levada.dashboard.hub import Hub
from levada.dashboard.outlook import Forecasts
from levada.dashboard.problems import not_found, of_kube
from levada.dashboard.settings import DashboardSettings
from levada.dashboard.store import Key, Store
from levada.dashboard.viewers import Scope, Viewer, Viewers, need, scope
from levada.kube.client import Client
from levada.kube.errors import KubeError, NotFound
from levada.resources.kinds import FLOW_RUNS, Kind

Object = dict[str, Any]
BODIES_KEPT: Final = 64


@dataclass(slots=True)
class Found:
    """A run, and whether it is from the archive."""

    run: Object
    archived: bool = False


class Server:
    """One dashboard. `own` is the client with the server's identity."""

    def __init__(self, settings: DashboardSettings, own: Client, bare: Client) -> None:
        self.settings, self.own = settings, own
        self.store, self.hub = Store(), Hub()
        self.views, self.forecasts = Views(self.store), Forecasts(self.store)
        self.viewers = Viewers(settings, own, bare)
        self.feeds = Feeds(own, settings, self.store, self.hub, self.views.row_of)
        self.archives = Archives(settings.storages)
        self.streams: Counter[str] = Counter()  # open ones, by viewer
        self.started = datetime.now(UTC)
        self._bodies: OrderedDict[Key, tuple[str, Object]] = OrderedDict()
        self._reading: dict[Key, asyncio.Lock] = {}

    async def scope(self, viewer: Viewer, kind: Kind) -> Scope:
        """Where the viewer may list a kind, of what the server watches."""
        return await scope(viewer, kind.plural, sorted(self.store.namespaces()))

    async def run(self, viewer: Viewer, namespace: str, name: str) -> Found:
        """A run for a viewer who may see it; from the archive, if it has left the cluster.

        Raises:
            Problem: there is none, the viewer may not, or nobody answers.
        """
        await need(viewer, "get", FLOW_RUNS.plural, namespace)
        try:
            return Found(await self._body(Key(namespace, name)))
        except NotFound:
            urls = self.archives.urls(self.deployments(namespace))
            kept = await self.archives.find(urls, namespace, name)
            if kept is None:
                raise not_found("flow run", name, namespace) from None
            return Found(kept, archived=True)
        except KubeError as error:
            raise of_kube(error) from None

    def deployment_of(self, run: Mapping[str, Any]) -> Object | None:
        """The Deployment of a run."""
        name = ((run.get("spec") or {}).get("deploymentRef") or {}).get("name", "")
        return self.store.get("Deployment", run["metadata"].get("namespace", ""), name)

    def flow_of(self, deployment: Mapping[str, Any] | None) -> Object | None:
        """The Flow of a Deployment."""
        if deployment is None:
            return None
        name = ((deployment.get("spec") or {}).get("flowRef") or {}).get("name", "")
        return self.store.get("Flow", deployment["metadata"].get("namespace", ""), name)

    async def _body(self, key: Key) -> Object:
        """The FlowRun. Read once for all who look at it, for as long as the watch tells of no newer version."""
        async with self._reading.setdefault(key, asyncio.Lock()):
            entry, kept = self.store.runs.get(key), self._bodies.get(key)
            if entry is not None and kept is not None and kept[0] == entry.version and not self.feeds.stale("FlowRun"):
                self._bodies.move_to_end(key)
                return kept[1]
            try:
                body = await self.own.get(FLOW_RUNS, key.name, key.namespace)
            finally:
                if len(self._reading) > BODIES_KEPT:
                    self._reading.pop(key, None)
            self._bodies[key] = (body["metadata"].get("resourceVersion", ""), body)
            if len(self._bodies) > BODIES_KEPT:
                self._bodies.popitem(last=False)
            return body

    def deployments(self, namespace: str) -> list[Mapping[str, Any]]:
        """The Deployments of a namespace."""
        return [obj for key, obj in self.store.objects["Deployment"].items() if key.namespace == namespace]


@dataclass(slots=True)
class Ask:
    """One request: who asks the server for what. `query` and `order` are the models that the route names."""

    server: Server
    viewer: Viewer
    request: Request
    query: Any = None
    order: Any = None

    @property
    def namespace(self) -> str:
        """Of the path."""
        return str(self.request.path_params["namespace"])

    @property
    def name(self) -> str:
        """Of the path."""
        return str(self.request.path_params["name"])
