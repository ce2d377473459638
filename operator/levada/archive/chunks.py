"""A stream of bytes in a storage that cannot append: sealed pieces, and one open piece that is written anew as it grows.

So a reader finds whole prefixes only, a day of log is a few objects, and a write that is repeated does no harm.
"""

from collections.abc import Callable
from typing import Final

from levada.storage.base import Storage

SEAL_BYTES: Final = 256 * 1024


class ChunkStream:
    """One stream. Not safe for several threads.

    Args:
        storage: where to.
        key_at: the key of the piece that begins with a byte.
        seal_bytes: how large a piece gets.
    """

    def __init__(self, storage: Storage, key_at: Callable[[int], str], *, seal_bytes: int = SEAL_BYTES) -> None:
        self._storage = storage
        self._key_at = key_at
        self._seal_bytes = seal_bytes
        self._open = bytearray()
        self._begin = 0
        self._saved = 0  # bytes of the open piece that the storage has

    @property
    def unsaved_bytes(self) -> int:
        """What would be lost now."""
        return len(self._open) - self._saved

    @property
    def saved_end(self) -> int:
        """Up to which byte the storage has the stream."""
        return self._begin + self._saved

    def add(self, data: bytes) -> None:
        """Take bytes in; nothing is written yet."""
        self._open += data

    def flush(self) -> None:
        """Write what the storage has not. After an error nothing is lost: flush again.

        Raises:
            StorageError: the storage cannot be reached, or refuses.
        """
        while self.unsaved_bytes:
            cut = self._cut()
            self._storage.write(self._key_at(self._begin), bytes(self._open[:cut]))
            if len(self._open) < self._seal_bytes:
                self._saved = cut
                return
            del self._open[:cut]
            self._begin += cut
            self._saved = 0

    def _cut(self) -> int:
        """Where the open piece ends: behind a line if there is one, so that each piece can be read alone."""
        if len(self._open) < self._seal_bytes:
            return len(self._open)
        return self._open.rfind(b"\n", max(0, self._saved - 1), self._seal_bytes) + 1 or self._seal_bytes
