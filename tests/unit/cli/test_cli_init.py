"""A new project runs as it is, holds a deployment that the schema takes, and nothing that was there is lost."""

import subprocess
import sys

import pytest
import typer
import yaml

from levada._manifests import check
from levada.cli.init import slug_of


def levada(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "levada.cli", *arguments], cwd=folder, capture_output=True, text=True, timeout=30, check=False
    )  # fmt: skip


def test_a_new_project_runs_and_its_deployment_is_valid(tmp_path):
    made = levada(tmp_path, "init", "My ETL")
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "My ETL"
    ran = levada(folder, "run", "flow.py:my_etl", "-p", "count=4")
    assert ran.returncode == 0, ran.stderr
    documents = list(yaml.safe_load_all((folder / "deployment.yaml").read_text()))
    assert [each["kind"] for each in documents] == ["Flow", "Deployment"]
    for each in documents:
        check(each)
    assert documents[0]["spec"]["entrypoint"] == "flow.py:my_etl"
    rebuilt = levada(folder, "deployment", "build", "flow.py:my_etl", "-n", "my-etl", "-o", "-")
    assert list(yaml.safe_load_all(rebuilt.stdout)) == documents  # as README.md says


def test_nothing_is_overwritten_without_force(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    refused = levada(tmp_path, "init", ".", "--name", "etl")
    assert refused.returncode == 1
    assert "has README.md already" in refused.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine"
    assert levada(tmp_path, "init", ".", "--name", "etl", "--force").returncode == 0
    assert (tmp_path / "README.md").read_text() != "mine"


@pytest.mark.parametrize("text", ["", "---", "2019", "class", "flow"])
def test_a_name_that_no_flow_can_have(text, capsys):
    with pytest.raises(typer.Exit) as caught:
        slug_of(text)
    assert caught.value.exit_code == 2
    assert "--name etl" in capsys.readouterr().err
