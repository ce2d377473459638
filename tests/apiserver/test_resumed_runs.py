"""Runs that go on from stored results, with everything real: control plane, operator, agent, runner, command line."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from levada.resources import names
from support.stack import Stack, running_stack, wait_until

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(240)]

# The bodies leave the evidence. `gate` and `bad` in the folder tell the flow when to wait and what to fail at.
CODE = """
import os, time
from pathlib import Path
from levada import flow, task
from levada.caching import NO_CACHE

FOLDER = Path("FOLDER_HERE")


@task(cache_policy=NO_CACHE)
def work(n, before):
    if (FOLDER / f"bad-{n}").exists():
        raise ValueError(f"bad {n}")
    with open(FOLDER / "ran", "a") as file:
        file.write(f"{n}\\n")
    return n


@flow
def main(count: int = 8, offset: int = 0):
    last = None
    for n in range(count):
        while (FOLDER / f"gate-{n}").exists():
            time.sleep(0.05)
        last = work(n + offset, last)
    return last
"""


@pytest.fixture(scope="module")
def stack(cluster, installed, tmp_path_factory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("resumed")
    allowed = ("--allow-storage", f"file://{tmp_path_factory.getbasetemp()}")
    with running_stack(cluster, folder, agent_name="resumed-agent", operator=allowed) as running:
        yield running


class Desk:
    """A person with kubectl and levada in one namespace, and the folder of the evidence."""

    def __init__(self, kubectl, kubeconfig, namespace, folder: Path):
        self.kubectl, self.namespace, self.folder = kubectl, namespace, folder
        self.environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "COLUMNS": "200"}
        spec = {
            "flowRef": {"name": "count"}, "persistResults": True, "storage": f"file://{folder / 'kept'}",
            "infrastructureRetries": {"limit": 3, "delaySeconds": 0}, "infrastructure": {"terminationGracePeriodSeconds": 5},
        }  # fmt: skip
        code = CODE.replace("FOLDER_HERE", str(folder))
        self.apply("Flow", "count", {"entrypoint": "flow.py:main", "source": {"inline": code}})
        self.apply("Deployment", "count", spec)

    def apply(self, kind, name, spec):
        body = {"apiVersion": names.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
        self.kubectl("-n", self.namespace, "apply", "--server-side", "-f", "-", stdin=body)

    def levada(self, *arguments):
        command = [sys.executable, "-m", "levada.cli", *arguments, "-n", self.namespace]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def status(self, run):
        return json.loads(self.kubectl("-n", self.namespace, "get", "fr", run, "-o", "json")).get("status", {})

    def until(self, run, what, condition):
        return wait_until(lambda: (said := self.status(run)) and condition(said) and said, f"{run} {what}", 60)

    def ran(self):
        path = self.folder / "ran"
        return Counter(map(int, path.read_text().split())) if path.exists() else Counter()

    def close(self, n):
        (self.folder / f"gate-{n}").touch()

    def open(self, n):
        (self.folder / f"gate-{n}").unlink()


@pytest.fixture
def desk(stack, kubectl, kubeconfig, namespace, tmp_path) -> Desk:
    return Desk(kubectl, kubeconfig, namespace, tmp_path)


def start(desk, run, **spec):
    desk.apply("FlowRun", run, {"deploymentRef": {"name": "count"}, **spec})


def test_a_pod_lost_in_the_middle_of_a_run(desk):
    desk.close(5)
    start(desk, "lost")
    status = desk.until("lost", "has done five tasks", lambda said: said.get("taskCounts", {}).get("persisted") == 5)
    desk.kubectl("-n", desk.namespace, "delete", "pod", status["podName"], "--wait=false")
    desk.until("lost", "is at its second attempt", lambda said: said.get("attempt") == 2)
    desk.open(5)
    ended = desk.until("lost", "ends", lambda said: said.get("phase") in {"Completed", "Failed", "Crashed"})
    assert (ended["phase"], ended["result"], ended["infrastructureFailures"]) == ("Completed", "7", 1), ended
    assert ended["taskCounts"]["cached"] == 5
    assert desk.ran() == dict.fromkeys(range(8), 1)


def test_a_drained_agent_gives_its_run_back(desk, stack):
    """The new attempt is the infrastructure's and takes the results along; here the same agent gets it, once it is back."""

    def agent(verb, *arguments):
        command = [sys.executable, "-m", "levada.cli", "agent", verb, stack.agent_name, *arguments]
        done = subprocess.run(command, env=desk.environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    desk.close(4)
    start(desk, "drained")
    desk.until("drained", "has done four tasks", lambda said: said.get("taskCounts", {}).get("persisted") == 4)
    agent("drain", "--timeout", "40")
    agent("uncordon")
    desk.open(4)
    ended = desk.until("drained", "ends", lambda said: said.get("phase") in {"Completed", "Failed", "Crashed"})
    assert (ended["phase"], ended["attempt"], ended["infrastructureFailures"]) == ("Completed", 2, 1), ended
    assert ended.get("codeFailures", 0) == 0
    assert desk.ran() == dict.fromkeys(range(8), 1)


def test_a_suspended_run_goes_on_where_it_was(desk):
    desk.close(3)
    start(desk, "held")
    desk.until("held", "has done three tasks", lambda said: said.get("taskCounts", {}).get("persisted") == 3)
    desk.levada("runs", "suspend", "held")
    paused = desk.until("held", "is suspended", lambda said: said.get("reason") == "Suspended")
    assert paused["phase"] == "Paused"
    desk.open(3)
    assert desk.levada("runs", "resume", "held") == "flow run held goes on\n"
    ended = desk.until("held", "ends", lambda said: said.get("phase") in {"Completed", "Failed", "Crashed"})
    assert (ended["phase"], ended["attempt"], ended["taskCounts"]["cached"]) == ("Completed", 2, 3), ended
    assert (ended.get("infrastructureFailures", 0), ended.get("codeFailures", 0)) == (0, 0)
    assert desk.ran() == dict.fromkeys(range(8), 1)


def test_a_failed_run_is_repeated_from_the_failed_tasks(desk):
    (desk.folder / "bad-4").touch()
    (desk.folder / "bad-6").touch()
    start(desk, "first")
    failed = desk.until("first", "fails", lambda said: said.get("phase") == "Failed")
    assert failed["taskCounts"]["persisted"] == 4

    page = desk.levada("runs", "retry", "first", "--plan")
    assert "Retry of first: 4 reused, 1 to run" in page
    (desk.folder / "bad-4").unlink()
    desk.levada("runs", "retry", "first", "--yes")
    second = desk.until("first-retry-1", "fails", lambda said: said.get("phase") == "Failed")
    assert (second["rerun"]["of"], second["rerun"]["reused"], second["rerun"]["toRun"]) == ("first", 4, 1)
    assert (second["taskCounts"]["cached"], second["taskCounts"]["persisted"]) == (4, 6)

    (desk.folder / "bad-6").unlink()
    desk.levada("runs", "retry", "first-retry-1", "--yes")
    third = desk.until("first-retry-2", "ends", lambda said: said.get("phase") in {"Completed", "Failed"})
    assert (third["phase"], third["rerun"]["of"], third["rerun"]["reused"]) == ("Completed", "first", 6), third
    assert desk.ran() == dict.fromkeys(range(8), 1), "each body once, over three runs"
    assert desk.status("first")["phase"] == "Failed", "the old run stays"

    desk.levada("runs", "retry", "first", "--yes", "-p", "count=9", "--name", "longer")
    longer = desk.until("longer", "ends", lambda said: said.get("phase") in {"Completed", "Failed"})
    assert (longer["result"], longer["taskCounts"]["cached"]) == ("8", 8), "other parameters, and the same inputs"
    desk.levada("runs", "retry", "first", "--yes", "--from-scratch", "--name", "anew")
    anew = desk.until("anew", "ends", lambda said: said.get("phase") in {"Completed", "Failed"})
    assert (anew["phase"], anew["taskCounts"]["cached"]) == ("Completed", 0)
    assert desk.ran()[0] == 2
