"""Logging that works with no configuration: `12:04:31.482 | INFO    | train-0 | fitting 9,861 trips`.

Everything goes to the logger `levada`. A program that has configured logging keeps its own handlers and format; otherwise
the first run attaches one handler that writes to stderr. `LEVADA_LOGGING_LEVEL` sets the level (default INFO).
"""

import logging
import os
import sys
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from levada.context import FLOW_RUN, HOOK_OF, TASK_RUN
from levada.exceptions import MissingContextError

LOGGER = logging.getLogger("levada")
LEVEL_VARIABLE = "LEVADA_LOGGING_LEVEL"
_RUN = "levada_run"
_ready = False


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose lines carry the name of a run."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the run's name to the record, next to the caller's own extras."""
        own = self.extra or {}
        given = kwargs.get("extra")
        kwargs["extra"] = {**own, **given} if given else own
        return msg, kwargs


class RunFormatter(logging.Formatter):
    """`HH:MM:SS.mmm | LEVEL | run | message`, in local time, with a traceback below it."""

    _second = -1
    _clock = ""

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        second = int(record.created)
        if second != self._second:  # formatting the time costs more than all the rest
            self._clock = time.strftime("%H:%M:%S", time.localtime(second))
            self._second = second
        run = getattr(record, _RUN, record.name)
        line = f"{self._clock}.{int(record.msecs):03d} | {record.levelname:<7} | {run} | {record.getMessage()}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        if record.stack_info:
            line += "\n" + self.formatStack(record.stack_info)
        return masked(line)


def masked(text: str) -> str:
    """The text without the secrets that this process knows."""
    secrets = sys.modules.get("levada.secrets")  # as long as nobody has loaded it, there are none
    return text if secrets is None else str(secrets.mask(text))


def _mask(record: logging.LogRecord) -> bool:
    """Take secrets out of a record before any handler sees it, also one that the program has configured itself."""
    if "levada.secrets" in sys.modules:
        plain = record.getMessage()
        hidden = masked(plain)
        if hidden != plain:
            record.msg, record.args = hidden, None
    return True


class StderrHandler(logging.StreamHandler[Any]):
    """Writes to what sys.stderr is now, not to what it was at import."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(RunFormatter())

    @property
    def stream(self) -> Any:
        """The current stderr."""
        return sys.stderr

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the base class's name
        """A reader that went away (`| head`) must not fill the screen with tracebacks, nor stop the flow."""
        if not isinstance(sys.exc_info()[1], (BrokenPipeError, ValueError)):
            super().handleError(record)


def prepare() -> None:
    """Make sure that a run's log reaches somebody. Called by each run; does its work once."""
    global _ready  # noqa: PLW0603  a process has one logging configuration
    if _ready:
        return
    _ready = True
    if LOGGER.level == logging.NOTSET:
        LOGGER.setLevel(_level_of(os.environ.get(LEVEL_VARIABLE, "")))
    LOGGER.addFilter(_mask)
    if not LOGGER.hasHandlers():
        LOGGER.addHandler(StderrHandler())


def _level_of(text: str) -> int:
    """The level that a setting names; INFO if it names none."""
    level = logging.getLevelNamesMapping().get(text.strip().upper())
    if level is None:
        level = logging.INFO
        if text.strip():
            known = ", ".join(logging.getLevelNamesMapping())
            sys.stderr.write(f"levada: {LEVEL_VARIABLE}={text!r} is no log level, using INFO (known: {known})\n")
    return level


def logger_for(run_name: str) -> RunLogger:
    """The logger of one run."""
    return RunLogger(LOGGER, {_RUN: run_name})


def emit(level: int, run_name: str, message: str) -> None:
    """One line of a run's log, made only if somebody will see it."""
    if LOGGER.isEnabledFor(level):
        record = logging.LogRecord(LOGGER.name, level, __file__, 0, message, None, None)
        setattr(record, _RUN, run_name)
        LOGGER.handle(record)


def get_run_logger() -> RunLogger:
    """The logger of the task run or flow run around the caller; in a hook, that of its run.

    Raises:
        MissingContextError: there is none; use `logging.getLogger(__name__)` there.
    """
    task_run = TASK_RUN.get()
    if task_run is not None:
        return logger_for(task_run.label)
    flow_run = FLOW_RUN.get()
    if flow_run is not None:
        return logger_for(flow_run.name)
    if HOOK_OF.get():
        return logger_for(HOOK_OF.get())
    if LOGGER.disabled:
        return RunLogger(LOGGER)
    raise MissingContextError(
        "get_run_logger() needs a run around it: call it inside a @flow or @task function, "
        "or use logging.getLogger(__name__) here"
    )


def get_logger(name: str | None = None) -> logging.Logger:
    """Levada's logger, or one below it: for code that is not part of a run but whose lines belong to the same log."""
    prepare()
    return LOGGER.getChild(name) if name else LOGGER


@contextmanager
def disable_run_logger() -> Iterator[None]:
    """Runs log nothing inside the block, and `get_run_logger()` needs no run there: for tests that call a task's `.fn`."""
    before, LOGGER.disabled = LOGGER.disabled, True
    try:
        yield
    finally:
        LOGGER.disabled = before
