"""The block for code in a Git repository. Authors import it from `levada.filesystems`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from levada.blocks import Block
from levada.exceptions import BlockError, StorageError
from levada.secrets import SecretStr, plain

_PASSWORDS = ("access_token", "token", "password")
_SECRET_NAME = "secret/"  # noqa: S105  the beginning of a block's name


class GitRepository(Block):
    """Code in a Git repository.

    Args:
        url: of the repository; `https://`, `ssh`, or a path.
        branch: one of branch, tag and commit_sha says which state; without any, the repository's own main branch.
        tag: see above.
        commit_sha: see above; the full SHA.
        subfolder: the folder of the repository to take.
        credentials: `{"access_token": …}`, `{"username": …, "password": …}`, or a Secret block, for http and https. A token or
            password may also be a Secret block, or the name of one (`secret/github`).
        directories: fetch only these folders.
        include_submodules: fetch submodules too.
        name: what the code is called in messages and folders.
    """

    block_type = "git-repository"

    url: str
    branch: str | None = None
    tag: str | None = None
    commit_sha: str | None = None
    subfolder: str = ""
    credentials: dict[str, Any] | Block | None = None
    directories: list[str] | None = None
    include_submodules: bool = False
    name: str | None = None

    def block_initialization(self) -> None:
        """Say early what cannot work."""
        named = [name for name in ("branch", "tag", "commit_sha") if getattr(self, name)]
        if len(named) > 1:
            raise BlockError(f"GitRepository takes one of branch, tag and commit_sha, not {' and '.join(named)}")
        for name in ("url", "branch", "tag", "commit_sha"):
            value = getattr(self, name)
            if value is not None and (not value or value.startswith("-") or any(c.isspace() for c in value)):
                raise BlockError(f"GitRepository: {name}={value!r} is no {name} of a repository")
        if Path(self.subfolder).is_absolute() or ".." in Path(self.subfolder).parts:
            raise BlockError(f"GitRepository: subfolder={self.subfolder!r} must be a path inside the repository")
        if self.credentials is not None:
            self.credentials = _hidden_login(self.credentials)

    def pull_code(self, folder: str | Path | None = None) -> Path:
        """Bring a local folder to the repository's state and return where its code is, `subfolder` included.

        Args:
            folder: where to; one of the repository's name in the current folder if absent.

        Raises:
            StorageError: it cannot be fetched; the message names the cause and the fix.
            MissingDependencyError: there is no git command.
        """
        from levada.storage.git import fetch

        target = Path(folder) if folder is not None else Path(self.name or self._stem())
        fetch(
            self.url,
            target,
            reference=self._reference(),
            credentials=self._user_and_password(),
            directories=self.directories or (),
            submodules=self.include_submodules,
        )
        code = target / self.subfolder
        if not code.is_dir():
            raise StorageError(f"there is no folder {self.subfolder!r} in {self.url}; check subfolder")
        return code

    async def apull_code(self, folder: str | Path | None = None) -> Path:
        """`pull_code` for async code."""
        from asyncio import to_thread

        return await to_thread(self.pull_code, folder)

    def get_directory(self, from_path: str | None = None, local_path: str | Path | None = None) -> str:
        """Copy the repository's files, or those of a folder in it, into a local folder (here, if none is given).

        Raises:
            StorageError: it cannot be fetched, or has no such folder.
        """
        from shutil import copytree, ignore_patterns
        from tempfile import TemporaryDirectory

        target = Path(local_path or ".").expanduser()
        with TemporaryDirectory(prefix="levada-git-") as temporary:
            source = (self.pull_code(temporary) / (from_path or "")).resolve()
            if not source.is_relative_to(Path(temporary).resolve()) or not source.is_dir():
                raise StorageError(f"there is no folder {from_path!r} in {self.url}; check from_path")
            copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=ignore_patterns(".git"))
        return str(target)

    def _reference(self) -> str:
        if self.branch:
            return f"refs/heads/{self.branch}"
        return f"refs/tags/{self.tag}" if self.tag else self.commit_sha or "HEAD"

    def _stem(self) -> str:
        return self.url.rstrip("/").replace(":", "/").rpartition("/")[2].removesuffix(".git") or "repository"

    def _user_and_password(self) -> tuple[str, str] | None:
        if self.credentials is None:
            return None
        from levada.storage.git import user_for_token

        login = self.credentials if isinstance(self.credentials, Mapping) else {"token": self.credentials}
        password = next(text for text in map(_text_of, map(login.get, _PASSWORDS)) if text)
        return _text_of(login.get("username")) or user_for_token(self.url), password


def _hidden_login(credentials: Any) -> Any:
    """Credentials with their secrets hidden, so that they are neither shown nor saved in the open. Saved blocks stay names.

    Raises:
        BlockError: there is no password or token.
    """
    if isinstance(credentials, Block):
        if credentials._name is not None:
            return credentials
        credentials = {"token": credentials}
    hidden = {name: _hidden(value) for name, value in credentials.items()}
    if not any(map(hidden.get, _PASSWORDS)):
        raise BlockError(
            "GitRepository: credentials must be {'access_token': …}, {'username': …, 'password': …} or a Secret block"
        )
    return hidden


def _hidden(value: Any) -> Any:
    if isinstance(value, Block) and value._name is None:
        value = _text_of(value)
    return SecretStr(value) if isinstance(value, str) and value and not value.startswith(_SECRET_NAME) else value


def _text_of(value: Any) -> str | None:
    """The text of a text, a secret, a block that holds one, or the name of such a block."""
    if isinstance(value, str) and value.startswith(_SECRET_NAME):
        from levada.blocks import load_block

        value = load_block(value)
    if isinstance(value, Block):
        value = getattr(value, "value", None) or getattr(value, "token", None) or getattr(value, "access_token", None)
    value = plain(value)
    return value if isinstance(value, str) and value else None
