"""The life of a run's process, from the first look at its FlowRun to the last report.

    settings → greet (may this attempt run, here?) → load the code → validate and run → report → termination message

Every way out of the middle is an `Outcome`, so there is one ending for a flow that failed, code that does not load, a signal, and
a defect of ours. The exit code is 0 if and only if the flow completed, and 143 if the process was told to stop before.
"""

import importlib.util
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from levada.archive.layout import run_folder
from levada.archive.record import record_of
from levada.artifacts import plain
from levada.engine import lanes
from levada.engine.resuming import Resume
from levada.engine.run import run_flow
from levada.engine.tracebacks import summary
from levada.engine.tracing import flush as flush_traces
from levada.flows import Flow
from levada.logging import prepare as prepare_logging
from levada.resources import names
from levada.resources.phases import RunPhase
from levada.runner.api import NotAllowed, RunApi
from levada.runner.archiving import Archivist, dismiss
from levada.runner.code import CodeError, find_file, load_flow
from levada.runner.fetch import fetched
from levada.runner.hold import hold_until, warm_up
from levada.runner.outcome import Outcome, failed, interrupted, outcome_of, termination_message, with_retry
from levada.runner.process import exit_soon, prepare_output, started_at
from levada.runner.report import ClusterReporter
from levada.runner.requirements import needs_of
from levada.runner.settings import Settings, SettingsError, settings_from, spread_order, termination_log_from
from levada.runner.status import Identity, Standing
from levada.runner.stop import Stop
from levada.runner.text import time_text
from levada.settings import BLOCK_PROVIDER_VARIABLE, PAUSE_PROVIDER_VARIABLE, SLOT_PROVIDER_VARIABLE

log = logging.getLogger("levada.runner")

# A run does not wait longer for an API server that is away: it starts, and reports when the server is back.
UNREACHABLE_SECONDS: Final = 10.0
# Just after its start an API server refuses everybody for a moment, until it has read roles and policies.
REFUSED_SECONDS: Final = 15.0
# How long the end of a run waits to be reported.
LAST_REPORT_SECONDS: Final = 120.0


def main(channel: socket.socket | None = None) -> int:
    """Run one attempt and return the exit code. `channel` leads to the keeper of the output (tee.py), if there is one."""
    started = started_at()
    prepare_output()
    try:
        spread_order(os.environ)
        settings = settings_from(os.environ)
    except SettingsError as error:
        if channel is not None:
            dismiss(channel)
        print(error, file=sys.stderr)
        _leave_words(termination_log_from(os.environ), failed("BadEnvironment", str(error)), None, reported=False)
        return 1
    # A name, not the thing: nothing is loaded before a block is, and processes that the flow starts find it too.
    os.environ[BLOCK_PROVIDER_VARIABLE] = "levada.runner.blocks:provider"
    os.environ[PAUSE_PROVIDER_VARIABLE] = "levada.runner.pauses:provider"
    os.environ[SLOT_PROVIDER_VARIABLE] = "levada.runner.slots:provider"
    # Of this process alone: others that the flow starts would number their pods alike.
    lanes.pod_provider = "levada.runner.task_pods:provider"
    hide_given_secrets(os.environ)
    stop = Stop(settings.grace_seconds)
    stop.install()
    archivist = archivist_of(settings, channel)
    place = {"storage": archivist.url, "path": archivist.folder} if archivist is not None else None
    me = Identity(settings.run, settings.attempt, settings.pod, started, settings.run_uid, settings.node, place)
    api = RunApi.of(settings)
    reporter = ClusterReporter(api, me, stop.ask, archive=archivist)
    attempt = Attempt(settings, reporter, stop, started, archivist)
    outcome = with_retry(attempt.live(), settings.retries_left)
    attempt.tell(outcome)
    attempt.archive(outcome)
    api.close()
    flush_traces()
    exit_soon(outcome.exit_code)
    return outcome.exit_code


def archivist_of(settings: Settings, channel: socket.socket | None) -> Archivist | None:
    """Who archives this attempt; None where there is no storage, or no uid that tells this run from others of its name."""
    if channel is None:
        return None
    if not settings.storage or not settings.run_uid:
        dismiss(channel)
        return None
    folder = run_folder(settings.namespace, settings.run, settings.run_uid)
    return Archivist(settings.storage, folder, settings.attempt, channel)


class Attempt:
    """One attempt of the run: this process, once."""

    def __init__(
        self,
        settings: Settings,
        reporter: ClusterReporter,
        stop: Stop,
        started: datetime,
        archivist: Archivist | None = None,
    ) -> None:
        self._archivist = archivist
        self._settings = settings
        self._reporter = reporter
        self._stop = stop
        self._started = started
        # From the start of the process to here: Python and this package.
        self._boot_seconds = (datetime.now(UTC) - started).total_seconds()
        self._may_report = True

    def live(self) -> Outcome:
        """Do the work and return how it ended. Never raises: whatever happens is an outcome."""
        try:
            try:
                return self._greet() or self._run()
            finally:
                self._stop.only_note()
        except CodeError as error:
            prepare_logging()
            log.error("%s: %s", error.reason, error)  # noqa: TRY400 - the author's traceback has been printed
            return failed(error.reason, str(error))
        except KeyboardInterrupt:
            return interrupted(self._stop.why)
        except Exception as error:
            prepare_logging()
            log.exception("The runner itself failed; please report this.")
            return Outcome(RunPhase.FAILED, "RunnerError", summary(error), worth_retrying=True)

    def tell(self, outcome: Outcome) -> None:
        """Report the end, to the status and to the kubelet."""
        words, reporter = self._settings.termination_log, self._reporter
        if not self._may_report:
            _leave_words(words, outcome, None, reported=False)
            return
        # Before the report, because a process that is being killed may not come to write it afterwards.
        _leave_words(words, outcome, reporter.progress, reported=False)
        reported = reporter.finish(outcome, lambda: self._stop.seconds_left(LAST_REPORT_SECONDS))
        _leave_words(words, outcome, reporter.progress, reported=reported)
        if not reported and reporter.why:
            log.warning("Not reported: %s", reporter.why)

    def archive(self, outcome: Outcome) -> None:
        """Let the archive have the rest. The run's end is told by now: nobody waits for this but the pod."""
        if self._archivist is None:
            return
        reporter = self._reporter
        reporter.last_rows()

        def record(known_of_log: dict[str, Any]) -> dict[str, Any] | None:
            run = reporter.ended_run(outcome)
            if run is None:
                return None
            run["spec"] = {**run["spec"], "parameters": plain(run["spec"].get("parameters") or {})}
            return record_of(
                run, complete=True, written_by="runner", written_at=time_text(datetime.now(UTC)) or "", log=known_of_log
            )

        self._archivist.finish(record, self._stop.seconds_left(self._settings.grace_seconds))

    def _greet(self) -> Outcome | None:
        """Report the start; an outcome if there is nothing to run."""
        created = self._settings.created_at
        if created:
            self._reporter.stage("waitSeconds", (self._started - created).total_seconds())
        try:
            standing = self._reporter.greet(unreachable_seconds=UNREACHABLE_SECONDS, refused_seconds=REFUSED_SECONDS)
        except NotAllowed as problem:
            self._may_report = False
            prepare_logging()
            log.error("The API server does not let this pod report to its FlowRun: %s", problem)  # noqa: TRY400
            hint = "Is the namespace set up for runs (service account, role, admission policy)?"
            return failed("StatusRefused", f"The run was not started, because it could not report: {problem} {hint}")
        if self._archivist is not None and standing in {Standing.OURS, Standing.CANCEL}:
            self._archivist.start()
        if standing is Standing.OURS:
            return None
        prepare_logging()
        log.warning("Nothing is run: %s", self._reporter.why)
        self._may_report = standing is Standing.CANCEL
        return interrupted(self._reporter.why)

    def _run(self) -> Outcome:
        """Load and run the flow."""
        settings, reporter = self._settings, self._reporter
        reporter.start()
        loading = time.perf_counter()
        if importlib.util.find_spec("prefect") is None:
            import levada.prefect  # noqa: F401  so that files written for Prefect run here as they are
        flow = self._load()
        loaded = time.perf_counter()
        reporter.stage("importSeconds", self._boot_seconds + loaded - loading)
        try:
            parameters = parameters_from(settings.parameters_json)
        except ValueError as error:
            return failed("InvalidParameters", str(error))
        self._hold()
        begun = time.perf_counter()
        try:
            resume = Resume(settings.results_key, settings.goes_on) if settings.results_key else None
            state = run_flow(flow, parameters, reporter=reporter, run_name=settings.run, resume=resume)
        finally:
            reporter.stage("userSeconds", time.perf_counter() - begun)
        outcome = outcome_of(state, stopped=self._stop.why)
        if outcome.warning:
            log.warning(outcome.warning)
        return outcome

    def _load(self) -> Flow[Any, Any]:
        """Fetch the code and what it needs, and import it."""
        settings, reporter = self._settings, self._reporter
        code = fetched(settings.code_dir)
        if code.revision:
            reporter.code_is(code.revision)
            os.environ[names.ENV_CODE_REVISION] = code.revision
        path = settings.entrypoint.rpartition(":")[0]
        needs = needs_of(settings.requirements, find_file(path, code.folder), code.folder) if path else None
        if needs is not None:
            from levada.runner.environments import prepare

            begun = time.perf_counter()
            made = prepare(needs, lambda words: reporter.flow_changed(RunPhase.RUNNING, words))
            if made is not None:
                reporter.stage("installSeconds", time.perf_counter() - begun)
                reporter.flow_changed(RunPhase.RUNNING, "")
        return load_flow(settings.entrypoint, code.folder)

    def _hold(self) -> None:
        """Wait for the run's time, if the pod was started before it."""
        at = self._settings.start_at
        if at is None or at <= datetime.now(UTC):
            return
        self._reporter.flow_changed(RunPhase.RUNNING, f"Ready; the flow starts at {at:%H:%M:%S} UTC.")
        warm_up()
        self._reporter.stage("holdSeconds", hold_until(at))
        self._reporter.flow_changed(RunPhase.RUNNING, "")


def hide_given_secrets(env: Mapping[str, str]) -> None:
    """Mask in logs and reports what the Deployment gave the run for its blocks, loaded or not."""
    for value in [value for name, value in env.items() if name.startswith(names.ENV_BLOCK_SECRET)]:
        from levada.secrets import register

        register(value)


def parameters_from(text: str) -> dict[str, Any]:
    """Read LEVADA_PARAMETERS.

    Raises:
        ValueError: it is no JSON object.
    """
    try:
        parameters = json.loads(text)
    except ValueError as error:
        raise ValueError(f"The run's parameters are no JSON: {error}.") from error
    if not isinstance(parameters, dict):
        message = f"The run's parameters must be an object of names and values, not {type(parameters).__name__}."
        raise ValueError(message)  # noqa: TRY004 - a wrong value, from outside
    return parameters


def _leave_words(path: Path, outcome: Outcome, progress: str | None, *, reported: bool) -> None:
    """Write the termination message, which the kubelet shows and the operator reads if the status says nothing."""
    try:
        path.write_bytes(termination_message(outcome, progress, reported=reported))
    except OSError as error:
        log.warning("No termination message: %s", error)
