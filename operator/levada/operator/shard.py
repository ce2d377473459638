"""Serving only the namespaces with a certain label: which they are at the moment, and what happens when one joins or leaves.

All shards watch the whole cluster and each drops what is not its own before it is kept: a watch for each namespace would
cost connections and memory, a foreign event costs its parsing. A namespace that joins is listed completely before anything
in it is decided, since a fact that is only missing looks like one that is not so. One that leaves is forgotten, not ended.
Two shards that believe in the same namespace for a moment do no harm: every write is guarded.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Final

from levada.kube import ApiError, Client, KubeError, Reflector
from levada.kube.retry import jittered_s
from levada.operator.controller import Controller
from levada.operator.definitions import WATCHED
from levada.resources.kinds import NAMESPACES

log = logging.getLogger(__name__)
RETRY_CAP_S: Final = 5.0


async def check_selector(client: Client, selector: str) -> None:
    """Ask the API server whether it understands the selector. One that is away is asked again by everybody who needs it.

    Raises:
        ApiError: it does not.
    """
    try:
        await client.list(NAMESPACES, label_selector=selector)
    except ApiError as error:
        if error.status == 400:
            raise ApiError(400, error.reason, f"--shard-selector {selector!r}: {error.message}") from None
    except KubeError:
        pass


class Shard:
    """Keeps a controller to the namespaces that a label selector chooses. Run `watch` and `run` as tasks.

    `known` is set once it is clear which namespaces are there: list nothing else before.
    """

    def __init__(self, controller: Controller, selector: str, *, resync_seconds: float) -> None:
        self.selector = selector
        self.known = asyncio.Event()
        self._controller = controller
        self._chosen: set[str] = set()  # what the labels say
        self._served: set[str] = set()  # what we do
        self._changed = asyncio.Event()
        self._reflector = Reflector(
            controller.client, NAMESPACES, on_change=self._on_namespace, label_selector=selector,
            resync_seconds=resync_seconds,
        )  # fmt: skip
        controller.serves = self.serves

    def serves(self, namespace: str) -> bool:
        """Whether the namespace is ours."""
        return namespace in self._served

    @property
    def namespaces(self) -> list[str]:
        """Those that are served."""
        return sorted(self._served)

    async def watch(self) -> None:
        """Follow the labels, for ever."""
        await self._reflector.run()

    async def run(self, reflectors: Iterable[Reflector]) -> None:
        """Follow the namespaces that come and go, for ever. `reflectors` in the order in which their objects are to be known."""
        await self._reflector.synced.wait()
        self._served = set(self._chosen)
        self.known.set()
        failures = 0
        while True:
            if self._served == self._chosen:
                await self._changed.wait()
            self._changed.clear()
            try:
                await self._catch_up(list(reflectors))
                failures = 0
            except KubeError as error:
                failures += 1
                log.warning("taking a namespace over: %s (trying again)", error)
                await asyncio.sleep(jittered_s(failures, base_s=0.2, cap_s=RETRY_CAP_S))

    def _on_namespace(self, change: str, body: Any) -> None:
        name = body["metadata"]["name"]
        if change == "DELETED":
            self._chosen.discard(name)
        else:
            self._chosen.add(name)
        self._changed.set()

    async def _catch_up(self, reflectors: list[Reflector]) -> None:
        for namespace in sorted(self._served - self._chosen):
            self._served.discard(namespace)
            for reflector in reflectors:
                reflector.let_go()
            self._controller.let_go(namespace)
            log.info("namespace %s has left %s", namespace, self.selector)
        for namespace in sorted(self._chosen - self._served):
            await self._join(namespace, reflectors)
            log.info("namespace %s has joined %s", namespace, self.selector)

    async def _join(self, namespace: str, reflectors: list[Reflector]) -> None:
        self._controller.joining.add(namespace)
        self._served.add(namespace)
        try:
            for kind in WATCHED:
                await self._controller.definitions.list_all(kind, (namespace,))
            for reflector in reflectors:
                await reflector.take_in(namespace)
            for reflector in reflectors:
                await reflector.look_back()
        except BaseException:
            # Not served before it is known: the next look begins anew.
            self._served.discard(namespace)
            self._controller.let_go(namespace)
            for reflector in reflectors:
                reflector.let_go()
            raise
        self._controller.settle(namespace)
