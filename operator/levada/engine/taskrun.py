"""Task runs: called at once in the caller's thread, or submitted to the threads and followed by a future."""

import logging
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from levada.context import FLOW_RUN, TASK_RUN
from levada.engine import dependencies, outcome, prints, threads
from levada.engine.machine import Blocked, Event, Position
from levada.engine.node import LOCK, RETURNED, Node, run_here, run_here_async
from levada.engine.reporter import TaskReport
from levada.engine.scope import Scope
from levada.engine.signals import describe
from levada.engine.timeout import seconds_text
from levada.engine.tracebacks import text, trim
from levada.exceptions import LevadaError, RunCancelled, UpstreamFailed
from levada.futures import Future
from levada.logging import emit, prepare
from levada.resources.phases import TaskState
from levada.states import State

if TYPE_CHECKING:
    from levada.engine.run import FlowRun
    from levada.tasks import Task

Source = Future[Any] | State[Any]


class TaskRun(Node):
    """One call of a task."""

    __slots__ = ("args", "flow_run", "kwargs", "missing", "scope", "sources", "submitted", "task", "upstream")
    kind = "task run"

    def __init__(
        self,
        run_id: str,
        task: "Task[Any, Any]",
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        scope: Scope,
        flow_run: "FlowRun | None",
        sources: list[Source] | None,
        submitted: bool,
    ) -> None:
        super().__init__(run_id, task.name, rules=task.rules, timeout_seconds=task.timeout_seconds)
        self.task = task
        self.args = args
        self.kwargs = kwargs
        self.scope = scope
        self.flow_run = flow_run
        self.sources = sources
        self.upstream = () if sources is None else tuple(dict.fromkeys(s.run_id for s in sources if s.run_id))
        self.submitted = submitted
        self.missing = 0

    # What a task run does as a node.
    def invoke(self) -> Any:
        """Call the task's function with its futures replaced by their results."""
        args, kwargs = self._arguments()
        token = TASK_RUN.set(self)
        try:
            if self._logs_prints:
                with prints.logged(self.id):
                    return self.task.fn(*args, **kwargs)
            return self.task.fn(*args, **kwargs)
        finally:
            TASK_RUN.reset(token)

    async def invoke_async(self) -> Any:
        """Await the task's coroutine function."""
        args, kwargs = self._arguments()
        token = TASK_RUN.set(self)
        try:
            if self._logs_prints:
                with prints.logged(self.id):
                    return await self.task.fn(*args, **kwargs)
            return await self.task.fn(*args, **kwargs)
        finally:
            TASK_RUN.reset(token)

    @property
    def _logs_prints(self) -> bool:
        own = self.task.log_prints
        return bool(own) if own is not None or self.flow_run is None else bool(self.flow_run.flow.log_prints)

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self.sources is None:
            return self.args, self.kwargs
        args = tuple(dependencies.replace(value, _result_of) for value in self.args)
        return args, {name: dependencies.replace(value, _result_of) for name, value in self.kwargs.items()}

    def conclude(self, value: Any) -> tuple[Event, Any]:
        """A task's value is its result, unless it is a state."""
        return outcome.of_task(value) if isinstance(value, State) else (RETURNED, value)

    def report(self) -> None:
        """Report the task run."""
        scope = self.scope
        if scope.heard:
            position = self.position
            scope.tell_task(
                TaskReport(
                    self.id,
                    self.name,
                    position.state,
                    position.attempt,
                    self.start_time,
                    self.end_time,
                    position.message,
                    False,
                    self.upstream,
                )
            )

    def closed(self) -> None:
        """Leave the flow run's books, and let go of the arguments."""
        self.scope.count(self.position.state)
        self.args, self.kwargs, self.sources = (), {}, None
        if self.flow_run is not None:
            self.flow_run.unfinished.discard(self)

    def log(self, position: Position) -> None:
        """One line for each change that a reader cares about."""
        state = position.state
        if state is TaskState.COMPLETED:
            if _level() <= logging.INFO:
                emit(logging.INFO, self.id, f"Completed in {self._took()}")
        elif state is TaskState.FAILED:
            emit(logging.ERROR, self.id, f"Failed: {position.message}{_traceback_once(self.error)}")
        elif state is not TaskState.RUNNING:
            emit(logging.WARNING, self.id, f"{state.value}: {position.message}")

    def _took(self) -> str:
        if self.start_time is None or self.end_time is None:
            return "0 s"
        return seconds_text((self.end_time - self.start_time).total_seconds())

    # Upstream.
    def obstacle(self) -> Blocked | None:
        """Why it cannot run, if one of its sources has ended without completing."""
        for source in self.sources or ():
            state = source.state if isinstance(source, Future) else source
            if not state.is_completed():
                name = f"upstream {source.run_id!r}" if source.run_id else "a state among its arguments"
                return Blocked(f"not run, because {name} is {state.name}: {state.message}")
        return None

    def block(self, obstacle: Blocked) -> None:
        """End it without running it."""
        error = UpstreamFailed(f"{self.id} was {obstacle.message}")
        for source in self.sources or ():
            state = source.state if isinstance(source, Future) else source
            if not state.is_completed():
                error.__cause__ = state.exception
                break
        self.feed(obstacle, error=error)

    def upstream_done(self, job: Callable[[], None], _source: Node) -> None:
        """One of the runs that it waits for has ended; start it after the last one."""
        with LOCK:
            self.missing -= 1
            if self.missing:
                return
        self.scope.pool.put(job)


def _level() -> int:
    from levada.logging import LOGGER

    return LOGGER.getEffectiveLevel()


def _result_of(source: Source) -> Any:
    return source.state.value if isinstance(source, Future) else source.value


def _traceback_once(error: BaseException | None) -> str:
    """The traceback below a log line: once for each exception, and not for those that Levada raised itself."""
    if error is None or isinstance(error, LevadaError):
        return ""
    if getattr(error, "_levada_logged", False):
        return ""
    error._levada_logged = True  # type: ignore[attr-defined]  # every exception has a __dict__
    return "\n" + text(error)


# Runs outside of any flow belong to this scope; nobody listens to it.
_LOOSE = Scope("levada")


def _create(
    task: "Task[Any, Any]",
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    wait_for: Iterable[Any] | None,
    *,
    submitted: bool,
) -> TaskRun:
    """A new task run of the flow run around the caller, or a loose one."""
    sources: list[Source] | None = None
    if wait_for is not None or dependencies.worth_a_look(args, kwargs):
        sources = dependencies.find((*args, *kwargs.values(), *(wait_for or ()))) or None
    flow_run = FLOW_RUN.get()
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
            submitted=submitted,
        )
        if flow_run is not None:
            flow_run.unfinished.add(run)
        if submitted or sources:
            run.report()
    return run


def _finish(run: TaskRun, return_state: bool) -> Any:
    """What the caller of a task gets."""
    if return_state:
        if run.error is not None and not isinstance(run.error, Exception) and not isinstance(run.error, SystemExit):
            raise run.error  # an interrupt is for everybody
        return run.state
    if run.position.state is TaskState.COMPLETED:
        return run.value
    error = run.result(raise_on_failure=False)
    trim(error)
    raise error


def call(
    task: "Task[Any, Any]",
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    wait_for: Iterable[Any] | None = None,
    return_state: bool = False,
) -> Any:
    """Run a sync task here and now."""
    run = _create(task, args, kwargs, wait_for, submitted=False)
    if run.sources is not None:
        for source in run.sources:
            if isinstance(source, Future):
                source.wait()
        obstacle = run.obstacle()
        if obstacle is not None:
            run.block(obstacle)
            return _finish(run, return_state)
    run_here(run)
    return _finish(run, return_state)


async def call_async(
    task: "Task[Any, Any]",
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    wait_for: Iterable[Any] | None = None,
    return_state: bool = False,
) -> Any:
    """Run an async task here and now."""
    run = _create(task, args, kwargs, wait_for, submitted=False)
    if run.sources is not None:
        for source in run.sources:
            if isinstance(source, Future):
                await until_done(source._run)
        obstacle = run.obstacle()
        if obstacle is not None:
            run.block(obstacle)
            return _finish(run, return_state)
    await run_here_async(run)
    return _finish(run, return_state)


async def until_done(node: Node) -> None:
    """Wait for a run that a thread carries, without blocking the event loop."""
    if node.is_done:
        return
    import asyncio

    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def wake(_node: Node) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(ended.set)

    node.when_done(wake)
    await ended.wait()


def submit(
    task: "Task[Any, Any]",
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    wait_for: Iterable[Any] | None = None,
) -> Future[Any]:
    """Hand a task to the threads; it starts when all that it waits for has ended."""
    run = _create(task, args, kwargs, wait_for, submitted=True)
    future: Future[Any] = Future(run)
    if run.flow_run is None:
        _keep_until_exit(run)
    job = partial(_work, run, copy_context())
    nodes = [source._run for source in run.sources or () if isinstance(source, Future)]
    if not nodes:
        run.scope.pool.put(job)
        return future
    run.missing = len(nodes)
    waiter = partial(run.upstream_done, job)
    for node in nodes:
        node.when_done(waiter)
    return future


def _work(run: TaskRun, context: Context) -> None:
    """What a thread of the pool does with a submitted task run. Never raises."""
    try:
        if not run.is_done:
            context.run(_carry, run)
    except BaseException as error:  # noqa: BLE001  the pool's thread lives on; the run says what happened
        run.stop(describe(error), error)


def _carry(run: TaskRun) -> None:
    obstacle = run.obstacle()
    if obstacle is not None:
        run.block(obstacle)
    elif run.task.is_async:
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
