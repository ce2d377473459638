"""Interrupts that Python threw away.

An exception that a signal handler raises (or that another thread sends) arrives at whatever instruction is next. If that is in a
destructor or in the callback of a weak reference, as asyncio has one for each of its tasks, Python reports the exception to
`sys.unraisablehook` and goes on: the interrupt is lost. So whoever interrupts registers here how to do it again.
"""

import sys
import threading
from collections.abc import Callable
from typing import Any

_again: dict[type[BaseException], Callable[[BaseException], None]] = {}
_previous: Callable[[Any], Any] = sys.unraisablehook
_lock = threading.Lock()


def retry_when_lost(kind: type[BaseException], again: Callable[[BaseException], None]) -> None:
    """From now on, call `again` with each exception of this kind that Python threw away."""
    global _previous  # noqa: PLW0603  a process has one hook
    _again[kind] = again
    if sys.unraisablehook is not _hook:
        with _lock:
            if sys.unraisablehook is not _hook:
                _previous = sys.unraisablehook
                sys.unraisablehook = _hook


def _hook(unraisable: Any) -> None:
    error = unraisable.exc_value
    for kind, again in list(_again.items()):
        if isinstance(error, kind):
            again(error)
            return
    _previous(unraisable)
