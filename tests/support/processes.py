"""Processes that end with the test that started them, however it ends."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def python(*arguments: Any, **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """A Python process for the length of the block.

    `with Popen(...)` alone waits on leaving until the process ends by itself: when an assertion fails, that may be for ever.
    """
    with subprocess.Popen([sys.executable, *map(str, arguments)], text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()  # nothing, once it has been waited for


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait for something that another thread or process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.005)


def is_running(process_id: int) -> bool:
    """Whether the process is there and executes still.

    A process that was killed is there for another moment, while the kernel takes it apart: who asserts its end waits with
    `until`. A zombie, which waits for its parent to look, runs no more.
    """
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_at_rest(process_id: int) -> bool:
    """Whether all its threads sleep or wait.

    Python runs signal handlers between two steps of its own: a signal that comes just before a call that sleeps, rather than
    during it, is noticed only after the sleep. That is so in any program; who tests a signal to a sleeping one asks this first.
    """
    try:
        states = [
            (thread / "stat").read_text().rpartition(")")[2].split()[0]
            for thread in Path(f"/proc/{process_id}/task").iterdir()
        ]
    except OSError:
        return False  # a thread ended in between
    return not {"R", "D"} & set(states)
