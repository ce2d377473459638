"""The workers of a Dask cluster, for `DaskTaskRunner`. Works from version 2025.5 of distributed.

A call travels as bytes to `_carry`, which is all that Dask knows of it. On the way back, log lines come as Dask events while the code
runs; the outcome brings all of them once more, since events may get lost with a worker, and those that came before are left out.
"""

import pickle
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from contextvars import copy_context
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from levada.engine.deadlines import TooLate
from levada.engine.remote import RemoteCall, logs, news, packing
from levada.engine.remote.carrying import carry, pack_outcome, unpack_outcome
from levada.engine.remote.pods import pods_here
from levada.engine.remote.processes import value_of
from levada.engine.tracebacks import summary
from levada.exceptions import MissingDependencyError, OptionError, RunCancelled, SerializationError, WorkerCrashed

if TYPE_CHECKING:
    from levada.task_runners import DaskTaskRunner

_BIG_BYTES: Final = 1 << 20
_OVERTIME_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.25
_CONNECT_SECONDS: Final = 10
_CLOSE_SECONDS: Final = 5
_MAX_SENDS: Final = 3
_NANNYS_PROCESS: Final = "Dask Worker process (from Nanny)"


def open_workers(runner: "DaskTaskRunner") -> "DaskWorkers":
    """Start or find the cluster that a runner describes; see `DaskTaskRunner.open`."""
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingDependencyError(
            f"DaskTaskRunner needs dask.distributed: pip install 'levada[dask]' ({error})"
        ) from error
    own = None
    where = runner.address or runner.cluster
    pods = pods_here() if runner.kubernetes is not None else None
    if pods is not None:
        from levada.engine.remote.daskpods import start_pod_cluster

        where = own = start_pod_cluster(runner, pods)
        _adapt(runner, own)
    elif where is None:
        where = own = _start_cluster(runner)
    options = {"set_as_default": False, "timeout": _CONNECT_SECONDS, **runner.client_kwargs}
    try:
        client = Client(where, **options)  # type: ignore[no-untyped-call]  # distributed has no types
    except (OSError, ValueError, TypeError) as error:
        _end_cluster(own)
        if runner.address is None:
            raise OptionError(f"DaskTaskRunner: no connection to its cluster: {summary(error)}") from error
        raise OptionError(
            f"DaskTaskRunner: no scheduler answers at address={runner.address!r}: {summary(error)}; "
            "start one with `dask scheduler`, or leave the address out for a cluster on this machine"
        ) from error
    return DaskWorkers(client, own)


# The cluster.
def _start_cluster(runner: "DaskTaskRunner") -> Any:
    """A cluster that lives as long as the flow run."""
    import dask.config

    make = _cluster_class(runner.cluster_class)
    kwargs = dict(runner.cluster_kwargs)
    if runner.cluster_class is None:
        kwargs.setdefault("dashboard_address", ":0")  # a fixed port is taken already if two flows run
    _keep_script_out_of_workers()
    try:
        # Whether a task that lost its worker is tried again is for its `retries` to say.
        with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
            cluster = make(**kwargs)
    except Exception as error:
        raise OptionError(f"DaskTaskRunner: {make.__name__} does not start with {kwargs}: {summary(error)}") from error
    _adapt(runner, cluster)
    return cluster


def _adapt(runner: "DaskTaskRunner", cluster: Any) -> None:
    """Let the cluster grow and shrink, if the runner says so."""
    if not runner.adapt_kwargs:
        return
    try:
        cluster.adapt(**runner.adapt_kwargs)
    except Exception as error:
        _end_cluster(cluster)
        raise OptionError(
            f"DaskTaskRunner: {type(cluster).__name__} does not adapt with {runner.adapt_kwargs}: {summary(error)}"
        ) from error


def _end_cluster(cluster: Any) -> None:
    """Close a cluster that was started here. A defect of its class must not hide what happened before."""
    if cluster is not None:
        with suppress(Exception):
            cluster.close(timeout=_CLOSE_SECONDS)


def _cluster_class(setting: "str | Callable[..., Any] | None") -> Callable[..., Any]:
    """The class that a setting names; LocalCluster if it names none."""
    if setting is None:
        from distributed import LocalCluster

        return LocalCluster
    if not isinstance(setting, str):
        return setting
    module, _, name = setting.replace(":", ".").rpartition(".")
    try:
        return getattr(import_module(module), name)  # type: ignore[no-any-return]  # whatever it is, it is called
    except (ImportError, AttributeError) as error:
        raise OptionError(f"DaskTaskRunner: cluster_class={setting!r} cannot be imported: {error}") from error


def _keep_script_out_of_workers() -> None:
    """Let the workers of a local cluster start without running the program's script once more.

    Dask starts them by multiprocessing, which imports the parent's `__main__` in each child. A script that calls its flow without
    `if __name__ == "__main__"` would start all over. Nothing of the script is needed there: it travels by value.
    """
    from multiprocessing import spawn

    prepare = spawn.get_preparation_data
    if getattr(prepare, "leaves_script_out", False):
        return

    def get_preparation_data(name: str) -> dict[str, Any]:
        data = prepare(name)
        if name == _NANNYS_PROCESS:
            data.pop("init_main_from_name", None)
            data.pop("init_main_from_path", None)
        return data

    get_preparation_data.leaves_script_out = True  # type: ignore[attr-defined]  # a mark, so that it is done once
    spawn.get_preparation_data = get_preparation_data


# The worker's side.
def _carry(payload: bytes, topic: str, call_id: str) -> bytes:
    """Make a call in a Dask worker, and tell about it while it runs."""
    from distributed import get_worker

    tell = get_worker().log_event
    records: list[logs.Record] = []

    def send(record: logs.Record) -> None:
        records.append(record)
        with suppress(Exception):  # the outcome brings it in any case
            tell(topic, (call_id, len(records), pickle.dumps(record)))

    with suppress(Exception):
        tell(topic, (call_id, 0, b""))
    return pack_outcome(unpack_outcome(carry(payload, send))._replace(records=records))


# The program's side.
class _Pending:
    """A call under way, as its events tell."""

    def __init__(self) -> None:
        self.began: float | None = None
        self.seen = 0
        self.guard = threading.Lock()
        self._context = copy_context()  # events come in a thread of Dask

    def hear(self, number: int, data: bytes) -> None:
        """An event of the call: number 0 says that it has begun, the others are its log lines."""
        with self.guard:
            if self.began is None:
                self.began = time.monotonic()
            if number == self.seen + 1:
                self.seen = number
                self._context.run(news.take, pickle.loads(data))  # noqa: S301  it comes from this program's own other half

    def hear_rest(self, records: list[logs.Record]) -> None:
        """The call is over: these are all its log lines."""
        with self.guard:
            rest, self.seen = records[self.seen :], len(records) + 1
            for record in rest:
                self._context.run(news.take, record)


class _Died(Exception):  # noqa: N818  private: it becomes WorkerCrashed
    """The worker died under a call, or before it had begun with it."""


class DaskWorkers:
    """The workers of one Dask cluster. `own_cluster` is closed with them."""

    def __init__(self, client: Any, own_cluster: Any) -> None:
        self._client = client
        self._own_cluster = own_cluster
        self._closed = False
        self._pending: dict[str, _Pending] = {}
        self._topic = f"levada-{uuid.uuid4().hex}"
        client.subscribe_topic(self._topic, self._on_event)

    def _on_event(self, event: tuple[float, tuple[str, int, bytes]]) -> None:
        call_id, number, data = event[1]
        pending = self._pending.get(call_id)
        if pending is not None:
            pending.hear(number, data)

    def call(self, call: RemoteCall) -> Any:
        """Make a call on a worker; see `levada.engine.remote.Workers`."""
        payload = packing.pack_call(call, logs.levels())
        for sends_left in reversed(range(_MAX_SENDS)):
            pending = _Pending()
            call_id = f"{call.task_name}-{uuid.uuid4().hex}"
            self._pending[call_id] = pending
            try:
                outcome = unpack_outcome(self._ask(call, call_id, payload, pending))
                pending.hear_rest(outcome.records)
                return value_of(call, outcome)
            except _Died as error:
                # It may just have been waiting at a worker that died under another task.
                if pending.began is None and sends_left:
                    continue
                raise WorkerCrashed(
                    f"task {call.task_name!r} ({call.run_id}): its Dask worker died under it: {error}"
                ) from None
            finally:
                del self._pending[call_id]
        raise AssertionError("the last send returns or raises")

    def _ask(self, call: RemoteCall, call_id: str, payload: Any, pending: _Pending) -> bytes:
        """Send a call and wait for its packed outcome."""
        from distributed.scheduler import KilledWorker

        try:
            # Big arguments go straight to a worker, not through the scheduler.
            part = self._client.scatter(payload, hash=False) if len(payload) > _BIG_BYTES else payload
            future = self._client.submit(_carry, part, self._topic, call_id, key=call_id, pure=False)
            try:
                return self._wait(future, call, pending)
            except BaseException:
                with suppress(Exception):
                    future.cancel()
                raise
        except (TooLate, WorkerCrashed):
            raise
        except KilledWorker as error:
            raise _Died(f"at {getattr(error.last_worker, 'address', 'an unknown address')}") from error
        except (CancelledError, OSError, RuntimeError) as error:
            if self._closed:
                raise RunCancelled(f"task run {call.run_id} was cancelled: its flow run ended") from None
            raise _Died(summary(error)) from error
        except Exception as error:
            raise SerializationError(
                f"task {call.task_name!r} ({call.run_id}) cannot be run by a Dask worker: {summary(error)}; "
                "its workers need Levada and the packages and modules of the program"
            ) from error

    def _wait(self, future: Any, call: RemoteCall, pending: _Pending) -> bytes:
        """Wait for the outcome, but not much longer than the call may take, nor for workers that are not to be had."""
        watched = hasattr(self._own_cluster, "trouble")
        if call.timeout_seconds is None and not watched:
            return future.result()  # type: ignore[no-any-return]  # bytes, from _carry
        # Not by result(timeout=...): where its time is up as the outcome comes, it raises UnboundLocalError.
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        left = _LOOK_SECONDS
        while not done.wait(left):
            if self._closed:
                raise CancelledError
            if watched and self._own_cluster.trouble:
                raise WorkerCrashed(
                    f"task {call.task_name!r} ({call.run_id}): its Dask cluster has no workers: {self._own_cluster.trouble}"
                )
            left = _LOOK_SECONDS
            if call.timeout_seconds is not None and pending.began is not None:
                left = pending.began + call.timeout_seconds + _OVERTIME_SECONDS - time.monotonic()
                if left <= 0:
                    raise TooLate
                left = min(left, _LOOK_SECONDS)
        return future.result()  # type: ignore[no-any-return]  # bytes, from _carry

    def close(self, *, cancel: bool) -> None:
        """Leave the cluster, and end it if it was started here; see `levada.engine.remote.Workers`."""
        self._closed = True
        with suppress(Exception):
            self._client.unsubscribe_topic(self._topic)
        with suppress(Exception):  # whoever is gone already is closed
            self._client.close(timeout=_CLOSE_SECONDS)
        _end_cluster(self._own_cluster)
