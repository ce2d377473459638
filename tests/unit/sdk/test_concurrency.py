"""Limits between threads, coroutines and processes, some of which are killed."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levada import _slots, flow, task
from levada._locks import FileLock, is_locked
from levada.concurrency import (
    Limit,
    arate_limit,
    concurrency,
    get_limit,
    limits,
    next_turn,
    rate_limit,
    remove_limit,
    set_limit,
)
from levada.engine import clock
from levada.exceptions import ConcurrencyTimeout, OptionError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path))
    return tmp_path


def waiting(name="db"):
    from levada.concurrency import _folder

    return sum(entry.kind == "wait" for entry in _slots.entries_in(_folder(name)))


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.002)


class Child:
    """A process that takes slots, says so, and gives them back when it is told."""

    PROGRAM = """
import sys
from levada.concurrency import concurrency
print("asks", flush=True)
with concurrency("db", occupy=int(sys.argv[1])):
    print("has", flush=True)
    sys.stdin.readline()
"""

    def __init__(self, occupy=1):
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.PROGRAM, str(occupy)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "asks\n"

    def __enter__(self):
        return self

    def has(self):
        assert self.process.stdout.readline() == "has\n"

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self):
        self.process.communicate("\n", timeout=10)
        assert self.process.returncode == 0

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()
        self.process.stdin.close()
        self.process.stdout.close()


# So many at a time.
def test_no_more_than_the_limit_at_a_time():
    set_limit("db", 2)
    inside, most, lock = 0, 0, threading.Lock()

    def work():
        nonlocal inside, most
        with concurrency("db"):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.01)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == (0, 2)
    assert get_limit("db") == Limit(2, 0.0, 0)


def test_a_name_without_a_limit_never_waits(home):
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(concurrency("db", occupy=100, timeout_seconds=0))
    with concurrency(None), concurrency([]):
        pass
    rate_limit("api", occupy=100, timeout_seconds=0)
    assert list(home.iterdir()) == []


def test_strict_wants_a_limit():
    with pytest.raises(OptionError, match="there is no limit 'db' on this machine; set it with set_limit"):
        concurrency("db", strict=True).__enter__()
    with pytest.raises(OptionError, match="there is no limit 'api'"):
        rate_limit("api", strict=True)
    set_limit("db", 1)
    with concurrency("db", strict=True):
        pass


def test_a_timeout_names_who_has_the_slots():
    set_limit("db", 3)
    with concurrency("db", occupy=2, holder="the nightly load"):
        start = time.monotonic()
        with pytest.raises(
            ConcurrencyTimeout,
            match=rf"no 2 slots of 'db' came free within 50 ms: the nightly load \(pid {os.getpid()}\) has 2",
        ):
            concurrency("db", occupy=2, timeout_seconds=0.05).__enter__()
        assert 0.04 < time.monotonic() - start < 5
        assert get_limit("db").active_slots == 2
        with concurrency("db", timeout_seconds=0):  # one is left, and who gave up waiting blocks nobody
            assert get_limit("db").active_slots == 3
        with pytest.raises(TimeoutError, match="no 3 slots"):
            concurrency("db", 3, max_retries=0).__enter__()
    assert get_limit("db").active_slots == 0


def test_the_run_is_named_to_those_who_wait_in_vain():
    set_limit("db", 1)

    @task
    def load():
        with concurrency("db"), pytest.raises(ConcurrencyTimeout, match=r"load-0 \(pid"):
            concurrency("db", timeout_seconds=0).__enter__()

    @flow
    def nightly():
        load()
        with concurrency("db"), pytest.raises(ConcurrencyTimeout, match=r"nightly-\w+ \(pid"):
            concurrency("db", timeout_seconds=0).__enter__()

    nightly()
    with concurrency("db"), pytest.raises(ConcurrencyTimeout, match=r"a program \(pid"):
        concurrency("db", timeout_seconds=0).__enter__()


def test_slots_go_in_the_order_of_asking():
    set_limit("db", 2)
    order = []

    def ask(number, occupy):
        with concurrency("db", occupy=occupy):
            order.append(number)
            time.sleep(0.005)

    threads = []
    with concurrency("db", occupy=2):
        for number in range(8):
            threads.append(threading.Thread(target=ask, args=(number, 2 if number % 2 else 1)))
            threads[-1].start()
            until(lambda: waiting() == len(threads))
    for thread in threads:
        thread.join()
    assert order == list(range(8))


def test_who_wants_many_slots_is_not_overtaken():
    set_limit("db", 2)
    got = threading.Event()

    def greedy():
        with concurrency("db", occupy=2):
            got.set()

    with concurrency("db"):
        thread = threading.Thread(target=greedy)
        thread.start()
        until(lambda: waiting() == 1)
        with pytest.raises(ConcurrencyTimeout):  # one slot is free, but somebody came before
            concurrency("db", timeout_seconds=0.03).__enter__()
        assert not got.is_set()
    thread.join(10)
    assert got.is_set()


def test_several_limits_are_taken_together():
    set_limit("a", 1)
    set_limit("b", 1)
    with concurrency(["b", "a", "a", "nobody-limits-this"]):
        assert (get_limit("a").active_slots, get_limit("b").active_slots) == (1, 1)
        for name in "ab":
            with pytest.raises(ConcurrencyTimeout):
                concurrency(name, timeout_seconds=0).__enter__()
    with concurrency("b"):
        with pytest.raises(ConcurrencyTimeout):
            concurrency(["a", "b"], timeout_seconds=0.01).__enter__()
        assert get_limit("a").active_slots == 0


def test_opposite_orders_do_not_block_each_other():
    set_limit("a", 1)
    set_limit("b", 1)

    def work(names):
        for _ in range(5):
            with concurrency(names):
                time.sleep(0.001)

    threads = [threading.Thread(target=work, args=(names,)) for names in (["a", "b"], ["b", "a"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_an_object_serves_many_times():
    set_limit("db", 2)
    limit = concurrency("db", timeout_seconds=0)
    with limit, limit:
        assert get_limit("db").active_slots == 2
    with limit:
        assert get_limit("db").active_slots == 1


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("a raised limit lets the next one in", lambda: set_limit("db", 2)),
        ("a removed limit lets everybody in", lambda: remove_limit("db")),
    ],
)
def test_limits_change_while_somebody_waits(case, change):
    set_limit("db", 1)
    got = threading.Event()

    def work():
        with concurrency("db"):
            got.set()

    with concurrency("db"):
        thread = threading.Thread(target=work)
        thread.start()
        until(lambda: waiting() == 1)
        change()
        assert got.wait(10), case
    thread.join()


# Processes.
def test_slots_of_a_killed_process_are_free_at_once():
    set_limit("db", 1)
    with Child() as child:
        child.has()
        with pytest.raises(ConcurrencyTimeout, match=rf"pid {child.process.pid}\) has 1"):
            concurrency("db", timeout_seconds=0.02).__enter__()
        child.kill()
        with concurrency("db", timeout_seconds=0):
            assert get_limit("db").active_slots == 1


def test_a_process_that_waits_gets_the_slots_of_one_that_is_killed():
    set_limit("db", 2)
    with Child(2) as first:
        first.has()
        with Child(2) as second:
            until(lambda: waiting() == 1)
            first.kill()
            second.has()
            second.end()


def test_a_killed_waiter_holds_nobody_up():
    set_limit("db", 2)
    with ExitStack() as stack:
        stack.enter_context(concurrency("db"))
        greedy = stack.enter_context(Child(2))
        until(lambda: waiting() == 1)
        modest = stack.enter_context(Child(1))
        until(lambda: waiting() == 2)
        greedy.kill()
        modest.has()
        modest.end()


def test_many_killed_processes_leave_nothing_behind():
    """Whatever moment they are killed at: asking, waiting, holding."""
    set_limit("db", 2)
    children = [Child() for _ in range(6)]
    for turn, child in enumerate(children):
        time.sleep(0.003 * turn)
        child.kill()
        child.__exit__()
    with concurrency("db", occupy=2, timeout_seconds=5):
        assert get_limit("db").active_slots == 2
        assert waiting() == 0


def test_a_process_that_ends_well_gives_its_slots_back():
    set_limit("db", 1)
    with Child() as child:
        child.has()
        child.end()
        with concurrency("db", timeout_seconds=0):
            pass


def test_a_forked_child_holds_no_slots_of_its_parent():
    """The child lives on, while the parent was killed."""
    set_limit("db", 1)
    program = """
import os, sys, time
from levada.concurrency import concurrency
with concurrency("db"):
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(60)
    time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    child_pid = int(parent.stdout.readline())
    try:
        with pytest.raises(ConcurrencyTimeout):
            concurrency("db", timeout_seconds=0.02).__enter__()
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        with concurrency("db", timeout_seconds=1):
            pass
    finally:
        os.kill(child_pid, signal.SIGKILL)
        parent.stdout.close()


def test_a_forked_child_that_leaves_the_block_gives_nothing_back():
    set_limit("db", 1)
    program = """
import os, time
from levada.concurrency import concurrency, get_limit
with concurrency("db"):
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        assert get_limit("db").active_slots == 1
if pid:
    assert get_limit("db").active_slots == 0
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


# Interrupts.
def test_an_interrupt_while_waiting_leaves_the_queue():
    set_limit("db", 1)

    def interrupt():
        until(lambda: waiting() == 1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    with concurrency("db"):
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            concurrency("db").__enter__()
        thread.join()
        assert waiting() == 0


def test_the_timeout_of_a_task_ends_its_wait():
    set_limit("db", 1)

    @task(timeout_seconds=0.1)
    def wait_for_it():
        with concurrency("db"):
            raise AssertionError("it cannot get there")

    @flow
    def f():
        with concurrency("db"):
            future = wait_for_it.submit()
            future.wait()
            until(lambda: waiting() == 0)
            return future.state.name

    assert f() == "TimedOut"


# Coroutines.
async def test_the_event_loop_goes_on():
    set_limit("db", 1)
    ticks, order = 0, []

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    async def work(number):
        async with concurrency("db"):
            order.append(number)
            await asyncio.sleep(0.02)

    ticker = asyncio.create_task(tick())
    await asyncio.gather(*(work(number) for number in range(3)))
    ticker.cancel()
    assert order == [0, 1, 2]
    assert ticks > 10


async def test_a_cancelled_coroutine_leaves_the_queue():
    set_limit("db", 1)
    async with concurrency("db"):
        task = asyncio.create_task(concurrency("db").__aenter__())
        await asyncio.sleep(0.02)
        assert waiting() == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert waiting() == 0
        with pytest.raises(ConcurrencyTimeout):
            async with concurrency("db", timeout_seconds=0.01):
                pass


async def test_the_mutex_is_waited_for_without_blocking(home):
    set_limit("db", 1)
    set_limit("api", 1, slot_decay_per_second=1000)

    async def take():
        async with concurrency("db"):
            pass

    for file, coroutine in (("db/mutex", take()), ("api/turns", arate_limit("api"))):
        mutex = FileLock(home / "concurrency" / file)
        assert mutex.try_acquire()
        task = asyncio.create_task(coroutine)
        await asyncio.sleep(0.01)
        assert not task.done()
        mutex.release()
        await asyncio.wait_for(task, 10)


# So many a second.
class Jumping:
    """A clock that jumps over every wait."""

    def __init__(self):
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self):
        return self.time

    def monotonic(self):
        return self.time.timestamp()

    def skips(self, seconds):
        self.time += timedelta(seconds=seconds)
        return True


def test_a_rate_is_kept():
    set_limit("api", 2, slot_decay_per_second=4)
    with clock.use(Jumping()) as _:
        moments = []
        for _ in range(6):
            rate_limit("api")
            moments.append((clock.now() - datetime(2026, 1, 1, tzinfo=UTC)).total_seconds())
    assert moments == pytest.approx([0, 0, 0.25, 0.5, 0.75, 1.0], abs=1e-3)


def test_a_rate_in_real_time():
    set_limit("api", 1, slot_decay_per_second=50)
    start = time.monotonic()
    for _ in range(4):
        rate_limit("api")
    assert 0.055 < time.monotonic() - start < 5


async def test_a_rate_for_coroutines():
    set_limit("api", 1, slot_decay_per_second=50)
    start = time.monotonic()
    await asyncio.gather(*(arate_limit("api") for _ in range(4)))
    assert 0.055 < time.monotonic() - start < 5


def test_a_turn_that_comes_too_late_is_not_waited_for():
    set_limit("api", 1, slot_decay_per_second=0.01)
    rate_limit("api", timeout_seconds=0)
    start = time.monotonic()
    with pytest.raises(ConcurrencyTimeout, match=r"comes in 1 min \d+ s, later than the 5 s that may be waited"):
        rate_limit("api", timeout_seconds=5)
    with pytest.raises(ConcurrencyTimeout):  # the one that gave up did not use up a turn
        rate_limit("api", timeout_seconds=5)
    assert time.monotonic() - start < 2


def test_the_time_to_wait_is_shared_by_all_limits():
    set_limit("a", 1, slot_decay_per_second=1)
    set_limit("b", 1, slot_decay_per_second=1)
    with clock.use(Jumping()):
        rate_limit("a")
        rate_limit("b")
        rate_limit("b")
        with pytest.raises(ConcurrencyTimeout):
            rate_limit(["a", "b"], timeout_seconds=0.5)


@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 3)), min_size=1, max_size=30),
    st.integers(3, 6),
    st.floats(0.1, 20),
)
def test_no_window_gets_more_than_the_rate(calls, slots, rate):
    """Of what is let through within any stretch of time, there is no more than the slots and what comes back meanwhile."""
    limit, state, now = Limit(slots, rate), (0.0, 0.0), 1000.0
    passed = []
    for pause, occupy in calls:
        now += pause
        empty_at, wait = next_turn(state, now, limit, occupy)
        state = (empty_at, now)
        passed.append((now + wait, occupy))
    assert passed == sorted(passed, key=lambda turn: turn[0])
    for first, (start, _) in enumerate(passed):
        for last in range(first, len(passed)):
            amount = sum(occupy for _, occupy in passed[first : last + 1])
            assert amount <= slots + rate * (passed[last][0] - start) + 1e-6 * (1 + rate * 1000)


def test_a_clock_that_was_set_back_costs_no_wait():
    limit = Limit(1, 1.0)
    empty_at, _ = next_turn((0.0, 0.0), 10_000.0, limit, 1)
    assert next_turn((empty_at, 10_000.0), 500.0, limit, 1)[1] == pytest.approx(1.0)


def test_a_damaged_state_of_a_rate_counts_as_none(home):
    set_limit("api", 1, slot_decay_per_second=1)
    for damage in ("{", "1 2 3", "now then", ""):
        (home / "concurrency" / "api" / "turns").write_text(damage)
        rate_limit("api", timeout_seconds=0)


def test_a_limit_that_goes_while_somebody_asks(home):
    from levada.concurrency import _reserve

    assert _reserve(FileLock(home / "turns"), "nobody", 1, None) == 0.0


# Limits.
def test_limits_are_kept():
    assert limits() == {}
    assert get_limit("db") is None
    set_limit("db", 3)
    set_limit("a b/ü%", 1, slot_decay_per_second=0.5)
    assert limits() == {"a b/ü%": Limit(1, 0.5), "db": Limit(3)}
    with concurrency("a b/ü%"):
        assert limits()["a b/ü%"].active_slots == 1
    assert remove_limit("db")
    assert not remove_limit("db")
    assert list(limits()) == ["a b/ü%"]


def test_a_damaged_limit_is_told(home):
    set_limit("db", 3)
    (home / "concurrency" / "db" / "limit.json").write_text(json.dumps({"limit": "many"}))
    with pytest.raises(OptionError, match=r"the limit 'db' cannot be read .*; set it again with set_limit"):
        concurrency("db").__enter__()


def test_foreign_files_in_a_queue_are_left_alone(home):
    set_limit("db", 1)
    with concurrency("db"):
        pass
    (home / "concurrency" / "db" / "queue" / "README").write_text("hello")
    with concurrency("db", timeout_seconds=0):
        pass


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: concurrency(5), "5 is no name of a limit"),
        (lambda: concurrency(["a", ""]), "'' is no name of a limit"),
        (lambda: concurrency("x" * 81), "at most 80 bytes"),
        (lambda: concurrency("a", occupy=0), "occupy must be a whole number, 1 or more"),
        (lambda: concurrency("a", occupy=True), "occupy must be a whole number, 1 or more"),
        (lambda: concurrency("a", timeout_seconds=-1), "timeout_seconds=-1 must be a number, 0 or more"),
        (lambda: concurrency("a", timeout_seconds="5"), "timeout_seconds='5' must be a number"),
        (lambda: concurrency("a", max_retries=float("nan")), "max_retries=nan must be a number"),
        (lambda: set_limit("a", 0), "set_limit('a', 0): the limit must be a whole number, 1 or more"),
        (lambda: set_limit("a", 1, slot_decay_per_second=-1), "slot_decay_per_second=-1 must be a number, 0 or more"),
        (lambda: set_limit("", 1), "'' is no name of a limit"),
        (lambda: rate_limit("a", occupy=1.5), "occupy must be a whole number"),
    ],
)
def test_bad_values_are_told_at_once(call, message):
    with pytest.raises(OptionError, match=re.escape(message)):
        call()


def test_what_can_never_be_had_is_told_at_once():
    set_limit("db", 2)
    with pytest.raises(OptionError, match="occupy=3 can never be had, as the limit is 2"):
        concurrency("db", occupy=3).__enter__()
    with pytest.raises(OptionError, match=r"this limit is one of how many at a time; give it a rate"):
        rate_limit("db")
    set_limit("api", 2, slot_decay_per_second=1)
    with pytest.raises(OptionError, match="occupy=3 can never be had"):
        rate_limit("api", occupy=3)
    assert get_limit("db").active_slots == 0


# What it is made of.
@pytest.mark.parametrize(
    ("ahead", "quiet", "expected"), [(0, 0, 0.002), (4, 0, 0.01), (0, 1, 0.02), (200, 0, 0.1), (0, 3600, 0.1)]
)
def test_who_waits_looks_again(ahead, quiet, expected):
    assert _slots.poll_seconds(ahead, quiet) == pytest.approx(expected)


def test_locks(home):
    path = home / "deep" / "down" / "lock"
    assert not is_locked(path)
    lock = FileLock(path)
    assert lock.try_acquire()
    assert lock.is_held
    assert is_locked(path)
    assert not FileLock(path).try_acquire()
    lock.write(b"longer")
    lock.write(b"short")
    assert lock.read() == b"shortr"
    lock.release()
    lock.release()
    lock.write(b"nothing")
    assert lock.read() == b""
    assert not lock.is_held
    assert not is_locked(path)


def test_a_lock_on_a_removed_file_is_none(home, monkeypatch):
    from levada import _locks

    path = home / "lock"
    is_current = _locks._is_current
    monkeypatch.setattr(_locks, "_is_current", lambda file, path: path.unlink() or is_current(file, path))
    assert not FileLock(path).try_acquire()


def test_a_system_without_locks_is_told(home, monkeypatch):
    def refuse(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OSError, match="not implemented"):
        FileLock(home / "lock").try_acquire()


def test_a_folder_that_cannot_be_written_is_told(home):
    if os.geteuid() == 0:
        (home / "concurrency").write_text("a file")
    else:
        home.chmod(0o500)
    with pytest.raises(OSError, match="concurrency"):
        set_limit("db", 1)


def test_a_holder_that_leaves_between_two_looks(home, monkeypatch):
    set_limit("db", 1)
    from levada.concurrency import _folder

    with concurrency("db"):
        monkeypatch.setattr("pathlib.Path.read_text", lambda self, **_: (_ for _ in ()).throw(FileNotFoundError()))
        assert _slots.holders(_folder("db")) == []
