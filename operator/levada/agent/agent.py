"""The agent: puts the node, the log endpoint and one worker per pod together, and takes them apart again.

What happens when:
- the API server is away: containers run on, their ends are on disk, statuses are sent when it is back.
- the agent is killed: the shims run on; the next agent of this name finds them.
- the agent is stopped (SIGTERM): the same, but the node says at once that it is not ready. Containers are not stopped:
  restarting an agent for an update must not cost anybody hours of work. `--on-stop` says otherwise.
- the machine dies: Kubernetes' node life cycle marks the node and deletes its pods.
"""

import asyncio
import hashlib
import json
import logging
import os
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from levada.agent import admission, capacity, certificates, drain, node, processes, shim
from levada.agent.admission import Pod, Refusal
from levada.agent.clock import Clock
from levada.agent.folder import PodFolder
from levada.agent.heartbeat import Heartbeat
from levada.agent.launch import Machine
from levada.agent.limits import Limits
from levada.agent.locks import one_agent
from levada.agent.reports import EventRecorder
from levada.agent.server import LogServer, LogSource
from levada.agent.settings import OnStop, Settings
from levada.agent.worker import PodWorker, Services
from levada.kube import Client, Forbidden, Invalid, KubeError, Reflector, Unauthorized
from levada.kube.retry import jittered_s
from levada.resources.kinds import PODS

log = logging.getLogger(__name__)

FAREWELL_S: Final = 3.0
REFUSED_S: Final = 10.0
WIND_DOWN_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Report:
    """What an agent that has stopped leaves behind."""

    running: tuple[str, ...]  # namespace/name of pods whose processes run on


@dataclass(frozen=True, slots=True)
class Ready:
    """What there is to say of an agent that has begun its work."""

    port: int  # of the log endpoint
    queues: tuple[str, ...]
    limits: str


class Agent:
    """One node. `run` ends when `stop` is called."""

    def __init__(self, client: Client, settings: Settings, clock: Clock) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        self._winding_down: asyncio.Task[None] | None = None
        self._services: Services | None = None
        self._heartbeat: Heartbeat | None = None
        # Pods that a former agent left and that no worker looks after yet: they hold their places all the same.
        self._inherited: dict[str, Pod] = {}

    def stop(self) -> None:
        """Ask the agent to end, as `--on-stop` says; asked again, it ends at once. What has not ended then runs on."""
        if self._settings.on_stop is OnStop.LEAVE or self._winding_down or self._services is None:
            self._stopping.set()
            return
        log.info("stopping (%s); stop again to leave the flow runs running", self._settings.on_stop)
        self._winding_down = asyncio.create_task(self._wind_down())

    async def run(self, on_ready: Callable[[Ready], None]) -> Report:
        """Register, work until stopped, say farewell. `on_ready` gets what there is to say then.

        Raises:
            SettingsError: another agent has this name.
        """
        settings = self._settings
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with one_agent(settings.state):
            pods = settings.state / "pods"
            pods.mkdir(mode=0o700, exist_ok=True)
            tls = certificates.server_context(settings.state, settings.name, self._client.connection.ca_pem)
            server = LogServer(self._client, settings.name, tls, self._find_log)
            events = EventRecorder(self._client, settings.name, self._clock)
            port = await server.start()
            facts = self._find_facts()
            heartbeat = self._heartbeat = Heartbeat(self._client, facts, self._clock, port=port)
            self._services = self._make_services(facts, events, pods)
            self._inherited = _left_running(pods)
            try:
                await self._register(heartbeat)
                await self._work(heartbeat, lambda: on_ready(Ready(port, heartbeat.queues, facts.limits.name)))
            finally:
                await self._finish(heartbeat, events, server)
        return Report(self._running())

    def _running(self) -> tuple[str, ...]:
        return tuple(worker.name for worker in self._workers.values() if worker.holds_a_place)

    def _find_facts(self) -> node.Facts:
        settings = self._settings
        # By the folder, so that a new agent with this folder knows the groups of the one before.
        tag = hashlib.sha256(str(settings.state).encode()).hexdigest()[:8]
        limits = Limits.find(settings.limits, settings.cgroup_parent, tag)
        if limits.why_not:
            log.warning("limits are kept by sampling only: %s", limits.why_not)
        return node.Facts(settings, _instance(settings.state), limits, capacity.measure(settings))

    def _make_services(self, facts: node.Facts, events: EventRecorder, pods: Path) -> Services:
        address = urlsplit(self._client.connection.server)
        machine = Machine(
            own_environment=dict(os.environ),
            interpreter=Path(sys.executable),
            root=self._settings.root,
            state=self._settings.state,
            api_host=address.hostname or "",
            api_port=address.port or (443 if address.scheme == "https" else 80),
        )
        return Services(
            client=self._client,
            machine=machine,
            allocatable=facts.capacity.allocatable,
            events=events,
            pods=pods,
            image_id=node.image_id(),
            refuse=self._refusal,
            limits=facts.limits,
            clock=self._clock,
            max_log_bytes=self._settings.max_log_bytes,
        )

    async def _register(self, heartbeat: Heartbeat) -> None:
        """Register, however long the API server is away; a refusal that lasts ends the agent.

        Not at once: an API server that has just started does not know its own default roles yet.
        """
        failures = 0
        refused_until_s = asyncio.get_running_loop().time() + REFUSED_S
        while not self._stopping.is_set():
            try:
                await heartbeat.register()
                return
            except KubeError as error:
                failures += 1
                is_refused = isinstance(error, Unauthorized | Forbidden | Invalid)
                if is_refused and asyncio.get_running_loop().time() > refused_until_s:
                    raise
                if failures in {1, 10}:
                    log.warning("cannot register node %s: %s (trying again)", self._settings.name, error)
                await self._pause(jittered_s(failures, base_s=0.2, cap_s=5.0))

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    async def _announce(self, heartbeat: Heartbeat, on_ready: Callable[[], None]) -> None:
        try:
            await heartbeat.schedulable()
        except KubeError as error:
            log.warning("node %s: %s", self._settings.name, error)
        on_ready()

    async def _work(self, heartbeat: Heartbeat, on_ready: Callable[[], None]) -> None:
        reflector = Reflector(
            self._client, PODS, on_change=self._on_pod, field_selector=f"spec.nodeName={self._settings.name}"
        )
        tasks = [
            asyncio.create_task(heartbeat.run(self._stopping.is_set)),
            asyncio.create_task(reflector.run()),
            asyncio.create_task(self._adopt_orphans(reflector)),
            asyncio.create_task(self._announce(heartbeat, on_ready)),
        ]
        stopped: asyncio.Task[Any] = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([stopped, *tasks[:2]], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks[:2]:
                if task.done() and not self._stopping.is_set():
                    task.result()  # they run for ever: the exception says why not
        finally:
            for task in (*tasks, stopped):
                task.cancel()
            await asyncio.gather(*tasks, stopped, return_exceptions=True)

    async def _finish(self, heartbeat: Heartbeat, events: EventRecorder, server: LogServer) -> None:
        """Stop looking after the pods, without touching their processes."""
        try:
            async with asyncio.timeout(FAREWELL_S):
                running = self._running()
                await heartbeat.farewell(
                    f"the agent was stopped; {len(running)} flow runs go on without it"
                    if running
                    else "the agent was stopped"
                )
                await asyncio.gather(*(worker.delivered() for worker in self._workers.values() if worker.finished))
        except (KubeError, TimeoutError) as error:
            log.warning("the API server does not know yet that the agent has stopped: %s", error or "no answer")
        tasks = [*self._tasks.values(), *([self._winding_down] if self._winding_down else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await events.stop()
        await server.stop()

    async def _wind_down(self) -> None:
        """Take no more pods, see those off that are here, then end."""
        while True:
            try:
                await drain.cordon_until_restart(self._client, self._settings.name)
                break
            except KubeError as error:
                log.warning("cannot cordon node %s: %s (trying again)", self._settings.name, error)
                await asyncio.sleep(1.0)
        held = [worker for worker in self._workers.values() if worker.holds_a_place]
        log.info("%s %d flow runs", "evicting" if self._settings.on_stop is OnStop.DRAIN else "waiting for", len(held))
        if self._settings.on_stop is OnStop.DRAIN:
            await asyncio.gather(*(drain.evict_surely(self._client, worker.pod) for worker in held))
        await self._emptied()
        self._stopping.set()

    async def _emptied(self) -> None:
        """Return when no pod holds a place."""
        while self._running():  # noqa: ASYNC110 - the folders say it, and they send no events
            await asyncio.sleep(WIND_DOWN_POLL_S)

    # --- pods ----------------------------------------------------------------------------------------------------------

    def _on_pod(self, change: str, pod: dict[str, Any]) -> None:
        uid = pod["metadata"]["uid"]
        worker = self._workers.get(uid)
        if change == "DELETED":
            if worker:
                worker.forget()
        elif worker:
            worker.update(pod)
        else:
            self._employ(pod)

    def _employ(self, pod: Pod, *, gone: bool = False) -> None:
        assert self._services is not None
        uid = pod["metadata"]["uid"]
        self._inherited.pop(uid, None)
        worker = PodWorker(pod, self._services)
        if gone:
            worker.forget()
        self._workers[uid] = worker
        task = asyncio.create_task(worker.run())
        self._tasks[uid] = task
        task.add_done_callback(lambda _: self._dismiss(uid))

    def _dismiss(self, uid: str) -> None:
        if not self._stopping.is_set():
            self._workers.pop(uid, None)
            self._tasks.pop(uid, None)

    async def _adopt_orphans(self, reflector: Reflector) -> None:
        """Pods that were deleted from the API server while no agent ran: end what still runs, and clear away."""
        assert self._services is not None
        await reflector.synced.wait()
        for path in sorted(self._services.pods.iterdir()):
            if path.name in self._workers:
                continue
            folder = PodFolder(self._services.pods, path.name)
            accepted = folder.accepted()
            if accepted:
                log.info(
                    "pod %s is gone from the API server: ending what is left of it", accepted["pod"]["metadata"]["name"]
                )
                self._employ(accepted["pod"], gone=True)
            else:
                await asyncio.to_thread(folder.remove)
        await asyncio.to_thread(self._end_strays)

    def _end_strays(self) -> None:
        """Processes of this agent that stand in no pod's folder: the folder was lost while they ran."""
        assert self._services is not None
        groups = self._services.limits.release_strays(self._workers.__contains__)
        killed = processes.kill_unowned(self._settings.state, self._workers.__contains__)
        if groups or killed:
            log.warning("ended what nobody owned any more: %d processes, %d control groups", killed, len(groups))

    def _refusal(self, pod: Pod) -> Refusal | None:
        assert self._services is not None
        held = [worker.pod for worker in self._workers.values() if worker.holds_a_place]
        room = admission.Room(
            max_pods=self._settings.max_pods,
            allocatable=self._services.allocatable,
            held=(*held, *self._inherited.values()),
            disk_problem=capacity.disk(self._settings.state).problem,
            stopping=self._winding_down is not None,
        )
        found = admission.refusal(pod, room)
        if found and found.reason == admission.OUT_OF_DISK and self._heartbeat:
            self._heartbeat.hurry()  # so that the scheduler sends the next ones elsewhere
        return found

    def _find_log(self, namespace: str, pod: str, container: str) -> LogSource | None:
        for worker in reversed(self._workers.values()):
            metadata = worker.pod["metadata"]
            if (metadata["namespace"], metadata["name"]) == (namespace, pod) and worker.folder.exists:
                if container != worker.pod["spec"]["containers"][0]["name"]:
                    return None
                return LogSource(worker.folder.paths.log, worker.has_ended)
        return None


def _left_running(pods: Path) -> dict[str, Pod]:
    """The pods in the state folder whose containers have not ended, as far as is known."""
    found = {}
    for path in pods.iterdir():
        folder = PodFolder(pods, path.name)
        accepted = folder.accepted()
        if accepted and folder.exit() is None:
            found[path.name] = accepted["pod"]
    return found


def _instance(state: Path) -> str:
    """Tells this state folder from any other: two machines must not share a node's name."""
    path = state / "instance.json"
    found = shim.read_json(str(path)) if path.exists() else None
    if not found:
        found = {"instance": secrets.token_hex(8)}
        shim.write_file(str(path), json.dumps(found).encode())
    return str(found["instance"])
