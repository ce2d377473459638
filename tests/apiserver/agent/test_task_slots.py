"""Tasks of real runs on the agent share slots of the cluster; a pod that is killed gives them back."""

import json
import os
import signal
from collections.abc import Iterator

import pytest

from levada.resources import names
from support.stack import Stack, running_stack, wait_until

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(240)]

CODE = """
import os, pathlib, time
from levada import flow, task
from levada.concurrency import concurrency, rate_limit

@task
def use(folder: str, who: str, seconds: float):
    asked = time.monotonic()
    with concurrency("db"):
        waited = time.monotonic() - asked
        (pathlib.Path(folder) / f"{who}.in").write_text(str(os.getpid()))
        time.sleep(seconds)
        (pathlib.Path(folder) / f"{who}.out").write_text("")
    return waited

@flow
def main(folder: str, who: str, seconds: float = 0.2, times: int = 1):
    rate_limit("api")
    return [use(folder, f"{who}-{number}", seconds) for number in range(times)]
"""


@pytest.fixture(scope="module")
def stack(cluster, installed, tmp_path_factory) -> Iterator[Stack]:
    with running_stack(cluster, tmp_path_factory.mktemp("slots"), agent_name="slots-agent") as running:
        yield running


def test_slots_of_the_cluster(stack, kubectl, namespace, tmp_path):
    def status(name: str) -> dict:
        return json.loads(kubectl("-n", namespace, "get", "fr", name, "-o", "json")).get("status", {})

    def limit() -> dict:
        return json.loads(kubectl("-n", namespace, "get", "climit", "db", "-o", "json")).get("status", {})

    def ended(name: str) -> dict:
        return wait_until(
            lambda: (said := status(name)).get("phase") in {"Completed", "Failed", "Crashed"} and said,
            f"{name} ends",
            60,
        )

    def start(name: str, **parameters) -> None:
        spec = {"deploymentRef": {"name": "use"}, "parameters": {"folder": str(tmp_path), "who": name, **parameters}}
        apply({"kind": "FlowRun", "metadata": {"name": name}, "spec": spec})

    def apply(*objects: dict) -> None:
        bodies = [{"apiVersion": names.API_VERSION, **each} for each in objects]
        kubectl("-n", namespace, "apply", "--server-side", "-f", "-", stdin=bodies)

    tmp_path.chmod(0o777)
    apply(
        {
            "kind": "Flow",
            "metadata": {"name": "use"},
            "spec": {"entrypoint": "flow.py:main", "source": {"inline": CODE}},
        },
        {"kind": "Deployment", "metadata": {"name": "use"}, "spec": {"flowRef": {"name": "use"}}},
        {"kind": "ConcurrencyLimit", "metadata": {"name": "db"}, "spec": {"limit": 1}},
        {"kind": "ConcurrencyLimit", "metadata": {"name": "api"}, "spec": {"limit": 10, "slotDecayPerSecond": 5}},
    )

    # Idle: asked and granted, several times.
    start("idle", seconds=0.01, times=5)
    found = ended("idle")
    assert found["phase"] == "Completed", found
    waits = sorted(json.loads(found["result"]))
    print(f"asked -> granted on an idle limit: {[round(1000 * wait) for wait in waits]} ms")
    assert not found.get("slots")

    # Held by one, waited for by the other; the holder's process is killed, and the slot is free.
    start("holder", seconds=300)
    pid = int(
        wait_until(
            lambda: (path := tmp_path / "holder-0.in").exists() and path.read_text(), "the first has the slot", 60
        )
    )
    start("waiter")
    waiting = wait_until(
        lambda: "waits for 1 slot of 'db'" in (said := status("waiter")).get("message", "") and said, "it says so", 60
    )
    assert "holder has 1" in waiting["message"]
    wait_until(lambda: (limit().get("active"), limit().get("waiting")) == (1, 1), "the limit tells who", 20)
    assert [holder["run"] for holder in limit()["holders"]] == ["holder"]
    assert not (tmp_path / "waiter-0.in").exists()

    stack.kill("operator")
    stack.start("operator")
    wait_until(lambda: stack.log("operator").count("ready") >= 2, "the operator is back", 60)
    assert not (tmp_path / "waiter-0.in").exists(), "what was granted before still counts"

    os.kill(pid, signal.SIGKILL)
    assert ended("waiter")["phase"] == "Completed"
    assert not (tmp_path / "holder-0.out").exists()
    kubectl("-n", namespace, "patch", "fr", "holder", "--type=merge", "-p", '{"spec":{"cancel":true}}')
    wait_until(lambda: limit().get("active") == 0, "nothing is held", 60)
