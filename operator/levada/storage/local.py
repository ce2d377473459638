"""A storage in a folder: one file per key."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from levada.exceptions import StorageError
from levada.storage.base import Storage, checked_key

# Files being written: hidden, and never a key that list() gives.
_TEMPORARY = ".levada-writing-"
_FIXES = {
    errno.EACCES: "give this user the right to it, or choose another folder",
    errno.EPERM: "give this user the right to it, or choose another folder",
    errno.EROFS: "the file system is read-only here; choose another folder (LEVADA_RESULTS_PATH for the default one)",
    errno.ENOSPC: "the disk is full; make room, or choose another folder",
    errno.EDQUOT: "the quota is used up; make room, or choose another folder",
    errno.ENAMETOOLONG: "choose a shorter key",
    errno.ENOTDIR: "a part of its path is a file, so it cannot be a folder; choose keys of which none is a folder of another",
    errno.EEXIST: "a part of its path is a file, so it cannot be a folder; choose another folder",
    errno.EISDIR: "there is a folder of this name; choose keys of which none is a folder of another",
}


class LocalStorage(Storage):
    """Keeps bytes in files below a folder, which is made when something is first written."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self._base = f"{self.folder}/"

    def read(self, key: str) -> bytes:
        """The bytes under a key."""
        path = self._base + checked_key(key)
        try:
            with open(path, "rb") as file:  # noqa: PTH123  a Path costs as much as the read
                return file.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise KeyError(key) from None
        except OSError as error:
            raise _refused("read", path, error) from None

    def write(self, key: str, data: bytes) -> None:
        """Write to a temporary file beside the final one and rename it, which is atomic."""
        path = self._base + checked_key(key)
        folder = path.rpartition("/")[0]
        try:
            self._write_and_rename(folder, path, data)
        except FileNotFoundError:
            try:
                os.makedirs(folder, exist_ok=True)  # noqa: PTH103  a text, as above
                self._write_and_rename(folder, path, data)
            except OSError as error:
                raise _refused("written", path, error) from None
        except OSError as error:
            raise _refused("written", path, error) from None

    @staticmethod
    def _write_and_rename(folder: str, path: str, data: bytes) -> None:
        temporary = f"{folder}/{_TEMPORARY}{os.urandom(8).hex()}"
        file = open(temporary, "xb")  # noqa: PTH123, SIM115  closed below, before the rename
        try:
            with file:
                file.write(data)
            os.replace(temporary, path)  # noqa: PTH105  a text, as above
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def exists(self, key: str) -> bool:
        """Whether there is a file of this name."""
        path = self._base + checked_key(key)
        try:
            return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116  a text, as above
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise _refused("looked at", path, error) from None

    def delete(self, key: str) -> None:
        """Remove the file. Its folder stays: another process may be about to write into it."""
        path = self._base + checked_key(key)
        try:
            os.unlink(path)  # noqa: PTH108  a text, as above
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return
        except OSError as error:
            raise _refused("deleted", path, error) from None

    def list(self, prefix: str = "") -> list[str]:
        """The files below the folder whose key begins with a prefix."""
        start = self._base + prefix.rpartition("/")[0]
        return sorted(key for key in self._keys_below(start) if key.startswith(prefix))

    def _keys_below(self, start: str) -> Iterator[str]:
        def refuse(error: OSError) -> None:
            if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
                raise _refused("listed", str(error.filename), error) from None

        for folder, _, names in os.walk(start, onerror=refuse):
            for name in names:
                if not name.startswith(_TEMPORARY):
                    yield f"{folder}/{name}".replace("//", "/").removeprefix(self._base)

    def describe(self) -> str:
        """The place in a message."""
        return f"folder {self.folder}"


def _refused(verb: str, path: str, error: OSError) -> StorageError:
    """What the file system said, and what to do about it."""
    fix = _FIXES.get(error.errno or 0, "see that the folder is there and sound")
    cause = error.strerror or str(error)
    return StorageError(f"{cause[:1].lower()}{cause[1:]}: {path} cannot be {verb}; {fix}")
