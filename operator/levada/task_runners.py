"""Task runners: where the submitted tasks of a flow run, as in `@flow(task_runner=ProcessPoolTaskRunner(max_workers=4))`.

- `ThreadPoolTaskRunner` (also named `ConcurrentTaskRunner`): in threads of the flow's process. The default.
- `SequentialTaskRunner`: one after the other, in the thread that submits.
- `ProcessPoolTaskRunner`: in processes of this machine.
- `DaskTaskRunner`: on a Dask cluster.
- `KubernetesTaskRunner`: each in a pod of its own, if the flow runs in a cluster.

States, retries, caching and hooks are the same with each: a runner only decides where a task's function is called.
"""

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, Never, Self

from levada import _options
from levada.exceptions import NotSupported, OptionError

if TYPE_CHECKING:
    from levada.engine.remote import Workers

__all__ = [
    "ConcurrentTaskRunner",
    "DaskTaskRunner",
    "KubernetesTaskRunner",
    "ProcessPoolTaskRunner",
    "SequentialTaskRunner",
    "TaskRunner",
    "ThreadPoolTaskRunner",
]


class TaskRunner:
    """What all runners have in common. Two of one kind with the same settings are equal.

    Attributes:
        name: the kind, for messages.
        inline: whether `.submit` runs a task at once in the caller's thread.
        max_workers: how many tasks run at the same time; None: as many as the engine sees fit.
    """

    name: ClassVar[str] = "task runner"
    inline: ClassVar[bool] = False
    max_workers: int | None = None

    def open(self) -> "Workers | None":
        """Start what the tasks of one flow run need. The engine calls this at the first `.submit` of a flow run.

        Returns:
            The workers that make the calls; None to make them in the threads of this process.
        """
        return None

    def duplicate(self) -> Self:
        """Another one with the same settings."""
        return copy(self)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]  # settings may be dicts, which have no hash

    def __repr__(self) -> str:
        settings = (
            f"{key}={value!r}" for key, value in self.__dict__.items() if value is not None and value not in ((), {})
        )
        return f"{type(self).__name__}({', '.join(settings)})"


class SequentialTaskRunner(TaskRunner):
    """Runs each submitted task at once, in the thread that submits it, and then hands out a future that is done.

    Raises:
        OptionError: it was given an option; it has none.
    """

    name = "sequential"
    inline = True

    def __init__(self, **unknown: Never) -> None:
        _refuse_unknown(self, SequentialTaskRunner.__init__, unknown)


class ThreadPoolTaskRunner(TaskRunner):
    """Runs submitted tasks in threads of the flow's process: for work that waits (downloads, queries, sleeps).

    Python runs one thread at a time; code that computes all the time gains from processes only.

    Args:
        max_workers: how many at the same time; None: as many as there is work that waits, up to 512.

    Raises:
        OptionError: `max_workers` is no positive whole number, or an option is unknown.
    """

    name = "threads"

    def __init__(self, max_workers: int | None = None, **unknown: Never) -> None:
        _refuse_unknown(self, ThreadPoolTaskRunner.__init__, unknown)
        self.max_workers = _count_of(max_workers, type(self).__name__)


class ConcurrentTaskRunner(ThreadPoolTaskRunner):
    """The same as `ThreadPoolTaskRunner`, by its older name."""


class ProcessPoolTaskRunner(TaskRunner):
    """Runs submitted tasks in other processes of this machine: for code that computes.

    A worker is a fresh Python process that never runs the program's own script, so no `if __name__ == "__main__"` is needed.
    Functions and classes of the script, lambdas and methods are sent by value, those of modules by name. Arguments and results must
    be picklable (by cloudpickle). Logs and prints of a run come back while it runs.

    `timeout_seconds` interrupts a task's code in its worker by a signal, sleeps and waits included; native code that looks at no
    signal is ended with its worker a second later. A worker that dies fails its own task only (`WorkerCrashed`), and the next task
    gets a new one.

    Args:
        max_workers: how many processes; None: one for each CPU that this process, or its container, may use.
        initializer: a function to call once in each worker, before its first task.
        initargs: its arguments.

    Raises:
        OptionError: a setting that cannot work, or an unknown one.
    """

    name = "processes"

    def __init__(
        self,
        max_workers: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        **unknown: Never,
    ) -> None:
        _refuse_unknown(self, ProcessPoolTaskRunner.__init__, unknown)
        if initializer is not None and not callable(initializer):
            raise OptionError(f"ProcessPoolTaskRunner: initializer={initializer!r} must be a function")
        self.max_workers = _count_of(max_workers, "ProcessPoolTaskRunner")
        if self.max_workers is None:
            from levada.engine.remote import cpus

            self.max_workers = cpus.count()
        self.initializer = initializer
        self.initargs = tuple(initargs)

    def open(self) -> "Workers":
        """The pool. Its processes start when they are needed."""
        from levada.engine.remote.processes import ProcessWorkers

        assert self.max_workers is not None
        return ProcessWorkers(self.max_workers, self.initializer, self.initargs)


class DaskTaskRunner(TaskRunner):
    """Runs submitted tasks on a Dask cluster; on one of this machine's own that lives as long as the flow run, unless told otherwise.

    What a timeout can do there: Dask calls tasks in threads of its workers, so `timeout_seconds` raises in the code at its next
    Python instruction. Code inside of a long C call (`time.sleep`, a fit) goes on, and its worker's thread is busy until it ends;
    the task run is over a second after its deadline all the same. The time that a task waits for a free worker does not count.

    A worker that dies fails its task with `WorkerCrashed`. A cluster that is not started here first tries the task on other workers, as
    often as its scheduler's setting `distributed.scheduler.allowed-failures` says.

    Args:
        address: of a scheduler that runs already, such as `tcp://10.0.0.5:8786`.
        cluster_class: a class that starts a cluster, or where to import it from, such as `dask_kubernetes.operator.KubeCluster`.
        cluster_kwargs: the arguments of the cluster's class, such as `{"n_workers": 4, "threads_per_worker": 1}`.
        adapt_kwargs: lets the cluster grow and shrink with the work, such as `{"minimum": 1, "maximum": 10}`.
        client_kwargs: further arguments of `distributed.Client`.
        cluster: a cluster object that is there already; it is left running.
        kubernetes: if the flow runs in a cluster, the workers are pods that the operator makes for the run: True, or how they differ
            from the flow's pod, as with `@task(kubernetes=...)`. Elsewhere they are processes of this machine. Of `cluster_kwargs` it
            takes `n_workers`, `threads_per_worker` and `memory_limit`.

    Raises:
        OptionError: settings that contradict each other, are of the wrong kind or unknown.
    """

    name = "dask"

    def __init__(
        self,
        address: str | None = None,
        cluster_class: "str | Callable[..., Any] | None" = None,
        cluster_kwargs: Mapping[str, Any] | None = None,
        adapt_kwargs: Mapping[str, Any] | None = None,
        client_kwargs: Mapping[str, Any] | None = None,
        *,
        cluster: Any = None,
        kubernetes: Mapping[str, Any] | bool | None = None,
        **unknown: Never,
    ) -> None:
        _refuse_unknown(self, DaskTaskRunner.__init__, unknown)
        if address is not None and (not isinstance(address, str) or not address.strip()):
            raise OptionError(f"DaskTaskRunner: address={address!r} must be a text such as 'tcp://127.0.0.1:8786'")
        if not (cluster_class is None or callable(cluster_class) or _is_path(cluster_class)):
            raise OptionError(
                f"DaskTaskRunner: cluster_class={cluster_class!r} must be a class or its path, such as 'distributed.LocalCluster'"
            )
        own = {"cluster_class": cluster_class, "cluster_kwargs": cluster_kwargs, "adapt_kwargs": adapt_kwargs}
        _refuse_both({"address": address, "cluster": cluster}, own)
        self.kubernetes = _options.pod_of(kubernetes, "DaskTaskRunner")
        if self.kubernetes is not None:
            _refuse_elsewhere({"address": address, "cluster": cluster, "cluster_class": cluster_class})
        self.address = address
        self.cluster_class = cluster_class
        self.cluster_kwargs = _options_of(cluster_kwargs, "cluster_kwargs")
        self.adapt_kwargs = _options_of(adapt_kwargs, "adapt_kwargs")
        self.client_kwargs = _options_of(client_kwargs, "client_kwargs")
        self.cluster = cluster

    def open(self) -> "Workers":
        """Start or find the cluster.

        Raises:
            MissingDependencyError: `distributed` is not installed.
            OptionError: no scheduler answers at `address`, or the cluster cannot start as its arguments say.
        """
        from levada.engine.remote.daskworkers import open_workers

        return open_workers(self)


class KubernetesTaskRunner(TaskRunner):
    """Runs each submitted task in a pod of its own, if the flow runs in a cluster; elsewhere in threads of this process.

    For steps that need much: a GPU, a lot of memory, another image. A pod takes a second or more to start. Calls and results
    travel through the Deployment's storage, so arguments and results must be picklable (by cloudpickle), and the image must have
    the same version of Python. The Deployment says what may be asked for (`spec.infrastructure.taskPods`).

    `timeout_seconds` counts in the pod. A pod that the cluster failed (node lost, evicted) is made anew, as often as the
    Deployment's `infrastructureRetries` say; one whose process died otherwise fails its task with `WorkerCrashed`.

    Args:
        max_workers: how many at the same time; None: as many as the Deployment allows.
        image: container image; the run's own without it.
        resources: `{"requests": {"memory": "64Gi"}, "limits": {"nvidia.com/gpu": 1}}`.
        node_selector: labels that the node must have.
        tolerations: taints that the pod puts up with, as in a pod.

    Raises:
        OptionError: a setting that cannot work, or an unknown one.
    """

    name = "pods"

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        image: str | None = None,
        resources: Mapping[str, Any] | None = None,
        node_selector: Mapping[str, str] | None = None,
        tolerations: Iterable[Mapping[str, Any]] | None = None,
        **unknown: Never,
    ) -> None:
        _refuse_unknown(self, KubernetesTaskRunner.__init__, unknown)
        self.max_workers = _count_of(max_workers, "KubernetesTaskRunner")
        wishes = {"image": image, "resources": resources, "node_selector": node_selector, "tolerations": tolerations}
        self.kubernetes = _options.pod_of(wishes, "KubernetesTaskRunner") or {}

    def open(self) -> "Workers | None":
        """The pods; None outside of a cluster."""
        from levada.engine.remote.pods import open_pods

        return open_pods(self.kubernetes)


def _refuse_elsewhere(given: Mapping[str, Any]) -> None:
    """Pods that the operator makes are a cluster of their own."""
    for name, value in given.items():
        if value is not None:
            raise OptionError(
                f"DaskTaskRunner: kubernetes makes a cluster of pods, and {name} names another; give one of them"
            )


def _refuse_unknown(runner: TaskRunner, init: Callable[..., None], unknown: Mapping[str, Any]) -> None:
    """Name an option that the runner does not have, and the one that was probably meant."""
    if not unknown:
        return
    from difflib import get_close_matches

    option = next(iter(unknown))
    known = _options.parameter_names(init)[1:]  # without self
    close = get_close_matches(option, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"it takes: {', '.join(known) or 'none'}"
    raise OptionError(f"{type(runner).__name__} has no option {option!r}; {hint}")


def _count_of(value: object, owner: str) -> int | None:
    """A `max_workers` option."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise OptionError(f"{owner}: max_workers={value!r} must be a whole number of at least 1")


def _is_path(value: object) -> bool:
    """Whether it reads `module.Class` or `module:Class`."""
    if not isinstance(value, str):
        return False
    parts = value.replace(":", ".").split(".")
    return len(parts) > 1 and all(part.isidentifier() for part in parts)


def _options_of(value: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    """A dict of keyword arguments."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise OptionError(f"DaskTaskRunner: {name}={value!r} must be a dict of keyword arguments")
    return dict(value)


def _refuse_both(ready: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """A cluster that is there already is not made, so it takes no settings for that."""
    given = [name for name, value in ready.items() if value is not None]
    if len(given) > 1:
        raise OptionError("DaskTaskRunner: address and cluster name two clusters; give one of them")
    for name, value in own.items():
        if given and value is not None:
            raise OptionError(
                f"DaskTaskRunner: {name} starts a cluster, but {given[0]} names one that runs; give one of them"
            )


def __getattr__(name: str) -> Any:
    """A runner of Prefect that is not here says what to use."""
    if name == "RayTaskRunner":
        raise NotSupported(
            "Levada has no RayTaskRunner; use levada.task_runners.DaskTaskRunner (pip install 'levada[dask]') for a cluster "
            "of machines, or ProcessPoolTaskRunner for the CPUs of one"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
