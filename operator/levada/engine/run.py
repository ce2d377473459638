"""Flow runs: a flow called by a script, by another flow, or by the runner.

A flow run below another one is a node of its run: it has a task report of its own, and its task runs count in the same run.
"""

import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from levada.context import FLOW_RUN, TAGS, TASK_RUN, FlowRunInfo
from levada.engine import dependencies, outcome, parameters, prints, signals
from levada.engine.calls import until_done
from levada.engine.deadlines import TooLate
from levada.engine.driving import run_here, run_here_async
from levada.engine.lanes import Lane
from levada.engine.machine import Event, Failure, Position, Returned
from levada.engine.node import LATE_PREFIX, LOCK, Node, value_of
from levada.engine.reporter import Reporter, TaskReport, default_reporter
from levada.engine.scope import Scope
from levada.engine.signals import TerminationSignal, describe
from levada.engine.taskrun import TaskRun, traceback_once
from levada.engine.timeout import seconds_text
from levada.engine.tracebacks import summary, trim
from levada.engine.tracing import current, traced
from levada.exceptions import ParameterError, RunFailed
from levada.futures import Future
from levada.logging import emit, masked, prepare
from levada.resources.phases import RunPhase, TaskState
from levada.states import State, is_state_collection

if TYPE_CHECKING:
    from levada.engine.resuming import Resume
    from levada.flows import Flow
    from levada.results import ResultStore

_IDLE = frozenset({TaskState.PENDING, TaskState.RETRYING})


class FlowRun(Node):
    """One call of a flow."""

    __slots__ = (
        "_result_store",
        "args",
        "flow",
        "interrupt",
        "kwargs",
        "lane",
        "parameters",
        "parent",
        "persists",
        "scope",
        "tags",
        "unfinished",
    )
    kind = "flow run"

    def __init__(self, run_id: str, name: str, flow: "Flow[Any, Any]", scope: Scope, parent: "FlowRun | None") -> None:
        super().__init__(run_id, name, rules=flow.rules, timeout_seconds=flow.timeout_seconds, hooks=flow.hooks or None)
        self.flow = flow
        self.lane = Lane(flow.task_runner)
        self.tags = TAGS.get()
        self.persists = _persists(flow, parent)
        self._result_store: ResultStore | None = None
        self.scope = scope
        self.parent = parent
        self.parameters: dict[str, Any] = {}
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}
        self.unfinished: set[TaskRun] = set()
        self.interrupt: BaseException | None = None

    @property
    def result_store(self) -> "ResultStore":
        """Where results lie: as the flow says, or the flow around it, or the default."""
        if self._result_store is None:
            from levada.engine import keeping

            around = None if self.parent is None else self.parent.result_store
            self._result_store = keeping.store_below(around, self.flow.result_storage, self.flow.result_serializer)
        return self._result_store

    def option(self, name: str) -> Any:
        """An option of the flow, or else of the nearest flow run around it that has it."""
        run: FlowRun | None = self
        while run is not None:
            value = getattr(run.flow, name)
            if value is not None:
                return value
            run = run.parent
        return None

    @property
    def key(self) -> str:
        """For what is kept about it: an id that no flow run of another root run has."""
        resume = self.scope.resume
        root = self.scope.name if resume is None else resume.key
        return root if self.parent is None else f"{root}/{self.id}"

    # What a flow run does as a node.
    def invoke(self) -> Any:
        """Call the flow's function, then wait for the tasks that it submitted. A generator is run to its end."""
        with self.inside(), self.drained():
            value = self.flow.fn(*self.args, **self.kwargs)
            return list(value) if self.flow.is_generator else value

    async def invoke_async(self) -> Any:
        """Await the flow's coroutine function, then the tasks that it submitted."""
        try:
            with self.inside():
                async with self.drained_async():
                    if self.flow.is_generator:
                        return [item async for item in self.flow.fn(*self.args, **self.kwargs)]
                    return await self.flow.fn(*self.args, **self.kwargs)
        except BaseException:
            if self.interrupt is not None:  # what cancelled this coroutine was a signal
                raise self.interrupt from None
            raise

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The surroundings of the flow's code, and what becomes of its tasks when it raises."""
        with self.guard(), self.surroundings():
            yield

    @contextmanager
    def surroundings(self) -> Iterator[None]:
        """What its code finds around it."""
        flow_token, task_token = FLOW_RUN.set(self), TASK_RUN.set(None)
        try:
            with current(self), prints.around(self.name, wanted=self.logs_prints):
                yield
        finally:
            TASK_RUN.reset(task_token)
            FLOW_RUN.reset(flow_token)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """What becomes of its tasks when its code is interrupted, and of the threads and workers at its end."""
        if self.position.attempt > 1 and self.parent is None:
            with LOCK:
                self.scope.reset()
                if self.scope.resume is not None:
                    self.scope.resume = self.scope.resume._replace(goes_on=True)
        cancel = True
        try:
            yield
            cancel = False
        except BaseException as error:
            cancel = not _is_failure(error)
            if cancel:
                self._stop_tasks(describe(self.interrupt or error))
            raise
        finally:
            self.lane.close(cancel=cancel)

    @contextmanager
    def drained(self) -> Iterator[None]:
        """Its tasks are waited for at the end of its code. If that fails, those that have not begun do not begin any more."""
        try:
            yield
        except BaseException as error:
            if _is_failure(error):
                self._stop_idle_tasks(error)
                self.drain()
            raise
        self.drain()

    @asynccontextmanager
    async def drained_async(self) -> AsyncIterator[None]:
        """As `drained`, without blocking the event loop."""
        try:
            yield
        except BaseException as error:
            if _is_failure(error):
                self._stop_idle_tasks(error)
                await self.drain_async()
            raise
        await self.drain_async()

    def _submitted(self) -> list[TaskRun]:
        with LOCK:
            return [run for run in self.unfinished if run.submitted]

    def drain(self) -> None:
        """Wait for the submitted tasks. What they submit themselves is waited for as well."""
        while runs := self._submitted():
            for run in runs:
                run.wait()

    async def drain_async(self) -> None:
        """As `drain`, without blocking the event loop."""
        while runs := self._submitted():
            for run in runs:
                await until_done(run)

    def _stop_idle_tasks(self, error: BaseException) -> None:
        self._stop_tasks(f"not run, because the flow failed: {summary(error)}", only_idle=True)

    def _stop_tasks(self, message: str, *, only_idle: bool = False) -> None:
        with LOCK:
            runs = list(self.unfinished)
        for run in runs:
            if not only_idle or run.position.state in _IDLE:
                run.stop(message)

    def conclude(self, value: Any) -> tuple[Event, Any]:
        """The final state, from the returned value."""
        if type(value) is CoroutineType:
            value.close()
            raise RunFailed(
                f"flow {self.flow.name!r} returned a coroutine that nobody has run: make the flow `async def`, and await it"
            )
        event, value = outcome.of_flow(value)
        if self.flow.persist_result and type(event) is Returned:
            from levada.engine import keeping

            value = keeping.keep_of_flow(self, value)
        bad = self.scope.failed
        if bad and self.parent is None and type(event) is Returned and not event.message:
            event = Returned(f"{bad} of {self.scope.total} task runs did not complete")
        return event, value

    def report(self) -> None:
        """Report the run; a flow inside a flow is reported as a task run is."""
        position = self.position
        if self.parent is None:
            self.scope.tell_flow(self._reported_phase(), masked(position.message) or self._attempt_text())
        elif self.scope.heard:
            state, attempt = position.state, position.attempt
            self.scope.tell_task(
                TaskReport(
                    self.id,
                    self.flow.name,
                    state,
                    attempt,
                    self.start_time,
                    self.end_time,
                    masked(position.message),
                    parent=self.parent.id if self.parent.parent is not None else "",
                )
            )

    def _reported_phase(self) -> RunPhase:
        """A try that follows in this process is no new attempt of the run: the run is still running."""
        return RunPhase.RUNNING if self.position.state is TaskState.RETRYING else self.phase

    def _attempt_text(self) -> str:
        attempt = self.position.attempt
        return f"attempt {attempt} of {self.rules.retries + 1}" if attempt > 1 and not self.is_done else ""

    @property
    def is_slow_to_end(self) -> bool:
        """Whether its end writes a result or calls hooks, which must not hold up an event loop."""
        return bool(self.hooks) or bool(self.flow.persist_result)

    @property
    def logs_prints(self) -> bool:
        """Whether prints of its code go to the log: as the flow says, or the flow around it."""
        if self.flow.log_prints is not None or self.parent is None:
            return bool(self.flow.log_prints)
        return self.parent.logs_prints

    def hook_subject(self) -> tuple[Any, Any]:
        """The flow and its run."""
        return self.flow, FlowRunInfo(self)

    def closed(self) -> None:
        """Count it in the parent's books."""
        if self.parent is not None:
            self.scope.count(self.position.state)

    def let_go(self) -> None:
        """Let go of the arguments; what its abandoned tasks still try to run is over."""
        self.args, self.kwargs = (), {}

    def log(self, position: Position) -> None:
        """The first, the last and the bad moments of the run."""
        state = position.state
        if state is TaskState.RUNNING:
            which = f", attempt {position.attempt} of {self.rules.retries + 1}" if position.attempt > 1 else ""
            emit(logging.INFO, self.name, f"Flow {self.flow.name!r} started{which}")
        elif state is TaskState.COMPLETED:
            level = logging.WARNING if self.scope.failed and self.parent is None else logging.INFO
            emit(level, self.name, f"Completed in {self._took()}{self._counted()}{self._said(position)}")
        elif state in {TaskState.FAILED, TaskState.CRASHED}:
            label = "Timed out" if self.timed_out else state.value
            said = position.message.removeprefix(LATE_PREFIX)
            emit(logging.ERROR, self.name, f"{label}: {said}{traceback_once(self.error)}")
        else:
            emit(logging.WARNING, self.name, f"{state.value}: {position.message}")

    def _took(self) -> str:
        if self.start_time is None or self.end_time is None:
            return "0 s"
        return seconds_text((self.end_time - self.start_time).total_seconds())

    def _counted(self) -> str:
        if self.parent is not None or not self.scope.total:
            return ""
        return f", {self.scope.completed} of {self.scope.total} task runs completed"

    def _said(self, position: Position) -> str:
        return f": {position.message}" if position.message and not self.scope.failed else ""


def _is_failure(error: BaseException) -> bool:
    """Whether the code itself has failed, and was not interrupted."""
    return isinstance(error, Exception) and not isinstance(error, TooLate)


def made(flow: "Flow[Any, Any]", args: tuple[Any, ...], kwargs: dict[str, Any]) -> FlowRun:
    """A flow run for a call; it has ended already if the arguments do not fit their annotations.

    Raises:
        ParameterError: the arguments do not fit the signature.
    """
    values = parameters.bind(flow.fn, args, kwargs)
    run = new(flow)
    bind(run, values)
    return run


def _persists(flow: "Flow[Any, Any]", parent: FlowRun | None) -> bool:
    """Whether the results of its tasks are kept, unless they say otherwise."""
    if flow.persist_result is not None:
        return flow.persist_result
    if parent is not None:
        return parent.persists
    from levada.settings import persist_results

    return persist_results()


def new(
    flow: "Flow[Any, Any]",
    *,
    reporter: Reporter | None = None,
    run_name: str | None = None,
    resume: "Resume | None" = None,
) -> FlowRun:
    """A flow run: the root of a run, or below the flow run around the caller."""
    prepare()
    parent = FLOW_RUN.get()
    if parent is None:
        name = run_name or f"{flow.slug}-{os.urandom(4).hex()}"
        reporter, trail = traced(reporter or default_reporter(), run_name=name, flow_name=flow.name)
        return FlowRun(name, name, flow, Scope(name, reporter, resume, trail), None)
    with LOCK:
        run_id = parent.scope.next_id(flow.slug)
    return FlowRun(run_id, run_name or run_id, flow, parent.scope, parent)


def bind(run: FlowRun, values: Mapping[str, Any]) -> bool:
    """Validate the parameters. What does not fit ends the run before its first line."""
    flow = run.flow
    try:
        resolved = {name: dependencies.replace(value, _wait_for_result) for name, value in values.items()}
        run.parameters = parameters.validate(flow.fn, resolved, check_types=flow.validate_parameters)
        run.args, run.kwargs = parameters.call_arguments(flow.fn, run.parameters)
        if flow.persist_result:
            _ = run.result_store  # a storage that is not there is told before the first line runs
        if flow.flow_run_name is not None:
            from levada.engine import keeping

            run.name = keeping.formatted(flow.flow_run_name, run.parameters, flow_run=FlowRunInfo(run))
    except Exception as error:  # noqa: BLE001  a pydantic validator of the user may raise anything
        run.feed(Failure(str(error) if isinstance(error, ParameterError) else summary(error), final=True), error=error)
        return False
    return True


def _wait_for_result(source: Future[Any] | State[Any]) -> Any:
    return source.result()


def run_flow(
    flow: "Flow[Any, Any]",
    parameters: Mapping[str, Any],
    *,
    reporter: Reporter | None = None,
    run_name: str | None = None,
    handle_signals: bool = False,
    resume: "Resume | None" = None,
) -> State[Any]:
    """Run a flow to its end, sync or async, and say how it ended. Never raises what the flow or a signal did to it.

    Args:
        flow: the flow.
        parameters: values by name; they are validated.
        reporter: is told about every change. The log is written in any case.
        run_name: how the run is called in its log.
        resume: where the results of its tasks lie that an earlier attempt of the run may have kept.
        handle_signals: in the main thread, let SIGTERM and SIGINT end the run as Cancelled.

    Raises:
        RuntimeError: an async flow, while an event loop runs in this thread; await the flow there.
    """
    run = new(flow, reporter=reporter, run_name=run_name, resume=resume)
    signums = (signal.SIGTERM, signal.SIGINT) if handle_signals else ()
    try:
        if bind(run, parameters):
            _carry(run, signums)
    except BaseException:
        if not run.is_done:
            raise
    return run.state


def _carry(run: FlowRun, signums: tuple[int, ...]) -> None:
    """Run a bound flow run to its end, in an event loop of its own if it is async."""
    if not run.flow.is_async:
        with signals.raising(*signums):
            run_here(run)
        return
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError(f"flow {run.flow.name!r} is async and an event loop is running here: await the flow instead")
    with asyncio.Runner() as loop:
        try:
            loop.run(_carry_async(run, signums))
        except KeyboardInterrupt as error:
            # A signal handler of the program raised it. Closing the loop cancels the flow, which must know why.
            run.interrupt = error
            raise


async def _carry_async(run: FlowRun, signums: tuple[int, ...]) -> None:
    with signals.cancelling(run, signums):
        await run_here_async(run)


def default_signums(*signums: int) -> tuple[int, ...]:
    """For a flow called by a script: those of these signals of which the program has no idea of its own."""
    return () if FLOW_RUN.get() is not None else tuple(filter(signals.is_default, signums))


def call(flow: "Flow[Any, Any]", args: tuple[Any, ...], kwargs: dict[str, Any], *, return_state: bool = False) -> Any:
    """Call a sync flow: return its value or raise its error."""
    run = made(flow, args, kwargs)
    try:
        if not run.is_done:
            _carry(run, default_signums(signal.SIGTERM))  # Ctrl-C raises by itself
    except BaseException as error:  # noqa: BLE001  finish raises what the run ended with
        interrupted(run, error)
    return finish(run, return_state)


async def call_async(
    flow: "Flow[Any, Any]", args: tuple[Any, ...], kwargs: dict[str, Any], *, return_state: bool = False
) -> Any:
    """Call an async flow: return its value or raise its error."""
    run = made(flow, args, kwargs)
    try:
        if not run.is_done:
            await _carry_async(run, default_signums(signal.SIGTERM, signal.SIGINT))
    except BaseException as error:  # noqa: BLE001  finish raises what the run ended with
        interrupted(run, error)
    return finish(run, return_state)


def interrupted(run: FlowRun, error: BaseException) -> None:
    """Go on to finish only if the run has taken note of what interrupted it."""
    if not run.is_done or run.error is not error:
        raise _for_caller(run, error) from None


def _for_caller(run: FlowRun, error: BaseException) -> BaseException:
    """An interrupt as the caller of a flow gets it.

    If the program has been told to end, it is let end, with the exit code that the shell expects, after its own clean-up.
    """
    if not isinstance(error, TerminationSignal) or run.parent is not None:
        return error
    return KeyboardInterrupt() if error.signum == signal.SIGINT else SystemExit(128 + error.signum)


def finish(run: FlowRun, return_state: bool) -> Any:
    """What the caller of a flow gets."""
    error = run.error
    if error is not None and not isinstance(error, Exception):
        trim(error)
        raise _for_caller(run, error) from None
    if return_state:
        return run.state
    if run.position.state is TaskState.COMPLETED or is_state_collection(run.value):
        return value_of(run.value)  # a flow that returns several states hands them to its caller, whatever they say
    error = run.result(raise_on_failure=False)
    trim(error)
    raise error
