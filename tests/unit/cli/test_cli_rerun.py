"""What a retry would reuse and run, as a person reads it; and what lets a run go on."""

import io
from datetime import UTC, datetime

import pytest

from levada.cli.output import make_console
from levada.cli.rerun import RerunPlan, name_of, order, plan_of, plan_page, resumption
from levada.decide.orders import name_anew

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def row(name, state, start, **more):
    return {"name": name, "state": state, "attempt": 1, "startTime": f"2026-03-01T12:00:0{start}Z", **more}


def a_run(name="etl-1", *, spec=None, annotations=None, **status):
    metadata = {"name": name, "namespace": "team", **({"annotations": annotations} if annotations else {})}
    return {"metadata": metadata, "spec": {"deploymentRef": {"name": "etl"}, **(spec or {})}, "status": status}


FAILED = a_run(
    spec={"parameters": {"day": "monday", "n": 1}, "cancel": False, "suspend": False, "priority": 5, "prestartSeconds": 30},
    phase="Failed",
    flow={"name": "etl", "generation": 2},
    taskCounts={"total": 4, "completed": 3, "persisted": 2, "failed": 1},
    tasks={
        "load-0": row("load", "Completed", 1, persisted=True),
        "clean-0": row("clean", "Completed", 2, persisted=True),
        "note-0": row("note", "Completed", 3),
        "train-0": row("train", "Failed", 4),
    },
)  # fmt: skip


@pytest.mark.parametrize(
    ("case", "options", "expected", "told"),
    [
        ("as it was", {"generation": 2}, (2, 2), ["1 completed task has no stored result"]),
        ("other parameters", {"changed": {"n": 2}}, (2, 2), ["Other parameters (n)", "1 completed task"]),
        ("other code", {"generation": 3}, (2, 2), ["The Flow has changed", "1 completed task"]),
        ("from scratch", {"from_scratch": True}, (0, 4), ["From scratch"]),
    ],
)
def test_the_plan(case, options, expected, told):
    plan = plan_of(FAILED, **{"changed": {}, "from_scratch": False, **options})
    assert (plan.reused, plan.to_run) == expected
    assert len(plan.notes) == len(told)
    assert all(words in note for words, note in zip(told, plan.notes, strict=True))


BROKEN = {"type": "Archived", "status": "False", "reason": "StorageUnreachable", "message": "There is no bucket 'b'."}


@pytest.mark.parametrize(
    ("spec", "status", "told"),
    [
        ({}, {}, "persistResults and storage in the Deployment, store them."),
        (
            {"persistResults": False, "storage": "s3://b"},
            {},
            "persistResults and storage in the Deployment, store them.",
        ),
        ({"persistResults": True}, {}, "the Deployment has persistResults, but no storage; spec.storage names one."),
        (
            {"persistResults": True, "storage": "s3://b"},
            {"conditions": [BROKEN]},
            "but its storage s3://b cannot be used. There is no bucket 'b'.",
        ),
        (
            {"persistResults": True},
            {"storage": "s3://b", "conditions": [BROKEN | {"status": "True"}]},
            "they could not be stored in s3://b, or the code says persist_result=False; `levada runs logs etl-1` tells.",
        ),
    ],
)
def test_the_plan_says_what_kept_results_from_being_stored(spec, status, told):
    deployment = {"metadata": {"name": "etl"}, "spec": spec, "status": status}
    (note,) = plan_of(FAILED, changed={}, from_scratch=False, deployment=deployment).notes
    assert note.startswith("1 completed task has no stored result and will run again: ")
    assert note.endswith(told)


def test_a_run_that_never_began_has_nothing_to_reuse():
    assert plan_of(a_run(phase="Failed"), changed={}, from_scratch=False) == RerunPlan(0, 0)


def shown(plan):
    file = io.StringIO()
    make_console(file, width=100).print(plan_page(FAILED, plan))
    return [line.split() for line in file.getvalue().splitlines()]


def test_the_page_shows_what_runs_first():
    lines = shown(RerunPlan(2, 2, ("A note.",)))
    assert lines[0] == ["Retry", "of", "etl-1:", "2", "reused,", "2", "to", "run"]
    assert [line[0] for line in lines[2:6]] == ["note-0", "train-0", "load-0", "clean-0"]
    assert [line[-1] for line in lines[2:6]] == ["runs", "runs", "reused", "reused"]
    assert lines[-1] == ["A", "note."]


def test_from_scratch_nothing_is_shown_as_reused():
    assert not any("reused" in line[1:] for line in shown(RerunPlan(0, 4))[2:])


def test_the_new_order_is_the_old_one_with_a_link():
    made = order(FAILED, {"n": 2}, from_scratch=False)
    assert made["spec"] == {
        "deploymentRef": {"name": "etl"}, "priority": 5, "parameters": {"day": "monday", "n": 2}, "retryOf": "etl-1",
    }  # fmt: skip
    assert made["metadata"]["labels"] == {"levada.dev/retry-of": "etl-1"}
    assert order(a_run(), {}, from_scratch=True)["spec"] == {
        "deploymentRef": {"name": "etl"}, "retryOf": "etl-1", "fromScratch": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        (a_run("etl-1"), "etl-1-retry-3"),
        (a_run("etl-1-retry-1", rerun={"of": "etl-1", "key": "k"}), "etl-1-retry-3"),
        (a_run("etl-1-retry-1"), "etl-1-retry-3"),
        (a_run("etl-1-rerun-2"), "etl-1-rerun-2-retry-3"),  # other parameters: another chain
        (a_run("x" * 50), "x" * 42 + "-retry-3"),
    ],
)
def test_retries_are_named_after_the_first_run(old, expected):
    assert name_of(old, 3) == expected


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        (a_run("etl-1"), "etl-1-rerun-3"),
        (a_run("etl-1-retry-1", rerun={"of": "etl-1", "key": "k"}), "etl-1-rerun-3"),
        (a_run("etl-1-rerun-2"), "etl-1-rerun-3"),
        (a_run("etl-1-rerun-2-retry-1", rerun={"of": "etl-1-rerun-2", "key": "k"}), "etl-1-rerun-3"),
        (a_run("x" * 50), "x" * 42 + "-rerun-3"),
    ],
)
def test_what_runs_anew_is_named_after_the_first_run(old, expected):
    assert name_anew(old, 3) == expected


KEYED = (
    "Paused: `kubectl -n team annotate flowrun etl-1 levada.dev/resume-approval='<float>' --overwrite` lets it go on"
)
PLAIN = KEYED.replace("-approval", "")
WAITS = {"phase": "Paused", "reason": "WaitingForInput"}


@pytest.mark.parametrize(
    ("case", "found", "value", "expected"),
    [
        ("suspended", a_run(spec={"suspend": True}, phase="Paused", reason="Suspended"), None, {"spec": {"suspend": False}}),
        ("still stopping", a_run(spec={"suspend": True}, phase="Running"), None, {"spec": {"suspend": False}}),
        ("waits for a person", a_run(**WAITS, message=PLAIN), None, {"levada.dev/resume": NOW.isoformat()}),
        ("waits for input under a key", a_run(**WAITS, message=KEYED), "0.5", {"levada.dev/resume-approval": "0.5"}),
        ("the same input as before", a_run(**WAITS, message=PLAIN, annotations={"levada.dev/resume": "1"}), "1", {"levada.dev/resume": "1 "}),
        ("it runs", a_run(phase="Running"), None, None),
        ("no phase yet", a_run(), None, None),
    ],
)  # fmt: skip
def test_what_lets_a_run_go_on(case, found, value, expected):
    made = resumption(found, value, NOW)
    assert (made["metadata"]["annotations"] if made and "metadata" in made else made) == expected
