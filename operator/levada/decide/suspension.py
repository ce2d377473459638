"""Suspension: spec.suspend stops a run without ending it.

Before its start the run waits as Paused. While it runs, its Job is suspended, whose controller ends the pod with SIGTERM; once
the pod has gone the run is Paused, holds no slot, and the attempt is on record as Suspended, which counts for no budget. With
suspend set back, it queues for a slot, and its next attempt goes on from the results that are stored.
"""

from datetime import datetime
from typing import Final

from levada.decide.attempt import End, conclude, conclude_retrying, find_end, stoppable_jobs, with_record
from levada.decide.cancellation import ended_by_itself, look_again_s
from levada.decide.diagnosis import Diagnosis
from levada.decide.facts import RunFacts, RunView
from levada.decide.plan import NORMAL, EventSpec, Plan, phase_status
from levada.resources.phases import RunPhase

SUSPENDED: Final = "Suspended"
SUSPENDING: Final = "Suspending"
WAITS: Final = "The run is suspended: set spec.suspend to false to let it go on."

_FOUND: Final = Diagnosis(SUSPENDED, "The run was suspended.", "", blame=None, retry=True, phase=RunPhase.PAUSED)


def is_suspending(run: RunView) -> bool:
    """Whether the attempt is to stop, or was told to: once it was, it stops also if suspend is taken back meanwhile."""
    return run.suspend or (run.phase == RunPhase.PAUSED and run.reason == SUSPENDING)


def suspend_attempt(facts: RunFacts) -> Plan:
    """The attempt on record is to stop, or has stopped."""
    end = find_end(facts)
    if end is None:
        return _stop(facts)
    if isinstance(end, float):
        # Over, but why is not in yet. If its pod was seen to go, it went because it was to stop.
        return _suspended(facts, facts.now) if facts.pod is not None else Plan(requeue_after_s=end)
    if facts.run.phase == RunPhase.RETRYING:
        return conclude_retrying(facts, end.at)
    if end.report is not None and end.report.phase == RunPhase.RETRYING:
        return conclude(facts, end)  # the flow had failed by itself
    report = ended_by_itself(end)
    return _suspended(facts, end.at) if report is None else conclude(facts, End(end.at, report=report))


def stay_suspended(facts: RunFacts) -> Plan:
    """Between two attempts there is nothing to stop but what an earlier operator has left."""
    run, stop = facts.run, stoppable_jobs(facts)
    if run.phase == RunPhase.PAUSED and run.reason == SUSPENDED:
        return Plan(stop_jobs=stop)
    return Plan(status=phase_status(run, RunPhase.PAUSED, SUSPENDED, WAITS, now=facts.now), stop_jobs=stop)


def _stop(facts: RunFacts) -> Plan:
    run, job = facts.run, facts.job
    if facts.pod is None and (job is None or job.suspended):
        return _suspended(facts, facts.now)
    status = None
    if (run.phase, run.reason) != (RunPhase.PAUSED, SUSPENDING):
        status = phase_status(run, RunPhase.PAUSED, SUSPENDING, "The run was asked to stop.", now=facts.now)
    return Plan(status=status, stop_jobs=stoppable_jobs(facts), requeue_after_s=look_again_s(facts))


def _suspended(facts: RunFacts, at: datetime) -> Plan:
    run = facts.run
    status = phase_status(run, RunPhase.PAUSED, SUSPENDED, WAITS, now=facts.now)
    status |= {"attempts": with_record(facts, _FOUND, at), "currentTask": None}
    event = EventSpec(NORMAL, SUSPENDED, f"Attempt {run.attempt} was stopped.", f"suspended-{run.attempt}")
    return Plan(status=status, stop_jobs=stoppable_jobs(facts), events=(event,))
