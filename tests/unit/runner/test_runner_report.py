"""The reporter against an HTTPS server that refuses, forgets, drops and comes back."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from levada.engine.reporter import TaskReport
from levada.resources.phases import RunPhase, TaskState
from levada.runner.api import NotAllowed, RunApi
from levada.runner.outcome import Outcome, interrupted
from levada.runner.report import ClusterReporter, backoff_seconds
from levada.runner.status import Identity, Standing
from unit.runner.fake_api import NAMESPACE, POD, RUN, FakeApi

T0 = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
COMPLETED = Outcome(RunPhase.COMPLETED, "Completed", result="42")
FAILED = Outcome(RunPhase.FAILED, "FlowFailed", "ValueError: no")


class Bench:
    """A reporter on the fake, and what the runner does with it."""

    def __init__(self, fake: FakeApi, identity: Path, interval: float = 0.05) -> None:
        self.lost: list[str] = []
        self.api = RunApi("127.0.0.1", fake.port, identity, NAMESPACE, RUN, timeout_seconds=5)
        self.reporter = ClusterReporter(
            self.api, Identity(RUN, 1, POD, T0), self.lost.append, interval_seconds=interval
        )

    def greet(self, unreachable: float = 5, refused: float = 5) -> Standing:
        return self.reporter.greet(unreachable_seconds=unreachable, refused_seconds=refused)

    def started(self) -> "Bench":
        assert self.greet() is Standing.OURS
        self.reporter.start()
        return self

    def task(self, task_id: str, state: str, message: str = "") -> None:
        end = T0 if state in {"Completed", "Failed"} else None
        self.reporter.task_changed(
            TaskReport(task_id, task_id.rpartition("-")[0], TaskState(state), 1, T0, end, message)
        )

    def finish(self, outcome: Outcome = COMPLETED, seconds: float = 10) -> bool:
        until = time.monotonic() + seconds
        return self.reporter.finish(outcome, lambda: until - time.monotonic())


@pytest.fixture
def bench(fake: FakeApi, identity: Path) -> Iterator[Bench]:
    bench = Bench(fake, identity)
    yield bench
    bench.reporter._close_flusher()
    bench.api.close()


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.005)


def test_a_short_run_is_one_read_and_two_writes(bench: Bench, fake: FakeApi) -> None:
    bench.reporter.stage("waitSeconds", 1.5)
    bench.reporter._interval_seconds = 60
    bench.started()
    assert fake.status == {
        "attempt": 1, "phase": "Running", "reason": "Running", "podName": POD, "startTime": "2026-01-02T03:04:05.000000Z",
        "stages": {"waitSeconds": 1.5}, "truncatedTasks": 0, "taskCounts": dict.fromkeys(fake.status["taskCounts"], 0),
        "conditions": [{"type": "Succeeded", "status": "Unknown", "reason": "Running", "message": "The flow is running.", "lastTransitionTime": "2026-01-02T03:04:05Z"}],
    }  # fmt: skip
    bench.task("load-0", "Running")
    bench.task("load-0", "Completed")
    assert bench.finish()
    assert [call.method for call in fake.calls] == ["GET", "PATCH", "PATCH"]
    status = fake.status
    assert (status["phase"], status["result"], status["progress"]) == ("Completed", "42", "1/1")
    assert status["conditions"][0]["status"] == "True"
    assert status["tasks"]["load-0"]["state"] == "Completed"
    assert bench.lost == []


def test_only_what_changed_and_not_too_often(bench: Bench, fake: FakeApi) -> None:
    bench.started()
    begin = len(fake.calls)
    for number in range(200):
        bench.task("a-0", "Running", f"step {number}")
        time.sleep(0.001)
    bench.task("b-0", "Pending")
    fake.until(lambda status: "b-0" in status.get("tasks", {}))
    bench.task("b-0", "Running")
    fake.until(lambda status: status["tasks"]["b-0"]["state"] == "Running")
    times = [call.at for call in fake.calls[begin:]]
    # Over all of them: a single patch may arrive late, and the next, on time, soon after it.
    assert (times[-1] - times[0]) / (len(times) - 1) > 0.04
    assert fake.patches[-1] == {
        "tasks": {"b-0": {"state": "Running"}},
        "taskCounts": {"pending": 0, "running": 2},
        "currentTask": "b +1",
    }
    assert bench.finish()


def test_nothing_is_sent_while_nothing_changes(bench: Bench, fake: FakeApi) -> None:
    bench.started()
    bench.task("a-0", "Running")
    fake.until(lambda status: "tasks" in status)
    count = len(fake.calls)
    bench.task("a-0", "Running")
    time.sleep(0.05)
    assert len(fake.calls) == count
    assert bench.finish()


def test_an_api_server_that_is_away_misses_nothing(
    bench: Bench, fake: FakeApi, caplog: pytest.LogCaptureFixture
) -> None:
    bench.started()
    fake.down()
    for number in range(50):
        bench.task(f"a-{number}", "Completed")
    until(lambda: "cannot be reached" in caplog.text)
    bench.task("a-50", "Running")
    fake.up()
    status = fake.until(lambda status: len(status.get("tasks", {})) == 51)
    assert status["tasks"]["a-50"]["state"] == "Running"
    assert caplog.text.count("cannot be reached") == 1, "said once, not at every try"
    until(lambda: "answers again" in caplog.text)
    assert bench.finish()


def test_an_api_server_that_is_away_at_the_start_does_not_hold_the_run_up(bench: Bench, fake: FakeApi) -> None:
    fake.down()
    begin = time.monotonic()
    assert bench.greet(unreachable=0.3) is Standing.OURS
    assert time.monotonic() - begin < 2
    bench.reporter.start()
    bench.task("a-0", "Running")
    fake.up()
    status = fake.until(lambda status: status["phase"] == "Running")
    assert (status["podName"], status["tasks"]["a-0"]["state"]) == (POD, "Running")
    assert bench.finish()
    assert fake.history == ["Running", "Completed"]


def test_an_api_server_that_is_away_at_the_end_is_waited_for(bench: Bench, fake: FakeApi) -> None:
    bench.started()
    fake.down()
    bench.task("a-0", "Completed")
    assert not bench.finish(seconds=1)
    fake.up()
    assert bench.finish()
    assert (fake.status["phase"], fake.status["progress"]) == ("Completed", "1/1")


@pytest.mark.parametrize("lost", [1, 2])
def test_a_patch_whose_answer_is_lost_is_not_guessed_about(bench: Bench, fake: FakeApi, lost: int) -> None:
    fake.lose_answers = lost
    bench.started()
    fake.lose_answers = lost
    bench.task("a-0", "Running")
    fake.until(lambda status: "tasks" in status)
    fake.lose_answers = lost
    bench.task("a-0", "Completed")
    assert bench.finish()
    assert fake.history == ["Running", "Completed"]
    assert fake.status["tasks"]["a-0"]["state"] == "Completed"


def test_what_others_write_meanwhile_stays(bench: Bench, fake: FakeApi) -> None:
    bench.started()
    fake.write(queue="default", conditions=[*fake.status["conditions"], {"type": "Stuck", "status": "False"}])
    bench.task("a-0", "Completed")
    assert bench.finish()
    assert fake.status["queue"] == "default"
    assert [c["type"] for c in fake.status["conditions"]] == ["Stuck", "Succeeded"]
    assert 409 in [call.code for call in fake.calls]


def test_a_rotated_token_is_read_again(bench: Bench, fake: FakeApi, identity: Path) -> None:
    bench.started()
    fake.token = "a-new-token"
    bench.task("a-0", "Running")
    until(lambda: 401 in [call.code for call in fake.calls])
    (identity / "token").write_text("a-new-token\n")
    fake.until(lambda status: "tasks" in status)
    assert bench.finish()


def test_a_refusal_at_the_start_may_pass(bench: Bench, fake: FakeApi) -> None:
    """An API server that has just started knows no roles yet."""
    answers = iter([(403, "no roles yet"), (403, "no roles yet")])
    fake.trouble = lambda *_: next(answers, None)
    assert bench.greet() is Standing.OURS
    assert fake.status["phase"] == "Running"


def test_a_refusal_that_stays_keeps_the_run_from_starting(
    bench: Bench, fake: FakeApi, caplog: pytest.LogCaptureFixture
) -> None:
    fake.trouble = lambda method, *_: (403, "levada-run-writes-its-own-status: no") if method == "PATCH" else None
    with pytest.raises(NotAllowed, match="403: levada-run-writes-its-own-status: no"):
        bench.greet(refused=2.5)
    assert len([call for call in fake.calls if call.method == "PATCH"]) == 3
    assert caplog.text.count("Trying again") == 1


def test_patience_with_a_refusal_begins_with_the_refusal(
    bench: Bench, fake: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API server that was away for long and now starts refuses everybody for a moment."""
    monkeypatch.setattr("levada.runner.report._REFUSED_SECONDS", 2.0)
    bench.started()
    away_until = time.monotonic() + 2.5
    refusals = iter([(403, "no roles yet")])
    fake.trouble = lambda *_: (503, "away") if time.monotonic() < away_until else next(refusals, None)
    assert bench.finish(seconds=10)
    assert 403 in [call.code for call in fake.calls]
    assert fake.status["phase"] == "Completed"


def test_a_refusal_that_stays_ends_the_last_report(
    bench: Bench, fake: FakeApi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("levada.runner.report._REFUSED_SECONDS", 1.5)
    bench.started()
    fake.trouble = lambda *_: (403, "no right")
    begin = time.monotonic()
    assert not bench.finish(seconds=60)
    assert time.monotonic() - begin < 10
    assert "did not get through: HTTP 403: no right" in caplog.text


def test_a_deleted_run_stops_the_flow(bench: Bench, fake: FakeApi) -> None:
    bench.started()
    fake.deleted = True
    bench.task("a-0", "Running")
    until(lambda: bench.lost)
    assert bench.lost == ["FlowRun hello-1 has been deleted."]
    calls = len(fake.calls)
    assert not bench.finish(interrupted("stopped"))
    assert len(fake.calls) <= calls + 1
    assert bench.reporter.why == "FlowRun hello-1 has been deleted."


def test_a_run_deleted_before_the_start(bench: Bench, fake: FakeApi) -> None:
    fake.deleted = True
    assert bench.greet() is Standing.LOST
    assert "deleted" in bench.reporter.why


def test_a_404_of_an_api_server_that_is_still_starting_is_no_deletion(bench: Bench, fake: FakeApi) -> None:
    answers = iter([(404, "the server could not find the requested resource"), (503, "not yet"), (429, "slow down")])
    fake.trouble = lambda *_: next(answers, None)
    assert bench.greet() is Standing.OURS
    assert fake.status["phase"] == "Running"


@pytest.mark.parametrize(
    ("status", "standing", "told"),
    [
        ({"attempt": 2}, Standing.LOST, "attempt 2"),
        ({"podName": "hello-1-1-zzzzz"}, Standing.LOST, "hello-1-1-zzzzz"),
        (
            {"phase": "Running", "reason": "Running", "podName": POD, "startTime": "2026-01-01T00:00:00Z"},
            Standing.LOST,
            "already run",
        ),
        ({"phase": "Crashed"}, Standing.ENDED, "Crashed"),
        ({"phase": "Cancelling"}, Standing.CANCEL, "cancelled"),
    ],
)
def test_an_attempt_that_may_not_run_writes_nothing(
    bench: Bench, fake: FakeApi, status: dict, standing: Standing, told: str
) -> None:
    fake.write(**status)
    assert bench.greet() is standing
    assert told in bench.reporter.why
    assert fake.patches == []


def test_an_operator_that_noted_the_pod_first_does_not_stop_it(bench: Bench, fake: FakeApi) -> None:
    fake.write(phase="Running", reason="NoReportYet", podName=POD, startTime="2026-01-01T00:00:00Z")
    assert bench.greet() is Standing.OURS
    assert fake.status["reason"] == "Running"


def test_an_attempt_that_was_given_up_never_writes_over_its_successor(bench: Bench, fake: FakeApi) -> None:
    bench.started()
    fake.write(attempt=2, phase="Retrying", podName=None, tasks=None)
    fake.write(phase="Pending")
    before = fake.status
    bench.task("a-0", "Completed")
    until(lambda: bench.lost)
    assert "attempt 2" in bench.lost[0]
    assert not bench.finish()
    assert fake.status == before


def test_rows_may_be_completed_after_somebody_elses_end(bench: Bench, fake: FakeApi) -> None:
    bench.started()
    bench.task("a-0", "Running")
    fake.until(lambda status: "tasks" in status)
    fake.write(phase="TimedOut", reason="DeadlineExceeded", completionTime="2026-01-02T04:00:00Z")
    bench.task("b-0", "Running")
    until(lambda: bench.lost)
    bench.task("a-0", "Cancelled")
    assert not bench.finish(interrupted("terminated by SIGTERM"))
    status = fake.status
    assert (status["phase"], status["reason"], status["tasks"]["a-0"]["state"]) == (
        "TimedOut",
        "DeadlineExceeded",
        "Cancelled",
    )


@pytest.mark.parametrize("noted", ["before the signal", "spec only"])
def test_an_interrupted_run_that_somebody_cancelled_is_cancelled(bench: Bench, fake: FakeApi, noted: str) -> None:
    bench.started()
    if noted == "spec only":
        fake.run["spec"]["cancel"] = True
    else:
        fake.cancel()
    bench.task("a-0", "Cancelled")
    assert bench.finish(interrupted("terminated by SIGTERM"))
    assert (fake.status["phase"], fake.status["reason"], fake.status["message"]) == (
        "Cancelled",
        "Cancelled",
        "terminated by SIGTERM",
    )


def test_an_interrupted_run_that_nobody_cancelled_is_left_to_the_operator(bench: Bench, fake: FakeApi) -> None:
    bench.started()
    bench.task("a-0", "Cancelled")
    assert not bench.finish(interrupted("terminated by SIGTERM"))
    status = fake.status
    assert (status["phase"], status["tasks"]["a-0"]["state"], status.get("currentTask")) == (
        "Running", "Cancelled", None,
    )  # fmt: skip
    assert "completionTime" not in status


def test_a_flow_that_finished_while_it_was_cancelled_has_finished(bench: Bench, fake: FakeApi) -> None:
    bench.started()
    fake.cancel()
    assert bench.finish(COMPLETED)
    assert fake.status["phase"] == "Completed"


def test_a_failure_with_a_retry_left_is_retrying(bench: Bench, fake: FakeApi) -> None:
    bench.started()
    bench.task("a-0", "Failed", "boom")
    assert bench.finish(Outcome(RunPhase.FAILED, "FlowFailed", "boom", retried=True))
    status = fake.status
    assert (status["phase"], status["message"], status["tasks"]["a-0"]["state"]) == ("Retrying", "boom", "Failed")
    assert "completionTime" not in status


def test_a_failure_with_a_retry_left_of_a_cancelled_run_is_failed(bench: Bench, fake: FakeApi) -> None:
    bench.started()
    fake.cancel()
    assert bench.finish(Outcome(RunPhase.FAILED, "FlowFailed", "boom", retried=True))
    assert fake.status["phase"] == "Failed"


def test_a_large_end_is_told_first_and_small(bench: Bench, fake: FakeApi) -> None:
    bench.reporter._interval_seconds = 60
    bench.started()
    for number in range(900):
        bench.task(f"a-{number}", "Failed", "m" * 200)
    assert bench.finish(FAILED)
    first, second = fake.patches[-2:]
    assert (first["phase"], first["taskCounts"], "tasks" in first) == ("Failed", {"total": 900, "failed": 900}, False)
    assert set(second) == {"tasks"}
    assert len(fake.status["tasks"]) == 900


@pytest.mark.parametrize(
    ("case", "most", "rows"),
    [
        ("fewer rows fit", 100_000, 250),
        ("no rows fit", 10_000, 0),
        ("hardly anything fits", 700, 0),
    ],
)
@pytest.mark.parametrize("refusal", [(413, "too large"), (422, "too long"), (500, "etcdserver: request is too large")])
def test_a_status_too_large_loses_rows_and_never_the_end(
    bench: Bench, fake: FakeApi, *, case: str, most: int, rows: int, refusal: tuple[int, str]
) -> None:
    bench.started()
    fake.trouble = lambda method, path, body: refusal if len(str(body)) > most else None
    for number in range(1000):
        bench.task(f"a-{number}", "Failed", "m" * 100)
    assert bench.finish(FAILED)
    status = fake.status
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "FlowFailed", "ValueError: no")
    assert len(status.get("tasks", {})) == rows
    if most > 1000:
        assert status["taskCounts"]["failed"] == 1000
        assert status["truncatedTasks"] == 1000 - rows


def test_rows_that_were_folded_leave_the_status(bench: Bench, fake: FakeApi) -> None:
    bench.started()
    for number in range(1000):
        bench.task(f"a-{number}", "Completed")
    fake.until(lambda status: len(status.get("tasks", {})) == 1000)
    for number in range(30):
        bench.task(f"b-{number}", "Running")
    status = fake.until(lambda status: "b-29" in status["tasks"])
    assert (len(status["tasks"]), status["truncatedTasks"], status["progress"]) == (1000, 30, "1000/1030")
    assert bench.finish()
    assert fake.status["taskCounts"]["completed"] == 1000


def test_a_field_that_the_api_server_drops_is_not_sent_again_and_again(bench: Bench, fake: FakeApi) -> None:
    store = fake._store
    fake._store = lambda status: store({key: value for key, value in status.items() if key != "truncatedTasks"})
    bench.started()
    for number in range(3):
        bench.task(f"a-{number}", "Running")
        fake.until(lambda status, number=number: f"a-{number}" in status.get("tasks", {}))
    assert sum("truncatedTasks" in patch for patch in fake.patches) == 1
    assert bench.finish()


def test_the_flow_speaks_while_it_runs(bench: Bench, fake: FakeApi) -> None:
    bench.started()
    bench.reporter.flow_changed(RunPhase.RETRYING, "attempt 1 of 2 failed")
    status = fake.until(lambda status: "message" in status)
    assert (status["phase"], status["message"]) == ("Running", "attempt 1 of 2 failed"), "Retrying is another Job"
    bench.reporter.flow_changed(RunPhase.FAILED, "the end comes by finish")
    assert bench.finish(FAILED)
    assert fake.history == ["Running", "Failed"]


def test_a_flow_that_waits_for_a_person_shows_it(bench: Bench, fake: FakeApi) -> None:
    bench.started()
    bench.reporter.flow_changed(RunPhase.PAUSED, "Paused: say yes")
    status = fake.until(lambda status: status["phase"] == "Paused")
    assert (status["reason"], status["message"]) == ("WaitingForInput", "Paused: say yes")
    bench.reporter.flow_changed(RunPhase.RUNNING, "resumed")
    status = fake.until(lambda status: status["phase"] == "Running")
    assert (status["reason"], status["message"]) == ("Running", "resumed")
    assert bench.finish()
    assert fake.history == ["Running", "Paused", "Running", "Completed"]


def suspend(fake: FakeApi) -> None:
    with fake.lock:
        fake.run["spec"]["suspend"] = True
        fake.write(phase="Paused", reason="Suspending")


def test_a_suspended_run_tells_its_rows_and_no_end(bench: Bench, fake: FakeApi) -> None:
    bench.started()
    suspend(fake)
    bench.reporter.flow_changed(RunPhase.PAUSED, "the flow may wait as well: the phase is the operator's now")
    bench.task("a-0", "Completed")
    fake.until(lambda status: "a-0" in status.get("tasks", {}))
    assert not bench.finish(interrupted("SIGTERM"))
    assert (fake.status["phase"], fake.status["reason"]) == ("Paused", "Suspending")
    assert bench.lost == [], "SIGTERM ends the flow, with its grace"


def test_a_run_that_was_faster_than_its_suspension_has_ended(bench: Bench, fake: FakeApi) -> None:
    bench.started()
    suspend(fake)
    assert bench.finish(COMPLETED)
    assert fake.status["phase"] == "Completed"


def test_a_suspended_run_is_not_begun(bench: Bench, fake: FakeApi) -> None:
    suspend(fake)
    assert bench.greet() is Standing.SUSPEND
    assert fake.status["phase"] == "Paused"


def test_a_certificate_of_somebody_else_is_no_api_server(
    bench: Bench, identity: Path, certificate: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from unit.runner.fake_api import make_identity

    other = tmp_path / "other"
    other.mkdir()
    make_identity(other)
    (identity / "ca.crt").unlink()
    (identity / "ca.crt").symlink_to(other / "ca.crt")
    assert bench.greet(unreachable=0.1) is Standing.OURS
    assert "certificate" in caplog.text
    assert "ca.crt" in caplog.text


def test_an_identity_that_is_not_mounted_is_named(
    bench: Bench, identity: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (identity / "token").unlink()
    assert bench.greet(unreachable=0.1) is Standing.OURS
    assert f"{identity}/token is missing" in caplog.text


@pytest.mark.parametrize(
    ("failures", "luck", "seconds"),
    [(1, 0.0, 0.125), (1, 1.0, 0.25), (3, 1.0, 1.0), (6, 1.0, 8.0), (7, 1.0, 10.0), (999, 0.0, 5.0)],
)
def test_backoff(failures: int, luck: float, seconds: float) -> None:
    assert backoff_seconds(failures, luck) == seconds
