"""A machine whose clock is wrong speaks the cluster's time."""

from datetime import UTC, datetime, timedelta

import pytest

from levada.agent import status
from levada.agent.clock import Clock
from levada.agent.heartbeat import Heartbeat

SERVER = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
DATE = "Tue, 24 Nov 2026 10:00:00 GMT"
HOURS = 3600.0


def clock_that_is(ahead_s):
    return Clock(lambda: SERVER.timestamp() + ahead_s)


@pytest.mark.parametrize(
    ("case", "ahead_s", "words"),
    [
        ("agrees", 0, ""),
        ("within what Date can tell", 4, ""),
        ("ahead", 3 * HOURS + 0.5, "this machine's clock is 3:00:00 ahead of the API server's"),
        ("behind", -3 * HOURS + 0.5, "this machine's clock is 3:00:00 behind the API server's"),
    ],
)
def test_difference(case, ahead_s, words):
    clock = clock_that_is(ahead_s)
    clock.heard(DATE, 0.0)
    assert clock.words == words, case
    assert abs(clock.now() - SERVER) < timedelta(seconds=6)


def test_the_offset_is_steady_and_goes_when_the_clock_is_set_right(caplog):
    ahead_s = 3 * HOURS
    clock = Clock(lambda: SERVER.timestamp() + ahead_s)
    clock.heard(DATE, 0.1)
    first = clock.ahead_s
    ahead_s += 3
    clock.heard(DATE, 0.1)  # the seconds of Date, not the clock
    assert clock.ahead_s == first
    assert sum("ahead of" in message for message in caplog.messages) == 1
    ahead_s = 0
    clock.heard(DATE, 0.1)
    assert (clock.ahead_s, clock.words) == (0, "")


@pytest.mark.parametrize(("date", "took_s"), [(None, 0.1), ("yesterday", 0.1), (DATE, 20.0)])
def test_answers_that_tell_no_time(date, took_s):
    clock = clock_that_is(3 * HOURS)
    clock.heard(date, took_s)
    assert clock.ahead_s == 0


def test_times_of_the_shim_are_corrected():
    clock = clock_that_is(3 * HOURS)
    assert clock.correct("2026-11-24T13:00:01.123456789Z") == "2026-11-24T13:00:01.123456789Z"
    clock.heard(DATE, 0.0)
    assert clock.correct("2026-11-24T13:00:01.123456789Z").startswith("2026-11-24T10:00:01.62")


def test_a_pods_status_has_the_clusters_times(make_pod):
    clock = clock_that_is(-3 * HOURS)
    clock.heard(DATE, 0.0)
    state = status.Ended({"exitCode": 0, "startedAt": "2026-11-24T07:00:00.000000000Z", "finishedAt": "2026-11-24T07:01:00.000000000Z"}, "")  # fmt: skip
    built = status.build(
        make_pod(), state, accepted_at="2026-11-24T06:59:00.000000000Z", image_id="i", correct=clock.correct
    )
    terminated = built["containerStatuses"][0]["state"]["terminated"]
    assert (built["startTime"][:16], terminated["startedAt"][:16], terminated["finishedAt"][:16]) == (
        "2026-11-24T09:59",
        "2026-11-24T10:00",
        "2026-11-24T10:01",
    )


@pytest.mark.parametrize(
    ("case", "last", "expected"),
    [
        ("the first one", None, "2026-11-24T10:00:00.000000Z"),
        ("as time goes by", "2026-11-24T09:59:50.000000Z", "2026-11-24T10:00:00.000000Z"),
        ("a predecessor's clock was ahead", "2026-11-24T13:00:00.000000Z", "2026-11-24T13:00:00.000001Z"),
    ],
)
def test_the_lease_never_goes_back(case, last, expected, make_node_facts):
    """The node life cycle takes a renewal that is not later than the last one for silence, and evicts healthy runs."""
    heartbeat = Heartbeat(None, make_node_facts(), clock_that_is(0), port=0)
    before = {"spec": {"renewTime": last}} if last else None
    assert heartbeat._lease_spec(before)["renewTime"] == expected, case
