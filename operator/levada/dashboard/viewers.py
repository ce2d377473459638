"""Who looks, and what they may. Every question and every write goes to the API server as the viewer; nothing is judged here.

SelfSubjectAccessReview, asked with the viewer's own credentials, says what a viewer may read; the answer holds for half a minute.
While the API server is away an older one holds for some minutes, so that what is on screen stays.
"""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import HTTPConnection

from levada.dashboard.problems import Problem, away, forbidden, of_kube, unauthorized
from levada.dashboard.settings import LOOPBACK, DashboardSettings
from levada.kube.client import Client
from levada.kube.credentials import StaticHeader
from levada.kube.errors import ApiError, ConnectionLost, Forbidden, KubeError, Unauthorized
from levada.resources.names import GROUP

FRESH_S: Final = 30.0
KEPT_WHILE_AWAY_S: Final = 300.0
MAX_VIEWERS: Final = 1000
MAX_TOKEN_CHARS: Final = 16_384
_AT_ONCE: Final = 16
_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_WHO: Final = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
MAX_ANSWERS: Final = 5000
Right = tuple[str, str, str, str, str]  # verb, resource[/subresource], group, namespace, name


@dataclass(slots=True)
class Answer:
    """What was said, and when."""

    allowed: bool
    at_s: float


@dataclass(slots=True)
class Viewer:
    """One person or program. `client` speaks to the API server with their credentials."""

    key: str
    client: Client
    user: str = ""
    groups: tuple[str, ...] = ()
    known_at_s: float = -1e9
    answers: dict[Right, Answer] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scope:
    """The namespaces that a viewer may read a kind in."""

    everywhere: bool = False
    names: frozenset[str] = frozenset()

    def __contains__(self, namespace: str) -> bool:
        return self.everywhere or namespace in self.names

    def within(self, wanted: Iterable[str]) -> "Scope":
        """Only these of them; all, if none are named."""
        chosen = frozenset(wanted)
        return Scope(names=frozenset(each for each in chosen if each in self)) if chosen else self


class Viewers:
    """Everybody who looks. `own` is the server's client; `bare` one to the same server without any identity."""

    def __init__(self, settings: DashboardSettings, own: Client, bare: Client) -> None:
        self._settings, self._own, self._bare = settings, own, bare
        self._known: OrderedDict[str, Viewer] = OrderedDict()
        self._csrf_key = secrets.token_bytes(32)

    async def of(self, request: HTTPConnection) -> Viewer:
        """Who asks.

        Raises:
            Problem: nobody who is known.
        """
        viewer = self._viewer(request)
        if time.monotonic() - viewer.known_at_s > FRESH_S:
            await self._identify(viewer)
        return self._remember(viewer)

    def csrf_token(self, viewer: Viewer) -> str:
        """What the viewer's writes have to bring: another site's page cannot know it."""
        return hmac.new(self._csrf_key, viewer.key.encode(), hashlib.sha256).hexdigest()

    def _viewer(self, request: HTTPConnection) -> Viewer:
        mode = self._settings.mode
        if mode == "token":
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            if (
                scheme.lower() != "bearer"
                or not token.strip()
                or len(token) > MAX_TOKEN_CHARS
                or not token.isprintable()
            ):
                raise unauthorized("a bearer token is needed")
            key = f"token:{hashlib.sha256(token.encode()).hexdigest()}"
            return self._known.get(key) or Viewer(key, self._bare.acting_as(StaticHeader(f"Bearer {token.strip()}")))
        if mode == "proxy":
            return self._forwarded(request)
        return self._known.get(mode) or Viewer(mode, self._own)

    def _forwarded(self, request: HTTPConnection) -> Viewer:
        """Whom the proxy says. Kubernetes' own identities are never taken from it: it would lend them to anybody who can write a header."""
        given = _only(request, "x-levada-proxy-secret")
        wanted = self._settings.proxy_secret
        peer = request.client.host if request.client else ""
        trusted = hmac.compare_digest(given.encode(), wanted.encode()) if wanted else peer in LOOPBACK
        if not trusted:
            raise Problem(
                401, "Unauthorized", "this request does not come from the authenticating proxy", "Open the address of the proxy."
            )  # fmt: skip
        user = _only(request, "x-forwarded-user")
        groups = tuple(
            sorted({part.strip() for value in request.headers.getlist("x-forwarded-groups") for part in value.split(",")} - {""})
        )  # fmt: skip
        if not user:
            raise Problem(401, "Unauthorized", "the proxy names no user (X-Forwarded-User)", "Sign in at the proxy.")
        if any(each.startswith("system:") for each in (user, *groups)):
            raise Problem(
                403,
                "Forbidden",
                "the proxy names an identity of Kubernetes itself (system:…), which nobody gets from it",
            )
        key = "proxy:" + "\n".join((user, *groups))
        headers = (("Impersonate-User", user), *(("Impersonate-Group", each) for each in groups))
        return self._known.get(key) or Viewer(key, self._own.acting_as(self._own.connection.credentials, headers))

    def _remember(self, viewer: Viewer) -> Viewer:
        """Keep who is known. Not before: whoever sends a thousand wrong tokens would have the others forgotten."""
        viewer = self._known.setdefault(viewer.key, viewer)
        self._known.move_to_end(viewer.key)
        if len(self._known) > MAX_VIEWERS:
            self._known.popitem(last=False)
        return viewer

    async def _identify(self, viewer: Viewer) -> None:
        """Ask the API server who this is, so that a wrong token is refused at once."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            said = await viewer.client.request("POST", _WHO, body=body)
        except Unauthorized:
            self._known.pop(viewer.key, None)
            raise unauthorized() from None
        except (ConnectionLost, ApiError) as error:
            if isinstance(error, Forbidden):  # an anonymous server, or an old cluster: the reviews decide
                viewer.known_at_s = time.monotonic()
                return
            if time.monotonic() - viewer.known_at_s < KEPT_WHILE_AWAY_S:
                return
            raise of_kube(error) from None
        info = (said.get("status") or {}).get("userInfo") or {}
        viewer.user, viewer.groups = str(info.get("username") or ""), tuple(info.get("groups") or ())
        viewer.known_at_s = time.monotonic()


def _only(request: HTTPConnection, header: str) -> str:
    """The one value of a header. Of two, one is what a browser sent and the proxy did not drop.

    Raises:
        Problem: there are several.
    """
    values = request.headers.getlist(header)
    if len(values) > 1:
        words = f"the request has the header {header} {len(values)} times"
        raise Problem(401, "Unauthorized", words, "Let the proxy set the header in place of adding one.")
    return values[0].strip() if values else ""


async def may(viewer: Viewer, verb: str, resource: str, namespace: str, group: str = GROUP, *, name: str = "") -> bool:
    """Whether the viewer has a right, of all objects or of one by name; of the last half minute.

    Raises:
        Problem: the API server does not say, and has not for minutes.
    """
    right = (verb, resource, group, namespace, name)
    known, now = viewer.answers.get(right), time.monotonic()
    if known is not None and now - known.at_s < FRESH_S:
        return known.allowed
    plural, _, subresource = resource.partition("/")
    attributes = {"verb": verb, "group": group, "resource": plural, "namespace": namespace}
    attributes |= {"subresource": subresource} if subresource else {}
    attributes |= {"name": name} if name else {}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    try:
        said = await viewer.client.request("POST", _REVIEWS, body=body)
    except KubeError as error:
        problem = of_kube(error)
        if problem.status != 503:
            raise problem from None
        if known is not None and now - known.at_s < KEPT_WHILE_AWAY_S:
            return known.allowed
        raise away(error) from None
    allowed = bool((said.get("status") or {}).get("allowed"))
    viewer.answers.pop(right, None)
    viewer.answers[right] = Answer(allowed, now)
    if len(viewer.answers) > MAX_ANSWERS:  # namespaces are what the viewer writes into addresses
        viewer.answers.pop(next(iter(viewer.answers)))
    return allowed


async def need(viewer: Viewer, verb: str, resource: str, namespace: str, group: str = GROUP, *, name: str = "") -> None:
    """Go on only if the viewer has a right.

    Raises:
        Problem: 403, which names the right.
    """
    if not await may(viewer, verb, resource, namespace, group, name=name):
        raise forbidden(verb, f"{resource}.{group}" if group else resource, namespace, viewer.user)


async def scope(viewer: Viewer, resource: str, namespaces: Iterable[str], group: str = GROUP) -> Scope:
    """Where the viewer may list a kind: everywhere, or in which of these namespaces."""
    if await may(viewer, "list", resource, "", group):
        return Scope(everywhere=True)
    names = list(namespaces)
    limit = asyncio.Semaphore(_AT_ONCE)

    async def ask(namespace: str) -> bool:
        async with limit:
            return await may(viewer, "list", resource, namespace, group)

    allowed = await asyncio.gather(*(ask(each) for each in names))
    return Scope(names=frozenset(name for name, yes in zip(names, allowed, strict=True) if yes))
