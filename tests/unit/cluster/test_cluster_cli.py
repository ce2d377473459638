"""`levada cluster`: what a user reads when there is no cluster, and when something is wrong."""

import pytest
from typer.testing import CliRunner

from levada.cli.cluster import app
from levada.cluster import ComponentStatus, binaries, build, cluster
from levada.cluster.errors import BinariesUnavailableError, ComponentError


@pytest.fixture
def levada(monkeypatch, tmp_path):
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path / "home"))
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def fail(error):
    def raise_it(*_, **__):
        raise error

    return raise_it


def test_without_a_cluster_status_says_so_and_fails(levada):
    result = levada("status")
    assert result.exit_code == 1
    assert result.stdout.count("never started") == 4


def test_without_a_cluster_kubeconfig_says_how_to_get_one(levada):
    result = levada("kubeconfig", "--name", "x")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "there is no cluster 'x'" in result.stderr
    assert "levada cluster up --name x" in result.stderr


def test_down_without_a_cluster_is_no_failure(levada):
    result = levada("down", "--name", "x")
    assert (result.exit_code, result.stdout) == (0, "there is no cluster 'x'\n")


def test_bad_name_is_explained(levada):
    result = levada("up", "--name", "Not/A/Name")
    assert result.exit_code == 1
    assert "is no cluster name" in result.stderr


@pytest.mark.parametrize("extra", [["--group", "dev"], ["--output", "file"]])
def test_group_and_output_need_a_user(levada, extra):
    result = levada("kubeconfig", *extra)
    assert result.exit_code == 2
    assert "--user" in result.stderr


def test_folder_that_cannot_be_written_is_explained(levada, monkeypatch, tmp_path):
    (tmp_path / "home").write_text("a file where the folder should be")
    monkeypatch.setattr(binaries, "ensure", lambda progress: {})
    result = levada("up")
    assert result.exit_code == 1
    assert "LEVADA_HOME" in result.stderr


def test_failure_of_a_component_is_a_sentence_and_a_hint(levada, monkeypatch):
    monkeypatch.setattr(binaries, "ensure", fail(ComponentError("etcd died", "read the log")))
    result = levada("up")
    assert (result.exit_code, result.stderr) == (1, "error: etcd died\nhint:  read the log\n")


def test_binaries_are_listed_one_per_line(levada, monkeypatch, tmp_path):
    monkeypatch.setattr(binaries, "ensure", lambda progress: {"etcd": tmp_path / "etcd"})
    assert levada("binaries").stdout == f"etcd\t{tmp_path / 'etcd'}\n"


def test_binaries_that_cannot_be_had_are_explained(levada, monkeypatch):
    monkeypatch.setattr(build, "find_go", lambda progress: None)
    monkeypatch.setattr(binaries, "ensure", fail(BinariesUnavailableError("no source has etcd", "connect")))
    assert "no source has etcd" in levada("binaries").stderr


def test_status_shows_each_state(levada, monkeypatch):
    found = [
        ComponentStatus("etcd", running=True, healthy=True, pid=7, port=20001, uptime_seconds=61.2),
        ComponentStatus(
            "kube-apiserver", running=True, healthy=False, pid=8, port=20002, problem="/readyz answers 500"
        ),
        ComponentStatus("kube-scheduler", running=False, healthy=False, problem="not running"),
    ]
    monkeypatch.setattr(cluster.Cluster, "status", lambda self: found)
    result = levada("status")
    assert result.exit_code == 1
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[1] == ["etcd", "healthy", "7", "20001", "61", "s"]
    assert lines[2][:4] == ["kube-apiserver", "unhealthy", "8", "20002"]
    assert lines[3] == ["kube-scheduler", "stopped", "not", "running"]
