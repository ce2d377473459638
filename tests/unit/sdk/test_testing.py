import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from levada import flow, settings, task, testing
from levada.artifacts import create_markdown_artifact
from levada.engine import clock
from levada.exceptions import OptionError
from levada.testing import FakeClock, levada_harness, levada_test_harness, run_and_record  # noqa: F401  a fixture
from levada.variables import Variable


def test_the_harness_is_a_home_of_its_own(monkeypatch):
    monkeypatch.setenv("LEVADA_HOME", "/nowhere")
    monkeypatch.setenv("LEVADA_RESULTS_PATH", "/nowhere/results")
    monkeypatch.setenv("LEVADA_PERSIST_RESULTS", "true")
    with levada_test_harness(server_startup_timeout=30) as folder:
        assert settings.home() == folder
        assert list(folder.iterdir()) == []
        assert settings.results_folder() == folder / "results"
        assert not settings.persist_results()
        Variable.set("x", 1)
        with levada_test_harness() as inner:
            assert inner != folder
            assert Variable.get("x") is None
        assert Variable.get("x") == 1
    assert not folder.exists()
    assert settings.home() == Path("/nowhere")
    assert os.environ["LEVADA_PERSIST_RESULTS"] == "true"


def test_the_fixture(levada_harness):  # noqa: F811  the fixture
    assert settings.home() == levada_harness


def test_the_fixture_by_its_plugin(tmp_path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["levada.testing"]\n')
    (tmp_path / "test_it.py").write_text(
        "from levada import settings\n\ndef test_it(levada_harness):\n    assert settings.home() == levada_harness\n"
    )
    subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path], check=True, timeout=60)


def test_a_clock_that_jumps():
    start = datetime(2026, 5, 1, 12, tzinfo=UTC)
    fake = FakeClock(start)
    with fake as inside:
        assert inside is fake
        assert clock.now() == start
        assert clock.monotonic() == 0
        assert clock.skips(90)
        fake.advance(timedelta(hours=1))
        fake.advance(0.5)
        assert clock.now() == start + timedelta(hours=1, seconds=90.5)
        assert clock.monotonic() == 3690.5
        with FakeClock() as other:
            assert clock.now() == other.now() == datetime(2026, 1, 1, tzinfo=UTC)
        assert clock.now() == fake.now()
    assert fake.waits == [90]
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)


def test_a_clock_in_many_threads():
    with FakeClock() as fake:
        threads = [threading.Thread(target=clock.skips, args=(1,)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert fake.monotonic() == 20


def test_bad_times_are_told():
    with pytest.raises(OptionError, match="the time needs a time zone"):
        FakeClock(datetime(2026, 1, 1))
    with pytest.raises(OptionError, match="time does not go back"):
        FakeClock().advance(-1)


def test_delays_of_retries_take_no_time():
    @task(retries=2, retry_delay_seconds=[600, 3600])
    def flaky():
        raise ValueError("no")

    @flow
    def f():
        flaky(return_state=True)

    with FakeClock() as fake:
        record = run_and_record(f)
    assert fake.waits == [600, 3600]
    assert record.tasks["flaky-0"].attempts == 3
    assert record.tasks["flaky-0"].history == ["Running", "Retrying", "Running", "Retrying", "Running", "Failed"]
    started, ended = record.tasks["flaky-0"].reports[-1].start_time, record.tasks["flaky-0"].reports[-1].end_time
    assert ended - started == timedelta(seconds=4200)


def test_caches_expire_by_the_clock(levada_harness):  # noqa: F811  the fixture
    calls = []

    @task(cache_key_fn=lambda context, parameters: "key", cache_expiration=timedelta(days=1))
    def costly():
        calls.append(1)
        return 7

    @flow
    def f():
        return costly()

    with FakeClock() as fake:
        assert run_and_record(f).tasks["costly-0"].cached is False
        assert run_and_record(f).tasks["costly-0"].cached is True
        fake.advance(timedelta(days=1, seconds=1))
        assert run_and_record(f).tasks["costly-0"].cached is False
    assert len(calls) == 2


def test_a_record_tells_what_happened(levada_harness):  # noqa: F811  the fixture
    @task
    def train(n):
        if n == 1:
            raise ValueError("too few")
        return n

    @task
    def best(scores):
        return max(scores)

    @flow
    def evaluate():
        create_markdown_artifact("# Best", key="best")

    @flow
    def f(n):
        futures = train.map(range(n))
        best.submit(futures, return_state=True)
        evaluate()
        return n

    record = run_and_record(f, n=2)
    assert record.value == 2
    assert record.states == {
        "train-0": "Completed",
        "train-1": "Failed",
        "best-0": "Skipped",
        "evaluate-0": "Completed",
    }
    assert [run.state for run in record.of("train")] == ["Completed", "Failed"]
    assert record.tasks["train-1"].message == "ValueError: too few"
    assert set(record.tasks["best-0"].upstream) == {"train-0", "train-1"}
    assert [artifact.data for artifact in record.artifacts] == ["# Best"]
    assert record.phases[-1][0] == "Completed"
    assert "train-1: Pending → Running → Failed" in repr(record.tasks["train-1"])
    assert "4 task runs" in repr(record)
    with pytest.raises(KeyError, match="no task 'trian' ran; there ran train, best, evaluate"):
        record.of("trian")


def test_a_flow_that_fails_is_recorded():
    @flow
    async def f():
        raise ValueError("broken")

    record = run_and_record(f)
    assert record.state.is_failed()
    with pytest.raises(ValueError, match="broken"):
        _ = record.value
    with pytest.raises(KeyError, match="there ran no task at all"):
        record.of("x")


def test_names():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = testing.nothing
    assert "levada_harness" in dir(testing)


@pytest.mark.parametrize(
    "module", ["runtime", "transactions", "artifacts", "variables", "concurrency", "pausing", "testing"]
)
def test_importing_loads_nothing_heavy(module):
    program = (
        f"import sys, levada.{module}\n"
        "heavy = {'pydantic', 'asyncio', 'yaml', 'croniter', 'cloudpickle', 'boto3', 'fsspec', 'ctypes', 'pytest'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
