"""Pods of their own for tasks, as the run's process sees them: it asks the operator, in the status of the run's own FlowRun.

    <folder of the run>/pods/<attempt>-<id>/call       this process writes it, the pod reads it
    status.taskPods.<id>                               this process asks and takes back, the operator grants and tells the end
    <folder of the run>/pods/<attempt>-<id>/outcome    the pod writes it, this process reads it

One thread of the process speaks for all its tasks, as with slots (slots.py): plain reads of the own FlowRun, fast at first and ever
more slowly. A process that ends takes nothing back; the operator sees its pod end, and removes the pods of its tasks.
"""

import contextlib
import itertools
import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any, Final

from levada.archive.layout import run_folder
from levada.engine.remote.pods import PodEnd
from levada.exceptions import MissingContextError, OptionError, StorageError
from levada.resources import names
from levada.resources.names import MAX_TASK_PODS
from levada.resources.phases import is_terminal
from levada.runner.api import ApiProblem, Conflict, NotAllowed, Rejected, RunApi, RunGone
from levada.runner.settings import Settings, SettingsError, settings_from
from levada.runner.text import time_text
from levada.storage import Storage, storage_of

log = logging.getLogger("levada.runner")

FIRST_LOOK_SECONDS: Final = 0.1
LONGEST_LOOK_SECONDS: Final = 2.0
_TROUBLE_SECONDS: Final = 30.0
CALL, OUTCOME = "call", "outcome"


def folder_of(settings: Settings, id_: str) -> str:
    """Where the call and the outcome of a task's pod lie in the storage."""
    return f"{run_folder(settings.namespace, settings.run, settings.run_uid)}/pods/{settings.attempt}-{id_}"


def envelope(payload: bytes) -> bytes:
    """A call with what a pod of another image must be able to read before it unpickles anything."""
    head = {
        "python": list(sys.version_info[:2]),
        "path": [entry for entry in sys.path if entry],
        "revision": os.environ.get(names.ENV_CODE_REVISION, ""),
    }
    return json.dumps(head).encode() + b"\n" + payload


def provider() -> "TaskPods":
    """The pods that this run's process may ask for.

    Raises:
        MissingContextError: this process is not in a run's pod.
    """
    try:
        settings = settings_from(os.environ)
    except SettingsError as error:
        raise MissingContextError(f"pods cannot be asked for here: {error}") from error
    return TaskPods(RunApi.of(settings), settings)


class Ask:
    """A pod that was asked for."""

    def __init__(self, owner: "TaskPods", id_: str, entry: Mapping[str, Any]) -> None:
        self.id = id_
        self.entry = entry
        self.told = ""
        self.end: Future[PodEnd] = Future()
        self._owner = owner

    def wait(self) -> PodEnd:
        """Wait for its end."""
        return self.end.result()

    def when_done(self, listener: Callable[[PodEnd], None]) -> None:
        """Have a function called at its end."""
        self.end.add_done_callback(lambda end: listener(end.result()))

    def release(self) -> None:
        """It is not wanted any more."""
        self._owner.leave(self)
        self.set(PodEnd(None, "it was given up"))

    def set(self, end: PodEnd) -> None:
        """Tell the end, once."""
        with contextlib.suppress(Exception):  # InvalidStateError: it is told already
            self.end.set_result(end)


class TaskPods:
    """The pods that one run's process has asked for."""

    def __init__(self, api: RunApi, settings: Settings) -> None:
        self.retries = settings.infrastructure_retries
        self._api = api
        self._settings = settings
        self._storage: Storage | None = None
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        # Under the lock.
        self._new: list[Ask] = []
        self._leaving: set[str] = set()
        # The thread's own.
        self._open: dict[str, Ask] = {}
        self._look_seconds = FIRST_LOOK_SECONDS
        self._trouble_since: float | None = None
        self._thread: threading.Thread | None = None

    @property
    def host(self) -> str:
        """The address of this pod: that from which it reaches the API server."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((self._settings.api_host, self._settings.api_port))  # nothing is sent
            return str(probe.getsockname()[0])

    # --- from any thread ----------------------------------------------------------------------------------------------

    def ask(self, payload: bytes, wishes: Mapping[str, Any], holder: str) -> Ask:
        """Ask for a pod; see `levada.engine.remote.pods.Pods`."""
        with self._changed:
            id_ = f"t{next(self._numbers)}"
        self._store().write(f"{folder_of(self._settings, id_)}/{CALL}", envelope(payload))
        entry = {
            "attempt": self._settings.attempt,
            "holder": holder[:256],
            "state": "Waiting",
            "requestedTime": time_text(datetime.now(UTC)),
            **wishes,
        }
        made = Ask(self, id_, entry)
        with self._changed:
            self._new.append(made)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="levada-task-pods", daemon=True)
                self._thread.start()
            self._changed.notify()
        return made

    def _store(self) -> Storage:
        if self._storage is None:
            if not self._settings.storage or not self._settings.run_uid:
                raise OptionError(
                    "a task in a pod of its own needs a storage through which its call and its outcome travel: set spec.storage "
                    "of the Deployment, for example to s3://bucket/prefix"
                )
            self._storage = storage_of(self._settings.storage)
        return self._storage

    def leave(self, ask: Ask) -> None:
        """Take an entry back, and clear its folder."""
        with self._changed:
            if ask in self._new:
                self._new.remove(ask)
            else:
                self._leaving.add(ask.id)
                self._changed.notify()
        for name in (CALL, OUTCOME):
            with contextlib.suppress(StorageError):  # what stays is small, and lies in the run's own folder
                self._store().delete(f"{folder_of(self._settings, ask.id)}/{name}")

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._changed:
                timeout = self._look_seconds if self._waits() else None
                self._changed.wait_for(self._has_something_to_say, timeout=timeout)
            try:
                self._step()
            except ApiProblem as problem:
                self._troubled(problem)
                time.sleep(self._look_seconds)
            except Exception:
                # A defect of ours must not leave tasks waiting for a thread that has died.
                log.exception("Pods of tasks could not be looked after, which is tried again.")
                time.sleep(LONGEST_LOOK_SECONDS)
            else:
                self._trouble_since = None

    def _waits(self) -> bool:
        return any(not ask.end.done() for ask in self._open.values())

    def _has_something_to_say(self) -> bool:
        return bool(self._leaving or (self._new and len(self._open) < MAX_TASK_PODS))

    def _step(self) -> None:
        """One exchange: say what is new, and learn what has become of the others."""
        with self._changed:
            new, leaving = self._new[: max(0, MAX_TASK_PODS - len(self._open))], set(self._leaving)
        changes = {ask.id: ask.entry for ask in new} | dict.fromkeys(leaving)
        try:
            run = self._api.patch_task_pods(changes, self._settings.run_uid) if changes else self._api.read()
        except Rejected as problem:
            if len(changes) < 2 or not new:
                self._reject(new, problem)
                raise
            run = self._one_by_one(new, leaving)
        with self._changed:
            self._new = [ask for ask in self._new if ask not in new]
            self._leaving -= leaving
        self._open |= {ask.id: ask for ask in new if not ask.end.done()}
        for id_ in leaving:
            self._open.pop(id_, None)
        self._look_seconds = FIRST_LOOK_SECONDS if new else min(LONGEST_LOOK_SECONDS, self._look_seconds * 1.25)
        self._learn(run)

    def _one_by_one(self, new: list[Ask], leaving: set[str]) -> dict[str, Any]:
        """One of several entries is not fit to be written: the others must not suffer for it."""
        run = self._api.patch_task_pods(dict.fromkeys(leaving), self._settings.run_uid)
        for ask in new:
            try:
                run = self._api.patch_task_pods({ask.id: ask.entry}, self._settings.run_uid)
            except Rejected as problem:
                self._reject([ask], problem)
        return run

    def _reject(self, asks: list[Ask], problem: Rejected) -> None:
        with self._changed:
            self._new = [ask for ask in self._new if ask not in asks]
        for ask in asks:
            ask.set(PodEnd(None, f"the API server refused what it asks for: {problem}", refused=True))

    def _learn(self, run: Mapping[str, Any]) -> None:
        status = run.get("status") or {}
        entries: Mapping[str, Any] = status.get("taskPods") or {}
        over = is_terminal(status.get("phase")) or status.get("attempt") != self._settings.attempt
        for ask in list(self._open.values()):
            entry = entries.get(ask.id)
            if ask.end.done():
                continue
            if over or entry is None:
                ask.set(PodEnd(None, "the run has ended" if over else "its entry in status.taskPods was removed"))
            elif entry["state"] == "Refused":
                ask.set(PodEnd(None, entry.get("message") or "", refused=True))
            elif entry["state"] == "Ended":
                self._ended(ask, entry)
            elif entry.get("message") and entry["message"] != ask.told:
                ask.told = entry["message"]
                log.warning("The pod of %s does not start: %s", ask.entry["holder"], ask.told)

    def _ended(self, ask: Ask, entry: Mapping[str, Any]) -> None:
        why = f"{entry.get('reason')}: {entry.get('message') or 'its process ended'}"
        try:
            outcome = self._store().read(f"{folder_of(self._settings, ask.id)}/{OUTCOME}")
        except KeyError:
            ask.set(PodEnd(None, why, lost=entry.get("kind") == "Infrastructure"))
        except StorageError as error:
            ask.set(PodEnd(None, f"its outcome cannot be read: {error}"))
        else:
            ask.set(PodEnd(outcome))

    def _troubled(self, problem: ApiProblem) -> None:
        """While the API server is away everybody waits; a refusal that stays is an error of the tasks."""
        if self._trouble_since is None:
            self._trouble_since = time.monotonic()
            log.warning("Pods of tasks cannot be looked after, which is tried again: %s", problem)
        self._look_seconds = min(LONGEST_LOOK_SECONDS, self._look_seconds * 1.25)
        long = time.monotonic() - self._trouble_since > _TROUBLE_SECONDS
        if isinstance(problem, (RunGone, Conflict)) or (isinstance(problem, (NotAllowed, Rejected)) and long):
            with self._changed:
                lost, self._new, self._leaving = [*self._new, *self._open.values()], [], set()
            self._open.clear()
            for ask in lost:
                ask.set(PodEnd(None, f"the operator cannot be asked: {problem}"))
