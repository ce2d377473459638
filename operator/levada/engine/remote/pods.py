"""Calls in pods of their own, for `@task(kubernetes=...)` and `KubernetesTaskRunner`. In a run's pod only: elsewhere there is nobody to ask.

A call travels as bytes through the run's storage, and its outcome back the same way. Who asks for the pod, and learns what became of
it, is behind `Pods`: the runner's side, which the engine does not know.
"""

import os
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple, Protocol

from levada.engine import lanes
from levada.engine.remote import RemoteCall, logs, news, packing
from levada.engine.remote.carrying import unpack_outcome
from levada.engine.remote.processes import value_of
from levada.exceptions import OptionError, RunCancelled, WorkerCrashed


class PodEnd(NamedTuple):
    """What became of a pod.

    Attributes:
        outcome: what it left: an `Outcome`, packed; None if it could not leave one.
        why: in words, why it left none.
        lost: whether the cluster failed it, so that another pod may do better.
        refused: whether no such pod is ever to be had.
    """

    outcome: bytes | None
    why: str = ""
    lost: bool = False
    refused: bool = False


class PodAsk(Protocol):
    """One pod that was asked for."""

    def wait(self) -> PodEnd:
        """Wait for its end."""
        ...

    def when_done(self, listener: Callable[[PodEnd], None]) -> None:
        """Have a function called at its end, from another thread."""
        ...

    def release(self) -> None:
        """It is not wanted any more. One that runs is ended."""
        ...


class Pods(Protocol):
    """Who can be asked for pods. `retries`: how often a pod that the cluster failed is asked for again."""

    retries: int
    host: str

    def ask(self, payload: bytes, wishes: Mapping[str, Any], holder: str) -> PodAsk:
        """Ask for a pod that carries a packed call.

        Raises:
            OptionError: there is no storage through which a call could travel.
            StorageError: there is, and it does not take the call.
        """
        ...


_pods: Pods | None = None
_making = threading.Lock()


def pods_here() -> Pods | None:
    """Who can be asked for pods in this process; None outside of a run's pod."""
    global _pods  # noqa: PLW0603  one connection and one thread per process
    if _pods is None and lanes.pod_provider:
        module, _, function = lanes.pod_provider.partition(":")
        with _making:
            if _pods is None:
                _pods = getattr(import_module(module), function)()
    return _pods


def _forget_after_fork() -> None:
    """A child that the flow forks has neither the thread nor numbers of its own: its tasks run where they are called."""
    global _pods
    _pods, lanes.pod_provider = None, ""


os.register_at_fork(after_in_child=_forget_after_fork)


class PodWorkers:
    """Makes each call in a pod of its own. `wishes`: how that differs from the run's own pod."""

    def __init__(self, pods: Pods, wishes: Mapping[str, Any]) -> None:
        self._pods = pods
        self._wishes = wishes
        self._asks: set[PodAsk] = set()
        self._lock = threading.Lock()
        self._closed = False

    def call(self, call: RemoteCall) -> Any:
        """Make a call in a new pod; see `levada.engine.remote.Workers`. A pod that the cluster failed is made anew."""
        payload = packing.pack_call(call, logs.levels())
        for left in reversed(range(self._pods.retries + 1)):
            end = self._end_of(payload, call)
            if self._closed:
                raise RunCancelled(f"task run {call.run_id} was cancelled: its flow run ended")
            if end.outcome is not None:
                outcome = unpack_outcome(end.outcome)
                for record in outcome.records:
                    news.take(record)
                return value_of(call, outcome)
            if end.refused:
                raise OptionError(f"task {call.task_name!r} ({call.run_id}) cannot have its own pod: {end.why}")
            if not (end.lost and left):
                raise WorkerCrashed(f"task {call.task_name!r} ({call.run_id}): its pod has left no outcome: {end.why}")
        raise AssertionError("the last pod returns or raises")

    def _end_of(self, payload: bytes, call: RemoteCall) -> PodEnd:
        ask = self._pods.ask(payload, self._wishes, call.run_id)
        with self._lock:
            self._asks.add(ask)
        try:
            return PodEnd(None) if self._closed else ask.wait()
        finally:
            with self._lock:
                self._asks.discard(ask)
            ask.release()

    def close(self, *, cancel: bool) -> None:
        """End all pods; see `levada.engine.remote.Workers`."""
        with self._lock:
            self._closed = True
            asks = list(self._asks)
        for ask in asks:
            ask.release()


def open_pods(wishes: Mapping[str, Any]) -> PodWorkers | None:
    """Workers that are pods; None outside of a run's pod."""
    pods = pods_here()
    return None if pods is None else PodWorkers(pods, wishes)
