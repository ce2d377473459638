"""The agent: puts the node, the log endpoint and one worker per pod together, and takes them apart again.

What happens when:
- the API server is away: containers run on, their ends are on disk, statuses are sent when it is back.
- the agent is killed: the shims run on; the next agent of this name finds them.
- the agent is stopped (SIGTERM): the same, but the node says at once that it is not ready. Containers are not stopped:
  restarting an agent for an update must not cost anybody hours of work. `kubectl drain NODE` first if it should.
- the machine dies: Kubernetes' node life cycle marks the node and deletes its pods.
"""

import asyncio
import json
import logging
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from levada.agent import admission, certificates, node, shim
from levada.agent.admission import Refusal
from levada.agent.folder import PodFolder
from levada.agent.heartbeat import Heartbeat
from levada.agent.launch import Machine
from levada.agent.locks import one_agent
from levada.agent.reports import EventRecorder
from levada.agent.server import LogServer, LogSource
from levada.agent.settings import Settings
from levada.agent.worker import PodWorker, Services
from levada.kube import Client, Forbidden, Invalid, KubeError, Reflector, Unauthorized
from levada.kube.retry import jittered_s
from levada.resources.kinds import PODS

log = logging.getLogger(__name__)

FAREWELL_S: Final = 3.0
REFUSED_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Report:
    """What an agent that has stopped leaves behind."""

    running: tuple[str, ...]  # namespace/name of pods whose processes run on


class Agent:
    """One node. `run` ends when `stop` is called."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        self._services: Services | None = None

    def stop(self) -> None:
        """Ask the agent to end. Containers run on."""
        self._stopping.set()

    async def run(self, on_ready: Callable[[int], None]) -> Report:
        """Register, work until stopped, say farewell. `on_ready` gets the port of the log endpoint.

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
            events = EventRecorder(self._client, settings.name)
            port = await server.start()
            heartbeat = Heartbeat(self._client, settings, instance=_instance(settings.state), port=port)
            self._services = self._make_services(events, pods)
            try:
                await self._register(heartbeat)
                await self._work(heartbeat, lambda: on_ready(port))
            finally:
                await self._finish(heartbeat, events, server)
        return Report(tuple(worker.name for worker in self._workers.values() if worker.holds_a_place))

    def _make_services(self, events: EventRecorder, pods: Path) -> Services:
        address = urlsplit(self._client.connection.server)
        machine = Machine(
            own_environment=dict(os.environ),
            interpreter=Path(sys.executable),
            root=self._settings.root,
            api_host=address.hostname or "",
            api_port=address.port or (443 if address.scheme == "https" else 80),
        )
        return Services(
            client=self._client,
            machine=machine,
            allocatable=node.capacity(self._settings),
            events=events,
            pods=pods,
            image_id=node.image_id(),
            refuse=self._refusal,
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
                await heartbeat.farewell()
                await asyncio.gather(*(worker.delivered() for worker in self._workers.values() if worker.finished))
        except (KubeError, TimeoutError) as error:
            log.warning("the API server does not know yet that the agent has stopped: %s", error or "no answer")
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await events.stop()
        await server.stop()

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

    def _employ(self, pod: Mapping[str, Any], *, gone: bool = False) -> None:
        assert self._services is not None
        uid = pod["metadata"]["uid"]
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

    def _refusal(self, pod: Mapping[str, Any]) -> Refusal | None:
        running = sum(worker.holds_a_place for worker in self._workers.values())
        return admission.refusal(pod, running=running, max_pods=self._settings.max_pods)

    def _find_log(self, namespace: str, pod: str, container: str) -> LogSource | None:
        for worker in reversed(self._workers.values()):
            metadata = worker.pod["metadata"]
            if (metadata["namespace"], metadata["name"]) == (namespace, pod) and worker.folder.exists:
                if container != worker.pod["spec"]["containers"][0]["name"]:
                    return None
                return LogSource(worker.folder.paths.log, worker.has_ended)
        return None


def _instance(state: Path) -> str:
    """Tells this state folder from any other: two machines must not share a node's name."""
    path = state / "instance.json"
    found = shim.read_json(str(path)) if path.exists() else None
    if not found:
        found = {"instance": secrets.token_hex(8)}
        shim.write_file(str(path), json.dumps(found).encode())
    return str(found["instance"])
