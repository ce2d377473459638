"""Results that outlive their run: one self-describing record per key.

```
levada-result 1 <SHA-256 of what follows the line> <its length in bytes>
{"key": …, "serializer": …, "settings": …, "created": …, "expires": …, "metadata": …}
<the value, as the serializer wrote it>
```

The checksum covers header and value, so whatever is torn, cut or flipped is found out and counts as absent. A header names the
serializer that wrote the value, so the setting may change between runs.
"""

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any, NamedTuple

from levada.engine import clock
from levada.exceptions import CacheKeyError, LevadaError, SerializationError
from levada.logging import LOGGER
from levada.serializers import Serializer, serializer_from, serializer_of
from levada.storage import Storage, storage_of

_MAGIC = b"levada-result 1 "
_FOLDER = "results/"
_LONGEST_PART, _LONGEST_PATH = 150, 700  # below the 255 bytes of a file's name and the 1,024 of an S3 key
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,149}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+|^\.")
_NO_METADATA: Mapping[str, str] = {}
_to_json = json.JSONEncoder(separators=(",", ":"), default=repr).encode


class Header(NamedTuple):
    """What a record says about its value."""

    key: str
    serializer: str
    settings: dict[str, Any]
    created: datetime
    expires_at: datetime | None
    metadata: Mapping[str, str]


class ResultRecord(NamedTuple):
    """A value that was kept, and what is known about it. Times are in UTC; `expires_at` None is never."""

    key: str
    value: Any
    created: datetime
    expires_at: datetime | None
    metadata: Mapping[str, str]


class ResultStore:
    """Keeps values by key in a storage. Safe to use from several threads, processes and machines: the last whole one wins."""

    __slots__ = ("serializer", "storage")

    def __init__(self, storage: Storage, serializer: Serializer) -> None:
        self.storage = storage
        self.serializer = serializer

    def save(
        self,
        key: str,
        value: Any,
        *,
        expires_at: datetime | None = None,
        metadata: Mapping[str, str] = _NO_METADATA,
    ) -> ResultRecord:
        """Keep a value under a key, in place of what was there.

        Args:
            key: any text.
            value: what the serializer can write.
            expires_at: from when on the value counts as absent.
            metadata: short texts to keep beside the value.

        Raises:
            SerializationError: the value cannot be written, or holds a secret.
            StorageError: the storage cannot be reached, or refuses.
        """
        with _forbid_secrets():
            payload = self.serializer.dumps(value)
        header = Header(
            key=key,
            serializer=self.serializer.type,
            settings=self.serializer.settings(),
            created=clock.now(),
            expires_at=None if expires_at is None else expires_at.astimezone(UTC),
            metadata=dict(metadata),
        )
        self.storage.write(path_of(key), packed(header, payload))
        return ResultRecord(key, value, header.created, header.expires_at, header.metadata)

    def load(self, key: str, *, even_expired: bool = False) -> ResultRecord | None:
        """What is kept under a key. None if there is nothing, if it has expired, or if it is damaged (with a warning).

        Raises:
            StorageError: the storage cannot be reached, or refuses.
        """
        found = self._found(key, even_expired=even_expired)
        if found is None:
            return None
        header, payload = found
        try:
            value = _serializer_for(header, self.serializer).loads(payload)
        except LevadaError as error:
            self._warn(key, error)
            return None
        return ResultRecord(key, value, header.created, header.expires_at, header.metadata)

    def exists(self, key: str) -> bool:
        """Whether there is a whole record under a key that has not expired.

        Raises:
            StorageError: the storage cannot be reached, or refuses.
        """
        return self._found(key) is not None

    def _found(self, key: str, *, even_expired: bool = False) -> "tuple[Header, bytes] | None":
        """Header and payload of a whole record that has not expired."""
        try:
            data = self.storage.read(path_of(key))
        except KeyError:
            return None
        try:
            header, payload = unpacked(data)
            if header.key != key:
                raise SerializationError(f"the record there is that of the key {header.key!r}")
        except SerializationError as error:
            self._warn(key, error)
            return None
        expired = not even_expired and header.expires_at is not None and header.expires_at <= clock.now()
        return None if expired else (header, payload)

    def _warn(self, key: str, error: Exception) -> None:
        LOGGER.warning("the result %r in %s counts as absent: %s", key, self.describe(), error)

    def delete(self, key: str) -> None:
        """Forget a key. One that is absent is fine.

        Raises:
            StorageError: the storage cannot be reached, or refuses.
        """
        self.storage.delete(path_of(key))

    def describe(self) -> str:
        """The storage in a message."""
        return self.storage.describe()

    def __repr__(self) -> str:
        return f"<ResultStore {self.describe()}, {self.serializer!r}>"


def store_of(storage_setting: Any = None, serializer_setting: Any = None) -> ResultStore:
    """The store that the options `result_storage` and `result_serializer` mean. Costs microseconds: make one when needed.

    Raises:
        OptionError: an option means nothing.
        BlockError: there is no saved block of this name.
        MissingDependencyError: the package for this kind of storage is not installed.
    """
    return ResultStore(storage_of(storage_setting), serializer_of(serializer_setting))


def get_result_store() -> ResultStore:
    """The store of the run around the caller; outside of a run, the default one."""
    from levada.context import FLOW_RUN

    run = FLOW_RUN.get()
    return store_of() if run is None else run.result_store


def path_of(key: str) -> str:
    """The storage's key for a result's key: readable, safe as a path everywhere, and another one for each key.

    Raises:
        CacheKeyError: the key is no text.
    """
    if not isinstance(key, str):
        raise CacheKeyError(f"the key of a result must be a text, not {key!r}")
    if _PLAIN_KEY.fullmatch(key):
        return _FOLDER + key
    path = "/".join(_safe_part(part) for part in key.split("/"))
    return _FOLDER + (path if len(path) <= _LONGEST_PATH else f"%{_digest(_bytes_of(key))}")


def _safe_part(part: str) -> str:
    safe = _UNSAFE.sub(lambda found: "".join(f"%{byte:02X}" for byte in _bytes_of(found[0])), part) or "%"
    return safe if len(safe) <= _LONGEST_PART else f"{safe[:80]}%{_digest(_bytes_of(part))}"


def _bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def packed(header: Header, payload: bytes) -> bytes:
    """A record as bytes."""
    said = {
        "key": header.key,
        "serializer": header.serializer,
        "settings": header.settings,
        "created": header.created.isoformat(),
        "expires": header.expires_at and header.expires_at.isoformat(),
        "metadata": header.metadata,
    }
    body = b"\n".join((_to_json(said).encode(), payload))
    return b"%b%b %d\n%b" % (_MAGIC, _digest(body).encode(), len(body), body)


def unpacked(data: bytes) -> tuple[Header, bytes]:
    """A record's header and payload.

    Raises:
        SerializationError: the record is damaged, half-written or none at all; the message says which.
    """
    first, _, body = data.partition(b"\n")
    if not first.startswith(_MAGIC):
        raise SerializationError("it is no result that this version of Levada wrote, or its beginning is damaged")
    digest, _, length = first[len(_MAGIC) :].partition(b" ")
    if length != b"%d" % len(body):
        told = length.decode("ascii", "replace")
        raise SerializationError(f"it is half-written or damaged ({len(body)} bytes where {told} should be)")
    if digest != _digest(body).encode():
        raise SerializationError("it is damaged (its checksum does not fit its content)")
    said, _, payload = body.partition(b"\n")
    try:
        return _header_of(json.loads(said)), payload
    except (KeyError, TypeError, ValueError) as error:
        raise SerializationError(f"its header means nothing to this version of Levada ({error!r})") from error


def _header_of(said: dict[str, Any]) -> Header:
    expires = said["expires"]
    return Header(
        key=said["key"],
        serializer=said["serializer"],
        settings=said["settings"],
        created=datetime.fromisoformat(said["created"]),
        expires_at=None if expires is None else datetime.fromisoformat(expires),
        metadata=said["metadata"],
    )


def _serializer_for(header: Header, preferred: Serializer) -> Serializer:
    """The serializer that wrote the record: the store's own if it is of that kind, as it may hold functions without a name."""
    if preferred.type == header.serializer and json.loads(_to_json(preferred.settings())) == header.settings:
        return preferred
    return serializer_from(header.serializer, header.settings)


def _forbid_secrets() -> AbstractContextManager[None]:
    """Within it, a secret refuses to be written. If nobody has loaded the module, there are no secrets."""
    secrets = sys.modules.get("levada.secrets")
    return nullcontext() if secrets is None else secrets.forbid_secrets()
