"""A flow's file as a state of the Git repository that it lies in: what `source="git"` writes into a Flow.

Runs fetch the commit that is checked out here. So everything must be committed, and the commit must be where runs can fetch it.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from levada.exceptions import DeploymentError

_SECONDS = 60


def source_of(file: Path, secret: str | None = None) -> tuple[dict[str, Any], str]:
    """The source of a Flow, and the file's path in the repository.

    Args:
        file: the flow's file.
        secret: name of the Secret that opens the repository, if runs need one.

    Raises:
        DeploymentError: the file is in no repository, something is not committed or not pushed, or there is no remote.
    """
    top = Path(_top(file))
    path = file.resolve().relative_to(top.resolve()).as_posix()
    if _git(file.parent, "ls-files", "--", file.name) != file.name:
        raise DeploymentError(
            f"{path} is not under version control; `git add` and commit it, or deploy without source='git'"
        )
    changed = [line for line in _git(top, "status", "--porcelain").splitlines() if not _is_compiled(line)]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        listed = ", ".join(line[2:].strip() for line in changed[:3]) + more
        raise DeploymentError(
            f"the repository {top} has what is not committed ({listed}), and runs would not see it; commit or stash it, "
            "or name it in .gitignore"
        )
    commit = _git(top, "rev-parse", "HEAD")
    remote = _remote(top, commit)
    source: dict[str, Any] = {"url": _url(top, remote), "commit": commit}
    return {"git": source | ({"secretRef": {"name": secret}} if secret else {})}, path


def _is_compiled(line: str) -> bool:
    """Whether a line of the status is about compiled files that Python, by loading the flow, has just put there."""
    return line.startswith("?? ") and "__pycache__" in Path(line[3:].strip('"')).parts


def _top(file: Path) -> str:
    try:
        return _git(file.parent, "rev-parse", "--show-toplevel")
    except DeploymentError as error:
        raise DeploymentError(f"{file} is in no Git repository ({error}); deploy without source='git'") from None


def _remote(top: Path, commit: str) -> str:
    """The remote that has the commit, as far as the last push or fetch tells; `origin` before others."""
    branches = _git(top, "for-each-ref", "--contains", commit, "--format=%(refname:short)", "refs/remotes").splitlines()
    holders = {branch.partition("/")[0] for branch in branches}
    remotes = [name for name in _git(top, "remote").splitlines() if name in holders]
    if not remotes:
        raise DeploymentError(f"commit {commit[:12]} is in no remote branch; `git push` it, and runs can fetch it")
    return "origin" if "origin" in remotes else remotes[0]


def _url(top: Path, remote: str) -> str:
    """The remote's URL as runs fetch it: without a password, and a path of this machine as file://."""
    url = _git(top, "remote", "get-url", "--", remote)
    parts = urlsplit(url)
    if parts.scheme in {"http", "https"}:
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    if parts.scheme or (":" in url and not Path(url).is_absolute()):
        return url
    return (top / url).resolve().as_uri()


def _git(folder: Path, *arguments: str) -> str:
    if shutil.which("git") is None:
        raise DeploymentError("source='git' needs the git command: apt-get install git")
    # Nothing around us, such as a hook that runs this, may lead git to another repository.
    environment = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        env=environment | {"LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
    )
    if done.returncode:
        raise DeploymentError(f"git says: {(done.stderr.strip().splitlines() or ['nothing'])[-1]}")
    return done.stdout.strip("\n")
