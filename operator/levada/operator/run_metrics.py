"""From the news of runs to metrics: each run's end counts once in a process, however often and in whatever order it is told.

A listener of the controller. It runs in the loop on every news, so what is not an end costs a few comparisons.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from levada.decide.announcements import task_pod_news, task_pod_outcome
from levada.decide.diagnosis import CATALOGUE
from levada.decide.facts import JobView, PodView, RunView
from levada.decide.stages import stages_of
from levada.operator.metrics import Metrics
from levada.operator.metricset import OTHER
from levada.operator.store import Key, Store
from levada.resources.phases import RunPhase, TaskState, is_terminal

# Reasons beside the catalogue's. The run's own pod writes some of them, so what is not known here is `other`.
_REASONS: Final = frozenset({
    "FlowFailed", "FlowCrashed", "SystemExit", "InvalidParameters", "RunnerError", "StatusRefused", "BadEnvironment", "TimedOut",
    "CodeNotFound", "CodeNotFetched", "RequirementsInvalid", "RequirementsNotInstalled", "ImportError", "EntrypointNotFound", "NotAFlow", "DeploymentNotFound", "FlowNotFound",
    "FlowNotReady", "JobNameTaken", "InvalidPodTemplate",
})  # fmt: skip
_TASK: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_STATES: Final = tuple((state.value.lower(), state.value) for state in TaskState)
_FAILED: Final = frozenset({RunPhase.FAILED, RunPhase.CRASHED, RunPhase.TIMED_OUT})
# Ends that are remembered, so that a later version of an ended run does not count again.
_KEPT: Final = 10_000


class RunMetrics:
    """Feeds the metrics about runs.

    Args:
        now: asked once, for when this process began: what ended before, the process before this one has counted.
    """

    def __init__(self, metrics: Metrics, store: Store, now: Callable[[], datetime]) -> None:
        self._metrics = metrics
        self._store = store
        self._since = now()
        self._counted: dict[str, None] = {}

    def on_news(self, before: RunView | None, after: RunView | None) -> None:
        """A run changed."""
        if after is None:
            return
        if before is not None and before.uid == after.uid:
            self._on_step(before, after)
            for entry in task_pod_news(before, after):
                here = self._metrics.deployment(after.namespace, after.deployment)
                self._metrics.task_pods.labels(*here, task_pod_outcome(entry)).inc()
        if is_terminal(after.phase) and not self._is_old_news(before, after):
            self._counted[after.uid] = None
            if len(self._counted) > _KEPT:
                del self._counted[next(iter(self._counted))]
            self._on_end(after)

    def _is_old_news(self, before: RunView | None, after: RunView) -> bool:
        if after.uid in self._counted:
            return True
        known_alive = before is not None and before.uid == after.uid and not is_terminal(before.phase)
        return not known_alive and (after.completed_at is None or after.completed_at < self._since)

    def _on_step(self, before: RunView, after: RunView) -> None:
        metrics = self._metrics
        if before.attempt == 0 and after.attempt > 0:
            metrics.queue_wait.labels(*metrics.queue(after.namespace, after.queue)).observe(after.queued_seconds)
        if is_terminal(after.phase):
            return
        # The lists of attempts are cut to the newest ones: the counters are not.
        failed = {
            "Infrastructure": after.infrastructure_failures - before.infrastructure_failures,
            "Code": after.code_failures - before.code_failures,
        }
        for kind, number in failed.items():
            if number > 0:
                metrics.run_retries.labels(*metrics.deployment(after.namespace, after.deployment), kind).inc(number)
                metrics.failures.labels(category(after.reason), "retried").inc(number)

    def _on_end(self, run: RunView) -> None:
        metrics, end = self._metrics, run.end
        here = metrics.deployment(run.namespace, run.deployment)
        metrics.runs_ended.labels(*here, run.phase).inc()
        if run.phase in _FAILED:
            metrics.failures.labels(category(run.reason), "final").inc()
        if end is None:
            return
        if end.duration_s is not None:
            metrics.run_seconds.labels(*here, run.phase).observe(end.duration_s, self._exemplar(run))
        stages = stages_of(run, *self._last_attempt(run))
        for stage, seconds in stages.known():
            metrics.stage_seconds.labels(stage).observe(seconds)
        if stages.overhead_ratio is not None:
            metrics.overhead_ratio.labels(*here).observe(stages.overhead_ratio)
        self._on_tasks(run, here, end.counts)

    def _on_tasks(self, run: RunView, here: tuple[str, ...], counts: Mapping[str, Any]) -> None:
        metrics, end = self._metrics, run.end
        assert end is not None
        for key, state in _STATES:
            if counts.get(key):
                metrics.tasks_ended.labels(*here, state).inc(counts[key])
        if counts.get("cached"):
            metrics.cache_hits.labels(*here).inc(counts["cached"])
        if end.task_retries:
            metrics.task_retries.labels(*here).inc(end.task_retries)
        for task, seconds in end.tasks:
            metrics.task_seconds.labels(*self._task(run, task)).observe(seconds)

    def _task(self, run: RunView, task: str) -> tuple[str, ...]:
        if not _TASK.fullmatch(task):
            return OTHER, OTHER, OTHER
        return self._metrics.task(run.namespace, run.deployment, task)

    def _last_attempt(self, run: RunView) -> tuple[PodView | None, JobView | None]:
        key = Key(run.namespace, run.name)
        pods = [
            pod
            for pod in self._store.pods.get(key, {}).values()
            if (pod.run_uid, pod.attempt) == (run.uid, run.attempt)
        ]
        jobs = [
            job
            for job in self._store.jobs.get(key, {}).values()
            if (job.owner_uid, job.attempt) == (run.uid, run.attempt)
        ]
        return max(pods, key=lambda pod: pod.created_at, default=None), next(iter(jobs), None)

    def _exemplar(self, run: RunView) -> dict[str, str] | None:
        """Who it was, for those who asked for it: OpenMetrics allows 128 characters in all."""
        if not self._metrics.exemplars:
            return None
        return {"run": run.name, "trace_id": run.uid.replace("-", "")[:32]}


def category(reason: str) -> str:
    """The reason, if it is one of a known set."""
    return reason if reason in CATALOGUE or reason in _REASONS else OTHER
