"""What to do about a run: the table of contents. Each line is a policy with a module of its own.

`decide_run` is total and pure: any facts give a plan, the same facts give the same plan. It may be called at any time and as
often as one likes; that is what makes a crash between two writes harmless.
"""

from dataclasses import replace
from typing import Final

from levada.decide import overrides, parameters, rerun, suspension
from levada.decide.admission import TurnedAway, Wait, admit, held_back, wait_for_earlier, wait_for_time
from levada.decide.announcements import long_wait
from levada.decide.attempt import (
    End,
    conclude,
    conclude_retrying,
    find_end,
    start,
    stoppable_jobs,
    watch,
    without,
)
from levada.decide.cancellation import cancel_under_way, cancelled, ended_by_itself
from levada.decide.facts import RunFacts
from levada.decide.plan import NOTHING, WARNING, EventSpec, Plan, clip, phase_status
from levada.decide.references import Problem, find_problem, is_judged, patience_left_s
from levada.decide.settle import settle
from levada.resources.phases import RunPhase, is_terminal

_OTHER_PARAMETERS: Final = Problem(
    "ParametersChanged",
    "The run's parameters were changed while it was suspended, and an attempt has run with others: create a new FlowRun.",
    patience=False,
)


def decide_run(facts: RunFacts) -> Plan:
    """The one decision about a run."""
    run = facts.run
    if run.deleting:
        return NOTHING  # owner references collect its Job and pod
    if is_terminal(run.phase):
        return settle(facts)
    if run.attempt == 0:
        return _not_started(facts)
    if run.concluded and (run.phase == RunPhase.RETRYING or run.parked):
        return _between_attempts(facts)
    return _under_way(facts)


def _not_started(facts: RunFacts) -> Plan:
    if facts.run.cancel:
        return cancelled(facts, "The run was cancelled before it started.")
    if facts.run.suspend:
        return _waiting(facts, Wait(RunPhase.PAUSED, suspension.SUSPENDED, suspension.WAITS))
    wait = wait_for_time(facts)
    if wait is not None:
        return _waiting(facts, wait)
    problem = find_problem(facts) or _name_taken(facts)
    if problem is not None:
        return _problem(facts, problem)
    if facts.flow is None or not is_judged(facts.flow):
        return NOTHING  # its reconcile is on the way, and wakes the runs that wait for it
    line = _line_up(facts)
    if line is not None:
        return line
    look = rerun.look_first(facts)
    if look is not None:
        return look
    problem = rerun.obstacle(facts)
    return _problem(facts, problem) if problem is not None else start(facts, 1)


def _line_up(facts: RunFacts) -> Plan | None:
    """What the limits say to a run that could start; None: it may."""
    behind = wait_for_earlier(facts)
    if behind is not None:
        return _waiting(facts, behind)
    answer = admit(facts)
    if answer is None:
        return None
    if isinstance(answer, TurnedAway):
        return Plan(status=phase_status(facts.run, answer.phase, answer.reason, answer.message, now=facts.now))
    return replace(_waiting(facts, answer), queued=True, cancel_runs=answer.replaces)


def _name_taken(facts: RunFacts) -> Problem | None:
    if facts.foreign_job is None:
        return None
    name = facts.foreign_job.name
    return Problem(
        "JobNameTaken",
        f"Job {name!r} belongs to somebody else, perhaps to a deleted FlowRun of this name: it must go first (`kubectl delete job {name}`).",
    )


def _waiting(facts: RunFacts, wait: Wait) -> Plan:
    run = facts.run
    if wait.silent and not run.phase:
        return Plan(requeue_after_s=wait.for_s)
    phase = wait.phase
    if phase == RunPhase.SCHEDULED and run.phase in {RunPhase.QUEUED, RunPhase.PAUSED}:
        phase = RunPhase.QUEUED  # there is no way back
    event, left_s = long_wait(facts, wait.message) if phase == RunPhase.QUEUED else (None, None)
    status = None
    if (run.phase, run.reason, run.message) != (phase, wait.reason, clip(wait.message)):
        status = phase_status(run, phase, wait.reason, wait.message, now=facts.now)
        if facts.deployment is not None:
            status["queue"] = facts.deployment.queue
    look_again = [seconds for seconds in (wait.for_s, left_s) if seconds is not None]
    return Plan(status=status, events=(event,) if event else (), requeue_after_s=min(look_again, default=None))


def _problem(facts: RunFacts, problem: Problem) -> Plan:
    left_s = patience_left_s(facts)
    if problem.patience and left_s > 0:
        return _waiting(facts, Wait(RunPhase.SCHEDULED, problem.reason, problem.message, for_s=left_s))
    if problem.look_up is not None and not facts.looked_up:
        return Plan(ask=problem.look_up)
    status = phase_status(facts.run, RunPhase.FAILED, problem.reason, problem.message, now=facts.now)
    return Plan(status=status)


def _between_attempts(facts: RunFacts) -> Plan:
    run = facts.run
    if run.cancel:
        return cancelled(facts, f"The run was cancelled after attempt {run.attempt}.")
    if run.suspend:
        return suspension.stay_suspended(facts)
    left_s = ((run.next_attempt_at or facts.now) - facts.now).total_seconds()
    stop = stoppable_jobs(facts)
    if stop or left_s > 0:
        return Plan(stop_jobs=stop, requeue_after_s=max(left_s, 0.0))  # never two attempts at a time
    if facts.deployment is None:
        return without(facts, "Deployment", run.deployment)
    if run.parameters_digest not in {"", parameters.digest(run.parameters)}:
        return _problem(facts, _OTHER_PARAMETERS)
    closed = overrides.problem(facts.deployment, run)
    if closed is not None:  # what was open at the first attempt
        return _problem(facts, Problem(*closed, patience=False))
    if run.parked:
        line = _line_up(facts)
        if line is not None:
            return line
    elif held_back(facts):
        return NOTHING
    if facts.foreign_job is not None:
        taken = _name_taken(facts)
        assert taken is not None
        event = EventSpec(WARNING, taken.reason, taken.message, f"taken-{run.attempt + 1}")
        return Plan(events=(event,), requeue_after_s=facts.settings.reference_grace_s)
    return start(facts, run.attempt + 1)


def _under_way(facts: RunFacts) -> Plan:
    run = facts.run
    cancelling = run.cancel or run.phase == RunPhase.CANCELLING
    if not cancelling and suspension.is_suspending(run):
        return suspension.suspend_attempt(facts)
    end = find_end(facts)
    if isinstance(end, float):
        # Over, but why is not in yet. To a run that was to stop it does not matter why its pod did.
        waits_for_cause = facts.pod is not None and cancelling
        return cancelled(facts, "The run was cancelled.") if waits_for_cause else Plan(requeue_after_s=end)
    if end is None:
        return cancel_under_way(facts) if cancelling else watch(facts)
    if cancelling:
        report = ended_by_itself(end)
        if report is None:
            return cancelled(facts, "The run was cancelled.", at=end.at)
        return conclude(facts, End(end.at, report=report))
    if run.phase == RunPhase.RETRYING:
        return conclude_retrying(facts, end.at)
    return conclude(facts, end)
