"""One process of the operator in a fake cluster: the real controller, store, reflectors and decisions, with a work queue in the test's time."""

import asyncio
from collections.abc import Hashable
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from levada.kube import Invalid, KubeError
from levada.kube.watch import WatchEvent
from levada.operator.controller import Controller, Work
from levada.operator.definitions import WATCHED
from levada.operator.feeds import make_reflectors
from levada.operator.metrics import Metrics
from levada.operator.settings import OperatorSettings
from levada.operator.store import Key
from levada.resources.kinds import FLOW_RUNS, FLOWS, JOBS, PODS, Kind
from support.facts import SETTINGS, a_flow
from support.fake_cluster import FakeClient, FakeCluster

MASSES = (FLOW_RUNS, JOBS, PODS)
DEFINITIONS = tuple(kind for kind in WATCHED if kind != FLOWS)
KINDS = (*MASSES, *DEFINITIONS)
RETRY_S = 1.0


class VirtualQueue:
    """The work queue, in the time of the cluster."""

    working = 0

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self.ready: dict[Hashable, None] = {}
        self.due: dict[Hashable, datetime] = {}

    def __len__(self) -> int:
        return len(self.ready)

    def begin(self) -> None:
        pass

    def add(self, key: Hashable) -> None:
        self.ready[key] = None

    def add_after(self, key: Hashable, delay_s: float) -> None:
        at = self._cluster.now + timedelta(seconds=delay_s)
        self.due[key] = min(self.due.get(key, at), at)

    def take(self, which: int) -> Any:
        work = list(self.ready)[which % len(self.ready)]
        del self.ready[work]
        self.due.pop(work, None)
        return work

    def wake(self) -> None:
        for key in [key for key, at in self.due.items() if at <= self._cluster.now]:
            del self.due[key]
            self.add(key)


@cache
def metrics() -> Metrics:
    """One for all: nobody looks at them, and they take longer to make than all the rest."""
    return Metrics()


class OperatorProcess:
    """It knows what it lists when it starts, and nothing else. The Flow is there and judged; all else is in the cluster."""

    def __init__(
        self,
        cluster: FakeCluster,
        loop: asyncio.AbstractEventLoop,
        *,
        client: FakeClient | None = None,
        **settings: Any,
    ) -> None:
        self.cluster, self.client, self._loop = cluster, client or FakeClient(cluster), loop
        self.controller = Controller(
            self.client, OperatorSettings(decide=SETTINGS, **settings), metrics=metrics(), now=lambda: self.cluster.now
        )
        self.queue = self.controller.queue = VirtualQueue(cluster)
        self.store = self.controller.store
        self.store.flows.put(Key("ns", "f"), a_flow())
        self.reflectors = make_reflectors(self.controller)
        self.illegal: list[KubeError] = []
        self.unsure: set[Hashable] = set()  # work that has failed, and is to be tried again
        for kind in MASSES:
            self.list(kind)
        for reflector in self.reflectors.values():
            self._loop.run_until_complete(reflector.look_back())
        for kind in DEFINITIONS:
            self.list(kind)
        self.controller.start()

    def list(self, kind: Kind) -> None:
        """List a kind and take in the difference; what its watch had still to say is lost."""
        self.cluster.streams[kind].clear()
        if kind in MASSES:
            self._loop.run_until_complete(self.reflectors[kind.plural]._list())
        else:
            self._loop.run_until_complete(self.controller.definitions.list_all(kind, ()))

    def hear(self, kind: Kind, change: str, item: dict[str, Any]) -> None:
        """The watch of a kind says something."""
        if kind in MASSES:
            self.reflectors[kind.plural]._take(WatchEvent(change, item))
        else:
            self.controller.definitions.on_change(kind, change, item)

    def work(self, which: int = 0) -> Work | None:
        """Reconcile something that is ready. May raise OperatorKilled, as armed in the cluster."""
        if not self.queue.ready:
            return None
        work: Work = self.queue.take(which)
        self.unsure.discard(work)
        try:
            again_s = self._loop.run_until_complete(self.controller.reconcile(work))
        except KubeError as error:
            self.illegal += [error] if isinstance(error, Invalid) else []
            self.unsure.add(work)
            self.queue.add_after(work, RETRY_S)
        else:
            if again_s is not None:
                self.queue.add_after(work, again_s)
        return work

    def settle(self, rounds: int = 500) -> None:
        """Work until nothing is ready."""
        for _ in range(rounds):
            if self.work() is None:
                return
        raise AssertionError(f"work begets work: {list(self.queue.ready)}")


def would_write(cluster: FakeCluster, loop: asyncio.AbstractEventLoop, **settings: Any) -> list[Any]:
    """What an operator that has just started would write, Events aside: nothing, if the status of all is what it computes."""
    witness = FakeClient(cluster)
    witness.fenced = True
    streams = {kind: list(stream) for kind, stream in cluster.streams.items()}
    fresh = OperatorProcess(cluster, loop, client=witness, **settings)
    for kind, stream in streams.items():
        cluster.streams[kind].extend(stream)
    fresh.settle()
    return [wanted for wanted in witness.tried if wanted[0] != "Event"]
