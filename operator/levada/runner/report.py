"""The reporter: says in the FlowRun's status what happens to the run, without ever holding the run up.

The engine calls from any thread and only marks the board. One flusher thread sends what has changed since the last patch
that the API server acknowledged: the first report at once, then at most one merge patch a second. When the API server is
away the board simply gets newer, and one patch says it all when it is back. The last report is sent by the main thread, which waits
for it.

Every patch carries the resourceVersion that it is based on. So "was my last patch carried out?" is never guessed: the
FlowRun is read again, and what it says is the base of the next patch.

When the API server refuses a body, the next one says less (`_LEVELS`): rows go first, the phase never.
"""

import json
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from levada.artifacts import plain
from levada.engine.reporter import TaskReport
from levada.resources.names import MAX_MESSAGE_CHARS
from levada.resources.phases import RunPhase, is_terminal
from levada.runner.api import ApiProblem, Conflict, NotAllowed, Rejected, RunApi, RunGone, Unreachable
from levada.runner.archiving import Archivist
from levada.runner.outcome import Outcome
from levada.runner.rows import Board, Limit
from levada.runner.status import (
    ESSENTIAL,
    Identity,
    Json,
    Standing,
    View,
    end_fields,
    judge,
    merge_patch,
    merged,
    pause_fields,
    resume_fields,
    start_fields,
    started_before,
)
from levada.runner.text import bounded, time_text

log = logging.getLogger("levada.runner")

# How much of the rows is said, from all that fits to none. The level after the last says only the essential.
_LEVELS: Final = (Limit(), Limit(250, 128 * 1024), Limit(0, 0))
_LARGE_ARTIFACT_BYTES: Final = 64 * 1024
# A larger last report is sent in two parts, the end of the run first.
_SPLIT_BYTES: Final = 128 * 1024
_MAX_BACKOFF_SECONDS: Final = 10.0
# Who looks at a run of hours looks less often: a report a second in the first six minutes, then ever fewer, one in 10 s after an hour.
_MAX_INTERVAL_SECONDS: Final = 10.0
_AGE_A_SECOND: Final = 360.0
# How long the last report is tried against an API server that refuses this process' token or rights.
_REFUSED_SECONDS: Final = 30.0


class ClusterReporter:
    """Reports one attempt to its FlowRun. `on_lost(why)` is called once, from the flusher, when the run is no longer ours."""

    def __init__(
        self,
        api: RunApi,
        me: Identity,
        on_lost: Callable[[str], None],
        *,
        archive: Archivist | None = None,
        interval_seconds: float = 1.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api = api
        self._me = me
        self._on_lost = on_lost
        self._archive = archive
        self._interval_seconds = interval_seconds
        self._now = now
        # Written by the engine's threads, one atomic operation each: a signal that raises in the middle of the engine must
        # find no lock held and nothing half done.
        self._told: deque[TaskReport] = deque()
        self._once: Json = start_fields(me)
        self._stages: Json = {}
        self._revision = ""
        self._paused = False
        # Used by one thread at a time: main before `start` and after the flusher has been joined, else the flusher.
        self._board = Board(archive.task if archive is not None else None)
        self._object: Json | None = None
        self._end: datetime | None = None
        self._view: View | None = None
        self._standing: Standing | None = None
        self._why = ""
        self._greeted = False
        self._level = 0
        self._failures = 0
        self._refused_since: float | None = None
        self._changed = threading.Event()
        self._closing = threading.Event()
        self._flusher = threading.Thread(target=self._flush_for_ever, name="levada-reporter", daemon=True)

    # --- told by the engine, from any thread

    def task_changed(self, report: TaskReport) -> None:
        """Note it."""
        self._told.append(report)
        self._changed.set()

    def flow_changed(self, phase: RunPhase, message: str) -> None:
        """Show what the flow says while it runs. Its end comes by `finish`, which knows more."""
        if is_terminal(phase):
            return
        told = bounded(message, MAX_MESSAGE_CHARS) or None
        if phase is RunPhase.PAUSED or self._paused:
            self._paused = phase is RunPhase.PAUSED
            self._once.update(pause_fields(told) if self._paused else resume_fields(told))
        else:
            self._once["message"] = told
        self._changed.set()

    def artifact_created(self, artifact: Any) -> None:
        """Keep an artifact in the archive."""
        if self._archive is not None:
            self._archive.artifact(artifact_row(artifact))

    # --- told by the runner, from the main thread

    @property
    def why(self) -> str:
        """Why the run is not ours to run, or to report; empty while it is."""
        return self._why

    @property
    def progress(self) -> str | None:
        """Tasks done of tasks known, as of the last report."""
        return self._board.progress

    def stage(self, name: str, seconds: float) -> None:
        """Note where time went; sent with whatever is sent next."""
        self._stages[name] = round(max(0.0, seconds), 3)

    def code_is(self, revision: str) -> None:
        """Note which code was fetched; a later attempt takes the same."""
        self._revision = revision
        self._changed.set()

    def greet(self, *, unreachable_seconds: float, refused_seconds: float) -> Standing:
        """Report the start, and learn whether this process may run the attempt.

        An API server that is away does not hold the run up for long: the answer is OURS then, and the report follows.

        Raises:
            NotAllowed: it answers, and still refuses this process after `refused_seconds`.
        """
        begin = time.monotonic()
        while True:
            try:
                self._step()
            except RunGone as problem:
                self._after(problem)
                return Standing.LOST
            except Rejected as problem:
                log.warning("The first report was refused, the run goes on: %s", problem)
                return Standing.OURS
            except ApiProblem as problem:
                delay = self._after(problem)
                if isinstance(problem, NotAllowed):
                    if self._refused_for_seconds() + delay > refused_seconds:
                        raise
                elif time.monotonic() - begin + delay > unreachable_seconds:
                    return Standing.OURS
                time.sleep(delay)
            else:
                return self._standing or Standing.OURS

    def start(self) -> None:
        """Begin to send what the engine tells."""
        self._flusher.start()

    def finish(self, outcome: Outcome, seconds_left: Callable[[], float]) -> bool:
        """Send the last report. Return whether the run's end stands in the status.

        False also where the end is not ours to tell: an interrupted attempt whose run nobody cancelled.
        """
        end = self._end = self._now()
        if not self._close_flusher(0.5 * seconds_left()):
            log.error("The last report was not sent: the API server does not answer the one before.")
            return False
        self._take_notes()
        if outcome.interrupted:
            self._view = None  # was the run cancelled? Only a fresh look tells
        while True:
            self._api.timeout_seconds = min(10.0, max(1.0, seconds_left()))
            try:
                done = self._last_step(outcome, end)
                if done is not None:
                    return done
            except RunGone as problem:
                self._after(problem)
                return False
            except ApiProblem as problem:
                delay = self._after(problem)
                left = seconds_left()
                if isinstance(problem, NotAllowed):
                    left = min(left, _REFUSED_SECONDS - self._refused_for_seconds())
                if delay >= left or self._level > len(_LEVELS):
                    log.error("The last report did not get through: %s", problem)  # noqa: TRY400 - the trace is ours, not the author's
                    return False
                time.sleep(delay)

    def last_rows(self) -> None:
        """Let the archive have the tasks that are not folded. After `finish`."""
        if self._archive is not None:
            self._take_notes()
            for task_id, row in self._board.rows():
                self._archive.task(task_id, row)

    def ended_run(self, outcome: Outcome) -> Json | None:
        """The FlowRun at its end, for the archive. None: this attempt's end is not the run's, or not this process' to tell."""
        view = self._view
        status = dict(view.status) if view is not None else {}
        if self._standing is Standing.LOST or self._object is None:
            return None
        if not is_terminal(status.get("phase")):
            if outcome.retried or outcome.interrupted:
                return None
            status |= self._standing_fields() | end_fields(
                outcome, self._me, self._end or self._now(), cancelling=False
            )
        return {**self._object, "status": status}

    # --- one exchange with the API server

    def _step(self) -> None:
        """Send what has changed."""
        if not self._may_send():
            return
        # To a run that is to stop, its phase is the operator's.
        once = dict(self._once) if self._standing is Standing.OURS else {}
        self._send(self._standing_fields() | once)
        for key, value in once.items():
            if self._once.get(key) is value:
                self._once.pop(key, None)

    def _last_step(self, outcome: Outcome, end: datetime) -> bool | None:
        """One try of the last report. Return what `finish` returns, or None: there is more to say."""
        view = self._look()
        told = self._is_told(outcome, end, view)
        if self._standing is Standing.LOST:
            return told
        rows_too = self._level < len(_LEVELS)
        rows = self._standing_fields() | {"currentTask": None} if rows_too else {}
        if told or self._standing is Standing.ENDED or (outcome.interrupted and not view.cancelling):
            # The end is told, or not ours to tell. The rows of the tasks are.
            self._send(rows)
            return told
        fields = end_fields(outcome, self._me, end, cancelling=view.cancelling)
        if not rows_too:
            self._send({key: fields[key] for key in ESSENTIAL})
            return True
        wanted = rows | fields
        if is_terminal(fields["phase"]) and len(json.dumps(merge_patch(view.status, wanted))) > _SPLIT_BYTES:
            del wanted["tasks"]
        self._send(wanted)
        return True if "tasks" in wanted else None

    def _is_told(self, outcome: Outcome, end: datetime, view: View) -> bool:
        """Whether the end that the status shows is ours: of a patch whose answer was lost, or of the first of two parts."""
        if view.phase == RunPhase.RETRYING:
            return outcome.retried and view.status.get("podName") == self._me.pod
        return is_terminal(view.phase) and view.status.get("completionTime") == time_text(end)

    def _may_send(self) -> bool:
        """Look where we stand. The start is not reported to a run that is being cancelled."""
        self._look()
        if self._standing in {Standing.CANCEL, Standing.SUSPEND}:
            return self._greeted
        return self._standing is Standing.OURS

    def _look(self) -> View:
        """Return the FlowRun as last shown; read it if that is not known."""
        if self._view is None:
            self._learn(self._api.read())
        assert self._view is not None
        return self._view

    def _send(self, wanted: Json) -> None:
        view = self._look()
        patch = merge_patch(view.status, wanted)
        if patch:
            answer = self._api.patch_status(patch, view.resource_version)
            self._greeted = self._greeted or "phase" in patch
            # Not the answer's status: a field that this API server does not know would be sent for ever.
            self._learn(answer, merged(view.status, patch))
            # Only a patch that got through ends a trouble: who may not write may often still read.
            if self._failures:
                log.warning("The API server answers again.")
            self._failures = 0
            self._refused_since = None

    def _learn(self, run: Json, status: Json | None = None) -> None:
        """Take in what the API server showed."""
        shown = View.of(run)
        self._object = {name: value for name, value in run.items() if name != "status"}
        self._standing, self._why = judge(shown, self._me)
        if not self._greeted and started_before(shown, self._me):
            self._standing = Standing.LOST
            self._why = f"Pod {self._me.pod} has already run attempt {self._me.attempt} of FlowRun {self._me.run} once."
        known = (
            shown.status
            if status is None
            else status | {key: shown.status.get(key) for key in ("phase", "attempt", "podName")}
        )
        self._view = View(shown.resource_version, shown.cancel, known, shown.uid, shown.suspend)

    def _take_notes(self) -> None:
        while self._told:
            self._board.apply(self._told.popleft())

    def _standing_fields(self) -> Json:
        self._take_notes()
        limit = _LEVELS[min(self._level, len(_LEVELS) - 1)]
        code = {"codeRevision": self._revision} if self._revision else {}
        return self._board.status(limit) | {"stages": dict(self._stages)} | code

    def _after(self, problem: ApiProblem) -> float:
        """Take in a failure, and return how long to wait before the next try."""
        if isinstance(problem, RunGone):
            self._standing, self._why = Standing.LOST, f"FlowRun {self._me.run} has been deleted."
            return 0.0
        if isinstance(problem, Rejected):
            self._level = min(self._level + 1, len(_LEVELS) + 1)
            if self._level > len(_LEVELS):
                return _MAX_BACKOFF_SECONDS
            log.warning("The API server refused a report; the next one says less: %s", problem)
            return 0.0
        self._view = None
        if not isinstance(problem, NotAllowed):
            self._refused_since = None
        elif self._refused_since is None:
            # It answers now: its refusal is another trouble, with a back-off and a log line of its own.
            self._refused_since = time.monotonic()
            self._failures = 0
        if isinstance(problem, Conflict):
            return random.uniform(0.0, 0.05)  # noqa: S311 - jitter
        self._failures += 1
        if self._failures == 1:
            and_now = "Trying again." if isinstance(problem, NotAllowed) else "The run goes on and is reported later."
            log.warning("%s %s", problem, and_now)
        delay = max(backoff_seconds(self._failures, random.random()), 1.0 if isinstance(problem, NotAllowed) else 0.0)  # noqa: S311
        asked = problem.retry_after_seconds if isinstance(problem, Unreachable) else 0.0
        return max(delay, min(asked, 3 * _MAX_BACKOFF_SECONDS))

    def _refused_for_seconds(self) -> float:
        """How long the API server has answered, and refused. One that was away before has only just begun to."""
        return time.monotonic() - self._refused_since if self._refused_since is not None else 0.0

    # --- the flusher

    def _close_flusher(self, patience_seconds: float = _MAX_BACKOFF_SECONDS) -> bool:
        """End the flusher, and cut it off if its request hangs. Return whether it has ended."""
        self._closing.set()
        self._changed.set()
        if self._flusher.ident is not None:
            self._flusher.join(max(0.0, patience_seconds))
            if self._flusher.is_alive():
                self._api.abort()
                self._flusher.join(1.0)
        return not self._flusher.is_alive()

    def _flush_for_ever(self) -> None:
        """Send when something has changed, at most once per interval, until the end or until the run is lost."""
        began = time.monotonic()
        next_at = began + (self._interval_seconds if self._greeted else 0.0)
        while True:
            self._changed.wait()
            if self._closing.wait(max(0.0, next_at - time.monotonic())):
                return
            self._changed.clear()
            next_at = time.monotonic() + interval_seconds(self._interval_seconds, time.monotonic() - began)
            try:
                self._step()
            except ApiProblem as problem:
                self._changed.set()
                again_at = time.monotonic() + self._after(problem)
                # Nothing was written by a conflict: what the other one wrote may mean that this process is to stop.
                next_at = again_at if isinstance(problem, Conflict) else max(next_at, again_at)
            except Exception:
                # A defect of ours must not end the reports of a healthy flow.
                log.exception("A report failed.")
                self._view = None
                self._changed.set()
                next_at = time.monotonic() + _MAX_BACKOFF_SECONDS
            if self._standing in {Standing.LOST, Standing.ENDED}:
                self._on_lost(self._why)
                return


def artifact_row(artifact: Any) -> Json:
    """An artifact as the archive keeps it: whole, unless its content is large; then the result storage has it."""
    row: Json = {name: value for name, value in plain(artifact._asdict()).items() if value is not None}
    if len(json.dumps(row.get("data"))) > _LARGE_ARTIFACT_BYTES:
        del row["data"]
    return row


def interval_seconds(least_seconds: float, age_seconds: float) -> float:
    """How long to wait between two reports of a run that is so old: a day of them is some 9,000 patches, not 86,400.

    The end is reported at once, whatever the age.
    """
    return max(least_seconds, min(_MAX_INTERVAL_SECONDS, age_seconds / _AGE_A_SECOND))


def backoff_seconds(failures: int, luck: float) -> float:
    """Return the wait after so many failures in a row: doubled each time, and spread, so that runs do not come back in step."""
    return min(_MAX_BACKOFF_SECONDS, 0.25 * 2.0 ** min(failures - 1, 10)) * (0.5 + luck / 2)
