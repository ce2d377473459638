"""Where the submitted tasks of a flow run are carried: which threads drive them, and who makes their calls."""

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from levada.engine.threads import DEFAULT_LIMIT, ThreadPool, shared_pool

if TYPE_CHECKING:
    from levada.engine.remote import Workers


# Where pods of their own for single tasks come from, as `module:function`; empty everywhere but in the process of a run in a cluster.
pod_provider = ""


class Lane:
    """What a task runner means for one flow run. Nothing is started before the first submitted task."""

    __slots__ = ("_lock", "_own_pool", "_pods", "_workers", "inline", "runner")

    def __init__(self, runner: Any = None) -> None:
        self.runner = runner
        self.inline: bool = runner is not None and runner.inline
        self._lock = threading.Lock()  # several threads may submit their first task at the same time
        self._own_pool: ThreadPool | None = None
        self._workers: Workers | None = None
        self._pods: dict[str, Workers] = {}

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

    def pods(self, wishes: Mapping[str, Any]) -> "Workers | None":
        """Who makes calls in pods that differ so from the run's own; None where there are no pods."""
        if not pod_provider:
            return None
        import json

        from levada.engine.remote.pods import open_pods

        key = json.dumps(wishes, sort_keys=True)
        with self._lock:
            if key not in self._pods:
                opened = open_pods(wishes)
                if opened is None:
                    return None
                self._pods[key] = opened
            return self._pods[key]

    def close(self, *, cancel: bool) -> None:
        """Let go of threads and workers; the lane can be used again."""
        with self._lock:
            pods, self._pods = self._pods, {}
            workers, self._workers = self._workers, None
            pool, self._own_pool = self._own_pool, None
        try:
            for each in (*pods.values(), *([workers] if workers is not None else ())):
                each.close(cancel=cancel)
        finally:
            if pool is not None:
                pool.close()


# For tasks that are submitted outside of any flow.
DEFAULT_LANE = Lane()
