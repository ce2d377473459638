"""How many at a time, and how many a second: limits that all processes of this machine keep together.

```
set_limit("database", 3)                                 at most three at a time
set_limit("api", 10, slot_decay_per_second=2)            two a second, ten at once after a pause

with concurrency("database"): ...                        async with works as well
rate_limit("api")                                        await arate_limit("api")
```

A name without a limit never waits. Slots are given in the order of asking, and those of a process that was killed are free at
once. Limits and queues are files below `LEVADA_HOME`.

In a run's pod the limits are the cluster's: a ConcurrencyLimit of this name, over all runs of the namespace. Where there is none,
one that the flow has set itself counts, for its own processes.
"""

import json
import os
import re
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from levada import settings
from levada._locks import FileLock
from levada._slots import NoRoom, Slots, used_slots
from levada._steps import Steps, run, run_async
from levada.context import FLOW_RUN, TASK_RUN
from levada.engine import clock
from levada.engine.timeout import seconds_text
from levada.exceptions import ConcurrencyTimeout, OptionError
from levada.storage.local import LocalStorage

__all__ = ["Limit", "arate_limit", "concurrency", "get_limit", "limits", "rate_limit", "remove_limit", "set_limit"]

_FOLDER: Final = "concurrency"
_LONGEST_NAME: Final = 80
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_SECONDS_A_RETRY: Final = 1.0
_LOCK_POLL_SECONDS: Final = 0.001
_TURNS_BYTES: Final = 64
_FIRST_POLL_SECONDS: Final = 0.002
_LONGEST_POLL_SECONDS: Final = 0.05
_ANSWER_SECONDS: Final = 1.0


class Limit(NamedTuple):
    """One limit.

    Attributes:
        limit: how many slots there are.
        slot_decay_per_second: for `rate_limit`: how many slots come back each second; 0: none.
        active_slots: how many are taken now by `concurrency`.
    """

    limit: int
    slot_decay_per_second: float = 0.0
    active_slots: int = 0


# Limits.
def set_limit(name: str, limit: int, *, slot_decay_per_second: float = 0.0) -> None:
    """Set or change a limit for this machine. Those who hold slots keep them; those who wait go by the new limit.

    Args:
        name: what `concurrency` and `rate_limit` are called with.
        limit: how many at a time; for `rate_limit`, how many at once after a pause.
        slot_decay_per_second: for `rate_limit`: how many a second.

    Raises:
        OptionError: a value cannot work.
    """
    _check_name(name)
    _check_count(limit, f"set_limit({name!r}, {limit!r})", "the limit")
    decay = slot_decay_per_second
    if isinstance(decay, bool) or not isinstance(decay, (int, float)) or not 0 <= decay < float("inf"):
        raise OptionError(f"set_limit({name!r}): slot_decay_per_second={decay!r} must be a number, 0 or more")
    document = {"limit": limit, "slot_decay_per_second": decay}
    LocalStorage(settings.home()).write(f"{_key(name)}/limit.json", json.dumps(document).encode())


def get_limit(name: str) -> Limit | None:
    """A limit as it stands now; None: there is none.

    Raises:
        OptionError: the name is no text, or the file that says the limit is damaged.
    """
    found = _limit_of(name)
    return None if found is None else found._replace(active_slots=used_slots(_folder(name)))


def remove_limit(name: str) -> bool:
    """Remove a limit: nobody waits for it any more. Whether there was one."""
    _check_name(name)
    storage, key = LocalStorage(settings.home()), f"{_key(name)}/limit.json"
    existed = storage.exists(key)
    storage.delete(key)
    return existed


def limits() -> dict[str, Limit]:
    """All limits of this machine, by name."""
    keys = LocalStorage(settings.home()).list(f"{_FOLDER}/")
    names = [_name_of(key) for key in keys if key.endswith("/limit.json")]
    return {name: limit for name in sorted(names) if (limit := get_limit(name)) is not None}


def _limit_of(name: str) -> Limit | None:
    _check_name(name)
    try:
        data = LocalStorage(settings.home()).read(f"{_key(name)}/limit.json")
    except KeyError:
        return None
    try:
        document = json.loads(data)
        return Limit(int(document["limit"]), float(document["slot_decay_per_second"]))
    except (ValueError, KeyError, TypeError) as error:
        raise OptionError(f"the limit {name!r} cannot be read ({error!r}); set it again with set_limit") from error


# So many at a time.
class concurrency:  # noqa: N801  reads as a function, as in Prefect
    """Take slots for the block of a `with` or an `async with`, and wait until they are free.

    Args:
        names: one limit, or several; all of them are taken.
        occupy: how many slots of each.
        timeout_seconds: how long to wait at most; None: for ever.
        max_retries: another way to say it: about so many seconds. 0: do not wait at all.
        lease_duration: accepted for Prefect's sake; a slot here ends with its process, so it needs no lease.
        strict: raise if there is no such limit, instead of not waiting.
        holder: who to name to those who wait in vain; the run, unless given.
        raise_on_lease_renewal_failure: accepted for Prefect's sake, as lease_duration.

    Raises:
        OptionError: an option cannot work, more slots are wanted than there are, or `strict` and no limit.
        ConcurrencyTimeout: the slots were not free in time.
    """

    def __init__(
        self,
        names: str | Iterable[str] | None,
        occupy: int = 1,
        timeout_seconds: float | None = None,
        max_retries: int | None = None,
        lease_duration: float = 300,
        *,
        strict: bool = False,
        holder: Any = None,
        raise_on_lease_renewal_failure: bool | None = None,
    ) -> None:
        self._names = _names_of(names)
        _check_count(occupy, f"concurrency({names!r}, occupy={occupy!r})", "occupy")
        self._occupy = occupy
        self._timeout_seconds = _patience(timeout_seconds, max_retries)
        self._strict = strict
        self._holder = holder
        self._held: list[list[_Releasable]] = []

    def __enter__(self) -> None:
        self._held.append(run(self._taking()))

    def __exit__(self, *_: object) -> None:
        _give_back(self._held.pop())

    async def __aenter__(self) -> None:
        self._held.append(await run_async(self._taking()))

    async def __aexit__(self, *_: object) -> None:
        _give_back(self._held.pop())

    def _taking(self) -> "Steps[list[_Releasable]]":
        patience = self._timeout_seconds
        deadline = None if patience is None else time.monotonic() + patience
        owner = f"{self._holder or _asker()} (pid {os.getpid()})"
        cluster = _cluster()
        held: list[_Releasable] = []
        try:
            for name in self._names:  # in the same order for everybody, so that nobody waits in a circle
                if cluster is not None:
                    ask = cluster.ask(name, self._occupy, str(self._holder or _asker()))
                    held.append(ask)
                    if (yield from _granted(ask, name, self._timeout_seconds, deadline)):
                        continue
                if not _there(name, self._strict):
                    continue
                slots = Slots(_folder(name), self._occupy, owner)
                held.append(slots)
                yield from self._waiting(name, slots, deadline)
        except BaseException:
            _give_back(held)
            raise
        return held

    def _waiting(self, name: str, slots: Slots, deadline: float | None) -> Steps[None]:
        def total() -> int | None:
            limit = _limit_of(name)
            if limit is None:
                return None
            _check_fits(f"concurrency({name!r})", limit, self._occupy)
            return limit.limit

        try:
            yield from slots.taking(total, deadline)
        except NoRoom as full:
            raise _too_late(name, self._occupy, self._timeout_seconds, full.holders) from None


def _too_late(name: str, occupy: int, patience: float | None, holders: list[str]) -> ConcurrencyTimeout:
    taken = f": {', '.join(holders)}" if holders else ""
    wanted = "no slot" if occupy == 1 else f"no {occupy} slots"
    return ConcurrencyTimeout(f"{wanted} of {name!r} came free within {seconds_text(patience or 0)}{taken}")


# In a run's pod the limits are the cluster's.
class _Releasable(Protocol):
    def release(self) -> None: ...


class _Ask(_Releasable, Protocol):
    """Slots of the cluster that were asked for; see runner/slots.py."""

    occupy: int
    state: str
    message: str

    @property
    def is_decided(self) -> bool: ...

    def holders(self) -> list[str]: ...


_cluster_provider: Any = None
_making = threading.Lock()


def _cluster() -> Any:
    """Who speaks to the operator, in a run's pod; None elsewhere."""
    global _cluster_provider  # noqa: PLW0603  one connection and one thread per process
    if _cluster_provider is None and os.environ.get(settings.SLOT_PROVIDER_VARIABLE):
        # Tasks of `.map` ask first at the same moment. Two providers would number their requests alike, and share slots.
        with _making:
            if _cluster_provider is None:
                _cluster_provider = settings.provider_named_by(settings.SLOT_PROVIDER_VARIABLE)
    return _cluster_provider


def _forget_after_fork() -> None:
    """The thread that held the lock does not exist in the child."""
    global _making  # noqa: PLW0603  a lock of the parent's is useless
    _making = threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)


def _granted(ask: _Ask, name: str, patience: float | None, deadline: float | None) -> Steps[bool]:
    """Wait for the operator's word. Whether the cluster has such a limit; without one, this machine may.

    Not to wait at all takes a moment here, too: whether slots are free is known when the operator has answered.
    """
    poll = _FIRST_POLL_SECONDS
    last = None if deadline is None else max(deadline, time.monotonic() + _ANSWER_SECONDS)
    while not ask.is_decided:
        now = time.monotonic()
        if last is not None and now >= last:
            raise _too_late(name, ask.occupy, patience, ask.holders())
        yield poll if last is None else min(poll, last - now)
        poll = min(_LONGEST_POLL_SECONDS, poll * 1.5)
    if ask.state == "missing":
        return False
    if ask.state != "Held":
        raise OptionError(f"{name!r}: {ask.message}")
    return True


def _give_back(held: list[_Releasable]) -> None:
    for slots in reversed(held):
        slots.release()


def _asker() -> str:
    """The run around the caller."""
    task_run, flow_run = TASK_RUN.get(), FLOW_RUN.get()
    if task_run is not None:
        return task_run.id
    return flow_run.name if flow_run is not None else "a program"


# So many a second.
def rate_limit(
    names: str | Iterable[str] | None, occupy: int = 1, timeout_seconds: float | None = None, *, strict: bool = False
) -> None:
    """Wait until it is this call's turn, by limits that have a `slot_decay_per_second`.

    Args:
        names: one limit, or several.
        occupy: how many slots of each the call uses up.
        timeout_seconds: how long to wait at most. A turn that comes later is not waited for: it raises at once.
        strict: raise if there is no such limit, instead of not waiting.

    Raises:
        OptionError: an option cannot work, the limit has no `slot_decay_per_second`, or `strict` and no limit.
        ConcurrencyTimeout: the turn comes too late.
    """
    run(_limiting(names, occupy, timeout_seconds, strict=strict))


async def arate_limit(
    names: str | Iterable[str] | None, occupy: int = 1, timeout_seconds: float | None = None, *, strict: bool = False
) -> None:
    """`rate_limit` for async code: other coroutines go on meanwhile."""
    await run_async(_limiting(names, occupy, timeout_seconds, strict=strict))


def _limiting(names: Any, occupy: int, timeout_seconds: float | None, *, strict: bool) -> Steps[None]:
    _check_count(occupy, f"rate_limit({names!r}, occupy={occupy!r})", "occupy")
    patience = _patience(timeout_seconds, None)
    cluster = _cluster()
    for name in _names_of(names):
        began = time.monotonic()
        if cluster is not None and (yield from _turn_in_cluster(cluster, name, occupy, patience)):
            patience = None if patience is None else patience - (time.monotonic() - began)
            continue
        if not _there(name, strict):
            continue
        book = FileLock(_folder(name) / "turns")
        while not book.try_acquire():
            yield _LOCK_POLL_SECONDS
        try:
            wait = _reserve(book, name, occupy, patience)
        finally:
            book.release()
        if patience is not None:
            patience -= wait
        if wait and not clock.skips(wait):
            yield wait


def _turn_in_cluster(cluster: Any, name: str, occupy: int, patience: float | None) -> Steps[bool]:
    """Wait for a turn that the operator grants. Whether the cluster has such a limit."""
    ask = cluster.ask(name, occupy, _asker(), rate=True)
    try:
        return (yield from _granted(ask, name, patience, None if patience is None else time.monotonic() + patience))
    finally:
        ask.release()


def _reserve(book: FileLock, name: str, occupy: int, patience: float | None) -> float:
    """Take a turn, and say in how many seconds it is. The file of the lock says which turns are taken."""
    limit = _limit_of(name)
    if limit is None:
        return 0.0
    if not limit.slot_decay_per_second:
        raise OptionError(
            f"rate_limit({name!r}): this limit is one of how many at a time; give it a rate with "
            f"set_limit({name!r}, {limit.limit}, slot_decay_per_second=...), or use concurrency({name!r})"
        )
    _check_fits(f"rate_limit({name!r})", limit, occupy)
    now = clock.now().timestamp()
    empty_at, wait = next_turn(_taken(book.read()), now, limit, occupy)
    if patience is not None and wait > patience:
        raise ConcurrencyTimeout(
            f"the turn of rate_limit({name!r}) comes in {seconds_text(wait)}, later than the "
            f"{seconds_text(max(0.0, patience))} that may be waited"
        )
    book.write(f"{empty_at!r} {now!r}".ljust(_TURNS_BYTES).encode())
    return wait


def next_turn(state: tuple[float, float], now: float, limit: Limit, occupy: int) -> tuple[float, float]:
    """When it is the turn of a call. Pure.

    Args:
        state: when all slots that were taken are free again, and when that was said; in seconds.
        now: the present moment, in seconds.
        limit: the limit, with its rate.
        occupy: how many slots the call takes.

    Returns:
        When all slots are free again after this call, and in how many seconds it is the call's turn.
    """
    empty_at, said_at = state
    if now < said_at:  # the machine's clock was set back
        empty_at -= said_at - now
    empty_at = max(empty_at, now) + occupy / limit.slot_decay_per_second
    return empty_at, max(0.0, empty_at - limit.limit / limit.slot_decay_per_second - now)


def _taken(book: bytes) -> tuple[float, float]:
    """What the file of turns says; a damaged one says nothing."""
    try:
        empty_at, said_at = book[:_TURNS_BYTES].split()
        return float(empty_at), float(said_at)
    except ValueError:
        return 0.0, 0.0


# Names and numbers.
def _there(name: str, strict: bool) -> bool:
    """Whether there is such a limit."""
    if _limit_of(name) is not None:
        return True
    if strict:
        here = "on this machine; set it with set_limit({0!r}, 1)"
        if _cluster() is not None:
            here = "in the cluster; `levada limits set {0} 1` makes one"
        raise OptionError(f"there is no limit {name!r} {here.format(name)}")
    return False


def _names_of(names: Any) -> list[str]:
    if names is None:
        return []
    if not isinstance(names, str) and not isinstance(names, Iterable):
        raise OptionError(f"{names!r} is no name of a limit: give a text, or a list of texts")
    every = [names] if isinstance(names, str) else list(names)
    for name in every:
        _check_name(name)
    return sorted(set(every))


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name:
        raise OptionError(f"{name!r} is no name of a limit: give a text that is not empty")
    if len(name.encode()) > _LONGEST_NAME:
        raise OptionError(f"the name of a limit has at most {_LONGEST_NAME} bytes, and {name[:20]!r}… has more")


def _check_count(count: Any, where: str, what: str) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise OptionError(f"{where}: {what} must be a whole number, 1 or more")


def _check_fits(where: str, limit: Limit, occupy: int) -> None:
    if occupy > limit.limit:
        raise OptionError(
            f"{where}: occupy={occupy} can never be had, as the limit is {limit.limit}; take fewer, or raise it with set_limit"
        )


def _patience(timeout_seconds: Any, max_retries: Any) -> float | None:
    """How many seconds to wait; None: for ever."""
    waits = []
    for value, seconds, name in (
        (timeout_seconds, 1.0, "timeout_seconds"),
        (max_retries, _SECONDS_A_RETRY, "max_retries"),
    ):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
            raise OptionError(f"{name}={value!r} must be a number, 0 or more; None waits for ever")
        waits.append(value * seconds)
    return min(waits, default=None)


def _key(name: str) -> str:
    """The folder of a limit, below the home. Safe as a path, and another one for each name."""
    return f"{_FOLDER}/{_UNSAFE.sub(lambda found: ''.join(f'%{byte:02X}' for byte in found[0].encode()), name)}"


def _name_of(key: str) -> str:
    """The opposite of `_key`, for a key below that folder."""
    raw = key.split("/")[1].encode()
    return re.sub(rb"%(..)", lambda found: bytes([int(found[1], 16)]), raw).decode()


def _folder(name: str) -> Path:
    return settings.home() / _key(name)
