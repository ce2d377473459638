import math

import pytest

from levada.engine.timeout import seconds_text, timed_out_text, timeout_of
from levada.exceptions import OptionError


@pytest.mark.parametrize(("setting", "expected"), [(None, None), (1, 1.0), (0.25, 0.25)])
def test_timeouts(setting, expected):
    assert timeout_of(setting, "flow 'x'") == expected


@pytest.mark.parametrize("setting", [0, -1, math.nan, math.inf, "10", True])
def test_timeouts_that_cannot_work(setting):
    with pytest.raises(OptionError, match="flow 'x': timeout_seconds="):
        timeout_of(setting, "flow 'x'")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (-1, "0 s"),
        (0.0004, "<1 ms"),
        (0.25, "250 ms"),
        (0.0123, "12.3 ms"),
        (3.14159, "3.14 s"),
        (59.4, "59 s"),
        (59.7, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (3725, "1 h 2 min"),
    ],
)
def test_seconds_text(seconds, text):
    assert seconds_text(seconds) == text


def test_timed_out_text_names_the_option():
    assert timed_out_text(1.5) == "not done within its timeout_seconds of 1.5 s"
