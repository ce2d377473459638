"""Where a flow's code comes from, and what it needs, in a cluster: real repositories, a real S3 service, real installations."""

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from support.git import Repository, git_over_http
from support.stack import Stack, running_stack, wait_until
from support.wheels import a_wheel

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120)]

USER, PASSWORD = "deploy", "canary-0123456789"
FLOW = """
import os
from levada import flow
import beside

@flow
def etl(fail_first: bool = False) -> str:
    if fail_first and os.environ["LEVADA_ATTEMPT"] == "1":
        raise ValueError("not the first time")
    return beside.WORD
"""


@pytest.fixture(scope="module")
def stack(cluster, installed, tmp_path_factory) -> Iterator[Stack]:
    with running_stack(cluster, tmp_path_factory.mktemp("sources"), agent_name="sources-agent") as running:
        yield running


@pytest.fixture
def repository(tmp_path):
    made = Repository(tmp_path)
    made.commit("flows/beside.py", "WORD = 'first'\n")
    made.commit("flows/etl.py", FLOW)
    made.push()
    return made


class Team:
    """Somebody with a namespace."""

    def __init__(self, kubectl, namespace, stack):
        self.namespace, self.stack = namespace, stack
        self.kubectl = lambda *words, **more: kubectl("-n", namespace, *words, **more)

    def apply(self, kind, name, spec, **more):
        version = "v1" if kind == "Secret" else "levada.dev/v1alpha1"
        body = {"apiVersion": version, "kind": kind, "metadata": {"name": name}}
        self.kubectl("apply", "-f", "-", stdin=body | ({"spec": spec} if spec is not None else {}) | more)

    def deploy(self, source, *, entrypoint="etl.py:etl", name="etl", env=None, retries=0, **spec):
        self.apply("Flow", name, {"entrypoint": entrypoint, "source": source, **spec})
        infrastructure = {"env": [{"name": key, "value": value} for key, value in (env or {}).items()]}
        retries = {"retries": {"limit": retries, "delaySeconds": 2}} if retries else {}
        self.apply("Deployment", name, {"flowRef": {"name": name}, "infrastructure": infrastructure, **retries})

    def run(self, run, name="etl", **parameters):
        self.apply("FlowRun", run, {"deploymentRef": {"name": name}, "parameters": parameters})

    def status(self, run):
        return json.loads(self.kubectl("get", "fr", run, "-o", "json")).get("status") or {}

    def ended(self, run, phase, seconds=60):
        over = {"Completed", "Failed", "Crashed", "Cancelled", "TimedOut", "Skipped"}
        wait_until(lambda: self.status(run).get("phase") in over, f"run {run} ends", seconds)
        status = self.status(run)
        assert status["phase"] == phase, f"{status}\n{self.stack.log('operator')[-2000:]}"
        return status

    def secret(self, name, **keys):
        self.apply("Secret", name, None, stringData=keys)


@pytest.fixture
def team(stack, kubectl, namespace):
    return Team(kubectl, namespace, stack)


def test_a_branch_of_a_local_repository(team, repository):
    repository.git("checkout", "-q", "-b", "release")
    commit = repository.commit("flows/beside.py", "WORD = 'release'\n")
    repository.push()
    team.deploy({"git": {"url": repository.bare.as_uri(), "branch": "release", "path": "flows"}})
    team.run("r")
    status = team.ended("r", "Completed")
    assert (status["result"], status["codeRevision"]) == ('"release"', commit)
    ready = json.loads(team.kubectl("get", "flow", "etl", "-o", "json"))["status"]["conditions"][0]
    assert (ready["status"], ready["reason"]) == ("True", "CodeInRepository")


def test_a_later_attempt_runs_the_commit_of_the_first(team, repository):
    """The branch moves on between the attempts."""
    team.deploy({"git": {"url": repository.bare.as_uri(), "branch": "main", "path": "flows"}}, retries=1)
    team.run("r", fail_first=True)
    wait_until(lambda: team.status("r").get("phase") == "Retrying", "the first attempt fails", 60)
    first = team.status("r")["codeRevision"]
    repository.commit("flows/beside.py", "WORD = 'second'\n")
    repository.push()
    status = team.ended("r", "Completed")
    assert (status["result"], status["codeRevision"], status["attempt"]) == ('"first"', first, 2)
    team.run("next")
    assert team.ended("next", "Completed")["result"] == '"second"'


def test_a_private_repository_and_its_secret_shows_nowhere(team, repository):
    with git_over_http(repository.bare.parent, USER, PASSWORD) as address:
        source = {"git": {"url": f"{address}/flows.git", "tag": "v2", "path": "flows", "secretRef": {"name": "repo"}}}
        repository.git("tag", "v2")
        repository.push()
        team.deploy(source)
        team.run("without")
        without = team.ended("without", "Failed")
        team.secret("repo", username=USER, password="wrong-" + PASSWORD)
        team.run("wrong")
        wrong = team.ended("wrong", "Failed")
        team.secret("repo", username=USER, password=PASSWORD)
        team.run("right")
        assert team.ended("right", "Completed")["result"] == '"first"'
    assert (without["reason"], wrong["reason"]) == ("CodeNotFetched", "CodeNotFetched")
    assert "there is no Secret 'repo'" in without["message"]
    assert "the credentials are wrong" in wrong["message"] or "it needs credentials" in wrong["message"]
    told = team.kubectl("get", "flow,fdep,fr,jobs,pods,events", "-o", "yaml")
    told += "".join(team.kubectl("logs", "-l", f"levada.dev/run={run}") for run in ("without", "wrong", "right"))
    told += team.stack.log("operator") + team.stack.log("agent")
    assert PASSWORD not in told


def test_an_archive_in_a_bucket(team):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("flows/beside.py", "WORD = 'unpacked'\n")
        archive.writestr("flows/etl.py", FLOW)
    checksum = hashlib.sha256(data.getvalue()).hexdigest()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
    try:
        client.create_bucket(Bucket="releases")
        client.put_object(Bucket="releases", Key="etl/1.zip", Body=data.getvalue())
        s3 = {"bucket": "releases", "path": "etl/1.zip", "endpointUrl": url, "region": "us-east-1", "sha256": checksum}
        team.secret("keys", **{name.upper(): value for name, value in keys.items()})
        team.deploy({"s3": s3 | {"secretRef": {"name": "keys"}}}, entrypoint="flows/etl.py:etl")
        team.run("r")
        status = team.ended("r", "Completed")
        assert (status["result"], status["codeRevision"]) == ('"unpacked"', f"sha256:{checksum}")
        client.put_object(Bucket="releases", Key="etl/1.zip", Body=b"another")
        team.run("replaced")
        assert "it was replaced" in team.ended("replaced", "Failed")["message"]
    finally:
        client.close()
        server.stop()


NEEDY = """
# /// script
# dependencies = ["needed<2"]
# ///
from levada import flow

@flow
def needy() -> str:
    import needed
    return needed.VERSION
"""


def test_what_a_flow_needs_is_installed_before_it_runs(team, tmp_path):
    for version in ("1.0", "2.0"):
        a_wheel(tmp_path / "wheels", "needed", version)
    env = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")}
    deploy = {"entrypoint": "needy.py:needy", "env": env}
    team.deploy({"inline": NEEDY}, name="block", **deploy)
    team.deploy({"inline": NEEDY}, name="spec", requirements=["needed==2.0"], **deploy)
    team.deploy({"inline": NEEDY}, name="gone", requirements=["needed==3.0"], **deploy)
    for name in ("block", "spec", "gone"):
        team.run(name, name)
    block, spec, gone = team.ended("block", "Completed"), team.ended("spec", "Completed"), team.ended("gone", "Failed")
    assert (block["result"], spec["result"]) == ('"1.0"', '"2.0"')
    assert spec["stages"]["installSeconds"] > 0
    assert gone["reason"] == "RequirementsNotInstalled"
    assert "there is no such package or version" in gone["message"]
    team.run("again", "spec")
    assert "installSeconds" in team.ended("again", "Completed")["stages"]
    assert len(list(team.stack.folder.glob("**/environments/*/levada-made"))) == 2  # kept by the agent


def test_levada_deploy_from_a_repository(team, repository, stack, kubectl):
    repository.git("remote", "add", "origin", str(repository.bare))
    repository.git("fetch", "-q", "origin")
    kubeconfig = repository.work.parent / "kubeconfig"
    kubeconfig.write_text(stack.cluster.kubeconfig.read_text())
    done = subprocess.run(
        [
            sys.executable, "-m", "levada.cli", "deploy", "flows/etl.py:etl", "--source", "git", "--cron", "0 6 * * *",
            "-n", team.namespace, "--kubeconfig", str(kubeconfig), "-p", "fail_first=false",
        ],
        cwd=repository.work, env=os.environ | {"LEVADA_HOME": str(repository.work.parent)}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:3] == ["flow/etl applied", "deployment/etl applied", "schedule/etl applied"]
    team.run("r")
    assert team.ended("r", "Completed")["codeRevision"] == repository.git("rev-parse", "HEAD")


GIT = {"url": "https://example.com/x.git"}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"source": {"git": GIT | {"branch": "a", "tag": "b"}}}, "one of branch, tag and commit"),
        ({"source": {"git": {"url": "https://user:pass@example.com/x"}}}, "put user name and password into a Secret"),
        ({"source": {"git": {"url": "ssh://git:pass@example.com/x"}}}, "put user name and password into a Secret"),
        ({"source": {"git": {"url": "--upload-pack=touch /tmp/x"}}}, "spec.source.git.url"),
        ({"source": {"git": {"url": "ext::sh -c evil"}}}, "spec.source.git.url"),
        ({"source": {"git": GIT | {"branch": "-f"}}}, "spec.source.git.branch"),
        ({"source": {"git": GIT | {"commit": "abc"}}}, "spec.source.git.commit"),
        ({"source": {"git": GIT | {"path": "../x"}}}, "a folder inside the repository"),
        ({"source": {"git": GIT, "inline": "x"}}, "exactly one source"),
        ({"source": {"s3": {"bucket": "abc", "path": "x", "sha256": "0" * 64}}}, "sha256 is that of an archive"),
        ({"requirements": ["--index-url=http://x"]}, "spec.requirements"),
        ({"requirements": ["a @ https://user:pass@x/a.whl"]}, "requirements are public"),
        ({"requirementsFile": "r.txt"}, "list the packages in requirements"),
        ({"requirementsFile": "../r.txt", "source": {"git": GIT}}, "a path inside the source"),
    ],
)
def test_what_the_api_server_refuses(installed, kubectl, namespace, spec, words):
    body = {"entrypoint": "flow.py:f", "source": {"inline": "x"}, **spec}
    flow = {"apiVersion": "levada.dev/v1alpha1", "kind": "Flow", "metadata": {"name": "f"}, "spec": body}
    with pytest.raises(AssertionError, match=words):
        kubectl("-n", namespace, "apply", "--dry-run=server", "-f", "-", stdin=flow)


@pytest.mark.parametrize(
    "spec",
    [
        {"source": {"git": {"url": "git@example.com:team/x.git", "branch": "feature/a-1"}}},
        {"source": {"git": {"url": "ssh://git@example.com:22/x.git", "tag": "v1.0+2"}}},
        {"source": {"git": GIT | {"commit": "a" * 40, "path": "flows/etl"}}, "requirementsFile": "req/all.txt"},
        {"requirements": ["pandas[parquet]>=2,<3; python_version >= '3.11'", "a @ git+ssh://git@example.com/a.git@v1"]},
    ],
)
def test_what_the_api_server_takes(installed, kubectl, namespace, spec):
    body = {"entrypoint": "flow.py:f", "source": {"inline": "x"}, **spec}
    flow = {"apiVersion": "levada.dev/v1alpha1", "kind": "Flow", "metadata": {"name": "f"}, "spec": body}
    kubectl("-n", namespace, "apply", "--dry-run=server", "-f", "-", stdin=flow)
