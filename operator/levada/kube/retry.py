"""When the client may ask again by itself. Pure: the caller says what happened, this says whether and when.

A read may be repeated whatever happened. A write may be repeated only if it certainly did not happen: the server shed it
(429), or nobody listened. In every other case the caller must look at the world again before deciding.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from levada.kube.errors import ApiError, ConnectionLost, KubeError

MAX_RETRY_AFTER_S: Final = 30.0
_TRANSIENT: Final = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient one request is: `tries` in all, with delays doubling from `base_s` up to `cap_s`."""

    tries: int = 4
    base_s: float = 0.1
    cap_s: float = 2.0


def next_delay_s(policy: RetryPolicy, error: KubeError, attempt: int, *, is_read: bool) -> float | None:
    """Seconds to wait before try number `attempt + 1`; None: give up and raise `error`."""
    if attempt >= policy.tries or not _is_repeatable(error, is_read=is_read):
        return None
    if isinstance(error, ApiError) and error.retry_after is not None:
        return min(error.retry_after, MAX_RETRY_AFTER_S)
    return jittered_s(attempt, base_s=policy.base_s, cap_s=policy.cap_s)


def jittered_s(attempt: int, *, base_s: float, cap_s: float) -> float:
    """Exponential backoff for the `attempt`th failure in a row (from 1), between half of it and all of it.

    Jitter, because a restarted API server must not meet all its clients in the same millisecond.
    """
    ceiling = min(cap_s, base_s * 2.0 ** min(attempt - 1, 30))
    return ceiling * (0.5 + random.random() / 2)  # noqa: S311 - spreads load, guards nothing


def parse_retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """The Retry-After header in seconds; it may be a number or a date."""
    value = headers.get("Retry-After")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - (now or datetime.now(UTC))).total_seconds())
    except (ValueError, TypeError):
        return None


def _is_repeatable(error: KubeError, *, is_read: bool) -> bool:
    if isinstance(error, ConnectionLost):
        return is_read or not error.sent
    if isinstance(error, ApiError):
        return error.status in _TRANSIENT if is_read else error.status == 429
    return False
