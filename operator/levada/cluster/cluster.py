"""A cluster: bringing its components up and down, in any state that a crash may have left them in.

`up` compares what runs with what should run and starts the difference, so it is also the repair. Nothing here keeps a
connection or a thread: the components live on without the process that started them.
"""

import contextlib
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from levada.cluster import binaries, components, credentials, health, pki, ports, processes, state
from levada.cluster.errors import ClusterError, ComponentError, PortTakenError
from levada.cluster.files import locked, write_atomically
from levada.cluster.layout import Layout, default_home
from levada.cluster.state import API_SERVER, COMPONENTS, CONTROLLER_MANAGER, ETCD, PORTS_OF, SCHEDULER, Options, State

Progress = Callable[[str], None]

LOCK_WAIT_SECONDS: Final = 180.0
HEALTHY_WITHIN_SECONDS: Final = 90.0
_POLL_SECONDS: Final = 0.05
_PORT_TRIES: Final = 5
# The API server first answers its open requests; its clients reconnect anyway.
_GRACE_SECONDS: Final = {ETCD: 10.0, API_SERVER: 5.0, CONTROLLER_MANAGER: 5.0, SCHEDULER: 5.0}
# Each stage needs the one before: started together, the API server would wait a second after its first refused connection.
_STAGES: Final = ((ETCD,), (API_SERVER,), (CONTROLLER_MANAGER, SCHEDULER))


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    """How one component is doing."""

    name: str
    running: bool
    healthy: bool
    pid: int | None = None
    port: int | None = None
    uptime_seconds: float | None = None
    problem: str = ""


class Cluster:
    """A control plane on this machine, by name. Creating the object touches nothing."""

    def __init__(self, name: str = "default", home: Path | None = None) -> None:
        self.name = name
        self.home = home or default_home()
        self.layout = Layout.of(self.home, name)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.layout.kubeconfig

    @property
    def exists(self) -> bool:
        """Whether the cluster has been up before and was not deleted since."""
        return self.layout.directory.exists()

    @property
    def url(self) -> str:
        """Where the API server is.

        Raises:
            ClusterError: the cluster has never been up.
        """
        return self._state().url(API_SERVER)

    @property
    def kubectl(self) -> Path:
        """A kubectl that fits the cluster: the user's own when its version is supported, else the pinned one."""
        path = Path(self._state().binaries[binaries.KUBECTL])
        return path if path.exists() else binaries.ensure(lambda _: None)[binaries.KUBECTL]

    def pid(self, component: str) -> int:
        """The process of a component.

        Raises:
            ClusterError: it does not run, or there is no such component.
        """
        if component not in COMPONENTS:
            raise ClusterError(f"there is no component {component!r}", f"the components are {', '.join(COMPONENTS)}")
        record = self._running(component)
        if record is None:
            raise ClusterError(f"{component} of cluster {self.name!r} does not run", self._up_hint())
        return record.identity.pid

    def up(
        self,
        *,
        ephemeral: bool = False,
        progress: Progress = lambda _: None,
        kube_api_qps: int | None = None,
        node_grace_seconds: int | None = None,
        unreachable_toleration_seconds: int | None = None,
        node_address: str | None = None,
    ) -> None:
        """Start whatever is not running, and return when all of it is healthy.

        Options that are not given stay as they were. A running component is restarted only when what it was started
        with has changed. `progress` receives a line for each step.

        Raises:
            ClusterError: with the cause, and what to do, as its hint.
        """
        if sys.platform != "linux":
            raise ClusterError("the local control plane runs on Linux only", "use kind: https://kind.sigs.k8s.io")
        begun = time.monotonic()
        options = Options(kube_api_qps, node_grace_seconds, unreachable_toleration_seconds, node_address)
        programs = binaries.ensure(progress)
        with self._locked(progress):
            self._refuse_other_durability(ephemeral)
            for attempt in range(1, _PORT_TRIES + 1):
                try:
                    self._start(self._plan(programs, ephemeral, options, progress), progress)
                    break
                except PortTakenError as error:
                    if attempt == _PORT_TRIES:
                        raise
                    progress(f"{error}; choosing another one")
        progress(f"cluster {self.name!r} is up at {self.url} ({time.monotonic() - begun:.1f} s)")

    def down(self, *, delete: bool = False, progress: Progress = lambda _: None) -> None:
        """Stop everything. The data stays, unless it is to be deleted or the cluster is ephemeral."""
        if not self.exists:
            return
        begun = time.monotonic()
        with self._locked(progress):
            forget = delete or self._known_ephemeral()
            # The database last: whoever writes to it goes first.
            for component in reversed(COMPONENTS):
                self._stop(component, grace_seconds=0 if forget else _GRACE_SECONDS[component])
            if forget:
                self._delete()
        fate = "and its data are gone" if forget else f"is down; its data stays in {self.layout.data}"
        progress(f"cluster {self.name!r} {fate} ({time.monotonic() - begun:.1f} s)")

    def status(self) -> list[ComponentStatus]:
        """Every component, whether it runs and whether it is healthy."""
        known = state.load(self.layout.state)
        return [self._status(component, known) for component in COMPONENTS]

    def issue_kubeconfig(self, path: Path, user: str, groups: Sequence[str] = ()) -> Path:
        """Write a kubeconfig with a client certificate for any identity, and return its path.

        It holds the cluster's authority too (`certificate-authority-data`), which an agent needs to check the API
        server's own client certificate when that asks for logs.
        """
        content = credentials.issue_kubeconfig(self.layout, self.name, self.url, user, groups)
        write_atomically(path, content)
        return path

    # -- What is known and what runs -----------------------------------------------------------------------------

    def _state(self) -> State:
        known = state.load(self.layout.state)
        if known is None:
            raise ClusterError(f"there is no cluster {self.name!r} under {self.home}", self._up_hint())
        return known

    def _up_hint(self) -> str:
        return "start it with `levada cluster up" + (f" --name {self.name}`" if self.name != "default" else "`")

    def _known_ephemeral(self) -> bool:
        """Whether the cluster says that its data need not survive. A damaged state file says nothing."""
        with contextlib.suppress(ClusterError):
            known = state.load(self.layout.state)
            return known is not None and known.ephemeral
        return False

    def _marker(self, component: str) -> str:
        return f"{self.layout.directory}:{component}"

    def _running(self, component: str) -> processes.Record | None:
        record = processes.load_record(self.layout.record(component))
        return record if record and processes.is_alive(record.identity) else None

    def _status(self, component: str, known: State | None) -> ComponentStatus:
        record = self._running(component)
        if record is None or known is None:
            why = f"not running; log: {self.layout.log(component)}" if known else "never started"
            return ComponentStatus(component, running=False, healthy=False, problem=why)
        problem = health.check(component, self.layout, known)
        return ComponentStatus(
            component,
            running=True,
            healthy=problem is None,
            pid=record.identity.pid,
            port=known.port(component),
            uptime_seconds=max(0.0, time.time() - record.started_at),
            problem=problem or "",
        )

    # -- Up ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self, progress: Progress = lambda _: None) -> Iterator[None]:
        def waiting() -> None:
            progress(f"waiting for another `levada cluster` command on {self.name!r}")

        with locked(self.layout.lock, wait_seconds=LOCK_WAIT_SECONDS, on_wait=waiting):
            yield

    def _refuse_other_durability(self, ephemeral: bool) -> None:
        known = state.load(self.layout.state)
        if known is not None and ephemeral and not known.ephemeral:
            raise ClusterError(
                f"cluster {self.name!r} exists and keeps its data, so it cannot be started as an ephemeral one",
                f"give the new one another --name, or remove this one and its data with `levada cluster down --name {self.name} --delete`",
            )

    def _plan(self, programs: dict[str, Path], ephemeral: bool, options: Options, progress: Progress) -> State:
        """Decide on ports and options, and write down all that the components read."""
        known = state.load(self.layout.state)
        running = {component for component in COMPONENTS if self._running(component)}
        keep = {port for component in running for port in PORTS_OF[component]}
        for component in set(COMPONENTS) - running:
            self._stop(component, grace_seconds=0)
        self._prepare_data(known, progress)
        planned = State(
            ports=state.choose_ports(known.ports if known else {}, keep),
            binaries={name: str(path) for name, path in programs.items()},
            ephemeral=known.ephemeral if known else ephemeral,
            options=known.options.overlaid(options) if known else options,
            boot_id=processes.boot_id(),
        )
        if known and planned.url(API_SERVER) != known.url(API_SERVER):
            progress(
                f"the API server moves to {planned.url(API_SERVER)}: kubeconfigs issued before have to be issued again"
            )
        if known and running and all(Path(path).exists() for path in known.binaries.values()):
            planned = replace(planned, binaries=known.binaries)
        state.save(self.layout.state, planned)
        credentials.ensure(self.layout, pki.now(), planned.options.node_address)
        credentials.write_kubeconfigs(self.layout, self.name, planned.url(API_SERVER))
        return planned

    def _start(self, planned: State, progress: Progress) -> None:
        for stage in _STAGES:
            begun = time.monotonic()
            started = {component: self._ensure_process(component, planned) for component in stage}
            for component, found_dead in started.items():
                is_new = self._wait_healthy(component, planned, is_new=found_dead)
                verb = "ready" if is_new else "already running"
                progress(f"{component} {verb} ({time.monotonic() - begun:.1f} s)")

    def _ensure_process(self, component: str, planned: State) -> bool:
        """Have the component run as planned. Returns whether it had to be started."""
        wanted = components.fingerprint(component, self.layout, planned)
        record = self._running(component)
        if record and record.fingerprint == wanted:
            return False
        if record:
            self._stop(component, grace_seconds=_GRACE_SECONDS[component])
        log = self.layout.log(component)
        _rotate(log)
        identity = processes.spawn(
            components.command(component, self.layout, planned), log=log, marker=self._marker(component)
        )
        record = processes.Record(identity, wanted, time.time())
        processes.save_record(self.layout.record(component), record)
        return True

    def _wait_healthy(self, component: str, planned: State, *, is_new: bool) -> bool:
        """Wait for the component. Returns whether it was started by us, at once or because it died meanwhile.

        A process that was just killed still looks alive for a moment, so one that we found running and that dies is started again.
        """
        deadline = time.monotonic() + HEALTHY_WITHIN_SECONDS
        while (problem := health.check(component, self.layout, planned)) is not None:
            if self._running(component) is None:
                if is_new:
                    raise self._died(component, planned)
                is_new = self._ensure_process(component, planned)
            if time.monotonic() >= deadline:
                raise ComponentError(
                    f"{component} is not healthy after {HEALTHY_WITHIN_SECONDS:.0f} s: {problem}",
                    f"read its log {self.layout.log(component)}, or start over with `levada cluster down` and `up`",
                )
            time.sleep(_POLL_SECONDS)
        return is_new

    def _died(self, component: str, planned: State) -> ComponentError:
        log = self.layout.log(component)
        tail = health.log_tail(log)
        if ports.ADDRESS_IN_USE in tail:
            taken = ", ".join(str(planned.port(name)) for name in PORTS_OF[component])
            return PortTakenError(f"{component} found its port taken by another process ({taken})", "try again")
        return ComponentError(
            f"{component} died while it started. The end of its log:\n{tail}", f"the whole log: {log}"
        )

    def _prepare_data(self, known: State | None, progress: Progress) -> None:
        """Drop data that cannot be trusted: an ephemeral database does not sync, and the machine has been rebooted."""
        if known and known.ephemeral and known.boot_id != processes.boot_id() and self.layout.data.exists():
            progress(f"cluster {self.name!r} is ephemeral and the machine was restarted: its data are dropped")
            shutil.rmtree(self.layout.data)

    # -- Down ----------------------------------------------------------------------------------------------------

    def _stop(self, component: str, *, grace_seconds: float) -> None:
        """Stop the component's process, and any that a crash has left without a record."""
        if record := self._running(component):
            processes.stop(record.identity, grace_seconds=grace_seconds)
        for orphan in processes.marked(self._marker(component)):
            processes.stop(orphan, grace_seconds=grace_seconds)
        self.layout.record(component).unlink(missing_ok=True)

    def _delete(self) -> None:
        """Delete the folder. The rename first: killed in between, this never leaves half a cluster under its name."""
        doomed = self.layout.directory.with_name(f".{self.name}.deleted-{secrets.token_hex(4)}")
        with contextlib.suppress(FileNotFoundError):
            self.layout.directory.rename(doomed)
        for leftover in doomed.parent.glob(f".{self.name}.deleted-*"):
            shutil.rmtree(leftover)


def _rotate(log: Path) -> None:
    """Keep the log of the start before; an older one is dropped, so that logs do not grow for ever."""
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))
