from datetime import UTC, datetime

import pytest

from levada.kube.errors import ConnectionLost, KubeconfigError, from_status
from levada.kube.retry import RetryPolicy, jittered_s, next_delay_s, parse_retry_after

POLICY = RetryPolicy(tries=3, base_s=0.1, cap_s=1.0)


@pytest.mark.parametrize(
    ("case", "error", "is_read", "repeats"),
    [
        ("a read after a lost answer", ConnectionLost("reset"), True, True),
        ("a write after a lost answer may have happened", ConnectionLost("reset"), False, False),
        ("a write that nobody received", ConnectionLost("refused", sent=False), False, True),
        ("a read that was shed", from_status(429, {}), True, True),
        ("a write that was shed", from_status(429, {}), False, True),
        ("a read in trouble", from_status(503, {}), True, True),
        ("a write in trouble may have happened", from_status(500, {}), False, False),
        ("a read of nothing", from_status(404, {}), True, False),
        ("a conflict", from_status(409, {}), False, False),
        ("an invalid object", from_status(422, {}), False, False),
        ("an unusable kubeconfig", KubeconfigError("no"), True, False),
    ],
)
def test_what_may_be_repeated(case, error, is_read, repeats):
    assert (next_delay_s(POLICY, error, 1, is_read=is_read) is not None) is repeats, case


def test_tries_are_bounded():
    error = ConnectionLost("reset")
    assert [next_delay_s(POLICY, error, n, is_read=True) is not None for n in (1, 2, 3)] == [True, True, False]


def test_the_server_says_when():
    assert next_delay_s(POLICY, from_status(429, {}, retry_after=7), 1, is_read=False) == 7


def test_the_server_cannot_send_us_to_sleep_for_a_day():
    assert next_delay_s(POLICY, from_status(429, {}, retry_after=86400), 1, is_read=False) == 30


def test_backoff_doubles_up_to_its_cap():
    for attempt, ceiling in ((1, 0.1), (2, 0.2), (3, 0.4), (5, 1.0), (5000, 1.0)):
        assert ceiling / 2 <= jittered_s(attempt, base_s=0.1, cap_s=1.0) <= ceiling


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("2", 2.0),
        ("0.5", 0.5),
        ("Mon, 23 Nov 2026 10:00:10 GMT", 10.0),
        ("Mon, 23 Nov 2026 09:00:00 GMT", 0.0),
        ("soon", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(header, seconds):
    now = datetime(2026, 11, 23, 10, 0, 0, tzinfo=UTC)
    assert parse_retry_after({"Retry-After": header}, now=now) == seconds


def test_no_retry_after():
    assert parse_retry_after({}) is None
