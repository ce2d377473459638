"""When will runs start? The starts of many Schedules counted by queue and time, to be seen before the queues see them.

Pure arithmetic on rules: nothing here knows how long a run takes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain, pairwise, takewhile

from levada.decide.definitions import DeploymentView, QueueView, ScheduleView
from levada.decide.schedule_rule import jitter
from levada.resources.names import DEFAULT_QUEUE


@dataclass(frozen=True, slots=True)
class Bucket:
    """A stretch of time: how many runs start in it, and how many at most within one second."""

    at: datetime
    starts: int
    at_once: int


@dataclass(frozen=True, slots=True)
class QueueForecast:
    """The starts of one queue. `limit`: how many of its runs may run at a time; None: any number."""

    queue: str
    limit: int | None
    buckets: tuple[Bucket, ...] = field(default=())

    @property
    def starts(self) -> int:
        """How many there are in all."""
        return sum(bucket.starts for bucket in self.buckets)

    @property
    def peak(self) -> Bucket:
        """The bucket with the most starts at once; the earliest of several."""
        return max(self.buckets, key=lambda bucket: bucket.at_once)


def forecast(
    schedules: Iterable[ScheduleView],
    deployments: Mapping[str, DeploymentView],
    queues: Mapping[str, QueueView],
    *,
    start: datetime,
    span: timedelta,
    bucket: timedelta,
    jitter_s: int | None = None,
) -> list[QueueForecast]:
    """The starts in `span` from `start`, by queue, the busiest queue first. Buckets begin at whole multiples of their length.

    Args:
        schedules: those of one namespace; suspended ones and those whose rule means nothing start nothing.
        deployments: by name; a Schedule whose Deployment is missing starts nothing.
        queues: by name, for their limits.
        start: the moment from which starts count.
        span: how far to look.
        bucket: the length of a bucket.
        jitter_s: as if each Schedule had at least this much jitter.
    """
    by_second: dict[str, Counter[int]] = {}
    for schedule in schedules:
        deployment = deployments.get(schedule.deployment)
        if schedule.suspended or deployment is None:
            continue
        queue = deployment.queue or DEFAULT_QUEUE
        most_s = max(schedule.jitter_s, jitter_s or 0)
        by_second.setdefault(queue, Counter()).update(_starts(schedule, start, start + span, most_s))
    found = [
        QueueForecast(name, queues[name].limit if name in queues else None, _buckets(seconds, bucket))
        for name, seconds in by_second.items()
        if seconds
    ]
    return sorted(found, key=lambda each: (-each.peak.at_once, -each.starts, each.queue))


def _starts(schedule: ScheduleView, start: datetime, end: datetime, jitter_s: int) -> Iterable[int]:
    """The seconds (since 1970) at which runs start. A tick shortly before the span may start within it."""
    ticks = takewhile(lambda tick: tick <= end, schedule.rule.ticks(start - timedelta(seconds=jitter_s)))
    for tick, following in pairwise(chain(ticks, (None,))):
        assert tick is not None
        gap = following - tick if following is not None else None
        due = tick + jitter(schedule.uid, tick, jitter_s, gap)
        if start < due <= end:
            yield int(due.timestamp())


def _buckets(seconds: Counter[int], length: timedelta) -> tuple[Bucket, ...]:
    length_s = int(length.total_seconds())
    starts: Counter[int] = Counter()
    at_once: dict[int, int] = {}
    for second, count in seconds.items():
        index = second // length_s
        starts[index] += count
        at_once[index] = max(at_once.get(index, 0), count)
    return tuple(
        Bucket(datetime.fromtimestamp(index * length_s, UTC), starts[index], at_once[index]) for index in sorted(starts)
    )
