"""Runs as a cluster has them, and what the commands make of them, frozen at a fixed width."""

import io
import os
from datetime import UTC, datetime
from pathlib import Path

from levada.cli.output import make_console

GOLDEN = Path(__file__).parents[1] / "unit" / "cli" / "golden"
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


def rendered(renderable, width=100):
    out = io.StringIO()
    make_console(out, width).print(renderable)
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


def check_frozen(name, text):
    """What is shown is what the file says. LEVADA_UPDATE_GOLDEN=1 rewrites the files; read the diff."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("LEVADA_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
