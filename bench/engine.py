"""Levada's engine beside Prefect's, in one go on one machine: the same scripts (bench/sdk), both figures, their ratio.

    python bench/engine.py [--rounds 5] [--without-prefect] [--json FILE]

Prefect gets a virtual environment of its own in the cache folder, a home that is thrown away, no telemetry, and, where it says so, a
server on loopback that this script starts and ends. Where pip cannot get Prefect, Levada is measured alone. Times are the median of the
rounds; Prefect's loops run once, because a server works off a thousand tasks for half a minute after the flow's end.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PREFECT_VERSION = "3.8.8"
PREFECT_REQUIREMENTS = (f"prefect=={PREFECT_VERSION}", "fastapi<0.140")
SCRIPTS = Path(__file__).parent / "sdk"
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
INSTALL_SECONDS, SCRIPT_SECONDS, SERVER_SECONDS, IDLE_SECONDS = 600, 300, 90, 90
PEAK = "print('peak_kib', open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
# Kind -> (what a reader calls it, how many with Levada, how many with Prefect, aim in µs).
LOOPS = {
    "empty-flow": ("empty flow inside a process", 1000, 3, 500),
    "sequential": ("task called", 1000, 1000, 50),
    "async": ("async task awaited", 1000, 1000, 50),
    "submitted": ("task submitted", 1000, 1000, 120),
    "mapped": ("task mapped", 1000, 1000, 120),
    "printed": ("logged print", 1000, 1000, 40),
}
WARM_UP = 20  # what loops.py does before it takes the time; the server works on it as well
MANY = (1_000, 10_000, 100_000)
MAX_BYTES_A_TASK = 300


class BenchError(Exception):
    """A script did not do what it should; the message holds the end of what it said."""


@dataclass
class Sdk:
    """One of the two sides: its interpreter, and the environment of its processes."""

    name: str
    python: str
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """What a process took, and what it said last."""

    wall: float
    cpu: float
    last_line: str

    @property
    def peak_mib(self) -> float:
        return int(self.last_line.split()[-1]) / 1024


@dataclass(frozen=True)
class Row:
    """One line of the table. `aim` is the largest figure of ours that is good enough, `aim_ratio` the smallest ratio."""

    what: str
    unit: str
    levada: float
    prefect: float | None = None
    aim: float | None = None
    aim_ratio: float | None = None

    @property
    def ratio(self) -> float | None:
        return self.prefect / self.levada if self.prefect is not None and self.levada > 0 else None

    @property
    def verdict(self) -> str:
        if self.aim is not None:
            return f"≤ {shown(self.aim)}: {'reached' if self.levada <= self.aim else 'MISSED'}"
        if self.aim_ratio is not None and self.ratio is not None:
            return f"1/{shown(self.aim_ratio)}: {'reached' if self.ratio >= self.aim_ratio else 'MISSED'}"
        return ""


def shown(figure: float | None) -> str:
    """Three significant digits, without exponents."""
    if figure is None:
        return "-"
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table, wide enough to be read as it is."""
    head = ("figure", "unit", "Levada", "Prefect", "ratio", "aim")
    cells = [
        (r.what, r.unit, shown(r.levada), shown(r.prefect), f"{shown(r.ratio)}x" if r.ratio else "", r.verdict)
        for r in rows
    ]
    widths = [max(len(line[column]) for line in (head, *cells)) for column in range(len(head))]
    lines = [head, tuple("-" * width for width in widths), *cells]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def run(sdk: Sdk, *arguments: str) -> Ended:
    """Run one process to its end, in a session of its own, so that whatever it leaves behind can be ended with it."""
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        child = subprocess.Popen(
            [sdk.python, *arguments], env=sdk.environment, stdout=said, stderr=said, start_new_session=True
        )
        try:
            status, usage = wait(child.pid, start + SCRIPT_SECONDS)
            wall = time.perf_counter() - start
            child.returncode = os.waitstatus_to_exitcode(status)
        finally:
            end_session(child.pid)
            if child.returncode is None:
                child.wait(timeout=10)
        said.seek(0)
        text = said.read().decode(errors="replace").strip()
    if child.returncode:
        raise BenchError(f"{sdk.name}: {' '.join(arguments)} ended with {child.returncode}:\n{text[-2000:]}")
    return Ended(wall, usage.ru_utime + usage.ru_stime, result_line(text))


def wait(pid: int, deadline: float) -> tuple[int, "os.struct_rusage"]:  # type: ignore[name-defined]  # no stub has it
    """Wait for a child and its resource usage; a thread-free way that costs the measured process nothing."""
    signal.setitimer(signal.ITIMER_REAL, max(0.01, deadline - time.perf_counter()))
    try:
        _, status, usage = os.wait4(pid, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return status, usage


def result_line(text: str) -> str:
    """The line that the script printed as its result; log lines of both libraries may stand around it."""
    marked = [line for line in text.splitlines() if line.startswith(("peak_kib ", "{"))]
    return marked[-1] if marked else ""


def end_session(leader: int) -> None:
    """End what a process that this script started has left running."""
    for pid in members(leader):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def members(leader: int) -> list[int]:
    """The processes of a session."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return [pid for pid in pids if (stat := stat_of(pid)) and int(stat[3]) == leader]


def stat_of(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def cpu_of_session(leader: int) -> float:
    """CPU seconds of a session's living processes and the children that they have waited for."""
    stats = [stat_of(pid) for pid in members(leader)]
    return sum(int(field) for stat in stats if stat for field in stat[11:15]) / TICKS_A_SECOND


def rss_mib_of_session(leader: int) -> float:
    pages = sum(int(stat[21]) for pid in members(leader) if (stat := stat_of(pid)))
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def plain_environment() -> dict[str, str]:
    """The environment without anything that would set one of the two libraries."""
    ours = ("LEVADA_", "PREFECT_", "PYTHON")
    return {key: value for key, value in os.environ.items() if not key.startswith(ours)}


def the_levada(home: Path) -> Sdk:
    return Sdk("levada", sys.executable, plain_environment() | {"LEVADA_HOME": str(home / "levada")})


def the_prefect(home: Path) -> Sdk | None:
    """Prefect in its own virtual environment, installed once; None where it cannot be had."""
    cache = Path(os.environ.get("LEVADA_CACHE") or Path.home() / ".cache" / "levada") / f"prefect-{PREFECT_VERSION}"
    python, whole = cache / "venv" / "bin" / "python", cache / ".installed"
    if not whole.exists():
        print(f"installing Prefect {PREFECT_VERSION} into {cache} (once) …", flush=True)
        shutil.rmtree(cache / "venv", ignore_errors=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *PREFECT_REQUIREMENTS]
        try:
            subprocess.run([sys.executable, "-m", "venv", str(cache / "venv")], check=True, timeout=INSTALL_SECONDS)
            subprocess.run(pip, check=True, timeout=INSTALL_SECONDS)
        except (subprocess.SubprocessError, OSError) as error:
            print(f"Prefect cannot be installed ({error}); Levada is measured alone", file=sys.stderr)
            return None
        whole.touch()
    settings = {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_CLI_PROMPT": "false",
    }
    return Sdk("prefect", str(python), plain_environment() | settings)


@contextmanager
def prefect_server(sdk: Sdk, home: Path) -> Iterator[tuple[Sdk, int]]:
    """A server on loopback, and the same Prefect told to use it. Ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sdk.python, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command, env=sdk.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        await_health(f"http://127.0.0.1:{port}/api/health", server, home / "server.log")
        await_idle(server.pid)
        yield (
            Sdk(sdk.name, sdk.python, sdk.environment | {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}),
            server.pid,
        )
    finally:
        server.terminate()
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(timeout=10)
        end_session(server.pid)


def await_health(url: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + SERVER_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise BenchError(f"Prefect's server ended:\n{log.read_text(errors='replace')[-2000:]}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise BenchError(f"Prefect's server did not answer within {SERVER_SECONDS} s")


def await_idle(leader: int) -> None:
    """Wait until a server has worked off what it was given: less than a tenth of a core over two seconds."""
    deadline = time.monotonic() + IDLE_SECONDS
    while time.monotonic() < deadline:
        before = cpu_of_session(leader)
        time.sleep(2)
        if cpu_of_session(leader) - before < 0.2:
            return


def median_of(rounds: int, measure: Callable[[], Ended]) -> Ended:
    """The round whose wall time is the median, after one that fills caches and writes byte code."""
    measure()
    return sorted((measure() for _ in range(rounds)), key=lambda ended: ended.wall)[rounds // 2]


def imports(sdk: Sdk, rounds: int) -> tuple[float, float]:
    """What the import costs: ms beyond the bare interpreter, and the process's MiB."""
    bare = median_of(rounds, lambda: run(sdk, "-c", PEAK))
    full = median_of(rounds, lambda: run(sdk, "-c", f"from {sdk.name} import flow, task; {PEAK}"))
    return (full.wall - bare.wall) * 1000, full.peak_mib


def script(sdk: Sdk, rounds: int) -> Ended:
    return median_of(rounds, lambda: run(sdk, str(SCRIPTS / "empty.py"), sdk.name))


def loop(sdk: Sdk, kind: str, count: int, rounds: int) -> tuple[float, float]:
    """µs of wall time and of the client's CPU for one of `count`."""
    lines = [run(sdk, str(SCRIPTS / "loops.py"), sdk.name, kind, str(count)).last_line for _ in range(rounds)]
    said = [json.loads(line) for line in lines]
    return tuple(statistics.median(one[clock] for one in said) / count * 1e6 for clock in ("wall", "cpu"))


def start_rows(levada: Sdk, prefect: Sdk | None, rounds: int) -> list[Row]:
    """Import, and an empty flow as a script, without any server."""
    few = max(1, rounds // 2)
    ms, mib = imports(levada, rounds)
    theirs_ms, theirs_mib = imports(prefect, few) if prefect else (None, None)
    ours, theirs = script(levada, rounds), script(prefect, few) if prefect else None
    name = "python flow.py, empty flow, no server"
    return [
        Row("import, beyond the interpreter", "ms", ms, theirs_ms, aim_ratio=25),
        Row("import, memory of the process", "MiB", mib, theirs_mib),
        Row(name, "s", ours.wall, theirs and theirs.wall, aim=0.25),
        Row(f"{name}: CPU", "s", ours.cpu, theirs and theirs.cpu),
        Row(f"{name}: memory", "MiB", ours.peak_mib, theirs and theirs.peak_mib, aim=45),
    ]


def server_rows(levada: Sdk, prefect: Sdk | None, home: Path, rounds: int) -> list[Row]:
    """The script with a running server, and the loops. Prefect's loops go against that server."""
    ours = {kind: loop(levada, kind, count, rounds) for kind, (_, count, _, _) in LOOPS.items()}
    if prefect is None:
        return [row for kind in LOOPS for row in loop_rows(kind, ours[kind], None, None)]
    alone = script(levada, rounds)
    rows: list[Row] = []
    with prefect_server(prefect, home) as (client, server):
        theirs = script(client, max(1, rounds // 2))
        name = "python flow.py, empty flow, server running"
        rows += [
            Row(name, "s", alone.wall, theirs.wall),
            Row(f"{name}: CPU", "s", alone.cpu, theirs.cpu),
            Row(f"{name}: memory", "MiB", alone.peak_mib, theirs.peak_mib),
        ]
        for kind, (what, _, count, _) in LOOPS.items():
            print(f"  Prefect: {count} x {what} …", file=sys.stderr, flush=True)
            await_idle(server)
            before = cpu_of_session(server)
            figures = loop(client, kind, count, 1)
            await_idle(server)
            done = count + min(count, WARM_UP)
            rows += loop_rows(kind, ours[kind], figures, (cpu_of_session(server) - before) / done * 1e6)
        rows.append(Row("the server's memory afterwards", "MiB", 0, rss_mib_of_session(server)))
    return rows


def loop_rows(
    kind: str, ours: tuple[float, float], theirs: tuple[float, float] | None, server_cpu: float | None
) -> list[Row]:
    what, _, _, aim = LOOPS[kind]
    wall, cpu = theirs or (None, None)
    rows = [Row(what, "µs", ours[0], wall, aim=aim), Row(f"{what}: client CPU", "µs", ours[1], cpu)]
    if server_cpu is not None and kind != "printed":  # the prints' log lines cost the server little
        rows.append(Row(f"{what}: server CPU", "µs", 0, server_cpu))
    return rows


def many_rows(levada: Sdk) -> list[Row]:
    """Does a task cost the same, and no memory, when there are a hundred times as many?"""
    rows = []
    for kind in ("called", "submitted"):
        for count in MANY:
            figures = json.loads(run(levada, str(SCRIPTS / "many.py"), kind, str(count)).last_line)
            name = f"{count:,} tasks {kind} in one flow"
            rows.append(Row(name, "µs a task", figures["us_a_task"]))
            if count == MANY[-1]:
                growth = max(0.0, figures["bytes_a_task"])
                rows.append(Row(f"{name}: RSS", "bytes a task", growth, aim=MAX_BYTES_A_TASK))
    return rows


def out_of_time(_signal: int, _frame: object) -> None:
    raise BenchError(f"a script took longer than {SCRIPT_SECONDS} s")


def main() -> None:
    parser = argparse.ArgumentParser(description="Levada's engine beside Prefect's")
    parser.add_argument("--rounds", type=int, default=5, help="how often each of Levada's figures is taken")
    parser.add_argument("--without-prefect", action="store_true", help="measure Levada alone")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: ended by SIGTERM"))
    signal.signal(signal.SIGALRM, out_of_time)
    home = Path(tempfile.mkdtemp(prefix="levada-bench-"))
    try:
        levada = the_levada(home)
        prefect = None if options.without_prefect else the_prefect(home)
        rows = start_rows(levada, prefect, options.rounds)
        rows += server_rows(levada, prefect, home, options.rounds)
        rows += many_rows(levada)
    except BenchError as error:
        sys.exit(f"error: {error}")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps([vars(row) | {"ratio": row.ratio} for row in rows], indent=1))


if __name__ == "__main__":
    main()
