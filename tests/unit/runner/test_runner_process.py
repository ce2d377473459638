"""`python -m levada.runner` as a process: whatever the flow, the signals or the API server do, it ends as it should be told."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from unit.runner.fake_api import POD, FakeApi
from unit.runner.process import Runner

Start = Callable[..., Runner]

TWO_TASKS = """
    from levada import flow, task

    @task
    def double(n):
        return 2 * n

    @flow
    def main(n: int = 1):
        return double(double(n))
"""
SLOW = """
    import time
    from levada import flow, task

    @task
    def quick():
        pass

    @task
    def slow():
        time.sleep(60)

    @flow
    def main():
        quick()
        slow()
"""
SLOW_ASYNC = """
    import asyncio
    from levada import flow, task

    @task
    async def quick():
        pass

    @task
    async def slow():
        await asyncio.sleep(60)

    @flow
    async def main():
        await quick()
        await slow()
"""
SLOW_SUBMITTED = """
    import time
    from levada import flow, task

    @task
    def quick():
        pass

    @task
    def slow():
        time.sleep(60)

    @flow
    def main():
        quick()
        slow.submit().result()
"""


def states(status: dict) -> dict[str, str]:
    return {task_id: row["state"] for task_id, row in status.get("tasks", {}).items()}


def test_a_run_that_completes(fake: FakeApi, start: Start) -> None:
    created = datetime.now(UTC) - timedelta(seconds=3)
    ended = start(TWO_TASKS, parameters={"n": 3}, LEVADA_CREATED_AT=created.isoformat()).end()
    status = fake.status
    assert ended.code == 0, ended.log
    assert fake.history == ["Running", "Completed"]
    assert (status["result"], status["progress"], status["podName"]) == ("12", "2/2", POD)
    assert states(status) == {"double-0": "Completed", "double-1": "Completed"}
    assert ended.words == {
        "levada": 1, "phase": "Completed", "reason": "Completed", "message": ended.words["message"], "result": "12", "progress": "2/2",
    }  # fmt: skip
    stages = status["stages"]
    assert 2.98 <= stages["waitSeconds"] < 10
    assert 0 < stages["importSeconds"] < 10
    assert 0 <= stages["userSeconds"] < stages["importSeconds"] + 5
    assert created < datetime.fromisoformat(status["startTime"]) < datetime.fromisoformat(status["completionTime"])
    assert len([call for call in fake.calls if call.method == "PATCH"]) == 2


def test_the_first_report_comes_before_the_code_is_loaded(fake: FakeApi, start: Start) -> None:
    runner = start("import time; time.sleep(30)")
    fake.until(lambda status: status["phase"] == "Running")
    runner.terminate()
    assert runner.end().code == 143


def test_progress_while_it_runs(fake: FakeApi, start: Start) -> None:
    runner = start(SLOW)
    status = fake.until(lambda status: status.get("currentTask") == "slow")
    assert (status["phase"], status["progress"]) == ("Running", "1/2")
    assert states(status) == {"quick-0": "Completed", "slow-0": "Running"}
    runner.terminate()
    runner.end()


@pytest.mark.parametrize(
    ("case", "source", "reason", "told", "logged"),
    [
        ("an exception", "@flow\ndef main():\n    raise ValueError('no trips')", "FlowFailed", "ValueError: no trips", "in main"),
        ("a task fails", "@task\ndef t():\n    1 / 0\n@flow\ndef main():\n    t()", "FlowFailed", "ZeroDivisionError", "in t"),
        ("a syntax error", "def main(:\n    pass", "SyntaxError", "flow.py, line 2: invalid syntax in `def main(:`", "SyntaxError"),
        ("a missing module", "import no_such_module\n", "ImportFailed", "flow.py, line 2 needs the module 'no_such_module'", "ModuleNotFoundError"),
        ("an error at import", "x = {}['k']", "ImportFailed", "flow.py, line 2 raised KeyError while it was imported: 'k'", "x = {}['k']"),
        ("no such function", "@flow\ndef other(): pass\n@flow\ndef more(): pass", "EntrypointNotFound", "flow.py has no flow `main`. Flows in this file: more, other.", ""),
        ("no flow at all", "", "EntrypointNotFound", "Flows in this file: none.", ""),
        ("not decorated", "def main(): pass", "EntrypointNotFound", "`main` in flow.py is a function, not a flow: decorate the function with @flow", ""),
        ("sys.exit in the flow", "import sys\n@flow\ndef main():\n    sys.exit(3)", "SystemExit", "sys.exit(3)", ""),
        ("sys.exit(0) in the flow", "import sys\n@flow\ndef main():\n    sys.exit(0)", "SystemExit", "sys.exit(0)", ""),
        ("sys.exit in a task", "import sys\n@task\ndef t():\n    sys.exit('bye')\n@flow\ndef main():\n    t()", "SystemExit", "sys.exit(bye)", ""),
        ("sys.exit in a submitted task", "import sys\n@task\ndef t():\n    sys.exit(4)\n@flow\ndef main():\n    t.submit().result()", "", "sys.exit(4)", ""),
        ("sys.exit at import", "import sys\nsys.exit(5)", "SystemExit", "flow.py, line 3 called sys.exit(5) while it was imported", ""),
        ("a parameter that does not fit", "@flow\ndef main(n: int = 1): pass", "InvalidParameters", "'n'", ""),
        ("memory", "@flow\ndef main():\n    raise MemoryError", "FlowFailed", "MemoryError", ""),
        ("recursion", "@flow\ndef main():\n    def f(): f()\n    f()", "FlowFailed", "RecursionError", ""),
    ],
)  # fmt: skip
def test_failures_are_named(
    fake: FakeApi, start: Start, *, case: str, source: str, reason: str, told: str, logged: str
) -> None:
    parameters = {"n": "many"} if "does not fit" in case else {}
    ended = start("from levada import flow, task\n" + source, parameters=parameters).end()
    status = fake.status
    assert ended.code == 1
    assert status["phase"] == "Failed", ended.log
    assert told in status["message"]
    assert status["reason"] == reason or not reason
    assert logged in ended.log
    assert told in ended.log
    assert (ended.words["phase"], ended.words["reason"], ended.words["message"]) == (
        "Failed",
        status["reason"],
        status["message"],
    )
    assert status["conditions"][0]["status"] == "False"
    assert "completionTime" in status
    assert set(states(status).values()) <= {"Failed"}


@pytest.mark.parametrize(
    ("case", "environment", "source", "reason", "told"),
    [
        ("no folder", {"LEVADA_CODE_DIR": "nowhere"}, "", "CodeNotFound", "There is no folder"),
        ("no file", {"LEVADA_ENTRYPOINT": "other.py:main"}, "", "CodeNotFound", "There is no other.py in"),
        ("what is there instead", {"LEVADA_ENTRYPOINT": "other.py:main"}, "", "CodeNotFound", "which holds flow.py."),
        (
            "no function named",
            {"LEVADA_ENTRYPOINT": "flow.py"},
            "",
            "EntrypointNotFound",
            "must look like `path.py:function`",
        ),
        ("not Python", {"LEVADA_ENTRYPOINT": "data.csv:main"}, "", "CodeNotFound", "data.csv is not a Python file"),
        (
            "no JSON",
            {"LEVADA_PARAMETERS": "{n: 1}"},
            TWO_TASKS,
            "InvalidParameters",
            "no JSON: Expecting property name",
        ),
        ("no object", {"LEVADA_PARAMETERS": "[1]"}, TWO_TASKS, "InvalidParameters", "not list"),
        ("unknown parameter", {"LEVADA_PARAMETERS": '{"m": 1}'}, TWO_TASKS, "InvalidParameters", "'m'"),
    ],
)
def test_what_was_ordered_wrongly_is_named(
    fake: FakeApi, start: Start, tmp_path: Path, *, case: str, environment: dict, source: str, reason: str, told: str
) -> None:
    if "csv" in str(environment):
        (tmp_path / "code").mkdir()
        (tmp_path / "code" / "data.csv").write_text("1,2")
    ended = start(source, **environment).end()
    assert (ended.code, fake.status["phase"], fake.status["reason"]) == (1, "Failed", reason), ended.log
    assert told in fake.status["message"]
    assert fake.history == ["Running", "Failed"]


def test_code_is_found_in_a_relative_folder_with_its_neighbours(fake: FakeApi, start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "code" / "etl"
    folder.mkdir(parents=True)
    (tmp_path / "code" / "shared.py").write_text("ONE = 1")
    (folder / "helpers.py").write_text("TWO = 2")
    (folder / "json.py").write_text(
        "from levada import flow\nfrom helpers import TWO\nfrom shared import ONE\n@flow\ndef main(): return ONE + TWO"
    )
    ended = start(None, "etl/json.py:main", LEVADA_CODE_DIR="code").end()
    assert (ended.code, fake.status["result"]) == (0, "3"), ended.log


def test_a_config_map_is_flat(fake: FakeApi, start: Start) -> None:
    ended = start(TWO_TASKS, "etl/flow.py:main").end()
    assert (ended.code, fake.status["result"]) == (0, "4"), ended.log


def test_an_error_in_a_module_beside_the_flow_names_that_module(fake: FakeApi, start: Start, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "helpers.py").write_text("\n\nimport no_such_module")
    start("from levada import flow\nimport helpers").end()
    assert fake.status["message"].startswith("helpers.py, line 3 needs the module 'no_such_module'")


def test_a_result_without_json_is_a_warning(fake: FakeApi, start: Start) -> None:
    ended = start("from levada import flow\n@flow\ndef main(): return {1, 2}").end()
    assert ended.code == 0
    assert (fake.status["phase"], fake.status["result"]) == ("Completed", "{1, 2}")
    assert "set has no JSON form" in fake.status["message"]
    assert "set has no JSON form" in ended.log


def test_a_flow_that_takes_too_long(fake: FakeApi, start: Start) -> None:
    source = SLOW.replace("@flow", "@flow(timeout_seconds=0.2)")
    ended = start(source).end()
    assert ended.code == 1
    assert (fake.status["phase"], fake.status["reason"]) == ("TimedOut", "TimedOut")
    assert "200 ms" in fake.status["message"]


@pytest.mark.parametrize(("left", "phase"), [("0", "Failed"), ("1", "Retrying")])
def test_a_failure_with_a_retry_left(fake: FakeApi, start: Start, left: str, phase: str) -> None:
    ended = start("from levada import flow\n@flow\ndef main(): raise OSError('busy')", LEVADA_RETRIES_LEFT=left).end()
    assert (ended.code, fake.status["phase"], fake.status["message"], ended.words["phase"]) == (
        1,
        phase,
        "OSError: busy",
        phase,
    )


def test_code_that_does_not_load_is_not_retried(fake: FakeApi, start: Start) -> None:
    start("def", LEVADA_RETRIES_LEFT="3").end()
    assert (fake.status["phase"], fake.status["reason"]) == ("Failed", "SyntaxError")


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


# --- the process


def test_threads_that_a_flow_left_behind_do_not_keep_its_pod_alive(fake: FakeApi, start: Start) -> None:
    source = """
    import threading, time
    from levada import flow

    @flow
    def main():
        threading.Thread(target=time.sleep, args=(60,), name="leftover").start()
        return 1
    """
    ended = start(source).end(seconds=20)
    assert ended.code == 0
    assert fake.status["phase"] == "Completed"
    assert "leftover" in ended.log


def test_every_line_is_in_the_log_at_once(fake: FakeApi, start: Start) -> None:
    runner = start(SLOW.replace("quick()\n", "print('here I am')\n"))
    assert runner.process.stdout
    lines = iter(runner.process.stdout.readline, "")
    assert any("here I am" in line for line in lines)
    runner.terminate()


def test_a_flow_may_spawn_processes(fake: FakeApi, start: Start) -> None:
    source = """
    import multiprocessing
    from levada import flow

    def square(n):
        return n * n

    @flow
    def main():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.map(square, [1, 2, 3])
    """
    ended = start(source).end()
    assert (ended.code, fake.status.get("result")) == (0, "[1, 4, 9]"), ended.log


def test_processes_that_a_flow_forked_end_without_a_word(fake: FakeApi, start: Start) -> None:
    source = """
    import os, signal, time
    from levada import flow

    @flow
    def main():
        child = os.fork()
        if child == 0:
            time.sleep(60)
        time.sleep(0.1)
        os.kill(child, signal.SIGTERM)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    """
    ended = start(source).end()
    assert (ended.code, fake.status.get("result")) == (0, "-15"), ended.log
    assert "Traceback" not in ended.log


def test_without_its_environment_it_says_so(tmp_path: Path) -> None:
    words = tmp_path / "words"
    done = subprocess.run(
        [sys.executable, "-m", "levada.runner"],
        env={"PYTHONPATH": str(Path(__file__).parents[3] / "operator"), "LEVADA_TERMINATION_LOG": str(words)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "LEVADA_RUN" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(words.read_text())["reason"] == "BadEnvironment"


def test_it_starts_light(fake: FakeApi, start: Start) -> None:
    """Neither the operator's side nor pydantic, unless a parameter has to be converted."""
    source = """
    import sys
    from levada import flow, task

    @task
    def loaded():
        heavy = ("pydantic", "aiohttp", "kubernetes", "kopf", "requests", "typer", "rich", "yaml", "asyncio", "pandas")
        return sorted(set(heavy) & set(sys.modules))

    @flow
    def main():
        return loaded()
    """
    ended = start(source).end()
    assert (ended.code, fake.status["result"]) == (0, "[]"), ended.log
