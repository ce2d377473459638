"""One pod on this agent, from acceptance to removal. Everything that must survive the agent stands in the pod's folder.

::

    refuse ─► Failed
    accept ─► prepare (sources, tokens, files) ─► launch.json ─► shim ─► Running ─► exit.json ─► Succeeded / Failed ─► deleted?
                 ▲ waits and tries again              a restarted agent starts here again, wherever it had been

`run` can be called again at any time: each step looks at what the folder says first. Only the claim (see shim.py) decides
whether a container was started, so that it is never started twice.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from levada.agent import cgroups, launch, logs, processes, shim, sources, status, volumes
from levada.agent.admission import OUT_OF_DISK, Refusal
from levada.agent.clock import Clock
from levada.agent.fields import FieldError
from levada.agent.folder import PodFolder
from levada.agent.limits import Limits
from levada.agent.reports import EventRecorder, StatusReporter
from levada.agent.tokens import TokenKeeper
from levada.kube import Client, Conflict, KubeError, NotFound
from levada.kube.retry import jittered_s
from levada.resources.kinds import CONFIG_MAPS, PODS, SECRETS

log = logging.getLogger(__name__)

FORCED_GRACE_S: Final = 2.0  # for a pod that is already gone from the API server
START_POLL_S: Final = 0.02
DEADLINE_EXCEEDED: Final = "DeadlineExceeded"
# What a pod needs may come a moment after it: the node authorizer has to learn of the binding, a new namespace gets its
# kube-root-ca.crt, `kubectl apply` sends a ConfigMap after the run. Only what lasts longer is said.
PATIENCE_S: Final = 3.0
Pod = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Services:
    """What all workers share."""

    client: Client
    machine: launch.Machine
    allocatable: Mapping[str, str]
    events: EventRecorder
    pods: Path
    image_id: str
    refuse: Callable[[Pod], Refusal | None]
    limits: Limits
    clock: Clock
    max_log_bytes: int


class PodWorker:
    """The life of one pod."""

    def __init__(self, pod: Pod, services: Services) -> None:
        self.pod = pod
        self.folder = PodFolder(services.pods, pod["metadata"]["uid"])
        self.gone = False  # from the API server
        self.finished = False
        self._services = services
        self._reporter = StatusReporter(services.client, pod)
        self._tokens = TokenKeeper(services.client, pod, self.folder.paths.volumes, volumes.token_files(pod))
        self._tokens_fresh = False
        self._accepted_at = ""
        self._changed = asyncio.Event()
        self._deadline_passed = False
        self._stop_sent: tuple[float, str] | None = None

    # --- what the agent tells us ---------------------------------------------------------------------------------------

    def update(self, pod: Pod) -> None:
        """The pod has changed in the API server."""
        self.pod = pod
        self._changed.set()

    def forget(self) -> None:
        """The pod is gone from the API server, whatever we think of it."""
        self.gone = True
        self._changed.set()

    @property
    def holds_a_place(self) -> bool:
        """Whether the pod counts against --max-pods."""
        return self.folder.exists and not self.finished

    @property
    def deleting(self) -> bool:
        """Whether the pod has been told to go."""
        return self.gone or "deletionTimestamp" in self.pod["metadata"]

    def has_ended(self) -> bool:
        """Whether nothing more will come into the log."""
        return self.finished or self.folder.exit() is not None

    async def delivered(self) -> None:
        """Return when the API server knows what there is to know."""
        await self._reporter.delivered()

    # --- the life ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Everything. Ends when nothing of the pod is left here."""
        async with _background(self._reporter.run()):
            failures = 0
            while True:
                try:
                    await self._live()
                    return
                except Exception:  # a full disk, a bug: the pod's fate is on disk, so looking again is safe
                    failures += 1
                    log.exception("pod %s: trying again", self.name)
                    await asyncio.sleep(jittered_s(failures, base_s=1.0, cap_s=60.0))

    async def _live(self) -> None:
        if not self.folder.exists and not await self._accept():
            await self._dispose()
            return
        accepted = self.folder.accepted()
        self._accepted_at = accepted["acceptedAt"] if accepted else shim.timestamp()
        if self.folder.exit() is None:
            await self._execute()
        await self._conclude()
        await self._dispose()

    async def _accept(self) -> bool:
        """Take the pod, or say why not. False: there is nothing to run."""
        if self.gone:
            return False
        state = self.pod.get("status") or {}
        if state.get("phase") in {"Succeeded", "Failed"}:
            self.finished = True
            return False
        now = shim.timestamp()
        if _has_run(state):
            # Another life of this node ran it, and its folder is lost: nobody can say how it went, so it must not run again.
            self._accepted_at = now
            self.finished = True
            self._kill_strays()
            record = status.lost(
                "the agent has lost what it knew of this pod (its state folder is new)", started_at=now
            )
            self._report(status.Ended({"finishedAt": now, **record}, record["message"]))
            return False
        reason = self._services.refuse(self.pod)
        if reason is None:
            try:
                self.folder.accept(self.pod, now)
            except OSError as error:
                reason = Refusal(OUT_OF_DISK, f"this agent cannot write what it has to know of the pod: {error}")
        if reason:
            log.warning("pod %s refused: %s", self.name, reason.message)
            self._services.events.record(self.pod, "Warning", reason.reason, reason.message)
            self.finished = True
            self._reporter.report(status.refused(reason, self._services.clock.correct(now)))
            return False
        return True

    async def _execute(self) -> None:
        """Start the container unless it has been started, and stay with it to its end."""
        process = await self._start()
        if process is None:
            return
        try:
            await self._supervise(process)
        finally:
            process.close()
        if self.folder.exit() is None:
            self._lose("the process that supervised the container was killed")

    # --- start ---------------------------------------------------------------------------------------------------------

    async def _start(self) -> processes.Shim | None:
        """The running shim; None if the container has ended or will never start (exit.json says which)."""
        failures = 0
        while True:
            claim = self.folder.claim()
            if claim:
                return self._attach(claim)
            if self.deleting:
                if self.folder.forbid_start():
                    self.folder.write_exit(status.never_started("the pod was deleted before its container had started"))
                continue
            process = await self._spawn() if await self._prepare() else None
            if process or self.folder.exit():
                return process
            failures += 1
            await self._wait_for_change(jittered_s(failures, base_s=0.1, cap_s=5.0))

    def _attach(self, claim: dict[str, Any]) -> processes.Shim | None:
        """Find the shim of a container that was started before."""
        if claim["by"] == "agent":
            if self.folder.exit() is None:
                self.folder.write_exit(status.never_started("the agent decided that this container does not start"))
            return None
        process = processes.Shim.attach(claim)
        if process is None and self.folder.exit() is None:
            self._lose("the process that supervised the container is gone (killed, or the machine was restarted)")
        return process

    def _kill_strays(self) -> None:
        processes.kill_strays(self.folder.uid)
        cgroups.release([*self.folder.cgroups(), *self._services.limits.folders(self.folder.uid)])

    def _lose(self, message: str) -> None:
        self._kill_strays()
        started = self.folder.started()
        self.folder.write_exit(status.lost(message, started_at=started["startedAt"] if started else None))

    async def _prepare(self) -> bool:
        """Fetch, render and write everything up to launch.json. False: not yet; the status says why."""
        paths, services = self.folder.paths, self._services
        try:
            found = await self._fetch()
            facts = sources.PodFacts(self.pod, found, services.allocatable)
            names = [volume["name"] for volume in self.pod["spec"].get("volumes") or ()]
            volumes.write(paths.volumes, volumes.render(facts), names)
            await self._tokens.renew()
            self._tokens_fresh = True
            kept = services.limits.launch(self.folder.uid, facts.container)
            started = launch.launch(facts, services.machine, paths).to_json()
            self.folder.write_launch({**started, **kept, "maxLogBytes": services.max_log_bytes})
        except launch.CommandNotFoundError as error:
            if self.folder.forbid_start():
                self.folder.write_exit(status.start_error(str(error)))
            return False
        except FieldError as error:
            self._wait_because(status.CONFIG_ERROR, str(error))
            return False
        except KubeError as error:
            self._wait_because(status.CONTAINER_CREATING, str(error))
            return False
        except OSError as error:
            self._wait_because(status.CREATE_ERROR, f"cannot write the pod's files: {error}")
            return False
        return True

    async def _fetch(self) -> dict[sources.Source, Mapping[str, Any] | None]:
        found: dict[sources.Source, Mapping[str, Any] | None] = {}
        for source in sources.needed(self.pod):
            kind = SECRETS if source.kind == sources.SECRET else CONFIG_MAPS
            try:
                found[source] = await self._services.client.get(kind, source.name, self.pod["metadata"]["namespace"])
            except NotFound:
                found[source] = None
        return found

    async def _spawn(self) -> processes.Shim | None:
        """Start a shim and wait until it has said that the process runs. None: it ended before."""
        try:
            process, ready = processes.Shim.spawn(self.folder.path)
        except OSError as error:
            self._wait_because(status.CREATE_ERROR, f"cannot start a process: {error}")
            return None
        await processes.closed(ready)
        claim = self.folder.claim()
        if self.folder.started() and claim and claim["pid"] == process.pid:
            self._services.events.record(self.pod, "Normal", "Started", "Started container flow as a local process")
            return process
        await process.ended()
        process.close()
        if claim is None:
            words = (self.folder.path / "shim.log").read_text(errors="replace").strip()[-500:]
            self._wait_because(
                status.CREATE_ERROR, f"the supervising process could not start: {words or 'no reason given'}"
            )
        return None

    def _wait_because(self, reason: str, message: str) -> None:
        if self._waited_s() > PATIENCE_S and self._report(status.Waiting(reason, message)):
            self._services.events.record(self.pod, "Warning", "Failed", message)
            log.info("pod %s waits: %s", self.name, message)

    def _waited_s(self) -> float:
        return self.folder.waited_s()

    # --- run -----------------------------------------------------------------------------------------------------------

    async def _supervise(self, process: processes.Shim) -> None:
        """From Running to the end of the process."""
        while (started := self.folder.started()) is None and self.folder.exit() is None:
            if not process.is_alive:
                break
            await asyncio.sleep(START_POLL_S)
        if started:
            self._report(status.Running(started["startedAt"]))
        async with _background(self._tokens.keep(fresh=self._tokens_fresh)):
            ended = asyncio.ensure_future(process.ended())
            try:
                while not ended.done():
                    self._changed.clear()
                    self._stop_if_told(process)
                    change = asyncio.ensure_future(self._changed.wait())
                    await asyncio.wait(
                        {ended, change}, timeout=self._deadline_in_s(), return_when=asyncio.FIRST_COMPLETED
                    )
                    change.cancel()
            finally:
                ended.cancel()
                await asyncio.gather(ended, return_exceptions=True)

    def _stop_if_told(self, process: processes.Shim) -> None:
        """SIGTERM (through the shim) when the pod is being deleted or its deadline has passed; the shim kills after the grace."""
        grace_s = self._grace_s()
        if grace_s is None:
            return
        why = DEADLINE_EXCEEDED if self._deadline_passed else "Deleted"
        if self._stop_sent == (grace_s, why):
            return
        # Also when the file says so already: the agent may have been killed before it sent the signal.
        try:
            self.folder.write_stop(grace_s, why)
        except OSError as error:  # a full disk: the shim goes by the pod's own grace then
            log.warning("pod %s: %s", self.name, error)
        process.signal(signal.SIGTERM)
        self._stop_sent = (grace_s, why)
        log.info("pod %s: stopping its process (%s, grace %.0f s)", self.name, why, grace_s)
        self._services.events.record(
            self.pod, "Normal", "Killing", f"Stopping container flow ({why}, grace {grace_s:.0f} s)"
        )

    def _grace_s(self) -> float | None:
        """How long the process may still take; None: it may run on."""
        metadata, spec = self.pod["metadata"], self.pod["spec"]
        usual_s = float(spec.get("terminationGracePeriodSeconds", launch.DEFAULT_GRACE_S))
        if self.gone:
            return min(FORCED_GRACE_S, usual_s)
        if "deletionTimestamp" in metadata:
            return float(metadata.get("deletionGracePeriodSeconds", usual_s))
        left_s = self._deadline_in_s()
        if left_s is not None and left_s <= 0:
            self._deadline_passed = True
        return usual_s if self._deadline_passed else None

    def _deadline_in_s(self) -> float | None:
        """Until the pod's own activeDeadlineSeconds (a Job's deadline is kept by the Job controller)."""
        limit_s = self.pod["spec"].get("activeDeadlineSeconds")
        if limit_s is None or self._deadline_passed:
            return None
        return max(0.0, float(limit_s) - self._waited_s())

    # --- end -----------------------------------------------------------------------------------------------------------

    async def _conclude(self) -> None:
        """The last status."""
        record = self.folder.exit()
        assert record is not None
        if self.folder.stop_reason() == DEADLINE_EXCEEDED:
            message = "Pod was active on the node longer than the specified deadline"
            record = {**record, "podReason": DEADLINE_EXCEEDED, "podMessage": message}
        container = self.pod["spec"]["containers"][0]
        try:
            with self.folder.paths.termination_log.open("rb") as file:
                written = file.read(status.MAX_MESSAGE_BYTES)
        except OSError:
            written = b""
        falls_back = container.get("terminationMessagePolicy") == "FallbackToLogsOnError" and record["exitCode"] != 0
        last_words = logs.last_words(self.folder.paths.log) if falls_back and not written else ""
        self.finished = True
        ended = status.Ended(record, status.termination_message(record, written, last_words))
        known = (self.pod.get("status") or {}).get("phase")
        if known in {"Succeeded", "Failed"} and known != status.phase(ended):
            log.warning(
                "pod %s ended as %s, but somebody has called it %s already", self.name, status.phase(ended), known
            )
        else:
            self._report(ended)
        if record.get("reason") == "StartError":
            self._services.events.record(self.pod, "Warning", "Failed", f"Error: {record.get('message')}")
        groups = [*self.folder.cgroups(), *self._services.limits.folders(self.folder.uid)]
        await asyncio.to_thread(cgroups.release, groups)
        await asyncio.to_thread(self.folder.clean)

    async def _dispose(self) -> None:
        """Wait until the pod is to go, take it from the API server, and remove what is left of it here."""
        if not self.gone:
            await self.delivered()
        while not self.deleting:
            await self._wait_for_change(None)
        failures = 0
        metadata = self.pod["metadata"]
        while not self.gone:
            try:
                await self._services.client.delete(
                    PODS, metadata["name"], metadata["namespace"],
                    propagation=None, grace_period_seconds=0, uid=metadata["uid"],
                )  # fmt: skip
                # Finalizers (the Job's tracking) may hold the object for a while: DELETED comes when they are done.
                while not self.gone:
                    await self._wait_for_change(None)
            except (NotFound, Conflict):
                self.gone = True
            except KubeError as error:
                failures += 1
                log.debug("deleting pod %s: %s (trying again)", self.name, error)
                await self._wait_for_change(jittered_s(failures, base_s=0.2, cap_s=10.0))
        await asyncio.to_thread(self.folder.remove)

    # --- small things --------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """namespace/name, for people."""
        return f"{self.pod['metadata']['namespace']}/{self.pod['metadata']['name']}"

    def _report(self, state: status.State) -> bool:
        """Ask for a status; False if it is what was asked for already."""
        built = status.build(
            self.pod,
            state,
            accepted_at=self._accepted_at,
            image_id=self._services.image_id,
            correct=self._services.clock.correct,
        )
        return self._reporter.report(built)

    async def _wait_for_change(self, timeout_s: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        self._changed.clear()


def _has_run(state: Mapping[str, Any]) -> bool:
    """Whether a pod's status says that its container had started."""
    containers = state.get("containerStatuses") or ()
    return state.get("phase") == "Running" or any(
        {"running", "terminated"} & set(c.get("state") or {}) for c in containers
    )


@contextlib.asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> Any:
    """Run something beside the body of the `with`; it ends with the body."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
