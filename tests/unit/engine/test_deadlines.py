import os
import signal
import threading
import time
import weakref

import pytest

from levada.engine import deadlines
from levada.engine.deadlines import TooLate, within


def in_thread(code):
    """Run code in another thread and give back what it returned or raised."""
    outcome = []

    def run():
        try:
            outcome.append(code())
        except BaseException as error:  # noqa: BLE001  handed to the test
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    return outcome[0]


def spin(seconds=5.0):
    """Python code that a thread can be interrupted in."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return "spun"


def test_code_in_time_returns_its_value():
    assert within(5, lambda: 7) == 7
    assert in_thread(lambda: within(5, lambda: 7)) == 7


def test_the_users_error_comes_through():
    with pytest.raises(ValueError, match="theirs"):
        within(5, lambda: int("theirs"))


def test_a_sleep_in_the_main_thread_is_interrupted():
    began = time.monotonic()
    with pytest.raises(TooLate):
        within(0.02, lambda: time.sleep(5))
    assert time.monotonic() - began < 2


def test_a_busy_thread_is_interrupted():
    began = time.monotonic()
    assert isinstance(in_thread(lambda: within(0.02, spin)), TooLate)
    assert time.monotonic() - began < 3


def test_the_alarm_handler_of_the_program_is_put_back():
    before = signal.getsignal(signal.SIGALRM)
    within(5, lambda: None)
    with pytest.raises(TooLate):
        within(0.01, spin)
    assert signal.getsignal(signal.SIGALRM) is before
    assert deadlines._entries == {}


def test_an_alarm_of_the_program_itself_still_reaches_it():
    seen = []
    before = signal.signal(signal.SIGALRM, lambda signum, frame: seen.append(signum))
    try:
        within(5, lambda: os.kill(os.getpid(), signal.SIGALRM))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert seen == [signal.SIGALRM]


@pytest.mark.parametrize("run", [lambda code: code(), in_thread], ids=["main thread", "other thread"])
@pytest.mark.parametrize(
    ("outer", "inner", "expected"), [(5, 0.02, "inner"), (0.02, 5, "outer"), (0.02, 0.02, "outer or inner, then outer")]
)
def test_nested_deadlines(run, outer, inner, expected):
    def inside():
        try:
            within(inner, spin)
        except TooLate:
            if expected == "inner":
                return "inner"
            spin()
        return "neither"

    def whole():
        try:
            return within(outer, inside)
        except TooLate:
            return "outer"

    assert run(whole) == ("inner" if expected == "inner" else "outer")
    assert deadlines._entries == {}


def test_code_that_swallows_the_interrupt_is_late_all_the_same():
    def stubborn():
        try:
            spin(2)
        except BaseException:  # noqa: BLE001  the point of this test
            return "swallowed"

    with pytest.raises(TooLate):
        within(0.02, stubborn)
    assert isinstance(in_thread(lambda: within(0.02, stubborn)), TooLate)


def test_no_interrupt_arrives_after_the_end():
    """Deadlines that come at the very moment when the code ends: nothing may leak out, in any thread."""

    def many():
        late = 0
        for index in range(150):
            seconds = 0.0002 + (index % 10) * 0.0001
            try:
                within(seconds, lambda: spin(0.0007))
            except TooLate:
                late += 1
        return late

    assert isinstance(in_thread(many), int)
    assert isinstance(many(), int)
    assert deadlines._entries == {}


def test_the_watcher_forgets_what_ended_long_before_its_deadline():
    class Entry(deadlines._Entry):
        __slots__ = ("__weakref__",)

    watcher, kept = deadlines._Watcher(), weakref.WeakSet()
    for _ in range(3000):
        entry = Entry(time.monotonic() + 3600, 0, None)
        entry.finished = True
        kept.add(entry)
        watcher.watch(entry)
    del entry
    end = time.monotonic() + 5
    while len(kept) > 1100:
        assert time.monotonic() < end, f"{len(kept)} of 3000 are still there"
        time.sleep(0.005)


def test_code_that_holds_a_lock_of_logging_is_not_interrupted_there(caplog):
    import logging

    class Slow(logging.Handler):
        entered = left = 0

        def emit(self, record):
            Slow.entered += 1
            time.sleep(0.03)
            Slow.left += 1

    logger = logging.getLogger("test-deadlines")
    logger.addHandler(Slow())
    try:
        with pytest.raises(TooLate):
            within(0.01, lambda: [logger.warning("x"), time.sleep(5)])
    finally:
        logger.handlers.clear()
    assert Slow.entered == Slow.left == 1
