"""A view of one kind that stays true: list, watch, and start over when the watch cannot go on.

A watch alone is not enough: what is deleted while the watch is broken is never reported by it. So every list is compared with
what was known, and the difference is reported like any other change.

Finished objects can be left where they are (`Unfinished`): lists do not bring them, nothing of them is kept, and the watch tells how
each came to its end, so nobody has to read it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Any, Final, NamedTuple

from levada.kube.client import Client, Object, Objects
from levada.kube.errors import ConnectionLost, Gone, KubeError, NotFound
from levada.kube.retry import jittered_s
from levada.kube.watch import WatchEvent
from levada.resources.kinds import Kind

log = logging.getLogger(__name__)

OnChange = Callable[[str, Object], None]
Key = tuple[str, str]
WATCH_S: Final = 300
BACKOFF_BASE_S: Final = 0.2
BACKOFF_CAP_S: Final = 15.0
# Objects have some 10 KB, and a run with a thousand tasks has 150: what a page needs while it is parsed never goes back to the system.
PAGE_SIZE: Final = 100


def _nobody(_: "Iterable[Object]") -> "Iterable[str]":
    return ()


class Unfinished(NamedTuple):
    """Which objects are kept: those that have not come to their end.

    selector: the field selector that leaves finished ones out of lists. It may let some pass. The watch has no such selector: it would
        tell the end of an object as its deletion, with what it was before.
    is_over: whether an object has come to its end. It is final.
    waited_for: label selectors of objects whose end somebody waits for, given those that are known not to have come to it. Their
        end may have passed unseen, so it is looked for after each list, and when `look_back` is called.
    """

    selector: str
    is_over: Callable[[Object], bool]
    waited_for: Callable[[Iterable[Object]], Iterable[str]] = _nobody


class Reflector:
    """Reports ADDED, MODIFIED and DELETED to `on_change`, until it is cancelled.

    `on_change` must not block. If it raises, the object is forgotten, so that the next list reports it again.
    `synced` is set after the first complete list has been reported. What a missed deletion is reported with is what
    `keep` made of the object: its metadata at least. The rest need not stay in memory.

    `held`: report nothing until `resume`, but know everything by then. `wanted`: of other objects nothing is known or reported.
    `unfinished`: nothing of finished objects is kept. What is said of one later is reported as well, so it may be news or not.
    """

    def __init__(
        self,
        client: Client,
        kind: Kind,
        namespace: str | None = None,
        *,
        on_change: OnChange,
        label_selector: str | None = None,
        field_selector: str | None = None,
        resync_seconds: float = 300.0,
        keep: Callable[[Object], Object] = lambda item: item,
        held: bool = False,
        wanted: Callable[[Object], bool] = lambda item: True,
        unfinished: Unfinished | None = None,
    ) -> None:
        self._client = client
        self._kind = kind
        self._namespace = namespace
        self._watched = {"label_selector": label_selector, "field_selector": field_selector}
        both = [field_selector, unfinished.selector if unfinished is not None else None]
        self._listed = self._watched | {"field_selector": ",".join(filter(None, both)) or None}
        self._unfinished = unfinished
        self._on_change = on_change
        self._keep = keep
        self._held = held
        self._wanted = wanted
        self._resync_s = resync_seconds
        self._known: dict[Key, Object] = {}
        self._touched: list[
            set[Key]
        ] = []  # for each list beside the watch that is under way, what has changed since it began
        self._heard_at_s = time.monotonic()
        self.synced = asyncio.Event()

    @property
    def last_event_age(self) -> float:
        """Seconds since the server last said anything. Bookmarks come every minute, so minutes of silence are a fault."""
        return time.monotonic() - self._heard_at_s

    def resume(self) -> None:
        """Report what is known, as `keep` made it, and from now on every change."""
        if self._held:
            self._held = False
            for item in list(self._known.values()):
                self._tell("ADDED", item)

    async def take_in(self, namespace: str) -> None:
        """Report what is in a namespace that has become wanted.

        Raises:
            KubeError: it could not be listed. Changes are reported all the same; the next complete list brings the rest.
        """
        await self._list_beside(namespace, self._listed)

    async def look_back(self) -> None:
        """Report what somebody waits for and nobody has seen, finished or not.

        Raises:
            KubeError: it could not be listed. It is looked for again after the next complete list.
        """
        if self._unfinished is not None:
            for selector in self._unfinished.waited_for(self._known.values()):
                await self._list_beside(self._namespace, {**self._watched, "label_selector": selector})

    async def _list_beside(self, namespace: str | None, selectors: dict[str, str | None]) -> None:
        touched: set[Key] = set()
        self._touched.append(touched)
        try:
            items, _ = await self._client.list(self._kind, namespace, **selectors)
            for item in items:
                if self._wanted(item) and _key(item) not in touched:  # else the watch has said something newer
                    self._compare(item)
        finally:
            self._touched.remove(touched)

    def let_go(self) -> None:
        """Forget what is not wanted any more, without a word: it has not been deleted."""
        self._known = {key: item for key, item in self._known.items() if self._wanted(item)}

    def note(self, item: Object) -> None:
        """We have made this object ourselves. No news to report; but if the next list lacks it, it has been deleted.

        A watch that breaks at once, and for long enough, tells neither that it came nor that it went.
        """
        if self._wanted(item) and not (self._unfinished is not None and self._unfinished.is_over(item)):
            self._known.setdefault(_key(item), self._keep(item))

    async def run(self) -> None:
        """List and watch for ever. Only cancellation ends it."""
        failures = 0
        while True:
            try:
                resource_version = await self._list()
                failures = 0
                await self._follow(resource_version)
            except KubeError as error:
                failures += 1
                self._complain(error, failures)
                await asyncio.sleep(jittered_s(failures, base_s=BACKOFF_BASE_S, cap_s=BACKOFF_CAP_S))

    async def _list(self) -> str:
        """Compare everything with what is known, page by page: ten thousand whole objects at once are memory that never comes back."""
        known_before = set(self._known)
        listed: set[Key] = set()
        resource_version = ""
        try:
            async with aclosing(
                self._client.pages(self._kind, self._namespace, limit=PAGE_SIZE, **self._listed)
            ) as pages:
                async for items, resource_version in pages:  # noqa: B007 - the last one counts
                    listed |= self._take_page(items)
        except Gone:
            items, resource_version = await self._client.list(self._kind, self._namespace, **self._listed)
            listed = self._take_page(items)
        for key in known_before - listed:
            if (known := self._known.get(key)) is not None:
                await self._find_out(key, known)
        await self.look_back()
        self.synced.set()
        return resource_version

    async def _find_out(self, key: Key, known: Object) -> None:
        """Report what has become of an object that is not listed any more."""
        if self._unfinished is not None:
            try:
                found = await self._client.get(self._kind, key[1], key[0] or None)
            except NotFound:
                pass
            else:
                self._compare(found)
                return
        self._report("DELETED", known)

    def _take_page(self, items: Objects) -> set[Key]:
        self._heard_at_s = time.monotonic()
        wanted = [item for item in items if self._wanted(item)]
        for item in wanted:
            self._compare(item)
        return {_key(item) for item in wanted}

    def _compare(self, item: Object) -> None:
        """Report what a list says about one object, if that is news."""
        known = self._known.get(_key(item))
        if known is not None and known["metadata"].get("uid") != item["metadata"].get("uid"):
            self._report("DELETED", known)  # replaced by a namesake while nobody looked
            known = None
        if known is None:
            self._report("ADDED", item)
        elif known["metadata"].get("resourceVersion") != item["metadata"].get("resourceVersion"):
            self._report("MODIFIED", item)

    async def _follow(self, resource_version: str) -> None:
        """Watch until it is time for another list. Returns when it is, raises when the watch cannot go on."""
        list_again_at_s = time.monotonic() + self._resync_s
        failures = 0
        while (left_s := list_again_at_s - time.monotonic()) > 0:
            started_s = time.monotonic()
            try:
                watch = self._client.watch(
                    self._kind,
                    self._namespace,
                    resource_version=resource_version,
                    timeout_seconds=max(1, int(min(WATCH_S, left_s))),
                    **self._watched,
                )
                async with aclosing(watch) as stream:
                    async for event in stream:
                        failures = 0
                        resource_version = event.resource_version
                        self._take(event)
            except Gone:
                return  # no failure: etcd forgets old versions. The list that follows finds what was missed
            except ConnectionLost as error:
                failures += 1
                self._complain(error, failures)
            # Also after a clean end, if it came at once: a server that is going down ends watches as fast as it gets them.
            if failures or time.monotonic() - started_s < 1.0:
                await asyncio.sleep(jittered_s(max(1, failures), base_s=BACKOFF_BASE_S, cap_s=BACKOFF_CAP_S))

    def _take(self, event: WatchEvent) -> None:
        self._heard_at_s = time.monotonic()
        if event.type == "BOOKMARK" or not self._wanted(event.object):
            return
        if event.type == "DELETED":
            self._report("DELETED", event.object)
        else:
            self._compare(event.object)

    def _report(self, change: str, item: Object) -> None:
        item["metadata"].pop("managedFields", None)  # half of an object's bytes, and nobody here reads them
        key = _key(item)
        for touched in self._touched:
            touched.add(key)
        if change == "DELETED" or (self._unfinished is not None and self._unfinished.is_over(item)):
            self._known.pop(key, None)
        else:
            self._known[key] = self._keep(item)
        if not self._held:
            self._tell(change, item)

    def _tell(self, change: str, item: Object) -> None:
        try:
            self._on_change(change, item)
        except Exception:
            key = _key(item)
            self._known.pop(key, None)
            log.exception("handling %s of %s %s/%s failed", change, self._kind.kind, *key)

    def _complain(self, error: KubeError, failures: int) -> None:
        # The first cut is everyday life (an API server restarts); the log is for what lasts.
        level = logging.WARNING if failures in {3, 10} or failures % 50 == 0 else logging.DEBUG
        told = str(error)
        if isinstance(error, NotFound) and error.is_unknown_kind:
            told = f"the API server does not know {self._kind.plural}.{self._kind.group}: install its CustomResourceDefinition"
        log.log(level, "watching %s: %s (failure %d in a row; trying again)", self._kind.plural, told, failures)


def _key(item: dict[str, Any]) -> Key:
    metadata = item["metadata"]
    return metadata.get("namespace") or "", metadata["name"]
