"""A Dask cluster whose workers are pods that the operator makes for the run: the scheduler is in the run's own process.

To the operator a worker is a call in a pod like any other (pods.py): the call is `serve`, which is a Dask worker until it is told to
end. Dask's own `SpecCluster` decides how many there are, so `n_workers`, `scale` and `adapt` mean what they always mean. A pod that
ends unasked is replaced under the same name; while it is away, Dask gives its work to the others.
"""
# mypy: allow-untyped-calls
# distributed has no types.

import asyncio
import logging
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import dask.config
from distributed.deploy.cluster import Cluster
from distributed.deploy.spec import ProcessInterface, SpecCluster
from distributed.scheduler import Scheduler
from distributed.security import Security

from levada.engine.remote import RemoteCall, logs, packing
from levada.engine.remote.pods import PodAsk, PodEnd, Pods
from levada.engine.tracebacks import summary
from levada.exceptions import LevadaError, OptionError

if TYPE_CHECKING:
    from levada.task_runners import DaskTaskRunner

log = logging.getLogger("levada.dask")

# A worker whose scheduler has gone waits so long for it to come back.
_DEATH_SECONDS: Final = 60
# Between the end of a pod and the request for the next one.
_REPLACE_AFTER_SECONDS: Final = 1.0
# Pods of one worker that may end before one of them has worked for a while.
_MOST_QUICK_ENDS: Final = 5
_LONG_LIFE_SECONDS: Final = 120.0
_WORKER_OPTIONS: Final = {"threads_per_worker": "nthreads", "memory_limit": "memory_limit"}


def start_pod_cluster(runner: "DaskTaskRunner", pods: Pods) -> "PodCluster":
    """The cluster that a runner with `kubernetes` describes.

    Raises:
        OptionError: `cluster_kwargs` holds something unknown, or the scheduler does not start.
    """
    options = dict(runner.cluster_kwargs)
    count = options.pop("n_workers", 0 if runner.adapt_kwargs else 2)
    unknown = sorted(set(options) - set(_WORKER_OPTIONS))
    if unknown:
        raise OptionError(
            f"DaskTaskRunner: with kubernetes, cluster_kwargs takes n_workers, {', '.join(_WORKER_OPTIONS)}, not {unknown[0]!r}"
        )
    worker = {_WORKER_OPTIONS[name]: value for name, value in options.items()}
    try:
        # A pod that is lost is nobody's failure: its tasks go to other workers, as often as infrastructureRetries say.
        with dask.config.set({"distributed.scheduler.allowed-failures": pods.retries}):
            return PodCluster(pods, runner.kubernetes or {}, count, worker)
    except LevadaError:
        raise
    except Exception as error:
        raise OptionError(f"DaskTaskRunner: the scheduler does not start: {summary(error)}") from error


class PodCluster(SpecCluster):
    """A cluster of pods. `trouble`: why no worker is to be had any more; empty while there is hope."""

    def __init__(self, pods: Pods, wishes: Mapping[str, Any], count: int, worker: dict[str, Any]) -> None:
        self.trouble = ""
        security = Security.temporary() if find_spec("cryptography") else Security()
        options = {"pods": pods, "wishes": wishes, "worker": worker, "security": security, "on_trouble": self._fail}
        spec = {"cls": PodWorker, "options": options}
        super().__init__(
            workers=dict.fromkeys(range(count), spec),
            scheduler={
                "cls": Scheduler,
                "options": {
                    "host": pods.host,
                    "port": 0,
                    "dashboard": False,
                    "security": security,
                    "protocol": "tls://" if security.require_encryption else "tcp://",
                },
            },
            worker=spec,
            security=security,
            name="levada",
            silence_logs=logging.WARNING,
        )

    def _fail(self, why: str) -> None:
        self.trouble = why

    def _update_worker_status(self, op: str, msg: Any) -> None:
        """News of a worker. SpecCluster gives up one that has been away for long; here it is replaced by whoever asked for its pod."""
        Cluster._update_worker_status(self, op, msg)


class PodWorker(ProcessInterface):
    """One worker of the cluster, in one pod after the other."""

    def __init__(
        self,
        scheduler: str,
        name: Any = None,
        *,
        pods: Pods,
        wishes: Mapping[str, Any],
        worker: Mapping[str, Any],
        security: Any,
        on_trouble: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(scheduler=scheduler, name=name)
        self._scheduler = scheduler
        self._worker_name = name
        self._pods = pods
        self._wishes = wishes
        self._worker = worker
        self._security = security
        self._on_trouble = on_trouble
        self._ask: PodAsk | None = None
        self._closing = False
        self._quick_ends = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked_at = 0.0

    async def start(self) -> None:
        """Ask for a pod. It registers with the scheduler when it has started."""
        self._loop = asyncio.get_running_loop()
        await self._order()
        await super().start()

    async def _order(self) -> None:
        assert self._loop is not None
        settings = {"name": self._worker_name, "security": self._security, **self._worker}
        call = RemoteCall(serve, (self._scheduler,), settings, f"dask-worker-{self._worker_name}", "dask-worker")
        payload = packing.pack_call(call, logs.levels())
        try:
            ask = await asyncio.to_thread(self._pods.ask, payload, self._wishes, f"Dask worker {self._worker_name}")
        except Exception as error:
            self._on_trouble(summary(error))
            raise
        self._asked_at = self._loop.time()
        if self._closing:
            ask.release()
            return
        self._ask = ask
        ask.when_done(self._on_end)

    def _on_end(self, end: PodEnd) -> None:
        """From the thread that learns of it."""
        if self._loop is not None and not self._closing and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._replace, end)

    def _replace(self, end: PodEnd) -> None:
        """The pod has ended unasked: the next one takes its place, unless that is in vain."""
        if self._closing or self._loop is None:
            return
        if self._ask is not None:
            self._ask.release()
        lived_s = self._loop.time() - self._asked_at
        self._quick_ends = self._quick_ends + 1 if lived_s < _LONG_LIFE_SECONDS and not end.lost else 0
        if end.refused or self._quick_ends > _MOST_QUICK_ENDS:
            self._on_trouble(end.why)
            return
        log.warning("Dask worker %s has ended, and is replaced: %s", self._worker_name, end.why or "its process ended")
        self._loop.call_later(_REPLACE_AFTER_SECONDS, lambda: asyncio.ensure_future(self._again()))

    async def _again(self) -> None:
        if self._closing:
            return
        try:
            await self._order()
        except Exception as error:  # noqa: BLE001  the cluster has been told, and tells those who wait
            log.warning("Dask worker %s is not replaced: %s", self._worker_name, summary(error))

    async def close(self) -> None:
        """Let the pod go."""
        self._closing = True
        if self._ask is not None:
            await asyncio.to_thread(self._ask.release)
        await super().close()


def serve(scheduler: str, *, name: Any, security: Any, **options: Any) -> None:
    """Be a worker of this scheduler until it, or the node, says that it is enough."""
    asyncio.run(_serve(scheduler, name, security, options))


async def _serve(scheduler: str, name: Any, security: Any, options: dict[str, Any]) -> None:
    import signal

    from distributed import Worker

    worker = Worker(scheduler, name=name, security=security, death_timeout=_DEATH_SECONDS, dashboard=False, **options)
    async with worker:
        loop = asyncio.get_running_loop()
        going: set[asyncio.Future[Any]] = set()

        def leave() -> None:
            going.add(asyncio.ensure_future(worker.close(reason="its pod is to end")))

        loop.add_signal_handler(signal.SIGTERM, leave)
        await worker.finished()
