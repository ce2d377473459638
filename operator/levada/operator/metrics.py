"""The operator's numbers for Prometheus: the list of them. docs/reference/metrics.md is generated from here.

Fed by run_metrics.py (the news of runs), state.py (what the store holds when the page is asked for), and by whoever does the thing
that is counted. Base units, `levada_` first, `_total` on what only grows.
"""

import importlib.metadata
from collections.abc import Callable
from typing import Final

from prometheus_client import GCCollector, ProcessCollector

from levada.operator.metricset import FAST_S, LONG_S, Bound, MetricSet
from levada.operator.state import STATE_SPECS, State, StateCollector

# Deployments with series of their own; so many again for queues, three times so many for tasks.
DEFAULT_DEPLOYMENTS: Final = 100
_RATIOS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


class Metrics(MetricSet):
    """One set per process.

    Args:
        deployments: how many Deployments get series of their own; the others share `other`.
        exemplars: name the run beside a duration, in the OpenMetrics format only.
    """

    def __init__(self, *, deployments: int = DEFAULT_DEPLOYMENTS, exemplars: bool = False) -> None:
        super().__init__()
        self.exemplars = exemplars
        self.deployment = Bound(deployments)
        self.queue = Bound(deployments)
        self.task = Bound(3 * deployments)
        self._runs()
        self._operator()
        self._api()
        for spec in STATE_SPECS:
            self.declare(spec)

    def _runs(self) -> None:
        here = ("namespace", "deployment")
        self.runs_ended = self.counter(
            "levada_runs_ended_total", "Runs that ended, by the phase they ended in.", *here, "phase"
        )
        self.run_seconds = self.histogram(
            "levada_run_duration_seconds", "From the start of a run's last attempt to its end.", *here, "phase", buckets=LONG_S
        )  # fmt: skip
        self.stage_seconds = self.histogram(
            "levada_run_stage_seconds",
            "Time of a finished run in each stage: queued, schedule, image, import, hold, user, idle. Schedule and image are whole seconds.",
            "stage",
            buckets=LONG_S,
        )
        self.overhead_ratio = self.histogram(
            "levada_run_overhead_ratio",
            "The part of a run's time, from when it was due to its end, that was not the flow's own.",
            *here,
            buckets=_RATIOS,
        )
        self.run_retries = self.counter(
            "levada_run_retries_total",
            "Attempts that failed and are repeated; kind says whose failure it was: Infrastructure or Code.",
            *here,
            "kind",
        )
        self.failures = self.counter(
            "levada_run_failures_total",
            "Attempts that failed, by diagnosis; outcome says whether the run is retried or has failed for good.",
            "category",
            "outcome",
        )
        self.task_seconds = self.histogram(
            "levada_task_duration_seconds", "How long task runs of finished runs took, cached ones aside.", *here, "task", buckets=LONG_S
        )  # fmt: skip
        self.tasks_ended = self.counter(
            "levada_tasks_ended_total", "Task runs of finished runs, by state.", *here, "state"
        )
        self.task_pods = self.counter(
            "levada_task_pods_total",
            "Pods that tasks and Dask workers asked for; outcome: granted, refused, and of those that ended completed or failed.",
            *here,
            "outcome",
        )
        self.task_retries = self.counter("levada_task_retries_total", "Tries of task runs beyond the first.", *here)
        self.cache_hits = self.counter(
            "levada_task_cache_hits_total", "Task runs that took their result from the cache.", *here
        )
        self.start_latency = self.histogram(
            "levada_run_start_latency_seconds",
            "From when a run was due (its creation, or its scheduled time) to the creation of its Job.",
            buckets=(*FAST_S, 30, 60, 300, 1800),
        )
        self.schedule_lag = self.histogram(
            "levada_schedule_lag_seconds",
            "From a tick (with its jitter) to the creation of its run; runs that catch up are not counted.",
            buckets=(*FAST_S, 30),
        )
        self.queue_wait = self.histogram(
            "levada_queue_wait_seconds", "How long a run waited for its queue to admit it.", "namespace", "queue",
            buckets=(0.01, 0.1, 1, 10, 60, 300, 1800, 7200, 86400),
        )  # fmt: skip

    def _operator(self) -> None:
        self.reconcile_seconds = self.histogram(
            "levada_reconcile_seconds", "Time that one look at an object took.", "kind"
        )
        self.reconcile_errors = self.counter(
            "levada_reconcile_errors_total", "Looks that failed and are repeated.", "kind"
        )
        self.workqueue_wait = self.histogram("levada_workqueue_wait_seconds", "How long an object waited for a worker.")
        self.events = self.counter(
            "levada_events_total",
            "Kubernetes Events by what became of them: written, repeated (there already), failed, dropped (too many waited).",
            "outcome",
        )
        self.notifications = self.counter(
            "levada_notification_deliveries_total",
            "Tries to tell somebody about a run; outcome: delivered, failed (and is repeated) or gave_up.",
            "outcome",
        )
        self.notifications_pending = self.gauge(
            "levada_notifications_pending", "Things about runs that are still to be told."
        )
        self.archive_errors = self.counter(
            "levada_archive_errors_total", "Operations on the archive's storage that failed.", "operation"
        )
        self.archived = self.counter(
            "levada_runs_archived_total",
            "Finished runs that were put into an archive's index, by who wrote their record: runner or operator.",
            "written_by",
        )
        self.archive_backlog = self.gauge("levada_archive_backlog", "Finished runs that wait to be archived.")
        self.runs_removed = self.counter(
            "levada_history_removed_runs_total", "Finished runs that left the cluster by history."
        )
        self.leader = self.gauge(
            "levada_leader", "1 in the process that may write: the leader, or an operator that stands in no election."
        )
        version = self.gauge("levada_build_info", "1, with the version of the operator as a label.", "version")
        version.labels(importlib.metadata.version("levada")).set(1)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def _api(self) -> None:
        self.requests = self.counter(
            "levada_api_requests_total", "Requests to the API server; code 0: no answer.", "verb", "resource", "code"
        )
        self.request_seconds = self.histogram("levada_api_request_seconds", "How long the API server took.", "verb")
        self.missing_rights = self.gauge(
            "levada_missing_rights", "Rights that the API server has refused to the operator within three minutes."
        )
        self.watches = self.counter(
            "levada_watches_started_total", "Watches opened; one every five minutes is normal.", "resource"
        )

    def on_request(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """For levada.kube.Client."""
        if verb == "watch":
            self.watches.labels(resource).inc()
        else:
            self.request_seconds.labels(verb).observe(seconds)
        self.requests.labels(verb, resource, str(code)).inc()

    def observe_state(self, read: Callable[[], State]) -> None:
        """Have the state of the store read whenever the page is asked for, instead of counting it up and down."""
        self.registry.register(StateCollector(read, self.deployment, self.queue))
