"""Blocks on this machine: one JSON file each, `<home>/blocks/<type>/<name>.json`, that only its owner may read."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from levada import settings
from levada._fields import Stored
from levada.exceptions import BlockError, BlockMissing

_FORMAT = 1


class BlockFiles:
    """Keeps blocks as files of this user."""

    def read(self, block_type: str, name: str) -> Stored:
        """The block of that type and name.

        Raises:
            BlockError: it does not exist, or its file cannot be read.
        """
        path = _path(block_type, name)
        try:
            document = json.loads(path.read_bytes())
            return _stored(block_type, document)
        except FileNotFoundError:
            raise BlockMissing(self._missing(block_type, name)) from None
        except OSError as error:
            raise BlockError(f"block {block_type}/{name} cannot be read: {error}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise BlockError(
                f"block {block_type}/{name} is damaged: {path} ({error}); save it again with overwrite=True"
            ) from error

    def write(self, name: str, stored: Stored, *, overwrite: bool) -> None:
        """Keep the block.

        Raises:
            BlockError: it exists and may not be overwritten, or it cannot be written.
        """
        path = _path(stored.type, name)
        document = {"levada": _FORMAT, "type": stored.type, "values": stored.values, "secrets": stored.secrets}
        data = json.dumps(document, indent=2, ensure_ascii=False).encode()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(path, data, overwrite=overwrite)
        except FileExistsError:
            raise BlockError(
                f"a block {stored.type}/{name} exists already: save it with overwrite=True, or under another name"
            ) from None
        except OSError as error:
            raise BlockError(f"block {stored.type}/{name} cannot be saved: {error}") from error

    def delete(self, block_type: str, name: str) -> None:
        """Forget the block.

        Raises:
            BlockError: it does not exist, or its file cannot be removed.
        """
        try:
            _path(block_type, name).unlink()
        except FileNotFoundError:
            raise BlockMissing(self._missing(block_type, name)) from None
        except OSError as error:
            raise BlockError(f"block {block_type}/{name} cannot be deleted: {error}") from error

    def list(self, block_type: str | None = None) -> list[str]:
        """All blocks as `type/name`, or those of one type."""
        pattern = f"{block_type or '*'}/*.json"
        return sorted(f"{path.parent.name}/{path.stem}" for path in _folder().glob(pattern))

    def _missing(self, block_type: str, name: str) -> str:
        from difflib import get_close_matches

        known = self.list()
        wanted = f"{block_type}/{name}"
        close = get_close_matches(wanted, known, n=1)
        if close:
            hint = f"did you mean {close[0]!r}?"
        elif known:
            hint = f"saved are: {', '.join(known)}"
        else:
            hint = "none is saved yet; make one and call .save(name)"
        return f"there is no block {wanted!r} in {_folder()}; {hint}"


def _folder() -> Path:
    return settings.home() / "blocks"


def _path(block_type: str, name: str) -> Path:
    return _folder() / block_type / f"{name}.json"


def _stored(block_type: str, document: Any) -> Stored:
    values, secrets = document["values"], document["secrets"]
    if not isinstance(values, Mapping) or not isinstance(secrets, Mapping):
        raise TypeError("values and secrets must be objects")
    return Stored(block_type, values, secrets)


def _write(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Write the file whole or not at all, readable by its owner only; FileExistsError if it may not be replaced."""
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        if overwrite:
            draft.replace(path)
        else:
            path.hardlink_to(draft)  # of two that save at once, one is told that the block exists
    finally:
        draft.unlink(missing_ok=True)
