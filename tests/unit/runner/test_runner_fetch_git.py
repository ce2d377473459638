"""The code of a run in a Git repository: in a folder, behind a password, behind an SSH key."""

import os
import stat
import sys

import pytest

from levada import secrets
from levada.resources.sources import GitPlace, text_of
from levada.runner.code import CodeError
from levada.runner.fetch import fetched
from support.git import Repository, git_over_http

USER, PASSWORD = "deploy", "pass-0123456789"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return Repository(tmp_path_factory.mktemp("git"))


@pytest.fixture(scope="module")
def address(repository):
    with git_over_http(repository.bare.parent, USER, PASSWORD) as url:
        yield f"{url}/flows.git"


@pytest.fixture
def secret(tmp_path, monkeypatch):
    """A Secret as a pod has it: files behind links, in a folder that the environment names."""
    folder = tmp_path / "secret"
    monkeypatch.setenv("LEVADA_SOURCE_SECRET_DIR", str(folder))

    def make(**keys):
        (folder / "..data").mkdir(parents=True)
        for key, text in keys.items():
            name = key.replace("__", "-")
            (folder / "..data" / name).write_text(text)
            (folder / name).symlink_to(folder / "..data" / name)

    return make


@pytest.mark.parametrize(
    ("reference", "content"),
    [("HEAD", "two"), ("refs/heads/stable", "two"), ("refs/tags/v1", "one"), ("first", "one")],
)
def test_a_state_of_a_local_repository(repository, reference, content):
    reference = repository.first if reference == "first" else reference
    code = fetched(text_of(GitPlace(f"file://{repository.bare}", reference)))
    assert (code.folder / "flow.py").read_text() == content
    assert len(code.revision) == 40
    assert (code.revision == repository.first) == (content == "one")


def test_a_subfolder(repository):
    code = fetched(text_of(GitPlace(f"file://{repository.bare}", folder="pipelines")))
    assert [file.name for file in code.folder.iterdir()] == ["taxi.py"]


def test_no_submodules_no_hooks_no_commands(repository, tmp_path):
    """What a repository asks for beyond its files is not done."""
    outer = Repository(tmp_path)
    outer.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", repository.url, "shared")
    outer.commit("x", "x")
    outer.push()
    code = fetched(text_of(GitPlace(f"file://{outer.bare}")))
    assert list((code.folder / "shared").iterdir()) == []
    assert not (code.folder / ".git" / "hooks").exists()
    with pytest.raises(CodeError, match="cannot fetch"):
        fetched(text_of(GitPlace(f"ext::sh -c touch% {tmp_path}/evil")))
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("place", "reason", "words"),
    [
        ({"folder": "nowhere"}, "CodeNotFound", "There is no folder 'nowhere' in .*: correct source.git.path"),
        ({"folder": "../.."}, "CodeNotFound", "There is no folder"),
        ({"folder": "leads-out"}, "CodeNotFound", "There is no folder"),
        ({"reference": "refs/heads/gone"}, "CodeNotFetched", "there is no such branch, tag or commit"),
        ({"url": "file:///nowhere.git"}, "CodeNotFetched", "there is no such repository"),
    ],
)
def test_what_cannot_be_fetched(tmp_path_factory, place, reason, words):
    own = Repository(tmp_path_factory.mktemp("own"))
    (own.work / "leads-out").symlink_to("/etc")
    own.commit("y", "y")
    own.push()
    with pytest.raises(CodeError, match=words) as raised:
        fetched(text_of(GitPlace(f"file://{own.bare}")._replace(**place)))
    assert raised.value.reason == reason


# --- private ones -----------------------------------------------------------------------------------------------------


def test_a_password_opens_it(address, secret):
    secret(username=USER, password=PASSWORD + "\n")
    code = fetched(text_of(GitPlace(address, secret="repo")))
    assert (code.folder / "flow.py").read_text() == "two"
    written = b"".join(file.read_bytes() for file in (code.folder / ".git").rglob("*") if file.is_file())
    assert PASSWORD.encode() not in written
    assert secrets.mask(f"it is {PASSWORD}") == f"it is {secrets.MASK}"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (None, "there is no Secret 'repo' in the run's namespace, or it is empty"),
        ({"pin": "1"}, r"Secret 'repo' has no key password or token \(its keys: pin\); http needs one"),
        ({"token": "wrong-token"}, "the credentials are wrong|it needs credentials"),
    ],
)
def test_a_password_that_opens_nothing(address, secret, keys, words):
    if keys is not None:
        secret(**keys)
    with pytest.raises(CodeError, match=words) as raised:
        fetched(text_of(GitPlace(address, secret="repo")))
    assert raised.value.reason == "CodeNotFetched"
    assert "wrong-token" not in str(raised.value)


FAKE_SSH = """#!{python}
import os, subprocess, sys
key = sys.argv[sys.argv.index("-i") + 1]
hosts = next(word.partition("=")[2] for word in sys.argv if word.startswith("UserKnownHostsFile="))
with open({log!r}, "w") as log:
    print(oct(os.stat(key).st_mode), open(key).read(), open(hosts).read(), *sys.argv[1:], sep="\\n", file=log)
sys.exit(subprocess.call(sys.argv[-1], shell=True))
"""


def test_an_ssh_key_opens_it(repository, secret, tmp_path, monkeypatch):
    """ssh gets this key and these known hosts only; they lie in private files that are gone afterwards."""
    log = tmp_path / "ssh.log"
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(FAKE_SSH.format(python=sys.executable, log=str(log)))
    ssh.chmod(ssh.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{ssh.parent}{os.pathsep}{os.environ['PATH']}")
    secret(ssh__privatekey="the private key of it", known_hosts="git.example.com ssh-ed25519 AAAA")
    code = fetched(text_of(GitPlace(f"ssh://git@git.example.com{repository.bare}", secret="repo")))
    assert (code.folder / "flow.py").read_text() == "two"
    told = log.read_text().splitlines()
    assert told[:2] == ["0o100600", "the private key of it"]
    assert "git.example.com ssh-ed25519 AAAA" in told
    assert {"StrictHostKeyChecking=yes", "BatchMode=yes", "IdentitiesOnly=yes"} <= set(told)
    assert not os.path.exists(told[told.index("-i") + 1])  # noqa: PTH110  a text
    assert not any("the private key" in word for word in told[2:])


@pytest.mark.parametrize("url", ["ssh://git@git.example.com/x.git", "git@git.example.com:x.git"])
def test_ssh_without_known_hosts_is_refused(secret, url):
    """Whom one talks to is never taken on trust."""
    secret(ssh__privatekey="key")
    with pytest.raises(
        CodeError, match="Secret 'repo' has no key known_hosts; ssh needs ssh-privatekey and known_hosts"
    ):
        fetched(text_of(GitPlace(url, secret="repo")))
