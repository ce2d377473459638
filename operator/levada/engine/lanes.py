"""Where the submitted tasks of a flow run are carried: which threads drive them, and who makes their calls."""

import threading
from typing import TYPE_CHECKING, Any

from levada.engine.threads import DEFAULT_LIMIT, ThreadPool, shared_pool

if TYPE_CHECKING:
    from levada.engine.remote import Workers


class Lane:
    """What a task runner means for one flow run. Nothing is started before the first submitted task."""

    __slots__ = ("_lock", "_own_pool", "_workers", "inline", "runner")

    def __init__(self, runner: Any = None) -> None:
        self.runner = runner
        self.inline: bool = runner is not None and runner.inline
        self._lock = threading.Lock()  # several threads may submit their first task at the same time
        self._own_pool: ThreadPool | None = None
        self._workers: Workers | None = None

    @property
    def pool(self) -> ThreadPool:
        """The threads that drive the runs: those of the process, unless the runner bounds them."""
        if self.runner is None:
            return shared_pool()
        with self._lock:
            if self._own_pool is None:
                self._own_pool = ThreadPool(self.runner.max_workers or DEFAULT_LIMIT, self.runner.name)
            return self._own_pool

    def open(self) -> "Workers | None":
        """Who makes the calls, started at the first time; None: the driving thread itself."""
        if self.runner is None:
            return None
        with self._lock:
            if self._workers is None:
                self._workers = self.runner.open()
            return self._workers

    def close(self, *, cancel: bool) -> None:
        """Let go of threads and workers; the lane can be used again."""
        with self._lock:
            workers, self._workers = self._workers, None
            pool, self._own_pool = self._own_pool, None
        try:
            if workers is not None:
                workers.close(cancel=cancel)
        finally:
            if pool is not None:
                pool.close()


# For tasks that are submitted outside of any flow.
DEFAULT_LANE = Lane()
