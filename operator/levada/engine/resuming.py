"""Going on from an earlier attempt: a task run whose result is stored is not run again, whatever its cache policy says.

An attempt may end anywhere, and the next one, in another process, calls the same tasks again. A call is recognised by the
task's name and code, its arguments, and a number among the calls that are alike in all of these. Not by its place among
the task's calls: with `.submit` and `asyncio.gather` that depends on who was faster. Calls without futures among their
arguments are numbered when they are made, which is the order of the flow's code; the others when they start.

    results/runs/<key of the run>/tasks/<task>/<hash of name, code and arguments>-<number>

What cannot be hashed is not recognised, and runs again. Outside of a run's pod there is no earlier attempt, and nothing of this.
"""

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from levada.exceptions import CacheKeyError
from levada.logging import emit

if TYPE_CHECKING:
    from levada.caching import CachePolicy
    from levada.engine.taskrun import TaskRun
    from levada.results import ResultRecord, ResultStore

_HASH_CHARS = 32


class Resume(NamedTuple):
    """Under which key the results of the run's tasks lie, and whether an earlier attempt may have left some there."""

    key: str
    goes_on: bool = False


def number(run: "TaskRun") -> None:
    """Give a call its name among those that are alike, if all of its arguments are there. Called when it is made."""
    resume = run.scope.resume
    if resume is not None and run.sources is None:
        from levada.engine import keeping

        if keeping.keeps(run.task, run.flow_run) and not keeping.is_enough(run.task):
            _named(run, resume)


def name_of(run: "TaskRun") -> str | None:
    """The key under which the result of this very call is found by a later attempt; None: it is not."""
    resume = run.scope.resume
    if resume is not None and run.own_key is None:
        _named(run, resume)
    return run.own_key or None


def goes_on(run: "TaskRun") -> bool:
    """Whether an earlier attempt may have done what the run is about to do."""
    resume = run.scope.resume
    return resume is not None and resume.goes_on


def recalled(store: "ResultStore", own_key: str) -> "ResultRecord | None":
    """What an earlier attempt has kept for this very call.

    Where a cache policy has another key for it, the value lies there, and here is only that key; the value counts if no other
    call has written its own over it. It does not expire: to the run it is a task that is done.
    """
    record = store.load(own_key, even_expired=True)
    if record is None or not _is_pointer(record):
        return record
    there = store.load(record.value, even_expired=True)
    return there if there is not None and there.metadata.get("call") == own_key else None


def point(store: "ResultStore", own_key: str, key: str) -> None:
    """Note that the result of this very call lies under another key."""
    store.save(own_key, key, metadata={"points": "true"})


def finds_itself(policy: "CachePolicy | None") -> bool:
    """Whether the key that a cache policy makes is the same in a later attempt: then it is enough."""
    from levada.caching import CompoundCachePolicy, FlowParameters, Inputs, RunId, TaskSource

    if isinstance(policy, CompoundCachePolicy):
        return all(map(finds_itself, policy.policies))
    return policy is None or type(policy) in {Inputs, TaskSource, RunId, FlowParameters}


def outlives_pod(store: "ResultStore") -> bool:
    """Whether the storage is there for another pod. The default folder of this user is not: in a pod it goes with the pod."""
    from levada import settings
    from levada.storage.local import LocalStorage

    storage = store.storage
    return not (isinstance(storage, LocalStorage) and storage.folder.is_relative_to(settings.home()))


def _is_pointer(record: "ResultRecord") -> bool:
    return record.metadata.get("points") == "true"


def _named(run: "TaskRun", resume: Resume) -> None:
    from levada.caching import hash_of, hash_of_inputs
    from levada.engine.node import LOCK

    task = run.task
    try:
        alike = hash_of([task.name, task.source_hash, hash_of_inputs(run.parameters())])[:_HASH_CHARS]
    except CacheKeyError as error:
        run.own_key = ""
        if task.cache_policy is not None:  # else the want of a cache key has been told, and for the same reason
            emit(logging.WARNING, run.id, f"a later attempt of this run would run it again: {error}")
        return
    with LOCK:
        before = run.scope.alike.get(alike, 0)
        run.scope.alike[alike] = before + 1
    run.own_key = f"runs/{resume.key}/tasks/{task.slug}/{alike}-{before}"


def metadata_of(run: "TaskRun", own_key: str | None) -> dict[str, Any]:
    """What a record says about the call that made it."""
    said = {"task": run.task.name, "run": run.run_key}
    return {**said, "call": own_key} if own_key else said
