"""What of a run outlives its pod and its object, on the whole product: logs, record, rows and history, also through kill -9."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from levada.archive.reader import Archive
from levada.resources.phases import is_terminal
from support.stack import Stack, wait_until

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(240)]

READY = "levada.operator: ready"
FLOW = """
import os, time
from pathlib import Path
from levada import flow, task

@task
def one(n):
    return n

@flow
def main(text: str = "hello", pids: str = "", mapped: int = 3):
    print(f"{text} from the flow")
    one.map(range(mapped)).result()
    if pids:
        Path(pids).write_text(f"{os.getpid()} {os.getppid()}")
        time.sleep(300)
"""


@pytest.fixture(scope="module")
def stack(cluster, installed, tmp_path_factory) -> Iterator[Stack]:
    stack = Stack(cluster, tmp_path_factory.mktemp("archived"), agent_name="archive-agent")
    stack.arguments["operator"] += ["--history-interval", "2"]
    stack.start("operator")
    stack.start("agent")
    yield stack
    stack.stop()


@pytest.fixture
def archive(stack) -> Archive:
    """Where an operator of a cluster of this machine puts it unless told otherwise."""
    return Archive.of(f"file://{stack.folder}/storage")


@pytest.fixture
def deploy(kubectl, namespace):
    """Apply the flow with a Deployment of this history, and start runs of it."""

    def go(**spec):
        flow = {"entrypoint": "flow.py:main", "source": {"inline": FLOW}}
        kubectl("-n", namespace, "apply", "-f", "-", stdin=[
            {"apiVersion": "levada.dev/v1alpha1", "kind": "Flow", "metadata": {"name": "f"}, "spec": flow},
            {"apiVersion": "levada.dev/v1alpha1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"flowRef": {"name": "f"}, **spec}},
        ])  # fmt: skip

    return go


@pytest.fixture
def start(kubectl, namespace):
    def go(*names, **parameters):
        kubectl("-n", namespace, "create", "-f", "-", stdin=[
            {"apiVersion": "levada.dev/v1alpha1", "kind": "FlowRun", "metadata": {"name": name},
             "spec": {"deploymentRef": {"name": "d"}, "parameters": parameters}} for name in names
        ])  # fmt: skip

    return go


@pytest.fixture
def runs(kubectl, namespace):
    def go():
        items = json.loads(kubectl("-n", namespace, "get", "fr", "-o", "json"))["items"]
        return {item["metadata"]["name"]: item for item in items}

    return go


@pytest.fixture
def levada(cluster, stack, namespace):
    def go(*arguments):
        command = [sys.executable, "-m", "levada.cli", *arguments, "-n", namespace]
        environment = os.environ | {
            "KUBECONFIG": str(cluster.kubeconfig),
            "LEVADA_HOME": str(stack.folder),
            "COLUMNS": "200",
        }
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)

    return go


def ended(runs, *names):
    return lambda: all(is_terminal(runs()[name].get("status", {}).get("phase")) for name in names) and runs()


def where_it_stands(run):
    """What of a run tells who is still to act on it: its phase, its archive, and what keeps it."""
    metadata, status = run["metadata"], run.get("status", {})
    asked = ("deletionTimestamp", "finalizers", "labels", "annotations", "resourceVersion")
    told = (
        "phase",
        "reason",
        "message",
        "startTime",
        "completionTime",
        "archive",
        "conditions",
        "diagnosis",
        "notified",
    )
    return {key: metadata.get(key) for key in asked} | {key: status.get(key) for key in told}


def test_log_rows_and_record_outlive_pod_and_run(*, archive, deploy, start, runs, levada, kubectl, namespace, stack):
    deploy()
    start("r1", text="good morning")
    run = wait_until(ended(runs, "r1"), "the run ends")["r1"]
    assert run["status"]["phase"] == "Completed", run["status"]
    assert run["status"]["archive"]["storage"] == f"file://{stack.folder}/storage"
    wait_until(lambda: archive.list_runs(namespace, "d"), "it is in the index")
    kubectl("-n", namespace, "delete", "pod", "--all")

    log = levada("runs", "logs", "r1")
    assert "good morning from the flow" in log.stdout
    assert "the pod is gone" in log.stderr
    assert levada("runs", "rm", "r1").returncode == 0
    assert runs() == {}

    log = levada("runs", "logs", "r1")
    assert "good morning from the flow" in log.stdout
    assert "has left the cluster" in log.stderr
    shown = json.loads(levada("runs", "show", "r1", "-o", "json").stdout)
    assert set(shown["status"]["tasks"]) == {"one-0", "one-1", "one-2"}
    assert shown["spec"]["parameters"] == {"text": "good morning"}
    assert "Completed" in levada("runs", "show", "r1").stdout
    assert "r1" not in levada("runs", "ls").stdout
    assert "r1" in levada("runs", "ls", "--archived", "-d", "d").stdout

    assert levada("runs", "rm", "r1").returncode == 3
    assert "from the archive" in levada("runs", "rm", "r1", "--archived").stdout
    assert archive.list_runs(namespace, "d") == []
    assert archive.folders(namespace, "r1") == []


def test_a_pod_that_was_killed_leaves_its_log_and_a_record_of_the_operators(
    *, archive, deploy, start, runs, namespace, tmp_path, levada
):
    deploy()
    pids = tmp_path / "pids"
    start("killed", text="last seen", pids=str(pids))
    wait_until(pids.exists, "the flow runs")
    folder = runs()["killed"]["status"]["archive"]["path"]
    wait_until(lambda: b"last seen" in archive.log(folder).data, "its log is archived while it runs", 20)
    for pid in pids.read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    wait_until(ended(runs, "killed"), "the run ends", 60)
    (entry,) = wait_until(lambda: archive.list_runs(namespace, "d"), "it is in the index")
    assert (entry.phase, entry.complete) == ("Crashed", False)
    record = archive.record(entry.folder)
    assert (record.written_by, record.run["status"]["diagnosis"]["category"]) == (
        "operator",
        runs()["killed"]["status"]["diagnosis"]["category"],
    )
    assert set(archive.tasks(entry.folder)) == {"one-0", "one-1", "one-2"}
    wait_until(
        lambda: runs()["killed"]["status"]["archive"].get("complete") is False, "the run says that it is not complete"
    )


def test_history_leaves_the_cluster_and_stays_readable(*, archive, deploy, start, runs, kubectl, namespace, levada):
    deploy(history={"keepSuccessful": 1})
    names = [f"h{number}" for number in range(4)]
    start(*names)
    wait_until(lambda: len(runs()) == 1, "history lets all but one go", 60)
    entries = archive.list_runs(namespace, "d")
    assert sorted(entry.name for entry in entries) == names
    assert {entry.phase for entry in entries} == {"Completed"}
    assert all("hello from the flow" in archive.log(entry.folder).data.decode() for entry in entries)
    newest = max(entries, key=lambda entry: entry.moment)
    assert set(runs()) == {newest.name}
    wait_until(
        lambda: len(json.loads(kubectl("-n", namespace, "get", "jobs", "-o", "json"))["items"]) == 1,
        "their Jobs went along",
    )
    listed = levada("runs", "ls", "--archived", "-o", "name").stdout.split()
    assert sorted(line.rpartition("/")[2] for line in listed) == names
    deployment = json.loads(kubectl("-n", namespace, "get", "fdep", "d", "-o", "json"))
    conditions = {each["type"]: each["status"] for each in deployment["status"]["conditions"]}
    assert conditions["Archived"] == "True"
    deploy(history={"ttlSeconds": 0})
    wait_until(lambda: runs() == {}, "and now at once", 30)


def test_whenever_the_operator_is_killed_nothing_is_lost(*, archive, stack, deploy, start, runs, namespace):
    deploy(history={"keepSuccessful": 0})
    names = [f"k{number}" for number in range(8)]
    start(*names)
    wait_until(lambda: READY in stack.log("operator"), "the operator is at work")
    for pause_s in (0.5, 1.1, 2.3, 2.9, 1.7):
        time.sleep(pause_s)
        stack.kill("operator")
        before = stack.log("operator").count(READY)
        stack.start("operator")
        found = runs()
        indexed = [entry.name for entry in archive.list_runs(namespace, "d")]
        assert len(indexed) == len(set(indexed))
        assert set(names) <= set(found) | set(indexed), "a run was deleted before it was in the index"
        # One that is killed while it starts has done nothing that could be lost.
        wait_until(lambda n=before: stack.log("operator").count(READY) > n, "the operator is at work again", 60)
    try:
        wait_until(lambda: runs() == {}, "all have left", 60)
    except AssertionError as error:
        indexed = [entry.name for entry in archive.list_runs(namespace, "d")]
        left = {name: where_it_stands(run) for name, run in runs().items()}
        logs = "\n".join(f"{part}:\n{stack.log(part)[-6000:]}" for part in ("operator", "agent"))
        raise AssertionError(f"{error}; in the index: {indexed}; left:\n{json.dumps(left, indent=1)}\n{logs}") from None
    assert sorted(entry.name for entry in archive.list_runs(namespace, "d")) == names


def test_a_storage_that_is_away_stops_history_and_nothing_else(*, stack, deploy, start, runs, kubectl, namespace):
    place = stack.folder / "storage" / "away"
    place.parent.mkdir(exist_ok=True)
    place.write_text("a file where the folder should be")
    deploy(history={"keepSuccessful": 0}, storage=f"file://{place}")
    start("a1", "a2")
    wait_until(ended(runs, "a1", "a2"), "the runs end", 60)

    def condition():
        conditions = json.loads(kubectl("-n", namespace, "get", "fdep", "d", "-o", "json"))["status"]["conditions"]
        return {each["type"]: each for each in conditions}.get("Archived", {})

    wait_until(lambda: condition().get("status") == "False", "the Deployment says so", 60)
    assert "cannot be" in condition()["message"]
    assert {run["status"]["phase"] for run in runs().values()} == {"Completed"}
    events = json.loads(kubectl("-n", namespace, "get", "events", "-o", "json"))["items"]
    assert [event for event in events if event["reason"] == "StorageUnreachable"]
    place.unlink()
    wait_until(lambda: runs() == {}, "history goes on", 60)
    assert sorted(entry.name for entry in Archive.of(f"file://{place}").list_runs(namespace, "d")) == ["a1", "a2"]
    wait_until(lambda: condition().get("status") == "True", "the Deployment says that, too")


def test_ten_thousand_mapped_tasks(*, archive, deploy, start, runs, namespace, levada):
    deploy()
    start("large", mapped=10_000)
    wait_until(ended(runs, "large"), "the run ends", 120)
    # The end is told first, and alone: many rows follow it.
    run = wait_until(lambda: runs()["large"]["status"].get("tasks") and runs()["large"], "its rows are told")
    status = run["status"]
    assert status["phase"] == "Completed", status
    assert status["taskCounts"]["completed"] == status["taskCounts"]["total"] == 10_000
    assert len(status["tasks"]) <= 1000
    assert len(json.dumps(status["tasks"])) <= 512 * 1024
    assert len(status["tasks"]) + status["truncatedTasks"] == 10_000
    wait_until(lambda: archive.list_runs(namespace, "d"), "it is in the index")
    rows = archive.tasks(status["archive"]["path"])
    assert len(rows) == 10_000
    assert {row["state"] for row in rows.values()} == {"Completed"}
    shown = json.loads(levada("runs", "show", "large", "-o", "json").stdout)
    assert len(shown["status"]["tasks"]) == 10_000
    assert Path(archive.storage.folder).exists()
