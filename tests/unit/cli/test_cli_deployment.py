"""What `levada deployment run` makes before it talks to anybody."""

import re

import pytest
import typer
from typer.testing import CliRunner

from levada.cli.connection import not_found
from levada.cli.deployment import app, flow_run, made_up_name, warn_if_not_ready
from levada.cli.follow import has_ended
from levada.cli.logs import has_log, newest_pod


@pytest.mark.parametrize("deployment", ["etl", "a" * 50, "a" * 43 + "-bcdefg"])
def test_a_made_up_name_is_a_legal_name_of_a_run(deployment):
    name = made_up_name(deployment)
    assert len(name) <= 50
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?-[a-z0-9]{5}", name)
    assert "--" not in name
    assert name.startswith(deployment[:40])


def test_two_made_up_names_differ():
    assert len({made_up_name("etl") for _ in range(50)}) == 50


def test_a_run_without_parameters_says_nothing_of_them():
    assert flow_run("r", "etl", {})["spec"] == {"deploymentRef": {"name": "etl"}}
    assert flow_run("r", "etl", {"a": None})["spec"]["parameters"] == {"a": None}


@pytest.mark.parametrize(
    ("deployment", "said"),
    [
        ({"spec": {}}, ""),
        ({"spec": {"paused": True}}, "is paused"),
        (
            {"spec": {}, "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "FlowNotFound", "message": "no flow x"}]}},
            "is not ready: no flow x",
        ),
        ({"spec": {}, "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Valid", "message": ""}]}}, ""),
    ],
)  # fmt: skip
def test_what_keeps_a_run_from_starting_is_said_beforehand(capsys, deployment, said):
    warn_if_not_ready({"metadata": {"name": "etl"}, **deployment})
    err = capsys.readouterr().err
    assert said in err
    assert bool(said) == bool(err)


def test_a_bad_parameter_is_an_error_before_any_cluster_is_asked(monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    result = CliRunner().invoke(app, ["run", "etl", "-p", "date"])
    assert result.exit_code == 2
    assert "'date' is not name=value" in result.stderr


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (["nyc-taxi", "hello"], "did you mean nyc-taxi?"),
        (["hello"], "`kubectl get x` lists what there is"),
        ([], "`kubectl get x` lists what there is"),
    ],
)
def test_a_name_that_is_not_there_gets_the_closest_ones(capsys, names, hint):
    not_found("nyc-tax", "team", names, called="deployment", listing="kubectl get x")
    err = capsys.readouterr().err
    assert "there is no deployment 'nyc-tax' in namespace 'team'" in err
    assert hint in err


def a_pod(attempt, created, state=None):
    labels = {"levada.dev/attempt": str(attempt)}
    statuses = [{"state": {state: {}}}] if state else []
    meta = {"labels": labels, "creationTimestamp": created, "name": f"p{attempt}{created}"}
    return {"metadata": meta, "status": {"containerStatuses": statuses}}


def test_the_log_is_that_of_the_newest_attempt_or_of_the_one_asked_for():
    pods = [a_pod(2, "b"), a_pod(10, "c"), a_pod(1, "z")]
    assert newest_pod(pods, None) is pods[1]
    assert newest_pod(pods, 1) is pods[2]
    assert newest_pod(pods, 3) is None
    assert newest_pod([], None) is None


@pytest.mark.parametrize(
    ("state", "expected"), [("running", True), ("terminated", True), ("waiting", False), (None, False)]
)
def test_there_is_a_log_once_the_container_has_started(state, expected):
    assert has_log(a_pod(1, "a", state)) is expected


@pytest.mark.parametrize(
    ("phase", "ended"), [("Completed", True), ("TimedOut", True), ("Running", False), (None, False)]
)
def test_a_run_has_ended_in_a_terminal_phase(phase, ended):
    assert has_ended({"status": {"phase": phase}}) is ended
    assert has_ended({}) is False


def test_parameters_of_a_megabyte_are_refused_with_advice(capsys):
    from levada.cli.deployment import check_size

    with pytest.raises(typer.Exit):
        check_size({"data": "x" * 1_000_000})
    said = capsys.readouterr().err
    assert "the parameters take 1,000,011 bytes; 65,536 are possible" in said
    assert "pass its path or URL" in said
    check_size({"data": "x" * 65_000})
