"""A pod that was started early holds the flow back until its time, and leaves at once when it is told to."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from levada.runner.hold import hold_until
from unit.runner.fake_api import FakeApi
from unit.runner.process import Runner

Start = Callable[..., Runner]
T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
SAYS_WHEN = """
    from datetime import datetime, timezone
    from levada import flow

    @flow
    def main():
        return datetime.now(timezone.utc).isoformat()
"""


class Clock:
    """A wall clock that may be set while somebody sleeps."""

    def __init__(self, **jumps: float) -> None:
        self.at = T0
        self.slept: list[float] = []
        self.jumps = {int(number.removeprefix("after")): seconds for number, seconds in jumps.items()}

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += timedelta(seconds=seconds + self.jumps.get(len(self.slept), 0.0))


def test_it_waits_until_the_moment_and_not_longer():
    clock = Clock()
    hold_until(T0 + timedelta(seconds=3.2), now=clock.now, sleep=clock.sleep)
    assert clock.at - T0 == timedelta(seconds=3.2)
    assert max(clock.slept) <= 0.5


def test_a_moment_that_has_passed_is_not_waited_for():
    clock = Clock()
    hold_until(T0 - timedelta(seconds=1), now=clock.now, sleep=clock.sleep)
    assert clock.slept == []


def test_a_clock_that_is_set_is_followed():
    forward = Clock(after2=60.0)
    hold_until(T0 + timedelta(seconds=30), now=forward.now, sleep=forward.sleep)
    assert len(forward.slept) == 2
    back = Clock(after2=-2.0)
    hold_until(T0 + timedelta(seconds=2), now=back.now, sleep=back.sleep)
    assert back.at == T0 + timedelta(seconds=2)


def test_the_flow_starts_at_its_time(fake: FakeApi, start: Start) -> None:
    at = datetime.now(UTC) + timedelta(seconds=3)
    ended = start(SAYS_WHEN, LEVADA_START_AT=at.isoformat()).end()
    began = datetime.fromisoformat(json.loads(fake.status["result"]))
    assert ended.code == 0, ended.log
    assert at <= began < at + timedelta(seconds=1)
    stages = fake.status["stages"]
    assert stages["holdSeconds"] > 0.1
    assert stages["userSeconds"] < 1


def test_a_run_that_is_held_back_says_so_and_leaves_when_told(fake: FakeApi, start: Start) -> None:
    at = datetime.now(UTC) + timedelta(seconds=600)
    runner = start(SAYS_WHEN, LEVADA_START_AT=at.isoformat())
    fake.until(lambda status: "the flow starts at" in (status.get("message") or ""))
    begun = time.monotonic()
    runner.terminate()
    assert runner.end().code == 143
    assert time.monotonic() - begun < 15
    assert "result" not in fake.status or fake.status["result"] is None
