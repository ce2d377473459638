"""Retries inside the process: may this code be tried again, and after how long?

Pure. A retry of the whole run in a new pod is the operator's matter and knows nothing of this one.
"""

from collections.abc import Callable, Sequence

from levada.exceptions import OptionError

# A number of seconds, one number for each retry, or a function that makes the list from the number of retries.
DelaySetting = float | int | Sequence[float] | Callable[[int], Sequence[float]] | None

_MAX_DELAY_SECONDS = 365 * 24 * 3600.0
_MAX_JITTER = 100


def retries_of(setting: object, owner: str) -> int:
    """Check a `retries` option.

    Raises:
        OptionError: it is not a whole number of zero or more.
    """
    if setting is None:
        return 0
    if isinstance(setting, bool) or not isinstance(setting, int):
        raise OptionError(f"{owner}: retries={setting!r} must be a whole number, such as retries=3")
    if setting < 0:
        raise OptionError(f"{owner}: retries={setting} must be 0 (no retry) or more")
    return setting


def delays_of(setting: DelaySetting, retries: int, owner: str) -> tuple[float, ...]:
    """Turn a `retry_delay_seconds` option into the delay before each retry; the last one serves all that follow.

    Raises:
        OptionError: it is no number, list of numbers or function that returns such a list.
    """
    if setting is None:
        return (0.0,)
    if callable(setting):
        made = setting(retries)
        if isinstance(made, (str, bytes)) or not isinstance(made, Sequence):
            raise OptionError(
                f"{owner}: the function in retry_delay_seconds returned {made!r}; it is called with the number of "
                f"retries and must return a list of seconds, such as [1, 2, 4]"
            )
        setting = made
    if isinstance(setting, (str, bytes)) or not isinstance(setting, (int, float, Sequence)):
        raise OptionError(
            f"{owner}: retry_delay_seconds={setting!r} must be a number of seconds, a list of them, or a function of "
            f"the number of retries"
        )
    values = list(setting) if isinstance(setting, Sequence) else [setting]
    if not values and retries:
        raise OptionError(f"{owner}: retry_delay_seconds is an empty list; leave it out to retry at once")
    return tuple(_seconds(value, owner) for value in values) or (0.0,)


def _seconds(value: object, owner: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise OptionError(f"{owner}: retry_delay_seconds holds {value!r}, which is not a number of seconds")
    if not 0 <= value <= _MAX_DELAY_SECONDS:  # also refuses NaN
        raise OptionError(f"{owner}: retry_delay_seconds holds {value!r}; it must lie between 0 and one year")
    return float(value)


def jitter_of(setting: object, owner: str) -> float:
    """Check a `retry_jitter_factor` option: by how much of itself a delay may grow.

    Raises:
        OptionError: it is no number between 0 and 100.
    """
    if setting is None:
        return 0.0
    if isinstance(setting, bool) or not isinstance(setting, (int, float)) or not 0 <= setting <= _MAX_JITTER:
        raise OptionError(
            f"{owner}: retry_jitter_factor={setting!r} must be a number from 0 (none) to {_MAX_JITTER}; "
            f"0.5 makes each delay up to half as long again"
        )
    return float(setting)


def next_delay(
    attempt: int, retries: int, delays: Sequence[float], jitter: float = 0.0, luck: float = 0.0
) -> float | None:
    """Seconds until the next try after try number `attempt` failed, or None if it was the last one.

    The first try is number 1. `retries` counts what may follow it. `luck` is a random number from 0 to 1: it says how much
    of `jitter` is added, so that many runs that fail together do not come back together.
    """
    if attempt > retries:
        return None
    delay = delays[min(attempt, len(delays)) - 1]
    return delay * (1 + jitter * luck)


def exponential_delays(factor: float, retries: int) -> list[float]:
    """`factor` doubled with each retry: for 3 retries, [factor, 2 * factor, 4 * factor]; bounded by a year."""
    return [min(factor * 2.0**index, _MAX_DELAY_SECONDS) for index in range(retries)]
