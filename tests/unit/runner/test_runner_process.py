"""`python -m levada.runner` as a process: whatever the flow, the signals or the API server do, it ends as it should be told."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from unit.runner.fake_api import POD, FakeApi
from unit.runner.process import SLOW, TWO_TASKS, Runner, states

Start = Callable[..., Runner]


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
    assert ended.code == {"sys.exit in the flow": 3, "sys.exit in a submitted task": 4}.get(case, 1)
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
