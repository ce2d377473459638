"""Machine-readable forms, ages and durations, and how a command fails."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import typer
import yaml

from levada.cli.output import Format, age, between, duration_text, error, machine_text, time_text

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
RUN = {"apiVersion": "levada.dev/v1alpha1", "kind": "FlowRun", "metadata": {"name": "é-1"}, "spec": {"x": None}}


def ago(**span):
    return (NOW - timedelta(**span)).isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("since", "said"),
    [
        (ago(seconds=0), "0s"),
        (ago(seconds=-5), "0s"),  # a clock that is ahead of ours
        (ago(seconds=119), "119s"),
        (ago(seconds=120), "2m"),
        (ago(minutes=5, seconds=12), "5m12s"),
        (ago(minutes=59), "59m"),
        (ago(hours=2, minutes=59), "179m"),
        (ago(hours=5, minutes=30), "5h30m"),
        (ago(hours=30), "30h"),
        (ago(days=9), "9d"),
        (None, "<unknown>"),
    ],
)
def test_ages_are_kubectls(since, said):
    assert age(since, NOW) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, ""), (0, "0ms"), (0.0032, "3ms"), (0.0994, "99ms"), (0.0996, "0.10s"), (0.354, "0.35s"), (9.994, "9.99s"), (12.34, "12.3s"), (59.94, "59.9s"), (59.96, "1m00s"),
        (245.2, "4m05s"), (3599.4, "59m59s"), (3600, "1h00m"), (7380, "2h03m"), (-0.2, "-0.20s"),
    ],
)  # fmt: skip
def test_durations(seconds, said):
    assert duration_text(seconds) == said


def test_a_time_may_have_nanoseconds():
    assert time_text("2026-03-01T12:00:00.123456789Z") == "2026-03-01 12:00:00 UTC"
    assert time_text("2026-03-01T13:00:00+01:00") == "2026-03-01 12:00:00 UTC"
    assert time_text(None) == ""


def test_what_has_not_ended_lasts_until_now():
    assert between(ago(seconds=30), None, NOW) == 30
    assert between(ago(seconds=30), ago(seconds=10), NOW) == 20
    assert between(None, None, NOW) is None


def test_one_object_for_programs():
    assert json.loads(machine_text(RUN, Format.JSON)) == RUN
    assert yaml.safe_load(machine_text(RUN, Format.YAML)) == RUN
    assert machine_text(RUN, Format.NAME) == "flowrun.levada.dev/é-1\n"


def test_several_objects_are_a_list():
    assert json.loads(machine_text([RUN, RUN], Format.JSON))["items"] == [RUN, RUN]
    assert yaml.safe_load(machine_text([], Format.YAML)) == {"apiVersion": "v1", "kind": "List", "items": []}
    assert machine_text([RUN, RUN], Format.NAME).count("\n") == 2


def test_an_error_names_cause_and_fix_on_standard_error(capsys):
    raised = error("it is broken", "mend it")
    assert isinstance(raised, typer.Exit)
    assert raised.exit_code == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "error: it is broken\nhint:  mend it\n"
