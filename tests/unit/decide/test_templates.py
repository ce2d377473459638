"""Templates in parameters: what they give, and what a bad one is told."""

import contextlib
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levada.decide.templates import FILTERS, TemplateError, render

CONTEXT = {"scheduled_time": datetime(2026, 3, 29, 6, tzinfo=ZoneInfo("Europe/Lisbon")), "schedule": "nightly"}


def filled(text):
    return render({"a": text}, CONTEXT)["a"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ scheduled_time }}", "2026-03-29T06:00:00+01:00"),
        ("s3://b/{{scheduled_time|date}}/{{ schedule }}.csv", "s3://b/2026-03-29/nightly.csv"),
        # Yesterday at six, although the clocks were changed in between; 24 hours ago it was five.
        ("{{ scheduled_time - days(1) }}", "2026-03-28T06:00:00+00:00"),
        ("{{ scheduled_time - hours(24) }}", "2026-03-28T05:00:00+00:00"),
        ("{{ scheduled_time - months(1) | date }}", "2026-02-28"),
        ("{{ scheduled_time + years(1) - weeks(2) | date }}", "2027-03-15"),
        ('{{ scheduled_time - months(1) | start_of("month") | format("%Y-%m") }}', "2026-02"),
        ('{{ scheduled_time | start_of("week") | date }}', "2026-03-23"),
        ('{{ scheduled_time | start_of("day") }}', "2026-03-29T00:00:00+00:00"),
        ("{{ scheduled_time | in_zone('UTC') | time }}", "05:00:00"),
        ("{{ scheduled_time | timestamp }}", 1774760400),
        ("{{ scheduled_time | format('%Y') | int }}", 2026),
        (" {{ scheduled_time | timestamp }} ", 1774760400),
        ("at {{ scheduled_time | timestamp }}", "at 1774760400"),
        ('{{ "{{" }} is no template', "{{ is no template"),
        ("no template }}", "no template }}"),
    ],
)
def test_what_it_gives(text, expected):
    assert filled(text) == expected


def test_any_depth_and_other_types_stay():
    given_ = {"list": ["{{ schedule }}", 1, None, {"deep": "{{ schedule }}"}], "{{ schedule }}": True}
    assert render(given_, CONTEXT) == {"list": ["nightly", 1, None, {"deep": "nightly"}], "{{ schedule }}": True}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{ foo }}", "known are: schedule, scheduled_time"),
        ("{{ __import__('os') }}", "no known name"),
        ("{{ scheduled_time.year }}", "means nothing"),
        ("{{ scheduled_time - day(1) }}", "there are seconds(n)"),
        ("{{ days(1) }}", "follows a + or -"),
        ("{{ schedule + days(1) }}", "only to a time"),
        ("{{ scheduled_time - days('x') }}", "whole number"),
        ("{{ scheduled_time - days(99999999) }}", "out of the calendar"),
        ("{{ scheduled_time - seconds(99999999999999999999) }}", "out of the calendar"),
        ("{{ scheduled_time | nope }}", "there are date, format"),
        ("{{ scheduled_time | start_of('moon') }}", "no unit"),
        ("{{ scheduled_time | in_zone('Mars') }}", "no time zone"),
        ("{{ schedule | date }}", "cannot be applied"),
        ("{{ scheduled_time | format }}", "argument in brackets"),
        ("{{ scheduled_time schedule }}", "not expected"),
        ("{{ }}", "missing"),
        ("{{ scheduled_time", "ends with }}"),
    ],
)
def test_what_a_bad_one_is_told(text, words):
    with pytest.raises(TemplateError) as caught:
        filled(text)
    assert words in str(caught.value)


@given(st.text(alphabet="{}|+-()'\" abcdays1scheduled_time", max_size=60))
def test_any_text_gives_a_value_or_a_template_error(text):
    with contextlib.suppress(TemplateError):
        filled(text)


def test_each_filter_is_documented():
    from levada.decide import templates

    assert all(name in templates.__doc__ for name in FILTERS)
