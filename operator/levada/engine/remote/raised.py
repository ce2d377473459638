"""Exceptions on their way from a worker: with traceback, causes and notes, as if they had been raised here."""

import ast
import os
import pickle
import platform
from types import CodeType, FrameType, TracebackType
from typing import Any, NamedTuple

from levada.engine.remote.packing import dumps, loads
from levada.engine.tracebacks import summary, trim
from levada.exceptions import RunFailed

_MAX_LINKS = 20
_MAX_FRAMES = 100


class Frame(NamedTuple):
    """One line of a traceback: where, and which part of the line."""

    file: str
    function: str
    line: int
    end_line: int
    column: int
    end_column: int


class Link(NamedTuple):
    """One exception. `cause` and `context` are the numbers of other links, or -1."""

    data: bytes  # empty if it cannot be pickled
    text: str
    frames: tuple[Frame, ...]
    cause: int
    context: int
    suppress: bool


def pack(error: BaseException) -> bytes:
    """An exception and those that led to it, as bytes. Never raises."""
    trim(error)
    error.add_note(f"(raised in process {os.getpid()} on {platform.node()})")
    chain = _chain(error)
    number = {id(link): index for index, link in enumerate(chain)}
    links = [
        Link(
            _data(link),
            summary(link),
            _frames(link.__traceback__),
            number.get(id(link.__cause__), -1),
            number.get(id(link.__context__), -1),
            link.__suppress_context__,
        )
        for link in chain
    ]
    return pickle.dumps([tuple(link) for link in links])


def unpack(data: bytes) -> BaseException:
    """The exception, ready to be raised."""
    links = [Link(*fields) for fields in pickle.loads(data)]  # noqa: S301  it comes from this program's own other half
    errors = [_error(link) for link in links]
    for link, error in zip(links, errors, strict=True):
        error.__cause__ = errors[link.cause] if link.cause >= 0 else None
        error.__context__ = errors[link.context] if link.context >= 0 else None
        error.__suppress_context__ = link.suppress
        error.__traceback__ = _traceback(link.frames)
    return errors[0]


def _chain(error: BaseException) -> list[BaseException]:
    """The exception and all that led to it, each once."""
    chain: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo and len(chain) < _MAX_LINKS:
        link = todo.pop(0)
        if link is not None and not any(link is known for known in chain):
            chain.append(link)
            todo += [link.__cause__, link.__context__]
    return chain


def _data(error: BaseException) -> bytes:
    """The exception alone, pickled in a way that can be read again; empty if there is none."""
    for form in (lambda: error, lambda: Bare(error)):
        try:
            data = dumps(form())
            loads(data)
        except Exception:  # noqa: BLE001, S112  user code; the next form is the answer
            continue
        return data
    return b""


def _error(link: Link) -> BaseException:
    try:
        error = loads(link.data)
    except Exception:  # noqa: BLE001  nothing was sent, or a class that only the worker can import
        error = None
    if isinstance(error, BaseException):
        return error
    return RunFailed(f"{link.text} (only the text of this exception could be sent from the worker)")


class Bare:
    """Pickles an exception without a call of its `__init__`, which may want other arguments than `.args`."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        """Its class, its arguments, and those of its attributes that can be pickled."""
        error = self.error
        args = error.args if _survives(error.args) else (str(error),)
        return _bare, (type(error), args, {key: value for key, value in error.__dict__.items() if _survives(value)})


def _bare(kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


def _survives(value: Any) -> bool:
    try:
        loads(dumps(value))
    except Exception:  # noqa: BLE001  user code may raise anything
        return False
    return True


# Tracebacks.
def _frames(tb: TracebackType | None) -> tuple[Frame, ...]:
    """The lines of a traceback; of a very long one, its two ends."""
    frames: list[Frame] = []
    while tb is not None:
        frames.append(_frame(tb))
        tb = tb.tb_next
    if len(frames) > 2 * _MAX_FRAMES:
        frames = frames[:_MAX_FRAMES] + frames[-_MAX_FRAMES:]
    return tuple(frames)


def _frame(tb: TracebackType) -> Frame:
    code = tb.tb_frame.f_code
    positions = list(code.co_positions())
    index = tb.tb_lasti // 2
    line, end_line, column, end_column = positions[index] if 0 <= index < len(positions) else (None,) * 4
    if line != tb.tb_lineno or end_line is None or column is None or end_column is None:
        line = end_line = tb.tb_lineno
        column = end_column = 0
    return Frame(code.co_filename, code.co_name, line, end_line, column, end_column)


def _traceback(frames: tuple[Frame, ...]) -> TracebackType | None:
    """A traceback that prints those lines. Its frames know where they are, and nothing else."""
    link: TracebackType | None = None
    for frame in reversed(frames):
        real = _run(_code_at(frame))
        link = TracebackType(link, real, real.f_lasti, frame.line)
    return link


def _code_at(frame: Frame) -> CodeType:
    """Code that raises at this very place."""
    place = {
        "lineno": frame.line,
        "end_lineno": frame.end_line,
        "col_offset": frame.column,
        "end_col_offset": frame.end_column,
    }
    statement = ast.Raise(exc=ast.Name(id="Exception", ctx=ast.Load(), **place), cause=None, **place)
    code = compile(ast.Module(body=[statement], type_ignores=[]), frame.file, "exec")
    return code.replace(co_name=frame.function, co_qualname=frame.function)


def _run(code: CodeType) -> FrameType:
    try:
        exec(code, {})  # noqa: S102  made above: it raises, which is how Python makes a frame
    except Exception as error:  # noqa: BLE001  the one that it raises
        tb = error.__traceback__
        assert tb is not None
        assert tb.tb_next is not None
        return tb.tb_next.tb_frame
    raise AssertionError("code that raises did not raise")
