"""kill -9 of the operator at any moment: no run is lost, no attempt is made twice, none stays undecided."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from levada.cluster import Cluster
from levada.kube import Client, Reflector
from levada.resources import names
from levada.resources.kinds import FLOW_RUNS, JOBS, PODS
from support.operator_play import Operator, Play, until

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(180)]

RUNS = 40
KILLS = 6


@pytest.fixture
def operator(cluster: Cluster, installed: None, tmp_path: Path, namespace: str) -> Iterator[Operator]:
    operator = Operator(cluster, tmp_path, "--namespace", namespace)
    operator.start()
    yield operator
    operator.stop()
    assert "Traceback" not in operator.text()


@pytest.fixture
async def play(operator: Operator, client: Client, namespace: str) -> Play:
    return Play(client, namespace)


@pytest.mark.parametrize("seed", [1, 2])
async def test_killed_at_any_moment(operator: Operator, play: Play, seed: int):
    chance = random.Random(seed)
    await play.flow()
    await play.deployment(infrastructureRetries={"limit": 3, "delaySeconds": 0}, retries={"limit": 0})
    created: Counter[str] = Counter()
    pods_made: Counter[str] = Counter()
    endings: list[asyncio.Task[None]] = []

    def on_job(change: str, body: dict) -> None:
        created[body["metadata"]["name"]] += change == "ADDED"

    def on_pod(change: str, body: dict) -> None:
        if change == "ADDED":
            pods_made[
                body["metadata"]["labels"][names.LABEL_RUN] + "-" + body["metadata"]["labels"][names.LABEL_ATTEMPT]
            ] += 1
            endings.append(asyncio.create_task(end(body, chance.random())))

    async def end(pod: dict, luck: float) -> None:
        await asyncio.sleep(luck / 2)
        evicted = luck < 0.3 and pod["metadata"]["labels"][names.LABEL_ATTEMPT] == "1"
        if evicted:
            await play.set_pod(
                pod, "Failed", {"terminated": {"exitCode": 143}}, reason="Evicted", message="low on memory"
            )
        else:
            await play.ends(pod)

    watches = [
        asyncio.create_task(reflector.run())
        for reflector in (
            Reflector(play.client, JOBS, play.namespace, on_change=on_job),
            Reflector(play.client, PODS, play.namespace, on_change=on_pod),
        )
    ]
    try:
        users = asyncio.create_task(create_runs(play))
        for _ in range(KILLS):
            await asyncio.sleep(chance.uniform(0.1, 1.2))
            operator.kill()
            await asyncio.to_thread(operator.start)
        await users

        async def all_over() -> bool:
            items, _ = await play.client.list(FLOW_RUNS, play.namespace, field_selector="status.phase=Completed")
            return len(items) == RUNS

        await until(all_over, timeout_s=60, what="the end of all runs")
    finally:
        for task in [*watches, *endings]:
            task.cancel()
        await asyncio.gather(*watches, *endings, return_exceptions=True)
    assert max(created.values()) == max(pods_made.values()) == 1
    runs, _ = await play.client.list(FLOW_RUNS, play.namespace)
    assert len(runs) == RUNS
    for run in runs:
        attempts = run["status"]["attempt"]
        assert {f"{run['metadata']['name']}-{n + 1}" for n in range(attempts)} <= set(created)
    assert len(created) == sum(run["status"]["attempt"] for run in runs), "an attempt that is on no record was made"


async def create_runs(play: Play) -> None:
    for number in range(RUNS):
        await play.run(f"run-{number}")
        await asyncio.sleep(0.05)


async def test_what_happened_while_the_operator_was_away_is_found(operator: Operator, play: Play):
    await play.flow()
    await play.deployment(infrastructureRetries={"limit": 1, "delaySeconds": 1})
    names_ = ("done", "reported", "deleted-job", "left-behind", "waiting")
    pods = {}
    for name in names_[:4]:
        await play.run(name)
        pods[name] = await play.pod(name)
        await play.starts(pods[name])
        await play.reports_running(name, pods[name])
    operator.kill()
    await play.ends(pods["done"])
    await play.reports_end("reported", "Completed")
    await play.ends(pods["reported"])
    await play.client.delete(JOBS, "deleted-job-1", play.namespace)
    await play.reports_end("left-behind", "Failed", "Gone")  # its pod goes on
    await play.run("waiting")
    await asyncio.to_thread(operator.start)
    assert (await play.phase("done", "Completed"))["reason"] == "ExitedZero"
    assert (await play.status("reported"))["reason"] == "Completed"
    status = await play.phase("deleted-job", "Retrying", "Pending")
    assert status["attempts"][0]["reason"] == "JobDeleted"
    await play.pod("deleted-job", 2)
    await play.pod("waiting")
    await play.has_event("left-behind", "Failed")


async def test_a_run_put_on_record_whose_job_was_never_made(operator: Operator, play: Play):
    await play.flow()
    await play.deployment()
    await play.pod(await play.run("first"))
    flow = (await play.status("first"))["flow"]
    operator.kill()
    await play.run("second")
    # Exactly what the operator's first write leaves behind.
    await play.reports("second", phase="Pending", reason="WaitingForPod", attempt=1, queue="default", flow=flow)
    await asyncio.to_thread(operator.start)
    await play.pod("second")
    assert (await play.status("second"))["attempt"] == 1


async def test_a_cancel_is_carried_out_after_a_kill_between_its_two_writes(operator: Operator, play: Play):
    await play.flow()
    await play.deployment()
    run = await play.run()
    pod = await play.pod(run)
    operator.kill()
    await play.cancel(run)
    await play.reports(run, phase="Cancelling", reason="CancelRequested")
    await asyncio.to_thread(operator.start)
    await play.phase(run, "Cancelled")
    assert (await play.client.get(JOBS, f"{run}-1", play.namespace))["spec"]["suspend"] is True

    async def gone() -> bool:
        items, _ = await play.client.list(PODS, play.namespace)
        return not items

    await until(gone, what=f"the end of {pod['metadata']['name']}")


async def test_a_started_operator_leaves_finished_runs_alone(operator: Operator, play: Play):
    await play.flow()
    await play.deployment()
    run = await play.run()
    await play.ends(await play.pod(run))
    await play.phase(run, "Completed")
    await play.has_event(run, "Completed")
    before = await play.client.get(FLOW_RUNS, run, play.namespace)
    operator.kill()
    await asyncio.to_thread(operator.start)
    other = await play.run()
    await play.pod(other)
    assert await play.client.get(FLOW_RUNS, run, play.namespace) == before
    await play.has_events(run, "Completed")
