"""`log_prints=True`: what the code prints becomes lines of the run's log.

`builtins.print` is replaced while at least one run asks for it. The replacement looks at the context, so a print of other code,
in other threads too, stays a print.
"""

import builtins
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

from levada.logging import emit

_RUN_NAME: ContextVar[str] = ContextVar("levada_log_prints", default="")
_lock = threading.Lock()
_users = 0
_print = builtins.print


def _logged_print(
    *values: Any, sep: str | None = " ", end: str | None = "\n", file: Any = None, flush: bool = False
) -> None:
    run_name = _RUN_NAME.get()
    if run_name and (file is None or file is sys.stdout):
        emit(logging.INFO, run_name, (" " if sep is None else sep).join(map(str, values)))
    else:
        _print(*values, sep=sep, end=end, file=file, flush=flush)


def around(run_name: str, *, wanted: bool) -> AbstractContextManager[None]:
    """Log the prints of the block under this name, or leave them alone, whatever is done with those around it."""
    if wanted:
        return logged(run_name)
    return logged("") if _RUN_NAME.get() else nullcontext()


@contextmanager
def logged(run_name: str) -> Iterator[None]:
    """Log the prints of the block under this name; an empty name leaves them alone."""
    global _users, _print  # noqa: PLW0603  builtins.print belongs to the process
    token = _RUN_NAME.set(run_name)
    with _lock:
        _users += 1
        if _users == 1:
            _print = builtins.print
            builtins.print = _logged_print
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0 and builtins.print is _logged_print:
                builtins.print = _print
        _RUN_NAME.reset(token)
