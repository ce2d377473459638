"""Where a run's time went. What is not the user's is overhead, so overhead is a number.

    due ── queued ── Job ── schedule ── node ── image ── container ── import ── hold ── user ── idle ── end
                      └──────────────── wait ───────────────┘

The runner measures wait, import, hold (for its time, see prestartSeconds) and user; the operator knows queued, and sees schedule and image on the pod, in whole
seconds, as the API server has them. `idle` is what no other stage explains: pauses between attempts, the last report.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from levada.decide.facts import JobView, PodView, RunView
from levada.decide.times import seconds_between


@dataclass(frozen=True, slots=True)
class Stages:
    """Seconds by stage; None: not known."""

    queued_s: float | None = None
    schedule_s: float | None = None
    image_s: float | None = None
    import_s: float | None = None
    hold_s: float | None = None
    user_s: float | None = None
    idle_s: float | None = None
    total_s: float | None = None

    def known(self) -> Iterator[tuple[str, float]]:
        """The stages that are known, by their short names."""
        for name in ("queued", "schedule", "image", "import", "hold", "user", "idle"):
            seconds: float | None = getattr(self, f"{name}_s")
            if seconds is not None:
                yield name, seconds

    @property
    def overhead_ratio(self) -> float | None:
        """The part of the run's whole time that was not the user's: 0 to 1; None if that cannot be told."""
        if self.user_s is None or not self.total_s:
            return None
        return min(1.0, max(0.0, 1.0 - self.user_s / self.total_s))


def pod_stages(pod: PodView | None, job: JobView | None = None) -> tuple[float | None, float | None]:
    """Seconds from the Job (or the pod) to a node, and from there to a started container."""
    if pod is None or pod.scheduled_at is None:
        return None, None
    since = job.created_at if job is not None else pod.created_at
    image_s = seconds_between(pod.scheduled_at, pod.started_at) if pod.started_at is not None else None
    return seconds_between(since, pod.scheduled_at), image_s


def stages_of(run: RunView, pod: PodView | None = None, job: JobView | None = None) -> Stages:
    """The stages of a run that is over, from its status and the pod of its last attempt, if that is known."""
    end = run.end
    if end is None or run.completed_at is None:
        return Stages()
    schedule_s, image_s = pod_stages(pod, job)
    total_s = seconds_between(run.due_at, run.completed_at)
    user_s = end.user_s
    if user_s is None and pod is not None and pod.started_at is not None:
        user_s = end.duration_s  # no runner has told: then all that its container did counts as the user's
    wait_s = end.wait_s if end.wait_s is not None else (schedule_s or 0.0) + (image_s or 0.0)
    told_s = run.queued_seconds + wait_s + (end.import_s or 0.0) + (end.hold_s or 0.0) + (user_s or 0.0)
    return Stages(
        queued_s=run.queued_seconds,
        schedule_s=schedule_s,
        image_s=image_s,
        import_s=end.import_s,
        hold_s=end.hold_s,
        user_s=user_s,
        idle_s=round(max(0.0, total_s - told_s), 3),
        total_s=total_s,
    )
