"""How a task is called: at once in the caller's thread, or submitted to where the flow's task runner says."""

from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from levada.context import FLOW_RUN, TAGS
from levada.engine import dependencies, lanes, resuming, threads
from levada.engine.driving import run_here, run_here_async
from levada.engine.lanes import DEFAULT_LANE, Lane
from levada.engine.node import LOCK, Node
from levada.engine.parameters import check_call
from levada.engine.scope import Scope
from levada.engine.signals import describe
from levada.engine.taskrun import Source, TaskRun
from levada.engine.tracebacks import trim
from levada.exceptions import RunCancelled
from levada.futures import Future
from levada.logging import prepare
from levada.resources.phases import TaskState

if TYPE_CHECKING:
    from levada.engine.run import FlowRun
    from levada.tasks import Task


# Runs outside of any flow belong to this scope; nobody listens to it.
_LOOSE = Scope("levada")


def _sources_of(
    args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Any
) -> tuple[list[Source] | None, set[int] | None]:
    """What a call waits for, and the ids of those whose failure does not matter. No sources: its arguments go as they are."""
    if wait_for is None and not dependencies.worth_a_look(args, kwargs):
        return None, None
    tolerated: set[int] = set()
    sources = dependencies.find((*args, *kwargs.values(), wait_for), tolerated)
    if wait_for is not None and len(tolerated) > 1:
        # What must complete is not let off by being an argument as well.
        let_off: set[int] = set()
        needed = set(map(id, dependencies.find((wait_for,), let_off)))
        tolerated -= needed - let_off
    if not sources and dependencies.ANNOTATED not in tolerated:
        return None, None
    return sources, tolerated  # an annotation without a future in it has to be taken off all the same


def create(
    task: "Task[Any, Any]",
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    wait_for: Any,
    *,
    lane: Lane | None = None,
) -> TaskRun:
    """A new task run of the flow run around the caller, or a loose one.

    Raises:
        ParameterError: the arguments do not fit the task's signature.
    """
    check_call(task.fn, args, kwargs)
    sources, tolerated = _sources_of(args, kwargs, wait_for)
    flow_run = FLOW_RUN.get()
    tags = TAGS.get()
    workers = None if lane is None else lane.open()
    if task.kubernetes is not None:
        # Also of a task that is called here and now.
        workers = (lane or _lane_of(flow_run)).pods(task.kubernetes) or workers
    if flow_run is None:
        prepare()
    scope = _LOOSE if flow_run is None else flow_run.scope
    with LOCK:
        if flow_run is not None and flow_run.is_done:
            raise RunCancelled(f"task {task.name!r} cannot run any more: flow run {flow_run.name!r} has ended")
        run = TaskRun(
            scope.next_id(task.slug),
            task,
            args,
            kwargs,
            scope=scope,
            flow_run=flow_run,
            sources=sources,
            tolerated=tolerated,
            tags=task.tags | tags if tags else task.tags,
            lane=lane,
            workers=workers,
        )
        if flow_run is not None:
            flow_run.unfinished.add(run)
        if lane is not None or sources:
            run.report()
    if scope.resume is not None:
        resuming.number(run)
    return run


def _lane_of(flow_run: "FlowRun | None") -> Lane:
    return DEFAULT_LANE if flow_run is None else flow_run.lane


def finish(run: TaskRun, return_state: bool) -> Any:
    """What the caller of a task gets."""
    if return_state:
        _pass_on_interrupt(run)
        return run.state
    if run.position.state is TaskState.COMPLETED:
        return run.result()
    error = run.result(raise_on_failure=False)
    trim(error)
    raise error


def call(
    task: "Task[Any, Any]",
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    wait_for: Any = None,
    return_state: bool = False,
) -> Any:
    """Run a sync task here and now."""
    run = create(task, args, kwargs, wait_for)
    if run.sources is None or is_clear(run):
        run_here(run)
    return finish(run, return_state)


async def call_async(
    task: "Task[Any, Any]",
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    wait_for: Any = None,
    return_state: bool = False,
) -> Any:
    """Run an async task here and now."""
    if task.kubernetes is not None and lanes.pod_provider:
        future = submit(
            task, args, kwargs, wait_for=wait_for
        )  # it waits for a pod, which must not hold up the event loop
        await until_done(future._run)
        return finish(future._run, return_state)
    run = create(task, args, kwargs, wait_for)
    if run.sources is None or await is_clear_async(run):
        await run_here_async(run)
    return finish(run, return_state)


def is_clear(run: TaskRun) -> bool:
    """Wait for what a run needs; whether it can be run. If not, it has ended."""
    for source in run.sources or ():
        if isinstance(source, Future):
            source.wait()
    return not _blocked(run)


async def is_clear_async(run: TaskRun) -> bool:
    """As `is_clear`, without blocking the event loop."""
    for source in run.sources or ():
        if isinstance(source, Future):
            await until_done(source._run)
    return not _blocked(run)


def _blocked(run: TaskRun) -> bool:
    obstacle = run.obstacle()
    if obstacle is not None:
        run.block(obstacle)
    return obstacle is not None


async def until_done(node: Node, timeout: float | None = None) -> None:  # noqa: ASYNC109  as Node.wait
    """Wait for a run that a thread carries, at most `timeout` seconds, without blocking the event loop."""
    if node.is_over_here:
        return
    import asyncio

    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def wake(_node: Node) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(ended.set)

    if node.when_done(wake):
        return
    try:
        with threads.uncounted(), suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), timeout)
    finally:
        node.forget(wake)


def submit(
    task: "Task[Any, Any]",
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    wait_for: Any = None,
) -> Future[Any]:
    """Hand a task to the flow's task runner; it starts when all that it waits for has ended."""
    flow_run = FLOW_RUN.get()
    lane = _lane_of(flow_run)
    run = create(task, args, kwargs, wait_for, lane=lane)
    future: Future[Any] = Future(run)
    if flow_run is None:
        _keep_until_exit(run)
    if lane.inline:
        _run_inline(run)
        return future
    job = partial(_work, run, copy_context())
    nodes = [source._run for source in run.sources or () if isinstance(source, Future)]
    if not nodes:
        lane.pool.put(job)
        return future
    run.missing = len(nodes)
    waiter = partial(run.upstream_done, job)
    for node in nodes:
        node.when_done(waiter)
    return future


def _run_inline(run: TaskRun) -> None:
    """Run a submitted task here and now.

    Not that of an async task under a running event loop: there, a thread carries it, and we wait.
    """
    if not is_clear(run):
        return
    if not run.task.is_async:
        run_here(run)
        _pass_on_interrupt(run)
        return
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(_run_inline_async(run))
    else:
        run.lane = DEFAULT_LANE
        DEFAULT_LANE.pool.put(partial(_work, run, copy_context()))
        run.wait()


async def _run_inline_async(run: TaskRun) -> None:
    await run_here_async(run)
    _pass_on_interrupt(run)  # also to asyncio, which then knows that Ctrl-C was not swallowed


def _pass_on_interrupt(run: TaskRun) -> None:
    """What interrupted a run is meant for everybody around it."""
    error = run.error
    if error is not None and not isinstance(error, (Exception, SystemExit)):
        raise error


def _work(run: TaskRun, context: Context) -> None:
    """What a thread of the pool does with a submitted task run. Never raises."""
    try:
        if not run.is_done:
            context.run(_carry, run)
    except BaseException as error:  # noqa: BLE001  the pool's thread lives on; the run says what happened
        run.stop(describe(error), error)


def _carry(run: TaskRun) -> None:
    if _blocked(run):
        return
    if run.task.is_async and run.workers is None:
        worker = threads.current_worker()
        assert worker is not None, "submitted tasks run in the pool"
        worker.loop.run(run_here_async(run), context=copy_context())
    else:
        run_here(run)


_loose_runs: set[TaskRun] = set()


def _keep_until_exit(run: TaskRun) -> None:
    """A task that was submitted outside of a flow is finished before the program ends."""
    if not _loose_runs:
        import atexit

        atexit.unregister(_finish_loose_runs)
        atexit.register(_finish_loose_runs)
    _loose_runs.add(run)
    run.when_done(_loose_runs.discard)


def _finish_loose_runs() -> None:
    for run in list(_loose_runs):
        run.wait()
