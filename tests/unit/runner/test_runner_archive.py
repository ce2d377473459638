"""A run's log, rows and record in a storage: they outlive the process, however it ends, and the pod's log loses nothing."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from levada.archive.reader import Archive
from support.processes import is_running, until
from unit.runner.fake_api import FakeApi
from unit.runner.process import SLOW, TWO_TASKS, Runner

Start = Callable[..., Runner]
UID = "0123456789abcdef"
FOLDER = "runs/team/hello-1-01234567"


@pytest.fixture
def kept(tmp_path: Path, fake: FakeApi) -> Archive:
    fake.run["metadata"]["uid"] = UID
    return Archive.of(f"file://{tmp_path}/kept")


@pytest.fixture
def begin(start: Start, kept: Archive, tmp_path: Path) -> Start:
    def go(source: str, **more: object) -> Runner:
        return start(source, **{"LEVADA_STORAGE": f"file://{tmp_path}/kept", "LEVADA_RUN_UID": UID, **more})

    return go


def test_log_rows_and_record_of_a_run_that_completes(fake: FakeApi, begin: Start, kept: Archive) -> None:
    ended = begin(TWO_TASKS, parameters={"n": 3}).end()
    assert ended.code == 0, ended.log
    record = kept.record(FOLDER)
    assert (record.complete, record.written_by, record.entry.phase, record.entry.deployment) == (
        True,
        "runner",
        "Completed",
        "hello",
    )
    assert record.run["status"] == {name: value for name, value in fake.status.items() if name != "tasks"}
    assert {row: state["state"] for row, state in kept.tasks(FOLDER).items()} == {
        "double-0": "Completed",
        "double-1": "Completed",
    }
    assert kept.log(FOLDER).data.decode() == ended.log
    assert record.log_bytes == len(ended.log.encode())
    assert fake.status["archive"]["path"] == FOLDER


OUTPUT = """
    import os, subprocess, sys
    from levada import flow, get_run_logger

    @flow
    def main():
        print("by print")
        subprocess.run(["echo", "by a child"])
        get_run_logger().info("by the logger")
        os.write(1, b"by C, more or less\\n")
        print("on stderr", file=sys.stderr)
        print("without an end", end="")
"""  # fmt: skip


def test_all_output_is_archived_in_the_order_of_the_pods_log(begin: Start, kept: Archive) -> None:
    ended = begin(OUTPUT).end()
    archived = kept.log(FOLDER).data.decode()
    assert archived == ended.log
    wanted = ["by print", "by a child", "by the logger", "by C, more or less", "on stderr", "without an end"]
    assert sorted(wanted, key=archived.index) == wanted


@pytest.mark.parametrize(
    ("case", "line", "code"),
    [
        ("os._exit", "os._exit(7)", 7),
        ("killed", "os.kill(os.getpid(), 9)", -9),
        ("segmentation fault", "import ctypes; ctypes.string_at(0)", -11),
    ],
)
def test_the_last_words_of_a_process_that_dies(case: str, line: str, code: int, begin: Start, kept: Archive) -> None:
    ended = begin(f"""
        import os
        from levada import flow

        @flow
        def main():
            print("last words")
            {line}
    """).end()
    assert ended.code == code
    assert "last words" in ended.log
    assert kept.log(FOLDER).data.decode() == ended.log
    assert ("Segmentation fault" in ended.log) == (code == -11)
    assert kept.record(FOLDER) is None


def test_a_run_that_is_stopped_archives_its_log_within_the_grace(fake: FakeApi, begin: Start, kept: Archive) -> None:
    runner = begin(SLOW)
    fake.until(lambda status: status.get("currentTask") == "slow")
    runner.terminate()
    ended = runner.end()
    assert ended.code == 143
    assert kept.log(FOLDER).data.decode() == ended.log
    assert kept.record(FOLDER) is None, "whether it was cancelled or lost is the operator's to say"
    assert set(kept.tasks(FOLDER)) == {"quick-0", "slow-0"}


def test_a_cancelled_run_has_a_complete_record(fake: FakeApi, begin: Start, kept: Archive) -> None:
    runner = begin(SLOW)
    fake.until(lambda status: status.get("currentTask") == "slow")
    fake.cancel()
    runner.terminate()
    runner.end()
    record = kept.record(FOLDER)
    assert (record.complete, record.entry.phase) == (True, "Cancelled")


def test_a_storage_that_is_away_holds_nothing_up(fake: FakeApi, begin: Start, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file where the folder should be")
    ended = begin(TWO_TASKS, LEVADA_GRACE_SECONDS="3").end()
    assert ended.code == 0
    assert fake.history == ["Running", "Completed"]
    assert "is not archived" in ended.log
    assert "archive is not complete" in ended.log


def test_a_storage_that_means_nothing(fake: FakeApi, begin: Start) -> None:
    ended = begin(TWO_TASKS, LEVADA_STORAGE="s3:///no-bucket").end()
    assert ended.code == 0
    assert "Nothing of this run is archived" in ended.log


def test_a_storage_that_comes_back_gets_everything(begin: Start, kept: Archive, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file where the folder should be")
    ended = begin(f"""
        import time
        from pathlib import Path
        from levada import flow

        @flow
        def main():
            for number in range(2000):
                print("line", number, "x" * 200)
            time.sleep(1)
            Path({str(tmp_path / "kept")!r}).unlink()
    """).end()
    assert kept.log(FOLDER).data.decode() == ended.log


def test_secrets_are_masked_in_the_archive(begin: Start, kept: Archive) -> None:
    begin(
        """
        from levada import flow

        @flow
        def main(token: str = ""):
            print("the token is hunter2-hunter2")
    """,
        parameters={"token": "hunter2-hunter2"},
        BLOCK_SECRET__PASS__WORD="hunter2-hunter2",
    ).end()
    everything = b"".join(path.read_bytes() for path in Path(kept.storage.folder).rglob("*") if path.is_file())
    assert b"the token is" in everything
    assert b"hunter2" not in everything


def test_artifacts_are_archived(begin: Start, kept: Archive, tmp_path: Path) -> None:
    begin("""
        from levada import flow
        from levada.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact

        @flow
        def main():
            create_markdown_artifact("# Report", key="report")
            update_progress_artifact(create_progress_artifact(10.0, key="way"), 90.0)
    """).end()
    shown = {row["key"]: row["data"] for row in kept.artifacts(FOLDER)}
    assert shown == {"report": "# Report", "way": 90.0}


def test_rows_that_the_status_folded_away_are_archived(fake: FakeApi, begin: Start, kept: Archive) -> None:
    ended = begin(
        """
        from levada import flow, task

        @task
        def one(n):
            return n

        @flow
        def main():
            for n in range(1500):
                one(n)
    """,
        LEVADA_LOGGING_LEVEL="WARNING",
    ).end(60)
    assert ended.code == 0, ended.log
    assert len(fake.status["tasks"]) <= 1000
    assert fake.status["taskCounts"]["completed"] == 1500
    rows = kept.tasks(FOLDER)
    assert len(rows) == 1500
    assert {row["state"] for row in rows.values()} == {"Completed"}


def test_no_keeper_without_a_storage(fake: FakeApi, start: Start) -> None:
    ended = start("""
        import os
        from levada import flow

        @flow
        def main():
            print("threads:", open(f"/proc/{os.getppid()}/cmdline").read().count("levada.runner"))
    """).end()
    assert "threads: 0" in ended.log


def test_the_process_does_not_outlive_its_keeper(fake: FakeApi, begin: Start) -> None:
    runner = begin(SLOW)
    fake.until(lambda status: status.get("currentTask") == "slow")
    (child,) = _children(runner.process.pid)
    os.kill(runner.process.pid, signal.SIGKILL)
    runner.process.wait(10)
    runner.process.stdout.read()  # ends when nobody has the pipe any more: the process is ending, or has ended
    until(lambda: not is_running(child))


def _children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
