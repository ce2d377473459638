"""`levada runs watch`: a picture of the run that moves on a terminal; a line for each change anywhere else."""

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from levada.cli.follow import follow
from levada.cli.output import duration_text, make_console, note, now, state_text
from levada.cli.run_view import Run, progress_line, run_page, run_seconds, stages_text, status_of, tasks_table, why_text

if TYPE_CHECKING:
    from levada.kube import Client

FRAMES_PER_SECOND: Final = 8
BAR_WIDTH: Final = 40
# What a frame has besides its task rows: title, reason, bar, stages, empty line, header, "and more", and the cursor's line.
OTHER_LINES: Final = 8
# Which task rows a small screen shows first.
URGENCY: Final = ("Failed", "Crashed", "TimedOut", "Retrying", "Running", "Paused", "Cancelling")


async def watch_run(client: "Client", name: str, namespace: str) -> str:
    """Show a run until it has ended, on standard output; return the phase that it ended in."""
    console = make_console()
    if is_live(console):
        ended = await _show(client, name, namespace, console)
    else:
        ended = await _print_lines(client, name, namespace)
    return str(ended["status"]["phase"])


def is_live(console: Console) -> bool:
    """Whether a picture can move there: a terminal that can go back, whatever FORCE_COLOR says."""
    return console.is_interactive and not console.is_dumb_terminal and console.file.isatty()


async def _print_lines(client: "Client", name: str, namespace: str) -> Run:
    """Print a line for each change that a person would notice."""
    last = ""

    def report(found: Run) -> None:
        nonlocal last
        line = progress_line(found)
        if line != last:
            last = line
            typer.echo(f"{now():%H:%M:%S}  {line}")

    return await follow(client, name, namespace, report)


async def _show(client: "Client", name: str, namespace: str, console: Console) -> Run:
    """Let the picture move; in the end the page of the run stands in its place, or at Ctrl-C and SIGTERM the last picture."""
    picture = Picture()
    live = Live(console=console, get_renderable=picture.frame, refresh_per_second=FRAMES_PER_SECOND, transient=True)
    with _until_sigterm(), live:
        try:
            ended = await follow(client, name, namespace, picture.see)
        except asyncio.CancelledError:
            live.transient = False
            live.stop()
            note(
                f"flow run {name} goes on; `levada runs watch {name}` looks again, `levada runs cancel {name}` stops it"
            )
            raise
    console.print(run_page(ended, now()))
    return ended


@contextmanager
def _until_sigterm() -> Iterator[None]:
    """Let SIGTERM interrupt what is done here as Ctrl-C does, so that it cleans up, and end the process afterwards as it would have at once."""
    loop, task, is_asked = asyncio.get_running_loop(), asyncio.current_task(), False

    def interrupt() -> None:
        nonlocal is_asked
        is_asked = True
        if task is not None:
            task.cancel()

    with suppress(NotImplementedError):  # Windows
        loop.add_signal_handler(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        with suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGTERM)
        if is_asked:
            os.kill(os.getpid(), signal.SIGTERM)


class Picture:
    """The run as it was last seen; a frame of it has the durations of the moment."""

    def __init__(self) -> None:
        self._run: Run | None = None
        self._spinner = Spinner("dots")

    def see(self, run: Run) -> None:
        """Take the run as it is now."""
        self._run = run

    def frame(self) -> RenderableType:
        """What stands on the screen now. Called from the thread that draws."""
        if self._run is None:
            self._spinner.update(text="asking the cluster")
            return self._spinner
        return _Frame(self._run, self._spinner)


class _Frame:
    """A renderable that fits the height of the screen it is drawn on."""

    def __init__(self, run: Run, spinner: Spinner) -> None:
        self._run, self._spinner = run, spinner

    def __rich_console__(self, console: Console, _options: Any) -> Any:
        yield frame(self._run, now(), self._spinner, console.size.height)


def frame(run: Run, present: datetime, spinner: Spinner, height: int) -> RenderableType:
    """One picture of the run, at most so many lines high where lines are not folded."""
    status = status_of(run)
    spinner.update(text=_title(run, present))
    parts: list[RenderableType] = [spinner]
    details = [_bar(status), Text(why_text(run)), Text(stages_text(run), style="dim")]
    parts += [Padding(each, (0, 0, 0, 2)) for each in details if each]
    tasks: Mapping[str, Mapping[str, Any]] = status.get("tasks") or {}
    if tasks:
        chosen = most_urgent(tasks, max(1, height - OTHER_LINES))
        parts += [Text(), tasks_table(chosen, present)]
        more = len(tasks) - len(chosen) + (status.get("truncatedTasks") or 0)
        parts += [Text(f"and {more} more task runs", style="dim")] if more else []
    return Group(*parts)


def most_urgent(tasks: Mapping[str, Mapping[str, Any]], room: int) -> dict[str, Mapping[str, Any]]:
    """So many task runs: those that fail and go before all, then the newest of the others."""

    def newest_first(item: tuple[str, Mapping[str, Any]]) -> str:
        return str(item[1].get("endTime") or item[1].get("startTime") or "")

    def urgency(item: tuple[str, Mapping[str, Any]]) -> int:
        state = item[1]["state"]
        return URGENCY.index(state) if state in URGENCY else len(URGENCY)

    by_time = sorted(tasks.items(), key=newest_first, reverse=True)
    return dict(sorted(by_time, key=urgency)[:room])


def _title(run: Run, present: datetime) -> Text:
    status = status_of(run)
    attempt = f"attempt {status['attempt']}" if status.get("attempt", 0) > 1 else ""
    said = (duration_text(run_seconds(status, present)), attempt, status.get("currentTask", ""))
    return Text.assemble(
        (run["metadata"]["name"], "bold"),
        "  ",
        state_text(status.get("phase") or "Created"),
        *(f"  {each}" for each in said if each),
    )


def _bar(status: Mapping[str, Any]) -> RenderableType | None:
    """How many of the task runs are over; None while nobody can tell."""
    done, slash, total = str(status.get("progress") or "").partition("/")
    if not (slash and done.isdecimal() and total.isdecimal()):
        return None
    grid = Table.grid(padding=(0, 2))
    grid.add_row(
        ProgressBar(total=max(1, int(total)), completed=int(done), width=BAR_WIDTH), f"{done} of {total} tasks"
    )
    return grid
