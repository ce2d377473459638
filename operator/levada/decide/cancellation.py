"""Cancellation: spec.cancel wins over everything but an end that has already come.

Without a Job the run is cancelled at once. With one: phase Cancelling, then the Job is suspended, whose controller ends the
pod with SIGTERM; the runner reports Cancelled, and if it cannot, the operator does when the pod is gone.
"""

from datetime import datetime

from levada.decide.attempt import End, stoppable_jobs
from levada.decide.facts import RunFacts
from levada.decide.plan import Plan, phase_status
from levada.decide.report import Report
from levada.decide.times import seconds_between
from levada.resources.phases import RunPhase


def cancelled(facts: RunFacts, message: str, *, at: datetime | None = None) -> Plan:
    """The end by cancellation."""
    run = facts.run
    ended = max(at or facts.now, run.created_at)
    status = phase_status(facts.run, RunPhase.CANCELLED, "Cancelled", message, now=facts.now, completed_at=ended)
    if run.started_at is not None:
        status["durationSeconds"] = seconds_between(run.started_at, ended)
    return Plan(status=status, stop_jobs=stoppable_jobs(facts))


def cancel_under_way(facts: RunFacts) -> Plan:
    """The attempt goes on: ask it to stop."""
    run = facts.run
    if facts.job is None and facts.pod is None:
        return cancelled(facts, "The run was cancelled before its Job was created.")
    status = None
    if run.phase != RunPhase.CANCELLING:
        status = phase_status(
            facts.run,
            RunPhase.CANCELLING,
            "CancelRequested",
            "The run was asked to stop.",
            now=facts.now,
        )
    if facts.pod is None and facts.job is not None and facts.job.suspended:
        return cancelled(facts, "The run was cancelled before its pod was created.")
    return Plan(status=status, stop_jobs=stoppable_jobs(facts), requeue_after_s=look_again_s(facts))


def ended_by_itself(end: End) -> Report | None:
    """What an attempt that ended while it was told to stop says of its end; None: it stopped.

    A run that finished before the signal reached it has still finished, and a failure that it reported is its own.
    """
    if end.report is not None and end.report.phase != RunPhase.RETRYING:
        return end.report
    if end.report is None and end.diagnosis is None:
        return Report(RunPhase.COMPLETED, "ExitedZero", "The process ended with exit code 0 and without a report.")
    return None


def look_again_s(facts: RunFacts) -> float:
    """A pod on a lost node never goes: look again when it is due."""
    pod = facts.pod
    if pod is None or pod.deletion_due_at is None:
        return facts.settings.lost_after_s
    return max(1.0, (pod.deletion_due_at - facts.now).total_seconds() + facts.settings.lost_after_s)
