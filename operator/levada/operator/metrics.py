"""The operator's numbers for Prometheus. Labels are bounded: kinds, phases, verbs, codes; never a name of an object."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from levada.resources.phases import RunPhase

_FAST_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """One set per process; `registry` is what is served."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconcile_seconds = Histogram(
            "levada_reconcile_seconds",
            "Time that one look at an object took.",
            ["kind"],
            buckets=_FAST_S,
            registry=self.registry,
        )
        self.reconcile_errors = Counter(
            "levada_reconcile_errors", "Looks that failed and are repeated.", ["kind"], registry=self.registry
        )
        self.start_latency = Histogram(
            "levada_run_start_latency_seconds",
            "From the creation of a run (or its scheduled time) to the creation of its Job.",
            buckets=(*_FAST_S, 30, 60, 300, 1800),
            registry=self.registry,
        )
        self.schedule_lag = Histogram(
            "levada_schedule_lag_seconds",
            "From a tick (with its jitter) to the creation of its run; runs that catch up are not counted.",
            buckets=(*_FAST_S, 30),
            registry=self.registry,
        )
        self.runs_finished = Counter(
            "levada_runs_ended_by_operator",
            "Runs whose terminal phase the operator wrote.",
            ["phase"],
            registry=self.registry,
        )
        self.notifications = Counter(
            "levada_notification_deliveries",
            "Tries to tell somebody about a run; outcome: delivered, failed (and is repeated) or gave_up.",
            ["outcome"],
            registry=self.registry,
        )
        self.notifications_pending = Gauge(
            "levada_notifications_pending", "Things about runs that are still to be told.", registry=self.registry
        )
        self.requests = Counter(
            "levada_api_requests",
            "Requests to the API server; code 0: no answer.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "levada_api_request_seconds",
            "How long the API server took.",
            ["verb"],
            buckets=_FAST_S,
            registry=self.registry,
        )
        self.watches = Counter(
            "levada_watches_started",
            "Watches opened; one every five minutes is normal.",
            ["resource"],
            registry=self.registry,
        )

        self.leader = Gauge(
            "levada_leader",
            "1 in the process that may write: the leader, or an operator that stands in no election.",
            registry=self.registry,
        )

    def on_request(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """For levada.kube.Client."""
        if verb == "watch":
            self.watches.labels(resource).inc()
        else:
            self.request_seconds.labels(verb).observe(seconds)
        self.requests.labels(verb, resource, str(code)).inc()

    def observe_state(self, read: Callable[[], "State"]) -> None:
        """Have the state of the store read whenever the page is asked for, instead of counting it up and down."""
        self.registry.register(_StateCollector(read))


class State:
    """What the store holds at the moment of a scrape."""

    def __init__(
        self, phases: Tally[str], queued: int, working: int, leftovers: int, watch_ages_s: dict[str, float]
    ) -> None:
        self.phases = phases
        self.queued = queued
        self.working = working
        self.leftovers = leftovers
        self.watch_ages_s = watch_ages_s


class _StateCollector(Collector):
    def __init__(self, read: Callable[[], State]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return ()  # registering must not read the store

    def collect(self) -> Iterable[Metric]:
        state = self._read()
        runs = GaugeMetricFamily("levada_runs", "Runs under watch by phase; finished ones leave.", labels=["phase"])
        for phase in ("New", *RunPhase):
            runs.add_metric([str(phase)], state.phases.get("" if phase == "New" else phase, 0))
        yield runs
        yield GaugeMetricFamily("levada_queue_length", "Objects that wait for a worker.", value=state.queued)
        yield GaugeMetricFamily("levada_workers_busy", "Objects that workers have.", value=state.working)
        yield GaugeMetricFamily(
            "levada_terminal_runs_with_live_pod",
            "Runs that ended more than their grace ago and still have a pod; must be 0.",
            value=state.leftovers,
        )
        ages = GaugeMetricFamily(
            "levada_watch_age_seconds", "Seconds since a watch last said anything.", labels=["resource"]
        )
        for resource, age_s in state.watch_ages_s.items():
            ages.add_metric([resource], age_s)
        yield ages
