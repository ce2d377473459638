"""The log of a run: live from the pod with the viewer's own rights, else from the archive; page by page, or as it comes."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Final, NamedTuple

from levada.archive.reader import Archive, LogPart
from levada.dashboard.archives import Archives
from levada.dashboard.loglines import LineReader, fits
from levada.dashboard.models import ArchivePlace, LogChunk, LogEnd, LogLine, LogPage, LogWaiting
from levada.dashboard.models.queries import LogQuery
from levada.dashboard.problems import Problem, forbidden, of_kube
from levada.dashboard.rows import phase_of
from levada.dashboard.store import Key, Store
from levada.dashboard.viewers import Viewer, may, need
from levada.kube.client import Client
from levada.kube.errors import Forbidden, KubeError
from levada.resources.kinds import PODS
from levada.resources.names import CONTAINER_NAME, LABEL_ATTEMPT, LABEL_RUN, LABEL_TASK_POD
from levada.resources.phases import is_terminal

MAX_SCAN_BYTES: Final = 64 * 1024 * 1024
MAX_PAGE_CHARS: Final = 8 * 1024 * 1024
_LARGE: Final = "the log is large: this is a part of it"
LINES_AT_ONCE: Final = 500
PIECES_AHEAD: Final = 16
GATHER_S: Final = 0.15
LOOK_S: Final = 1.0
PING_S: Final = 15.0
Object = dict[str, Any]


class Pod(NamedTuple):
    """A pod of the run."""

    name: str
    uid: str
    attempt: int
    started: bool
    ended: bool


async def pods_of(viewer: Viewer, namespace: str, run: str) -> list[Pod]:
    """The pods of a run, the oldest attempt first, as the viewer may see them.

    Raises:
        Problem: the viewer may not, or nobody answers.
    """
    selector = f"{LABEL_RUN}={run},!{LABEL_TASK_POD}"
    try:
        found, _ = await viewer.client.list(PODS, namespace, label_selector=selector)
    except Forbidden:
        raise forbidden("list", "pods", namespace, viewer.user) from None
    except KubeError as error:
        raise of_kube(error) from None
    pods = [_pod(each) for each in found]
    return sorted(pods, key=lambda pod: pod.attempt)


async def page(
    viewer: Viewer,
    namespace: str,
    run: str,
    query: LogQuery,
    *,
    newest: int,
    place: ArchivePlace | None,
    archives: Archives,
) -> LogPage:
    """A part of the log."""
    # Who may not read the log from the pod may not read its copy either: it is the same log.
    await need(viewer, "get", "pods/log", namespace, "")
    pods: list[Pod] = []
    words = ""
    if await may(viewer, "list", "pods", namespace, ""):
        pods = await pods_of(viewer, namespace, run)
    else:
        words = str(forbidden("list", "pods", namespace, viewer.user))
    kept, _ = await archives.try_read(place, lambda archive: archive.attempts(place.path if place else ""), _NONE)
    attempts = sorted({*kept, *(pod.attempt for pod in pods if pod.started)})
    attempt = query.attempt or newest or (attempts[-1] if attempts else 1)
    pod = next((each for each in reversed(pods) if each.attempt == attempt and each.started), None)
    if pod is not None:
        pieces = _of_pod(viewer.client, namespace, pod, follow=False)
        return await _page(pieces, query, attempt, attempts, "pod", live=not pod.ended)
    if attempt in kept and place is not None:
        pieces = _of_archive(archives, place, attempt)
        return await _page(pieces, query, attempt, attempts, "archive", live=False)
    waiting = any(each.attempt == attempt for each in pods)
    message = words or ("the container has not started yet" if waiting else "no pod has it any more, nor the archive")
    if place is not None and place.problem:
        message += f"; {place.problem}"
    return LogPage(attempt=attempt, attempts=attempts, origin="none", items=[], live=waiting, message=message)


_NONE: list[int] = []


async def _page(
    pieces: AsyncIterator[bytes], query: LogQuery, attempt: int, attempts: list[int], origin: Any, *, live: bool
) -> LogPage:
    first, scanned, cursor = _line_of(query.cursor), 0, None
    reader, kept = LineReader(stamped=origin == "pod"), _Kept(query)
    try:
        async for piece in pieces:
            scanned += len(piece)
            for line in reader.feed(piece):
                if line.number >= first and fits(line, query):
                    kept.add(line)
                    if kept.following is not None:
                        break
            if kept.following is not None or scanned > MAX_SCAN_BYTES:
                break
        else:
            for line in reader.end():
                if line.number >= first and fits(line, query):
                    kept.add(line)
    except KubeError as error:
        raise of_kube(error) from None
    if kept.following is not None:
        cursor = str(kept.following)
    elif scanned > MAX_SCAN_BYTES:
        cursor = str(reader.number + 1)
    return LogPage(
        attempt=attempt, attempts=attempts, origin=origin, items=list(kept.lines), cursor=cursor, live=live,
        next_number=int(cursor) if cursor else reader.number + 1,
        message=_LARGE if kept.cut or scanned > MAX_SCAN_BYTES else "",
    )  # fmt: skip


class _Kept:
    """The lines of a page: as many as were asked for, and no more than fit into an answer. `following`: where the next page begins."""

    def __init__(self, query: LogQuery) -> None:
        self.lines: deque[LogLine] = deque()
        self.following: int | None = None
        self.cut = False
        self._query, self._chars = query, 0

    def add(self, line: LogLine) -> None:
        """One line more; of a tail the first ones go."""
        self._chars += len(line.message)
        self.lines.append(line)
        while len(self.lines) > self._query.limit or (self._chars > MAX_PAGE_CHARS and len(self.lines) > 1):
            self.cut |= len(self.lines) <= self._query.limit
            if not self._query.tail:
                self.following = self.lines.pop().number
                return
            self._chars -= len(self.lines.popleft().message)


async def stream(
    viewer: Viewer, store: Store, namespace: str, run: str, *, attempt: int | None, start: tuple[int, int]
) -> AsyncGenerator[bytes, None]:
    """The log as server-sent events, attempt after attempt, until the run is over. `start`: which attempt and line to begin with; attempt 0: the newest."""
    of, number = start
    shown: set[str] = set()
    said, silent_s = "", 0.0
    while True:
        entry = store.runs.get(Key(namespace, run))
        pods = [
            pod for pod in await pods_of(viewer, namespace, run) if attempt in {None, pod.attempt} and pod.attempt >= of
        ]
        pods = pods if of or attempt is not None else pods[-1:]
        pod = next((each for each in pods if each.started and each.uid not in shown), None)
        if pod is not None:
            shown.add(pod.uid)
            async for chunk in _follow(viewer.client, namespace, pod, number if pod.attempt == of or not of else 1):
                yield chunk
            of, number = pod.attempt + (1 if attempt is None else 0), 1
            continue
        if entry is None or is_terminal(entry.phase) or (attempt is not None and any(p.ended for p in pods)):
            yield event(
                "end", LogEnd(phase=phase_of(entry.phase) if entry is not None else None).model_dump_json(by_alias=True)
            )
            return
        words = f"the run is {entry.phase}" + (f": {entry.reason}" if entry.reason else "")
        if words != said:
            said, silent_s = words, 0.0
            yield event("waiting", LogWaiting(message=words).model_dump_json(by_alias=True))
        await asyncio.sleep(LOOK_S)
        silent_s += LOOK_S
        if silent_s >= PING_S:
            silent_s = 0.0
            yield b": ping\n\n"


async def _follow(client: Client, namespace: str, pod: Pod, first: int) -> AsyncGenerator[bytes, None]:
    """The lines of one pod as they come. Those of a moment travel together."""
    # By pieces, as the connection brings them: lines may be long, and what a slow viewer has not taken waits at the API server.
    reader, pieces = LineReader(stamped=True), asyncio.Queue[list[LogLine] | None](maxsize=PIECES_AHEAD)

    async def read() -> None:
        try:
            async for piece in _of_pod(client, namespace, pod, follow=True):
                await pieces.put([line for line in reader.feed(piece) if line.number >= first])
            await pieces.put(list(reader.end()))
        except KubeError:
            pass  # the pod has gone, or the connection: the caller looks again
        finally:
            if (
                not task.cancelling()
            ):  # else nobody takes anything any more: it would wait for ever, with its connection
                await pieces.put(None)

    task = asyncio.create_task(read())
    try:
        while True:
            try:
                lines = await asyncio.wait_for(pieces.get(), PING_S)
            except TimeoutError:
                yield b": ping\n\n"
                continue
            batch = list(lines or ())
            ended = lines is None
            await asyncio.sleep(GATHER_S)
            while not ended and len(batch) < LINES_AT_ONCE and not pieces.empty():
                lines = pieces.get_nowait()
                ended = lines is None
                batch += lines or ()
            if batch:
                said = LogChunk(attempt=pod.attempt, lines=batch).model_dump_json(by_alias=True)
                yield event("lines", said, f"{pod.attempt}.{batch[-1].number + 1}")
            if ended:
                return
    finally:
        task.cancel()


def place_in(last_event_id: str, attempt: int | None, first: int) -> tuple[int, int]:
    """Which attempt and line to begin with: as the id of the last event says, else as asked for."""
    before, _, number = last_event_id.partition(".")
    if before.isdecimal() and number.isdecimal() and len(last_event_id) < 40:
        return int(before), int(number)
    return attempt or 0, first


def event(name: str, data: str, event_id: str = "") -> bytes:
    """A server-sent event."""
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {name}\ndata: {data}\n\n".encode()


async def _of_pod(client: Client, namespace: str, pod: Pod, *, follow: bool) -> AsyncGenerator[bytes, None]:
    params = {"container": CONTAINER_NAME, "timestamps": "true"} | ({"follow": "true"} if follow else {})
    async for piece in client.stream(PODS.path(namespace, pod.name, "log"), params):
        yield piece


async def _of_archive(archives: Archives, place: ArchivePlace, attempt: int) -> AsyncGenerator[bytes, None]:
    offset = 0
    while True:

        def look(archive: Archive, at: int = offset) -> LogPart:
            return archive.log(place.path, at, attempt=attempt)

        part, problem = await archives.try_read(place, look, LogPart(b"", offset, at_end=True))
        if problem:
            raise Problem(502, "ArchiveUnreadable", f"the archive cannot be read: {problem}", "Ask again later.")
        if part.data:
            yield part.data
        if part.at_end:
            return
        offset = part.next_offset


def _pod(obj: Mapping[str, Any]) -> Pod:
    meta, status = obj["metadata"], obj.get("status") or {}
    states = [each.get("state") or {} for each in status.get("containerStatuses") or ()]
    number = str((meta.get("labels") or {}).get(LABEL_ATTEMPT, ""))
    return Pod(
        name=meta["name"],
        uid=meta.get("uid", ""),
        attempt=int(number) if number.isdecimal() else 1,
        started=any("running" in each or "terminated" in each for each in states),
        ended=status.get("phase") in {"Succeeded", "Failed"},
    )


def _line_of(cursor: str | None) -> int:
    if cursor is None:
        return 1
    if not cursor.isdecimal():
        raise Problem(422, "Invalid", "the cursor is none of this log", "Ask for the first page, without a cursor.")
    return int(cursor)
