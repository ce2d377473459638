"""What a notification says."""

import re
from pathlib import Path

import pytest

from levada.decide.definitions import Notification
from levada.decide.notification_text import (
    document,
    duration,
    failed_tasks,
    fill,
    message,
    values_of,
)
from levada.resources.notification_names import NAMES, unknown_names
from support.facts import T0, a_run, s

BODY = {
    "status": {
        "diagnosis": {"category": "OOMKilled", "summary": "It needed more memory.", "resolution": "Raise the limit."},
        "tasks": {
            "a-0": {"name": "load", "state": "Completed", "endTime": "2026-03-01T12:00:01Z"},
            "b-0": {"name": "train", "state": "Failed", "endTime": "2026-03-01T12:00:09Z"},
            "c-0": {"name": "clean", "state": "Crashed", "endTime": "2026-03-01T12:00:02Z"},
        },
    }
}
RUN = a_run(
    phase="Failed",
    reason="TaskFailed",
    message="train: no data",
    attempt=2,
    started_at=T0 + s(1),
    completed_at=T0 + s(3725),
)


def of(**fields) -> Notification:
    return Notification("ops", frozenset({"Failed"}), {}, **fields)


def test_values_are_what_the_names_promise():
    values = values_of(RUN, "Failed", BODY, notification="ops")
    assert values.keys() == NAMES.keys()
    assert values["failed_tasks"] == "clean, train"
    assert values["duration"] == "1 h 2 min"
    assert values["verb"] == "failed"
    assert values["started"] == "2026-03-01T12:00:01Z"
    assert (values["diagnosis"], values["resolution"]) == ("It needed more memory.", "Raise the limit.")
    assert all(isinstance(value, str) for value in values.values())


def test_a_run_that_is_gone_is_told_from_what_was_seen_of_it():
    values = values_of(RUN, "Failed", {})
    assert (values["reason"], values["message"], values["failed_tasks"]) == ("TaskFailed", "train: no data", "")


def test_default_words_leave_out_what_is_empty():
    subject, text = message(of(), values_of(RUN, "Failed", BODY))
    assert subject == "d: run r failed"
    assert text == (
        "Run: r\nNamespace: ns\nPhase: Failed\nReason: TaskFailed\nMessage: train: no data\nFailed tasks: clean, train\n"
        "Diagnosis: It needed more memory.\nWhat to do: Raise the limit.\nDuration: 1 h 2 min\nLogs: levada runs logs r -n ns"
    )
    assert message(of(), values_of(a_run(), "Late", {}))[0] == "d: run r is late"


def test_templates_are_filled_once_and_subjects_are_one_line():
    values = values_of(a_run(message="{{ namespace }}\nx"), "Failed", {})
    subject, text = message(of(subject="{{message}}: {{ run }}", body="{{ message }}|{{nobody}}"), values)
    assert subject == "{{ namespace }} x: r"
    assert text == "{{ namespace }}\nx|{{nobody}}"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("no names", ()),
        ("{{ run }}{{phase}}", ()),
        ("{{ run.name }} {{ }} {{ Run }}", ("run.name", "", "Run")),
        ("{{ x }} and {{ x }}", ("x",)),
        ("{ run } {{ run", ()),
    ],
)
def test_unknown_names(template, expected):
    assert unknown_names(template) == expected
    if not expected:
        assert "{{ run }}" not in fill(template, {"run": "r"})


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.25, "0.2 s"), (9.96, "10.0 s"), (42.4, "42 s"), (184, "3 min 4 s"), (3600, "1 h"), (93_784, "1 d 2 h")],
)
def test_duration(seconds, expected):
    assert duration(seconds) == expected


def test_many_failed_tasks_are_counted():
    rows = {f"t-{number}": {"name": f"t{number:02}", "state": "Failed"} for number in range(25)}
    found = failed_tasks({"status": {"tasks": rows}})
    assert found[0] == "t00"
    assert found[-1] == "and 5 more"
    assert len(found) == 21


def test_document_for_programs():
    values = values_of(RUN, "Failed", BODY, notification="ops")
    found = document(values, failed=("clean", "train"), delivery="id", uid="run-uid", subject="S", text="T")
    assert found["failedTasks"] == ["clean", "train"]
    assert (found["id"], found["runUid"], found["attempt"], found["phase"]) == ("id", "run-uid", 2, "Failed")
    assert (found["subject"], found["text"]) == ("S", "T")


def test_the_page_lists_every_name():
    page = (Path(__file__).parents[3] / "docs" / "howto" / "notifications.md").read_text()
    assert set(re.findall(r"^\| `\{\{ (\w+) \}\}` \|", page, re.MULTILINE)) == NAMES.keys()
