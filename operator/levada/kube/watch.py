"""Reading a watch: a stream of JSON lines that may be cut anywhere.

Only the parsing stands here. `Client.watch` opens the stream; `Reflector` decides what to do when it ends.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, NamedTuple

import orjson

from levada.kube.errors import ConnectionLost, from_status


class WatchEvent(NamedTuple):
    """One change. `type` is ADDED, MODIFIED, DELETED or BOOKMARK (only a resource version, no object)."""

    type: str
    object: dict[str, Any]

    @property
    def resource_version(self) -> str:
        """Where to go on from."""
        return str(self.object["metadata"]["resourceVersion"])


async def events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[WatchEvent, None]:
    """The events in a stream of bytes.

    Raises:
        Gone: the server says that the resource version is too old.
        ApiError: any other ERROR event.
        ConnectionLost: the stream ended inside a line, or holds no JSON.
    """
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk if rest else chunk).split(b"\n")
        for line in lines:
            if line:
                yield _parse(line)
    if rest.strip():
        raise ConnectionLost("the watch was cut off in the middle of an event")


def _parse(line: bytes) -> WatchEvent:
    try:
        event = orjson.loads(line)
        kind, item = event["type"], event["object"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConnectionLost(f"the watch sent something that is no event: {line[:200]!r}") from error
    if kind == "ERROR":
        raise from_status(int(item.get("code") or 500), item)
    return WatchEvent(kind, item)
