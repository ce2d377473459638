"""One call inside a worker: unpack it, set up its surroundings, make it, pack what became of it."""

import pickle
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple

from levada.engine import deadlines
from levada.engine.machine import Position
from levada.engine.remote import logs, packing, raised
from levada.engine.remote.news import DistantReporter
from levada.engine.remote.packing import Order
from levada.engine.run import FlowRun
from levada.engine.scope import Scope
from levada.engine.taskrun import TaskRun
from levada.engine.tracebacks import summary
from levada.exceptions import SerializationError
from levada.flows import Flow
from levada.resources.phases import TaskState
from levada.tasks import Task


class Outcome(NamedTuple):
    """What became of a call.

    Attributes:
        kind: how it ended.
        data: the packed value or exception.
        records: the log lines that were not sent before.
        secrets: texts that the program must not show, known to the worker since it made the call.
    """

    kind: Literal["returned", "raised", "late"]
    data: bytes
    records: list[logs.Record]
    secrets: tuple[str, ...]


def unpack_outcome(data: bytes | memoryview) -> Outcome:
    """The opposite of what `carry` gives."""
    return Outcome(*pickle.loads(data))  # noqa: S301  it comes from this program's own other half


def pack_outcome(outcome: Outcome) -> bytes:
    """An outcome as bytes."""
    return pickle.dumps(tuple(outcome))


def carry(payload: bytes, sink: logs.Sink | None = None) -> bytes:
    """Make a call in this process, in this thread.

    Args:
        payload: from `packing.pack_call`.
        sink: takes the log lines as they come; None: they come with the outcome.

    Returns:
        An `Outcome`, packed. What the code raises is part of it.
    """
    order = packing.unpack_order(payload)
    records: list[logs.Record] = []
    at_home = order.home == packing.process_mark()  # its log lines reach the program's handlers by themselves
    with nullcontext() if at_home else logs.sent_to(sink or records.append, order.levels):
        return pack_outcome(_outcome(order, records, sink or records.append))


def _outcome(order: Order, records: list[logs.Record], sink: logs.Sink) -> Outcome:
    try:
        return Outcome("returned", packing.pack_result(order, _call(order, sink)), records, ())
    except deadlines.TooLate:
        return Outcome("late", b"", records, ())
    except BaseException as error:  # noqa: BLE001  whatever the code raised, the program that sent it raises it
        return Outcome("raised", raised.pack(error), records, _known_secrets())


def _known_secrets() -> tuple[str, ...]:
    """What this process hides. An exception's text may hold it, and the program is going to show that."""
    secrets = sys.modules.get("levada.secrets")
    return () if secrets is None else tuple(secrets._longest_first)


def _call(order: Order, sink: logs.Sink) -> Any:
    """Make the call. Tasks that the code calls run here as well, unknown to the program."""
    fn, args, kwargs = _unpacked(order)
    flow_run = _flow_run(order, DistantReporter(sink))
    run = _task_run(order, fn, args, kwargs, flow_run)
    with nullcontext() if flow_run is None else flow_run.inside():
        value = _awaited(run, order.timeout_seconds) if order.is_async else _called(run, order.timeout_seconds)
        if flow_run is not None:
            flow_run.drain()
        return value


def _called(run: TaskRun, timeout_seconds: float | None) -> Any:
    if timeout_seconds is None:
        return run.invoke()
    return deadlines.within(timeout_seconds, run.invoke)


def _awaited(run: TaskRun, timeout_seconds: float | None) -> Any:
    import asyncio

    async def invoke() -> Any:
        if timeout_seconds is None:
            return await run.invoke_async()
        return await deadlines.within_async(timeout_seconds, run.invoke_async())

    return asyncio.run(invoke())


def _unpacked(order: Order) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """The function and its arguments.

    Raises:
        SerializationError: something in them can only be unpickled where it came from.
    """
    try:
        return packing.loads(order.call)  # type: ignore[no-any-return]  # as pack_call packed it
    except Exception as error:
        raise SerializationError(
            f"task {order.task_name!r} ({order.run_id}): its function or arguments cannot be read in the worker: "
            f"{summary(error)}; the worker needs the same packages and modules as the program"
        ) from error


# The surroundings.
_last_parameters: tuple[bytes, dict[str, Any]] = (b"", {})


def _parameters(packed: bytes) -> dict[str, Any]:
    """The flow run's parameters. They are the same for all of its calls, so the last ones are kept."""
    global _last_parameters  # noqa: PLW0603  a cache of one
    if _last_parameters[0] != packed:
        try:
            _last_parameters = (packed, packing.loads(packed))
        except Exception:  # noqa: BLE001  only the program can import what they are made of; the task may not need them
            _last_parameters = (packed, {})
    return _last_parameters[1]


def _nothing() -> None:
    """The function of a flow that only lends its name."""


def _flow_run(order: Order, reporter: DistantReporter) -> FlowRun | None:
    """The flow run as a worker knows it."""
    if not order.flow_run_name:
        return None
    name = order.flow_run_name
    storage, serializer = packing.loads(order.keeping) if order.keeping else (None, None)
    flow = Flow(_nothing, name=order.flow_name or name, result_storage=storage, result_serializer=serializer)
    run = FlowRun(order.flow_run_id or name, name, flow, Scope(name, reporter), None)
    run.position = Position(TaskState.RUNNING, 1)
    run.parameters = _parameters(order.parameters)
    run.tags = order.flow_run_tags
    return run


def _task_run(
    order: Order, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], flow_run: FlowRun | None
) -> TaskRun:
    """The task run as a worker knows it: its next call is the one that was ordered."""
    task = Task(fn, name=order.task_name, tags=order.tags, log_prints=order.log_prints)
    scope = Scope(order.run_id) if flow_run is None else flow_run.scope
    run = TaskRun(order.run_id, task, args, kwargs, scope=scope, flow_run=flow_run, tags=order.tags)
    run.position = Position(TaskState.RUNNING, order.attempt)
    run._label = order.label
    return run
