"""A storage in this process' memory: for tests, and for results that need not outlive the process."""

from levada.storage.base import Storage, checked_key


class MemoryStorage(Storage):
    """Keeps bytes in a dict. A copy in another process (pickled) starts with what was there and goes its own way."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    def read(self, key: str) -> bytes:
        """The bytes under a key."""
        return self._objects[checked_key(key)]

    def write(self, key: str, data: bytes) -> None:
        """Keep the bytes; a dict's assignment is atomic."""
        self._objects[checked_key(key)] = bytes(data)

    def exists(self, key: str) -> bool:
        """Whether there are bytes under a key."""
        return checked_key(key) in self._objects

    def delete(self, key: str) -> None:
        """Forget a key."""
        self._objects.pop(checked_key(key), None)

    def list(self, prefix: str = "") -> list[str]:
        """The keys that begin with a prefix."""
        return sorted(key for key in tuple(self._objects) if key.startswith(prefix))

    def describe(self) -> str:
        """The place in a message."""
        return "memory of this process"
