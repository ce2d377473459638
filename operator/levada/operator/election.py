"""Who may write, and how fast: the operator's part in leader election, and the gate before each of its writes.

levada.kube has the mechanics. Here stand what an election of operators is about (one lease for each set of namespaces), and
which writes matter most.
"""

import asyncio
import hashlib
import os
import platform
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from levada.kube import Client, Connection
from levada.kube.election import Election
from levada.kube.lease import Fence, LeaseTimes
from levada.kube.ratelimit import Lane, WriteLimiter
from levada.kube.retry import RetryPolicy
from levada.resources.kinds import EVENTS, FLOW_RUNS
from levada.resources.names import OPERATOR_NAMESPACE
from levada.resources.phases import is_terminal

LEASE_NAME: Final = "levada-operator"
ENV_POD_NAME: Final = "POD_NAME"


@dataclass(frozen=True, slots=True)
class ElectionSettings:
    """Under which name to stand, for which Lease, and how patiently.

    identity: unique to this process; see `own_identity`.
    """

    identity: str
    name: str = LEASE_NAME
    namespace: str = OPERATOR_NAMESPACE
    times: LeaseTimes = field(default_factory=LeaseTimes)


def own_identity(name: str = "") -> str:
    """A name for people and a part that no other process has: two operators of one name must never share a lease."""
    return f"{name or os.environ.get(ENV_POD_NAME) or platform.node() or 'operator'}_{secrets.token_hex(4)}"


def default_lease_name(namespaces: tuple[str, ...], shard_selector: str) -> str:
    """One lease for each set of namespaces: operators of different sets never wait for each other."""
    if not namespaces and not shard_selector:
        return LEASE_NAME
    scope = "\n".join([*sorted(namespaces), shard_selector])
    return f"{LEASE_NAME}-{hashlib.sha256(scope.encode()).hexdigest()[:8]}"


class Leadership(Protocol):
    """What the shell needs to know of an election."""

    elected: asyncio.Event

    @property
    def leading(self) -> bool:
        """Whether this process may write now."""

    async def run(self) -> None:
        """Stand and lead, for ever; raises LeadershipLost."""

    async def watch(self) -> None:
        """Follow what there is to follow, for ever."""

    async def resign(self) -> None:
        """Let the next one in."""


class Unopposed:
    """The leadership of an operator that stands in no election."""

    def __init__(self) -> None:
        self.elected = asyncio.Event()
        self.elected.set()
        self.leading = True

    async def run(self) -> None:
        """Lead, for ever."""
        await asyncio.Event().wait()

    async def watch(self) -> None:
        """Nobody else is there."""
        await asyncio.Event().wait()

    async def resign(self) -> None:
        """Nobody waits."""
        self.leading = False


@asynccontextmanager
async def leadership(
    connection: Connection, settings: ElectionSettings | None, *, user_agent: str
) -> AsyncIterator[tuple[Leadership, Fence | None]]:
    """Stand for election with a client of our own; without settings there is none, and no fence."""
    if settings is None:
        yield Unopposed(), None
        return
    # Two tries must fit between two renewals and the deadline; retrying is the election's own affair.
    timeout_s = settings.times.renew_deadline_s / 2
    async with Client(
        connection, user_agent=user_agent, retries=RetryPolicy(tries=1), request_timeout_s=timeout_s
    ) as client:
        election = Election(
            client,
            namespace=settings.namespace,
            name=settings.name,
            identity=settings.identity,
            times=settings.times,
        )
        yield election, election.fence


class WriteGate:
    """Stands before every write of the operator: first its turn, then, as late as can be, whether it may write at all."""

    def __init__(self, fence: Fence | None, limiter: WriteLimiter | None) -> None:
        self._fence = fence
        self._limiter = limiter

    async def admit(self, resource: str, body: Any) -> None:
        """For levada.kube.Client.

        Raises:
            NotLeading: another operator may be leading.
        """
        if self._limiter is not None:
            await self._limiter.acquire(lane_of(resource, body))
        if self._fence is not None:
            self._fence.check()


def lane_of(resource: str, body: Any) -> Lane:
    """The end of a run goes first, what is only told goes last."""
    if resource == EVENTS.plural:
        return Lane.COURTESY
    if resource == FLOW_RUNS.plural and isinstance(body, dict) and is_terminal((body.get("status") or {}).get("phase")):
        return Lane.URGENT
    return Lane.NORMAL
