"""What a person sees of runs, frozen at a fixed width. LEVADA_UPDATE_GOLDEN=1 rewrites the files; read the diff."""

import pytest

from levada.cli.deployment_view import deployments_table
from levada.cli.run_view import facts, progress_line, run_page, runs_table, tasks_table
from support.shown_runs import COMPLETED, CRASHED, NOW, RUNNING, UNSEEN, a_row, a_run, check_frozen, rendered

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
    check_frozen(name, rendered(renderable, width))


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
