"""Results that outlive a task run: under which key, found again before it runs, kept after it ran.

    arguments → key → a record is there: Recalled, nothing runs
                    → none is there: run, then keep the value, then Completed

A value is kept before the run says Completed, so whoever sees that state can read the result.
"""

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from levada.engine import clock, parameters, resuming
from levada.engine.machine import Recalled
from levada.engine.tracebacks import summary
from levada.exceptions import CacheKeyError, LevadaError, ResultMissing
from levada.logging import emit

if TYPE_CHECKING:
    from levada.context import FlowRunInfo, TaskRunInfo
    from levada.engine.run import FlowRun
    from levada.engine.taskrun import TaskRun
    from levada.results import ResultStore
    from levada.tasks import Task


DONE_BEFORE: Final = Recalled("done in an earlier attempt")


class Stored(NamedTuple):
    """A value that is kept in storage only (`cache_result_in_memory=False`)."""

    store: "ResultStore"
    key: str

    def levada_load(self) -> Any:
        """Read it.

        Raises:
            ResultMissing: it is not there any more.
        """
        record = self.store.load(self.key)
        if record is None:
            raise ResultMissing(f"the result {self.key!r} is not in {self.store.describe()} any more")
        return record.value


class Plan(NamedTuple):
    """How the result of one task run is kept."""

    store: "ResultStore"
    key: str
    # Whether an earlier record under this key may be used.
    recalls: bool
    # Whether the user asked for it, so that a result that cannot be kept is an error.
    asked: bool
    # Where a later attempt of the run looks for this very call, if the key above does not say it.
    own_key: str | None = None


def keeps(task: "Task[Any, Any]", flow_run: "FlowRun | None") -> bool:
    """Whether the results of this task are kept at all."""
    if task.persist_result is not None:
        return task.persist_result
    return task.caches or (flow_run.persists if flow_run is not None else default_persists())


def default_persists() -> bool:
    """What LEVADA_PERSIST_RESULTS says."""
    from levada import settings

    return settings.persist_results()


def store_below(around: "ResultStore | None", storage: Any, serializer: Any) -> "ResultStore":
    """The store that some options mean; what they leave open is as around them, or the default."""
    from levada.results import ResultStore, store_of
    from levada.storage import storage_of

    if around is None:
        return store_of(storage, serializer)
    if storage is None and serializer is None:
        return around
    return ResultStore(around.storage if storage is None else storage_of(storage), serializer or around.serializer)


def store_for(task: "Task[Any, Any]", flow_run: "FlowRun | None") -> "ResultStore":
    """Where the task's results lie: its own options, then those of the flow, then the default."""
    around = None if flow_run is None else flow_run.result_store
    return store_below(around, task.result_storage, task.result_serializer)


def plan_for(run: "TaskRun") -> Plan | None:
    """How the run's result is kept; None: not at all.

    Raises:
        CacheKeyError: the key that the user asked for cannot be made.
        LevadaError: the storage cannot be used.
    """
    task, flow_run = run.task, run.flow_run
    if not keeps(task, flow_run):
        return None
    asked = task.persist_result is True or task.result_storage_key is not None
    key = _key_of(run, asked=asked or task.cache_policy is not None)
    store = store_for(task, flow_run)
    if key is not None and is_enough(task):
        return Plan(store, key, recalls=True, asked=asked)
    own_key = resuming.name_of(run)
    recalls = key is not None and not task.refresh_cache
    return Plan(store, key or own_key or f"runs/{run.run_key}/{run.id}", recalls=recalls, asked=asked, own_key=own_key)


def is_enough(task: "Task[Any, Any]") -> bool:
    """Whether the cache key alone leads a later attempt to the result."""
    if task.refresh_cache or task.cache_expiration is not None or task.result_storage_key is not None:
        return False
    return resuming.finds_itself(task.cache_policy)


def _key_of(run: "TaskRun", *, asked: bool) -> str | None:
    """The cache key; None: it has none, and the result lies under the run's own name.

    Raises:
        CacheKeyError: it cannot be made, and somebody counts on it.
    """
    from levada.caching import DEFAULT, CacheContext

    task = run.task
    inputs = run.parameters()
    if task.result_storage_key is not None:
        return formatted(task.result_storage_key, inputs, flow_run=run.flow_run_info, task_run=run.info)
    context = CacheContext(task, run.info, run.flow_run_info, inputs)
    flow_parameters = run.flow_run.parameters if run.flow_run is not None else {}
    policy = DEFAULT if task.cache_policy is None else task.cache_policy
    try:
        key: str | None = policy.compute_key(context, inputs, flow_parameters)
    except CacheKeyError as error:
        if asked and task.cache_policy is not None:
            raise
        emit(logging.WARNING, run.id, f"no cache key, so this run is not recalled later: {error}")
        return None
    return key


def recall(run: "TaskRun", plan: Plan) -> tuple[Recalled | None, Any]:
    """What is there already, if anything: of this very call in an earlier attempt, or under the plan's key; and the value.

    Raises:
        LevadaError: the storage cannot be read, and the user asked for results to be kept there.
    """
    try:
        if plan.own_key is not None and resuming.goes_on(run):
            done = resuming.recalled(plan.store, plan.own_key)
            if done is not None:
                run.persisted = True
                return DONE_BEFORE, done.value
        record = plan.store.load(plan.key) if plan.recalls else None
    except LevadaError as error:
        if plan.asked:
            raise
        emit(logging.WARNING, run.id, f"results of earlier runs cannot be looked up: {summary(error)}")
        return None, None
    if record is None:
        return None, None
    run.persisted = plan.own_key is None and _is_found_again(run, plan)
    return Recalled(), record.value


def stage(run: "TaskRun", plan: Plan | None, value: Any) -> None:
    """Leave a value to the transaction that the run is in, or is itself."""
    from levada import transactions

    transactions.completed(
        run,
        key=None if plan is None else plan.key,
        value=value,
        write=None if plan is None else (lambda: keep(run, plan, value)),
        undo=None if plan is None else (lambda: plan.store.delete(plan.key)),
        on_commit=run.task.commit_hooks,
        on_rollback=run.task.rollback_hooks,
    )


def keep(run: "TaskRun", plan: Plan, value: Any) -> Any:
    """Keep a value; what the run has as its value from now on.

    Raises:
        LevadaError: it cannot be kept, and the user asked for that.
    """
    expiration = run.task.cache_expiration
    expires_at: datetime | None = None if expiration is None else clock.now() + expiration
    metadata = resuming.metadata_of(run, plan.own_key)
    try:
        plan.store.save(plan.key, value, expires_at=expires_at, metadata=metadata)
        if plan.own_key is not None and plan.own_key != plan.key:
            resuming.point(plan.store, plan.own_key, plan.key)
    except LevadaError as error:
        if plan.asked:
            raise
        emit(logging.WARNING, run.id, f"the result is not kept: {summary(error)}")
        return value
    run.persisted = _is_found_again(run, plan)
    return value if run.task.cache_result_in_memory else Stored(plan.store, plan.key)


def _is_found_again(run: "TaskRun", plan: Plan) -> bool:
    """Whether a later attempt finds what is kept by the plan."""
    return run.scope.resume is not None and run.own_key != "" and resuming.outlives_pod(plan.store)


def keep_of_flow(run: "FlowRun", value: Any) -> Any:
    """Keep what a flow returned, under the name of its run; what the run has as its value from now on.

    Raises:
        LevadaError: it cannot be kept.
    """
    key = f"runs/{run.key}/result"
    run.result_store.save(key, value, metadata={"flow": run.flow.name, "run": run.id})
    return value if run.flow.cache_result_in_memory else Stored(run.result_store, key)


def formatted(
    template: Any,
    values: dict[str, Any],
    *,
    flow_run: "FlowRunInfo | None",
    task_run: "TaskRunInfo | None" = None,
) -> str:
    """A name template with its parameters filled in; of a function, which may take `parameters`, what it returns.

    Raises:
        CacheKeyError: it cannot be filled in, or is no text.
    """
    try:
        if not callable(template):
            made = template.format(**{"flow_run": flow_run, "task_run": task_run, "parameters": values, **values})
        elif "parameters" in parameters.signature_of(template).parameters:
            made = template(parameters=values)
        else:
            made = template()
    except Exception as error:
        raise CacheKeyError(f"the template {template!r} cannot be filled in: {summary(error)}") from error
    if not isinstance(made, str) or not made:
        raise CacheKeyError(f"the template {template!r} became {made!r}; it must become a text that is not empty")
    return made


def bound(task: "Task[Any, Any]", args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a task's call by name, defaults filled in; of a method, its object too, as `self`.

    Raises:
        ParameterError: they do not fit.
    """
    values = parameters.bind(task.fn, args, kwargs, defaults=True)
    owner = parameters.object_of(task.fn)
    return values if owner is None else {"self": owner, **values}
