"""A storage behind any URL that fsspec knows: Google Cloud Storage, Azure, memory, SFTP and many more."""

import os
import posixpath
from collections.abc import Callable
from typing import Any, TypeVar

from levada.exceptions import MissingDependencyError, OptionError, StorageError
from levada.storage.base import Storage, checked_key

# Where an object appears at once and whole. Elsewhere it is written beside its place and moved.
_ATOMIC = frozenset({"abfs", "abfss", "adl", "az", "gcs", "gs", "memory", "oci", "oss", "r2", "s3", "s3a"})
_EXTRAS = {"gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure", "adl": "azure"}
_TEMPORARY = ".levada-writing-"
R = TypeVar("R")
_HINTS = {
    "gcs": "check the bucket's name and the credentials (GOOGLE_APPLICATION_CREDENTIALS, or the pod's service account)",
    "azure": "check the container's name and the credentials (AZURE_STORAGE_CONNECTION_STRING, or account_name and account_key)",
}


class FsspecStorage(Storage):
    """Keeps bytes in files below a URL.

    Args:
        url: such as `gs://bucket/prefix`, `abfs://container/prefix`, `memory://results`.
        **options: what fsspec's file system of this kind takes, such as `token` or `connection_string`.

    Raises:
        OptionError: fsspec knows no such URL.
        MissingDependencyError: fsspec, or the package for this kind of URL, is not installed.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self.url = url.rstrip("/") if not url.endswith("://") else url
        self.protocol = url.partition("://")[0]
        self._options = options
        self._opened: tuple[Any, str] | None = None
        self._files()

    def _files(self) -> tuple[Any, str]:
        """The file system and the path below which keys lie."""
        if self._opened is None:
            self._opened = _opened(self.url, self.protocol, self._options)
        return self._opened

    def read(self, key: str) -> bytes:
        """The file's bytes."""
        path = self._path(key)

        def cat(files: Any) -> bytes:
            try:
                data: bytes = files.cat_file(path)
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                raise KeyError(key) from None
            return data

        return self._ask(f"read {key!r}", cat)

    def write(self, key: str, data: bytes) -> None:
        """Write the file, by way of a temporary one where that is needed to be atomic."""
        path = self._path(key)

        def pipe(files: Any) -> None:
            if self.protocol in _ATOMIC:
                files.pipe_file(path, data)
                return
            folder = posixpath.dirname(path)
            temporary = f"{folder}/{_TEMPORARY}{os.urandom(8).hex()}"
            files.makedirs(folder, exist_ok=True)
            if files.isdir(path):  # or it would be moved into it
                raise IsADirectoryError(path)
            try:
                files.pipe_file(temporary, data)
                files.mv(temporary, path)
            except BaseException:
                if files.exists(temporary):
                    files.rm_file(temporary)
                raise

        self._ask(f"write {key!r}", pipe)

    def exists(self, key: str) -> bool:
        """Whether there is such a file."""
        path = self._path(key)
        return bool(self._ask(f"look for {key!r}", lambda files: _fresh(files).isfile(path)))

    def delete(self, key: str) -> None:
        """Remove the file."""
        path = self._path(key)

        def remove(files: Any) -> None:
            try:
                files.rm_file(path)
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                return

        self._ask(f"delete {key!r}", remove)

    def list(self, prefix: str = "") -> list[str]:
        """The files below the URL whose key begins with a prefix."""
        root = self._files()[1]
        folder = prefix.rpartition("/")[0]

        def find(files: Any) -> list[str]:
            found = _fresh(files).find(_joined(root, folder))
            keys = (path.removeprefix(root).lstrip("/") for path in found)
            return sorted(key for key in keys if key.startswith(prefix) and _TEMPORARY not in key)

        return self._ask(f"list {prefix!r}", find)

    def describe(self) -> str:
        """The place in a message."""
        return self.url

    def __getstate__(self) -> dict[str, Any]:
        """Without the open file system: another process opens its own."""
        return {**self.__dict__, "_opened": None}

    def _path(self, key: str) -> str:
        return _joined(self._files()[1], checked_key(key))

    def _ask(self, what: str, request: Callable[[Any], R]) -> R:
        """One request, its failures told in our terms."""
        try:
            return request(self._files()[0])
        except (KeyError, StorageError):
            raise
        except Exception as error:  # noqa: BLE001  each file system raises what its library raises
            hint = _HINTS.get(_EXTRAS.get(self.protocol, ""), "check the URL, the network and the rights there")
            raise StorageError(f"{type(error).__name__}: {error} (cannot {what} in {self.url}); {hint}") from None


def _opened(url: str, protocol: str, options: dict[str, Any]) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        extra = _EXTRAS.get(protocol, "gcs")
        raise MissingDependencyError(f"storage in {url} needs fsspec: pip install 'levada[{extra}]'") from None
    try:
        files, path = url_to_fs(url, **options)
    except ImportError as error:
        how = f"pip install 'levada[{_EXTRAS[protocol]}]' ({error})" if protocol in _EXTRAS else str(error)
        raise MissingDependencyError(f"storage in {url} needs a package that is not installed: {how}") from None
    except ValueError as error:
        raise OptionError(
            f"{url!r} is no URL of a storage ({error}); s3://, gs://, abfs:// and memory:// are"
        ) from None
    except Exception as error:  # noqa: BLE001  credentials are looked for here by some
        hint = _HINTS.get(_EXTRAS.get(protocol, ""), "check the URL and the options")
        raise StorageError(f"{type(error).__name__}: {error} (cannot open {url}); {hint}") from None
    return files, path.rstrip("/")


def _joined(root: str, key: str) -> str:
    return f"{root}/{key}" if root and key else root or key


def _fresh(files: Any) -> Any:
    """The file system without what it remembers of folders: other processes write too."""
    files.invalidate_cache()
    return files
