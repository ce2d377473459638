"""A run of a day, in virtual time: it must not flood the API server, nor fall behind."""

import pytest

from levada.runner.report import interval_seconds


@pytest.mark.parametrize(("age_seconds", "expected"), [(0, 1.0), (360, 1.0), (720, 2.0), (3600, 10.0), (86_400, 10.0)])
def test_a_report_is_a_second_old_at_first_and_ten_at_most(age_seconds, expected):
    assert interval_seconds(1.0, age_seconds) == expected


def test_a_day_in_which_something_always_changes_is_a_bounded_number_of_patches():
    age_seconds, patches = 0.0, 0
    while age_seconds < 86_400:
        age_seconds += interval_seconds(1.0, age_seconds)
        patches += 1
    assert 8_000 < patches < 10_000


def test_a_longer_interval_that_was_asked_for_holds():
    assert interval_seconds(30.0, 86_400) == 30.0
