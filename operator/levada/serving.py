"""Serve deployments without a cluster: a process that starts runs by their schedules, each in a process of its own.

    if __name__ == "__main__":
        etl.serve("nightly", cron="0 2 * * *")

Ctrl-C or SIGTERM end it well: runs under way are asked to stop, and their hooks run.
"""

import heapq
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levada._local_run import SERVED_VARIABLE
from levada.exceptions import DeploymentError, OptionError

if TYPE_CHECKING:
    from levada.deployments import Deployment
    from levada.flows import Flow
    from levada.schedules import Schedule

log = logging.getLogger("levada.serving")

# How often the ends of runs are looked for, and how long a quiet server sleeps: the machine's clock may be set meanwhile.
POLL_SECONDS = 0.1
MAX_SLEEP_SECONDS = 30.0
# How long runs may take to stop before they are killed.
STOP_SECONDS = 30.0


def serve(
    *deployments: "Deployment",
    pause_on_shutdown: bool = True,
    print_starting_message: bool = True,
    limit: int | None = None,
) -> None:
    """Start runs of the deployments by their schedules, in this process, until it is stopped or no schedule has a next time.

    Ticks that pass while the machine sleeps are made up for by one run.

    Args:
        *deployments: from `flow.to_deployment(...)`.
        pause_on_shutdown: nothing is kept of what is served here, so there is nothing to pause.
        print_starting_message: say what is served.
        limit: at most so many runs at a time; further ones wait.

    Raises:
        DeploymentError: there is nothing to serve.
    """
    if os.environ.get(SERVED_VARIABLE):
        return
    _check(deployments, limit)
    server = Server(deployments, limit)
    if print_starting_message:
        for each in deployments:
            upcoming = [schedule.next(1) for schedule in each.schedules if schedule.active]
            first = min((found[0] for found in upcoming if found), default=None)
            print(f"serving {each.name!r} of flow {each.flow.name!r}; next run: {first or 'never'}", flush=True)
    server.run()


def serve_flow(flow: "Flow[..., Any]", name: str, **options: Any) -> None:
    """Serve one flow; the options are those of `serve` and of `levada.deployments.to_deployment`."""
    from levada.deployments import to_deployment

    mine = {key: options.pop(key) for key in ("pause_on_shutdown", "print_starting_message", "limit") if key in options}
    serve(to_deployment(flow, name, **options), **mine)


def _check(deployments: tuple[Any, ...], limit: object) -> None:
    from levada.deployments import Deployment

    for each in deployments:
        if not isinstance(each, Deployment):
            raise DeploymentError(f"{each!r} is no deployment; serve(flow.to_deployment('name', cron='0 6 * * *'))")
        if not each.schedules:
            raise DeploymentError(
                f"deployment {each.name!r} has no schedule, so nothing would ever start; give cron=, interval= or rrule=, "
                "or start a single run with `levada run path.py:flow`"
            )
    if not deployments:
        raise DeploymentError("there is nothing to serve; serve(flow.to_deployment('name', cron='0 6 * * *'))")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise OptionError(f"limit={limit!r} must be a whole number from 1 on, or None")


class Server:
    """What is due when, which runs wait and which go on."""

    def __init__(
        self, deployments: "tuple[Deployment, ...]", limit: int | None = None, now: Callable[[], datetime] | None = None
    ) -> None:
        from levada.engine import clock

        self._now = now or clock.now
        self._limit = limit
        self._stop = threading.Event()
        self._waiting: deque[tuple[Deployment, Schedule]] = deque()
        self._running: list[subprocess.Popen[bytes]] = []
        self._due: list[tuple[datetime, int, Deployment, Schedule]] = []
        active = (
            (each, rule) for each in deployments if not each.paused and each.schedules_active for rule in each.schedules
        )
        for number, (deployment, schedule) in enumerate(active):
            if schedule.active:
                self._expect(number, deployment, schedule, self._now())

    def run(self) -> None:
        """Serve until stopped, or until no schedule has a next time and all runs have ended."""
        with _signals(self._stop.set):
            try:
                while not self._stop.is_set() and (self._due or self._waiting or self._running):
                    self.step()
                    self._stop.wait(self._seconds_to_wait())
            finally:
                self._end()

    def step(self) -> None:
        """Start what is due and has room; forget runs that have ended."""
        moment = self._now()
        while self._due and self._due[0][0] <= moment:
            _, number, deployment, schedule = heapq.heappop(self._due)
            self._waiting.append((deployment, schedule))
            self._expect(number, deployment, schedule, moment)
        self._running = [each for each in self._running if each.poll() is None]
        while self._waiting and (self._limit is None or len(self._running) < self._limit):
            self._running.append(start(*self._waiting.popleft()))

    def _expect(self, number: int, deployment: "Deployment", schedule: "Schedule", after: datetime) -> None:
        for tick in schedule.next(1, after):
            heapq.heappush(self._due, (tick, number, deployment, schedule))

    def _seconds_to_wait(self) -> float:
        if self._running or self._waiting:
            return POLL_SECONDS
        if not self._due:
            return 0
        return min(MAX_SLEEP_SECONDS, max(0.0, (self._due[0][0] - self._now()).total_seconds()))

    def _end(self) -> None:
        """Ask the runs to stop; kill those that do not."""
        for each in self._running:
            each.terminate()
        for each in self._running:
            try:
                each.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                log.warning("A run did not stop in %.0f s and is killed.", STOP_SECONDS)
                each.kill()
                each.wait()


def start(deployment: "Deployment", schedule: "Schedule") -> subprocess.Popen[bytes]:
    """Start one run as a process. In a session of its own, so that Ctrl-C reaches it once, through the server."""
    parameters = json.dumps({**deployment.parameters, **schedule.parameters})
    prefect = ["--prefect"] if "levada.prefect" in sys.modules else []
    infrastructure = deployment.infrastructure
    return subprocess.Popen(
        [sys.executable, "-m", "levada._local_run", deployment.entrypoint, parameters, *prefect],
        cwd=infrastructure.working_dir,
        env={**os.environ, **infrastructure.env},
        start_new_session=True,
    )


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM stop the server; elsewhere than in the main thread they are left alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, lambda *_: stop()) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def from_source(source: Any, entrypoint: str) -> "Flow[..., Any]":
    """The flow at `path.py:function` in a folder, a Git repository or a storage block.

    Args:
        source: a folder; the URL of a Git repository; or a block with `pull_code` or `get_directory`, such as
            `GitRepository(...)` or `S3Bucket.load("code")`.
        entrypoint: the flow's file in it and its function.

    Raises:
        DeploymentError: the source is nothing of this kind, or the flow cannot be loaded from it.
        StorageError: the source cannot be reached.
    """
    from levada._loading import CodeError, load_flow

    folder = _folder_of(source)
    try:
        return load_flow(entrypoint, folder)
    except CodeError as error:
        raise DeploymentError(f"flow {entrypoint!r} cannot be loaded from {source!r}: {error.here}") from error


def _folder_of(source: Any) -> Path:
    if isinstance(source, str) and ("://" in source or source.endswith(".git") or source.startswith("git@")):
        from levada.filesystems import GitRepository

        source = GitRepository(url=source)
    if isinstance(source, str | Path):
        folder = Path(source).expanduser()
        if folder.is_dir():
            return folder.resolve()
        raise DeploymentError(f"there is no folder {str(source)!r}; name a folder, a Git URL, or a storage block")
    if hasattr(source, "pull_code"):
        return Path(source.pull_code())
    if hasattr(source, "get_directory"):
        from tempfile import mkdtemp

        return Path(source.get_directory(None, mkdtemp(prefix="levada-source-")))
    raise DeploymentError(f"{source!r} is no place of code; name a folder, a Git URL, or a storage block")
