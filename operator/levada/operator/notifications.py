"""Telling people about runs, beside the runs' own work: what is due goes into a queue of its own, and nothing waits for it.

A listener hears of every phase that a run reaches. Finished runs leave the store, so what was not told before a crash is found by
a look at the runs that ended within a day and lack `status.notified`. After a delivery one status write records it; a crash
between the two tells it again, under the same delivery id. A receiver that fails is left alone for ever longer, and one message
at a time finds out whether it is well again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from levada._delivery import Refusal, Trouble
from levada.decide import notification_text
from levada.decide.definitions import Notification
from levada.decide.facts import RunView
from levada.decide.notifications import (
    GIVE_UP_AFTER,
    Health,
    Point,
    Problem,
    Result,
    default_of,
    delivery_id,
    due,
    expired,
    holding,
    late_waits_s,
    point_of,
    record,
    since_of,
)
from levada.decide.views import run_view
from levada.kube import ApiError, Conflict, ConnectionLost, NotFound
from levada.operator.apply import patch_status
from levada.operator.outbound import Forbidden, Guard, Parcel, Sender, Unacceptable
from levada.operator.receivers import Message, NotReady, Receivers, SecretFiles
from levada.operator.store import Key
from levada.operator.turns import Turns
from levada.operator.workqueue import WorkQueue
from levada.resources.kinds import BLOCKS, DEPLOYMENTS, FLOW_RUNS
from levada.resources.names import MAX_NOTIFICATIONS_HELD, OPERATOR_NAMESPACE
from levada.resources.phases import Occasion, is_terminal
from levada.secrets import mask

if TYPE_CHECKING:
    from levada.operator.controller import Controller

log = logging.getLogger(__name__)
Object = Mapping[str, Any]

WORKERS: Final = 64
# History lets a run that is still to be told of stay for so long: told from the cluster, it survives a restart of ours.
STAYS_FOR: Final = timedelta(hours=1)
# Until the first look at ends that nobody has seen has gone through.
FIRST_LOOK_AGAIN_S: Final = 5.0
_SECRET_WAIT_S: Final = 30.0
_RECORD_TRIES: Final = 5
_NOTHING: Final = Message("", "", {}, "check")


class Note(NamedTuple):
    """A key of the queue: what there is to tell about which run."""

    key: Key
    uid: str
    occasion: str
    attempt: int


@dataclass(slots=True)
class Pending:
    """What is known about a note. live: this process has seen it happen, so it is news, whatever the clocks say."""

    run: RunView
    point: Point
    first_seen: datetime
    live: bool
    receivers: dict[str, str] = field(default_factory=dict)  # of the last try, and the errors that it ended with
    delivered: set[str] = field(default_factory=set)  # names; perhaps not on record yet


class Notifier:
    """Registers itself with the controller. Open `sender`, and once everything is listed let workers `work` and one `look_back`."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller
        settings = controller.settings
        self._guard = Guard(settings.notify_allow)
        self.sender = Sender(self._guard, limit_s=settings.notify_timeout_s)
        blocks = controller.store.blocks
        self._receivers = Receivers(
            SecretFiles(settings.secrets_dir), lambda namespace, name: blocks.get(Key(namespace, name)), time.time
        )
        self._queue: WorkQueue[Note] = WorkQueue()
        self._pending: dict[Note, Pending] = {}
        self._turns: Turns[Note] = Turns()
        self._failing: dict[Key, dict[str, str]] = {}  # by Deployment: the last error of each notification
        self._told: set[Key] = set()  # Deployments of which something got through
        self._defaults: dict[str, tuple[Notification, ...]] = {}  # by namespace
        self.looked_back = False
        controller.run_listeners.append(self.on_run)
        controller.reconcilers[BLOCKS.kind] = self._on_block
        controller.metrics.notifications_pending.set_function(lambda: len(self._pending))

    def close(self) -> None:
        """Cancel all timers. What has not been told is found again after the next start."""
        self._queue.close()

    def let_go(self, namespace: str) -> None:
        """Somebody else tells of its runs now, also of what we have not come to."""
        for note in [note for note in self._pending if note.key.namespace == namespace]:
            del self._pending[note]

    def forget(self, deployment: Key) -> None:
        """It does not exist any more, or is not ours."""
        self._failing.pop(deployment, None)
        self._told.discard(deployment)

    # --- what holds, and how it does ----------------------------------------------------------------------------------

    def holding(self, deployment: Key) -> tuple[Notification, ...]:
        """The notifications that hold for the runs of a Deployment. No more than a status can keep, its own first."""
        return self._asked(deployment)[:MAX_NOTIFICATIONS_HELD]

    def _asked(self, deployment: Key) -> tuple[Notification, ...]:
        view = self._c.store.deployments.get(deployment)
        own = view.notifications if view is not None else ()
        space, cluster = self._defaults.get(deployment.namespace, ()), self._defaults.get(OPERATOR_NAMESPACE, ())
        return holding(own, space, cluster) if space or cluster else own

    def health(self, deployment: Key) -> Health:
        """How the notifications of a Deployment do: what can be seen without sending, and how the last deliveries went."""
        failing = self._failing.get(deployment, {})
        problems = []
        for each in self.holding(deployment):
            found = self._problem(each, deployment.namespace)
            if found is None and each.name in failing:
                found = Problem(each.name, "DeliveryFailed", failing[each.name])
            problems += [found] if found is not None else []
        for each in self._asked(deployment)[MAX_NOTIFICATIONS_HELD:]:
            why = f"{MAX_NOTIFICATIONS_HELD} notifications hold already: annotate fewer Blocks with levada.dev/notify"
            problems.append(Problem(each.name, "TooManyNotifications", why))
        return Health(tuple(problems), told=deployment in self._told)

    def _problem(self, notification: Notification, namespace: str) -> Problem | None:
        try:
            self._guard.check_name(self._receivers.parcel(notification, namespace, _NOTHING).host)
        except NotReady as error:
            return Problem(notification.name, error.reason, str(error))
        except Forbidden as error:
            return Problem(notification.name, "ReceiverForbidden", str(error))
        return None

    async def _on_block(self, key: Key) -> None:
        """A Block changed: it may be a default, or what a Deployment's notification names."""
        self._note_defaults()
        everywhere = key.namespace == OPERATOR_NAMESPACE
        for deployment in self._c.store.deployments:
            if everywhere or deployment.namespace == key.namespace:
                self._c.enqueue(DEPLOYMENTS.kind, deployment)

    def _note_defaults(self) -> None:
        found: dict[str, tuple[Notification, ...]] = {}
        for block in sorted(self._c.store.blocks.values(), key=lambda block: block.name):
            asked = default_of(block)
            if asked is not None:
                found[block.namespace] = (*found.get(block.namespace, ()), asked)
        self._defaults = found

    # --- what there is to tell ----------------------------------------------------------------------------------------

    def on_run(self, before: RunView | None, after: RunView | None) -> None:
        """For Controller.run_listeners. What is listed before the start is looked at then."""
        if after is None or not self._c.started:
            return
        if (
            before is not None
            and before.uid == after.uid
            and (before.phase, before.attempt) == (after.phase, after.attempt)
        ):
            return
        self._consider(after, live=before is not None)

    def _consider(self, run: RunView, *, live: bool) -> None:
        notifications = self.holding(Key(run.namespace, run.deployment))
        if not notifications:
            return
        point = point_of(run)
        if point is not None and any(point.occasion in each.phases for each in notifications):
            self._queue.add(self._note(run, point, live=live))
        late_s = late_waits_s(run, notifications, self._c.now())
        if late_s:
            self._queue.add_after(self._note(run, Point(Occasion.LATE), live=True), late_s[0])

    def _note(self, run: RunView, point: Point, *, live: bool) -> Note:
        note = Note(Key(run.namespace, run.name), run.uid, point.occasion, point.attempt)
        self._pending.setdefault(note, Pending(run, point, self._c.now(), live))
        return note

    async def look_back(self) -> None:
        """Be the one that finds ends that nobody has seen, for ever: while no operator ran, or while a watch was broken."""
        self._note_defaults()
        for run in list(self._c.store.runs.values()):
            self._consider(run, live=False)
        while True:
            try:
                await self._look_back()
                self.looked_back = True
            except (ApiError, ConnectionLost) as error:
                log.info("looking for runs whose end has not been told: %s", error)
            except Exception:
                log.exception("looking for runs whose end has not been told: unexpected; again in a while")
            pause_s = self._c.settings.relist_s
            if not self.looked_back:  # history waits for it, and lets no run go before
                pause_s = min(FIRST_LOOK_AGAIN_S, pause_s)
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter is no secret

    async def _look_back(self) -> None:
        for namespace, phase in self._places():
            selector = f"status.phase={phase},status.notified!=true"
            async for page, _ in self._c.client.pages(FLOW_RUNS, namespace, field_selector=selector):
                for body in page:
                    run = run_view(body)
                    recent = run.completed_at is not None and self._c.now() - run.completed_at < GIVE_UP_AFTER
                    if recent and self._c.serves(run.namespace):
                        self._consider(run, live=False)

    def _places(self) -> set[tuple[str | None, str]]:
        """Namespaces and final phases that somebody asks for."""
        watched = self._c.settings.namespaces
        found: set[tuple[str | None, str]] = set()
        for key, view in ((key, self._c.store.deployments.get(key)) for key in self._c.store.deployments):
            found |= _ends(key.namespace, view.notifications if view is not None else ())
        for namespace, defaults in self._defaults.items():
            for place in watched or (None,) if namespace == OPERATOR_NAMESPACE else (namespace,):
                found |= _ends(place, defaults)
        return {(place, phase) for place, phase in found if place is None or (None, phase) not in found}

    def untold(self) -> set[Key]:
        """Runs about which there is something to tell. One whose receiver has been away for long is told from memory."""
        since = self._c.now() - STAYS_FOR
        return {note.key for note, pending in self._pending.items() if pending.first_seen > since}

    # --- telling ------------------------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Be one of the workers, for ever."""
        while True:
            note = await self._queue.get()
            try:
                again_s = await self._tell(note)
            except (ApiError, ConnectionLost) as error:
                delay_s = self._queue.add_failed(note)
                log.info("telling %s of %s/%s: %s; again in %.1f s", note.occasion, *note.key, error, delay_s)
            except Exception:
                delay_s = self._queue.add_failed(note)
                log.exception("telling %s of %s/%s: unexpected; again in %.1f s", note.occasion, *note.key, delay_s)
            else:
                self._queue.forget(note)
                if again_s is None:
                    self._pending.pop(note, None)
                else:
                    self._queue.add_after(note, again_s)
            finally:
                self._queue.done(note)

    async def _tell(self, note: Note) -> float | None:
        """Tell whom it concerns, and write down what came of it. Returns the seconds until the next try, if one is needed."""
        pending = self._pending.get(note)
        if pending is None:
            return None  # told while it was added once more
        waits: list[float] = []
        if note.occasion == Occasion.LATE:
            waits = self._late_waits_s(note, pending)
            if not waits or waits[0] > 0:
                return min(waits, default=None)
        held_s = self._held_s(note, pending)
        if held_s is not None:
            return held_s
        body = await self._read(note)
        status: Object = body.get("status") or {}
        todo = self._due(pending, status)
        if not todo:
            return min((wait for wait in waits if wait > 0), default=None)
        answers: list[tuple[Result, float | None]]
        if expired(pending.point, pending.first_seen, self._c.now()):
            answers = [(self._gave_up(each, pending), None) for each in todo]
        else:
            pending.receivers.clear()
            answers = await asyncio.gather(*(self._deliver(each, note, pending, body) for each in todo))
        await self._record(note, pending, body, [result for result, _ in answers])
        later = [*(again_s for _, again_s in answers if again_s is not None), *(wait for wait in waits if wait > 0)]
        return min(later, default=None)

    def _held_s(self, note: Note, pending: Pending) -> float | None:
        """Seconds for which there is nothing to do: no receiver can take it, and the run says so already."""
        held_s = [
            held
            for each, written in pending.receivers.items()
            if (held := self._turns.held_s(each, note)) is not None and (written or not self._turns.error(each))
        ]
        return min(held_s) if held_s and len(held_s) == len(pending.receivers) else None

    def _late_waits_s(self, note: Note, pending: Pending) -> list[float]:
        """Seconds until the run is late for each who wants to know; none: it has started."""
        run = self._c.store.runs.get(note.key)
        if run is None or run.uid != note.uid:
            return []
        pending.run = run
        return late_waits_s(run, self.holding(Key(run.namespace, run.deployment)), self._c.now())

    async def _read(self, note: Note) -> dict[str, Any]:
        """The run as it is now; empty if it is gone: then it is told from what was seen of it."""
        try:
            body = await self._c.client.get(FLOW_RUNS, note.key.name, note.key.namespace)
        except NotFound:
            return {}
        return body if body["metadata"]["uid"] == note.uid else {}

    def _due(self, pending: Pending, status: Object) -> tuple[Notification, ...]:
        run = pending.run
        key = Key(run.namespace, run.deployment)
        view = self._c.store.deployments.get(key)
        since = since_of(view, self.holding(key), self._c.now()) if view is not None and not pending.live else {}
        now = min(self._c.now(), (pending.point.at or pending.first_seen) + GIVE_UP_AFTER)
        return due(run, pending.point, self.holding(key), status, since=since, now=now)

    async def _deliver(
        self, notification: Notification, note: Note, pending: Pending, body: Object
    ) -> tuple[Result, float | None]:
        """One try. Returns what came of it, and the seconds until the next, if one makes sense."""
        run = pending.run
        if notification.name in pending.delivered:
            return Result(notification.name), None
        try:
            parcel = self._receivers.parcel(notification, run.namespace, _message(notification, pending, body))
        except NotReady as error:
            self._c.enqueue(DEPLOYMENTS.kind, Key(run.namespace, run.deployment))
            return Result(notification.name, str(error)), _SECRET_WAIT_S
        held_s = self._turns.held_s(parcel.receiver, note)
        if held_s is not None:
            down = pending.receivers[parcel.receiver] = self._turns.error(parcel.receiver)
            return Result(notification.name, down, waiting=not down), held_s
        result, again_s = await self._try(notification.name, note, parcel)
        pending.receivers[parcel.receiver] = result.error
        self._count("gave_up" if result.gave_up else "failed" if result.error else "delivered")
        if not result.error:
            pending.delivered.add(notification.name)
        self._note_health(Key(run.namespace, run.deployment), result)
        return result, again_s

    async def _try(self, name: str, note: Note, parcel: Parcel) -> tuple[Result, float | None]:
        receiver = parcel.receiver
        self._turns.begin(receiver, note)
        try:
            await self.sender.send(parcel)
        except Unacceptable as error:
            self._wake(receiver)  # it answers
            return Result(name, str(error), gave_up=True), None
        except (Trouble, Refusal, Forbidden) as error:
            asked_s = error.retry_after_seconds if isinstance(error, Trouble) else 0.0
            return Result(name, mask(str(error))), self._turns.failed(receiver, mask(str(error)), asked_s)
        except BaseException:
            self._turns.dropped(receiver)
            raise
        self._wake(receiver)
        return Result(name), None

    def _wake(self, receiver: str) -> None:
        for note in self._turns.ended(receiver):
            if note in self._pending:
                self._queue.add(note)

    def _gave_up(self, notification: Notification, pending: Pending) -> Result:
        self._count("gave_up")
        run = pending.run
        error = self._failing.get(Key(run.namespace, run.deployment), {}).get(notification.name, "it could not be sent")
        return Result(notification.name, error, gave_up=True)

    def _count(self, outcome: str) -> None:
        self._c.metrics.notifications.labels(outcome).inc()

    def _note_health(self, deployment: Key, result: Result) -> None:
        if self._c.store.deployments.get(deployment) is None:
            return  # nobody can be told
        failing = self._failing.setdefault(deployment, {})
        before = failing.get(result.name)
        if result.error:
            failing[result.name] = result.error
        else:
            failing.pop(result.name, None)
        first = not result.error and deployment not in self._told
        if not result.error:
            self._told.add(deployment)
        if not failing:
            del self._failing[deployment]
        if first or before != (result.error or None):
            self._c.enqueue(DEPLOYMENTS.kind, deployment)

    async def _record(self, note: Note, pending: Pending, body: Object, results: Iterable[Result]) -> None:
        """Write down what came of it, whoever else writes meanwhile. A run that is gone has no record."""
        for _ in range(_RECORD_TRIES):
            if not body:
                return
            meta = body["metadata"]
            patch = record(
                body.get("status") or {},
                pending.point,
                results,
                generation=meta.get("generation", 1),
                now=self._c.now(),
            )
            if patch is None:
                return
            try:
                await patch_status(
                    self._c.client, FLOW_RUNS, note.key.namespace, note.key.name, patch,
                    uid=note.uid, resource_version=meta["resourceVersion"],
                )  # fmt: skip
            except NotFound:
                return
            except Conflict:
                body = await self._read(note)
            else:
                return
        raise Conflict(409, "Conflict", "the run is being written to all the time")


def _ends(namespace: str | None, notifications: Iterable[Notification]) -> set[tuple[str | None, str]]:
    return {(namespace, phase) for each in notifications for phase in each.phases if is_terminal(phase)}


def _message(notification: Notification, pending: Pending, body: Object) -> Message:
    run, point = pending.run, pending.point
    values = notification_text.values_of(run, point.occasion, body, notification=notification.name)
    subject, text = notification_text.message(notification, values)
    delivery = delivery_id(run.uid, notification.name, point)
    document = notification_text.document(
        values,
        failed=notification_text.failed_tasks(body),
        delivery=delivery,
        uid=run.uid,
        subject=subject,
        text=text,
    )
    return Message(subject, text, document, delivery)
