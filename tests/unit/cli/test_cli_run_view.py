"""What a person sees of runs, frozen at a fixed width. LEVADA_UPDATE_GOLDEN=1 rewrites the files; read the diff."""

import io
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from levada.cli.deployment_view import deployments_table
from levada.cli.output import make_console
from levada.cli.run_view import facts, progress_line, run_page, runs_table, tasks_table

GOLDEN = Path(__file__).parent / "golden"
NOW = datetime(2026, 3, 1, 12, 10, 0, tzinfo=UTC)


def a_run(name="etl-x7k2p", *, created="2026-03-01T12:00:00Z", spec=None, **status):
    return {
        "apiVersion": "levada.dev/v1alpha1",
        "kind": "FlowRun",
        "metadata": {"name": name, "namespace": "team", "creationTimestamp": created, "uid": name},
        "spec": {"deploymentRef": {"name": "etl"}, "cancel": False, **(spec or {})},
        **({"status": status} if status else {}),
    }


def a_row(name, state, start=None, end=None, attempt=1, **more):
    times = {
        "startTime": f"2026-03-01T12:{start}Z" if start else None,
        "endTime": f"2026-03-01T12:{end}Z" if end else None,
    }
    return {"name": name, "state": state, "attempt": attempt, **{k: v for k, v in times.items() if v}, **more}


FLOW = {"name": "etl", "generation": 2, "codeConfigMap": "etl-code-1a2b3c4d"}
COMPLETED = a_run(
    phase="Completed",
    reason="Completed",
    message="",
    progress="3/3",
    queue="default",
    attempt=1,
    flow=FLOW,
    podName="etl-x7k2p-1-abcde",
    nodeName="worker-1",
    startTime="2026-03-01T12:00:01.250000Z",
    completionTime="2026-03-01T12:00:13.750000Z",
    durationSeconds=12.5,
    stages={"queuedSeconds": 0.05, "waitSeconds": 1.2, "importSeconds": 0.731, "userSeconds": 11.6},
    result="6.675",
    taskCounts={"total": 3, "completed": 3, "cached": 1},
    tasks={
        "train-0": a_row("train", "Completed", "00:05.000000", "00:12.340000", upstream=["download-1", "download-0"]),
        "download-1": a_row("download", "Completed", "00:02.000000", "00:02.000000", cached=True),
        "download-0": a_row("download", "Completed", "00:02.000000", "00:04.350000", attempt=2),
    },
)
CRASHED = a_run(
    spec={"parameters": {"date": "2019-01-05", "limit": 10, "names": ["é", "[bold]b[/bold]"]}, "retryOf": "etl-first"},
    phase="Crashed",
    reason="OutOfMemory",
    message="the container used more memory than its limit of 512Mi and was killed",
    progress="1/3",
    currentTask="train-0",
    queue="big",
    attempt=2,
    flow=FLOW,
    podName="etl-x7k2p-2-fghij",
    startTime="2026-03-01T12:05:00Z",
    completionTime="2026-03-01T12:06:05Z",
    attempts=[
        {"number": 2, "job": "etl-x7k2p-2", "pod": "etl-x7k2p-2-fghij", "node": "worker-2", "exitCode": 137, "kind": "Code",
         "startTime": "2026-03-01T12:05:00Z", "endTime": "2026-03-01T12:06:05Z", "reason": "OutOfMemory", "message": "killed"},
        {"number": 1, "job": "etl-x7k2p-1", "node": "worker-1", "kind": "Infrastructure",
         "startTime": "2026-03-01T12:00:00Z", "endTime": "2026-03-01T12:04:00Z", "reason": "Evicted", "message": "The node was low on memory."},
    ],
    tasks={
        "download-0": a_row("download", "Completed", "05:01", "05:03"),
        "train-0": a_row("train", "Crashed", "05:03", "06:05", message="the process died: [Errno 12]"),
        "save-0": a_row("save", "Pending", attempt=0),
    },
    truncatedTasks=4,
    taskCounts={"total": 7, "completed": 5, "crashed": 1, "pending": 1},
    diagnosis={
        "category": "OutOfMemory",
        "summary": "The container used more memory than its limit (512Mi).",
        "resolution": "Raise spec.infrastructure.resources.limits.memory of deployment etl, or load less at once.",
    },
)  # fmt: skip
RUNNING = a_run(
    "hello-9qw4z",
    created="2026-03-01T12:09:50Z",
    phase="Running",
    reason="Started",
    progress="1/2",
    currentTask="greet-1",
    attempt=1,
    startTime="2026-03-01T12:09:52Z",
    tasks={"greet-0": a_row("greet", "Completed", "09:53", "09:54"), "greet-1": a_row("greet", "Running", "09:54")},
)
UNSEEN = a_run("hello-00000", created="2026-03-01T12:09:58Z")

DEPLOYMENTS = [
    {
        "metadata": {"name": "nyc-taxi", "namespace": "team", "creationTimestamp": "2026-02-20T12:00:00Z"},
        "spec": {"flowRef": {"name": "nyc-taxi"}, "workQueue": "big", "paused": True},
        "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "FlowNotFound", "message": "m"}]},
    },
    {
        "metadata": {"name": "etl", "namespace": "team", "creationTimestamp": "2026-03-01T11:00:00Z"},
        "spec": {"flowRef": {"name": "etl"}, "workQueue": "default"},
        "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Valid", "message": ""}]},
    },
    {
        "metadata": {"name": "new", "namespace": "a", "creationTimestamp": "2026-03-01T12:09:59Z"},
        "spec": {"flowRef": {"name": "f"}},
    },
]


def rendered(renderable, width=100):
    out = io.StringIO()
    make_console(out, width).print(renderable)
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


@pytest.mark.parametrize(
    ("name", "renderable", "width"),
    [
        ("show_completed", run_page(COMPLETED, NOW), 100),
        ("show_crashed", run_page(CRASHED, NOW), 100),
        ("show_running", run_page(RUNNING, NOW), 100),
        ("show_unseen", run_page(UNSEEN, NOW), 100),
        ("list", runs_table([COMPLETED, CRASHED, RUNNING, UNSEEN], NOW), 120),
        ("list_everywhere", runs_table([COMPLETED, RUNNING], NOW, with_namespace=True), 120),
        ("list_narrow", runs_table([CRASHED, RUNNING], NOW), 72),
        ("deployments", deployments_table(DEPLOYMENTS, NOW), 100),
        ("deployments_everywhere", deployments_table(DEPLOYMENTS, NOW, with_namespace=True), 100),
    ],
)
def test_output_is_as_frozen(name, renderable, width):
    path = GOLDEN / f"{name}.txt"
    text = rendered(renderable, width)
    if os.environ.get("LEVADA_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_nothing_is_cut_off_however_narrow_the_screen():
    text = rendered(run_page(CRASHED, NOW), 50)
    assert "…" not in text
    assert "OutOfMemory" in text


def test_what_users_write_is_no_markup():
    row = a_row("x", "Failed", "00:01", "00:02", message="[red]not a colour[/red] :smile:")
    assert "[red]not a colour[/red] :smile:" in rendered(tasks_table({"x-0": row}, NOW))


def test_tasks_stand_in_the_order_that_they_began():
    rows = {
        "never-b": a_row("never", "Pending", attempt=0),
        "second-0": a_row("second", "Running", "00:02"),
        "first-1": a_row("first", "Completed", "00:01", "00:03"),
        "first-0": a_row("first", "Completed", "00:01", "00:02"),
        "never-a": a_row("never", "Pending", attempt=0),
    }
    lines = rendered(tasks_table(rows, NOW)).splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["first-0", "first-1", "second-0", "never-a", "never-b"]


@pytest.mark.parametrize(
    ("run", "line"),
    [
        (UNSEEN, "Created"),
        (a_run(phase="Pending", reason="Pending"), "Pending"),
        (
            a_run(phase="Pending", reason="ImagePullFailed", message="no such image"),
            "Pending  ImagePullFailed: no such image",
        ),
        (RUNNING, "Running  1/2  greet-1"),
        (a_run(phase="Retrying", reason="Evicted", message="node full"), "Retrying  Evicted: node full"),
        (COMPLETED, "Completed  3/3  result 6.675"),
        (a_run(phase="Failed", reason="FlowFailed", message="ValueError: no"), "Failed  FlowFailed: ValueError: no"),
        (a_run(phase="Cancelled", reason="Cancelled"), "Cancelled"),
    ],
)
def test_watching_says_on_one_line_what_matters(run, line):
    assert progress_line(run) == line


def test_the_pods_of_tasks_are_counted_and_what_they_wait_for_is_told():
    pods = {
        "t1": {"state": "Granted", "holder": "train-0"},
        "t2": {"state": "Granted", "holder": "train-1", "reason": "Unschedulable", "message": "No node has a GPU."},
        "t3": {"state": "Waiting", "holder": "train-2"},
    }
    said = dict(facts(RUNNING | {"status": RUNNING["status"] | {"taskPods": pods}}, NOW))["Task pods"]
    assert said == "2 granted, 1 waiting; t2 (train-1): Unschedulable: No node has a GPU."
    assert dict(facts(RUNNING, NOW))["Task pods"] == ""
