"""After the end: announce it once, and make sure that nothing of the run is left running.

A terminal run has no live pod and holds no slot. Most Jobs end by themselves; one that does not is suspended, at once if its
pod never started, after a grace if the runner has reported its end and only needs to leave.
"""

from dataclasses import replace
from datetime import timedelta

from levada.decide.attempt import stoppable_jobs
from levada.decide.facts import JobView, RunFacts
from levada.decide.plan import NORMAL, NOTHING, WARNING, EventSpec, Plan, clip
from levada.resources.phases import RunPhase

# Between the creation of a Job and the first sight of its pod.
_POD_SHOULD_SHOW_S = 5.0
_LOOK_AGAIN_S = 30.0


def settle(facts: RunFacts) -> Plan:
    """What is left to do about a run in a terminal phase."""
    plan = _stop_what_lives(facts)
    return plan if facts.announced else replace(plan, events=(final_event(facts), *plan.events), announced=True)


def final_event(facts: RunFacts) -> EventSpec:
    """The Event of the end. Its reason is the phase, so that one field selector finds all of a kind."""
    run = facts.run
    kind = NORMAL if run.phase in {RunPhase.COMPLETED, RunPhase.CANCELLED, RunPhase.SKIPPED} else WARNING
    words = f"{run.reason}: {run.message}" if run.reason and run.reason != run.phase else run.message or run.phase
    return EventSpec(kind, run.phase, clip(words), "end")


def _stop_what_lives(facts: RunFacts) -> Plan:
    living = [pod for pod in facts.pods if not pod.finished]
    candidates = [job for job in facts.jobs if job.name in stoppable_jobs(facts)]
    waits = {job.name: _grace_left_s(facts, job) for job in candidates}
    stop = tuple(name for name, wait_s in waits.items() if wait_s <= 0)
    if stop:
        return Plan(stop_jobs=stop, requeue_after_s=_LOOK_AGAIN_S)
    if waits:
        return Plan(requeue_after_s=min(waits.values()))
    if living:
        return Plan(
            requeue_after_s=_LOOK_AGAIN_S
        )  # it is on its way out: nothing to do, but worth a look until it has gone
    # While the controller has not closed the Job, its events would look like those of a run that nobody knows.
    return NOTHING if any(job.can_make_pods for job in facts.jobs) else Plan(forget=True)


def _grace_left_s(facts: RunFacts, job: JobView) -> float:
    """Seconds until the Job of a run that is over is stopped."""
    pod = next((pod for pod in facts.pods if pod.job == job.name and not pod.gone), None)
    if pod is None:
        until = job.created_at + timedelta(seconds=_POD_SHOULD_SHOW_S)
    elif pod.started_at is None:
        return 0.0
    else:
        until = (facts.run.completed_at or facts.now) + timedelta(seconds=facts.settings.terminal_grace_s)
    return (until - facts.now).total_seconds()
