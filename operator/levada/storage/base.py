"""What a storage is: bytes by key, nothing else.

Keys are relative paths with `/`, such as `results/train-5f2a`. A storage knows nothing of what it keeps; records, their
checksums and their expiry are the business of `levada.results`.
"""

from abc import ABC, abstractmethod

from levada.exceptions import StorageError

_REFUSED_PARTS = frozenset({"", ".", ".."})


class Storage(ABC):
    """A place that keeps bytes by key. Safe to use from several threads and processes at the same time."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """The bytes under a key.

        Raises:
            KeyError: there are none.
            StorageError: the place cannot be reached, or refuses; the message names the cause and the fix.
        """

    @abstractmethod
    def write(self, key: str, data: bytes) -> None:
        """Keep the bytes under a key, in place of what was there. Readers see the old bytes or the new, never a part.

        Raises:
            StorageError: the place cannot be reached, or refuses.
        """

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether there are bytes under a key.

        Raises:
            StorageError: the place cannot be reached, or refuses.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Forget a key. One that is absent is fine.

        Raises:
            StorageError: the place cannot be reached, or refuses.
        """

    @abstractmethod
    def list(self, prefix: str = "") -> list[str]:
        """The keys that begin with a prefix, in order.

        Raises:
            StorageError: the place cannot be reached, or refuses.
        """

    @abstractmethod
    def describe(self) -> str:
        """The place in a message: `folder /data`, `s3://bucket/prefix`."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.describe()}>"


def checked_key(key: str) -> str:
    """The key, if it is a relative path that stays inside its storage.

    Raises:
        StorageError: it is not.
    """
    if not _REFUSED_PARTS.isdisjoint(key.split("/")) or "\0" in key:
        raise StorageError(
            f"the key {key!r} cannot be used: a key is a relative path such as 'results/train-1', "
            "without '..', empty parts or a slash at either end"
        )
    return key
