"""Exceptions as a flow author wants to read them: their own frames first, ours left out."""

import traceback
from pathlib import Path
from types import TracebackType

_HOME = str(Path(__file__).parent.parent) + "/"
MAX_SUMMARY_CHARS = 1000


def summary(error: BaseException) -> str:
    """One line that says what went wrong: `ValueError: no trips in 2019-13`. Never raises, never long."""
    name = type(error).__name__
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001  a user's __str__ may be broken, and this line must come anyway
        text = "(its message cannot be shown: its __str__ raises)"
    line = f"{name}: {text}" if text else name
    return line if len(line) <= MAX_SUMMARY_CHARS else line[: MAX_SUMMARY_CHARS - 1] + "…"


def trim(error: BaseException) -> None:
    """Take our frames out of the traceback of an exception, and of those that led to it."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        current.with_traceback(_without_ours(current.__traceback__))  # assigning may be refused by the user's class
        current = current.__cause__ or current.__context__


def _without_ours(tb: TracebackType | None) -> TracebackType | None:
    """The same chain without frames of this package; all of it if nothing else would be left."""
    frames: list[TracebackType] = []
    link = tb
    while link is not None:
        if not link.tb_frame.f_code.co_filename.startswith(_HOME):
            frames.append(link)
        link = link.tb_next
    if not frames:
        return tb
    kept: TracebackType | None = None
    for frame in reversed(frames):
        kept = TracebackType(kept, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return kept


def text(error: BaseException) -> str:
    """The trimmed traceback as Python prints one."""
    trim(error)
    return "".join(traceback.format_exception(error)).rstrip()
