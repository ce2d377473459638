import pytest

from levada import flow, runtime, task
from levada.engine.run import run_flow


def test_outside_of_a_run_there_is_nothing():
    assert [runtime.flow_run.id, runtime.flow_run.name, runtime.flow_run.flow_name, runtime.flow_run.flow_version] == [
        None
    ] * 4
    assert runtime.flow_run.parameters == {}
    assert runtime.flow_run.tags == []
    assert runtime.flow_run.run_count == 0
    assert runtime.flow_run.scheduled_start_time is None
    assert runtime.flow_run.parent_flow_run_id is None
    assert runtime.flow_run.root_flow_run_id is None
    assert [runtime.task_run.id, runtime.task_run.name, runtime.task_run.task_name] == [None] * 3
    assert (runtime.task_run.parameters, runtime.task_run.tags, runtime.task_run.run_count) == ({}, [], 0)
    assert [runtime.deployment.name, runtime.deployment.id, runtime.deployment.version] == [None] * 3
    assert runtime.deployment.flow_run_id is None


def test_inside_of_a_run():
    seen = {}

    @task(tags=["gpu", "a"], retries=1)
    def train(n, rate=0.5):
        run = runtime.task_run
        seen["task"] = (run.id, run.name, run.task_name, run.parameters, run.tags, run.run_count)
        seen["flow of task"] = runtime.flow_run.name
        if run.run_count == 1:
            raise ValueError

    @flow(version="2")
    def inner():
        run = runtime.flow_run
        seen["inner"] = (run.flow_name, run.parent_flow_run_id, run.root_flow_run_id)

    @flow(version="1")
    def outer(x, y=2):
        run = runtime.flow_run
        seen["flow"] = (run.id, run.name, run.flow_name, run.flow_version, run.parameters, run.tags, run.run_count)
        seen["start"] = run.scheduled_start_time
        seen["own root"] = (run.parent_flow_run_id, run.root_flow_run_id)
        train.submit(3).wait()
        inner()

    assert run_flow(outer, {"x": 1}, run_name="the-run").is_completed()
    assert seen["flow"] == ("the-run", "the-run", "outer", "1", {"x": 1, "y": 2}, [], 1)
    assert seen["own root"] == (None, "the-run")
    assert seen["start"].tzinfo is not None
    assert seen["task"] == ("train-0", "train-0", "train", {"n": 3, "rate": 0.5}, ["a", "gpu"], 2)
    assert seen["flow of task"] == "the-run"
    assert seen["inner"] == ("inner", "the-run", "the-run")


def test_the_deployment_of_a_run(monkeypatch):
    monkeypatch.setenv("LEVADA_DEPLOYMENT", "nightly")
    seen = []

    @flow(version="7")
    def f():
        seen.extend([runtime.deployment.name, runtime.deployment.version, runtime.deployment.flow_run_id])

    run_flow(f, {}, run_name="r")
    assert seen == ["nightly", "7", "r"]


def test_an_attribute_that_does_not_exist():
    with pytest.raises(AttributeError, match=r"levada\.runtime\.flow_run has no attribute 'nmae'; it has flow_name, "):
        _ = runtime.flow_run.nmae
    assert repr(runtime.task_run) == "<levada.runtime.task_run>"
    assert repr(runtime.deployment) == "<levada.runtime.deployment>"
