"""Transactions: what several tasks did becomes final together, or is undone together.

```
with transaction() as txn:          the tasks in the block are members, in the order in which they complete
    write(...); check(...)
        block ended well            on_commit hooks in order, then the results are written in order
        block raised                on_rollback hooks in reverse order, nothing is written
```

A transaction inside another one is a member of it: the outer one has the last word, unless the inner one is EAGER. A task
outside of any transaction commits at its own end. The hooks get the task's own transaction, whose `get` also sees what the
transactions around it hold.

The engine calls `current()` (is there anything to do?) and `completed(run, ...)` once for each completed task run.
"""

import logging
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextvars import ContextVar
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from levada._locks import FileLock
from levada._steps import Steps, run, run_async
from levada.context import FLOW_RUN, TASK_RUN
from levada.engine.tracebacks import summary, text
from levada.exceptions import OptionError, TransactionError
from levada.logging import LOGGER, emit

if TYPE_CHECKING:
    from levada.engine.taskrun import TaskRun
    from levada.results import ResultStore

M = TypeVar("M", bound=StrEnum)
Hook = Callable[["Transaction"], object]
_LOCK_POLL_SECONDS: Final = 0.02
_NOT_GIVEN: Final = object()
_TREE = threading.RLock()  # members are added from the threads of submitted tasks


class CommitMode(StrEnum):
    """When a transaction becomes final."""

    EAGER = "EAGER"  # at its own end, whatever becomes of those around it
    LAZY = "LAZY"  # with the outermost transaction around it
    OFF = "OFF"  # only by commit(), or with a transaction around it; else it is rolled back


class IsolationLevel(StrEnum):
    """What transactions with the same key may do at the same time."""

    READ_COMMITTED = "READ_COMMITTED"  # they run side by side, and see what is committed
    SERIALIZABLE = "SERIALIZABLE"  # one after the other, among all processes of this machine


class TransactionState(StrEnum):
    """Where a transaction stands."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    STAGED = "STAGED"
    COMMITTED = "COMMITTED"
    ROLLED_BACK = "ROLLED_BACK"


_ENDED: Final = frozenset({TransactionState.COMMITTED, TransactionState.ROLLED_BACK})
_CURRENT: ContextVar["Transaction | None"] = ContextVar("levada_transaction", default=None)


class Transaction:
    """A group of steps that are committed or rolled back as one, for the block of a `with` or an `async with`.

    Args:
        key: names its result. If there is one already, `txn.is_committed()` is true in the block.
        store: where the result lies; the run's own result store, unless given.
        commit_mode: LAZY (the default) commits with the outermost transaction, EAGER at its own end, OFF only when told.
        isolation_level: SERIALIZABLE lets only one transaction with this key run at a time on this machine.
        overwrite: do not look for an earlier result.
        write_on_commit: whether `txn.stage(value)` leaves a result in the store.
        logger: where it says what it does; the run's log, unless given.

    Raises:
        OptionError: an option cannot work.
        TransactionError: at the end of the block, if a commit hook or a write failed; everything is rolled back then.

    Attributes:
        key: see above; for a task run, the key of its result.
        value: what `stage` was given; for a task run, its result.
        state: where it stands.
        parent: the transaction around it.
        children: the transactions and task runs in it, in order.
        error: why it could not be committed.
    """

    def __init__(
        self,
        key: str | None = None,
        *,
        store: "ResultStore | None" = None,
        commit_mode: CommitMode | None = None,
        isolation_level: IsolationLevel | None = None,
        overwrite: bool = False,
        write_on_commit: bool = True,
        logger: "logging.Logger | logging.LoggerAdapter[Any] | None" = None,
    ) -> None:
        self.key = _key_of(key)
        self.store = store
        self.commit_mode = None if commit_mode is None else _member(CommitMode, commit_mode)
        self.isolation_level = _member(IsolationLevel, isolation_level or IsolationLevel.READ_COMMITTED)
        if self.isolation_level is IsolationLevel.SERIALIZABLE and self.key is None:
            raise OptionError(
                "transaction(isolation_level=SERIALIZABLE) needs a key: it keeps others with that key out"
            )
        self.overwrite = overwrite
        self.write_on_commit = write_on_commit
        self.logger = logger
        self.value: Any = None
        self.state = TransactionState.PENDING
        self.parent: Transaction | None = None
        self.children: list[Transaction] = []
        self.error: Exception | None = None
        self.on_commit_hooks: list[Hook] = []
        self.on_rollback_hooks: list[Hook] = []
        self._values: dict[str, Any] = {}
        self._write: Callable[[], object] | None = None
        self._undo: Callable[[], object] | None = None
        self._found = False  # somebody committed this key before
        self._opened_in: TaskRun | None = None
        self._owner: tuple[TaskRun, int] | None = None  # the try of a task run whose own transaction this is
        self._lock: FileLock | None = None

    # What user code asks and says.
    def set(self, name: str, value: Any) -> None:
        """Keep a value for the hooks, for the code in the block, and for the transactions inside."""
        if not isinstance(name, str):
            raise TransactionError(f"txn.set({name!r}, ...): the name must be a text")
        self._values[name] = value

    def get(self, name: str, default: Any = _NOT_GIVEN) -> Any:
        """A value that was kept here or in a transaction around this one; the innermost wins.

        Raises:
            TransactionError: nobody kept one, and no default was given.
        """
        known: set[str] = set()
        txn: Transaction | None = self
        while txn is not None:
            if name in txn._values:
                return txn._values[name]
            known.update(txn._values)
            txn = txn.parent
        if default is not _NOT_GIVEN:
            return default
        there = f"it holds {', '.join(map(repr, sorted(known)))}" if known else "it holds nothing"
        raise TransactionError(
            f"no value {name!r} in this transaction ({there}); give txn.get a default, or call txn.set first"
        )

    def stage(
        self,
        value: Any,
        on_rollback_hooks: Iterable[Hook] = (),
        on_commit_hooks: Iterable[Hook] = (),
    ) -> None:
        """Say what the result is. It is written when the transaction commits. Nothing happens if that was done before.

        Raises:
            TransactionError: the transaction has ended.
        """
        if self._found:
            return
        self._refuse_ended("stage")
        self.value = value
        self.on_rollback_hooks += on_rollback_hooks
        self.on_commit_hooks += on_commit_hooks
        if self.key is not None and self.write_on_commit:
            self._write = self._save
        self.state = TransactionState.STAGED

    def read(self) -> Any:
        """The result that stands under the key, staged here or committed before; None if there is none."""
        if self._write is not None or self.key is None:
            return self.value
        record = self._its_store().load(self.key)
        return None if record is None else record.value

    def commit(self) -> bool:
        """Make it final now.

        Returns:
            Whether it is final. False: it had ended, or a hook or a write failed; then it was rolled back.
        """
        return run(self._committing())

    def rollback(self) -> bool:
        """Undo it now, by its hooks and those of its members, the latest first. False: it had ended."""
        return run(self._rolling_back())

    def is_pending(self) -> bool:
        """Not begun."""
        return self.state is TransactionState.PENDING

    def is_active(self) -> bool:
        """Begun, nothing staged."""
        return self.state is TransactionState.ACTIVE

    def is_staged(self) -> bool:
        """It has its result and waits to be committed."""
        return self.state is TransactionState.STAGED

    def is_committed(self) -> bool:
        """Final; or its key was committed before, and the work need not be done again."""
        return self.state is TransactionState.COMMITTED or self._found

    def is_rolled_back(self) -> bool:
        """Undone."""
        return self.state is TransactionState.ROLLED_BACK

    # The block.
    def __enter__(self) -> Self:
        run(self._beginning())
        return self

    def __exit__(self, _type: object, error: BaseException | None, _tb: TracebackType | None) -> None:
        run(self._ending(error))

    async def __aenter__(self) -> Self:
        await run_async(self._beginning())
        return self

    async def __aexit__(self, _type: object, error: BaseException | None, _tb: TracebackType | None) -> None:
        await run_async(self._ending(error))

    def _beginning(self) -> Steps[None]:
        if self.state is not TransactionState.PENDING:
            raise TransactionError("this transaction was used before; make a new one with transaction()")
        self.parent = current()
        self._opened_in = TASK_RUN.get()
        if self.commit_mode is None:
            self.commit_mode = CommitMode.LAZY
        if self.isolation_level is IsolationLevel.SERIALIZABLE:
            assert self.key is not None, "checked when it was made"
            self._lock = _lock_of(self.key)
            while not self._lock.try_acquire():
                yield _LOCK_POLL_SECONDS
        if self.key is not None and not self.overwrite:
            self._found = self._its_store().load(self.key) is not None
        self.state = TransactionState.ACTIVE
        if self.parent is not None:
            with _TREE:
                self.parent.children.append(self)
        _CURRENT.set(self)

    def _ending(self, error: BaseException | None) -> Steps[None]:
        _CURRENT.set(self.parent)
        try:
            if error is not None:
                yield from self._rolling_back()
            elif self.commit_mode is CommitMode.EAGER or (
                self.parent is None and self.commit_mode is not CommitMode.OFF
            ):
                yield from self._committing_or_raising()
            elif self.parent is None:
                yield from self._rolling_back()
        finally:
            if self._lock is not None:
                self._lock.release()

    def _committing_or_raising(self) -> Steps[None]:
        if self.state in _ENDED:
            return  # the block called commit() or rollback() itself
        if not (yield from self._committing()):
            assert self.error is not None, "nothing else keeps it from being committed"
            raise TransactionError(f"the transaction was rolled back: {summary(self.error)}") from self.error

    # The two ends.
    def _committing(self) -> Steps[bool]:
        """Run the hooks in order, then write the results in order. If one fails, everything is rolled back."""
        if self.state in _ENDED:
            return False
        members = list(self._members())
        written: list[Transaction] = []
        try:
            for member in members:
                for hook in member.on_commit_hooks:
                    member._say(logging.INFO, f"Running commit hook {_name(hook)!r}")
                    yield from _calling(hook, member)
            for member in members:
                if member._write is not None:
                    member._write()
                    written.append(member)
        except Exception as error:  # noqa: BLE001  whatever it is, the transaction has not come about
            self.error = error
            self._say(logging.ERROR, f"The transaction cannot be committed and is rolled back\n{text(error)}")
            for member in reversed(written):
                member._take_back()
            yield from self._rolling_back()
            return False
        for member in members:
            member.state = TransactionState.COMMITTED
        return True

    def _rolling_back(self) -> Steps[bool]:
        """Run the rollback hooks, the latest first. One that fails is told, and the others run all the same."""
        if self.state in _ENDED:
            return False
        for member in reversed(list(self._members())):
            member.state = TransactionState.ROLLED_BACK
            for hook in reversed(member.on_rollback_hooks):
                member._say(logging.WARNING, f"Running rollback hook {_name(hook)!r}")
                try:
                    yield from _calling(hook, member)
                except Exception as error:  # noqa: BLE001  see above
                    member._say(logging.ERROR, f"Rollback hook {_name(hook)!r} failed\n{text(error)}")
        return True

    def _members(self) -> Iterator["Transaction"]:
        """Everything in it that has not ended, in order: what is inside comes before what is around."""
        with _TREE:
            children = list(self.children)
        for child in children:
            if child.state not in _ENDED:
                yield from child._members()
        yield self

    # Small things.
    def _refuse_ended(self, verb: str) -> None:
        if self.state in _ENDED:
            ended = self.state.value.lower().replace("_", " ")
            raise TransactionError(f"txn.{verb}: the transaction is {ended} already")

    def _save(self) -> None:
        assert self.key is not None, "only results with a key are written"
        self._undo = lambda: self._its_store().delete(self.key)
        self._its_store().save(self.key, self.value)

    def _take_back(self) -> None:
        """Remove a result that was written before another one could not be."""
        if self._undo is None:
            return
        try:
            self._undo()
        except Exception as error:  # noqa: BLE001  the first error is the one that counts
            self._say(logging.ERROR, f"The result {self.key!r} could not be removed again\n{text(error)}")

    def _its_store(self) -> "ResultStore":
        if self.store is None:
            from levada.results import get_result_store

            self.store = get_result_store()
        return self.store

    def _say(self, level: int, message: str) -> None:
        if self.logger is not None:
            self.logger.log(level, message)
            return
        around = self._owner[0] if self._owner is not None else TASK_RUN.get()
        flow_run = FLOW_RUN.get()
        emit(
            level, around.id if around is not None else flow_run.name if flow_run is not None else LOGGER.name, message
        )

    def __repr__(self) -> str:
        key = "" if self.key is None else f" {self.key!r}"
        return f"<Transaction{key}: {self.state.value}>"


# Both names, as Prefect has them: the same object serves `with` and `async with`.
transaction = Transaction
atransaction = transaction


def current() -> Transaction | None:
    """The innermost transaction around the caller."""
    txn, run_here = _CURRENT.get(), TASK_RUN.get()
    # The own transaction of a task run counts for this try of it alone; its code may have left it in the context.
    while txn is not None and txn._owner is not None and not _is_of(txn._owner, run_here):
        txn = txn.parent
    return txn


def get_transaction() -> Transaction | None:
    """The transaction around the caller; inside a task run, one of its own, which its hooks get as well.

    None outside of both.
    """
    around, run_here = current(), TASK_RUN.get()
    if run_here is None or (around is not None and around._opened_in is run_here):
        return around
    own = _of_run(run_here, around)
    _CURRENT.set(own)
    return own


def completed(
    task_run: "TaskRun",
    *,
    key: str | None = None,
    value: Any = None,
    write: Callable[[], object] | None = None,
    undo: Callable[[], object] | None = None,
    on_commit: Iterable[Hook] = (),
    on_rollback: Iterable[Hook] = (),
) -> bool:
    """For the engine: a task run has completed; commit it, or leave it to the transaction around it.

    To be called in the context in which the task's code ran, so that the hooks get what the code told `get_transaction()`.

    Args:
        task_run: the run.
        key: the key of its result in the store.
        value: its result.
        write: writes the result; called once, at the commit.
        undo: removes the result again, should a later write of the same transaction fail.
        on_commit: the task's hooks, in order.
        on_rollback: the task's hooks, in order; they run in reverse.

    Returns:
        Whether it is committed. False: that is still to come, or the transaction around it was rolled back meanwhile.

    Raises:
        Exception: what a commit hook or `write` raised, outside of any transaction. The run was rolled back, so it has failed.
    """
    own = _CURRENT.get()
    if own is None or own._owner is None or own._owner[0] is not task_run or own.state in _ENDED:
        own = _of_run(task_run, current())
    else:
        _CURRENT.set(own.parent)
    own.key, own.value, own._write, own._undo = key, value, write, undo
    own.on_commit_hooks += on_commit
    own.on_rollback_hooks += on_rollback
    own.state = TransactionState.STAGED
    around = own.parent
    if around is not None:
        with _TREE:
            if around.state not in _ENDED:
                around.children.append(own)
                return False
        if around.state is TransactionState.ROLLED_BACK:  # the run ended after its transaction did
            own.rollback()
            return False
    if not own.commit() and own.error is not None:
        raise own.error
    return True


def _of_run(task_run: "TaskRun", around: Transaction | None) -> Transaction:
    own = Transaction()
    own._owner = (task_run, task_run.position.attempt)
    own._opened_in = task_run
    own.parent = around
    own.state = TransactionState.ACTIVE
    return own


def _is_of(owner: "tuple[TaskRun, int]", task_run: "TaskRun | None") -> bool:
    return task_run is not None and owner[0] is task_run and owner[1] == task_run.position.attempt


def _calling(hook: Hook, txn: Transaction) -> Steps[None]:
    outcome = hook(txn)
    if isinstance(outcome, Awaitable):
        yield outcome


def _name(hook: Hook) -> str:
    name: str = getattr(hook, "__name__", type(hook).__name__)  # a partial or an object has none
    return name


def _key_of(key: object) -> str | None:
    if key is None or (isinstance(key, str) and key):
        return key
    raise OptionError(f"transaction(key={key!r}): the key must be a text that is not empty")


def _member(kind: type[M], value: str) -> M:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(f"{kind.__name__}.{member.name}" for member in kind)
        raise OptionError(f"transaction(...): {value!r} is no {kind.__name__}; there are {known}") from None


def _lock_of(key: str) -> FileLock:
    """The lock of a key: a file with a name of its own, whatever the key holds."""
    from hashlib import sha256

    from levada.settings import home

    return FileLock(home() / "locks" / sha256(key.encode()).hexdigest()[:40])
