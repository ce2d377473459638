"""Transactions around real tasks."""

import asyncio

import pytest

from levada import flow, task
from levada.exceptions import SerializationError, TransactionError
from levada.results import store_of
from levada.testing import FakeClock, run_and_record
from levada.transactions import CommitMode, get_transaction, transaction


class BadDataError(Exception):
    pass


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def log():
    return []


@pytest.fixture
def write(log, tmp_path):
    @task(persist_result=True, result_storage_key="{parameters[name]}")
    def write(name, text="x"):
        path = tmp_path / name
        path.write_text(text)
        get_transaction().set("path", path)
        return text

    @write.on_rollback
    def remove(txn):
        log.append(f"remove {txn.get('path').name}")
        txn.get("path").unlink()

    @write.on_commit
    def publish(txn):
        log.append(f"publish {txn.get('path').name}")

    return write


@pytest.mark.parametrize("submitted", [False, True])
def test_a_failing_check_undoes_what_was_written(write, log, tmp_path, submitted):
    @task
    def check():
        raise BadDataError("no")

    @flow
    def pipeline():
        with transaction():
            for name in ("a", "b"):
                write.submit(name).result() if submitted else write(name)
            check()

    with pytest.raises(BadDataError):
        pipeline()
    assert log == ["remove b", "remove a"]
    assert not (tmp_path / "a").exists()
    assert not store_of().exists("a")


@pytest.mark.parametrize("submitted", [False, True])
def test_what_is_good_is_published_at_the_end(write, log, tmp_path, submitted):
    @flow
    def pipeline():
        with transaction():
            for name in ("a", "b"):
                write.submit(name).result() if submitted else write(name)
            assert log == []
            assert not store_of().exists("a")

    pipeline()
    assert log == ["publish a", "publish b"]
    assert store_of().load("a").value == "x"


def test_a_task_on_its_own_commits_at_once(write, log):
    @flow
    def pipeline():
        write("a")
        assert log == ["publish a"]

    pipeline()
    assert store_of().exists("a")


def test_a_recalled_result_is_not_undone(write, log, tmp_path):
    """What an earlier run did is not this transaction's to take back."""

    @flow
    def pipeline(fails):
        with transaction():
            write("a")
            if fails:
                raise BadDataError

    pipeline(fails=False)
    with pytest.raises(BadDataError):
        pipeline(fails=True)
    assert (tmp_path / "a").exists()
    assert "remove a" not in log


def test_a_failed_try_has_no_part_in_it(log):
    @task(retries=1, retry_delay_seconds=10)
    def flaky():
        txn = get_transaction()
        assert txn.get("try", None) is None
        txn.set("try", 1)
        log.append("try")
        if len(log) == 1:
            raise BadDataError

    @flaky.on_rollback
    def undo(txn):
        log.append("undo")

    @flow
    def pipeline():
        with transaction():
            flaky()
            raise BadDataError("body")

    with FakeClock():
        record = run_and_record(pipeline)
    assert record.state.message == "BadDataError: body"
    assert log == ["try", "try", "undo"]


def test_a_failed_task_is_not_undone(log):
    @task
    def fails():
        raise BadDataError

    @fails.on_rollback
    def undo(txn):
        log.append("undo")

    @flow
    def pipeline():
        with transaction():
            fails()

    with pytest.raises(BadDataError):
        pipeline()
    assert log == []


async def test_async_tasks_side_by_side(log):
    @task
    async def work(name):
        await asyncio.sleep(0.001 * len(log))
        get_transaction().set("name", name)

    @work.on_rollback
    async def undo(txn):
        await asyncio.sleep(0)
        log.append(txn.get("name"))

    @flow
    async def pipeline():
        async with transaction():
            await asyncio.gather(*(work(name) for name in "abc"))
            raise BadDataError

    with pytest.raises(BadDataError):
        await pipeline()
    assert sorted(log) == ["a", "b", "c"]


def test_a_commit_hook_that_fails_fails_the_flow(write, log, tmp_path):
    @task
    def announce():
        pass

    @announce.on_commit
    def fail(txn):
        raise BadDataError

    @flow
    def pipeline():
        with transaction():
            write("a")
            announce()

    with pytest.raises(TransactionError):
        pipeline()
    assert log == ["publish a", "remove a"]
    assert not (tmp_path / "a").exists()
    assert not store_of().exists("a")


def test_a_task_whose_commit_fails_has_failed(log):
    @task(retries=1)
    def work():
        pass

    @work.on_commit
    def fail(txn):
        log.append("commit")
        if len(log) == 1:
            raise BadDataError("not published")

    @work.on_rollback
    def undo(txn):
        log.append("undo")

    @flow
    def pipeline():
        work()

    record = run_and_record(pipeline)
    assert record.tasks["work-0"].history == ["Running", "Retrying", "Running", "Completed"]
    assert log == ["commit", "undo", "commit"]


def test_a_result_that_cannot_be_kept_fails_the_task(log):
    @task(persist_result=True, result_serializer="json")
    def work():
        return object()

    @work.on_rollback
    def undo(txn):
        log.append("undo")

    @flow
    def alone():
        work()

    @flow
    def together():
        with transaction():
            work()

    with pytest.raises(SerializationError):
        alone()
    with pytest.raises(TransactionError, match="SerializationError"):
        together()
    assert log == ["undo", "undo"]


def test_a_subflow_takes_part(write, log):
    @flow
    def inner():
        write("a")

    @flow
    def outer():
        with transaction():
            inner()
            raise BadDataError

    with pytest.raises(BadDataError):
        outer()
    assert log == ["remove a"]


def test_a_task_with_a_transaction_of_its_own(log):
    @task
    def work():
        with transaction(commit_mode=CommitMode.EAGER) as txn:
            txn.stage(1, on_commit_hooks=[lambda txn: log.append("inner")])

    @work.on_commit
    def after(txn):
        log.append("outer")

    @flow
    def pipeline():
        with transaction():
            work()
            log.append("body")

    pipeline()
    assert log == ["inner", "body", "outer"]


def test_the_hooks_run_with_the_name_of_their_task(write, caplog):
    @flow
    def pipeline():
        with transaction():
            write("a")
            raise BadDataError

    with pytest.raises(BadDataError):
        pipeline()
    told = [(r.levada_run, r.message) for r in caplog.records if "hook" in r.message]
    assert told == [("write-0", "Running rollback hook 'remove'")]
