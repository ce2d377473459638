"""WorkQueue: its Ready condition and its counts, which are written seldom, however many runs come and go.

The limits themselves are kept by the line (line.py), which takes them over the moment that the object is seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from levada.decide.deployment import decide_queue
from levada.resources.kinds import WORK_QUEUES

if TYPE_CHECKING:
    from datetime import datetime

    from levada.operator.controller import Controller
    from levada.operator.keys import Key

# Between two writes of the counts of one queue.
COUNTS_EVERY_S: Final = 5.0


class Queues:
    """The reconciler of WorkQueue."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller
        self._told: dict[Key, tuple[str, int]] = {}  # the object and generation whose runs have been woken
        self._written_at: dict[Key, datetime] = {}
        controller.reconcilers[WORK_QUEUES.kind] = controller.definitions.judging(WORK_QUEUES, self._reconcile)

    async def _reconcile(self, key: Key) -> float | None:
        store = self._c.store
        queue = store.queues.get(key)
        shape = (queue.uid, queue.generation) if queue is not None else None
        if self._told.get(key) != shape:
            # Whatever changed, the runs say why they wait, and one between two attempts may go on.
            self._c.wake_runs([*store.line.waiting(key), *store.line.holders(key)])
        if queue is None or shape is None:
            self._told.pop(key, None)
            self._written_at.pop(key, None)
            return None
        self._told[key] = shape
        now = self._c.now()
        active, waiting = store.line.counts(key)
        plan = decide_queue(queue, now, active=active, waiting=waiting)
        if plan.status is None:
            return None
        written_at = self._written_at.get(key)
        if written_at is not None and queue.status.get("observedGeneration") == queue.generation:
            wait_s = COUNTS_EVERY_S - (now - written_at).total_seconds()
            if wait_s > 0:
                return wait_s
        self._written_at[key] = now
        self._c.definitions.take(WORK_QUEUES, await self._c.definitions.write(WORK_QUEUES, queue, plan.status))
        return None
