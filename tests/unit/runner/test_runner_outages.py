"""`python -m levada.runner` as a process: signals and API servers that are away, hang or refuse."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from unit.runner.fake_api import FakeApi
from unit.runner.process import SLOW, SLOW_ASYNC, SLOW_SUBMITTED, Runner, states

Start = Callable[..., Runner]

# --- signals


@pytest.mark.parametrize("source", [SLOW, SLOW_ASYNC, SLOW_SUBMITTED], ids=["sync", "async", "submitted"])
def test_a_cancelled_run(fake: FakeApi, start: Start, source: str) -> None:
    runner = start(source)
    fake.until(lambda status: states(status).get("slow-0") == "Running")
    fake.cancel()
    runner.terminate()
    ended = runner.end()
    status = fake.status
    assert ended.code == 143
    assert (status["phase"], status["reason"], status["message"]) == (
        "Cancelled",
        "Cancelled",
        "terminated by SIGTERM",
    ), ended.log
    assert states(status) == {"quick-0": "Completed", "slow-0": "Cancelled"}
    assert (ended.words["phase"], ended.words["progress"]) == ("Cancelled", "2/2")
    assert "currentTask" not in status


@pytest.mark.parametrize("source", [SLOW, SLOW_ASYNC, SLOW_SUBMITTED], ids=["sync", "async", "submitted"])
def test_a_terminated_run_that_nobody_cancelled(fake: FakeApi, start: Start, source: str) -> None:
    runner = start(source)
    fake.until(lambda status: states(status).get("slow-0") == "Running")
    runner.terminate()
    ended = runner.end()
    status = fake.status
    assert ended.code == 143
    assert status["phase"] == "Running", "why it was terminated, only the operator knows"
    assert states(status) == {"quick-0": "Completed", "slow-0": "Cancelled"}
    assert (ended.words["phase"], ended.words["message"]) == ("Terminated", "terminated by SIGTERM")


def test_a_second_sigterm_does_not_interrupt_the_clean_up(fake: FakeApi, start: Start, tmp_path: Path) -> None:
    source = f"""
    import time
    from levada import flow, task

    @task
    def slow():
        try:
            time.sleep(60)
        finally:
            open({str(tmp_path / "cleaning")!r}, "w").close()
            time.sleep(0.5)
            open({str(tmp_path / "cleaned")!r}, "w").close()

    @flow
    def main():
        slow()
    """
    runner = start(source)
    fake.until(lambda status: states(status).get("slow-0") == "Running")
    fake.cancel()
    runner.terminate()
    while not (tmp_path / "cleaning").exists():
        time.sleep(0.01)
    runner.terminate()
    ended = runner.end()
    assert (tmp_path / "cleaned").exists()
    assert (fake.status["phase"], states(fake.status)) == ("Cancelled", {"slow-0": "Cancelled"}), ended.log


def test_a_signal_while_the_code_is_loaded(fake: FakeApi, start: Start) -> None:
    runner = start("import time; time.sleep(60)")
    fake.until(lambda status: status["phase"] == "Running")
    fake.cancel()
    time.sleep(0.05)
    runner.terminate()
    ended = runner.end()
    assert (fake.status["phase"], ended.words["phase"]) == ("Cancelled", "Cancelled"), ended.log


def test_a_flow_that_finishes_in_spite_of_the_signal_has_finished(fake: FakeApi, start: Start) -> None:
    source = """
    import time
    from levada import flow, task

    @task
    def slow():
        time.sleep(60)

    @flow
    def main():
        try:
            slow()
        except KeyboardInterrupt:
            return "in time"
    """
    runner = start(source)
    fake.until(lambda status: states(status).get("slow-0") == "Running")
    fake.cancel()
    runner.terminate()
    assert runner.end().code == 0
    assert (fake.status["phase"], fake.status["result"]) == ("Completed", '"in time"')


def test_a_run_that_is_cancelled_before_it_starts(fake: FakeApi, start: Start, tmp_path: Path) -> None:
    fake.cancel()
    ended = start(f"open({str(tmp_path / 'ran')!r}, 'w').close()").end()
    assert (ended.code, fake.status["phase"], ended.words["phase"]) == (143, "Cancelled", "Cancelled"), ended.log
    assert not (tmp_path / "ran").exists()


# --- the API server


def test_an_api_server_that_is_away_at_the_start(fake: FakeApi, start: Start, tmp_path: Path) -> None:
    fake.down()
    runner = start(SLOW.replace("time.sleep(60)", f"open({str(tmp_path / 'ran')!r}, 'w').close(); time.sleep(1)"))
    while not (tmp_path / "ran").exists():
        assert runner.process.poll() is None
        time.sleep(0.02)
    fake.up()
    ended = runner.end()
    assert ended.code == 0, ended.log
    assert fake.status["phase"] == "Completed"
    assert states(fake.status) == {"quick-0": "Completed", "slow-0": "Completed"}
    assert "cannot be reached" in ended.log


def test_an_api_server_that_is_away_at_the_end(fake: FakeApi, start: Start, tmp_path: Path) -> None:
    go = tmp_path / "go"
    wait = f"import pathlib\n        while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)"
    runner = start(SLOW.replace("time.sleep(60)", wait))
    fake.until(lambda status: states(status).get("slow-0") == "Running")
    fake.down()
    go.touch()
    while not runner.words.exists():
        time.sleep(0.02)
    time.sleep(0.05)
    assert json.loads(runner.words.read_text())["phase"] == "Completed", "the fallback is written before the report"
    fake.up()
    assert runner.end().code == 0
    assert fake.status["phase"] == "Completed"


def test_an_api_server_that_stays_away_does_not_outlast_the_grace_period(fake: FakeApi, start: Start) -> None:
    runner = start(SLOW, LEVADA_GRACE_SECONDS="2")
    fake.until(lambda status: states(status).get("slow-0") == "Running")
    fake.down()
    begin = time.monotonic()
    runner.terminate()
    ended = runner.end()
    assert time.monotonic() - begin < 2.0
    assert (ended.code, ended.words["phase"], ended.words["progress"]) == (143, "Terminated", "2/2")


def test_an_api_server_that_hangs_does_not_outlast_the_grace_period(fake: FakeApi, start: Start) -> None:
    runner = start(SLOW, LEVADA_GRACE_SECONDS="4")
    fake.until(lambda status: states(status).get("slow-0") == "Running")
    fake.trouble = lambda *_: time.sleep(5)
    begin = time.monotonic()
    runner.terminate()
    ended = runner.end()
    assert time.monotonic() - begin < 4.0
    assert ended.words["phase"] == "Terminated"


def test_a_report_that_hangs_does_not_outlast_the_grace_period(fake: FakeApi, start: Start) -> None:
    runner = start(SLOW.replace("quick()\n", "quick(); time.sleep(1.1); quick()\n"), LEVADA_GRACE_SECONDS="4")
    fake.until(lambda status: states(status).get("quick-0") == "Completed")
    asked = threading.Event()
    fake.trouble = lambda *_: asked.set() or time.sleep(8)
    assert asked.wait(10)
    begin = time.monotonic()
    runner.terminate()
    ended = runner.end()
    assert time.monotonic() - begin < 4.0
    assert ended.words["phase"] == "Terminated"


def test_a_deleted_run_stops_its_flow(fake: FakeApi, start: Start) -> None:
    runner = start(SLOW.replace("quick()\n", "quick(); time.sleep(1.5)\n"))
    fake.until(lambda status: states(status).get("quick-0") == "Completed")
    fake.deleted = True
    ended = runner.end()
    assert ended.code == 143
    assert "has been deleted" in ended.log
    assert (ended.words["phase"], ended.words["message"]) == ("Terminated", "FlowRun hello-1 has been deleted.")


def test_a_superseded_attempt_stops_its_flow(fake: FakeApi, start: Start) -> None:
    runner = start(SLOW)
    fake.until(lambda status: states(status).get("slow-0") == "Running")
    fake.write(phase="Crashed", reason="NodeLost", completionTime="2026-01-01T00:00:00Z")
    runner.terminate()
    ended = runner.end()
    assert (ended.code, fake.status["phase"], fake.status["reason"]) == (143, "Crashed", "NodeLost")
    assert states(fake.status)["slow-0"] == "Cancelled", "the rows of the tasks may still be completed"
    assert "already ended as Crashed" in ended.log


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ({"attempt": 2}, "attempt 2"),
        ({"podName": "hello-1-1-other"}, "hello-1-1-other"),
        ({"phase": "Failed"}, "already ended"),
    ],
)
def test_an_attempt_that_is_not_to_run_does_not_run(
    fake: FakeApi, start: Start, tmp_path: Path, status: dict, told: str
) -> None:
    fake.write(**status)
    before = fake.status
    ended = start(f"open({str(tmp_path / 'ran')!r}, 'w').close()").end()
    assert ended.code == 143
    assert told in ended.log
    assert (ended.words["phase"], told in ended.words["message"]) == ("Terminated", True)
    assert not (tmp_path / "ran").exists()
    assert fake.status == before
