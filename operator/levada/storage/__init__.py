"""Where results and flow code live: bytes by key.

`base` says what a storage is; `local`, `memory`, `s3` and `fsspec` are the kinds. `storage_of` finds the one that an option means.
"""

import os
from typing import Any

from levada.exceptions import OptionError
from levada.storage.base import Storage

__all__ = ["Storage", "storage_of"]


def storage_of(setting: Any) -> Storage:
    """The storage that an option means.

    Args:
        setting: None for the default: what `LEVADA_STORAGE` says, else the folder of results on this machine; a path; a URL (`s3://bucket/prefix`, `gs://`, `abfs://`,
            `memory://`); the name of a saved block (`s3-bucket/my-bucket`); a block; or a storage itself.

    Raises:
        OptionError: it means none.
        BlockError: there is no saved block of this name.
        MissingDependencyError: the package for this kind of storage is not installed.
    """
    if setting is None:
        from levada.settings import results_storage

        return storage_of(results_storage())
    if isinstance(setting, Storage):
        return setting
    if isinstance(setting, str) and setting:
        return _named(setting)
    if isinstance(setting, os.PathLike):
        return _local(setting)
    storage = getattr(setting, "storage", None)
    if not isinstance(setting, type) and callable(storage):
        made = storage()
        if isinstance(made, Storage):
            return made
    raise OptionError(
        f"{setting!r} is no storage for results; give a path, a URL such as 's3://bucket/prefix', the name of a saved "
        "block such as 's3-bucket/my-bucket', or a block such as S3Bucket(...) or LocalFileSystem(...)"
    )


def _local(folder: str | os.PathLike[str]) -> Storage:
    from levada.storage.local import LocalStorage

    return LocalStorage(folder)


def _named(text: str) -> Storage:
    """A storage by URL, block name or path, in this order."""
    scheme, separator, rest = text.partition("://")
    if separator:
        return _by_url(scheme, rest, text)
    kind, separator, name = text.partition("/")
    if separator and "/" not in name and _is_block_type(kind, text):
        from levada.blocks import load_block

        return storage_of(load_block(text))
    return _local(text)


def _by_url(scheme: str, rest: str, url: str) -> Storage:
    if scheme in ("file", "local"):
        return _local(rest)
    if scheme == "s3":
        from levada.storage.s3 import S3Storage

        bucket, _, prefix = rest.partition("/")
        return S3Storage(bucket, prefix)
    from levada.storage.fsspec import FsspecStorage

    return FsspecStorage(url)


def _is_block_type(kind: str, path: str) -> bool:
    """Whether a path's first part is the type of a block that can be a storage.

    Raises:
        OptionError: it nearly is, and there is no such folder.
    """
    from levada import filesystems as filesystems  # makes its block types known
    from levada.blocks import _types

    kinds = [name for name, cls in _types.items() if hasattr(cls, "storage")]
    if kind in kinds:
        return True
    from difflib import get_close_matches

    close = get_close_matches(kind, kinds, n=1, cutoff=0.8)
    if close and not os.path.isdir(path):  # noqa: PTH112  asked once, of a text
        raise OptionError(
            f"there is no block type {kind!r}; did you mean '{close[0]}{path[len(kind) :]}'? A folder is './{path}'"
        )
    return False
