"""Archives of code: unpacked into a folder, and nowhere else."""

import io
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from levada.exceptions import StorageError

MAX_FILES: Final = 50_000
MAX_UNPACKED_BYTES: Final = 2 * 1024**3


def unpack(data: bytes, name: str, folder: Path) -> None:
    """Unpack a zip or tar archive.

    Args:
        data: the archive.
        name: what it is called; its ending says what it is.
        folder: where to.

    Raises:
        StorageError: it is damaged, too large, or holds a path that leads out of the folder.
    """
    try:
        if name.endswith(".zip"):
            _unpack_zip(data, name, folder)
        else:
            _unpack_tar(data, name, folder)
    except tarfile.FilterError as error:
        raise StorageError(f"{name} holds what no archive of code holds: {error}") from None
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise StorageError(f"{name} cannot be unpacked: {error}") from None


def _unpack_zip(data: bytes, name: str, folder: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        _check_size(name, (member.file_size for member in members))
        for member in members:
            parts = Path(member.filename.replace("\\", "/")).parts
            if member.filename.startswith("/") or ".." in parts:
                raise StorageError(f"{name} holds the path {member.filename!r}, which leads out of its folder")
        archive.extractall(folder)  # noqa: S202  every path has been looked at


def _unpack_tar(data: bytes, name: str, folder: Path) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise StorageError(
            f"{name} needs Python 3.11.4 or newer, whose tarfile refuses harmful paths; or make it a .zip"
        )
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        _check_size(name, (member.size for member in archive))
        # Refuses absolute paths, paths and links that lead out, and devices (PEP 706).
        archive.extractall(folder, filter="data")


def _check_size(name: str, sizes: Iterable[int]) -> None:
    """Before anything is written: a small archive may hold a great many zeros."""
    files = total = 0
    for size in sizes:
        files, total = files + 1, total + size
        if files > MAX_FILES or total > MAX_UNPACKED_BYTES:
            raise StorageError(
                f"{name} holds more than {MAX_FILES} files or {MAX_UNPACKED_BYTES // 1024**2} MiB; leave data and environments out of it"
            )
