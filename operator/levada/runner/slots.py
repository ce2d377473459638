"""Slots inside a run's pod: `concurrency("db")` and `rate_limit("api")` ask the operator, in the status of the run's own FlowRun.

    status.slots.<id>   this process writes it with state Waiting, the operator turns it into Held, this process removes it

One thread of the process speaks for all its tasks, so a hundred that wait are one patch and one look. Its looks are plain reads
of the own FlowRun: a watch would need a right that RBAC cannot narrow to one run (docs/adr/0009). They come fast at first and
ever more slowly. A process that ends gives nothing back; the operator sees its pod end. Entries that a killed worker process of
this pod has left behind are removed by whoever of the pod looks next.
"""

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from levada.exceptions import MissingContextError
from levada.resources.names import limit_object
from levada.resources.phases import is_terminal
from levada.runner.api import ApiProblem, Conflict, NotAllowed, Rejected, RunApi, RunGone
from levada.runner.settings import Settings, SettingsError, settings_from
from levada.runner.text import time_text

log = logging.getLogger("levada.runner")

# Looks at the FlowRun while something is waited for: the first soon, each later one after a wait that is a quarter longer.
FIRST_LOOK_SECONDS: Final = 0.02
LONGEST_LOOK_SECONDS: Final = 2.0
# A wait that takes longer is told, in the log and in the run's message.
TELL_AFTER_SECONDS: Final = 2.0
# How long a limit that was read counts as known.
_KNOWN_SECONDS: Final = 1.0
_TROUBLE_SECONDS: Final = 30.0
# Open entries of one process: the map holds 256, and there may be other processes in the pod.
_MOST_OPEN: Final = 100

ASKED, WAITING, HELD, MISSING, REFUSED, FAILED = "asked", "Waiting", "Held", "missing", "Refused", "failed"


class Ask:
    """Slots that were asked for. `state` is one of the words above; only the thread of `PodSlots` changes it."""

    def __init__(self, owner: "PodSlots", id_: str, limit: str, occupy: int, holder: str, *, rate: bool) -> None:
        self.id = id_
        self.limit = limit
        self.occupy = occupy
        self.holder = holder
        self.rate = rate
        self.state = ASKED
        self.message = ""
        self.asked_at = time.monotonic()
        self.requested = datetime.now(UTC)
        self.told = False
        self._owner = owner

    @property
    def is_decided(self) -> bool:
        """Whether waiting is over."""
        return self.state not in {ASKED, WAITING}

    def holders(self) -> list[str]:
        """Who has the slots, in words, as far as is known."""
        return self._owner.holders(self.limit)

    def release(self) -> None:
        """Give the slots back, or stop waiting for them."""
        self._owner.leave(self)


def provider() -> "PodSlots":
    """The slots of this pod, from its environment.

    Raises:
        MissingContextError: this process is not in a run's pod.
    """
    try:
        settings = settings_from(os.environ)
    except SettingsError as error:
        raise MissingContextError(f"the cluster's limits cannot be asked here: {error}") from error
    return PodSlots(RunApi.of(settings), settings)


class PodSlots:
    """The slots that one process of the pod holds and waits for."""

    def __init__(self, api: RunApi, settings: Settings, *, process_id: Callable[[], str] | None = None) -> None:
        self._api = api
        self._settings = settings
        self._process = process_id or this_process
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._prefix = self._process()
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        # Under the lock.
        self._new: list[Ask] = []
        self._leaving: set[str] = set()
        # The thread's own.
        self._open: dict[str, Ask] = {}
        self._limits: dict[str, tuple[float, Mapping[str, Any] | None]] = {}
        self._look_seconds = FIRST_LOOK_SECONDS
        self._trouble_since: float | None = None
        self._told_message = ""
        self._thread: threading.Thread | None = None

    # --- from any thread ----------------------------------------------------------------------------------------------

    def ask(self, limit: str, occupy: int, holder: str, *, rate: bool = False) -> Ask:
        """Ask for slots of a limit; look at `state` of what is returned."""
        if self._pid != os.getpid():  # forked: thread and connection stayed with the parent
            self._api = RunApi.of(self._settings)
            self._begin()
        with self._changed:
            number = f"{self._prefix}-{next(self._numbers)}"
            made = Ask(self, number, limit_object(limit), occupy, holder[:256], rate=rate)
            self._new.append(made)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="levada-slots", daemon=True)
                self._thread.start()
            self._changed.notify()
        return made

    def leave(self, ask: Ask) -> None:
        """Give back, or stop waiting."""
        if self._pid != os.getpid():
            return
        with self._changed:
            if ask in self._new:
                self._new.remove(ask)
            elif ask.state not in {MISSING, FAILED}:
                self._leaving.add(ask.id)
                self._changed.notify()

    def holders(self, limit: str) -> list[str]:
        """Who holds slots, as the operator's summary of the limit has it."""
        found = (self._limits.get(limit) or (0.0, None))[1] or {}
        return [f"{holder['run']} has {holder['slots']}" for holder in (found.get("status") or {}).get("holders") or ()]

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_something_to_say, timeout=self._until_look())
            try:
                self._step()
            except ApiProblem as problem:
                self._troubled(problem)
                time.sleep(min(LONGEST_LOOK_SECONDS, max(0.1, self._look_seconds)))
            except Exception:
                # A defect of ours must not leave tasks waiting for a thread that has died.
                log.exception("Slots could not be asked for, which is tried again.")
                time.sleep(LONGEST_LOOK_SECONDS)
            else:
                self._trouble_since = None

    def _has_something_to_say(self) -> bool:
        return bool(self._leaving or (self._new and len(self._open) < _MOST_OPEN))

    def _until_look(self) -> float | None:
        return self._look_seconds if any(ask.state == WAITING for ask in self._open.values()) else None

    def _step(self) -> None:
        """One exchange: say what is new, and learn what has been granted."""
        with self._changed:
            new, leaving = self._new[: _MOST_OPEN - len(self._open)], set(self._leaving)
        asked = [ask for ask in new if self._is_there(ask)]
        changes: dict[str, Any] = {ask.id: self._entry(ask) for ask in asked if ask.id not in leaving}
        changes |= dict.fromkeys(leaving)
        run = self._api.patch_slots(changes, self._settings.run_uid) if changes else self._api.read()
        with self._changed:
            self._new = [ask for ask in self._new if ask not in new]
            self._leaving -= leaving
        self._open |= {ask.id: ask for ask in asked}
        for id_ in leaving:
            self._open.pop(id_, None)
        self._look_seconds = FIRST_LOOK_SECONDS if asked else min(LONGEST_LOOK_SECONDS, self._look_seconds * 1.25)
        self._learn(run)

    def _entry(self, ask: Ask) -> dict[str, Any]:
        entry = {
            "limit": ask.limit,
            "occupy": ask.occupy,
            "attempt": self._settings.attempt,
            "holder": ask.holder,
            "state": WAITING,
            "requestedTime": time_text(ask.requested),
        }
        return entry | ({"rate": True} if ask.rate else {})

    def _learn(self, run: Mapping[str, Any]) -> None:
        status = run.get("status") or {}
        slots: Mapping[str, Any] = status.get("slots") or {}
        for ask in list(self._open.values()):
            entry = slots.get(ask.id)
            if entry is None:  # somebody removed it: ask anew, in its old place
                with self._changed:
                    if ask.id not in self._leaving and not ask.is_decided:
                        self._new.append(ask)
                self._open.pop(ask.id, None)
                continue
            ask.message = entry.get("message") or ""
            ask.state = entry["state"]
        self._sweep(slots)
        self._tell(run)

    def _sweep(self, slots: Mapping[str, Any]) -> None:
        """Have entries removed that a process of this pod left behind when it was killed."""
        dead = {
            id_
            for id_, entry in slots.items()
            if id_ not in self._open and entry.get("attempt") == self._settings.attempt and not is_alive(id_)
        }
        if dead:
            with self._changed:
                self._leaving |= dead

    # --- limits -------------------------------------------------------------------------------------------------------

    def _is_there(self, ask: Ask) -> bool:
        """Whether the limit exists and could ever have so many slots free. If not, the ask is decided."""
        limit = self._limit(ask.limit)
        if limit is None:
            ask.state = MISSING
            return False
        spec = limit.get("spec") or {}
        total = spec.get("limit") or 0
        if ask.rate and not spec.get("slotDecayPerSecond"):
            ask.message = f"ConcurrencyLimit {ask.limit!r} has no slotDecayPerSecond: use concurrency({ask.limit!r})."
            ask.state = REFUSED
        elif total and ask.occupy > total:
            ask.message = f"occupy={ask.occupy} can never be had, as the limit is {total}: take fewer, or raise it with `levada limits set {ask.limit}`."
            ask.state = REFUSED
        return ask.state == ASKED

    def _limit(self, name: str) -> Mapping[str, Any] | None:
        read_at, known = self._limits.get(name, (float("-inf"), None))
        if time.monotonic() - read_at < _KNOWN_SECONDS:
            return known
        found: Mapping[str, Any] | None = None
        if name:
            with contextlib.suppress(RunGone):
                found = self._api.read_limit(name)
        self._limits[name] = (time.monotonic(), found)
        return found

    # --- what people see ----------------------------------------------------------------------------------------------

    def _tell(self, run: Mapping[str, Any]) -> None:
        """Say in the log and in the run's message what is waited for, once a wait has become long."""
        now = time.monotonic()
        long = [ask for ask in self._open.values() if ask.state == WAITING and now - ask.asked_at > TELL_AFTER_SECONDS]
        for ask in long:
            if not ask.told:
                ask.told = True
                log.info("%s %s.", ask.holder, self._sentence(ask))
        wanted = f"A task {self._sentence(long[0])}." if long else ""
        if bool(wanted) == bool(self._told_message):
            return
        status = run.get("status") or {}
        if not is_terminal(status.get("phase")) and status.get("attempt") == self._settings.attempt:
            # If the run has changed since, the next look tells it.
            with contextlib.suppress(Conflict, Rejected):
                self._api.patch_status({"message": wanted or None}, str(run["metadata"]["resourceVersion"]))
                self._told_message = wanted

    def _sentence(self, ask: Ask) -> str:
        total = ((self._limit(ask.limit) or {}).get("spec") or {}).get("limit")
        slots = "a turn" if ask.rate else "1 slot" if ask.occupy == 1 else f"{ask.occupy} slots"
        own = sum(
            each.occupy
            for each in self._open.values()
            if each.limit == ask.limit and each.state == HELD and not each.rate
        )
        holders = ", ".join(self.holders(ask.limit))
        has = f" (of {total}; {holders})" if holders else f" (of {total})"
        itself = (
            f"; this run itself holds {own}: who takes a second slot inside the first may wait for itself"
            if own
            else ""
        )
        return f"waits for {slots} of {ask.limit!r}{has}{itself}"

    def _troubled(self, problem: ApiProblem) -> None:
        """Nothing was asked. While the API server is away everybody waits; a refusal that stays is an error of the tasks."""
        if self._trouble_since is None:
            self._trouble_since = time.monotonic()
            log.warning("Slots could not be asked for, which is tried again: %s", problem)
        long = time.monotonic() - self._trouble_since > _TROUBLE_SECONDS
        if isinstance(problem, (RunGone, Conflict)) or (isinstance(problem, (NotAllowed, Rejected)) and long):
            with self._changed:
                lost = [*self._new, *(ask for ask in self._open.values() if not ask.is_decided)]
                self._new, self._leaving = [], set()
            for ask in lost:
                self._open.pop(ask.id, None)
                ask.message = f"The cluster's limits cannot be asked: {problem}"
                ask.state = FAILED


def this_process() -> str:
    """This process as a part of an id: unlike its number alone, it never means another one."""
    return f"p{os.getpid()}-{_started(os.getpid())}"


def is_alive(id_: str) -> bool:
    """Whether the process of this pod that made the id still lives. Ids that are not of this form are left alone."""
    parts = id_.split("-")
    if len(parts) != 3 or not parts[0].startswith("p") or not parts[0][1:].isdigit():
        return True
    return _started(int(parts[0][1:])) == parts[1]


def _started(pid: int) -> str:
    """When a process was started, in clock ticks since boot; nothing if there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:  # noqa: PTH123  light: no pathlib in the pod's worker
            return stat.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "0" if pid == os.getpid() else ""
