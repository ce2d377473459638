import math

import pytest

from levada.engine.retry import delays_of, exponential_delays, jitter_of, next_delay, retries_of
from levada.exceptions import OptionError


@pytest.mark.parametrize(
    ("case", "attempt", "retries", "delays", "expected"),
    [
        ("no retries", 1, 0, (1.0,), None),
        ("the first of one", 1, 1, (3.0,), 3.0),
        ("the second of one", 2, 1, (3.0,), None),
        ("one delay serves all", 3, 5, (2.0,), 2.0),
        ("one delay for each", 2, 3, (1.0, 2.0, 4.0), 2.0),
        ("the last delay goes on", 4, 9, (1.0, 2.0), 2.0),
    ],
)
def test_next_delay(case, attempt, retries, delays, expected):
    assert next_delay(attempt, retries, delays) == expected, case


@pytest.mark.parametrize(
    ("setting", "retries", "expected"),
    [
        (None, 3, (0.0,)),
        (2, 3, (2.0,)),
        (0.5, 0, (0.5,)),
        ([1, 2.5], 2, (1.0, 2.5)),
        ((1,), 2, (1.0,)),
        ([], 0, (0.0,)),
        (lambda retries: [retries] * retries, 2, (2.0, 2.0)),
    ],
)
def test_delays(setting, retries, expected):
    assert delays_of(setting, retries, "task 'x'") == expected


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("5", "must be a number of seconds, a list of them, or a function"),
        ([1, "2"], "holds '2', which is not a number of seconds"),
        ([True], "holds True, which is not a number"),
        (-1, "between 0 and one year"),
        (math.nan, "between 0 and one year"),
        (math.inf, "between 0 and one year"),
        ([], "is an empty list; leave it out to retry at once"),
        (lambda retries: 5, "returned 5; it is called with the number of retries and must return a list"),
        (lambda retries: "12", "returned '12'"),
        ({1: 2}, "must be a number of seconds, a list"),
    ],
)
def test_delays_that_cannot_work(setting, said):
    with pytest.raises(OptionError, match=f"task 'x': .*{said}"):
        delays_of(setting, 1, "task 'x'")


@pytest.mark.parametrize(("setting", "expected"), [(None, 0), (0, 0), (3, 3)])
def test_retries(setting, expected):
    assert retries_of(setting, "task 'x'") == expected


@pytest.mark.parametrize("setting", [-1, 1.0, "3", True, [1]])
def test_retries_that_cannot_work(setting):
    with pytest.raises(OptionError, match="task 'x': retries="):
        retries_of(setting, "task 'x'")


def test_exponential_delays_double_and_stay_possible():
    assert exponential_delays(0.5, 4) == [0.5, 1.0, 2.0, 4.0]
    delays_of(exponential_delays(10, 60), 60, "task 'x'")


@pytest.mark.parametrize(("setting", "expected"), [(None, 0.0), (0, 0.0), (0.5, 0.5), (100, 100.0)])
def test_jitter(setting, expected):
    assert jitter_of(setting, "task 'x'") == expected


@pytest.mark.parametrize("setting", [-0.1, 101, "1", True, float("nan")])
def test_jitter_that_cannot_work(setting):
    with pytest.raises(OptionError, match="task 'x': retry_jitter_factor="):
        jitter_of(setting, "task 'x'")


@pytest.mark.parametrize(("luck", "delay"), [(0.0, 4.0), (0.5, 5.0), (1.0, 6.0)])
def test_jitter_only_ever_adds(luck, delay):
    assert next_delay(1, 1, (4.0,), 0.5, luck) == delay
