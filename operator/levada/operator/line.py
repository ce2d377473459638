"""Who waits to start, in which order, and who holds a place: an index over the runs, for limits of three scopes.

    operator   --max-active-runs, over all queues
    queue      WorkQueue.spec.concurrencyLimit, over its Deployments
    lane       Deployment.spec.concurrency.limit

Nothing is counted by hand: places are sets of runs that follow the views in the store, so a run that ended or was deleted holds
none. Each lane is sorted; the first of each lane that has room stands in its queue's list, the first of each queue that has
room stands in the operator's. So the next run to start is looked up, not searched for, however many wait.

A run that cannot start for a reason of its own (its time has not come, its Flow is missing) is put aside: it is in nobody's way.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import NamedTuple

from levada.decide.definitions import QUEUE, REPLACE, SKIP, DeploymentView, QueueView
from levada.decide.facts import Room, RunView
from levada.operator.keys import Key


class Rank(NamedTuple):
    """The place in the order: priority, then age, then arrival. The smallest goes first."""

    priority: int  # negated
    due: float
    arrival: int
    key: Key


Entry = tuple[tuple[float, ...], Rank]  # what a lane sorts by, and the rank of the run among other lanes


class _Places:
    """Runs that have a place in one scope: those that hold it, and those whose start has been decided but is not visible yet."""

    def __init__(self) -> None:
        self.held: set[Key] = set()
        self.claimed: set[Key] = set()
        self.limit: int | None = None
        self.paused = False

    @property
    def taken(self) -> int:
        return len(self.held) + len(self.claimed)

    @property
    def is_open(self) -> bool:
        return not self.paused and (self.limit is None or self.taken < self.limit)

    def scarce_for(self, waiting: int) -> bool:
        return self.limit is not None and self.taken + waiting > self.limit

    def taken_but(self, key: Key) -> int:
        return self.taken - (key in self.held) - (key in self.claimed)


class _Lane(_Places):
    """One Deployment."""

    def __init__(self, queue: Key) -> None:
        super().__init__()
        self.queue = queue
        self.policy = QUEUE
        self.entries: list[Entry] = []
        self.shown: tuple[Rank, Key] | None = None  # as it stands in the queue's list
        self.was_full = False


class _Queue(_Places):
    """One WorkQueue, or a name that has no object and so no limit."""

    def __init__(self) -> None:
        super().__init__()
        self.priority = 0
        self.waiting = 0
        self.heads: list[tuple[Rank, Key]] = []
        self.shown: tuple[int, Rank, Key] | None = None  # as it stands in the operator's list


class _Seat(NamedTuple):
    """Where a run is: in the lane of a Deployment, with or without a place, and there in which entry if it waits."""

    lane: Key
    queue: Key
    entry: Entry | None


class Line:
    """Use from one event loop only."""

    def __init__(self, max_active: int | None = None) -> None:
        self._all = _Places()
        self._all.limit = max_active
        self._waiting = 0
        self._front: list[tuple[int, Rank, Key]] = []
        self._queues: dict[Key, _Queue] = {}
        self._lanes: dict[Key, _Lane] = {}
        self._seats: dict[Key, _Seat] = {}
        self._aside: set[Key] = set()
        self._arrivals: dict[Key, int] = {}
        self._next_arrival = 0
        self._dirty: set[Key] = set()  # queues in which somebody else may come first now
        self._look: set[Key] = set()  # runs whose policy may turn them away now
        self._changed: set[Key] = set()  # queues whose counts have changed, for their status

    # --- limits -------------------------------------------------------------------------------------------------------

    def set_queue(self, key: Key, view: QueueView | None) -> None:
        """Take over the limits of a WorkQueue; without one there are none."""
        queue = self._queue(key)
        queue.limit, queue.paused, queue.priority = (
            (view.limit, view.paused, view.priority) if view else (None, False, 0)
        )
        self._show_queue(key, queue)
        self._tidy(None, key)

    def set_deployment(self, key: Key, view: DeploymentView) -> None:
        """Take over the limits of a Deployment. Its waiting runs are to be placed anew if queue or policy changed."""
        lane = self._lane(key, Key(key.namespace, view.queue))
        lane.limit, lane.paused, lane.policy = view.concurrency_limit, view.paused, view.concurrency_policy
        self._show_lane(key, lane)

    def unset_deployment(self, key: Key) -> None:
        """The Deployment does not exist any more: nothing of it waits, and what runs is bounded by the queue alone."""
        lane = self._lanes.get(key)
        if lane is not None:
            lane.limit, lane.paused = None, False
            self._show_lane(key, lane)
            self._tidy(key, lane.queue)

    # --- runs ---------------------------------------------------------------------------------------------------------

    def arrive(self, key: Key) -> None:
        """Remember the order of arrival, which settles ties."""
        self._next_arrival += 1
        self._arrivals[key] = self._next_arrival

    def hold(self, run: RunView) -> None:
        """The run has started: it holds its place until it has ended."""
        key, lane_key = Key(run.namespace, run.name), Key(run.namespace, run.deployment)
        queue_key = Key(run.namespace, run.queue)
        seat = self._seats.get(key)
        if seat is not None and seat.queue == queue_key and key in self._all.held:
            return
        self.leave(key)
        self._aside.discard(key)
        lane = self._lanes.get(lane_key) or self._lane(lane_key, queue_key)
        self._seats[key] = _Seat(lane_key, queue_key, None)
        for places in (self._all, self._queue(queue_key), lane):
            places.held.add(key)
        self._refresh(lane_key, queue_key)

    def wait(self, run: RunView, deployment: DeploymentView) -> None:
        """The run wants to start: give it its place in the line, unless it is aside or its start has been decided."""
        key = Key(run.namespace, run.name)
        lane_key, queue_key = Key(run.namespace, deployment.name), Key(run.namespace, deployment.queue)
        if key in self._aside or key in self._all.claimed:
            return
        if key not in self._arrivals:
            self.arrive(key)
        priority = run.priority if run.priority is not None else deployment.priority
        rank = Rank(-priority, run.due_at.timestamp(), self._arrivals[key], key)
        newest_first = deployment.concurrency_policy == REPLACE and deployment.concurrency_limit is not None
        entry: Entry = ((-rank.due, -rank.arrival) if newest_first else rank[:3], rank)
        seat = _Seat(lane_key, queue_key, entry)
        if self._seats.get(key) == seat:
            return
        self.leave(key)
        lane = self._lane(lane_key, queue_key)
        self._seats[key] = seat
        insort(lane.entries, entry)
        self._queue(queue_key).waiting += 1
        self._waiting += 1
        if newest_first and lane.limit is not None and len(lane.entries) > lane.limit:
            self._look.add(lane.entries[lane.limit][1].key)  # it is the one too many now
        self._refresh(lane_key, queue_key)

    def leave(self, key: Key) -> None:
        """The run neither waits nor holds a place."""
        seat = self._seats.pop(key, None)
        if seat is None:
            return
        lane, queue = self._lanes[seat.lane], self._queues[seat.queue]
        if seat.entry is not None:
            self._take_out(lane, queue, seat.entry)
        for places in (self._all, queue, lane):
            places.held.discard(key)
            places.claimed.discard(key)
        self._refresh(seat.lane, seat.queue)

    def forget(self, key: Key) -> None:
        """The run is over, or gone."""
        self.leave(key)
        self._aside.discard(key)
        self._arrivals.pop(key, None)

    def claim(self, key: Key) -> None:
        """The start of a waiting run has been decided: until that is visible, nobody else may have its place."""
        seat = self._seats.get(key)
        if seat is None or seat.entry is None:
            return
        lane, queue = self._lanes[seat.lane], self._queues[seat.queue]
        self._take_out(lane, queue, seat.entry)
        self._seats[key] = seat._replace(entry=None)
        for places in (self._all, queue, lane):
            places.claimed.add(key)
        self._refresh(seat.lane, seat.queue)

    def set_aside(self, key: Key) -> None:
        """The run does not compete: it does not want to start yet, or its start has certainly not been written."""
        if key in self._arrivals:
            self._aside.add(key)
        self.leave(key)

    def call_back(self, key: Key) -> None:
        """The run is about to be looked at: it competes again, once it has been placed."""
        self._aside.discard(key)

    def is_claimed(self, key: Key) -> bool:
        """Whether the start of the run is on its way."""
        return key in self._all.claimed

    # --- what is to be seen -------------------------------------------------------------------------------------------

    def rooms(self, key: Key) -> tuple[Room, Room, Room]:
        """The places of Deployment, queue and operator as the run sees them."""
        seat = self._seats.get(key)
        if seat is None:
            return Room(), Room(), Room()
        lane, queue, whole = self._lanes[seat.lane], self._queues[seat.queue], self._all
        entry = seat.entry
        place = bisect_left(lane.entries, entry) if entry is not None else 0
        first_here = entry is None or bool(queue.heads and queue.heads[0][0] == entry[1])
        first = entry is None or bool(self._front and self._front[0][1] == entry[1])
        return (
            Room(lane.limit, lane.taken_but(key), place, lane.scarce_for(len(lane.entries))),
            Room(queue.limit, queue.taken_but(key), int(not first_here), queue.scarce_for(queue.waiting)),
            Room(whole.limit, whole.taken_but(key), int(not first), whole.scarce_for(self._waiting)),
        )

    def active_of(self, deployment: Key) -> Iterable[Key]:
        """The runs of a Deployment that hold a place, or are about to."""
        lane = self._lanes.get(deployment)
        return (*lane.held, *lane.claimed) if lane is not None else ()

    def counts(self, queue: Key) -> tuple[int, int]:
        """How many runs of a queue hold a place, and how many wait for one."""
        found = self._queues.get(queue)
        return (found.taken, found.waiting) if found is not None else (0, 0)

    def waiting(self, queue: Key) -> list[Key]:
        """All runs that wait in the queue, in the order of their lanes."""
        lanes = [lane for lane in self._lanes.values() if lane.queue == queue]
        return [rank.key for lane in lanes for _, rank in lane.entries]

    def holders(self, queue: Key) -> list[Key]:
        """The runs that hold a place in the queue."""
        found = self._queues.get(queue)
        return list(found.held) if found is not None else []

    def take_changed(self) -> set[Key]:
        """The queues whose counts have changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def to_look_at(self) -> list[Key]:
        """The runs that can start or be turned away by what has changed since the last call: nobody else need be woken."""
        found, dirty = list(self._look), self._dirty
        self._look, self._dirty = set(), set()
        if not dirty or not self._all.is_open:
            return found
        if self._all.limit is not None:  # one limit for all: a place that came free in one queue may be another's
            return [*found, self._front[0][1].key] if self._front else found
        queues = [self._queues[key] for key in dirty if key in self._queues]
        return found + [queue.shown[1].key for queue in queues if queue.shown is not None]

    # --- within -------------------------------------------------------------------------------------------------------

    def _queue(self, key: Key) -> _Queue:
        return self._queues.setdefault(key, _Queue())

    def _lane(self, key: Key, queue: Key) -> _Lane:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(queue)
        elif lane.queue != queue:
            for _, rank in list(lane.entries):  # they move with the Deployment
                self.leave(rank.key)
            lane = self._lanes.get(key) or self._lanes.setdefault(key, _Lane(queue))
            lane.queue = queue
        self._queue(queue)
        return lane

    def _take_out(self, lane: _Lane, queue: _Queue, entry: Entry) -> None:
        at = bisect_left(lane.entries, entry)
        assert lane.entries[at] == entry, "the seat knows the entry"
        del lane.entries[at]
        queue.waiting -= 1
        self._waiting -= 1

    def _refresh(self, lane_key: Key, queue_key: Key) -> None:
        """Places have changed: who stands first, in the lane's own queue and in the one where a place was had?"""
        lane = self._lanes[lane_key]
        self._show_lane(lane_key, lane)
        if lane.queue != queue_key:
            self._show_queue(queue_key, self._queues[queue_key])
        self._tidy(lane_key, queue_key)

    def _show_lane(self, key: Key, lane: _Lane) -> None:
        queue = self._queue(lane.queue)
        is_full = lane.limit is not None and lane.taken >= lane.limit
        if lane.policy == SKIP and is_full and not lane.was_full:
            self._look.update(rank.key for _, rank in lane.entries)
        lane.was_full = is_full
        wanted = (lane.entries[0][1], key) if lane.entries and lane.is_open else None
        if wanted != lane.shown:
            if lane.shown is not None:
                _remove(queue.heads, lane.shown)
            if wanted is not None:
                insort(queue.heads, wanted)
            lane.shown = wanted
        self._show_queue(lane.queue, queue)

    def _show_queue(self, key: Key, queue: _Queue) -> None:
        wanted = (-queue.priority, queue.heads[0][0], key) if queue.heads and queue.is_open else None
        if wanted != queue.shown:
            if queue.shown is not None:
                _remove(self._front, queue.shown)
            if wanted is not None:
                insort(self._front, wanted)
            queue.shown = wanted
        self._dirty.add(key)
        self._changed.add(key)

    def _tidy(self, lane_key: Key | None, queue_key: Key) -> None:
        """Drop what is empty and says nothing."""
        lane = self._lanes.get(lane_key) if lane_key is not None else None
        if (
            lane_key is not None
            and lane is not None
            and not (lane.entries or lane.taken)
            and lane.limit is None
            and not lane.paused
        ):
            del self._lanes[lane_key]
        queue = self._queues.get(queue_key)
        if (
            queue is not None
            and not (queue.waiting or queue.taken)
            and queue.limit is None
            and not queue.paused
            and queue.priority == 0
        ):
            del self._queues[queue_key]


def _remove(items: list, item: tuple) -> None:  # type: ignore[type-arg]
    at = bisect_left(items, item)
    assert items[at] == item, "what is shown is in the list"
    del items[at]
