"""This process as the system sees it: when it began, and how it ends."""

import contextlib
import faulthandler
import logging
import os
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TextIO

# Threads that a flow left behind may hold the interpreter up, and with it the pod of a run that has ended.
EXIT_SECONDS: Final = 5.0


def started_at() -> datetime:
    """Return when this process was started, before Python could look at a clock.

    Field 22 of /proc/self/stat: clock ticks since boot (proc(5)). Without /proc: now.
    """
    now = datetime.now(UTC)
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        since_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot
    except (OSError, ValueError, IndexError, AttributeError):
        return now
    # A tick is 10 ms: the process may seem to begin a moment after it asked.
    return now - timedelta(seconds=max(0.0, age))


def prepare_output() -> None:
    """Let every line of a flow reach `kubectl logs` at once, also the last before a crash, and a segfault leave a trace."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)
    if hasattr(sys.stderr, "fileno"):
        faulthandler.enable()


def exit_soon(code: int, seconds: float = EXIT_SECONDS) -> None:
    """End the process with `code` after so many seconds, if by then it has not ended by itself."""

    def end() -> None:
        time.sleep(seconds)
        names = [t.name for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
        print(
            f"Threads of the flow are still running ({', '.join(names) or 'none'}); ending the process.",
            file=sys.stderr,
        )
        logging.shutdown()
        _flush(sys.stdout)
        _flush(sys.stderr)
        os._exit(code)

    threading.Thread(target=end, name="levada-exit", daemon=True).start()


def _flush(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):  # a closed pipe: nobody is there to read it
        stream.flush()
