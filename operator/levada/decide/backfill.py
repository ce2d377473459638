"""What to do about a Backfill: make the plan once, then keep `maxActive` runs going until every tick has its end.

The plan (which ticks, which of them have a run already) is written before the first run is made, and the rule with it. A run's name
comes from its tick, so making it again after a crash meets it: `AlreadyExists` is looked at, and counts if it is ours. Runs are created
first and put on record after: whatever was not put on record is found that way, never made twice.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from levada.decide.backfill_ticks import UNDER_WAY, Fate, Fates, fate_of, ticks_between
from levada.decide.definitions import BackfillView, ScheduleView
from levada.decide.plan import NORMAL, WARNING, ConditionSpec, EventSpec, clip, sentence
from levada.decide.readiness import READY, Verdict, ready_patch
from levada.decide.schedule_rule import Rule
from levada.decide.templates import TemplateError, render
from levada.decide.tick_run import parameters_at, run_name, tick_of
from levada.decide.times import stamp
from levada.resources import names
from levada.resources.kinds import FLOW_RUNS
from levada.resources.names import MAX_BACKFILL_TICKS
from levada.resources.phases import RunPhase, is_terminal

# A reference that is missing may come, and nobody tells us when it does.
PROBLEM_LOOK_S: Final = 10.0
ACTIVE_LOOK_S: Final = 60.0
# So many runs are created before what became of them is put on record.
MAX_CREATED_A_LOOK: Final = 20
_FAILED: Final = frozenset({RunPhase.FAILED, RunPhase.CRASHED, RunPhase.TIMED_OUT, RunPhase.CANCELLED})
ENDED: Final = frozenset({"Completed", "Failed", "Cancelled"})


class Answer(NamedTuple):
    """What the API server said of the run of a tick. `phase` where there is a run."""

    kind: Literal["Ours", "Foreign", "Absent", "Refused"]
    phase: str = ""
    message: str = ""


class Existing(NamedTuple):
    """A run that a tick has already. No phase: nobody has looked at it yet."""

    name: str
    phase: str


@dataclass(frozen=True, slots=True)
class BackfillFacts:
    """Everything known about one Backfill at one moment.

    active: unfinished runs of this very Backfill (by uid), by name.
    existing: the newest run of the Deployment for each tick, whoever made it. None: not looked for yet.
    archived: ticks that have a run in the archive.
    archive_problem: why the archive could not be read.
    ended: runs of this Backfill that have ended since the last look, by name.
    answers: what the API server said about runs of this Backfill, by name.
    """

    now: datetime
    backfill: BackfillView
    schedule: ScheduleView | None = None
    deployment_found: bool = True
    active: frozenset[str] = frozenset()
    existing: Mapping[datetime, Existing] | None = None
    archived: frozenset[datetime] = frozenset()
    archive_problem: str = ""
    ended: Mapping[str, Answer] = field(default_factory=dict)
    answers: Mapping[str, Answer] = field(default_factory=dict)

    def said_of(self, run: str) -> Answer | None:
        """What is known of a run that is not under way."""
        return self.answers.get(run) or self.ended.get(run)


@dataclass(frozen=True, slots=True)
class BackfillPlan:
    """What to do about one Backfill, in this order.

    find_existing: look for the runs that the ticks have already and decide again.
    look_up: get these FlowRuns and decide again with the answers.
    create: FlowRuns to create; decide again with the answers.
    cancel: names of runs to cancel.
    status: merge patch of .status, on condition that the Backfill is still the one that was looked at.
    """

    find_existing: bool = False
    look_up: tuple[str, ...] = ()
    create: tuple[Mapping[str, Any], ...] = ()
    cancel: tuple[str, ...] = ()
    status: Mapping[str, Any] | None = None
    events: tuple[EventSpec, ...] = ()
    requeue_after_s: float | None = None


def decide_backfill(facts: BackfillFacts) -> BackfillPlan:
    """The one decision about a Backfill."""
    backfill = facts.backfill
    if backfill.deleting or backfill.status.get("phase") in ENDED:
        return BackfillPlan()
    if not backfill.status.get("fates") or backfill.status.get("phase") == "Planned":
        return _make_plan(facts)
    return _go_on(facts)


# --- the plan ----------------------------------------------------------------------------------------------------------


def judge(facts: BackfillFacts) -> Verdict:
    """Whether runs can be started, and if not, why."""
    backfill, schedule = facts.backfill, facts.schedule
    if not facts.deployment_found:
        return Verdict(
            ok=False,
            reason="DeploymentNotFound",
            message=f"There is no Deployment {backfill.deployment!r} in namespace {backfill.namespace!r}: `kubectl get fdep` lists those there are.",
        )
    if backfill.schedule and schedule is None:
        return Verdict(
            ok=False,
            reason="ScheduleNotFound",
            message=f"There is no Schedule {backfill.schedule!r} in namespace {backfill.namespace!r}: `kubectl get fsched` lists those there are.",
        )
    if schedule is not None and schedule.deployment != backfill.deployment:
        return Verdict(
            ok=False,
            reason="ScheduleOfAnotherDeployment",
            message=f"Schedule {schedule.name!r} starts runs of Deployment {schedule.deployment!r}, not of {backfill.deployment!r}.",
        )
    problem = rule_of(facts).problem()
    if problem:
        return Verdict(ok=False, reason="InvalidSchedule", message=sentence(problem))
    try:
        _parameters(facts, backfill.start_at)
    except TemplateError as error:
        return Verdict(
            ok=False,
            reason="InvalidTemplate",
            message=f"A template in the parameters means nothing. {sentence(str(error))}",
        )
    return READY


def rule_of(facts: BackfillFacts) -> Rule:
    """The rule of the ticks: as the plan has it, else the Schedule's, else the Backfill's own. The window is the Backfill's."""
    kept = facts.backfill.status.get("rule")
    if kept and facts.backfill.status.get("phase") != "Planned":
        return Rule.of(kept)
    rule = facts.schedule.rule if facts.schedule is not None else facts.backfill.rule
    end = min(facts.backfill.end_at, facts.backfill.created_at)
    return replace(rule, start_time=stamp(facts.backfill.start_at), end_time=stamp(end))


def _ticks(facts: BackfillFacts) -> tuple[datetime, ...]:
    return ticks_between(rule_of(facts), facts.backfill.start_at, facts.backfill.end_at, MAX_BACKFILL_TICKS)


def _make_plan(facts: BackfillFacts) -> BackfillPlan:
    """Which ticks there are, and which of them have a run. A dry run ends here, until it is one no more."""
    backfill = facts.backfill
    verdict = judge(facts)
    if backfill.cancel:
        return _written(facts, READY, Fates(""), None, "Cancelled")
    ticks = _ticks(facts) if verdict.ok else ()
    verdict = _too_much(facts, ticks) or verdict
    if not verdict.ok:
        return replace(_written(facts, verdict, None, None, "Pending"), requeue_after_s=PROBLEM_LOOK_S)
    if facts.existing is None and ticks:
        return BackfillPlan(find_existing=True)
    fates = Fates(_first_fate(facts, tick) for tick in ticks)
    phase = "Planned" if backfill.dry_run else "Paused" if backfill.paused else "Running"
    if fates.over:
        phase = "Completed"
    return replace(_written(facts, READY, fates, ticks, phase), requeue_after_s=0.0 if phase == "Running" else None)


def _too_much(facts: BackfillFacts, ticks: Sequence[datetime]) -> Verdict | None:
    """Why no plan can be made, though the order is a sensible one."""
    if len(ticks) > MAX_BACKFILL_TICKS:
        message = f"The window has more than {MAX_BACKFILL_TICKS} ticks: make several Backfills of shorter windows."
        return Verdict(ok=False, reason="TooManyTicks", message=message)
    if facts.archive_problem:
        message = f"The archive cannot be read, so nobody knows which ticks have a run: {facts.archive_problem}"
        return Verdict(ok=False, reason="ArchiveUnreadable", message=message)
    return None


def _first_fate(facts: BackfillFacts, tick: datetime) -> Fate:
    """What is to become of a tick, from the run that it may have."""
    reprocess, existing = facts.backfill.reprocess, (facts.existing or {}).get(tick)
    if existing is None:
        if tick not in facts.archived:
            return Fate.WAITING
        # It has left the cluster, so its name is free, and there is nothing to repeat it from.
        return Fate.WAITING if reprocess == "Completed" else Fate.PRESENT
    if not is_terminal(existing.phase):
        return Fate.PRESENT
    wanted = reprocess == "Completed" or (reprocess == "Failed" and existing.phase in _FAILED)
    return Fate.REPEAT if wanted else Fate.PRESENT


def plain_name(facts: BackfillFacts, tick: datetime) -> str:
    """The name of the first run of a tick. The Schedule would call it so, too: only one of the two can make it."""
    return run_name(facts.backfill.schedule or facts.backfill.name, tick)


# --- going on ----------------------------------------------------------------------------------------------------------


def _go_on(facts: BackfillFacts) -> BackfillPlan:
    backfill, status = facts.backfill, facts.backfill.status
    ticks = _ticks(facts)
    fates = Fates(status["fates"])
    verdict = judge(facts)
    missing = _settle_active(facts, fates, ticks)
    events = _take_answers(facts, fates, ticks)
    if missing:
        return BackfillPlan(look_up=missing)
    if backfill.cancel:
        fates.drop_waiting()
    cancel = tuple(sorted(facts.active)) if backfill.cancel else ()
    create: tuple[Mapping[str, Any], ...] = ()
    if verdict.ok and not backfill.paused and not backfill.cancel and not facts.answers:
        room = min(MAX_CREATED_A_LOOK, backfill.max_active - len(fates.having(UNDER_WAY)))
        chosen = list(islice(fates.waiting(reverse=backfill.reverse), max(0, room)))
        if facts.existing is None and any(fates[index] is Fate.REPEAT for index in chosen):
            return BackfillPlan(find_existing=True)
        create = tuple(_run(facts, ticks[index], fates[index]) for index in chosen)
    plan = _written(facts, verdict, fates, ticks, _phase(backfill, fates))
    more = facts.answers and any(True for _ in fates.waiting(reverse=False)) and not backfill.paused and verdict.ok
    again_s = 0.0 if more and len(fates.having(UNDER_WAY)) < backfill.max_active else None
    if again_s is None and not fates.over:
        again_s = ACTIVE_LOOK_S if verdict.ok else PROBLEM_LOOK_S
    return replace(plan, create=create, cancel=cancel, events=(*plan.events, *events), requeue_after_s=again_s)


def _settle_active(facts: BackfillFacts, fates: Fates, ticks: Sequence[datetime]) -> tuple[str, ...]:
    """Note the ends of runs that were under way; returns those of which nothing is known."""
    missing = []
    for index in fates.having(UNDER_WAY):
        name = _own_name(facts, ticks[index], fates[index])
        answer = facts.said_of(name)
        if answer is not None:
            ours = answer.kind == "Ours"
            fates[index] = fate_of(answer.phase, repeat=fates[index] is Fate.REPEATING) if ours else Fate.LOST
        elif name not in facts.active:
            missing.append(name)
    return tuple(missing)


def _take_answers(facts: BackfillFacts, fates: Fates, ticks: Sequence[datetime]) -> tuple[EventSpec, ...]:
    """Put on record what became of the runs that were to be created."""
    events = []
    for index in _talked_of(facts, ticks):
        if fates[index] not in {Fate.WAITING, Fate.REPEAT}:
            continue
        name, repeat = _own_name(facts, ticks[index], fates[index]), fates[index] is Fate.REPEAT
        answer = facts.said_of(name)
        if answer is None:
            if name in facts.active:
                fates[index] = fate_of("", repeat=repeat)
        elif answer.kind == "Ours":
            fates[index] = fate_of(answer.phase, repeat=repeat)
        elif answer.kind == "Foreign" and not repeat:
            fates[index] = Fate.PRESENT  # somebody was faster: the schedule, or a person
        elif answer.kind != "Absent":  # then it was there and has gone: its name is free, and the next look makes it
            fates[index] = Fate.REFUSED
            why = answer.message or "another FlowRun has its name"
            events.append(EventSpec(WARNING, "RunRefused", clip(f"No run {name}: {why}"), f"refused-{index}"))
    return tuple(events)


def _talked_of(facts: BackfillFacts, ticks: Sequence[datetime]) -> list[int]:
    """The ticks of whose runs something is known, in the order of time. Their names tell, so the thousands of others cost nothing."""
    named = map(tick_of, {*facts.answers, *facts.ended, *facts.active})
    found = {bisect_left(ticks, tick) for tick in named if tick is not None}
    return sorted(index for index in found if index < len(ticks))


def _phase(backfill: BackfillView, fates: Fates) -> str:
    counts = fates.counts()
    if fates.over:
        if backfill.cancel:
            return "Cancelled"
        return "Failed" if counts["failed"] or counts["cancelled"] else "Completed"
    if backfill.cancel:
        return "Cancelling"
    return "Paused" if backfill.paused else "Running"


def _written(
    facts: BackfillFacts, verdict: Verdict, fates: Fates | None, ticks: Sequence[datetime] | None, phase: str
) -> BackfillPlan:
    """The status, and the Event of an end."""
    backfill = facts.backfill
    message = _message(verdict, fates, phase)
    extra: dict[str, Any] = {"phase": phase, "message": clip(message)}
    if fates is not None:
        counts = fates.counts()
        done = counts["succeeded"] + counts["failed"] + counts["cancelled"]
        extra |= {"fates": str(fates), **counts, "progress": f"{done}/{counts['toRun']}"}
    if ticks:
        extra |= {"rule": rule_of(facts).fields(), "firstTick": stamp(ticks[0]), "lastTick": stamp(ticks[-1])}
    if phase in ENDED:
        extra["completionTime"] = stamp(facts.now)
    outcome = {"Completed": "True", "Failed": "False", "Cancelled": "False"}.get(phase, "Unknown")
    status, events = ready_patch(
        verdict, status=_without_nulls(backfill.status, extra), generation=backfill.generation, now=facts.now, extra=extra,
        more=(ConditionSpec("Succeeded", outcome, phase, message),),
    )  # fmt: skip
    told = tuple(event for event in events if not event.discriminator.startswith("succeeded-"))
    if phase in ENDED:
        kind = NORMAL if phase == "Completed" else WARNING
        told += (EventSpec(kind, phase, clip(message), "end"),)
    return BackfillPlan(status=status, events=told)


def _without_nulls(status: Mapping[str, Any], extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """The status with the rule as a patch spells it, so that an unchanged one is seen as unchanged."""
    if status.get("rule") and "rule" in extra:
        return {**status, "rule": Rule.of(status["rule"]).fields()}
    return status


def _message(verdict: Verdict, fates: Fates | None, phase: str) -> str:
    if not verdict.ok:
        return verdict.message
    if fates is None or not len(fates):
        return "Cancelled before it was planned." if phase == "Cancelled" else "The window has no tick."
    counts = fates.counts()
    there = f", {counts['present']} have a run already" if counts["present"] else ""
    if phase == "Planned":
        return (
            f"Dry run: {counts['toRun']} of {counts['total']} ticks would be run{there}. Set dryRun to false to start."
        )
    parts = [f"{counts['succeeded']} of {counts['toRun']} runs succeeded"]
    parts += [f"{counts[kind]} {kind}" for kind in ("failed", "cancelled", "active") if counts[kind]]
    return ", ".join(parts) + there + "."


# --- a run -------------------------------------------------------------------------------------------------------------


def _own_name(facts: BackfillFacts, tick: datetime, fate: Fate) -> str:
    """The name of this Backfill's run for a tick. A repetition is not called as what it repeats."""
    if fate in {Fate.REPEAT, Fate.REPEATING}:
        return run_name(f"{facts.backfill.name}-again", tick)
    return plain_name(facts, tick)


def _parameters(facts: BackfillFacts, tick: datetime) -> dict[str, Any]:
    backfill, schedule = facts.backfill, facts.schedule
    context = {
        "scheduled_time": tick.astimezone(ZoneInfo(rule_of(facts).time_zone)),
        "run_name": plain_name(facts, tick),
        "schedule": backfill.schedule,
        "deployment": backfill.deployment,
        "namespace": backfill.namespace,
    }
    own = render(backfill.parameters, context)
    return {**parameters_at(schedule, tick), **own} if schedule is not None else own


def _run(facts: BackfillFacts, tick: datetime, fate: Fate) -> dict[str, Any]:
    backfill = facts.backfill
    spec: dict[str, Any] = {"deploymentRef": {"name": backfill.deployment}, "scheduledTime": stamp(tick)}
    parameters = _parameters(facts, tick)
    if parameters:
        spec["parameters"] = parameters
    existing = (facts.existing or {}).get(tick)
    if fate is Fate.REPEAT and existing is not None:  # it may have left meanwhile: then the tick is run anew
        spec["retryOf"] = existing.name
        if backfill.reprocess == "Completed":
            spec["fromScratch"] = True
    labels = {names.LABEL_BACKFILL: backfill.name, names.LABEL_MANAGED_BY: names.MANAGED_BY}
    if backfill.schedule:
        labels[names.LABEL_SCHEDULE] = backfill.schedule
    return {
        "apiVersion": names.API_VERSION,
        "kind": FLOW_RUNS.kind,
        "metadata": {
            "name": _own_name(facts, tick, fate),
            "namespace": backfill.namespace,
            "labels": labels,
            "annotations": {names.ANNOTATION_BACKFILL_UID: backfill.uid},
        },
        "spec": spec,
    }
