"""One call inside a worker: unpack it, set up its surroundings, make it, pack what became of it."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, NamedTuple

from levada.context import FLOW_RUN, TASK_RUN
from levada.engine import deadlines, prints
from levada.engine.machine import Position
from levada.engine.remote import logs, packing, raised
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
    """What became of a call. `data` is the packed value or exception; `records` are the log lines that were not sent before."""

    kind: Literal["returned", "raised", "late"]
    data: bytes
    records: list[logs.Record]


def unpack_outcome(data: bytes | memoryview) -> Outcome:
    """The opposite of what `carry` gives."""
    return Outcome(*pickle.loads(data))  # noqa: S301  it comes from this program's own other half


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
        kind, data = _outcome(order)
    return pickle.dumps((kind, data, records))


def _outcome(order: Order) -> tuple[str, bytes]:
    try:
        return "returned", packing.pack_result(order, _call(order))
    except deadlines.TooLate:
        return "late", b""
    except BaseException as error:  # noqa: BLE001  whatever the code raised, the program that sent it raises it
        return "raised", raised.pack(error)


def _call(order: Order) -> Any:
    fn, args, kwargs = _unpacked(order)
    with _surroundings(order, fn):
        if order.is_async:
            import asyncio

            return asyncio.run(_await(order, fn, args, kwargs))
        if order.timeout_seconds is None:
            return fn(*args, **kwargs)
        return deadlines.within(order.timeout_seconds, lambda: fn(*args, **kwargs))


async def _await(order: Order, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if order.timeout_seconds is None:
        return await fn(*args, **kwargs)
    return await deadlines.within_async(order.timeout_seconds, fn(*args, **kwargs))


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


@contextmanager
def _surroundings(order: Order, fn: Callable[..., Any]) -> Iterator[None]:
    """What the code finds around it: the run's logger, context and prints. Tasks that it calls run here, unknown to the program."""
    flow_run = _flow_run(order)
    flow_token, task_token = FLOW_RUN.set(flow_run), TASK_RUN.set(_task_run(order, fn, flow_run))
    try:
        with prints.logged(order.run_id) if order.log_prints else nullcontext():
            yield
        if flow_run is not None:
            flow_run._drain()
    except BaseException:
        if flow_run is not None:
            flow_run._stop_tasks("not run, because the task around it failed")
        raise
    finally:
        TASK_RUN.reset(task_token)
        FLOW_RUN.reset(flow_token)


def _nothing() -> None:
    """The function of a flow that only lends its name."""


def _flow_run(order: Order) -> FlowRun | None:
    if not order.flow_run_name:
        return None
    name = order.flow_run_name
    flow = Flow(_nothing, name=order.flow_name or name)
    run = FlowRun(order.flow_run_id or name, name, flow, Scope(name), None)
    run.position = Position(TaskState.RUNNING, 1)
    run.parameters = _parameters(order.parameters)
    return run


def _task_run(order: Order, fn: Callable[..., Any], flow_run: FlowRun | None) -> TaskRun:
    task = Task(fn, name=order.task_name, tags=order.tags, log_prints=order.log_prints)
    scope = Scope(order.run_id) if flow_run is None else flow_run.scope
    run = TaskRun(order.run_id, task, (), {}, scope=scope, flow_run=flow_run, sources=None, submitted=False)
    run.position = Position(TaskState.RUNNING, order.attempt)
    return run
