"""The runner against the real API server: a pod's own bound token, the admission policy, the transition rules, the size limit."""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from levada.cluster import Cluster
from levada.kube import Client
from levada.resources.kinds import FLOW_RUNS, PODS, SERVICE_ACCOUNTS
from levada.runner.api import NotAllowed, Rejected, RunApi

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120)]
OPERATOR = Path(__file__).parents[2] / "operator"

FLOW = """
    import time
    from levada import flow, task

    @task
    def double(n):
        time.sleep({seconds})
        return 2 * n

    @flow
    def main(n: int = 1):
        return double(double(n))
"""


class Pod:
    """A pod that no kubelet runs: its identity is real, its process is ours."""

    def __init__(self, client: Client, kubeconfig: Path, namespace: str, folder: Path) -> None:
        self.client = client
        self.namespace = namespace
        self.folder = folder
        self.identity = folder / "identity"
        self.words = folder / "termination-log"
        self.log = folder / "log"
        cluster = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
        self.server = urlsplit(cluster["server"])
        self.identity.mkdir(parents=True)
        authority = cluster.get("certificate-authority-data")
        self.authority = (
            base64.b64decode(authority) if authority else Path(cluster["certificate-authority"]).read_bytes()
        )
        (self.identity / "ca.crt").write_bytes(self.authority)
        self.run = self.name = ""

    async def create(self, run: str, attempt: int = 1, **status: Any) -> "Pod":
        """Make the run, as the operator would leave it, and its pod."""
        self.run, self.name = run, f"{run}-{attempt}-abcde"
        body = {"apiVersion": "levada.dev/v1alpha1", "kind": "FlowRun", "metadata": {"name": run}}
        await self.client.create(FLOW_RUNS, {**body, "spec": {"deploymentRef": {"name": "hello"}}}, self.namespace)
        await self.write(phase="Pending", reason="WaitingForPod", attempt=attempt, **status)
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name},
            "spec": {
                "serviceAccountName": "levada-runner",
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "flow", "image": "none"}],
            },
        }
        created = await self.client.create(PODS, pod, self.namespace)
        bound = {"apiVersion": "v1", "kind": "Pod", "name": self.name, "uid": created["metadata"]["uid"]}
        answer = await self.client.request(
            "POST",
            SERVICE_ACCOUNTS.path(self.namespace, "levada-runner", "token"),
            body={
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"boundObjectRef": bound, "expirationSeconds": 3600},
            },
        )
        (self.identity / "token").write_text(answer["status"]["token"])
        return self

    async def write(self, **status: Any) -> None:
        """The operator writes."""
        await self.client.patch(FLOW_RUNS, self.run, {"status": status}, self.namespace, subresource="status")

    async def status(self) -> dict[str, Any]:
        status: dict[str, Any] = (await self.client.get(FLOW_RUNS, self.run, self.namespace))["status"]
        return status

    async def until(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        for _ in range(1500):
            status = await self.status()
            if condition(status):
                return status
            await asyncio.sleep(0.02)
        raise AssertionError(f"still {status}\n{self.log.read_text()}")

    def api(self, run: str | None = None) -> RunApi:
        assert self.server.hostname
        assert self.server.port
        return RunApi(self.server.hostname, self.server.port, self.identity, self.namespace, run or self.run)

    def start(self, source: str, **env: str) -> subprocess.Popen[bytes]:
        """What a kubelet would start."""
        code = self.folder / "code"
        code.mkdir(exist_ok=True)
        (code / "flow.py").write_text(textwrap.dedent(source))
        variables = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(OPERATOR),
            "LEVADA_RUN": self.run,
            "LEVADA_NAMESPACE": self.namespace,
            "LEVADA_POD": self.name,
            "LEVADA_ATTEMPT": self.name.split("-")[-2],
            "LEVADA_ENTRYPOINT": "flow.py:main",
            "LEVADA_CODE_DIR": str(code),
            "LEVADA_SERVICE_ACCOUNT_DIR": str(self.identity),
            "LEVADA_TERMINATION_LOG": str(self.words),
            "KUBERNETES_SERVICE_HOST": str(self.server.hostname),
            "KUBERNETES_SERVICE_PORT": str(self.server.port),
            **env,
        }
        with self.log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "levada.runner"], env=variables, cwd=self.folder, stdout=log, stderr=log
            )

    def told(self) -> dict[str, Any]:
        words: dict[str, Any] = json.loads(self.words.read_text())
        return words


@pytest.fixture
def pod(client: Client, kubeconfig: Path, installed: None, namespace: str, tmp_path: Path) -> Callable[[str], Pod]:
    return lambda name: Pod(client, kubeconfig, namespace, tmp_path / name)


async def ended(process: subprocess.Popen[bytes], seconds: float = 60) -> int:
    """Wait for the end without holding up the event loop."""
    return await asyncio.to_thread(process.wait, seconds)


async def test_a_run_reports_itself_from_running_to_completed(pod: Callable[[str], Pod]) -> None:
    run = await pod("a").create("hello", stages={"queuedSeconds": 0.5})
    process = run.start(FLOW.format(seconds=0.8), LEVADA_PARAMETERS='{"n": 3}')
    status = await run.until(lambda status: status.get("progress") == "1/2")
    assert (status["phase"], status["podName"], status["currentTask"]) == ("Running", run.name, "double")
    assert await ended(process) == 0, run.log.read_text()
    status = await run.status()
    assert (status["phase"], status["reason"], status["result"]) == ("Completed", "Completed", "12")
    assert (status["progress"], status["taskCounts"]["completed"]) == ("2/2", 2)
    assert {task_id: row["state"] for task_id, row in status["tasks"].items()} == {
        "double-0": "Completed",
        "double-1": "Completed",
    }
    assert set(status["stages"]) == {"queuedSeconds", "importSeconds", "userSeconds"}
    assert status["stages"]["userSeconds"] >= 1.6
    assert [c["status"] for c in status["conditions"] if c["type"] == "Succeeded"] == ["True"]
    assert "currentTask" not in status
    assert run.told()["phase"] == "Completed"


async def test_the_api_server_knows_every_field_that_is_written(pod: Callable[[str], Pod]) -> None:
    """What the schema does not know is dropped without a word: so compare what was sent with what is there."""
    run = await pod("a").create("hello")
    source = """
    from levada import flow, task

    @task(retries=1)
    def shaky(n):
        if n:
            raise ValueError("no")

    @flow
    def main():
        first = shaky.submit(0)
        shaky.submit(1, wait_for=[first]).wait()
        raise OSError("that was it")
    """
    assert await ended(run.start(source)) == 1
    status = await run.status()
    assert (status["phase"], status["reason"]) == ("Failed", "FlowFailed"), run.log.read_text()
    bad = next(row for row in status["tasks"].values() if row["state"] == "Failed")
    assert (bad["attempt"], bad["upstream"]) == (2, ["shaky-0"])
    assert "ValueError: no" in bad["message"]
    assert {"name", "state", "attempt", "startTime", "endTime", "message", "upstream"} == set(bad)
    assert set(status["taskCounts"]) == {
        "total", "pending", "running", "retrying", "completed", "cached", "failed", "cancelled", "crashed", "skipped",
        "persisted",
    }  # fmt: skip


async def test_a_pod_writes_its_own_run_and_no_other(pod: Callable[[str], Pod]) -> None:
    mine, other = await pod("a").create("mine"), await pod("b").create("other")
    own, foreign = mine.api(), mine.api("other")
    version = (await asyncio.to_thread(own.read))["metadata"]["resourceVersion"]
    written = await asyncio.to_thread(own.patch_status, {"phase": "Running"}, version)
    assert written["status"]["phase"] == "Running"
    version = (await asyncio.to_thread(foreign.read))["metadata"]["resourceVersion"]
    with pytest.raises(NotAllowed, match="levada-run-writes-its-own-status"):
        await asyncio.to_thread(foreign.patch_status, {"phase": "Running"}, version)
    assert (await other.status())["phase"] == "Pending"
    own.close()
    foreign.close()


async def test_a_runner_with_the_identity_of_another_run_does_not_start_its_flow(
    pod: Callable[[str], Pod], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = await pod("a").create("mine"), await pod("b").create("other")
    process = mine.start(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()",
        LEVADA_SERVICE_ACCOUNT_DIR=str(other.identity),
    )
    assert await ended(process) == 1
    assert not (tmp_path / "ran").exists()
    assert (mine.told()["phase"], mine.told()["reason"]) == ("Failed", "StatusRefused")
    assert "levada-run-writes-its-own-status" in mine.told()["message"]
    assert (await mine.status())["phase"] == "Pending"


async def test_the_token_of_a_deleted_pod_writes_nothing(pod: Callable[[str], Pod]) -> None:
    run = await pod("a").create("hello")
    await run.client.delete(PODS, run.name, run.namespace, grace_period_seconds=0)
    api = run.api()
    deadline = time.monotonic() + 30
    with pytest.raises(NotAllowed):  # noqa: PT012 - the API server remembers a token for ten seconds
        while time.monotonic() < deadline:
            await asyncio.to_thread(api.read)
            await asyncio.sleep(0.2)
    api.close()


async def test_a_cancelled_run(pod: Callable[[str], Pod]) -> None:
    run = await pod("a").create("hello")
    process = run.start(FLOW.format(seconds=60))
    await run.until(lambda status: status.get("currentTask") == "double")
    await run.client.patch(FLOW_RUNS, run.run, {"spec": {"cancel": True}}, run.namespace)
    await run.write(phase="Cancelling", reason="CancelRequested")
    process.terminate()
    assert await ended(process) == 143
    status = await run.status()
    assert (status["phase"], status["reason"], status["tasks"]["double-0"]["state"]) == (
        "Cancelled", "Cancelled", "Cancelled",
    ), run.log.read_text()  # fmt: skip


async def test_the_rows_may_be_completed_after_the_operator_has_written_the_end(pod: Callable[[str], Pod]) -> None:
    """A terminal phase is final, and the runner, told so by the API server, stops its flow by itself."""
    source = """
    import time
    from levada import flow, task

    @task
    def step(n):
        time.sleep(0.3)

    @flow
    def main():
        for n in range(200):
            step(n)
    """
    run = await pod("a").create("hello")
    process = run.start(source)
    await run.until(lambda status: status.get("currentTask") == "step")
    await run.write(phase="TimedOut", reason="DeadlineExceeded", completionTime="2026-01-02T03:04:05Z")
    assert await ended(process) == 143
    status = await run.status()
    assert (status["phase"], status["reason"], status["completionTime"]) == (
        "TimedOut", "DeadlineExceeded", "2026-01-02T03:04:05Z",
    )  # fmt: skip
    assert "Cancelled" in {row["state"] for row in status["tasks"].values()}
    assert "Running" not in {row["state"] for row in status["tasks"].values()}
    assert "already ended as TimedOut" in run.log.read_text()


async def test_an_attempt_that_was_given_up_writes_nothing_any_more(pod: Callable[[str], Pod]) -> None:
    run = await pod("a").create("hello")
    process = run.start(FLOW.format(seconds=1.5))
    await run.until(lambda status: status.get("currentTask") == "double")
    await run.write(phase="Retrying", reason="NodeLost", tasks=None)
    await run.write(phase="Pending", attempt=2, podName=None)
    before = await run.status()
    assert await ended(process) == 143
    assert await run.status() == before
    assert "is at attempt 2" in run.log.read_text()


async def test_a_retry_starts_with_a_clean_board(pod: Callable[[str], Pod]) -> None:
    run = await pod("a").create("hello", 2, tasks={"old-0": {"name": "old", "state": "Failed", "attempt": 1}})
    assert await ended(run.start(FLOW.format(seconds=0))) == 0
    status = await run.status()
    assert (status["phase"], status["attempt"], set(status["tasks"])) == ("Completed", 2, {"double-0", "double-1"})


async def test_a_deleted_run_stops_its_flow(pod: Callable[[str], Pod]) -> None:
    run = await pod("a").create("hello")
    process = run.start(FLOW.format(seconds=1.5))
    await run.until(lambda status: status.get("currentTask") == "double")
    await run.client.delete(FLOW_RUNS, run.run, run.namespace)
    assert await ended(process) == 143
    assert "has been deleted" in run.log.read_text()
    assert run.told()["phase"] == "Terminated"


async def test_three_thousand_tasks_stay_within_one_object(pod: Callable[[str], Pod]) -> None:
    source = """
    from levada import flow, task

    @task
    def step(n):
        if n % 2:
            raise ValueError("x" * 900)

    @flow
    def main():
        for n in range(3000):
            step(n, return_state=True)
        return "done"
    """
    run = await pod("a").create("hello")
    code = await ended(run.start(source), seconds=90)
    status = await run.status()
    assert (code, status["phase"]) == (0, "Completed"), run.log.read_text()[-2000:]
    counts = status["taskCounts"]
    assert (counts["total"], counts["completed"], counts["failed"]) == (3000, 1500, 1500)
    assert status["progress"] == "3000/3000"
    assert 300 < len(status["tasks"]) <= 1000
    assert len(status["tasks"]) + status["truncatedTasks"] == 3000
    assert len(json.dumps(status["tasks"])) <= 512 * 1024
    assert {row["state"] for row in status["tasks"].values()} == {"Failed"}, "what went wrong is what is kept"
    assert "refused" not in run.log.read_text()


@pytest.mark.parametrize(
    "letter",
    ["\\U0001f600", "\\x00", "\\ud800", '\\"', "\\u2028"],
    ids=["emoji", "nul", "surrogate", "quote", "separator"],
)
async def test_any_letter_gets_through(pod: Callable[[str], Pod], letter: str) -> None:
    source = f"""
    from levada import flow, task

    @task
    def bad():
        raise ValueError("{letter}" * 3000)

    @flow
    def main():
        bad(return_state=True)
        raise OSError("{letter}" * 3000)
    """
    run = await pod("a").create("hello")
    assert await ended(run.start(source)) == 1
    status = await run.status()
    assert (status["phase"], status["reason"], set(status["tasks"])) == ("Failed", "FlowFailed", {"bad-0"})
    assert "refused" not in run.log.read_text()
    assert run.told()["phase"] == "Failed"


async def test_what_the_schema_refuses_is_refused_as_rejected(pod: Callable[[str], Pod]) -> None:
    run = await pod("a").create("hello")
    api = run.api()
    version = (await asyncio.to_thread(api.read))["metadata"]["resourceVersion"]
    for status in ({"message": "m" * 2000}, {"phase": "Nonsense"}, {"attempt": 0}):
        with pytest.raises(Rejected):
            await asyncio.to_thread(api.patch_status, status, version)
    api.close()


async def test_an_api_server_that_is_killed_misses_nothing(
    pod: Callable[[str], Pod], cluster: Cluster, tmp_path: Path
) -> None:
    """Killed while the flow runs, and away at its end. A new API server refuses everybody for a moment: no reason to give up."""
    run, late = await pod("a").create("hello"), await pod("b").create("late")
    go = tmp_path / "go"
    source = f"""
    import pathlib, time
    from levada import flow, task

    @task
    def step(n):
        pass

    @flow
    def main():
        step(0)
        while not pathlib.Path({str(go)!r}).exists():
            time.sleep(0.01)
        for n in range(20):
            step(n)
        return "done"
    """
    process = run.start(source)
    await run.until(lambda status: status.get("progress") == "1/1")
    os.kill(cluster.pid("kube-apiserver"), signal.SIGKILL)
    try:
        go.touch()
        # This one finds nobody at its start.
        other = late.start(FLOW.format(seconds=0))
        while not (run.words.exists() and late.words.exists()):
            assert process.poll() is other.poll() is None
            await asyncio.sleep(0.05)
    finally:
        await asyncio.to_thread(cluster.up)
    for each, started in ((run, process), (late, other)):
        assert await ended(started) == 0, each.log.read_text()
    status = await run.status()
    assert (status["phase"], status["result"], status["progress"]) == ("Completed", '"done"', "21/21")
    assert {row["state"] for row in status["tasks"].values()} == {"Completed"}
    status = await late.status()
    assert (status["phase"], status.get("result")) == ("Completed", "4"), late.log.read_text()
    for each in (run, late):
        assert "refused a report" not in each.log.read_text()
