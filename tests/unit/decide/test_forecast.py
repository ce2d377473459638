"""How many runs start when: counted by queue, and what jitter makes of a peak."""

from datetime import UTC, datetime, timedelta

from levada.decide.definition_views import deployment_view, queue_view, schedule_view
from levada.decide.forecast import forecast

NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)


def seen(view, name, **spec):
    metadata = {
        "namespace": "ns",
        "name": name,
        "uid": name,
        "resourceVersion": "1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return view({"metadata": metadata, "spec": spec})


def a_schedule(name, deployment="d", **spec):
    return seen(schedule_view, name, deploymentRef={"name": deployment}, **({"cron": "0 0 * * *"} | spec))


DEPLOYMENTS = {
    "d": seen(deployment_view, "d", flowRef={"name": "f"}),
    "big": seen(deployment_view, "big", flowRef={"name": "f"}, workQueue="big"),
}
QUEUES = {"big": seen(queue_view, "big", concurrencyLimit=5)}


def look(*schedules, hours=24, minutes=30, jitter_s=None):
    span, bucket = timedelta(hours=hours), timedelta(minutes=minutes)
    return forecast(schedules, DEPLOYMENTS, QUEUES, start=NOW, span=span, bucket=bucket, jitter_s=jitter_s)


def test_starts_are_counted_by_queue_and_bucket():
    midnight = [a_schedule(f"s{n}", "big") for n in range(40)]
    big, default = look(*midnight, a_schedule("hourly", cron="15 * * * *"))
    assert (big.queue, big.limit, big.starts) == ("big", 5, 40)
    assert (big.peak.at, big.peak.starts, big.peak.at_once) == (datetime(2026, 3, 2, tzinfo=UTC), 40, 40)
    assert (default.queue, default.limit, default.starts) == ("default", None, 24)
    assert [bucket.at.minute for bucket in default.buckets] == [0] * 24


def test_jitter_flattens_the_peak_and_loses_no_start():
    midnight = [a_schedule(f"s{n}", "big") for n in range(200)]
    (plain,), (calm,) = look(*midnight), look(*midnight, jitter_s=600)
    assert plain.starts == calm.starts == 200
    assert plain.peak.at_once == 200
    assert calm.peak.at_once <= 5


def test_what_starts_nothing_is_not_counted():
    assert look(
        a_schedule("paused", suspend=True), a_schedule("lost", "missing"), a_schedule("broken", cron="x"),
        a_schedule("over", endTime="2026-03-01T13:00:00Z"),
    ) == []  # fmt: skip


def test_a_tick_just_before_may_start_within():
    late = a_schedule("late", cron="0 12 * * *", jitterSeconds=3600)
    (found,) = look(late, hours=1)
    assert found.starts == 1
