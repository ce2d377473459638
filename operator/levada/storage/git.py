"""Code from a Git repository, by the git command.

Only what is asked for is fetched: one commit, without its history. User names, passwords and tokens go to git by its environment,
so they stand in no process list, no file and no message. Hooks never run, and git speaks only the protocols that it is asked to.
"""

import os
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from levada.exceptions import MissingDependencyError, StorageError
from levada.secrets import mask, register

TIMEOUT_SECONDS = 600
# The user name beside a token, by the host's name; GitHub's is the common one.
_TOKEN_USERS = {"gitlab": "oauth2", "bitbucket": "x-token-auth"}
# What git says, in parts of its message, and what to do about it. The first that fits counts.
_ADVICE = (
    ("find remote ref", "there is no such branch, tag or commit; check branch, tag and commit_sha"),
    ("not our ref", "there is no such commit; check commit_sha"),
    ("did not match any file", "there is no such commit; check commit_sha"),
    ("unable to read tree", "there is no such commit; check commit_sha"),
    ("not a tree", "there is no such commit; check commit_sha"),
    (
        "could not read Username",
        "it needs credentials, or there is no such repository; give credentials, check the URL",
    ),
    ("Authentication failed", "the credentials are wrong; check user name and token"),
    ("Permission denied (", "the SSH key is not accepted there; check the key and the URL"),
    (
        "Host key verification failed",
        "the host's key is not among the known hosts; put the line of `ssh-keyscan HOST`, once compared, into known_hosts",
    ),
    ("server certificate verification failed", "its certificate is signed by nobody known here; give ca.crt"),
    ("SSL certificate problem", "its certificate is signed by nobody known here; give ca.crt"),
    ("transport 'file' not allowed", "such a URL is not fetched; name the repository by https or ssh"),
    ("error: 403", "the credentials have no right to it; check the token's scopes"),
    ("Could not resolve host", "there is no such host; check the URL and the network"),
    ("Failed to connect", "nothing answers there; check the URL and the network"),
    ("Connection refused", "nothing answers there; check the URL and the network"),
    ("not found", "there is no such repository, or these credentials may not see it; check the URL"),
    ("not appear to be a git repository", "there is no such repository; check the URL"),
)


def fetch(
    url: str,
    folder: Path,
    *,
    reference: str = "HEAD",
    credentials: tuple[str, str] | None = None,
    directories: Sequence[str] = (),
    submodules: bool = False,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Bring a folder to the state of a reference in a repository, whether it is new or was fetched before.

    Args:
        url: of the repository.
        folder: where the files go.
        reference: `HEAD`, `refs/heads/main`, `refs/tags/v1` or a commit's full SHA.
        credentials: user name and password or token, for http and https.
        directories: only these folders of the repository, if there are any.
        submodules: also what the repository names as submodules.
        variables: more of git's environment, such as GIT_SSH_COMMAND.

    Returns:
        The commit's hash.

    Raises:
        StorageError: git could not do it; the message names the cause and the fix.
        MissingDependencyError: there is no git command.
    """
    if shutil.which("git") is None:
        raise MissingDependencyError("code from a Git repository needs the git command: apt-get install git")
    bare_url, own = _without_user(url)
    git = _Git(bare_url, folder, _environment(bare_url, credentials or own) | dict(variables or {}))
    folder.mkdir(parents=True, exist_ok=True)
    git("init", "--quiet", "--template=")
    git("config", "remote.origin.url", bare_url)  # relative submodules are looked up from it
    if directories:
        git("sparse-checkout", "set", "--", *directories)
    _fetch_commit(git, reference)
    if submodules:
        git("submodule", "--quiet", "update", "--init", "--recursive", "--depth", "1")
    return git("rev-parse", "HEAD")


def _fetch_commit(git: "_Git", reference: str) -> None:
    try:
        git("fetch", "--quiet", "--depth", "1", "--", "origin", reference)
    except StorageError as error:
        # Some servers give no single commits, or no shallow ones: then everything has to come.
        named = reference.replace("refs/heads/", "refs/remotes/origin/").replace("HEAD", "FETCH_HEAD")
        try:
            git("fetch", "--quiet", "--tags", "--", "origin", "HEAD", "+refs/heads/*:refs/remotes/origin/*")
            git("checkout", "--quiet", "--force", "--detach", named)
        except StorageError:
            raise error from None
    else:
        git("checkout", "--quiet", "--force", "--detach", "FETCH_HEAD")


class _Git:
    """The git command in one folder."""

    def __init__(self, url: str, folder: Path, environment: Mapping[str, str]) -> None:
        self._url = url
        self._folder = folder
        self._environment = environment

    def __call__(self, *arguments: str) -> str:
        """Run it and return what it printed.

        Raises:
            StorageError: it failed.
        """
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=self._folder,
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise StorageError(
                f"cannot fetch {self._url}: git was not done after {TIMEOUT_SECONDS} seconds; check the network, or name directories"
            ) from None
        if done.returncode:
            said = mask(done.stderr.decode(errors="replace").strip())
            raise StorageError(f"cannot fetch {mask(self._url)}: {advice(said)}")
        return done.stdout.decode(errors="replace").strip()


def advice(said: str) -> str:
    """What git's message means and what to do; the message's own last line if it is not known."""
    for part, meaning in _ADVICE:
        if part in said:
            return meaning
    lines = [line for line in said.splitlines() if line.strip()]
    return f"git says: {lines[-1]}" if lines else "git failed without a word"


def user_for_token(url: str) -> str:
    """The user name that a host wants beside a token."""
    host = urlsplit(url).hostname or ""
    return next((user for name, user in _TOKEN_USERS.items() if name in host), "x-access-token")


def _without_user(url: str) -> tuple[str, tuple[str, str] | None]:
    """An http URL without user and password, and these two."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return url, None
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    register(password or user)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return bare, (user, password) if password else (user_for_token(bare), user)


def _environment(url: str, credentials: tuple[str, str] | None) -> dict[str, str]:
    """Git's environment: English, no questions, and the credentials for this host only."""
    environment = {**os.environ, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    environment.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
    environment["GIT_ALLOW_PROTOCOL"] = "file:git:http:https:ssh"  # an `ext::` URL would be a command
    # Nothing of a repository around us (a hook that runs the tests sets these) may lead git elsewhere.
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        environment.pop(name, None)
    settings = {"core.hooksPath": os.devnull}
    if credentials is not None and url.startswith(("http://", "https://")):
        token = b64encode(":".join(credentials).encode()).decode()
        register(token)
        parts = urlsplit(url)
        settings |= {
            f"http.{parts.scheme}://{parts.netloc}/.extraHeader": f"Authorization: Basic {token}",
            "credential.helper": "",
        }
    first = int(environment.get("GIT_CONFIG_COUNT", "0"))
    for index, (name, value) in enumerate(settings.items(), first):
        environment[f"GIT_CONFIG_KEY_{index}"] = name
        environment[f"GIT_CONFIG_VALUE_{index}"] = value
    environment["GIT_CONFIG_COUNT"] = str(first + len(settings))
    return environment
