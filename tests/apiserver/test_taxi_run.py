"""The complete path: the taxi Deployment is applied, and the run is followed as a person follows it."""

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from rich.spinner import Spinner

from levada.cli import watch
from levada.cli.follow import follow
from levada.cli.output import now
from levada.cli.rerun import plan_page
from levada.cli.run_view import run_page
from levada.decide.orders import plan_of
from levada.resources import names
from support.shown_runs import rendered
from support.stack import Stack, wait_until
from support.terminal_picture import PICTURES, picture

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(180)]

REPO = Path(__file__).resolve().parents[2]
REAL_DATA = REPO.parent / "shared" / "data" / "nyc-taxi"


@pytest.fixture(scope="module")
def stack(cluster, installed, tmp_path_factory) -> Iterator[Stack]:
    stack = Stack(cluster, tmp_path_factory.mktemp("taxi"), agent_name="taxi-agent", root=REPO)
    stack.start("operator")
    stack.start("agent")
    try:
        yield stack
    finally:
        stack.stop()


def levada(stack, namespace, *arguments):
    return subprocess.run(
        [stack.processes["operator"].args[0], "-m", "levada.cli", *arguments, "-n", namespace],
        env=os.environ | {"KUBECONFIG": str(stack.cluster.kubeconfig), "COLUMNS": "160", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.skipif(not REAL_DATA.exists(), reason="needs the real trip records in ../shared/data/nyc-taxi")
def test_the_taxi_run_completes_with_the_reference_error(stack, kubectl, namespace):
    kubectl("-n", namespace, "apply", "-f", str(REPO / "flows" / "nyc_taxi" / "deployment.yaml"))
    watcher = subprocess.Popen(
        [stack.cluster.kubectl, "--kubeconfig", stack.cluster.kubeconfig, "-n", namespace, "get", "fr", "-w"],
        stdout=subprocess.PIPE,
        text=True,
    )
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(watcher.stdout), daemon=True)
    reader.start()
    try:
        done = levada(
            stack,
            namespace,
            "deployment",
            "run",
            "nyc-taxi",
            "--name",
            "taxi",
            "--watch",
            "-p",
            "date=2019-01-05",
            "-p",
            f"data_url={REAL_DATA}",
        )
        assert done.returncode == 0, (
            done.stdout + done.stderr + stack.log("operator")[-3000:] + stack.log("agent")[-3000:]
        )
        wait_until(lambda: any("Completed" in line for line in lines), "kubectl get -w shows the end", 10)
    finally:
        watcher.terminate()
        watcher.wait(timeout=10)
        reader.join(timeout=10)
        watcher.stdout.close()

    run = json.loads(kubectl("-n", namespace, "get", "fr", "taxi", "-o", "json"))
    status = run["status"]
    assert status["phase"] == "Completed"
    assert status["progress"] == "6/6"
    assert round(float(status["result"]), 3) == 6.675
    assert len(status["tasks"]) == 6
    assert {row["name"] for row in status["tasks"].values()} >= {
        "download",
        "prepare_features",
        "train_model",
        "evaluate",
        "save_model",
    }

    phases = re.findall(r"^taxi\s+(\w+)", "".join(lines), re.MULTILINE)
    seen = list(dict.fromkeys(phases))
    assert [phase for phase in seen if phase in {"Pending", "Running", "Completed"}] == [
        "Pending",
        "Running",
        "Completed",
    ], lines
    assert re.search(r"Running\s+[0-5]/6", "".join(lines)), "progress is shown while it runs"

    described = kubectl("-n", namespace, "describe", "fr", "taxi")
    assert "Succeeded" in described and "Started" in described and "Completed" in described
    assert "RMSE" in kubectl("-n", namespace, "logs", "-l", f"{names.LABEL_RUN}=taxi")
    shown = levada(stack, namespace, "runs", "show", "taxi")
    assert "6.675" in shown.stdout and "train-model-0" in shown.stdout

    kubectl("-n", namespace, "delete", "fr", "taxi")
    selector = f"{names.LABEL_RUN}=taxi"
    wait_until(
        lambda: not kubectl("-n", namespace, "get", "jobs,pods", "-l", selector, "-o", "name").strip(),
        "Job and Pod are gone",
        40,
    )


def test_two_runs_of_the_hello_flow_do_not_meet(stack, kubectl, namespace):
    kubectl("-n", namespace, "apply", "-f", str(REPO / "flows" / "hello" / "deployment.yaml"))
    first = levada(stack, namespace, "deployment", "run", "hello", "--name", "one")
    second = levada(stack, namespace, "deployment", "run", "hello", "--name", "two")
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    kubectl("-n", namespace, "wait", "--for=condition=Succeeded", "--timeout=60s", "fr/one", "fr/two")
    assert kubectl("-n", namespace, "get", "jobs", "-o", "name").split() == ["job.batch/one-1", "job.batch/two-1"]


PRICES = """
import time
from levada import flow, task

@task
def load(month):
    time.sleep(0.3 + 0.4 * month)
    return [month] * 3

@task(retries=1, retry_delay_seconds=3)
def check(rows):
    if rows[0] == 4:
        raise ValueError("3 of 720 prices are negative")
    time.sleep(3)
    return sum(rows)

@flow
def prices(months=4):
    return sum(future.result() for future in check.map(load.map(range(1, months + 1))))
"""


async def test_what_a_person_sees_of_a_run_on_a_terminal(stack, kubectl, namespace, client):
    """LEVADA_SCREENSHOTS=1 keeps it as docs/images/terminal.svg."""

    def an_object(kind, spec, name="prices"):
        return {"apiVersion": names.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}

    objects = [
        an_object("Flow", {"entrypoint": "prices.py:prices", "source": {"inline": PRICES}}),
        an_object("Deployment", {"flowRef": {"name": "prices"}, "persistResults": True}),
        an_object("FlowRun", {"deploymentRef": {"name": "prices"}}, "prices-april"),
    ]
    kubectl("-n", namespace, "apply", "-f", "-", stdin=objects)
    seen: list[tuple[dict, datetime]] = []
    ended = await follow(client, "prices-april", namespace, lambda run: seen.append((run, now())))
    assert (ended["status"]["phase"], ended["status"]["reason"]) == ("Failed", "FlowFailed")

    run, at = next((run, at) for run, at in reversed(seen) if {"Running", "Completed", "Retrying"} <= states(run))
    picture_of_it = watch.frame(run, at, Spinner("dots"), 24)
    frame = rendered(picture_of_it)
    assert re.search(r"prices-april  Running  [\d.]+m?s", frame)
    assert re.search(r"load-\d +Completed +1 ", frame)
    assert re.search(r"check-3 +Retrying +\d ", frame)
    page = run_page(ended, now())
    assert "3 of 720 prices are negative" in rendered(page)
    plan = plan_page(ended, plan_of(ended, changed={}, from_scratch=False, generation=None))
    assert "Retry of prices-april: 7 reused, 1 to run" in rendered(plan)
    if os.environ.get("LEVADA_SCREENSHOTS"):
        shown = [("levada runs watch prices-april", picture_of_it), ("levada runs retry prices-april --plan", plan)]
        (PICTURES / "terminal.svg").write_text(picture("levada", shown), encoding="utf-8")


def states(run) -> set[str]:
    """Those of its task runs."""
    return {row["state"] for row in ((run.get("status") or {}).get("tasks") or {}).values()}
