"""`source="git"`: what a repository must be like for runs to fetch a flow from it; and requirements as authors give them."""

import sys

import pytest

from levada._git_source import source_of
from levada._loading import load_flow
from levada._packages import packages_of
from levada.deployments import to_deployment
from levada.exceptions import DeploymentError
from support.git import Repository

FLOW = "from levada import flow\n\n@flow\ndef in_git(x: int = 1):\n    pass\n"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    made = Repository(tmp_path)
    made.git("remote", "add", "origin", str(made.bare))
    made.commit("flows/in_git_flow.py", FLOW)
    made.git("push", "--quiet", "origin", "main")
    return made


def file_of(repository):
    return repository.work / "flows" / "in_git_flow.py"


def test_the_commit_that_is_checked_out(repository):
    commit = repository.git("rev-parse", "HEAD")
    url = repository.bare.as_uri()
    assert source_of(file_of(repository)) == ({"git": {"url": url, "commit": commit}}, "flows/in_git_flow.py")
    assert source_of(file_of(repository), "repo")[0]["git"]["secretRef"] == {"name": "repo"}


@pytest.mark.parametrize(
    ("remote", "url"),
    [
        ("https://user:hush@github.com/team/etl.git", "https://github.com/team/etl.git"),
        ("git@github.com:team/etl.git", "git@github.com:team/etl.git"),
        ("ssh://git@github.com/team/etl.git", "ssh://git@github.com/team/etl.git"),
    ],
)
def test_the_url_is_public(repository, remote, url):
    repository.git("remote", "set-url", "origin", remote)
    assert source_of(file_of(repository))[0]["git"]["url"] == url


def test_the_flow_names_it(repository):
    flow = load_flow("in_git_flow.py:in_git", file_of(repository).parent)
    made = to_deployment(flow, "a", source="git", git_secret="repo", requirements=["pandas>=2"])
    found = next(each for each in made.to_resources() if each["kind"] == "Flow")["spec"]
    assert found["entrypoint"] == "flows/in_git_flow.py:in_git"
    assert set(found["source"]["git"]) == {"url", "commit", "secretRef"}
    assert found["requirements"] == ["pandas>=2"]
    with pytest.raises(DeploymentError, match="not both"):
        to_deployment(flow, "a", source="git", path="/app")
    with pytest.raises(DeploymentError, match="must be 'git'"):
        to_deployment(flow, "a", source="svn")
    with pytest.raises(DeploymentError, match="give source='git' with it"):
        to_deployment(flow, "a", git_secret="repo")


def changed(repository):
    file_of(repository).write_text(FLOW + "# more\n")


def untracked(repository):
    (repository.work / "helper.py").touch()


def not_pushed(repository):
    repository.commit("more.py", "x")


def no_remote(repository):
    repository.git("remote", "remove", "origin")


def ignored(repository):
    repository.commit(".gitignore", "other.py\n")
    repository.git("push", "--quiet", "origin", "main")
    (file_of(repository).parent / "other.py").write_text(FLOW)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (changed, r"what is not committed \(flows/in_git_flow.py\)"),
        (untracked, r"what is not committed \(helper.py\)"),
        (not_pushed, "is in no remote branch; `git push` it"),
        (no_remote, "is in no remote branch"),
    ],
)
def test_what_runs_could_not_fetch(repository, state, words):
    state(repository)
    with pytest.raises(DeploymentError, match=words):
        source_of(file_of(repository))


def test_a_file_that_git_does_not_know(repository, tmp_path):
    ignored(repository)
    with pytest.raises(DeploymentError, match=r"flows/other.py is not under version control"):
        source_of(file_of(repository).parent / "other.py")
    outside = tmp_path / "outside.py"
    outside.touch()
    with pytest.raises(DeploymentError, match="is in no Git repository"):
        source_of(outside)


def test_requirements(tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text("# ours\npandas>=2  # frames\n\nnumpy\nnumpy\n")
    assert packages_of(None) is None
    assert packages_of([]) == []
    assert packages_of(file) == packages_of(str(file)) == ["pandas>=2", "numpy"]
    assert packages_of(("a", "b==1")) == ["a", "b==1"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("pandas", "must be a list"),
        (7, "must be a list"),
        (["--index-url=http://x"], "a requirement is a package"),
        (["a\nb"], "a requirement is a package"),
        ([1], "a requirement is a package"),
        ([f"a{n}" for n in range(65)], "64 are possible"),
        ("gone.txt", "cannot be read"),
    ],
)
def test_requirements_that_mean_nothing(given, words):
    with pytest.raises(DeploymentError, match=words):
        packages_of(given)


def test_a_file_with_options_stays_beside_the_flow(tmp_path):
    (tmp_path / "requirements.txt").write_text("--index-url https://x\n")
    with pytest.raises(DeploymentError, match=r"name it in spec.requirementsFile"):
        packages_of(tmp_path / "requirements.txt")
