"""Code from real repositories: one in a folder, and one behind a web server that asks for a token."""

import asyncio
import base64
from pathlib import Path

import pytest

from levada import secrets
from levada.blocks import Secret, String
from levada.exceptions import BlockError, MissingDependencyError, StorageError
from levada.filesystems import GitRepository
from levada.storage import git
from support.git import git_over_http

TOKEN = "ghp-0123456789"


@pytest.fixture(scope="module")
def address(repository):
    with git_over_http(repository.bare.parent, "x-access-token", TOKEN) as url:
        yield url


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize(
    ("which", "content"),
    [
        ({}, "two"),
        ({"branch": "main"}, "two"),
        ({"branch": "stable"}, "two"),
        ({"tag": "v1"}, "one"),
        ({"commit_sha": "first"}, "one"),
    ],
)
def test_states_of_a_repository(repository, tmp_path, scheme, which, content):
    if "commit_sha" in which:
        which = {"commit_sha": repository.first}
    code = GitRepository(url=scheme + repository.url, **which).pull_code(tmp_path / "code")
    assert code == tmp_path / "code"
    assert (code / "flow.py").read_text() == content
    assert (code / "pipelines").exists() is (which in ({}, {"branch": "main"}))


def test_pulled_again(tmp_path, repository):
    """The folder follows: to another state, to what is new, and over what was changed in it."""
    folder = tmp_path / "code"
    GitRepository(url=repository.url, tag="v1").pull_code(folder)
    (folder / "flow.py").write_text("scribbled over")
    GitRepository(url=repository.url).pull_code(folder)
    assert (folder / "flow.py").read_text() == "two"
    repository.commit("new.py", "new")
    repository.push()
    GitRepository(url=repository.url, branch="main").pull_code(folder)
    assert (folder / "new.py").read_text() == "new"
    assert len(list(folder.iterdir())) == 4


def test_an_abbreviated_commit_needs_everything(repository, tmp_path):
    """A server gives single commits by their full names only: then all of it comes."""
    code = GitRepository(url=repository.url, commit_sha=repository.first[:10]).pull_code(tmp_path)
    assert (code / "flow.py").read_text() == "one"


def test_a_subfolder(repository, tmp_path):
    code = GitRepository(url=repository.url, subfolder="pipelines").pull_code(tmp_path)
    assert code == tmp_path / "pipelines"
    assert (code / "taxi.py").read_text() == "taxi"
    with pytest.raises(StorageError, match=r"there is no folder 'nowhere' in .*; check subfolder"):
        GitRepository(url=repository.url, subfolder="nowhere").pull_code(tmp_path)


def test_only_some_folders(repository, tmp_path):
    code = GitRepository(url=repository.url, directories=["pipelines"]).pull_code(tmp_path)
    assert (code / "pipelines" / "taxi.py").exists()


def test_where_to_by_default(repository, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert GitRepository(url=repository.url).pull_code() == Path("flows")
    assert asyncio.run(GitRepository(url=repository.url, name="mine").apull_code()) == Path("mine")
    assert Path("flows/flow.py").exists()
    assert GitRepository(url="git@github.com:team/taxi.git")._stem() == "taxi"


def test_copied_without_its_history(repository, tmp_path):
    source = GitRepository(url=repository.url)
    assert source.get_directory(local_path=tmp_path / "all") == str(tmp_path / "all")
    assert (tmp_path / "all" / "flow.py").exists()
    assert not (tmp_path / "all" / ".git").exists()
    source.get_directory("pipelines", tmp_path / "some")
    assert [file.name for file in (tmp_path / "some").iterdir()] == ["taxi.py"]
    for path in ("nowhere", "../.."):
        with pytest.raises(StorageError, match="check from_path"):
            source.get_directory(path, tmp_path / "none")


def test_submodules(tmp_path, repository, monkeypatch):
    """Git takes submodules from paths only if it is told so."""
    for index, (key, value) in enumerate({"protocol.file.allow": "always"}.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{index}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{index}", value)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    outer = type(repository)(tmp_path)
    outer.git("submodule", "--quiet", "add", repository.url, "shared")
    outer.commit("x", "x")
    outer.push()
    code = GitRepository(url=outer.url, include_submodules=True).pull_code(tmp_path / "code")
    assert (code / "shared" / "flow.py").read_text() == "two"
    assert not (GitRepository(url=outer.url).pull_code(tmp_path / "plain") / "shared" / "flow.py").exists()


# --- credentials ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "credentials",
    [
        {"access_token": TOKEN},
        {"token": TOKEN},
        {"username": "x-access-token", "password": TOKEN},
        {"access_token": Secret(value=TOKEN)},
        Secret(value=TOKEN),
    ],
    ids=["token", "short", "password", "secret in dict", "secret"],
)
@pytest.mark.parametrize("saved", [False, True])
def test_a_token_opens_it(address, tmp_path, credentials, saved):
    if saved:
        for part in [credentials, *(credentials.values() if isinstance(credentials, dict) else ())]:
            if isinstance(part, Secret):
                part.save("github")
    block = GitRepository(url=f"{address}/flows.git", credentials=credentials)
    assert TOKEN not in repr(block)
    block.save("closed")
    assert TOKEN not in str(block.to_resource("closed"))
    code = GitRepository.load("closed").pull_code(tmp_path / "code")
    assert (code / "flow.py").read_text() == "two"
    written = b"".join(file.read_bytes() for file in (code / ".git").rglob("*") if file.is_file())
    assert TOKEN.encode() not in written
    assert base64.b64encode(f"x-access-token:{TOKEN}".encode()) not in written


@pytest.mark.parametrize("user", ["", "x-access-token:"])
def test_a_token_in_the_url(address, tmp_path, user):
    url = address.replace("http://", f"http://{user}{TOKEN}@")
    code = GitRepository(url=f"{url}/flows.git").pull_code(tmp_path)
    assert (code / "flow.py").exists()
    assert TOKEN not in (code / ".git" / "config").read_text()


def test_wrong_or_no_credentials(address, tmp_path):
    with pytest.raises(StorageError, match="it needs credentials, or there is no such repository"):
        GitRepository(url=f"{address}/flows.git").pull_code(tmp_path / "a")
    with pytest.raises(StorageError) as caught:
        GitRepository(url=f"{address}/flows.git", credentials={"token": "wrong-token"}).pull_code(tmp_path / "b")
    assert "the credentials are wrong" in str(caught.value) or "it needs credentials" in str(caught.value)
    assert "wrong-token" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "user"),
    [
        ("https://github.com/a/b", "x-access-token"),
        ("https://gitlab.example.com/a/b", "oauth2"),
        ("https://bitbucket.org/a/b", "x-token-auth"),
        ("nonsense", "x-access-token"),
    ],
)
def test_who_has_a_token(url, user):
    assert git.user_for_token(url) == user


# --- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"branch": "gone"}, "there is no such branch, tag or commit"),
        ({"tag": "gone"}, "there is no such branch, tag or commit"),
        ({"commit_sha": "0" * 40}, "there is no such"),
    ],
)
def test_a_state_that_is_not_there(repository, tmp_path, arguments, message):
    with pytest.raises(StorageError, match=f"cannot fetch {repository.url}: {message}"):
        GitRepository(url=repository.url, **arguments).pull_code(tmp_path)


def test_a_repository_that_is_not_there(tmp_path):
    with pytest.raises(StorageError, match="there is no such repository; check the URL"):
        GitRepository(url=str(tmp_path / "nowhere.git")).pull_code(tmp_path / "code")
    with pytest.raises(StorageError, match="nothing answers there; check the URL and the network"):
        GitRepository(url="http://127.0.0.1:9/x.git").pull_code(tmp_path / "code")


def test_no_git(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="needs the git command"):
        GitRepository(url="/x").pull_code(tmp_path / "code")


def test_git_takes_too_long(monkeypatch, tmp_path, repository):
    monkeypatch.setattr(git, "TIMEOUT_SECONDS", 0.0001)
    with pytest.raises(StorageError, match=r"git was not done after 0.0001 seconds"):
        GitRepository(url=repository.url).pull_code(tmp_path)


def test_a_saved_secret_by_its_name(address, tmp_path):
    Secret(value=TOKEN).save("github")
    block = GitRepository(url=f"{address}/flows.git", credentials={"access_token": "secret/github"})
    assert "secret/github" in repr(block)
    assert (block.pull_code(tmp_path) / "flow.py").exists()
    with pytest.raises(BlockError, match="gone"):
        GitRepository(url=f"{address}/flows.git", credentials={"access_token": "secret/gone"}).pull_code(tmp_path)


def test_what_git_says_otherwise():
    assert git.advice("warning: x\nfatal: the moon is full\n") == "git says: fatal: the moon is full"
    assert git.advice("") == "git failed without a word"


def test_a_secret_in_gits_words_is_masked():
    secrets.register("tok-12345678")
    assert "tok-12345678" not in secrets.mask("fatal: tok-12345678")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": ""}, "url='' is no url of a repository"),
        ({"url": "--upload-pack=touch /tmp/x"}, "is no url of a repository"),
        ({"url": "/x", "branch": "-f"}, "branch='-f' is no branch of a repository"),
        ({"url": "/x", "branch": "a b"}, "branch='a b' is no branch of a repository"),
        ({"url": "/x", "branch": "a", "tag": "b"}, "takes one of branch, tag and commit_sha, not branch and tag"),
        ({"url": "/x", "subfolder": "../x"}, "must be a path inside the repository"),
        ({"url": "/x", "subfolder": "/x"}, "must be a path inside the repository"),
        ({"url": "/x", "credentials": {"pin": "1"}}, "credentials must be {'access_token'"),
        ({"url": "/x", "credentials": {"token": ""}}, "credentials must be {'access_token'"),
        ({"url": "/x", "credentials": String(value="")}, "credentials must be {'access_token'"),
    ],
)
def test_what_cannot_work_is_said_at_once(arguments, message):
    with pytest.raises(BlockError, match=message):
        GitRepository(**arguments)
