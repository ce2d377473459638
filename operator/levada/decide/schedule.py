"""What to do about a Schedule: one step towards having decided each tick that is due. Repeat until nothing is left to do.

A step either makes the run of the first undecided tick, or puts on record what has become of it and of those that get no run. So
whatever crash comes between two writes, the only run that can exist without a record is that of the first tick after the cursor; it
has a name made from the tick, so making it again meets it (`AlreadyExists`), and before that tick is skipped the run is looked for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain, groupby, islice, pairwise, takewhile
from typing import Any, Final, Literal, NamedTuple

from levada.decide import catch_up, overlap
from levada.decide.definitions import ScheduleView
from levada.decide.facts import RunView
from levada.decide.plan import NORMAL, WARNING, EventSpec, sentence
from levada.decide.readiness import READY, Verdict, ready_patch
from levada.decide.references import ready_condition
from levada.decide.schedule_progress import Fate, Progress
from levada.decide.schedule_rule import jitter, lead_share
from levada.decide.templates import TemplateError
from levada.decide.tick_run import parameters_at, run_name, tick_run
from levada.decide.times import stamp

NEXT_RUNS: Final = 3
# A minutely schedule that was down for a year has half a million ticks: they are counted in pieces that take some milliseconds.
MAX_TICKS_A_LOOK: Final = 2000
# When hundreds of schedules tick at one instant, their runs are made in the seconds before it, each at a moment of its own; so at the instant
# itself only Jobs are to be made.
LEAD: Final = timedelta(seconds=3)
# And their records are written after it.
RECORD_AFTER: Final = timedelta(seconds=2)
# One `kubectl apply` of both may show us the Schedule first: no reason to cry.
APPLY_GRACE_S: Final = 3.0
# Timers go by another clock than ticks, which may be a second in a day off: far away, look again when a tenth of the way is left.
NEAR_S: Final = 60.0
SUSPENDED: Final = "Suspended"
NAME_TAKEN: Final = "NameTaken"
RUN_REFUSED: Final = "RunRefused"


class Answer(NamedTuple):
    """What the API server said when the run of a tick was looked for or created."""

    name: str
    kind: Literal["Absent", "Ours", "Foreign", "Refused"]
    message: str = ""


@dataclass(frozen=True, slots=True)
class ScheduleFacts:
    """Everything known about one Schedule at one moment.

    active: unfinished runs of this very Schedule (by uid).
    settled: no run exists that is not on record, unless it is among the active ones.
    answer: about the run of the first undecided tick, if the API server has been asked.
    """

    now: datetime
    schedule: ScheduleView
    active: tuple[RunView, ...] = ()
    deployment_found: bool = True
    settled: bool = True
    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class SchedulePlan:
    """What to do about one Schedule, in this order.

    look_up: get the FlowRun of this name and decide again with the answer; then there is nothing else in the plan.
    cancel: names of runs to cancel.
    create_run: the FlowRun to create. If it is there already, or refused, decide again with the answer; else look again after a moment.
    status: merge patch of .status, on condition that the Schedule is still the one that was looked at.
    due: when the pod of the run to create is due, if it is on time.
    """

    look_up: str = ""
    cancel: tuple[str, ...] = ()
    create_run: Mapping[str, Any] | None = None
    status: Mapping[str, Any] | None = None
    events: tuple[EventSpec, ...] = ()
    requeue_after_s: float | None = None
    due: datetime | None = None


class Opening(NamedTuple):
    """A tick; when its flow is to start, with the jitter; when its pod is; and when its run is made, a moment before."""

    tick: datetime
    due: datetime
    pod: datetime
    opens: datetime


def decide_schedule(facts: ScheduleFacts) -> SchedulePlan:
    """The one decision about a Schedule."""
    schedule = facts.schedule
    if schedule.deleting:
        return SchedulePlan()
    progress = Progress.of(schedule)
    until: datetime | None = None
    if progress.rule != schedule.rule:
        until = _edited_at(facts, progress)
        if not _any_left(progress, until):
            progress, until = progress.under(schedule.rule, until), None
    verdict = judge(facts)
    due, upcoming = _line(facts, progress, until)
    if due:
        plan = _decide_first(facts, progress, due, verdict)
    elif until is None and _may_be_applied_with(facts, verdict):
        return SchedulePlan(requeue_after_s=APPLY_GRACE_S)
    else:
        plan = _on_record(facts, progress, verdict, after=until or progress.decided_until)
    if plan.look_up:
        return plan
    if len(due) > 1 or (due and until is not None):
        plan = replace(plan, requeue_after_s=0.0)
    elif upcoming is not None:
        plan = replace(plan, requeue_after_s=_patience_s((upcoming.opens - facts.now).total_seconds()))
    if plan.create_run is not None:
        soon_s = _record_after_s(facts, due[0])
        later_s = plan.requeue_after_s
        plan = replace(plan, requeue_after_s=soon_s if later_s is None else min(soon_s, later_s))
    return replace(plan, cancel=(*plan.cancel, *_withdrawn(facts)))


def judge(facts: ScheduleFacts) -> Verdict:
    """Whether the Schedule starts runs, and if not, why."""
    schedule = facts.schedule
    problem = schedule.rule.problem()
    if problem:
        return Verdict(ok=False, reason="InvalidSchedule", message=sentence(problem))
    if not facts.deployment_found:
        return Verdict(
            ok=False,
            reason="DeploymentNotFound",
            message=f"There is no Deployment {schedule.deployment!r} in namespace {schedule.namespace!r}: `kubectl get fdep` lists those there are. Until there is, ticks are skipped.",
        )
    try:
        parameters_at(schedule, facts.now)
    except TemplateError as error:
        return Verdict(
            ok=False,
            reason="InvalidTemplate",
            message=f"A template in the parameters means nothing. {sentence(str(error))}",
        )
    if schedule.suspended:
        return Verdict(ok=True, reason=SUSPENDED, message="Starts no runs: spec.suspend is true.")
    if next(schedule.rule.ticks(facts.now), None) is None:
        return Verdict(ok=True, reason="Ended", message="There are no more ticks.")
    return READY


# --- which ticks are to be decided about ---------------------------------------------------------------------------------


def _edited_at(facts: ScheduleFacts, progress: Progress) -> datetime:
    """Since when the rule is another: ticks of the old one up to then, and of the new one after it, are to be decided about.

    A cursor in the future (a run was made early, or the clock has been set back) is of the old rule only.
    """
    edited = min(facts.schedule.edited_at or facts.now, facts.now)
    return max(edited, progress.decided_until) if progress.decided_until <= facts.now else edited


def _any_left(progress: Progress, until: datetime) -> bool:
    tick = next(progress.rule.ticks(progress.decided_until), None)
    return tick is not None and tick <= until


def _line(facts: ScheduleFacts, progress: Progress, until: datetime | None) -> tuple[list[Opening], Opening | None]:
    """The undecided ticks whose time has come, and the first that is still to come."""
    due: list[Opening] = []
    for opening in _openings(facts, progress, until):
        if opening.opens > facts.now or len(due) == MAX_TICKS_A_LOOK:
            return due, opening
        due.append(opening)
    return due, None


def _openings(facts: ScheduleFacts, progress: Progress, until: datetime | None) -> Iterator[Opening]:
    """The undecided ticks in order; with `until`, those up to then."""
    schedule = facts.schedule
    ticks = progress.rule.ticks(progress.decided_until)
    if until is not None:
        ticks = takewhile(lambda tick: tick <= until, ticks)
    lead = LEAD * lead_share(schedule.uid)
    for tick, following in pairwise(chain(ticks, (None,))):
        assert tick is not None
        due = tick
        if schedule.jitter_s:
            due += jitter(schedule.uid, tick, schedule.jitter_s, following - tick if following is not None else None)
        if due > facts.now and _may_be_early(facts, tick):
            pod = due - timedelta(seconds=schedule.prestart_s)
            yield Opening(tick, due, pod, pod - lead)
        else:
            yield Opening(tick, due, due, due)


def _may_be_early(facts: ScheduleFacts, tick: datetime) -> bool:
    """A run is made early only if nothing has to be decided at the tick itself."""
    return facts.schedule.policy == "Allow" or not overlap.earlier(facts.active, tick)


def _patience_s(left_s: float) -> float:
    return left_s if left_s <= NEAR_S else left_s - max(NEAR_S / 2, left_s / 10)


def _record_after_s(facts: ScheduleFacts, opening: Opening) -> float:
    """When a run that has just been made is put on record: nothing waits for it, so not while others are being started."""
    at = opening.pod + RECORD_AFTER + LEAD * lead_share(facts.schedule.uid)
    return max(0.0, (at - facts.now).total_seconds())


def _withdrawn(facts: ScheduleFacts) -> tuple[str, ...]:
    """Runs made early whose tick is none any more: the Schedule was suspended or has another rule now."""
    schedule = facts.schedule
    waiting = (run for run in facts.active if run.due_at > facts.now and not run.cancel)
    return tuple(
        run.name
        for run in waiting
        if schedule.suspended or (run.scheduled_at is not None and not schedule.rule.has(run.scheduled_at))
    )


# --- what becomes of them --------------------------------------------------------------------------------------------------


def _decide_first(facts: ScheduleFacts, progress: Progress, due: list[Opening], verdict: Verdict) -> SchedulePlan:
    """The first undecided tick gets its run, or it and those after it that get none are put on record."""
    schedule, first = facts.schedule, due[0]
    after = facts.now if len(due) == MAX_TICKS_A_LOOK else due[-1].tick
    if progress.has_run_for(first.tick):
        return _on_record(facts, progress.passed(first.tick), verdict, after=after)
    name = run_name(schedule.name, first.tick)
    answer = facts.answer if facts.answer is not None and facts.answer.name == name else None
    if (answer is not None and answer.kind == "Ours") or any(run.name == name for run in facts.active):
        return _on_record(facts, progress, verdict, Fate(first.tick, run=name, reason=_late(facts, first)), after=after)
    fates = list(_skips(facts, due, verdict, answer))
    if not fates:
        return _start(facts, first)
    if not facts.settled and answer is None:
        return SchedulePlan(look_up=name)
    return _on_record(facts, progress, verdict, *fates, after=after)


def _late(facts: ScheduleFacts, opening: Opening) -> str:
    return "CaughtUp" if (facts.now - opening.due).total_seconds() > catch_up.ON_TIME_S else ""


def _skips(facts: ScheduleFacts, due: list[Opening], verdict: Verdict, answer: Answer | None) -> Iterator[Fate]:
    """The fates of the ticks at the head of the line that get no run; those in a row for one reason are one."""
    # In a full line nobody knows how many come after it; the reasons ask for at most so many.
    known = len(due) - facts.schedule.max_catch_up - 1 if len(due) == MAX_TICKS_A_LOOK else len(due)
    reasons = (
        _skip_reason(facts, opening, len(due) - 1 - index, verdict, answer if index == 0 else None)
        for index, opening in enumerate(due[:known])
    )
    at = 0
    for reason, group in groupby(takewhile(bool, reasons)):
        count = sum(1 for _ in group)
        yield Fate(due[at].tick, reason=reason, until=due[at + count - 1].tick, count=count)
        at += count


def _skip_reason(
    facts: ScheduleFacts, opening: Opening, followers: int, verdict: Verdict, answer: Answer | None
) -> str:
    schedule = facts.schedule
    if schedule.suspended:
        return SUSPENDED
    if not verdict.ok:
        return verdict.reason
    late = catch_up.skip_reason(schedule, opening.due, followers, facts.now)
    if late:
        return late
    if answer is not None and answer.kind in {"Foreign", "Refused"}:
        return NAME_TAKEN if answer.kind == "Foreign" else RUN_REFUSED
    if schedule.policy == "Forbid" and overlap.earlier(facts.active, opening.tick):
        return overlap.STILL_RUNNING
    return ""


def _start(facts: ScheduleFacts, opening: Opening) -> SchedulePlan:
    """Make the run. The next look finds it and puts it on record: when many ticks fall on one moment, all runs are made first."""
    schedule = facts.schedule
    run = tick_run(
        schedule,
        opening.tick,
        delay_s=(opening.due - opening.tick).total_seconds(),
        prestart_s=schedule.prestart_s if opening.due > facts.now else 0,
    )
    cancel = overlap.to_cancel(schedule.policy, overlap.earlier(facts.active, opening.tick))
    return SchedulePlan(cancel=cancel, create_run=run, due=None if _late(facts, opening) else opening.pod)


def _on_record(
    facts: ScheduleFacts, progress: Progress, verdict: Verdict, *fates: Fate, after: datetime
) -> SchedulePlan:
    """The status with these fates. `after`: the next runs are those after it."""
    schedule = facts.schedule
    for fate in fates:
        progress = progress.with_fate(fate)
    extra = progress.status(schedule.status)
    upcoming = [] if schedule.suspended else list(islice(schedule.rule.ticks(after), NEXT_RUNS))
    extra["nextRuns"] = [stamp(tick) for tick in upcoming]
    if not upcoming and not schedule.status.get("nextRuns"):
        del extra["nextRuns"]
    status, events = ready_patch(
        verdict, status=schedule.status, generation=schedule.generation, now=facts.now, extra=extra
    )
    told = tuple(event for fate in fates if (event := _event(facts, fate)) is not None)
    return SchedulePlan(status=status, events=(*events, *told))


_TOLD: Final = {
    catch_up.DEADLINE_EXCEEDED: "because startingDeadlineSeconds had passed when the operator could look",
    catch_up.MISSED: "because nobody was there; see catchUp",
    catch_up.CATCH_UP_LIMIT: "because maxCatchUp later ones are run",
    overlap.STILL_RUNNING: "because the run of an earlier tick still goes on; see concurrencyPolicy",
    NAME_TAKEN: "because a FlowRun that is none of this Schedule has the name of its run",
    RUN_REFUSED: "because the API server refuses its FlowRun",
}


def _event(facts: ScheduleFacts, fate: Fate) -> EventSpec | None:
    """What a person would want to be told. The rest is in the ledger."""
    why = _TOLD.get(fate.reason)
    if fate.run or why is None:
        return None
    what = (
        f"The tick {stamp(fate.tick)} was"
        if fate.count == 1
        else f"{fate.count} ticks from {stamp(fate.tick)} to {stamp(fate.last)} were"
    )
    more = f": {facts.answer.message}" if fate.reason == RUN_REFUSED and facts.answer is not None else ""
    kind = NORMAL if fate.reason == overlap.STILL_RUNNING else WARNING
    return EventSpec(kind, fate.reason, f"{what} skipped {why}{more}.", f"tick-{int(fate.tick.timestamp())}")


def _may_be_applied_with(facts: ScheduleFacts, verdict: Verdict) -> bool:
    """Whether the Deployment may be the next line of the same `kubectl apply`."""
    age_s = (facts.now - facts.schedule.created_at).total_seconds()
    young = 0 <= age_s < APPLY_GRACE_S
    return verdict.reason == "DeploymentNotFound" and young and ready_condition(facts.schedule.status) is None
