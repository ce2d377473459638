"""The pages for Prometheus and the kubelet, over HTTP."""

import asyncio
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from levada.decide.health import HealthFacts, Patience
from levada.operator import pages as module
from levada.operator.controller import Controller, Work
from levada.operator.election import Unopposed
from levada.operator.health import Health
from levada.operator.metrics import Metrics
from levada.operator.pages import AddressInUseError, Pages, served
from levada.operator.rights import Rights
from levada.operator.settings import OperatorSettings
from levada.operator.state import state_of
from levada.operator.store import Key
from support.facts import SETTINGS, T0, a_pod, a_run, s
from support.fake_cluster import FakeCluster


def fetch(port, path, accept=""):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


class Site:
    """Pages over facts that a test can change."""

    def __init__(self, **facts):
        self.facts = HealthFacts(synced=True, **facts)
        self.metrics = Metrics()

    async def get(self, path, accept=""):
        pages = Pages(asyncio.get_running_loop(), self.metrics, lambda: self.facts, Patience())
        with served(pages, "127.0.0.1:0") as port:
            return await asyncio.to_thread(fetch, port, path, accept)


async def test_a_healthy_operator():
    assert await Site().get("/healthz") == (200, module.PLAIN, "ok\n")
    assert await Site().get("/readyz") == (200, module.PLAIN, "ok\n")
    status, kind, text = await Site().get("/metrics")
    assert (status, kind.split(";")[0]) == (200, "text/plain")
    assert "levada_build_info" in text
    assert (await Site().get("/metrics", "application/openmetrics-text; version=1.0.0"))[2].endswith("# EOF\n")
    assert (await Site().get("/admin"))[0] == 404


async def test_what_is_stuck_is_said():
    site = Site(silences_s={"pods": 5000})
    status, _, text = await site.get("/healthz")
    assert (status, text) == (503, "watch of pods: nothing heard for 5000 s (at most 900 s)\n")
    assert (await site.get("/readyz"))[0] == 503


async def test_not_yet_listed_is_alive_and_not_ready():
    site = Site()
    site.facts = HealthFacts(synced=False)
    assert (await site.get("/healthz"))[0] == 200
    assert (await site.get("/readyz"))[:3:2] == (503, "not everything has been listed yet\n")


async def test_a_blocked_loop_is_seen_from_outside(monkeypatch):
    monkeypatch.setattr(module, "LOOP_ANSWERS_S", 0.05)
    site = Site()
    pages = Pages(asyncio.get_running_loop(), site.metrics, lambda: site.facts, Patience())
    with served(pages, "127.0.0.1:0") as port, ThreadPoolExecutor(1) as browser:
        # The loop waits here for the answer, which is what must not happen.
        status, _, text = browser.submit(fetch, port, "/healthz").result(10)
    assert status == 503
    assert "event loop" in text


def test_no_address_serves_nothing():
    with served(lambda *_: [], "") as port:
        assert port == 0


@pytest.fixture
def controller():
    made = Controller(FakeCluster(T0).client, OperatorSettings(decide=SETTINGS), now=lambda: T0 + s(1000))
    yield made
    made.queue.close()


async def test_a_hanging_worker_is_told_with_its_object(controller):
    controller.start()

    async def hang(key):
        await asyncio.Event().wait()

    controller.reconcilers["FlowRun"] = hang
    worker = asyncio.create_task(controller.work())
    controller.enqueue("FlowRun", Key("ns", "r"))
    while not controller.queue.working:  # noqa: ASYNC110 - a turn of the loop is what is waited for
        await asyncio.sleep(0)
    controller.queue._working[Work("FlowRun", Key("ns", "r"))] -= 301
    health = Health(controller, {}, Unopposed(), Rights())
    pages = Pages(asyncio.get_running_loop(), controller.metrics, health.facts, Patience())
    with served(pages, "127.0.0.1:0") as port:
        status, _, text = await asyncio.to_thread(fetch, port, "/healthz")
    worker.cancel()
    assert status == 503
    assert "FlowRun ns/r" in text


def test_the_state_of_the_store(controller):
    controller.take_run(a_run())
    controller.take_run(a_run(name="over", uid="u2", attempt=1, phase="Completed", completed_at=T0))
    controller.store.put_pod(a_pod(run="over", run_uid="u2", started_at=T0))
    controller.metrics.observe_state(lambda: state_of(controller, {}))
    value = controller.metrics.registry.get_sample_value
    assert value("levada_runs", {"phase": "New"}) == 1
    assert value("levada_runs", {"phase": "Completed"}) == 1
    assert value("levada_queue_runs", {"namespace": "ns", "queue": "default", "state": "waiting"}) == 1
    assert value("levada_deployment_runs", {"namespace": "ns", "deployment": "d", "phase": "New"}) == 1
    assert value("levada_workqueue_length") == 2
    assert value("levada_invariant_violations", {"invariant": "live_pod"}) == 1
    assert value("levada_invariant_violations", {"invariant": "slot"}) == 0


def test_an_address_that_is_taken_is_named():
    with (
        served(lambda *_: [], "127.0.0.1:0") as port,
        pytest.raises(AddressInUseError, match=f"--metrics-address 127.0.0.1:{port} cannot be had: "),
        served(lambda *_: [], f"127.0.0.1:{port}"),
    ):
        raise AssertionError("two servers on one port")
