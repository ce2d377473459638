"""What a person sees of schedules, frozen at a fixed width. LEVADA_UPDATE_GOLDEN=1 rewrites the files; read the diff."""

import io
import os
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest
import typer

from levada.cli import schedule_view
from levada.cli.output import make_console
from levada.cli.schedules import even_bucket, plan_values, span_of
from levada.decide.definition_views import schedule_view as view_of
from levada.decide.forecast import Bucket, QueueForecast

GOLDEN = Path(__file__).parent / "golden"
NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)


def a_schedule(name, status=None, **spec):
    metadata = {"name": name, "namespace": "team", "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": metadata, "spec": {"deploymentRef": {"name": "etl"}, **spec}, "status": status or {}}


def ready(status, reason):
    return [{"type": "Ready", "status": status, "reason": reason}]


FOUND = [
    a_schedule(
        "nightly",
        {"nextRuns": ["2026-03-02T00:30:00.000Z"], "lastRun": "nightly-20260301t003000z", "conditions": ready("True", "Ready"), "started": 60, "skipped": 3, "skippedByReason": {"StillRunning": 1, "Missed": 2}},
        cron="30 0 * * *",
        timeZone="Europe/Lisbon",
    ),
    a_schedule("broken", {"conditions": ready("False", "InvalidSchedule")}, cron="0 0 0 * * *"),
    a_schedule("paused", {"conditions": ready("True", "Suspended"), "started": 5}, intervalSeconds=900, suspend=True),
    a_schedule("new", rrule="FREQ=MONTHLY;BYMONTHDAY=-1"),
]  # fmt: skip
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
PLAN = QueueForecast(
    "big", 5, (Bucket(MIDNIGHT - timedelta(minutes=30), 4, 1), Bucket(MIDNIGHT, 40, 37), Bucket(MIDNIGHT + timedelta(minutes=30), 2, 1))
)  # fmt: skip
CALM = QueueForecast("big", 5, (Bucket(MIDNIGHT, 46, 3),))


def check(name, *renderables):
    out = io.StringIO()
    console = make_console(out, width=130)
    for each in renderables:
        console.print(each)
    text = "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("LEVADA_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_the_list():
    check("schedules", schedule_view.schedules_table(FOUND, NOW, with_namespace=False))


def test_the_next_ones_in_the_zone_across_a_change_of_the_clocks():
    schedule = view_of(a_schedule("nightly", cron="30 1 * * *", timeZone="Europe/Lisbon", jitterSeconds=600))
    ticks = list(islice(schedule.rule.ticks(datetime(2026, 3, 27, 12, tzinfo=UTC)), 5))
    check("schedules_next", schedule_view.next_table(schedule, ticks, 4))


def test_the_plan():
    histogram = schedule_view.histogram(PLAN, timedelta(minutes=30))
    check("schedules_plan", histogram, schedule_view.peak_words(PLAN, CALM, 600))


def test_the_plan_for_programs():
    half_an_hour = timedelta(minutes=30)
    values = plan_values([PLAN], [CALM], start=NOW, span=timedelta(hours=24), bucket=half_an_hour, jitter=600)
    assert values["queues"][0]["peak"] == {"time": "2026-03-02T00:00:00+00:00", "atOnce": 37}
    assert values["withJitter"]["queues"][0]["peak"]["atOnce"] == 3
    assert (values["bucketSeconds"], values["until"]) == (1800, "2026-03-02T12:00:30+00:00")


def test_spans():
    assert span_of("24h", "--next") == timedelta(days=1)
    assert even_bucket(timedelta(days=1)) == timedelta(minutes=30)
    for text in ("", "h", "0h", "24", "1y", "-1h", "999w", "²h"):
        with pytest.raises(typer.Exit):
            span_of(text, "--next")
