"""Backfills on a real API server: the operator as a process, pods played by a kubelet of the test's own."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest

from levada.cluster import Cluster
from levada.kube import ApiError, Client, Invalid
from levada.resources.kinds import BACKFILLS, FLOW_RUNS, PODS, SCHEDULES
from support.operator_play import Operator, Play, until

pytestmark = pytest.mark.apiserver
WINDOW = {"startTime": "2026-03-01T00:00:00Z", "endTime": "2026-03-08T23:59:59Z"}


@pytest.fixture(scope="module")
def operator(cluster: Cluster, installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    operator = Operator(cluster, tmp_path_factory.mktemp("operator"))
    operator.start()
    yield operator
    assert operator.stop() == 0
    assert "Traceback" not in operator.text()


@pytest.fixture
async def play(operator: Operator, client: Client, namespace: str) -> AsyncIterator[Play]:
    """A deployment with a schedule, and a kubelet that ends each pod well, but those of the fifth of March the first time."""
    play = Play(client, namespace)
    await play.flow()
    await play.deployment()
    await play._create(SCHEDULES, "nightly", {"deploymentRef": {"name": "hello"}, "cron": "0 6 * * *", "suspend": True})
    kubelet = asyncio.create_task(end_every_pod(play))
    yield play
    kubelet.cancel()
    with suppress(asyncio.CancelledError):
        await kubelet


async def end_every_pod(play: Play) -> None:
    while True:
        items, _ = await play.client.list(PODS, play.namespace)
        for pod in items:
            if pod["status"]["phase"] == "Pending" and "deletionTimestamp" not in pod["metadata"]:
                fails = pod["metadata"]["labels"]["levada.dev/run"].startswith("nightly-20260305")
                with suppress(ApiError):
                    await play.ends(pod, 3 if fails else 0)
        await asyncio.sleep(0.1)


async def backfill(play: Play, name: str, **spec: object) -> None:
    await play._create(
        BACKFILLS, name, {"deploymentRef": {"name": "hello"}, "scheduleRef": {"name": "nightly"}, **WINDOW, **spec}
    )


async def ended(play: Play, name: str) -> dict:
    async def look() -> object:
        status = (await play.client.get(BACKFILLS, name, play.namespace)).get("status") or {}
        return status if status.get("phase") in {"Completed", "Failed", "Cancelled"} else None

    return await until(look, what=f"the end of backfill {name}", timeout_s=50)


async def runs(play: Play) -> dict[str, dict]:
    items, _ = await play.client.list(FLOW_RUNS, play.namespace)
    return {item["metadata"]["name"]: item for item in items}


async def test_one_run_a_tick_over_the_death_of_the_operator_and_then_only_what_failed(play: Play, operator: Operator):
    await backfill(play, "march", maxActive=3)

    async def begun() -> object:
        return len(await runs(play)) >= 2

    await until(begun, what="the first runs")
    operator.kill()
    operator.start()
    status = await ended(play, "march")
    made = await runs(play)
    assert (status["phase"], status["fates"], status["progress"]) == ("Failed", "CCCCFCCC", "8/8")
    assert sorted(made) == [f"nightly-2026030{day}t060000z" for day in range(1, 9)]
    assert {run["metadata"]["labels"]["levada.dev/backfill"] for run in made.values()} == {"march"}

    await backfill(play, "again", reprocess="Failed")
    status = await ended(play, "again")
    assert (status["fates"], status["message"]) == ("====C===", "1 of 1 runs succeeded, 7 have a run already.")
    repeated = (await runs(play))["again-again-20260305t060000z"]
    assert repeated["spec"]["retryOf"] == "nightly-20260305t060000z"
    await play.has_event("march", "Failed")
    await play.has_event("again", "Completed")


async def test_paused_by_a_patch_then_cancelled(play: Play):
    await backfill(play, "slow", maxActive=1, paused=True)

    async def phase_is(wanted: str) -> object:
        async def look() -> object:
            return ((await play.client.get(BACKFILLS, "slow", play.namespace)).get("status") or {}).get(
                "phase"
            ) == wanted

        return await until(look, what=f"phase {wanted}")

    await phase_is("Paused")
    assert await runs(play) == {}
    await play.client.patch(BACKFILLS, "slow", {"spec": {"cancel": True}}, play.namespace)
    status = await ended(play, "slow")
    assert (status["phase"], status["fates"]) == ("Cancelled", "--------")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cron": "@daily"}, "exactly one of scheduleRef, cron, intervalSeconds and rrule"),
        ({"startTime": "2026-04-01T00:00:00Z"}, "startTime is not after endTime"),
        ({"maxActive": 0}, "maxActive"),
        ({"anchor": "2026-04-01T00:00:00Z"}, "anchor goes with intervalSeconds"),
        ({"reprocess": "some"}, "reprocess"),
    ],
)
async def test_bad_input_is_refused_at_apply(play: Play, change: dict, said: str):
    with pytest.raises((Invalid, ApiError), match=said):
        await backfill(play, "bad", **change)


async def test_the_order_cannot_change(play: Play):
    await backfill(play, "fixed", paused=True)
    for change in (
        {"reverse": True},
        {"endTime": "2026-03-09T00:00:00Z"},
        {"scheduleRef": {"name": "x"}},
        {"dryRun": True},
    ):
        with pytest.raises(Invalid, match="create another Backfill"):
            await play.client.patch(BACKFILLS, "fixed", {"spec": change}, play.namespace)


async def test_the_command_line_plans_runs_and_shows(play: Play, cluster: Cluster):
    async def levada(*arguments: str) -> subprocess.CompletedProcess:
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "levada.cli", *arguments, "-n", play.namespace, "--kubeconfig", str(cluster.kubeconfig)],
            capture_output=True, text=True, timeout=50, check=False, env=os.environ | {"COLUMNS": "140"},
        )  # fmt: skip

    window = ("--from", "2026-03-02", "--to", "2026-03-03")
    planned = await levada("backfill", "hello", *window, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "Dry run: 2 of 2 ticks would be run" in planned.stdout
    assert await runs(play) == {}
    assert (await play.client.list(BACKFILLS, play.namespace))[0] == [], "a dry run leaves nothing"
    done = await levada("backfill", "hello", *window, "--name", "two", "--watch")
    assert done.returncode == 0, done.stderr
    assert "Completed: 2 of 2 runs succeeded." in done.stderr
    listed = await levada("backfills", "ls", "-o", "json")
    assert [item["status"]["progress"] for item in json.loads(listed.stdout)["items"]] == ["2/2"]
    lost = await levada("backfill", "helo", *window)
    assert (lost.returncode, "did you mean hello?" in lost.stderr) == (3, True)
    no_time = await levada("backfill", "hello", "--from", "yesterday")
    assert "--from 'yesterday' is no time" in no_time.stderr
