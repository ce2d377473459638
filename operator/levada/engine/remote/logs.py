"""Log lines on their way from a worker to the program's own loggers.

In a worker, nobody has configured logging. One handler takes what a task run logs, by whatever logger, and the program gives it to
its logger of the same name: there it meets the levels, handlers and formats that the program has set.
"""

import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from levada.logging import LOGGER

Record = dict[str, Any]
Sink = Callable[[Record], None]
_PLAIN = (str, int, float, bool, type(None))
_LEFT_OUT = frozenset({"args", "exc_info", "exc_text", "stack_info", "msg"})

_sink: ContextVar[Sink | None] = ContextVar("levada_log_sink", default=None)
_default: list[Sink] = []


def levels() -> tuple[int, int]:
    """The levels that matter in this process: below them, a worker need not send anything."""
    return logging.getLogger().getEffectiveLevel(), LOGGER.getEffectiveLevel()


def hand_over(record: Record) -> None:
    """Give a worker's record to the logger of its name, if that wants it."""
    made = logging.makeLogRecord(record)
    logger = logging.getLogger(made.name)
    if logger.isEnabledFor(made.levelno):
        logger.handle(made)


def pack(record: logging.LogRecord) -> Record:
    """A record as plain data: the text is made, and of the extras those that any process understands are kept."""
    data = {key: value for key, value in record.__dict__.items() if isinstance(value, _PLAIN) and key not in _LEFT_OUT}
    data["msg"] = _masked(_text(record))
    return data


def _text(record: logging.LogRecord) -> str:
    try:
        parts = [record.getMessage()]
    except Exception as error:  # noqa: BLE001  a format that does not fit its arguments must not fail the task
        parts = [f"{record.msg} (cannot be formatted: {error})"]
    if record.exc_info and record.exc_info[0] is not None:
        parts.append("".join(traceback.format_exception(*record.exc_info)).rstrip())
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)


def _masked(text: str) -> str:
    """Without secrets that only this process knows."""
    secrets = sys.modules.get("levada.secrets")
    return text if secrets is None else secrets.mask(text)


class _Relay(logging.Handler):
    """Sends records where the task run around the caller wants them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record. Outside of any task run it goes where it would have gone without this handler."""
        sink = _sink.get() or (_default[0] if _default else None)
        if sink is not None:
            sink(pack(record))
        elif logging.lastResort is not None and record.levelno >= logging.lastResort.level:
            logging.lastResort.handle(record)


_relay = _Relay()


@contextmanager
def sent_to(sink: Sink, of_sender: tuple[int, int]) -> Iterator[None]:
    """Send what the block logs to `sink`, from the levels up that the program has set."""
    import levada.logging

    root = logging.getLogger()
    if _relay not in root.handlers:
        root.addHandler(_relay)
        levada.logging._ready = True  # no handler of its own: the program's will write the lines
    root.setLevel(of_sender[0])
    LOGGER.setLevel(of_sender[1])
    token = _sink.set(sink)
    try:
        yield
    finally:
        _sink.reset(token)


def send_all_to(sink: Sink) -> None:
    """For a process that serves one task at a time: what any of its threads logs goes to `sink`."""
    _default[:] = [sink]
