"""One fan-out for all viewers: a ring of changes, each encoded once. A viewer is a place in the ring, so a slow one costs nothing.

The id of an event is `<server>-<number>`. Who reconnects with one goes on after it; if it is not in the ring any more, or of another
server, `reset` says so.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Callable
from itertools import islice
from typing import Final, NamedTuple

RING: Final = 8192
BATCH_S: Final = 0.1
PING_S: Final = 15.0
_ID_DIGITS: Final = 18


class Item(NamedTuple):
    """One event. `kind` empty: it is for everybody."""

    number: int
    kind: str
    namespace: str
    name: str
    event: str
    data: bytes


class Hub:
    """Use from one event loop only."""

    def __init__(self, size: int = RING) -> None:
        self.server = secrets.token_hex(4)
        self.viewers = 0
        self._ring: deque[Item] = deque(maxlen=size)
        self._next = 1
        self._news = asyncio.Event()

    def publish(self, event: str, data: bytes, kind: str = "", namespace: str = "", name: str = "") -> None:
        """Tell everybody who may see it."""
        self._ring.append(Item(self._next, kind, namespace, name, event, data))
        self._next += 1
        news, self._news = self._news, asyncio.Event()
        news.set()

    @property
    def last_id(self) -> str:
        """The id of the newest event."""
        return f"{self.server}-{self._next - 1}"

    def place_of(self, last_event_id: str) -> tuple[int, str]:
        """The number of the next event for who has seen that one, and why everything has to be asked for again; empty: no need."""
        server, _, number = last_event_id.partition("-")
        if not last_event_id:
            return self._next, "connected"
        if server != self.server or not number.isdecimal() or len(number) > _ID_DIGITS or int(number) >= self._next:
            return self._next, "restarted"
        following = int(number) + 1
        oldest = self._ring[0].number if self._ring else self._next
        return (following, "") if following >= oldest else (self._next, "behind")

    async def follow(
        self, last_event_id: str, wanted: Callable[[Item], bool], first: bytes = b""
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of a stream of server-sent events, for ever. Of an object that changes faster than they are sent, the newest counts."""
        self.viewers += 1
        try:
            place, reset = self.place_of(last_event_id)
            yield self._encoded("reset", f'{{"reason":"{reset}"}}'.encode(), place - 1) if reset else b": connected\n\n"
            if first:
                yield first
            while True:
                news = self._news
                if self._ring and place < self._ring[0].number and place < self._next:
                    place = self._next
                    yield self._encoded("reset", b'{"reason":"behind"}', place - 1)
                chunk, place = self._since(place, wanted)
                if chunk:
                    yield chunk
                    await asyncio.sleep(BATCH_S)
                    continue
                try:
                    await asyncio.wait_for(news.wait(), PING_S)
                except TimeoutError:
                    yield b": ping\n\n"
                else:
                    await asyncio.sleep(BATCH_S)
        finally:
            self.viewers -= 1

    def _since(self, place: int, wanted: Callable[[Item], bool]) -> tuple[bytes, int]:
        if place >= self._next:
            return b"", place
        start = max(0, place - self._ring[0].number)
        newest: dict[tuple[str, str, str], Item] = {}
        for item in islice(self._ring, start, None):
            if not item.kind or wanted(item):
                key = (item.kind or item.event, item.namespace, item.name)
                newest.pop(key, None)  # it moves to its new place, so that ids only grow
                newest[key] = item
        return b"".join(self._encoded(item.event, item.data, item.number) for item in newest.values()), self._next

    def _encoded(self, event: str, data: bytes, number: int) -> bytes:
        return b"id: %s-%d\nevent: %s\ndata: %s\n\n" % (self.server.encode(), number, event.encode(), data)
