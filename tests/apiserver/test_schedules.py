"""Schedules on a real API server: a real operator killed at each boundary between two writes, and a pod that starts before its tick."""

import asyncio
import json
import threading
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from levada.cluster import Cluster
from levada.decide.schedule_rule import Rule
from levada.kube import Client, Invalid
from levada.resources.kinds import FLOW_RUNS, SCHEDULES
from support.fault_proxy import FaultProxy
from support.operator_play import Operator, Play, until
from support.stack import Stack, running_stack

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(180)]

EVERY_S = 2
# What one tick with policy Replace writes, in this order: (method, the end of the path's pattern).
WRITES = {"cancel": ("PATCH", "/flowruns/"), "create": ("POST", "/flowruns"), "record": ("PATCH", "/status")}
BOUNDARIES = [(write, when) for write in WRITES for when in ("before", "after")]


class Gate(FaultProxy):
    """Stops the client at one of the writes of a schedule, before or after it is carried out, until it is killed."""

    def __init__(self, kubeconfig: Path) -> None:
        super().__init__(kubeconfig, seed=0, share=0.0)
        self._armed: tuple[str, str] | None = None
        self.reached = threading.Event()

    def arm(self, write: str, when: str) -> None:
        self.reached.clear()
        self._armed = (write, when)

    async def _once(self, request: web.Request, body: bytes, fault: str) -> web.Response:
        if self._armed is None or not self._is(request, self._armed[0]):
            return await super()._once(request, body, fault)
        when, self._armed = self._armed[1], None
        if when == "after":
            await super()._once(request, body, fault)
        self.reached.set()
        await asyncio.sleep(60)  # the client is killed meanwhile
        raise self._cut(request)

    @staticmethod
    def _is(request: web.Request, write: str) -> bool:
        method, part = WRITES[write]
        if request.method != method:
            return False
        if write == "record":
            return "/schedules/" in request.path and request.path.endswith(part)
        if write == "create":
            return request.path.endswith(part)
        return part in request.path and not request.path.endswith("/status")


@pytest.fixture
def gate(cluster: Cluster, installed: None, tmp_path: Path, namespace: str):
    operator = Operator(cluster, tmp_path, "--namespace", namespace)
    gate = Gate(operator.kubeconfig)
    gate.start()
    operator.kubeconfig = gate.write_kubeconfig(tmp_path / "gate.kubeconfig")
    operator.start()
    gate.operator = operator
    yield gate
    operator.stop()
    gate.stop()
    assert "unexpected" not in operator.text()


async def schedule(client: Client, namespace: str, name: str, **spec) -> None:
    metadata = {"name": name, "namespace": namespace}
    body = {"apiVersion": SCHEDULES.api_version, "kind": "Schedule", "metadata": metadata}
    await client.create(SCHEDULES, {**body, "spec": {"deploymentRef": {"name": "hello"}, **spec}})


async def status_of(client: Client, namespace: str, name: str) -> dict:
    return (await client.get(SCHEDULES, name, namespace)).get("status") or {}


async def test_killed_between_any_two_writes_each_tick_has_one_run(gate: Gate, client: Client, namespace: str):
    """Jobs of these runs never get a pod, so with Replace each tick cancels the one before: three kinds of writes a tick."""
    play = Play(client, namespace)
    await play.flow()
    await play.deployment()
    await schedule(
        client, namespace, "often", intervalSeconds=EVERY_S, concurrencyPolicy="Replace", catchUp="All", jitterSeconds=1
    )
    for write, when in BOUNDARIES:
        seen = (await status_of(client, namespace, "often")).get("started", 0)
        gate.arm(write, when)
        assert await asyncio.to_thread(gate.reached.wait, 30), f"no {write} came"
        gate.operator.kill()
        await asyncio.to_thread(gate.operator.start)

        async def goes_on(seen: int = seen) -> bool:
            return (await status_of(client, namespace, "often")).get("started", 0) > seen + 1

        await until(goes_on, what=f"the ticks after a kill {when} the {write}", timeout_s=30)
    await client.patch(SCHEDULES, "often", {"spec": {"suspend": True}}, namespace)

    async def suspended() -> bool:
        return bool((await status_of(client, namespace, "often")).get("skipped"))

    await until(suspended, what="the first tick that is skipped")
    body = await client.get(SCHEDULES, "often", namespace)
    status = body["status"]
    decided = datetime.fromisoformat(status["rule"]["decidedUntil"])
    created = datetime.fromisoformat(body["metadata"]["creationTimestamp"])
    ticks = []
    for tick in Rule.of(body["spec"]).ticks(created):
        if tick > decided:
            break
        ticks.append(tick)
    runs, _ = await client.list(FLOW_RUNS, namespace)
    made = Counter(datetime.fromisoformat(run["spec"]["scheduledTime"]) for run in runs)
    assert max(made.values()) == 1
    assert len(made) == status["started"]
    assert set(status["skippedByReason"]) == {"Suspended"}, status
    assert sorted(made) == ticks[: len(made)], "a tick was lost, or made twice"
    assert len(made) + status["skipped"] == len(ticks)


@pytest.fixture(scope="module")
def stack(cluster: Cluster, installed: None, tmp_path_factory: pytest.TempPathFactory):
    with running_stack(cluster, tmp_path_factory.mktemp("schedules"), agent_name="schedules-agent") as stack:
        yield stack


SAYS_WHEN = """
from datetime import datetime, timezone
from levada import flow

@flow
def hello(day: str = "", n: int = 0):
    return [datetime.now(timezone.utc).isoformat(), day, n]
"""


async def test_a_run_made_early_starts_on_time_with_its_parameters(stack: Stack, client: Client, namespace: str):
    play = Play(client, namespace)
    await play.flow(code=SAYS_WHEN)
    await play.deployment()
    await play.run("warm")  # the first run of all has the machine load what the others find loaded
    await play.phase("warm", "Completed", timeout_s=60)
    at = datetime.fromtimestamp(int(time.time()) + 12).astimezone()
    await schedule(
        client, namespace, "early", intervalSeconds=3600, anchor=at.isoformat(), prestartSeconds=10,
        parameters={"day": "{{ scheduled_time | date }}", "n": "{{ scheduled_time | timestamp }}"},
    )  # fmt: skip

    async def made() -> str:
        return (await status_of(client, namespace, "early")).get("lastRun") or ""

    name = await until(made, what="the run")
    assert datetime.now().astimezone() < at, "it was not made early"
    status = await play.phase(name, "Completed", timeout_s=60)

    began, day, number = json.loads(status["result"])
    assert (day, number) == (at.astimezone().astimezone(tz=None).strftime("%Y-%m-%d"), int(at.timestamp()))
    assert timedelta(0) <= datetime.fromisoformat(began) - at < timedelta(seconds=2)
    assert status["stages"]["holdSeconds"] > 0


async def test_a_run_made_early_can_be_cancelled_while_it_is_held_back(stack: Stack, client: Client, namespace: str):
    play = Play(client, namespace)
    await play.flow(code=SAYS_WHEN)
    await play.deployment()
    at = datetime.fromtimestamp(int(time.time()) + 600).astimezone()
    await schedule(client, namespace, "held", intervalSeconds=86_400, anchor=at.isoformat(), prestartSeconds=900)

    async def held() -> str:
        name = (await status_of(client, namespace, "held")).get("lastRun")
        return name if name and "the flow starts at" in ((await play.status(name)).get("message") or "") else ""

    name = await until(held, what="a run that is held back", timeout_s=40)
    await play.cancel(name)
    await play.phase(name, "Cancelled", timeout_s=40)


async def test_what_means_nothing_is_refused_or_said(stack: Stack, client: Client, namespace: str):
    play = Play(client, namespace)
    await play.flow()
    await play.deployment()
    for spec in (
        {"intervalSeconds": 0},
        {"cron": "0 0 * * *", "startTime": "2026-01-02T00:00:00Z", "endTime": "2026-01-01T00:00:00Z"},
    ):
        with pytest.raises(Invalid):
            await schedule(client, namespace, "refused", **spec)
    bad = {
        "seven-fields": ({"cron": "0 0 6 * * 1-5 2026"}, "InvalidSchedule"),
        "no-zone": ({"cron": "0 6 * * *", "timeZone": "Europe/Lissabon"}, "InvalidSchedule"),
        "no-name": ({"cron": "@daily", "parameters": {"name": "{{ tomorrow }}"}}, "InvalidTemplate"),
        "no-deployment": ({"cron": "@daily", "deploymentRef": {"name": "missing"}}, "DeploymentNotFound"),
    }
    for name, (spec, _) in bad.items():
        await schedule(client, namespace, name, **spec)
    for name, (_, reason) in bad.items():
        condition = await play.ready(SCHEDULES, name, "False")
        assert condition["reason"] == reason
        assert condition["message"]
        await play.has_event(name, reason)
    await play.deployment("missing")
    await play.ready(SCHEDULES, "no-deployment", "True")
