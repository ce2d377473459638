# ruff: noqa: PT012  the whole block of a transaction is what raises
"""Transactions as a pure core: what runs when a block ends, in which order."""

import asyncio
import logging
import threading

import pytest

from levada.context import TASK_RUN
from levada.engine.machine import Position
from levada.exceptions import OptionError, TransactionError
from levada.resources.phases import TaskState
from levada.transactions import (
    CommitMode,
    IsolationLevel,
    TransactionState,
    atransaction,
    completed,
    current,
    get_transaction,
    transaction,
)


class BrokenError(Exception):
    pass


class Run:
    """As much of a task run as transactions look at."""

    def __init__(self, run_id="write-0", attempt=1):
        self.id = run_id
        self.position = Position(TaskState.RUNNING, attempt)


class Record:
    def __init__(self, value):
        self.value = value


class Store:
    def __init__(self, *, broken=()):
        self.kept = {}
        self.broken = broken

    def load(self, key):
        return Record(self.kept[key]) if key in self.kept else None

    def save(self, key, value):
        if key in self.broken:
            raise BrokenError(f"no room for {key}")
        self.kept[key] = value

    def delete(self, key):
        self.kept.pop(key, None)


@pytest.fixture
def log():
    return []


def step(log, name, *, commit_fails=False, rollback_fails=False, write_fails=False):
    """A completed task run whose hooks and write leave a trace."""

    def commit(txn):
        log.append(f"commit {name}")
        if commit_fails:
            raise BrokenError(name)

    def rollback(txn):
        log.append(f"rollback {name}")
        if rollback_fails:
            raise BrokenError(name)

    def write():
        if write_fails:
            raise BrokenError(name)
        log.append(f"write {name}")

    return completed(
        Run(name),
        key=name,
        value=name.upper(),
        write=write,
        undo=lambda: log.append(f"undo {name}"),
        on_commit=[commit],
        on_rollback=[rollback],
    )


def test_members_are_committed_in_order(log):
    with transaction() as txn:
        assert not step(log, "a")
        assert not step(log, "b")
        assert log == []
        assert txn.is_active()
    assert log == ["commit a", "commit b", "write a", "write b"]
    assert txn.is_committed()
    assert [child.value for child in txn.children] == ["A", "B"]


def test_members_are_rolled_back_in_reverse_order(log):
    with pytest.raises(BrokenError), transaction() as txn:
        step(log, "a")
        step(log, "b")
        raise BrokenError
    assert log == ["rollback b", "rollback a"]
    assert txn.is_rolled_back()


def test_an_interrupt_rolls_back_as_well(log):
    with pytest.raises(KeyboardInterrupt), transaction():
        step(log, "a")
        raise KeyboardInterrupt
    assert log == ["rollback a"]


def test_without_a_transaction_a_task_commits_at_once(log):
    assert step(log, "a")
    assert log == ["commit a", "write a"]


def test_the_outer_transaction_has_the_last_word(log):
    with pytest.raises(BrokenError), transaction():
        step(log, "a")
        with transaction() as inner:
            step(log, "b")
            step(log, "c")
            inner.stage(None, [lambda txn: log.append("rollback inner")], [lambda txn: log.append("commit inner")])
        assert inner.is_staged()
        step(log, "d")
        raise BrokenError
    assert log == ["rollback d", "rollback inner", "rollback c", "rollback b", "rollback a"]
    assert inner.is_rolled_back()


def test_nested_commit_goes_from_the_inside_out(log):
    with transaction() as outer:
        outer.stage(1, on_commit_hooks=[lambda txn: log.append("commit outer")])
        with transaction() as inner:
            inner.stage(2, on_commit_hooks=[lambda txn: log.append("commit inner")])
            step(log, "a")
    assert log == ["commit a", "commit inner", "commit outer", "write a"]


def test_a_failing_inner_block_can_be_survived(log):
    with transaction():
        step(log, "a")
        with pytest.raises(BrokenError), transaction():
            step(log, "b")
            raise BrokenError
        assert log == ["rollback b"]
        step(log, "c")
    assert log == ["rollback b", "commit a", "commit c", "write a", "write c"]


@pytest.mark.parametrize(
    ("case", "outer", "inner", "raises", "expected"),
    [
        ("lazy waits for the outer one", None, None, True, "ROLLED_BACK"),
        ("lazy is committed with the outer one", None, None, False, "COMMITTED"),
        ("eager stays, whatever comes", None, "EAGER", True, "COMMITTED"),
        ("off is left to the outer one", None, "OFF", False, "COMMITTED"),
        ("an outer one that is off is undone", "OFF", None, False, "ROLLED_BACK"),
        ("an eager outer one takes the inner one along", "EAGER", None, False, "COMMITTED"),
    ],
)
def test_commit_modes(case, outer, inner, raises, expected):
    kept = []
    try:
        with transaction(commit_mode=outer and CommitMode(outer)):
            with transaction(commit_mode=inner and CommitMode(inner)) as txn:
                kept.append(txn)
            if raises:
                raise BrokenError
    except BrokenError:
        pass
    assert kept[0].state == expected, case


def test_committing_by_hand(log):
    with transaction(commit_mode=CommitMode.OFF) as txn:
        step(log, "a")
        assert txn.commit()
        assert not txn.commit()
        assert not txn.rollback()
        step(log, "late")  # it is final, so what follows is so at once
        with pytest.raises(TransactionError, match=r"txn\.stage: the transaction is committed already"):
            txn.stage(1)
    assert log == ["commit a", "write a", "commit late", "write late"]


def test_rolling_back_by_hand(log):
    with transaction() as txn:
        step(log, "a")
        assert txn.rollback()
        step(log, "late")
        with pytest.raises(TransactionError, match="rolled back already"):
            txn.stage(1)
    assert log == ["rollback a", "rollback late"]


def test_a_commit_hook_that_fails_undoes_everything(log, caplog):
    with pytest.raises(TransactionError, match="was rolled back: BrokenError: b"), transaction() as txn:
        step(log, "a")
        step(log, "b", commit_fails=True)
        step(log, "c")
    assert log == ["commit a", "commit b", "rollback c", "rollback b", "rollback a"]
    assert txn.is_rolled_back()
    assert "BrokenError: b" in caplog.text


def test_a_write_that_fails_takes_the_others_back(log):
    with pytest.raises(TransactionError), transaction():
        step(log, "a")
        step(log, "b")
        step(log, "c", write_fails=True)
    assert log[3:] == ["write a", "write b", "undo b", "undo a", "rollback c", "rollback b", "rollback a"]


def test_a_task_outside_whose_commit_hook_fails_is_rolled_back(log, caplog):
    with pytest.raises(BrokenError):
        step(log, "a", commit_fails=True)
    assert log == ["commit a", "rollback a"]
    assert "BrokenError: a" in caplog.text


def test_a_rollback_hook_that_fails_does_not_stop_the_others(log, caplog):
    with pytest.raises(BrokenError, match="body"), transaction():
        step(log, "a")
        step(log, "b", rollback_fails=True)
        raise BrokenError("body")
    assert log == ["rollback b", "rollback a"]
    assert "Rollback hook 'rollback' failed" in caplog.text
    assert [record.levada_run for record in caplog.records if record.levelno == logging.ERROR] == ["b"]


def test_several_hooks_of_one_member(log):
    with pytest.raises(BrokenError), transaction() as txn:
        txn.stage(1, [lambda txn: log.append("first"), lambda txn: log.append("second")])
        raise BrokenError
    assert log == ["second", "first"]


def test_values_are_seen_from_inside():
    with transaction() as outer:
        outer.set("path", "a.txt")
        outer.set("n", 1)
        with transaction() as inner:
            inner.set("n", 2)
            assert (inner.get("path"), inner.get("n"), outer.get("n")) == ("a.txt", 2, 1)
            assert inner.get("nothing", None) is None
            with pytest.raises(
                TransactionError, match=r"no value 'pathh' in this transaction \(it holds 'n', 'path'\)"
            ):
                inner.get("pathh")
    with pytest.raises(TransactionError, match="it holds nothing"):
        transaction().get("x")
    with pytest.raises(TransactionError, match="the name must be a text"):
        outer.set(1, 2)


def test_hooks_see_what_is_around_their_task(log):
    with pytest.raises(BrokenError), transaction() as txn:
        txn.set("path", "side-effect.txt")
        completed(Run(), value=7, on_rollback=[lambda own: log.append((own.get("path"), own.value, own.parent))])
        raise BrokenError
    assert log == [("side-effect.txt", 7, txn)]


class InTask:
    """The surroundings of a task's code."""

    def __init__(self, run):
        self.run = run

    def __enter__(self):
        self.token = TASK_RUN.set(self.run)
        return self.run

    def __exit__(self, *_):
        TASK_RUN.reset(self.token)


def test_each_task_run_has_a_transaction_of_its_own(log):
    with pytest.raises(BrokenError), transaction() as txn:
        for name in ("a", "b"):
            run = Run(name)
            with InTask(run):
                own = get_transaction()
                assert own is get_transaction() is current()
                assert own.parent is txn
                own.set("path", f"{name}.txt")
            completed(run, on_rollback=[lambda own: log.append(own.get("path"))])
            assert current() is get_transaction() is txn
        raise BrokenError
    assert log == ["b.txt", "a.txt"]


def test_a_task_outside_of_any_transaction_has_its_own(log):
    run = Run()
    with InTask(run):
        get_transaction().set("path", "x")
    assert current() is None
    assert completed(run, on_commit=[lambda own: log.append(own.get("path"))])
    assert log == ["x"]
    assert get_transaction() is None


def test_a_new_try_starts_with_an_empty_transaction():
    run = Run()
    with InTask(run):
        get_transaction().set("path", "x")
        run.position = Position(TaskState.RUNNING, 2)
        assert current() is None
        assert get_transaction().get("path", None) is None


def test_a_transaction_inside_a_task_is_the_innermost_one():
    run = Run()
    with InTask(run):
        own = get_transaction()
        with transaction() as txn:
            assert get_transaction() is txn
            assert txn.parent is own
        assert get_transaction() is own


def test_tasks_in_other_threads_and_contexts_belong_to_it(log):
    from contextvars import copy_context

    with transaction() as txn:
        threads = [threading.Thread(target=copy_context().run, args=(step, log, f"t{n}")) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(child.key for child in txn.children) == [f"t{n}" for n in range(8)]
    assert len(log) == 16


def test_a_key_makes_the_work_be_done_once():
    store = Store()
    for turn in (1, 2):
        with transaction(key="k", store=store) as txn:
            assert txn.is_committed() is (turn == 2)
            if not txn.is_committed():
                assert txn.read() is None
                txn.stage("done")
                assert txn.read() == "done"
                assert store.kept == {}
            else:
                txn.stage("ignored")
        assert txn.read() == "done"
    assert store.kept == {"k": "done"}
    with transaction(key="k", store=store, overwrite=True) as txn:
        assert not txn.is_committed()
        txn.stage("again")
    assert store.kept == {"k": "again"}


def test_a_key_that_is_not_staged_or_not_written_leaves_nothing():
    store = Store()
    with transaction(key="k", store=store):
        pass
    with transaction(key="k", store=store, write_on_commit=False) as txn:
        txn.stage(1)
    assert store.kept == {}


def test_own_results_are_taken_back_too(caplog):
    store = Store(broken=("second",))
    with pytest.raises(TransactionError), transaction():
        for key in ("first", "second"):
            with transaction(key=key, store=store) as txn:
                txn.stage(1)
    assert store.kept == {}
    assert "no room for second" in caplog.text


def test_taking_back_may_fail_or_be_impossible(caplog):
    def fail():
        raise BrokenError("gone")

    with pytest.raises(TransactionError), transaction():
        completed(Run("a"), key="a", write=lambda: None, undo=fail)
        completed(Run("b"), key="b", write=lambda: None)
        completed(Run("c"), key="c", write=fail)
    assert "The result 'a' could not be removed again" in caplog.text


def test_the_result_store_of_the_run_is_used_by_default(tmp_path, monkeypatch):
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path))
    for turn in (1, 2):
        with transaction(key="k") as txn:
            assert txn.is_committed() is (turn == 2)
            txn.stage([1, 2])
    assert transaction(key="k").read() == [1, 2]


async def test_async_blocks_and_hooks(log):
    async def hook(txn):
        await asyncio.sleep(0)
        log.append(txn.value)

    async with transaction() as txn:
        txn.stage(1, on_commit_hooks=[hook])
    assert log == [1]
    with pytest.raises(BrokenError):
        async with atransaction() as txn:
            txn.stage(2, on_rollback_hooks=[hook])
            raise BrokenError
    assert log == [1, 2]

    async def failing(txn):
        await asyncio.sleep(0)
        raise BrokenError("async")

    with pytest.raises(TransactionError):
        async with transaction() as txn:
            txn.stage(3, on_commit_hooks=[failing], on_rollback_hooks=[hook])
    assert log == [1, 2, 3]
    with transaction() as txn:  # a sync block inside a running loop runs them too
        txn.stage(4, on_commit_hooks=[hook])
    assert log == [1, 2, 3, 4]


def test_async_hooks_of_a_sync_block(log):
    async def hook(txn):
        log.append(txn.value)

    async def failing(txn):
        raise BrokenError("async")

    with transaction() as txn:
        txn.stage(1, on_commit_hooks=[hook])
    with pytest.raises(TransactionError), transaction() as txn:
        txn.stage(2, on_commit_hooks=[failing], on_rollback_hooks=[hook])
    assert log == [1, 2]


async def test_parallel_coroutines_have_transactions_of_their_own(log):
    async def one(name):
        async with transaction() as txn:
            await asyncio.sleep(0)
            assert current() is txn
            step(log, name)
            await asyncio.sleep(0)

    await asyncio.gather(one("a"), one("b"))
    assert current() is None
    assert sorted(log) == ["commit a", "commit b", "write a", "write b"]


def test_serializable_transactions_wait_for_each_other(tmp_path, monkeypatch):
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path))
    store, inside, most = Store(), 0, 0

    def work():
        nonlocal inside, most
        with transaction(key="k", store=store, isolation_level=IsolationLevel.SERIALIZABLE) as txn:
            inside += 1
            most = max(most, inside)
            threading.Event().wait(0.01)
            if not txn.is_committed():
                txn.stage(threading.get_ident())
            inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert len(store.kept) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": 5}, "transaction(key=5): the key must be a text"),
        ({"key": ""}, "must be a text that is not empty"),
        ({"commit_mode": "SOMETIMES"}, "'SOMETIMES' is no CommitMode; there are CommitMode.EAGER, CommitMode.LAZY"),
        ({"isolation_level": "LOOSE"}, "'LOOSE' is no IsolationLevel"),
        ({"isolation_level": "SERIALIZABLE"}, "needs a key"),
    ],
)
def test_options_that_cannot_work(options, message):
    import re

    with pytest.raises(OptionError, match=re.escape(message)):
        transaction(**options)


def test_a_transaction_is_used_once():
    txn = transaction()
    assert txn.is_pending()
    assert repr(txn) == "<Transaction: PENDING>"
    with txn:
        pass
    with pytest.raises(TransactionError, match="was used before"), txn:
        pass
    assert repr(transaction(key="k")) == "<Transaction 'k': PENDING>"
    assert txn.state is TransactionState.COMMITTED


def test_a_logger_of_ones_own(caplog):
    logger = logging.getLogger("mine")
    with caplog.at_level("INFO"), pytest.raises(BrokenError), transaction(logger=logger) as txn:
        txn.stage(1, [print])
        raise BrokenError
    assert [(record.name, record.message) for record in caplog.records] == [("mine", "Running rollback hook 'print'")]
