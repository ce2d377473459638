"""An API server that is played for the dashboard: it knows tokens and rights, and notes who asked for what."""

from levada.kube.config import Connection
from levada.kube.credentials import StaticHeader
from levada.kube.errors import ConnectionLost, Forbidden, NotFound, Unauthorized

# user -> (verb, resource, namespace) that they have
RIGHTS = {
    "reader": {("list", "flowruns", "a"), ("get", "flowruns", "a")},
    "editor": {("list", "flowruns", "a"), ("get", "flowruns", "a"), ("create", "flowruns", "a")},
    "admin": {("list", "flowruns", ""), ("get", "flowruns", "a"), ("get", "flowruns", "b")},
    "nobody": set(),
}


class PlayedServer:
    """What every client of a test talks to."""

    def __init__(self):
        self.created, self.away, self.reviews, self.got = [], False, 0, []


class PlayedClient:
    """A client; `user` None: it has no credentials."""

    connection = Connection("https://played", "default", StaticHeader("Bearer server"))

    def __init__(self, server, user):
        self.server, self.user = server, user

    def acting_as(self, credentials, headers=()):
        if headers:
            return PlayedClient(self.server, dict(headers)["Impersonate-User"])
        return PlayedClient(self.server, credentials.value.removeprefix("Bearer "))

    async def request(self, method, path, *, body=None, **_):
        if self.server.away:
            raise ConnectionLost("refused", sent=False)
        if self.user not in RIGHTS:
            raise Unauthorized(401, "Unauthorized", "no")
        if path.endswith("selfsubjectreviews"):
            return {"status": {"userInfo": {"username": self.user, "groups": ["people"]}}}
        self.server.reviews += 1
        asked = body["spec"]["resourceAttributes"]
        return {"status": {"allowed": (asked["verb"], asked["resource"], asked["namespace"]) in RIGHTS[self.user]}}

    async def get(self, kind, name, namespace=None):
        self.server.got.append(name)
        if name != "r":
            raise NotFound(404, "NotFound", f"no {name}")
        return run_of(namespace)

    async def create(self, kind, body, namespace=None, **_):
        if ("create", kind.plural, namespace) not in RIGHTS[self.user]:
            raise Forbidden(403, "Forbidden", f'User "{self.user}" cannot create resource "flowruns" in API group')
        self.server.created.append((self.user, namespace, body["metadata"]["name"]))
        return body


def run_of(namespace, phase="Failed"):
    return {
        "metadata": {"name": "r", "namespace": namespace, "uid": f"uid-{namespace}", "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"deploymentRef": {"name": "d"}, "parameters": {"secret": "of b"}}, "status": {"phase": phase},
    }  # fmt: skip


def bearer(user):
    return {"Authorization": f"Bearer {user}"}
