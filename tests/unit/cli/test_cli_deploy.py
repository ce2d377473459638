"""`levada deploy`, as a person types it, up to the cluster's door."""

import os
import subprocess
import sys

import pytest
import yaml

from support.git import Repository

FLOW = '''
from levada import flow

print("imported")

@flow
def etl(days: int = 1, table: str = "trips") -> int:
    """Cleans up."""
    return days
'''
OWN = (
    FLOW
    + 'nightly = etl.to_deployment("nightly", cron="0 2 * * *")\nmore = [etl.to_deployment("weekly", interval=3600)]\n'
)


@pytest.fixture
def levada(tmp_path):
    (tmp_path / "etl.py").write_text(FLOW)
    (tmp_path / "own.py").write_text(OWN)

    def type_in(*arguments, cwd=tmp_path):
        env = {key: value for key, value in os.environ.items() if not key.startswith(("LEVADA_", "AWS_"))}
        return subprocess.run(
            [sys.executable, "-m", "levada.cli", "deploy", *arguments],
            cwd=cwd,
            env=env | {"LEVADA_HOME": str(tmp_path / "home"), "KUBECONFIG": str(tmp_path / "none")},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    return type_in


def objects(done):
    assert done.returncode == 0, done.stderr
    return {(each["kind"], each["metadata"]["name"]): each.get("spec") for each in yaml.safe_load_all(done.stdout)}


def test_a_flow_and_its_options(levada):
    found = objects(
        levada("etl.py:etl", "--dry-run", "-r", "pandas>=2", "--cron", "0 2 * * *", "-p", "days=3", "-q", "ml")
    )
    assert set(found) == {("Flow", "etl"), ("Deployment", "etl"), ("Schedule", "etl")}
    flow, deployment = found["Flow", "etl"], found["Deployment", "etl"]
    assert (flow["description"], flow["requirements"], flow["source"]) == (
        "Cleans up.",
        ["pandas>=2"],
        {"inline": FLOW},
    )
    assert set(flow["parameterSchema"]["properties"]) == {"days", "table"}
    assert (deployment["parameters"], deployment["workQueue"]) == ({"days": 3}, "ml")


def test_deployments_that_the_file_makes(levada):
    found = objects(levada("own.py:etl", "--dry-run"))
    assert [key for key in found if key[0] != "Flow"] == [
        ("Deployment", "nightly"), ("Schedule", "nightly"), ("Deployment", "weekly"), ("Schedule", "weekly"),
    ]  # fmt: skip
    other = objects(levada("own.py:etl", "--dry-run", "--name", "Other One", "--paused"))
    assert set(other) == {("Flow", "etl"), ("Deployment", "other-one")}
    refused = levada("own.py:etl", "--dry-run", "--paused")
    assert "the file makes deployments of this flow itself (nightly, weekly)" in refused.stderr


def test_several_files_and_a_bucket(levada, tmp_path):
    (tmp_path / "etl.py").write_text("import helper\n" + FLOW)
    (tmp_path / "helper.py").touch()
    assert "configMap" in objects(levada("etl.py:etl", "--dry-run"))["Flow", "etl"]["source"]
    source = objects(levada("etl.py:etl", "--dry-run", "--storage", "s3://flow-code/team"))["Flow", "etl"]["source"]
    assert source["s3"]["path"].startswith("team/etl-")


def test_a_repository(levada, tmp_path):
    (tmp_path / "git").mkdir()
    repository = Repository(tmp_path / "git")
    repository.git("remote", "add", "origin", str(repository.bare))
    repository.commit("flows/etl.py", FLOW)
    repository.git("push", "--quiet", "origin", "main")
    done = levada("flows/etl.py:etl", "--source", "git", "--git-secret", "repo", "--dry-run", cwd=repository.work)
    flow = objects(done)["Flow", "etl"]
    assert flow["entrypoint"] == "flows/etl.py:etl"
    assert flow["source"]["git"]["commit"] == repository.git("rev-parse", "HEAD")


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["etl.py:gone"], "etl.py has no flow `gone`", 1),
        (["etl.py"], "must look like `path.py:function`", 2),
        (["etl.py:etl", "--source", "git"], "is in no Git repository", 1),
        (["etl.py:etl", "--requirements", "gone.txt"], "gone.txt cannot be read", 1),
        (["etl.py:etl", "-r", "--evil"], "a requirement is a package", 1),
        (["etl.py:etl", "--timezone", "UTC"], "add --cron, --interval or --rrule", 2),
        (["etl.py:etl", "--cron", "0 25 * * *"], "day of week; '0 6 * * 1-5' is six on workdays\n", 1),
        (["etl.py:etl", "-p", "days=often"], "parameter 'days'", 1),
        (["etl.py:etl", "--storage", "s3://b/x", "--path", "/app"], "not both", 1),
        (["etl.py:etl"], "set KUBECONFIG or pass --kubeconfig FILE", 5),
    ],
)
def test_what_cannot_work_is_said(levada, arguments, words, code):
    done = levada(*arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "a storage is a URL" not in done.stderr
