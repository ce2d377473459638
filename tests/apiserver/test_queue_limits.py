"""Limits on a real API server: of a queue under kill -9, of a Deployment with each policy, of the operator over queues; and Kueue, played."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from levada.cluster import Cluster
from levada.kube import Client, NotFound, Reflector
from levada.resources import names
from levada.resources.kinds import FLOW_RUNS, JOBS, PODS, WORK_QUEUES
from levada.resources.phases import is_terminal
from support.operator_play import Operator, Play, until

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(180)]

RUNS, LIMIT, KILLS = 40, 3, 4


@pytest.fixture
def operator(cluster: Cluster, installed: None, tmp_path: Path, namespace: str) -> Iterator[Operator]:
    operator = Operator(cluster, tmp_path, "--namespace", namespace, "--max-active-runs", "4")
    operator.start()
    yield operator
    operator.stop()
    assert "Traceback" not in operator.text()


class Watcher:
    """Sees every version of every run: at no moment may more of them hold a place than the limit says."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.runs: dict[str, dict[str, Any]] = {}
        self.most: dict[str, int] = {}
        self.started: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []

    def on_run(self, change: str, body: dict[str, Any]) -> None:
        name = body["metadata"]["name"]
        before = (self.runs.get(name) or {}).get("status") or {}
        self.runs[name] = body
        if (body.get("status") or {}).get("attempt") and not before.get("attempt"):
            self.started.append(name)
        holding = [
            run["status"] for run in self.runs.values()
            if (run.get("status") or {}).get("attempt") and not is_terminal(run["status"].get("phase"))
        ]  # fmt: skip
        for queue in {status["queue"] for status in holding}:
            self.most[queue] = max(self.most.get(queue, 0), sum(status["queue"] == queue for status in holding))
        self.most["all"] = max(self.most.get("all", 0), len(holding))

    def on_pod(self, change: str, body: dict[str, Any]) -> None:
        if change == "ADDED":
            self._tasks.append(asyncio.create_task(self._end(body)))

    async def _end(self, pod: dict[str, Any]) -> None:
        await asyncio.sleep(0.05)
        await self.play.ends(pod)

    def phases(self) -> list[str]:
        return [(run.get("status") or {}).get("phase", "") for run in self.runs.values()]


@pytest.fixture
async def watcher(operator: Operator, client: Client, namespace: str) -> AsyncIterator[Watcher]:
    watcher = Watcher(Play(client, namespace))
    reflectors = (
        Reflector(client, FLOW_RUNS, namespace, on_change=watcher.on_run),
        Reflector(client, PODS, namespace, on_change=watcher.on_pod),
    )
    watches = [asyncio.create_task(reflector.run()) for reflector in reflectors]
    yield watcher
    for watch in watches:
        watch.cancel()


async def test_a_limit_holds_while_the_operator_is_killed(operator: Operator, watcher: Watcher):
    play = watcher.play
    await play.flow()
    await play.queue("narrow", concurrencyLimit=LIMIT, priority=1)
    await play.deployment(workQueue="narrow")
    await play.deployment("other", flow="hello")
    for number in range(RUNS):
        await play.run(
            f"n-{number:02}", deployment="hello" if number % 2 else "other", priority=int(number == RUNS - 1)
        )
    for kill in range(KILLS):
        await until(lambda seen=kill: _async(len(watcher.started) > 5 * seen), what="some runs start")
        operator.kill()
        operator.start(wait=False)
    await until(lambda: _async(watcher.phases().count("Completed") == RUNS), timeout_s=90, what="all runs end")
    assert watcher.most["narrow"] <= LIMIT
    assert watcher.most["all"] <= 4

    async def counted() -> Any:
        status = (await play.client.get(WORK_QUEUES, "narrow", play.namespace)).get("status") or {}
        return (status.get("active"), status.get("waiting")) == (0, 0)

    await until(counted, what="the queue's counts are true")


async def _async(value: Any) -> Any:
    return value


async def test_each_policy_of_a_deployment(operator: Operator, client: Client, namespace: str):
    play = Play(client, namespace)
    await play.flow()
    await play.node("limits-node")
    for policy in ("Queue", "Skip", "Replace"):
        name = policy.lower()
        await play.deployment(name, flow="hello", concurrency={"limit": 1, "policy": policy})
        await play.run(f"{name}-1", deployment=name)
        pod = await play.pod(f"{name}-1")
        await play.bind(pod, "limits-node")  # else it would be gone the moment that it is to stop
        await play.starts(pod)
        await play.reports_running(f"{name}-1", pod)
        await play.run(f"{name}-2", deployment=name)
        if policy == "Queue":
            assert (await play.phase("queue-2", "Queued"))["reason"] == "DeploymentFull"
            await play.reports_end("queue-1", "Completed")
            await play.job("queue-2")
            await play.ends(pod)
            await play.reports_end("queue-2", "Completed")
        elif policy == "Skip":
            ended = await play.phase("skip-2", "Skipped")
            assert "at most 1 at a time" in ended["message"]
            await play.has_event("skip-2", "Skipped")
            await play.reports_end("skip-1", "Completed")
        else:
            assert (await play.phase("replace-2", "Queued"))["reason"] == "Replacing"
            await play.phase("replace-1", "Cancelling")
            await play.has_event("replace-1", "Replaced")
            with pytest.raises(NotFound):
                await client.get(JOBS, "replace-2-1", namespace)
            await play.reports_end("replace-1", "Cancelled")
            await play.job("replace-2")


async def test_kueue_says_when(operator: Operator, client: Client, namespace: str):
    """What Kueue does to a Job is done by hand: unsuspend it, suspend it again."""
    play = Play(client, namespace)
    await play.flow()
    await play.queue("quota", localQueue="team", workloadPriorityClass="high")
    await play.deployment(workQueue="quota", pendingTimeoutSeconds=5)
    await play.run("k")
    job = await play.job("k")
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"][names.LABEL_KUEUE_QUEUE] == "team"
    assert (await play.phase("k", "Queued"))["reason"] == "WaitingForKueue"
    await asyncio.sleep(6)  # longer than the pending timeout, whose clock must not run
    assert (await play.status("k"))["phase"] == "Queued"

    await client.patch(JOBS, "k-1", {"spec": {"suspend": False}}, namespace)
    await play.phase("k", "Pending")
    pod = await play.pod("k")
    await play.starts(pod)
    await play.reports_running("k", pod)

    await client.patch(JOBS, "k-1", {"spec": {"suspend": True}}, namespace)
    back = await play.phase("k", "Queued")
    assert (back["reason"], back["attempt"], back.get("podName"), back.get("attempts")) == (
        "WaitingForKueue",
        1,
        None,
        None,
    )
    await play.has_event("k", "EvictedByKueue")

    await client.patch(JOBS, "k-1", {"spec": {"suspend": False}}, namespace)
    await play.phase("k", "Pending")

    async def another() -> Any:
        found = await play.pod("k")
        return found if found["metadata"]["name"] != pod["metadata"]["name"] else None

    second = await until(another, what="another pod")
    await play.starts(second)
    await play.reports_running("k", second)
    await play.reports_end("k", "Completed")
    await play.ends(second)

    await play.run("c")
    await play.phase("c", "Queued")
    await play.cancel("c")
    await play.phase("c", "Cancelled")

    async def gone() -> Any:
        try:
            await client.get(JOBS, "c-1", namespace)
        except NotFound:
            return True
        return False

    await until(gone, what="the Job that Kueue could still start is deleted")


async def test_the_command_line_changes_queues_and_limits(
    cluster: Cluster, installed: None, client: Client, namespace: str
):
    def levada(*arguments: str) -> str:
        command = [
            sys.executable,
            "-m",
            "levada.cli",
            *arguments,
            "-n",
            namespace,
            "--kubeconfig",
            str(cluster.kubeconfig),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return done.stdout + done.stderr

    assert "no work queues" in levada("queues", "ls")
    assert "at most 5 at a time" in levada("queues", "set-limit", "etl", "5")
    assert "is paused" in levada("queues", "pause", "etl")
    spec = (await client.get(WORK_QUEUES, "etl", namespace))["spec"]
    assert (spec["concurrencyLimit"], spec["paused"]) == (5, True)
    levada("queues", "resume", "etl")
    assert "as many as there are" in levada("queues", "set-limit", "etl", "none")
    spec = (await client.get(WORK_QUEUES, "etl", namespace))["spec"]
    assert (spec.get("concurrencyLimit"), spec["paused"]) == (None, False)
    assert "neither a whole number" in levada("queues", "set-limit", "etl", "few")
    header, row = levada("queues", "ls").splitlines()
    assert header.split()[:4] == ["NAME", "LIMIT", "PRIORITY", "PAUSED"]
    assert row.split()[:4] == ["etl", "none", "0", "no"]

    assert "has 3 slots" in levada("limits", "set", "db", "3")
    assert "2.5 come back each second" in levada("limits", "set", "db", "4", "--per-second", "2.5")
    assert levada("limits", "ls").splitlines()[1].split()[:3] == ["db", "4", "2.5"]
    assert "concurrencylimit.levada.dev/db" in levada("limits", "ls", "-o", "name")
    assert "did you mean db" in levada("limits", "rm", "dbb")
    assert "is removed" in levada("limits", "rm", "db")
    assert "no limits" in levada("limits", "ls")
