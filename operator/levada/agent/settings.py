"""What an agent is told at its start."""

import logging
import os
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from levada.agent.shim import MAX_LOG_BYTES

if TYPE_CHECKING:
    from levada.kube import Client

log = logging.getLogger(__name__)

DEFAULT_PODS_PER_CPU: Final = 4
DEFAULT_HEARTBEAT_S: Final = 10.0  # as the kubelet; the node life cycle waits 40 to 50 s for it
NODE_USER_PREFIX: Final = "system:node:"
_NODE_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_QUEUE_NAME: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
MAX_NAME_CHARS: Final = 63
MIN_LOG_BYTES: Final = 1 << 20
MAX_REFUSALS: Final = 8  # an API server that has just started refuses what its default roles will allow in a moment


class Limiting(StrEnum):
    """What --limits accepts."""

    AUTO = "auto"
    CGROUP = "cgroup"
    RLIMIT = "rlimit"
    NONE = "none"


class OnStop(StrEnum):
    """What --on-stop accepts: what becomes of running flows at the first SIGTERM. The second always leaves them."""

    LEAVE = "leave"  # they run on, for the next agent of this name
    WAIT = "wait"  # the agent takes no more and ends when the last of them has
    DRAIN = "drain"  # they are evicted, and go on elsewhere


class SettingsError(Exception):
    """The agent cannot start as told. The message names the option and the fix."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One agent."""

    name: str  # of the Node; a node certificate fixes it
    queues: tuple[str, ...]  # become labels, which the operator's Jobs ask for
    max_pods: int
    root: Path  # working directory of every container, unless it says otherwise
    state: Path  # survives restarts; one agent per folder
    heartbeat_s: float = DEFAULT_HEARTBEAT_S
    on_stop: OnStop = OnStop.LEAVE
    limits: Limiting = Limiting.AUTO
    cgroup_parent: str | None = None  # a path as in /proc/self/cgroup; None: the agent's own group
    cpus: float | None = None  # what flows may have; None: what the machine has
    memory_bytes: int | None = None
    storage_bytes: int | None = None
    max_log_bytes: int = MAX_LOG_BYTES  # of one file; a pod has two

    @property
    def lease_s(self) -> int:
        """How long the node counts as alive after a heartbeat."""
        return max(1, round(4 * self.heartbeat_s))


def cpus() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def state_folder(name: str) -> Path:
    """`$LEVADA_HOME/agents/<name>`, else below ~/.local/state/levada."""
    home = os.environ.get("LEVADA_HOME")
    return (Path(home) if home else Path.home() / ".local/state/levada") / "agents" / name


def default_name() -> str:
    """The machine's name, made fit for a node; not the bare name, which a kubelet on this machine would take."""
    host = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower()).strip("-") or "local"
    return f"{host[: MAX_NAME_CHARS - len('-agent')].rstrip('-')}-agent"


def choose_name(wanted: str | None, username: str) -> str:
    """The node's name: as wanted, as the node certificate says, or after the machine.

    Raises:
        SettingsError: the name is no node name, or the certificate belongs to another node.
    """
    certified = username.removeprefix(NODE_USER_PREFIX) if username.startswith(NODE_USER_PREFIX) else None
    if wanted and certified and wanted != certified:
        raise SettingsError(
            f"--name {wanted} does not fit the kubeconfig, whose certificate is for node {certified}: "
            f"leave --name away, or use another kubeconfig"
        )
    name = wanted or certified or default_name()
    if len(name) > MAX_NAME_CHARS or not _NODE_NAME.fullmatch(name):
        raise SettingsError(
            f"--name {name!r}: use at most {MAX_NAME_CHARS} lower-case letters, digits and dashes, no dash at the ends"
        )
    return name


def check_queues(queues: Iterable[str]) -> None:
    """Raises SettingsError when one of them cannot be a queue's name."""
    for queue in queues:
        if len(queue) > MAX_NAME_CHARS or not _QUEUE_NAME.fullmatch(queue):
            raise SettingsError(f"{queue!r} is no name of a work queue")


def check(settings: Settings) -> None:
    """Raises SettingsError when an option makes no sense."""
    check_queues(settings.queues)
    for option, amount in (
        ("--cpus", settings.cpus), ("--memory", settings.memory_bytes), ("--ephemeral-storage", settings.storage_bytes)
    ):  # fmt: skip
        if amount is not None and amount <= 0:
            raise SettingsError(f"{option} {amount}: flows need more than that")
    if settings.max_log_bytes < MIN_LOG_BYTES:
        raise SettingsError(f"--max-log-mib: a log needs at least {MIN_LOG_BYTES >> 20} MiB")
    if settings.max_pods < 1:
        raise SettingsError(f"--max-pods {settings.max_pods}: an agent needs room for at least one pod")
    if not settings.root.is_dir():
        raise SettingsError(f"--root {settings.root} is no folder")
    if not 0.1 <= settings.heartbeat_s <= 60:
        raise SettingsError(
            f"--heartbeat-seconds {settings.heartbeat_s}: use 0.1 to 60, and less than the cluster's grace"
        )


async def username(client: "Client") -> str:
    """Who the kubeconfig says that we are; empty when the API server does not tell. Waits for one that is away."""
    import asyncio  # here: `levada agent --help` reads this module, and waits for nobody

    from levada.kube import ConnectionLost, Forbidden, NotFound, ServerError, TooManyRequests
    from levada.kube.retry import jittered_s

    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    failures = refusals = 0
    while True:
        try:
            answer = await client.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=body)
        except NotFound:
            return ""
        except (ConnectionLost, Forbidden, ServerError, TooManyRequests) as error:
            failures += 1
            refusals += isinstance(error, Forbidden)
            if refusals > MAX_REFUSALS:
                return ""
            if failures in {1, 10}:
                log.warning("%s (trying again)", error)
            await asyncio.sleep(jittered_s(failures, base_s=0.2, cap_s=5.0))
        else:
            return str(((answer.get("status") or {}).get("userInfo") or {}).get("username") or "")
