"""Clocks of an attempt: how long it may wait to start, and how long it may run.

The running time is limited by the Job's own deadline, so it holds while the operator is away; what is here only recognises it.
"""

from datetime import datetime, timedelta
from typing import Final

from levada.decide.facts import JobView, PodView, RunFacts, RunView
from levada.decide.times import parse

# The API writes whole seconds: a pod that was killed for the deadline may look a second early.
_ROUNDING: Final = timedelta(seconds=1)


def pending_since(run: RunView) -> datetime:
    """When the current attempt was admitted: until then the run waited for others, from then on for its pod."""
    if run.admitted_at is not None:
        return run.admitted_at
    ends = [parse(record.get("endTime")) for record in run.attempts if record.get("number") != run.attempt]
    last = max((end for end in ends if end is not None), default=None)
    admitted = run.created_at + timedelta(seconds=run.queued_seconds)
    return max(last, admitted) if last is not None else admitted


def pending_deadline(facts: RunFacts, *, patience_s: float | None = None) -> datetime:
    """Until when the attempt's pod may wait. `patience_s`: for the cause at hand, if that is shorter."""
    timeout_s = float(facts.deployment.pending_timeout_s) if facts.deployment is not None else 600.0
    if patience_s is not None:
        timeout_s = min(timeout_s, patience_s)
    since = facts.job.pod_due_since if facts.job is not None else pending_since(facts.run)
    return since + timedelta(seconds=timeout_s)


def deadline_passed(job: JobView, at: datetime) -> bool:
    """Whether the Job's time was up at `at`."""
    if job.deadline_s is None or job.started_at is None:
        return False
    return at + _ROUNDING >= job.started_at + timedelta(seconds=job.deadline_s)


def is_lost(pod: PodView, now: datetime, lost_after_s: float) -> bool:
    """Whether a pod should long be gone: nobody on its node carries out the deletion."""
    return pod.deletion_due_at is not None and now >= pod.deletion_due_at + timedelta(seconds=lost_after_s)
