"""Calls of user code in other processes.

The engine drives every run in its own process. With a runner that has workers elsewhere, one call of a task's function becomes
a `RemoteCall` and goes to `Workers.call` instead; all else (states, retries, caching, hooks, reports) stays where it is.

`packing` turns calls and outcomes into bytes, `raised` carries exceptions with their tracebacks, `logs` and `news` what the code
tells while it runs, `carrying` makes a call inside a worker, `processes` and `worker` are the two ends of a pool of processes,
`daskworkers` is the one of a Dask cluster, `pods` makes calls in pods of their own, and `daskpods` a Dask cluster of such pods.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

_NOTHING: Mapping[str, Any] = {}


class RemoteCall(NamedTuple):
    """One call of a task's function, with all that its surroundings in a worker need to know.

    Attributes:
        fn: the function.
        args: its arguments; futures are replaced by their results already.
        kwargs: its keyword arguments.
        run_id: of the task run, such as `train-0`.
        task_name: the task's name.
        flow_run_name: of the flow run around it; empty for a task outside of any flow.
        flow_name: the flow's name; empty without one.
        attempt: 1 for the first try.
        tags: the task run's tags.
        log_prints: whether prints go to the run's log.
        timeout_seconds: how long the function may take, counted in the worker; None: as long as it likes.
        is_async: whether the function gives a coroutine.
        parameters: the flow run's parameters; those that cannot be sent are left out.
        flow_run_id: of the flow run, where it is not the name.
        flow_run_tags: of the flow run.
        label: what people call the task run, where it is not the id.
        result_storage: the flow's option, for artifacts and results that the code makes in the worker.
        result_serializer: the same.
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    run_id: str
    task_name: str
    flow_run_name: str = ""
    flow_name: str = ""
    attempt: int = 1
    tags: frozenset[str] = frozenset()
    log_prints: bool = False
    timeout_seconds: float | None = None
    is_async: bool = False
    parameters: Mapping[str, Any] = _NOTHING
    flow_run_id: str = ""
    flow_run_tags: frozenset[str] = frozenset()
    label: str = ""
    result_storage: Any = None
    result_serializer: Any = None


class Workers(Protocol):
    """Where a flow run's calls happen. Made by a task runner's `open`; used from many threads at once."""

    def call(self, call: RemoteCall) -> Any:
        """Make a call in a worker, and wait for its outcome.

        The caller sets no deadline of its own around this: the worker's counts, and `call` sees to it if the worker cannot.

        Returns:
            What the function returned.

        Raises:
            BaseException: what the function raised, with its traceback.
            levada.engine.deadlines.TooLate: it was not done within `timeout_seconds`.
            SerializationError: an argument or the result cannot be sent.
            WorkerCrashed: the worker died under the call.
            RunCancelled: the workers were closed meanwhile.
        """
        ...

    def close(self, *, cancel: bool) -> None:
        """End the workers.

        Args:
            cancel: whether calls are under way and must be ended. Each gets a moment for its clean-up.
        """
        ...
