"""Timeouts: what an option may say, and how durations read. Pure; `deadlines` acts on it."""

from levada.exceptions import OptionError


def timeout_of(setting: object, owner: str) -> float | None:
    """Check a `timeout_seconds` option; None means no limit.

    Raises:
        OptionError: it is no positive number of seconds.
    """
    if setting is None:
        return None
    if isinstance(setting, bool) or not isinstance(setting, (int, float)):
        raise OptionError(
            f"{owner}: timeout_seconds={setting!r} must be a number of seconds, such as timeout_seconds=60"
        )
    if not setting > 0 or setting == float("inf"):  # `not >` also refuses NaN
        raise OptionError(f"{owner}: timeout_seconds={setting!r} must be greater than 0; leave it out for no limit")
    return float(setting)


def seconds_text(seconds: float) -> str:
    """A duration as a reader wants it: <1 ms, 250 ms, 3.1 s, 2 min 5 s, 1 h 2 min."""
    if seconds < 0.001:
        return "0 s" if seconds <= 0 else "<1 ms"
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 10:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def timed_out_text(seconds: float) -> str:
    """What a run that took too long says about it."""
    return f"not done within its timeout_seconds of {seconds_text(seconds)}"
