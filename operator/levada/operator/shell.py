"""The operator process: kopf's life cycle and watches, our reflectors and workers, metrics; all of it or none.

kopf feeds the few definitions (Flow, Deployment, WorkQueue, Schedule) and gives the process its life cycle. It
writes nothing: only on.event is used, so no finalizer and no annotation of kopf's ever lands on an object. The three kinds
that come in masses go through levada.kube.Reflector (feeds.py), which costs a tenth per event and leaves finished runs on the server.
"""

import asyncio
import contextlib
import gc
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import aiohttp

from levada.kube import Client, KubeError, LeadershipLost, Reflector, config
from levada.kube.ratelimit import WriteLimiter
from levada.kube.version import check_version
from levada.operator.controller import Controller
from levada.operator.definitions import WATCHED
from levada.operator.election import Leadership, WriteGate, leadership
from levada.operator.feeds import make_reflectors
from levada.operator.health import Health
from levada.operator.history import HistoryKeeper
from levada.operator.lean_kopf import kopf
from levada.operator.metrics import Metrics
from levada.operator.notifications import WORKERS as NOTIFIERS
from levada.operator.pages import Pages, served
from levada.operator.rights import Rights
from levada.operator.settings import OperatorSettings
from levada.operator.shard import Shard, check_selector
from levada.operator.state import state_of
from levada.resources.kinds import Kind
from levada.resources.names import GROUP, VERSION

log = logging.getLogger(__name__)

USER_AGENT: Final = "levada-operator"
# kopf has run well for so long: its next failure is the first of a new series.
STEADY_S: Final = 60.0


@dataclass(slots=True)
class Moments:
    """What the parts of the process wait for.

    known: it is clear which namespaces are served. started: everything has been listed, and we lead.
    relist: kopf may have missed something.
    """

    known: asyncio.Event = field(default_factory=asyncio.Event)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    relist: asyncio.Event = field(default_factory=asyncio.Event)
    asked_to_stop: asyncio.Event = field(default_factory=asyncio.Event)
    kopf_may_end: asyncio.Event = field(default_factory=asyncio.Event)


async def serve(settings: OperatorSettings, *, on_ready: Callable[[], None] = lambda: None) -> None:
    """Run until SIGTERM or SIGINT, or until a part of it fails; then all of it ends, and whoever started it starts it anew.

    Raises:
        TooOldError: the cluster is too old for Levada.
        LeadershipLost: it led and may lead no longer. Nothing of it may go on: start it anew.
        ExceptionGroup: a part failed.
    """
    metrics = Metrics(deployments=settings.metrics_deployments, exemplars=settings.metrics_exemplars)
    connection = config.load(settings.kubeconfig, settings.context)
    rights, rate = Rights(), settings.writes_per_second
    async with leadership(connection, settings.election, user_agent=USER_AGENT) as (leader, fence):
        gate = WriteGate(fence, WriteLimiter(rate, 2 * rate) if rate else None)
        async with Client(
            connection,
            user_agent=USER_AGENT,
            on_request=metrics.on_request,
            before_write=gate.admit,
            on_refused=rights.on_refused,
        ) as client:
            await check_version(client)
            if settings.shard_selector:
                await check_selector(client, settings.shard_selector)
            controller = Controller(client, settings, metrics=metrics)
            reflectors = make_reflectors(controller)
            health = Health(controller, reflectors, leader, rights)
            pages = Pages(asyncio.get_running_loop(), metrics, health.facts, settings.patience)
            metrics.observe_state(lambda: pages.read(lambda: state_of(controller, reflectors)))
            metrics.leader.set_function(lambda: leader.leading)
            metrics.missing_rights.set_function(lambda: pages.read(lambda: len(rights.missing())))
            with served(pages, settings.metrics_address):
                async with controller.notifier.sender:
                    await _serve_as(leader, controller, reflectors, on_ready)


async def _serve_as(
    leader: Leadership, controller: Controller, reflectors: dict[str, Reflector], on_ready: Callable[[], None]
) -> None:
    """Run all parts, and resign when nothing that writes is left of them, however they ended."""
    try:
        await _run_all(leader, controller, reflectors, on_ready)
    except* LeadershipLost as lost:
        raise lost.exceptions[0] from None
    finally:
        await leader.resign()


async def _run_all(
    leader: Leadership, controller: Controller, reflectors: dict[str, Reflector], on_ready: Callable[[], None]
) -> None:
    """One failure ends everything: half an operator would look alive.

    A standby has warm caches and idle workers: definitions are in the store, the reflectors hold back what they know.
    """
    moments = Moments()
    parts: list[asyncio.Task[None]] = []
    try:
        async with asyncio.TaskGroup() as group:
            # Whatever task exists before kopf starts, kopf leaves alone when it stops; later ones it waits for, and then cancels.
            parts.extend((group.create_task(leader.run()), group.create_task(leader.watch())))
            if controller.settings.shard_selector:
                shard = Shard(
                    controller, controller.settings.shard_selector, resync_seconds=controller.settings.relist_s
                )
                moments.known = shard.known
                parts.extend((group.create_task(shard.watch()), group.create_task(shard.run(reflectors.values()))))
            else:
                moments.known.set()
            parts.extend(
                group.create_task(_once(moments.known, reflector.run), name=name)
                for name, reflector in reflectors.items()
            )
            parts.extend(
                group.create_task(_once(moments.started, controller.work), name=f"worker-{number}")
                for number in range(controller.settings.workers)
            )
            parts.append(group.create_task(_once(moments.started, controller.schedules.watch_clock), name="clock"))
            notifier = controller.notifier
            parts.extend(
                group.create_task(_once(moments.started, each), name="notifications")
                for each in (notifier.look_back, *[notifier.work] * NOTIFIERS)
            )
            parts.append(group.create_task(controller.herald.run(), name="events"))
            history = HistoryKeeper(controller)
            parts.append(group.create_task(_once(moments.started, history.run), name="history"))
            parts.append(group.create_task(_start_when_elected(leader, controller, reflectors, on_ready, moments)))
            group.create_task(_stop_in_order(moments, parts, leader))
            await run_kopf(controller, moments)
    finally:
        controller.queue.close()
        controller.notifier.close()


async def _stop_in_order(moments: Moments, parts: list[asyncio.Task[None]], leader: Leadership) -> None:
    """First whatever writes, then the lease, so that the next operator begins at once; kopf, which takes its time, last."""
    await moments.asked_to_stop.wait()
    for part in parts:
        part.cancel()
    await asyncio.gather(*parts, return_exceptions=True)
    await leader.resign()
    moments.kopf_may_end.set()


async def _once(started: asyncio.Event, work: Callable[[], Awaitable[None]]) -> None:
    await started.wait()
    await work()


async def _start_when_elected(
    leader: Leadership,
    controller: Controller,
    reflectors: dict[str, Reflector],
    on_ready: Callable[[], None],
    moments: Moments,
) -> None:
    """Let the workers begin when we lead and everything has been listed, then keep comparing with fresh lists."""
    await leader.elected.wait()
    for reflector in reflectors.values():
        reflector.resume()
    for reflector in reflectors.values():
        await reflector.synced.wait()
    for name, reflector in reflectors.items():
        await _insist(f"looking for ended {name}", reflector.look_back)
    await _list_definitions(controller)
    controller.start()
    _calm_collector()
    moments.started.set()
    log.info(
        "watching %s: %d unfinished runs, %d deployments, %d flows",
        ", ".join(controller.settings.namespaces) or controller.settings.shard_selector or "all namespaces",
        len(controller.store.runs), len(controller.store.deployments), len(controller.store.flows),
    )  # fmt: skip
    on_ready()
    while True:
        await _wait(moments.relist, controller.settings.relist_s)
        moments.relist.clear()
        await _list_definitions(controller)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Until the event, or so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _calm_collector() -> None:
    """Keep the cyclic garbage collector from walking what will stay: a full walk stops every worker for some 100 ms.

    What comes and goes are trees of the API's JSON, which reference counting frees without it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def _list_definitions(controller: Controller) -> None:
    for kind in WATCHED:
        await _insist(
            f"listing {kind.plural}", partial(controller.definitions.list_all, kind, controller.settings.namespaces)
        )


async def _insist(what: str, read: Callable[[], Awaitable[None]]) -> None:
    """Read from the API server, which may be away, or not have the CRDs yet."""
    delay_s = 0.5
    while True:
        try:
            return await read()
        except KubeError as error:
            log.warning("%s: %s; again in %.1f s", what, error, delay_s)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, 15.0)


# --- kopf --------------------------------------------------------------------------------------------------------------


async def run_kopf(controller: Controller, moments: Moments) -> None:
    """Kopf's part, until `kopf_may_end`. SIGTERM and SIGINT set `asked_to_stop`: what comes between the two is ours.

    kopf gives up on errors that pass: a watch broken by a restarting etcd, a list refused while RBAC is being loaded. So it is
    started again; what it missed meanwhile, its own first list and ours report.
    """
    settings = controller.settings
    failures = 0
    _take_signals(moments)
    await _wait_for_kinds(controller.client, moments)
    while not moments.kopf_may_end.is_set():
        started_s = time.monotonic()
        try:
            ours = asyncio.all_tasks()
            tasks = await kopf.spawn_tasks(
                registry=make_registry(controller),
                settings=kopf_settings(),
                standalone=True,
                clusterwide=not settings.namespaces,
                namespaces=settings.namespaces,
                stop_flag=moments.kopf_may_end,
            )
            _take_signals(moments)  # kopf has set handlers of its own
            await kopf.run_tasks(tasks, ignored=ours)
        except Exception as error:  # noqa: BLE001 - whatever stopped the watches, they must go on
            failures = 1 if time.monotonic() - started_s > STEADY_S else failures + 1
            delay_s = min(0.5 * 2.0 ** min(failures - 1, 10), 15.0)
            log.warning("kopf stopped (%s: %s); starting it again in %.1f s", type(error).__name__, error, delay_s)
            await _wait(moments.kopf_may_end, delay_s)
            moments.relist.set()
        else:
            return


def _take_signals(moments: Moments) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, moments.asked_to_stop.set)


async def _wait_for_kinds(client: Client, moments: Moments) -> None:
    """Until the API server serves all kinds: kopf asks for them once, at its start, and would never watch one that comes later.

    Whoever applies everything at once, as GitOps does, may start the operator before its definitions.
    """
    told = False
    while not moments.kopf_may_end.is_set():
        missing = sorted({kind.plural for kind in WATCHED} - await _served_kinds(client))
        if not missing:
            return
        if not told:
            log.warning("the API server does not serve %s yet: apply crds/, or install the chart with crds.enabled", ", ".join(missing))  # fmt: skip
        told = True
        await _wait(moments.kopf_may_end, 0.5)


async def _served_kinds(client: Client) -> set[str]:
    """The plurals that the API server tells of where kopf looks; none when it cannot be asked now."""
    try:
        groups = await client.request("GET", "/apis")
        if not any(group["name"] == GROUP for group in groups["groups"]):
            return set()
        return {each["name"] for each in (await client.request("GET", f"/apis/{GROUP}/{VERSION}"))["resources"]}
    except KubeError:
        return set()


class NoDifferences(kopf.DiffBaseStorage):
    """Keeps kopf from copying each object, code and ledger with it, for the differences that handlers of on.update ask for."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Nothing is worth a comparison."""
        return kopf.BodyEssence({})

    def fetch(self, **_: Any) -> None:
        """Nothing was kept."""

    def store(self, **_: Any) -> None:
        """Keep nothing."""


def kopf_settings() -> kopf.OperatorSettings:
    """Kopf as a watcher only: it logs nothing into the cluster and puts nothing on objects."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.persistence.diffbase_storage = NoDifferences()
    # A worker of kopf's stays with its object for this long after an event: a limit would make other objects wait for it.
    settings.queueing.idle_timeout = 0.5
    # A watch that was refused is tried again soon: by default the pauses grow to half a minute, in which nobody hears of changes.
    settings.networking.error_backoffs = (0.2, 0.5, 1.0, 2.0, *[3.0] * 6)
    return settings


def make_registry(controller: Controller) -> kopf.OperatorRegistry:
    """The handlers: log in as our own client does, and pass on what changes."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return await kopf_session(controller.client)

    for kind in WATCHED:
        _watch(registry, controller, kind)
    return registry


def _watch(registry: kopf.OperatorRegistry, controller: Controller, kind: Kind) -> None:
    @kopf.on.event(kind.group, kind.version, kind.plural, id=f"watch-{kind.plural}", registry=registry)
    async def on_event(event: Any, **_: Any) -> None:
        # A coroutine, though it awaits nothing: kopf calls a plain function in a thread, and the store belongs to the loop.
        controller.definitions.on_change(kind, event["type"] or "ADDED", event["object"])


async def kopf_session(client: Client) -> kopf.AiohttpSession:
    """Our own connection for kopf. It asks again when the API server answers 401."""
    connection = client.connection
    connection.credentials.forget()
    header = await connection.credentials.header()
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=connection.tls if connection.tls is not None else True, limit=0),
        headers={"User-Agent": f"{USER_AGENT} kopf", **({"Authorization": header} if header else {})},
        proxy=connection.proxy,
    )
    return kopf.AiohttpSession(
        server=connection.server, default_namespace=connection.namespace, aiohttp_session=session
    )
