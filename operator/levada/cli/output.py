"""How the commands speak: one console, one way to fail, machine-readable forms, and times as people say them."""

import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import IO, TYPE_CHECKING, Any, Final

import typer

from levada.cli.options import Format
from levada.resources.names import GROUP

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

# Into a pipe or a file, lines are cut for nobody's screen.
PIPE_WIDTH: Final = 160
WIDEST: Final = 10_000

# Columns whose words people copy: on a narrow screen the others give way first.
UNBROKEN: Final = frozenset({"NAME", "NAMESPACE", "PHASE", "STATE", "AGE"})

PHASE_STYLES: Final[dict[str, str]] = {
    "Completed": "green",
    "Running": "cyan",
    "Pending": "blue",
    "Queued": "blue",
    "Scheduled": "blue",
    "Retrying": "yellow",
    "Paused": "yellow",
    "Cancelling": "yellow",
    "Cancelled": "magenta",
    "Skipped": "magenta",
    "Failed": "bold red",
    "Crashed": "bold red",
    "TimedOut": "bold red",
}


class ExitCode(IntEnum):
    """What a command ends with: scripts may rely on it."""

    OK = 0
    FAILED = 1  # the run did not complete, a check failed, or the cluster refused
    USAGE = 2
    NOT_FOUND = 3
    FORBIDDEN = 4
    NO_CLUSTER = 5  # no kubeconfig or context, no answer, too old, or without Levada's kinds
    BUG = 70
    INTERRUPTED = 130


def make_console(file: IO[str] | None = None, width: int | None = None) -> "Console":
    """A console that takes text as it is: what users wrote may look like rich's markup."""
    from rich.console import Console

    if width is None and file is None and not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        width = PIPE_WIDTH
    return Console(file=file, width=width, highlight=False, markup=False, emoji=False)


class _LazyConsole:
    """The console of standard output, made when something is first printed: rich takes its time to import."""

    _made: "Console | None" = None

    def __getattr__(self, name: str) -> Any:
        if self._made is None:
            self._made = make_console()
        return getattr(self._made, name)


console: Any = _LazyConsole()


def error(message: str, hint: str | None = None, *, code: ExitCode = ExitCode.FAILED) -> typer.Exit:
    """Say what went wrong and what to do; raise what this returns to end the command with the exit code."""
    typer.echo(f"error: {message}", err=True)
    if hint:
        typer.echo(f"hint:  {hint}", err=True)
    return typer.Exit(int(code))


def usage_error(message: str, hint: str | None = None) -> typer.Exit:
    """As `error`, of a command line that means nothing."""
    return error(message, hint, code=ExitCode.USAGE)


def warn(message: str) -> None:
    """Say something that does not stop the command, beside its output."""
    typer.echo(f"warning: {message}", err=True)


def note(message: str) -> None:
    """Say where the output comes from, beside it."""
    typer.echo(message, err=True)


def table(*columns: str) -> "Table":
    """A table in kubectl's manner: a header, no lines."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=column in UNBROKEN)
    return made


def print_list(made: "Table") -> None:
    """Print a list. Its words stay whole, as people copy them: on a narrow screen the terminal breaks the line, as it does kubectl's."""
    from rich.measure import Measurement

    for column in made.columns:
        column.no_wrap = True
    needed = Measurement.get(console, console.options.update(max_width=WIDEST), made).maximum
    (console if needed <= console.width else make_console(width=needed)).print(made)


def state_text(state: str) -> "Text":
    """A phase, or the state of a task, in its colour."""
    from rich.text import Text

    return Text(state, style=PHASE_STYLES.get(state, ""))


def machine_text(found: dict[str, Any] | Sequence[dict[str, Any]], form: Format) -> str:
    """An object, or a List of objects, for programs."""
    if form is Format.NAME:
        objects = [found] if isinstance(found, dict) else found
        return "".join(f"{_resource(each)}/{each['metadata']['name']}\n" for each in objects)
    body = found if isinstance(found, dict) else {"apiVersion": "v1", "kind": "List", "items": list(found)}
    if form is Format.JSON:
        return json.dumps(body, indent=2, ensure_ascii=False) + "\n"
    import yaml

    return yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=120)


def _resource(found: dict[str, Any]) -> str:
    """A kind as kubectl takes it: flowrun.levada.dev, node."""
    group, _, _ = found.get("apiVersion", GROUP + "/").rpartition("/")
    return f"{found['kind'].lower()}.{group}" if group else str(found["kind"].lower())


def now() -> datetime:
    """The present, as the rendering functions take it."""
    return datetime.now(UTC)


def moment(text: str | None) -> datetime | None:
    """A time of the API, if there is one."""
    return datetime.fromisoformat(text) if text else None


def time_text(text: str | None) -> str:
    """A time of the API for people: UTC, to the second."""
    found = moment(text)
    return found.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if found else ""


def age(since: str | None, present: datetime) -> str:
    """How long ago, in kubectl's way: two units while they matter."""
    began = moment(since)
    if began is None:
        return "<unknown>"
    seconds = max(0, int((present - began) / timedelta(seconds=1)))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    return f"{hours}h" if hours < 48 else f"{days}d"


def duration_text(seconds: float | None) -> str:
    """A measured time for people: 3ms, 0.35s, 12.3s, 4m05s, 2h03m."""
    if seconds is None:
        return ""
    if abs(seconds) < 0.0995:
        return f"{seconds * 1000:.0f}ms"
    if abs(seconds) < 10:
        return f"{seconds:.2f}s"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes = round(seconds) // 60
    return f"{minutes}m{round(seconds) % 60:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def between(start: str | None, end: str | None, present: datetime) -> float | None:
    """Seconds from start to end, or until now if it has not ended; None if it has not started."""
    began = moment(start)
    if began is None:
        return None
    return ((moment(end) or present) - began) / timedelta(seconds=1)
