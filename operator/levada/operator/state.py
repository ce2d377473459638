"""What the operator's store holds at the moment of a scrape, as gauges: derived, never counted up and down."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from levada.decide.facts import RunView
from levada.operator.metricset import OTHER, Bound, Spec
from levada.operator.store import Key, Store
from levada.resources.names import DEFAULT_QUEUE
from levada.resources.phases import RunPhase, is_terminal

if TYPE_CHECKING:
    from levada.kube import Reflector
    from levada.operator.controller import Controller

NEW: Final = "New"
_HERE: Final = ("namespace", "deployment")

RUNS: Final = Spec(
    "levada_runs", "gauge", ("phase",), "Runs under watch; finished ones leave. New: nobody has looked yet."
)
OF_DEPLOYMENT: Final = Spec(
    "levada_deployment_runs", "gauge", (*_HERE, "phase"), "Unfinished runs of each Deployment; phases without any are left out."
)  # fmt: skip
OF_QUEUE: Final = Spec(
    "levada_queue_runs", "gauge", ("namespace", "queue", "state"),
    "Runs in each queue: waiting for admission, or holding a slot.",
)  # fmt: skip
LIMIT: Final = Spec(
    "levada_queue_limit", "gauge", ("namespace", "queue"), "The concurrency limit of each queue that has one."
)
LENGTH: Final = Spec("levada_workqueue_length", "gauge", (), "Objects that wait for a worker.")
BUSY: Final = Spec("levada_workers_busy", "gauge", (), "Objects that workers have.")
OLDEST: Final = Spec(
    "levada_workqueue_oldest_seconds", "gauge", (), "How long the object that is next has waited for a worker."
)
LONGEST: Final = Spec(
    "levada_worker_longest_seconds", "gauge", (), "How long the slowest of the workers has been at its object."
)
EVENTS_WAITING: Final = Spec("levada_events_waiting", "gauge", (), "Kubernetes Events that are not written yet.")
VIOLATIONS: Final = Spec(
    "levada_invariant_violations", "gauge", ("invariant",),
    "Must be 0: runs that ended more than their grace ago and still have a pod (live_pod) or a slot (slot).",
)  # fmt: skip
WATCH_AGE: Final = Spec("levada_watch_age_seconds", "gauge", ("resource",), "Seconds since a watch last said anything.")
STATE_SPECS: Final = (
    RUNS, OF_DEPLOYMENT, OF_QUEUE, LIMIT, LENGTH, BUSY, OLDEST, LONGEST, EVENTS_WAITING, VIOLATIONS, WATCH_AGE,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    """What the store holds at the moment of a scrape."""

    phases: Mapping[str, int] = field(default_factory=dict)
    of_deployments: Mapping[tuple[str, str, str], int] = field(default_factory=dict)  # namespace, name, phase
    of_queues: Mapping[tuple[str, str, str], int] = field(default_factory=dict)  # namespace, name, state
    limits: Mapping[tuple[str, str], int] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)  # the gauges without labels, by name
    violations: Mapping[str, int] = field(default_factory=dict)
    watch_ages_s: Mapping[str, float] = field(default_factory=dict)


def state_of(controller: "Controller", reflectors: "Mapping[str, Reflector]") -> State:
    """Read the store, in its own thread: what is read together belongs together."""
    store, runs, queue = controller.store, list(controller.store.runs.values()), controller.queue
    live = [run for run in runs if not is_terminal(run.phase)]
    return State(
        phases=Tally(run.phase or NEW for run in runs),
        of_deployments=Tally((run.namespace, run.deployment, run.phase or NEW) for run in live),
        of_queues=Tally(
            (run.namespace, _queue_of(store, run), "holding" if run.attempt else "waiting") for run in live
        ),
        limits={(view.namespace, view.name): view.limit for view in store.queues.values() if view.limit is not None},
        figures={
            LENGTH.name: len(queue),
            BUSY.name: queue.working,
            OLDEST.name: queue.oldest_wait_s,
            LONGEST.name: queue.longest_work_s,
            EVENTS_WAITING.name: len(controller.herald),
        },
        violations=_violations(controller, runs),
        watch_ages_s=watch_ages(reflectors),
    )


def watch_ages(reflectors: "Mapping[str, Reflector]") -> dict[str, float]:
    """Seconds of silence by resource; of several namespaces the longest."""
    ages: dict[str, float] = {}
    for name, reflector in reflectors.items():
        plural = name.partition("/")[0]
        ages[plural] = max(ages.get(plural, 0.0), reflector.last_event_age)
    return ages


def _queue_of(store: Store, run: RunView) -> str:
    if run.queue:
        return run.queue
    deployment = store.deployments.get(Key(run.namespace, run.deployment))
    return deployment.queue if deployment is not None else DEFAULT_QUEUE


def _violations(controller: "Controller", runs: Iterable[RunView]) -> dict[str, int]:
    """A run that has ended, and its grace is over: nothing of it may be left."""
    grace = timedelta(seconds=controller.settings.decide.terminal_grace_s + 60)
    store, now = controller.store, controller.now()
    found = {"live_pod": 0, "slot": 0}
    for run in runs:
        if not is_terminal(run.phase) or run.completed_at is None or now - run.completed_at <= grace:
            continue
        key = Key(run.namespace, run.name)
        found["live_pod"] += any(not pod.finished for pod in store.pods.get(key, {}).values())
        found["slot"] += key in store.line.holders(Key(run.namespace, _queue_of(store, run)))
    return found


class StateCollector(Collector):
    """Turns a State into samples."""

    def __init__(self, read: Callable[[], State], deployment: Bound, queue: Bound) -> None:
        self._read = read
        self._deployment = deployment
        self._queue = queue

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read the store."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The samples of this moment."""
        state = self._read()
        phases: dict[tuple[str, ...], float] = {(str(phase),): state.phases.get(phase, 0) for phase in (NEW, *RunPhase)}
        yield _family(RUNS, phases)
        yield _family(OF_DEPLOYMENT, _bounded(state.of_deployments, self._deployment))
        yield _family(OF_QUEUE, _bounded(state.of_queues, self._queue))
        yield _family(LIMIT, {key: limit for key, limit in state.limits.items() if OTHER not in self._queue(*key)})
        for spec in (LENGTH, BUSY, OLDEST, LONGEST, EVENTS_WAITING):
            yield _family(spec, {(): state.figures.get(spec.name, 0)})
        yield _family(VIOLATIONS, {(name,): number for name, number in state.violations.items()})
        yield _family(WATCH_AGE, {(resource,): age_s for resource, age_s in state.watch_ages_s.items()})


def _bounded(counts: Mapping[tuple[str, str, str], int], bound: Bound) -> Mapping[tuple[str, ...], float]:
    tally: Tally[tuple[str, ...]] = Tally()
    for (namespace, name, last), number in counts.items():
        tally[*bound(namespace, name), last] += number
    return tally


def _family(spec: Spec, samples: Mapping[tuple[str, ...], float]) -> Metric:
    family = GaugeMetricFamily(spec.name, spec.help, labels=spec.labels)
    for values, value in samples.items():
        family.add_metric(values, value)
    return family
