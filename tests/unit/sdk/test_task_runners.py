"""What task runners accept, and what they say about themselves."""

import json
import os
import subprocess
import sys

import pytest

from levada.engine.remote import cpus
from levada.exceptions import MissingDependencyError, NotSupported, OptionError
from levada.task_runners import (
    ConcurrentTaskRunner,
    DaskTaskRunner,
    ProcessPoolTaskRunner,
    SequentialTaskRunner,
    TaskRunner,
    ThreadPoolTaskRunner,
)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ThreadPoolTaskRunner(0), "max_workers=0 must be a whole number of at least 1"),
        (lambda: ConcurrentTaskRunner(max_workers=-1), "ConcurrentTaskRunner: max_workers=-1"),
        (lambda: ProcessPoolTaskRunner(max_workers=True), "ProcessPoolTaskRunner: max_workers=True"),
        (lambda: ThreadPoolTaskRunner("4"), "max_workers='4'"),
        (lambda: ProcessPoolTaskRunner(initializer="setup"), "initializer='setup' must be a function"),
        (
            lambda: ThreadPoolTaskRunner(max_worker=2),
            "ThreadPoolTaskRunner has no option 'max_worker'; did you mean 'max_workers'?",
        ),
        (
            lambda: ConcurrentTaskRunner(threads=2),
            "ConcurrentTaskRunner has no option 'threads'; it takes: max_workers$",
        ),
        (lambda: ProcessPoolTaskRunner(workers=2), "did you mean 'max_workers'?"),
        (lambda: DaskTaskRunner(adress="tcp://x:1"), "did you mean 'address'?"),
        (
            lambda: SequentialTaskRunner(max_workers=1),
            "SequentialTaskRunner has no option 'max_workers'; it takes: none",
        ),
        (lambda: DaskTaskRunner(address=8786), "address=8786 must be a text such as 'tcp://"),
        (lambda: DaskTaskRunner(address=" "), "address=' ' must be a text"),
        (lambda: DaskTaskRunner(cluster_class="LocalCluster"), "such as 'distributed.LocalCluster'"),
        (lambda: DaskTaskRunner(cluster_class=3), "cluster_class=3 must be a class or its path"),
        (lambda: DaskTaskRunner(cluster_kwargs=[1]), r"cluster_kwargs=\[1\] must be a dict of keyword arguments"),
        (lambda: DaskTaskRunner(adapt_kwargs={1: 2}), "adapt_kwargs={1: 2} must be a dict of keyword arguments"),
        (lambda: DaskTaskRunner(address="tcp://x:1", cluster_kwargs={"n_workers": 1}), "give one of them"),
        (lambda: DaskTaskRunner(address="tcp://x:1", cluster=object()), "name two clusters"),
        (lambda: DaskTaskRunner(cluster=object(), adapt_kwargs={}), "adapt_kwargs starts a cluster, but cluster names"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(make, message):
    with pytest.raises(OptionError, match=message):
        make()


def test_runners_of_one_kind_with_the_same_settings_are_equal():
    assert ThreadPoolTaskRunner(4) == ThreadPoolTaskRunner(max_workers=4) != ThreadPoolTaskRunner(5)
    assert ThreadPoolTaskRunner() != SequentialTaskRunner()
    assert DaskTaskRunner(cluster_kwargs={"n_workers": 2}) == DaskTaskRunner(cluster_kwargs={"n_workers": 2})


def test_a_duplicate_has_the_same_settings():
    runner = ProcessPoolTaskRunner(3, initializer=print, initargs=["ready"])
    twin = runner.duplicate()
    assert twin is not runner
    assert twin == runner
    assert twin.initargs == ("ready",)


@pytest.mark.parametrize(
    ("runner", "text"),
    [
        (SequentialTaskRunner(), "SequentialTaskRunner()"),
        (ThreadPoolTaskRunner(), "ThreadPoolTaskRunner()"),
        (ProcessPoolTaskRunner(2), "ProcessPoolTaskRunner(max_workers=2)"),
        (DaskTaskRunner(cluster_kwargs={"n_workers": 2}), "DaskTaskRunner(cluster_kwargs={'n_workers': 2})"),
    ],
)
def test_a_runner_shows_its_settings(runner, text):
    assert repr(runner) == text


def test_where_runs_are_driven():
    assert SequentialTaskRunner.inline
    assert not ThreadPoolTaskRunner.inline
    assert ThreadPoolTaskRunner().max_workers is None
    assert ProcessPoolTaskRunner().max_workers >= 1
    for runner in (TaskRunner(), SequentialTaskRunner(), ThreadPoolTaskRunner()):
        assert runner.open() is None


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("max 100000", None),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("-1 100000", None),
        ("100000 0", None),
        ("", None),
        (" ", None),
        ("5", None),
    ],
)
def test_the_limit_of_a_container(text, limit):
    assert cpus.limit_of(text) == limit


def test_a_container_may_use_fewer_cpus_than_there_are(monkeypatch, tmp_path):
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    monkeypatch.setattr(cpus, "_V2", tmp_path / "cpu.max")
    assert ProcessPoolTaskRunner().max_workers == 1
    monkeypatch.setattr(cpus, "_V2", tmp_path / "none")
    monkeypatch.setattr(cpus, "_V1", (tmp_path / "none", tmp_path / "none"))
    assert ProcessPoolTaskRunner().max_workers >= 1


def test_ray_is_not_there_and_says_what_is():
    with pytest.raises(NotSupported, match=r"use levada.task_runners.DaskTaskRunner"):
        from levada.task_runners import RayTaskRunner  # noqa: F401  asked for its error
    with pytest.raises(AttributeError, match="no attribute 'CeleryTaskRunner'"):
        __import__("levada.task_runners").task_runners.CeleryTaskRunner  # noqa: B018  asked for its error


def test_without_dask_the_runner_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'levada\[dask\]'"):
        DaskTaskRunner().open()


def test_importing_and_making_runners_loads_nothing_heavy():
    program = """
import json, sys
from levada.task_runners import *
runners = [SequentialTaskRunner(), ThreadPoolTaskRunner(), ProcessPoolTaskRunner(), DaskTaskRunner()]
print(json.dumps(sorted(sys.modules)))
"""
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # it loads much itself
    out = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=30, env=env
    ).stdout
    heavy = {
        "multiprocessing",
        "distributed",
        "dask",
        "cloudpickle",
        "subprocess",
        "asyncio",
        "levada.engine.remote.processes",
    }
    assert not heavy & set(json.loads(out))
