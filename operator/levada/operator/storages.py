"""Storage for the operator's loop: calls that block run in threads of their own, bounded in number and in time.

Daemon threads, not the loop's executor: a storage that hangs must not keep the process from ending.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from levada.exceptions import StorageError
from levada.storage import Storage, storage_of

R = TypeVar("R")
MAX_THREADS: Final = 4


class Storages:
    """The storages that Deployments name, by URL, and the threads that talk to them."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._made: dict[str, Storage] = {}
        self._free = asyncio.Semaphore(MAX_THREADS)

    async def call(self, url: str, work: Callable[[Storage], R], over: Callable[[], None] = lambda: None) -> R:
        """Do something with a storage. `over` is called once, when nothing of it is under way any more, however it came to that.

        Raises:
            StorageError: the storage cannot be reached, refuses, or does not answer in time. What it was asked for may still happen.
            LevadaError: the URL means no storage.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()

        def run() -> None:
            try:
                try:
                    result = work(self._storage(url))
                finally:
                    over()  # before the answer: who gets it may ask again at once
            except BaseException as error:  # noqa: BLE001 - whatever it is, the one who waits gets it
                _tell(loop, answer.set_exception, answer, error)
            else:
                _tell(loop, answer.set_result, answer, result)
            finally:
                _call(loop, self._free.release)

        begun = False
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._free.acquire()
                threading.Thread(target=run, name="levada-storage", daemon=True).start()
                begun = True
                return await asyncio.shield(answer)
        except TimeoutError:
            answer.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise StorageError(f"{url} does not answer within {self._timeout_s:g} s; see whether it is up") from None
        finally:
            if not begun:  # other storages hold all threads
                over()

    def _storage(self, url: str) -> Storage:
        if url not in self._made:
            self._made[url] = storage_of(url)
        return self._made[url]


def _tell(loop: asyncio.AbstractEventLoop, tell: Callable[[Any], None], answer: asyncio.Future[Any], what: Any) -> None:
    def in_loop() -> None:
        if not answer.done():
            tell(what)

    _call(loop, in_loop)


def _call(loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(work)
    except RuntimeError:  # the loop is closed: nobody waits any more
        return
