"""Task runs: one call of a task as a node. `calls` makes them."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from levada.context import TASK_RUN, FlowRunInfo, TaskRunInfo
from levada.engine import dependencies, outcome, prints
from levada.engine.machine import START, Blocked, Effect, Event, Failure, Position, Returned
from levada.engine.node import LATE_PREFIX, LOCK, RETURNED, Node, value_of
from levada.engine.reporter import TaskReport
from levada.engine.scope import Scope
from levada.engine.timeout import seconds_text
from levada.engine.tracebacks import summary, text
from levada.engine.tracing import current
from levada.exceptions import LevadaError, UpstreamFailed
from levada.futures import Future
from levada.logging import LOGGER, emit, masked
from levada.resources.phases import RunPhase, TaskState
from levada.states import State

if TYPE_CHECKING:
    from levada.engine.keeping import Plan
    from levada.engine.lanes import Lane
    from levada.engine.remote import RemoteCall, Workers
    from levada.engine.run import FlowRun
    from levada.tasks import Task

Source = Future[Any] | State[Any]


class TaskRun(Node):
    """One call of a task.

    Attributes:
        scope: the books of the root run.
        flow_run: the flow run around it, if there is one.
        sources: the futures and states that it waits for.
        tolerated: the ids of those whose failure does not matter.
        upstream: the ids of the task runs that it depends on: the edges of the run's graph.
        lane: where it is carried, if it was submitted.
        workers: who makes its calls, if not the thread that drives it.
        missing: how many of its sources have not ended.
        plan: how its result is kept.
        own_key: under which key a later attempt looks for it; empty: it cannot; None: not known yet.
        persisted: whether a later attempt finds its result.
    """

    __slots__ = (
        "_label",
        "args",
        "flow_run",
        "kwargs",
        "lane",
        "missing",
        "own_key",
        "persisted",
        "plan",
        "scope",
        "sources",
        "tags",
        "task",
        "tolerated",
        "upstream",
        "workers",
    )
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
        sources: list[Source] | None = None,
        tolerated: set[int] | None = None,
        tags: frozenset[str] = frozenset(),
        lane: "Lane | None" = None,
        workers: "Workers | None" = None,
    ) -> None:
        super().__init__(
            run_id, task.name, rules=task.rules, timeout_seconds=task.timeout_seconds, hooks=task.hooks or None
        )
        self.task = task
        self.args = args
        self.kwargs = kwargs
        self.scope = scope
        self.flow_run = flow_run
        self.sources = sources
        self.tolerated = tolerated
        self.upstream = () if sources is None else tuple(dict.fromkeys(s.run_id for s in sources if s.run_id))
        self.tags = tags
        self.lane = lane
        self.workers = workers
        self.missing = 0
        self.plan: Plan | None = None
        self.own_key: str | None = None
        self.persisted = False
        self._label = ""

    # What the outside may know.
    @property
    def label(self) -> str:
        """What people call it."""
        return self._label or self.id

    @property
    def submitted(self) -> bool:
        """Whether it was handed to a task runner."""
        return self.lane is not None

    @property
    def info(self) -> TaskRunInfo:
        """What user code may know about it."""
        return TaskRunInfo(self)

    @property
    def flow_run_info(self) -> FlowRunInfo | None:
        """What user code may know about the flow run around it."""
        return None if self.flow_run is None else FlowRunInfo(self.flow_run)

    @property
    def run_key(self) -> str:
        """What tells the flow run from all others; without one, a name that no other process has."""
        return self.scope.key if self.flow_run is None else self.flow_run.key

    def parameters(self) -> dict[str, Any]:
        """Its arguments by name, futures replaced by their results, defaults filled in. Empty once it is over."""
        from levada.engine.keeping import bound

        return {} if self.over else bound(self.task, *self.arguments())

    # What a task run does as a node.
    def begin(self) -> Effect:
        """Start it, unless its result is there already."""
        if self._is_plain:
            return self.feed(START)
        from levada.engine import keeping

        try:
            self.take_name()
            self.plan = keeping.plan_for(self)
            found, value = (None, None) if self.plan is None else keeping.recall(self, self.plan)
        except Exception as error:  # noqa: BLE001  the user's cache_key_fn, template or storage may raise anything
            return self.feed(Failure(summary(error), final=True), error=error)
        return self.feed(START) if found is None else self.feed(found, value=value)

    def take_name(self) -> None:
        """Make the name that people call it by, if the task says how.

        Raises:
            CacheKeyError: that cannot be made.
        """
        template = self.task.task_run_name
        if template is not None:
            from levada.engine import keeping

            names = self.parameters()
            self._label = keeping.formatted(template, names, flow_run=self.flow_run_info, task_run=self.info)

    @property
    def _is_plain(self) -> bool:
        """Whether nothing has to be named, found or kept."""
        if not self.task.plain:
            return False
        if self.flow_run is not None:
            return not self.flow_run.persists or self.task.persist_result is False
        return not self.scope.persists

    @property
    def is_slow_to_end(self) -> bool:
        """Whether its end writes a result or calls hooks, which must not hold up an event loop."""
        return bool(self.hooks) or not self._is_plain

    @property
    def times_itself(self) -> bool:
        """Whether the timeout is the matter of who makes the call."""
        return self.workers is not None

    def invoke(self) -> Any:
        """Call the task's function with its futures replaced by their results; a generator to its end."""
        args, kwargs = self.arguments()
        if self.workers is not None:
            return self.workers.call(self._remote_call(args, kwargs))
        token = TASK_RUN.set(self)
        try:
            with current(self), prints.around(self.label, wanted=self.logs_prints):
                value = self.task.fn(*args, **kwargs)
                return list(value) if self.task.is_generator else value
        finally:
            TASK_RUN.reset(token)

    async def invoke_async(self) -> Any:
        """Await the task's coroutine function; an async generator to its end."""
        args, kwargs = self.arguments()
        token = TASK_RUN.set(self)
        try:
            with current(self), prints.around(self.label, wanted=self.logs_prints):
                return await self._awaited(args, kwargs)
        finally:
            TASK_RUN.reset(token)

    async def _awaited(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.task.is_generator:
            return [item async for item in self.task.fn(*args, **kwargs)]
        return await self.task.fn(*args, **kwargs)

    @property
    def logs_prints(self) -> bool:
        """Whether prints of its code go to the log."""
        own = self.task.log_prints
        return bool(own) if own is not None or self.flow_run is None else self.flow_run.logs_prints

    @contextmanager
    def surroundings(self) -> Iterator[None]:
        """What its code finds around it."""
        token = TASK_RUN.set(self)
        try:
            with current(self), prints.around(self.label, wanted=self.logs_prints):
                yield
        finally:
            TASK_RUN.reset(token)

    def guard(self) -> AbstractContextManager[None]:
        """Nothing is below a task run that would have to be ended with it."""
        return nullcontext()

    def drained(self) -> AbstractContextManager[None]:
        """Nothing is below a task run that would have to be waited for."""
        return nullcontext()

    def drained_async(self) -> AbstractAsyncContextManager[None]:
        """As `drained`."""
        return nullcontext()

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What its function is called with: futures replaced by their results."""
        if self.sources is None:
            return self.args, self.kwargs
        resolve = partial(_result_of, self.tolerated or ())
        args = tuple(dependencies.replace(value, resolve) for value in self.args)
        return args, {name: dependencies.replace(value, resolve) for name, value in self.kwargs.items()}

    def _remote_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "RemoteCall":
        from levada.engine.remote import RemoteCall

        call = RemoteCall(
            fn=self.task.fn,
            args=args,
            kwargs=kwargs,
            run_id=self.id,
            task_name=self.task.name,
            attempt=self.position.attempt,
            tags=self.tags,
            log_prints=self.logs_prints,
            timeout_seconds=self.timeout_seconds,
            is_async=self.task.is_async,
            label=self._label,
        )
        flow_run = self.flow_run
        if flow_run is None:
            return call
        return call._replace(
            flow_run_id=flow_run.id,
            flow_run_name=flow_run.name,
            flow_name=flow_run.flow.name,
            flow_run_tags=flow_run.tags,
            parameters=flow_run.parameters,
            result_storage=flow_run.option("result_storage"),
            result_serializer=flow_run.option("result_serializer"),
        )

    def may_retry(self, failure: Failure, error: BaseException) -> bool:
        """What the task's `retry_condition_fn` says about this failure."""
        condition = self.task.retry_condition_fn
        if condition is None:
            return True
        phase = RunPhase.TIMED_OUT if failure.late else RunPhase.CRASHED if failure.crashed else RunPhase.FAILED
        state: State[Any] = State(phase, failure.message, exception=error, run_id=self.id)
        from levada.engine.hooks import outcome_of

        return bool(outcome_of(condition(self.task, self.info, state)))

    def conclude(self, value: Any) -> tuple[Event, Any]:
        """A task's value is its result, unless it is a state; a result is kept where that is asked for."""
        event: Event = RETURNED
        if isinstance(value, State):
            event, value = outcome.of_task(value)
        if (type(event) is Returned and (self.plan is not None or "levada.transactions" in sys.modules)) or (
            type(event) is Returned and (self.task.commit_hooks or self.task.rollback_hooks)
        ):
            value = self._kept(value)
        return event, value

    def _kept(self, value: Any) -> Any:
        """The value, kept now or by the transaction around it."""
        from levada.engine import keeping

        if self._is_transactional:
            keeping.stage(self, self.plan, value)
            return value
        return value if self.plan is None else keeping.keep(self, self.plan, value)

    @property
    def _is_transactional(self) -> bool:
        """Whether its end is a transaction's matter."""
        if self.task.commit_hooks or self.task.rollback_hooks:
            return True
        transactions = sys.modules.get("levada.transactions")
        return transactions is not None and transactions.current() is not None

    def report(self) -> None:
        """Report the task run."""
        scope = self.scope
        if scope.heard:
            position = self.position
            scope.tell_task(
                TaskReport(
                    self.id,
                    self._label or self.name,
                    position.state,
                    position.attempt,
                    self.start_time,
                    self.end_time,
                    masked(position.message) if position.message else "",
                    self.cached,
                    self.upstream,
                    self.persisted,
                    "" if self.flow_run is None or self.flow_run.parent is None else self.flow_run.id,
                )
            )

    def closed(self) -> None:
        """Count it in the flow run's books."""
        self.scope.count(self.position.state)

    def let_go(self) -> None:
        """Leave the flow run's books, and let go of the arguments."""
        self.args, self.kwargs, self.sources, self.plan = (), {}, None, None
        if self.flow_run is not None:
            self.flow_run.unfinished.discard(self)

    def hook_subject(self) -> tuple[Any, Any]:
        """The task and its run."""
        return self.task, self.info

    def log(self, position: Position) -> None:
        """One line for each change that a reader cares about."""
        state = position.state
        if state is TaskState.COMPLETED:
            if LOGGER.isEnabledFor(logging.INFO):
                said = position.message.capitalize() if self.cached else f"Completed in {self._took()}"
                emit(logging.INFO, self.label, said)
        elif state in _BAD:
            label = "Timed out" if self.timed_out else state.value
            said = position.message.removeprefix(LATE_PREFIX)
            emit(logging.ERROR, self.label, f"{label}: {said}{traceback_once(self.error)}")
        elif state is not TaskState.RUNNING:
            emit(logging.WARNING, self.label, f"{state.value}: {position.message}")

    def _took(self) -> str:
        if self.start_time is None or self.end_time is None:
            return "0 s"
        return seconds_text((self.end_time - self.start_time).total_seconds())

    # Upstream.
    def obstacle(self) -> Blocked | None:
        """Why it cannot run, if one of its sources has ended without completing."""
        for source in self._needed():
            state = source.state if isinstance(source, Future) else source
            if not state.is_completed():
                if state.is_skipped() and source.run_id:
                    return Blocked(state.message)  # it names the run that failed: what was skipped after it is no cause
                name = f"upstream {source.run_id!r}" if source.run_id else "a state among its arguments"
                return Blocked(f"not run, because {name} is {state.name}: {state.message}")
        return None

    def _needed(self) -> list[Source]:
        """The sources that have to complete."""
        if not self.sources:
            return []
        return [source for source in self.sources if self.tolerated is None or id(source) not in self.tolerated]

    def block(self, obstacle: Blocked) -> None:
        """End it without running it."""
        error = UpstreamFailed(f"{self.id} was {obstacle.message}")
        for source in self._needed():
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
        assert self.lane is not None, "only submitted runs are started by others"
        self.lane.pool.put(job)


_BAD = frozenset({TaskState.FAILED, TaskState.CRASHED})


def _result_of(tolerated: set[int] | tuple[()], source: Source) -> Any:
    """What takes the place of a future or state among the arguments."""
    if id(source) in tolerated:
        return source.result(raise_on_failure=False)
    return value_of(source._run.value) if isinstance(source, Future) else source.value


def traceback_once(error: BaseException | None) -> str:
    """The traceback below a log line: once for each exception, and not for those that Levada raised itself."""
    if error is None or isinstance(error, LevadaError):
        return ""
    said = vars(error)  # not by setattr, which the user's class may refuse
    if "_levada_logged" in said:
        return ""
    said["_levada_logged"] = True
    return "\n" + text(error)
