"""Two operators as real processes: one leads, one stands by, and whatever happens to either, each attempt is made once.

`leads` of a log is what the operator says of itself; what it may do is asked from its metrics page, which knows the clock.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from levada.cluster import Cluster
from levada.kube import Client, Reflector
from levada.resources import names
from levada.resources.kinds import FLOW_RUNS, JOBS, LEASES, PODS
from support.operator_play import Operator, Play, until

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120), pytest.mark.usefixtures("installed")]

QUICK = ("--lease-duration", "5", "--renew-deadline", "3", "--retry-period", "0.5")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Candidate:
    """An operator that stands for election."""

    def __init__(self, cluster: Cluster, folder: Path, namespace: str, *arguments: str) -> None:
        self.port = free_port()
        self.operator = Operator(
            cluster, folder, "--namespace", namespace, "--leader-elect", "--identity", folder.name,
            "--metrics-address", f"127.0.0.1:{self.port}", *arguments,
        )  # fmt: skip

    def leads(self) -> bool:
        """What it believes at this moment; a process that does not answer writes nothing either."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=0.5) as page:
                return b"\nlevada_leader 1.0" in page.read()
        except OSError:
            return False

    def says(self, text: str) -> int:
        return self.operator.text().count(text)


class Pair:
    """`first` leads and `second` stands by when a test begins."""

    def __init__(self, cluster: Cluster, folder: Path, client: Client, namespace: str, *arguments: str) -> None:
        self.lease, self.namespace, self.client = f"test-{secrets.token_hex(4)}", namespace, client
        arguments = ("--lease-name", self.lease, *arguments)
        self.first = Candidate(cluster, folder / "first", namespace, *arguments)
        self.second = Candidate(cluster, folder / "second", namespace, *arguments)
        self.play = Play(client, namespace)
        self.together = 0
        self.jobs_made: Counter[str] = Counter()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await asyncio.to_thread(self.first.operator.start)
        await asyncio.to_thread(self.second.operator.start, until="standing by")
        await self.play.flow()
        await self.play.deployment(retries={"limit": 0})
        watched = (Reflector(self.client, JOBS, self.namespace, on_change=self._on_job),
                   Reflector(self.client, PODS, self.namespace, on_change=self._on_pod))  # fmt: skip
        self._tasks += [asyncio.create_task(reflector.run()) for reflector in watched]
        self._tasks.append(asyncio.create_task(self._observe()))

    def _on_job(self, change: str, body: dict) -> None:
        self.jobs_made[body["metadata"]["name"]] += change == "ADDED"

    def _on_pod(self, change: str, body: dict) -> None:
        """Every pod runs, reports and ends well."""
        if change == "ADDED":
            self._tasks.append(asyncio.create_task(self._run(body)))

    async def _run(self, pod: dict) -> None:
        await self.play.starts(pod)
        await self.play.reports_running(pod["metadata"]["labels"][names.LABEL_RUN], pod)
        await asyncio.sleep(0.5)
        await self.play.ends(pod)

    async def _observe(self) -> None:
        """Count the moments in which both led: the first before and after the second."""
        while True:
            if await asyncio.to_thread(self.first.leads):
                second = await asyncio.to_thread(self.second.leads)
                self.together += second and await asyncio.to_thread(self.first.leads)
            await asyncio.sleep(0.02)

    async def make_runs(self, count: int, prefix: str, *, every_s: float = 0.1) -> None:
        for number in range(count):
            await self.play.run(f"{prefix}-{number}")
            await asyncio.sleep(every_s)

    async def all_completed(self, count: int) -> None:
        async def over() -> bool:
            items, _ = await self.client.list(FLOW_RUNS, self.namespace, field_selector="status.phase=Completed")
            return len(items) == count

        await until(over, timeout_s=40, what=f"the end of {count} runs")
        runs, _ = await self.client.list(FLOW_RUNS, self.namespace)
        assert self.jobs_made == {f"{run['metadata']['name']}-1": 1 for run in runs}, "one Job an attempt, no more"
        assert {run["status"]["attempt"] for run in runs} == {1}
        assert self.together == 0

    async def until_leading(self, candidate: Candidate, *, timeout_s: float) -> float:
        """Seconds until it says that it leads, by when it says so."""
        began_s = time.monotonic()

        async def look() -> bool:
            return await asyncio.to_thread(candidate.leads)

        await until(look, timeout_s=timeout_s, what="a new leader")
        return time.monotonic() - began_s

    async def holder(self) -> str:
        lease = await self.client.get(LEASES, self.lease, names.OPERATOR_NAMESPACE)
        return lease["spec"]["holderIdentity"].partition("_")[0]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for candidate in (self.first, self.second):
            with contextlib.suppress(ProcessLookupError):
                os.kill(candidate.operator.pid, signal.SIGCONT)
            await asyncio.to_thread(candidate.operator.stop)
            assert "Traceback" not in candidate.operator.text()


@contextlib.asynccontextmanager
async def pair_of(
    cluster: Cluster, folder: Path, client: Client, namespace: str, *arguments: str
) -> AsyncIterator[Pair]:
    pair = Pair(cluster, folder, client, namespace, *arguments)
    await pair.start()
    try:
        yield pair
    finally:
        await pair.stop()


async def test_a_killed_leader_is_replaced_within_15_seconds(cluster, tmp_path, client, namespace):
    async with pair_of(cluster, tmp_path, client, namespace) as pair:
        assert await pair.holder() == "first"
        making = asyncio.create_task(pair.make_runs(20, "a"))
        await asyncio.sleep(0.7)
        pair.first.operator.kill()
        took_s = await pair.until_leading(pair.second, timeout_s=20)
        print(f"take-over after kill -9: {took_s:.1f} s")
        await making
        await pair.all_completed(20)
        assert took_s < 15
        assert await pair.holder() == "second"


async def test_a_leader_that_is_asked_to_stop_hands_over_at_once(cluster, tmp_path, client, namespace):
    async with pair_of(cluster, tmp_path, client, namespace) as pair:
        making = asyncio.create_task(pair.make_runs(20, "a", every_s=0.02))
        await asyncio.sleep(0.2)
        began_s = time.monotonic()
        os.kill(pair.first.operator.pid, signal.SIGTERM)
        run = await pair.play.run("after")
        await pair.play.job(run)
        took_s = time.monotonic() - began_s
        print(f"hand-over: SIGTERM to the next leader's Job {took_s:.2f} s")
        await making
        await pair.all_completed(21)
        assert pair.second.says("leads now") == 1
        assert took_s < 4, "twice the aim of 2 s, for a machine that does other things too"
        lease = await client.get(LEASES, pair.lease, names.OPERATOR_NAMESPACE)
        assert lease["spec"]["leaseTransitions"] == 1


async def test_a_paused_leader_that_wakes_does_no_harm(cluster, tmp_path, client, namespace):
    async with pair_of(cluster, tmp_path, client, namespace, *QUICK) as pair:
        making = asyncio.create_task(pair.make_runs(60, "a"))
        await asyncio.sleep(1.0)
        os.kill(pair.first.operator.pid, signal.SIGSTOP)
        await pair.until_leading(pair.second, timeout_s=20)
        os.kill(pair.first.operator.pid, signal.SIGCONT)

        async def stands_by_again() -> bool:
            return pair.first.says("stepping down") == 1 and pair.first.says("standing by") == 1

        await until(stands_by_again, what="the woken leader to step down")
        await making
        await pair.all_completed(60)
        assert await pair.holder() == "second"
        assert pair.first.says("leads now") == 1
        # It is a standby like any other, and can take over again.
        os.kill(pair.second.operator.pid, signal.SIGTERM)
        await pair.until_leading(pair.first, timeout_s=10)
        await pair.play.run("once-more")
        await pair.all_completed(61)


async def test_without_an_api_server_nobody_leads_and_then_one_does(cluster, tmp_path, client, namespace):
    async with pair_of(cluster, tmp_path, client, namespace, *QUICK) as pair:
        await pair.make_runs(5, "a", every_s=0)
        await pair.all_completed(5)
        api_server = cluster.pid("kube-apiserver")
        os.kill(api_server, signal.SIGSTOP)
        try:

            async def nobody() -> bool:
                return not await asyncio.to_thread(pair.first.leads) and pair.first.says("stepping down") == 1

            await until(nobody, timeout_s=15, what="the leader to give up")
        finally:
            os.kill(api_server, signal.SIGCONT)

        async def somebody() -> bool:
            return await asyncio.to_thread(pair.first.leads) or await asyncio.to_thread(pair.second.leads)

        await until(somebody, timeout_s=30, what="a leader")
        await pair.make_runs(5, "b", every_s=0)
        await pair.all_completed(10)
