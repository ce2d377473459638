"""Leader election over one Lease: stand, lead, renew, step down. lease.py decides; this module asks the API server.

The election has a client of its own: a renewal waits behind no other request, neither for a connection nor for a token of a
rate limit, and its requests give up early. Standing by costs one watch of one Lease and no polling; whoever resigns is
replaced at once.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from levada.kube.client import Client
from levada.kube.errors import AlreadyExists, Conflict, KubeError, LeadershipLost, NotFound
from levada.kube.lease import Candidate, Fence, LeaseTimes, boot_time_s, record_of
from levada.kube.reflector import Reflector
from levada.kube.retry import jittered_s
from levada.resources.kinds import LEASES

log = logging.getLogger(__name__)
RESIGN_S: Final = 1.5
Object = dict[str, Any]


def utc_now() -> datetime:
    """For the times in the Lease, which only people read."""
    return datetime.now(UTC)


class Election:
    """One candidate for one Lease. Run `run` and `watch` as tasks; `client` must be the election's own.

    `elected` is set once, when the lease is ours. `fence` stands before every write of whoever leads.
    """

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        name: str,
        identity: str,
        times: LeaseTimes | None = None,
        clock: Callable[[], float] = boot_time_s,
        wall: Callable[[], datetime] = utc_now,
    ) -> None:
        self.namespace, self.name, self.identity = namespace, name, identity
        self.elected = asyncio.Event()
        self._client = client
        self._clock, self._wall = clock, wall
        self._times = times or LeaseTimes()
        self._candidate = Candidate(identity, self._times)
        self.fence = Fence(self._candidate, clock)
        self._lease: Object | None = None  # the newest version that we know, to be written on
        self._news = asyncio.Event()
        self._told = ""
        self._reflector = Reflector(
            client, LEASES, namespace, on_change=self._on_lease, field_selector=f"metadata.name={name}"
        )

    @property
    def leading(self) -> bool:
        """Whether the lease is certainly ours at this moment."""
        return self._candidate.is_leading(self._clock())

    async def watch(self) -> None:
        """Follow the Lease, for ever."""
        await self._reflector.run()

    async def run(self) -> None:
        """Stand until elected, then renew.

        Raises:
            LeadershipLost: it could not be renewed in time, or another candidate has it. No write passes the fence any more.
        """
        await self._stand()
        log.info("%s leads now: lease %s/%s", self.identity, self.namespace, self.name)
        self.elected.set()
        await self._lead()

    async def resign(self) -> None:
        """Close the fence, and let the next candidate in at once. Only when nothing that writes is left running.

        What cannot be said is not insisted on: then the others wait for the lease to expire.
        """
        held = self._holds()
        self._candidate.resign()
        if not held or self._lease is None:
            return
        try:
            async with asyncio.timeout(RESIGN_S):
                await self._write(self._candidate.farewell(self._wall()))
            log.info("%s has given up its lease %s/%s", self.identity, self.namespace, self.name)
        except (KubeError, TimeoutError) as error:
            log.warning("lease %s/%s could not be given up, it expires by itself: %s", self.namespace, self.name, error)

    # --- standing -----------------------------------------------------------------------------------------------------

    async def _stand(self) -> None:
        await self._reflector.synced.wait()
        failures = 0
        while True:
            self._news.clear()
            wait_s = self._candidate.may_claim_at_s() - self._clock()
            if wait_s > 0:
                self._tell_holder()
                await self._sleep(wait_s)
                continue
            try:
                if await self._claim():
                    return
                failures = 0
            except KubeError as error:
                failures += 1
                log.log(
                    logging.WARNING if failures in {1, 10} else logging.DEBUG,
                    "lease %s/%s could not be taken: %s (trying again)", self.namespace, self.name, error,
                )  # fmt: skip
                await asyncio.sleep(jittered_s(failures, base_s=0.1, cap_s=self._times.retry_s))
                await self._look()

    async def _sleep(self, seconds: float) -> None:
        """Until then, or until the Lease changes."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass

    def _tell_holder(self) -> None:
        if self._candidate.holder != self._told:
            self._told = self._candidate.holder
            log.info("standing by: lease %s/%s is held by %s", self.namespace, self.name, self._told)

    # --- leading ------------------------------------------------------------------------------------------------------

    async def _lead(self) -> None:
        failures = 0
        while True:
            if failures:
                await asyncio.sleep(jittered_s(failures, base_s=0.1, cap_s=self._times.retry_s))
            else:
                await self._sleep_while_unchallenged()
            left_s = self._candidate.certain_until_s - self._clock()
            if left_s <= 0:
                raise LeadershipLost(
                    f"lease {self.namespace}/{self.name} could not be renewed for {self._times.renew_deadline_s:g} s "
                    "(an API server that is away, or a process that was paused)"
                )
            try:
                async with asyncio.timeout(left_s):
                    failures = 0 if await self._renew() else failures + 1
            except (KubeError, TimeoutError) as error:
                if isinstance(error, LeadershipLost):
                    raise
                failures += 1
                level = logging.WARNING if failures == 2 else logging.DEBUG
                log.log(level, "renewing lease %s/%s: %s (trying again)", self.namespace, self.name, error)

    async def _sleep_while_unchallenged(self) -> None:
        """Until the next renewal is due, or somebody has taken or deleted the Lease."""
        end_s = self._clock() + self._times.retry_s
        while self._lease is not None and self._holds() and (left_s := end_s - self._clock()) > 0:
            self._news.clear()
            await self._sleep(left_s)

    async def _renew(self) -> bool:
        """Whether the lease has been renewed.

        Raises:
            LeadershipLost: somebody else has it.
        """
        if not self._holds():
            self._candidate.resign()
            raise LeadershipLost(
                f"lease {self.namespace}/{self.name} is now held by {self._candidate.holder or 'nobody'}, not by {self.identity}"
            )
        return await self._claim()

    def _holds(self) -> bool:
        return self.elected.is_set() and self._candidate.holder == self.identity

    # --- the API ------------------------------------------------------------------------------------------------------

    async def _claim(self) -> bool:
        """Write ourselves into the version that we know; False: there is another one, which we have now read."""
        sent_at_s = self._clock()
        try:
            lease = await self._write(self._candidate.claim(self._wall()))
        except (Conflict, AlreadyExists, NotFound):
            await self._look()
            return False
        self._candidate.written(record_of(lease), sent_at_s=sent_at_s, now_s=self._clock())
        return True

    async def _write(self, spec: Object) -> Object:
        """Replace the known version, no other; or create the Lease where there is none."""
        known = self._lease
        if known is None:
            metadata = {"name": self.name, "namespace": self.namespace}
            body = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}
            lease = await self._client.create(LEASES, body)
        else:
            lease = await self._client.replace(LEASES, {**known, "spec": {**(known.get("spec") or {}), **spec}})
        self._lease = lease
        return lease

    async def _look(self) -> None:
        """Read the Lease, if the API server lets us."""
        try:
            self._take(await self._client.get(LEASES, self.name, self.namespace))
        except NotFound:
            self._take(None)
        except KubeError as error:
            log.debug("reading lease %s/%s: %s", self.namespace, self.name, error)

    def _on_lease(self, change: str, lease: Object) -> None:
        known = self._lease
        if change == "DELETED":
            self._take(None)
        elif known is None or not _is_older(lease, known):
            self._take(lease)
        self._news.set()

    def _take(self, lease: Object | None) -> None:
        self._lease = lease
        self._candidate.observe(record_of(lease) if lease is not None else None, self._clock())


def _is_older(lease: Object, known: Object) -> bool:
    """Whether the watch is behind our own write's answer. Versions of one object may be compared as numbers."""
    versions = [str(item["metadata"].get("resourceVersion") or "") for item in (lease, known)]
    same = lease["metadata"].get("uid") == known["metadata"].get("uid")
    return same and all(version.isdecimal() for version in versions) and int(versions[0]) < int(versions[1])
