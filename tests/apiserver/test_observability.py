"""What the operator tells, on a real API server: Events about a run and its Deployment, metrics, probes, and a watch that falls silent."""

import asyncio
import re
import socket
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml

from levada.cluster import Cluster
from levada.kube import Client
from levada.resources.kinds import EVENTS, FLOW_RUNS
from support.operator_play import Operator, Play, until

pytestmark = pytest.mark.apiserver
RELIST_S = 3


class Swallower:
    """A proxy of bytes. When it is told to, it goes on taking what both sides say, and passes nothing on."""

    def __init__(self, server: str) -> None:
        host, _, port = server.removeprefix("https://").rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self.swallows = False

    def run(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not self.swallows:
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def swallower(kubeconfig: Path):
    """A Swallower, and `kubeconfig` changed to go through it."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    made = Swallower(cluster["server"])
    cluster["server"] = f"https://127.0.0.1:{made.port}"
    kubeconfig.write_text(yaml.safe_dump(config))
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        yield made
    finally:
        made.close()
        thread.join()


class Pages:
    """The operator's pages."""

    def __init__(self, operator: Operator) -> None:
        found = re.findall(r"/readyz on http://127\.0\.0\.1:(\d+)", operator.text())
        self._url = f"http://127.0.0.1:{found[-1]}"

    async def get(self, path: str) -> tuple[int, str]:
        return await asyncio.to_thread(self._get, path)

    def _get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self._url + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture
def operator(cluster: Cluster, installed: None, tmp_path: Path):
    operator = Operator(
        cluster, tmp_path / "operator", "--metrics-address", "127.0.0.1:0", "--relist-seconds", str(RELIST_S)
    )
    with swallower(operator.kubeconfig) as proxy:
        operator.proxy = proxy
        operator.start()
        yield operator
        operator.stop()


async def fails(play: Play) -> str:
    run = await play.run()
    pod = await play.pod(run)
    await play.starts(pod)
    await play.reports_running(run, pod)
    await play.has_event(run, "Started")
    await play.reports_end(run, "Failed", "FlowFailed", "no luck")
    await play.ends(pod, 1)
    await play.has_events(run, "Failed", "Started")
    return run


async def test_what_is_told_of_failing_runs(operator: Operator, client: Client, namespace: str):
    play, pages = Play(client, namespace), Pages(operator)
    assert await pages.get("/healthz") == (200, "ok\n")
    assert await pages.get("/readyz") == (200, "ok\n")
    await play.flow()
    await play.deployment()
    runs = [await fails(play) for _ in range(3)]

    ended = f'levada_runs_ended_total{{deployment="hello",namespace="{namespace}",phase="Failed"}} 3.0'

    async def counted():
        return ended in (await pages.get("/metrics"))[1]

    await until(counted, what=ended)
    _, page = await pages.get("/metrics")
    assert 'levada_run_failures_total{category="FlowFailed",outcome="final"} 3.0' in page
    assert 'levada_invariant_violations{invariant="live_pod"} 0.0' in page
    assert not any(run in page for run in runs)

    # The first failure is told about the Deployment at once; how many it were is told before the process ends.
    await play.has_event("hello", "RunFailed")
    operator.stop()
    events, _ = await client.list(EVENTS, namespace)
    told = [event for event in events if event["reason"] == "RunFailed"]
    assert sum(event["count"] for event in told) == 3
    assert f"FlowRun {runs[-1]}: FlowFailed: no luck" in {event["message"] for event in told}


async def test_a_run_whose_end_the_operator_writes_has_its_stages(operator: Operator, client: Client, namespace: str):
    play = Play(client, namespace)
    await play.flow()
    await play.deployment()
    run = await play.run()
    pod = await play.pod(run)
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": pod["metadata"]["creationTimestamp"]}
    await play.ends(pod, 0, conditions=[scheduled])
    await play.phase(run, "Completed")
    status = (await client.get(FLOW_RUNS, run, namespace))["status"]
    assert {"queuedSeconds", "scheduleSeconds", "imageSeconds"} <= set(status["stages"])


async def test_a_watch_that_has_fallen_silent_is_seen(operator: Operator):
    pages = Pages(operator)
    assert (await pages.get("/healthz"))[0] == 200
    operator.proxy.swallows = True

    async def is_stuck():
        status, text = await pages.get("/healthz")
        return text if status == 503 else ""

    text = await until(is_stuck, timeout_s=10 * RELIST_S, what="a failing /healthz")
    assert f"(at most {3 * RELIST_S} s)" in text
    assert "nothing heard" in text
    assert (await pages.get("/readyz"))[0] == 503
    operator.kill()
