"""Events in the background: telling must never hold up doing.

A bounded queue with writers of its own. What does not fit is dropped and counted; what waits at the end of the process is written
within a few seconds or not at all. Equal Events about a Deployment are one object per window of time, whose count goes up.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from levada.decide.plan import EventSpec
from levada.kube import AlreadyExists, ApiError, Client, ConnectionLost
from levada.operator.events import About, counted, event_body
from levada.operator.metrics import Metrics
from levada.resources.kinds import EVENTS

log = logging.getLogger(__name__)

ROOM: Final = 10_000
WRITERS: Final = 2
# Equal Events about one object within so many seconds are one Event.
WINDOW_S: Final = 600
# At the end of the process: the next leader waits for it.
LAST_WORDS_S: Final = 1.0
# How often its count is written.
COUNT_EVERY_S: Final = 30.0
_NAMES_KEPT: Final = 20_000


@dataclass(slots=True)
class _Letter:
    """One Event to write. `count` is how often it has happened, as far as this process knows."""

    about: About
    spec: EventSpec
    first_at: datetime
    last_at: datetime
    count: int = 1
    known: int = 0  # how often it had happened before this process
    written: int = 0
    waits: bool = True  # in the queue, or among those that will come there


class Herald:
    """Use from one event loop only; run `write` in tasks."""

    def __init__(self, client: Client, metrics: Metrics, now: Callable[[], datetime], *, room: int = ROOM) -> None:
        self._client = client
        self._metrics = metrics
        self._now = now
        self._room = room
        self._letters: deque[_Letter] = deque()
        self._more = asyncio.Event()
        self._written = asyncio.Event()
        self._busy = 0
        self._told: dict[str, None] = {}  # names of late: what has been told is not told again
        self._counted: dict[str, _Letter] = {}  # by name, those whose count may go up
        self._later: deque[tuple[float, _Letter]] = deque()  # counts to be written, in the order in which they are due

    def __len__(self) -> int:
        """How many Events are not written yet."""
        return len(self._letters) + self._busy

    def tell(self, about: About, specs: Iterable[EventSpec]) -> None:
        """Have Events written, each once: one of the same name that has been told of late is left out."""
        for spec in specs:
            name = f"{about.uid}.{spec.discriminator}"
            if name in self._told:
                continue
            now = self._now()
            if self._put(_Letter(about, spec, now, now)):
                self._told[name] = None
                if len(self._told) > _NAMES_KEPT:
                    del self._told[next(iter(self._told))]

    def count(self, about: About, spec: EventSpec) -> None:
        """Have an Event written that stands for all of its discriminator in this window; the newest message counts."""
        now = self._now()
        spec = counted(spec, now, WINDOW_S)
        name = f"{about.uid}.{spec.discriminator}"
        letter = self._counted.get(name)
        if letter is None:
            letter = _Letter(about, spec, now, now)
            if self._put(letter):
                self._forget_old(now)
                self._counted[name] = letter
            return
        letter.count += 1
        letter.spec, letter.last_at = spec, now
        if not letter.waits:
            letter.waits = True
            self._later.append((time.monotonic() + COUNT_EVERY_S, letter))
            self._more.set()

    def _put_due(self, now_s: float) -> float | None:
        """Line up the counts that are due; the seconds until the next one is."""
        while self._later and self._later[0][0] <= now_s:
            self._put(self._later.popleft()[1])
        return self._later[0][0] - now_s if self._later else None

    def _forget_old(self, now: datetime) -> None:
        """Windows that are over and written."""
        for name, letter in list(self._counted.items()):
            if not letter.waits and (now - letter.first_at).total_seconds() > WINDOW_S:
                del self._counted[name]

    def _put(self, letter: _Letter) -> bool:
        if len(self._letters) >= self._room:
            letter.waits = False
            self._metrics.events.labels("dropped").inc()
            return False
        self._letters.append(letter)
        self._more.set()
        return True

    # --- writing ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Write until cancelled, and then for a moment more what waits: the last words of a process."""
        async with asyncio.TaskGroup() as group:
            writers = [group.create_task(self.write()) for _ in range(WRITERS)]
            try:
                await asyncio.Event().wait()
            finally:
                await self.flush()
                for writer in writers:
                    writer.cancel()

    async def write(self) -> None:
        """Be one of the writers, for ever."""
        while True:
            wait_s = self._put_due(time.monotonic())
            while not self._letters:
                self._more.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._more.wait()
                wait_s = self._put_due(time.monotonic())
            letter = self._letters.popleft()
            letter.waits = False
            self._busy += 1
            try:
                self._metrics.events.labels(await self._send(letter)).inc()
            finally:
                self._busy -= 1
                self._written.set()

    async def flush(self, patience_s: float = LAST_WORDS_S) -> None:
        """Write what waits, counts too, for so long; the writers must be running."""
        self._put_due(math.inf)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while len(self):
                    self._written.clear()
                    await self._written.wait()
        if len(self):
            log.warning("%d Events were not written: the API server is too slow, or away", len(self))
            self._metrics.events.labels("dropped").inc(len(self))

    async def _send(self, letter: _Letter) -> str:
        """An Event is a courtesy: whatever keeps it from being written is logged, not raised."""
        about, spec = letter.about, letter.spec
        try:
            return await (self._raise_count(letter) if letter.written else self._create(letter))
        except (ApiError, ConnectionLost) as error:
            log.info(
                "event %s of %s %s/%s was not written: %s",
                spec.reason,
                about.kind.kind,
                about.namespace,
                about.name,
                error,
            )
        except Exception:
            log.exception("event %s of %s %s/%s", spec.reason, about.kind.kind, about.namespace, about.name)
        return "failed"

    async def _create(self, letter: _Letter) -> str:
        count = letter.count
        body = self._body(letter, count)
        try:
            await self._client.create(EVENTS, body, letter.about.namespace)
        except AlreadyExists:
            if letter is not self._counted.get(f"{letter.about.uid}.{letter.spec.discriminator}"):
                return "repeated"  # told already, by us or by the operator before us
            # An empty patch is a read, for which there is no right: the process before this one has counted, too.
            found = await self._client.patch(EVENTS, body["metadata"]["name"], {}, letter.about.namespace)
            letter.known = int(found.get("count") or 0)
            return await self._raise_count(letter)
        letter.written = count
        return "written"

    async def _raise_count(self, letter: _Letter) -> str:
        count = letter.count
        body = self._body(letter, letter.known + count)
        change: dict[str, Any] = {key: body[key] for key in ("count", "lastTimestamp", "message")}
        await self._client.patch(EVENTS, body["metadata"]["name"], change, letter.about.namespace)
        letter.written = count
        return "written"

    def _body(self, letter: _Letter, count: int) -> dict[str, Any]:
        body = event_body(letter.about, letter.spec, now=letter.first_at)
        return body | {
            "count": count,
            "lastTimestamp": event_body(letter.about, letter.spec, now=letter.last_at)["lastTimestamp"],
        }
