"""A storage that fails when it is told to: before a write, or after it was carried out, as a lost answer does."""

from levada.exceptions import StorageError
from levada.storage.memory import MemoryStorage


class FailingStorage(MemoryStorage):
    def __init__(self) -> None:
        super().__init__()
        self.plan: list[str] = []  # for each write to come: "", "before" or "after"
        self.writes = 0

    def write(self, key: str, data: bytes) -> None:
        self.writes += 1
        how = self.plan.pop(0) if self.plan else ""
        if how == "before":
            raise StorageError("away")
        super().write(key, data)
        if how == "after":
            raise StorageError("the answer is lost")
