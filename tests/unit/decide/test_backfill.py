"""A Backfill: the plan, the runs, the end; and a whole life against a small cluster, with crashes between any two writes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levada.decide import backfill as backfill_module
from levada.decide.backfill import Answer, BackfillFacts, Existing, decide_backfill
from levada.decide.backfill_ticks import ticks_between
from levada.decide.definitions import BackfillView, ScheduleView
from levada.decide.schedule_rule import Rule
from levada.resources.phases import is_terminal

T0 = datetime(2026, 3, 10, tzinfo=UTC)
RULE = Rule(cron="0 6 * * *")


def a_schedule(**fields):
    return ScheduleView(**{
        "namespace": "ns", "name": "nightly", "uid": "schedule-uid", "resource_version": "1", "generation": 1, "created_at": T0,
        "deployment": "d", "rule": RULE, "parameters": {"day": "{{ scheduled_time | date }}"}, **fields,
    })  # fmt: skip


def a_backfill(**fields):
    return BackfillView(**{
        "namespace": "ns", "name": "march", "uid": "backfill-uid", "resource_version": "1", "generation": 1, "created_at": T0,
        "deployment": "d", "rule": Rule(), "schedule": "nightly", "start_at": T0 - timedelta(days=5), "end_at": T0, **fields,
    })  # fmt: skip


def facts(backfill=None, **fields):
    given = {"now": T0, "backfill": backfill or a_backfill(), "schedule": a_schedule(), **fields}
    return BackfillFacts(**given)


def planned(existing=None, **fields):
    """A backfill of the five ticks of 5 to 9 March whose plan is written."""
    first = decide_backfill(facts(a_backfill(**fields), existing=existing or {}))
    return a_backfill(**fields, status=dict(first.status))


def ready(plan):
    return next(item for item in plan.status["conditions"] if item["type"] == "Ready")


def there(**phases):
    """Existing runs by the day: there(day_6="Failed")."""
    days = {int(key.removeprefix("day_")): phase for key, phase in phases.items()}
    return {tick(day): Existing(name(day), phase) for day, phase in days.items()}


def tick(day):
    return datetime(2026, 3, day, 6, tzinfo=UTC)


def name(day):
    return f"nightly-202603{day:02d}t060000z"


def test_first_it_finds_out_which_ticks_have_a_run():
    assert decide_backfill(facts()).find_existing


@pytest.mark.parametrize(
    ("reprocess", "existing", "archived", "fates"),
    [
        ("None", {}, (), "....."),
        ("None", there(day_6="Completed", day_7="Failed"), (), ".==.."),
        ("Failed", there(day_6="Completed", day_7="Failed"), (), ".=r.."),
        ("Failed", there(day_6="Crashed", day_7="TimedOut", day_8="Cancelled", day_9="Skipped"), (), ".rrr="),
        ("Completed", there(day_6="Completed", day_7="Failed"), (), ".rr.."),
        ("Completed", there(day_6="Running", day_7=""), (), ".==.."),
        ("None", {}, (tick(5), tick(9)), "=...="),
        ("Failed", {}, (tick(5),), "=...."),
        ("Completed", {}, (tick(5),), "....."),
    ],
)
def test_the_plan_leaves_or_repeats_what_is_there(reprocess, existing, archived, fates):
    plan = decide_backfill(facts(a_backfill(reprocess=reprocess), existing=existing, archived=frozenset(archived)))
    assert plan.status["fates"] == fates
    assert (plan.status["total"], plan.status["present"]) == (5, fates.count("="))
    assert plan.status["firstTick"] == "2026-03-05T06:00:00.000Z"
    assert plan.create == (), "the plan is written before the first run is made"


def test_a_dry_run_plans_and_waits():
    plan = decide_backfill(facts(a_backfill(dry_run=True), existing=there(day_6="Completed")))
    assert (plan.status["phase"], plan.status["toRun"], plan.requeue_after_s) == ("Planned", 4, None)
    assert plan.status["message"].startswith("Dry run: 4 of 5 ticks would be run, 1 have a run already.")


def test_a_dry_run_that_may_start_is_planned_anew():
    old = decide_backfill(facts(a_backfill(dry_run=True), existing={})).status
    plan = decide_backfill(facts(a_backfill(status=old), existing=there(day_6="Running")))
    assert (plan.status["phase"], plan.status["fates"]) == ("Running", ".=...")


def test_what_has_ended_is_left_alone():
    for phase in ("Completed", "Failed", "Cancelled"):
        assert decide_backfill(facts(a_backfill(status={"phase": phase, "fates": "a...."}))) == decide_backfill(
            facts(a_backfill(deleting=True))
        )


def test_runs_are_made_up_to_the_limit_oldest_first():
    plan = decide_backfill(facts(planned(max_active=2)))
    assert [run["metadata"]["name"] for run in plan.create] == [name(5), name(6)]
    run = plan.create[0]
    assert run["spec"] == {
        "deploymentRef": {"name": "d"}, "scheduledTime": "2026-03-05T06:00:00.000Z", "parameters": {"day": "2026-03-05"},
    }  # fmt: skip
    assert run["metadata"]["labels"]["levada.dev/backfill"] == "march"
    assert run["metadata"]["annotations"] == {"levada.dev/backfill-uid": "backfill-uid"}


def test_in_reverse_the_newest_comes_first():
    plan = decide_backfill(facts(planned(max_active=2, reverse=True)))
    assert [run["metadata"]["name"] for run in plan.create] == [name(9), name(8)]


def test_its_own_parameters_lie_over_those_of_the_schedule():
    plan = decide_backfill(facts(planned(parameters={"day": "x", "of": "{{ scheduled_time | format('%d') }}"})))
    assert plan.create[0]["spec"]["parameters"] == {"day": "x", "of": "05"}


def test_a_rule_of_its_own_needs_no_schedule():
    own = a_backfill(schedule="", rule=Rule(interval_seconds=86_400, anchor="2026-01-01T06:00:00Z"), name="b")
    plan = decide_backfill(facts(own, schedule=None, existing={}))
    assert plan.status["fates"] == "....."
    plan = decide_backfill(facts(replace(own, status=plan.status), schedule=None))
    assert plan.create[0]["metadata"]["name"] == "b-20260305t060000z"


def test_a_repetition_has_a_name_of_its_own_and_names_what_it_repeats():
    for reprocess, phase, from_scratch in (("Failed", "Failed", None), ("Completed", "Completed", True)):
        backfill = planned(reprocess=reprocess, existing=there(day_5=phase))
        assert decide_backfill(facts(backfill)).find_existing, "a repetition names the newest run of its tick"
        (run, *_) = decide_backfill(facts(backfill, existing=there(day_5=phase))).create
        assert run["metadata"]["name"] == "march-again-20260305t060000z"
        assert (run["spec"]["retryOf"], run["spec"].get("fromScratch")) == (name(5), from_scratch)


def test_ticks_that_are_still_to_come_are_not_in_it():
    plan = decide_backfill(facts(a_backfill(end_at=T0 + timedelta(days=5)), existing={}))
    assert plan.status["total"] == 5


@pytest.mark.parametrize(
    ("case", "changes", "reason"),
    [
        ("no deployment", {"deployment_found": False}, "DeploymentNotFound"),
        ("no schedule", {"schedule": None}, "ScheduleNotFound"),
        ("another's schedule", {"schedule": a_schedule(deployment="other")}, "ScheduleOfAnotherDeployment"),
        ("a bad rule", {"schedule": a_schedule(rule=Rule(cron="0 0 0 0 0 0 0"))}, "InvalidSchedule"),
        ("a bad template", {"backfill": a_backfill(parameters={"a": "{{ nothing }}"})}, "InvalidTemplate"),
        ("too many", {"schedule": a_schedule(rule=Rule(interval_seconds=1))}, "TooManyTicks"),
        ("no archive", {"existing": {}, "archive_problem": "refused"}, "ArchiveUnreadable"),
    ],
)
def test_what_cannot_be_planned_says_why_and_is_looked_at_again(case, changes, reason):
    plan = decide_backfill(facts(**changes))
    assert (ready(plan)["status"], ready(plan)["reason"]) == ("False", reason)
    assert (plan.status["phase"], plan.requeue_after_s) == ("Pending", 10.0)
    assert [event.reason for event in plan.events] == [reason]


def test_a_window_without_ticks_is_done_at_once():
    plan = decide_backfill(facts(a_backfill(start_at=T0 - timedelta(hours=1), end_at=T0)))
    assert (plan.status["phase"], plan.status["message"]) == ("Completed", "The window has no tick.")


def test_a_pause_makes_no_run_and_a_cancellation_ends_those_there_are():
    running = planned()
    running = replace(running, status={**running.status, "fates": "aa..."})
    under_way = frozenset({name(5), name(6)})
    paused = decide_backfill(facts(replace(running, paused=True), active=under_way))
    assert (paused.create, paused.status["phase"]) == ((), "Paused")
    ending = decide_backfill(facts(replace(running, cancel=True), active=under_way))
    assert (ending.cancel, ending.status["fates"], ending.status["phase"]) == (
        (name(5), name(6)),
        "aa---",
        "Cancelling",
    )
    over = decide_backfill(
        facts(
            replace(running, cancel=True, status=ending.status),
            ended={name(5): Answer("Ours", "Cancelled"), name(6): Answer("Ours", "Completed")},
        )
    )
    assert (over.status["phase"], over.status["fates"]) == ("Cancelled", "KC---")


def test_a_run_that_nobody_knows_of_is_looked_up():
    running = planned()
    running = replace(running, status={**running.status, "fates": "a...."})
    assert decide_backfill(facts(running)).look_up == (name(5),)
    for answer, fate in (
        (Answer("Ours", "Failed"), "F"),
        (Answer("Absent"), "L"),
        (Answer("Ours", "Running"), "a"),
    ):
        assert decide_backfill(facts(running, answers={name(5): answer})).status["fates"][0] == fate


def test_a_refused_run_is_told_and_the_others_go_on():
    plan = decide_backfill(facts(planned(), answers={name(5): Answer("Refused", message="too large")}))
    assert plan.status["fates"] == "R...."
    assert [event.message for event in plan.events] == [f"No run {name(5)}: too large"]
    assert plan.requeue_after_s == 0.0


def test_a_repetition_whose_original_has_left_runs_anew():
    backfill = planned(reprocess="Failed", existing=there(day_5="Failed"))
    (run, *_) = decide_backfill(facts(backfill, existing={})).create
    assert (run["metadata"]["name"], "retryOf" in run["spec"]) == ("march-again-20260305t060000z", False)


def test_a_tick_that_somebody_else_ran_meanwhile_is_present():
    plan = decide_backfill(facts(planned(), answers={name(5): Answer("Foreign", "Running")}))
    assert plan.status["fates"] == "=...."


def test_a_repetition_whose_name_is_taken_is_refused():
    backfill = planned(reprocess="Failed", existing=there(day_5="Failed"))
    again = "march-again-20260305t060000z"
    plan = decide_backfill(facts(backfill, answers={again: Answer("Foreign", "Failed")}))
    assert plan.status["fates"][0] == "R"


def test_the_end_says_how_many_failed():
    running = planned()
    running = replace(running, status={**running.status, "fates": "CCCFa"})
    plan = decide_backfill(facts(running, ended={name(9): Answer("Ours", "Completed")}))
    assert (plan.status["phase"], plan.status["progress"], plan.status["succeeded"], plan.status["failed"]) == (
        "Failed",
        "5/5",
        4,
        1,
    )
    assert [(event.reason, event.message) for event in plan.events] == [("Failed", "4 of 5 runs succeeded, 1 failed.")]
    assert next(item for item in plan.status["conditions"] if item["type"] == "Succeeded")["status"] == "False"


class Shell:
    """The operator's part, played: it creates, then puts on record, and may die at any creation with everything it knew."""

    def __init__(self, **fields):
        self.fields = fields
        self.status: dict = {}
        self.runs: dict[str, str] = {}
        self.made: list[str] = []
        self.restart()

    def restart(self):
        self.active = {run for run, phase in self.runs.items() if not is_terminal(phase)}
        self.ended: dict[str, Answer] = {}

    def end_one(self, phase):
        for run in sorted(self.active)[:1]:
            self.runs[run] = phase
            self.active.discard(run)
            self.ended[run] = Answer("Ours", phase)

    def look(self, dies_after=None):
        answers: dict[str, Answer] = {}
        existing = None
        for _ in range(5):
            plan = decide_backfill(facts(
                a_backfill(status=self.status, **self.fields), active=frozenset(self.active), ended=dict(self.ended),
                answers=answers, existing=existing,
            ))  # fmt: skip
            if plan.find_existing:
                existing = {}
            elif plan.look_up or plan.create:
                answers |= {run: Answer("Ours", self.runs[run]) for run in plan.look_up}
                for number, manifest in enumerate(plan.create):
                    answers |= self.create(manifest["metadata"]["name"])
                    if number == dies_after:
                        return self.restart()
            else:
                self.status |= {key: value for key, value in (plan.status or {}).items() if value is not None}
                return None
        raise AssertionError("it does not come to an end")

    def create(self, run):
        if run not in self.runs:
            self.runs[run] = ""
            self.made.append(run)
        if not is_terminal(self.runs[run]):
            self.active.add(run)
        return {run: Answer("Ours", self.runs[run])}


@settings(max_examples=200, deadline=None)
@given(data=st.data(), limit=st.integers(1, 4), reverse=st.booleans())
def test_whatever_crashes_each_tick_has_one_run_and_the_limit_holds(data, limit, reverse):
    shell = Shell(max_active=limit, reverse=reverse)
    for step in data.draw(st.lists(st.sampled_from(("look", "look", "crash", "restart", "end")), max_size=60)):
        if step == "end":
            shell.end_one(data.draw(st.sampled_from(("Completed", "Failed"))))
        elif step == "restart":
            shell.restart()
        else:
            shell.look(data.draw(st.integers(0, 2)) if step == "crash" else None)
        assert sum(not is_terminal(phase) for phase in shell.runs.values()) <= limit
    for _ in range(20):
        shell.look()
        shell.end_one("Completed")
    assert sorted(shell.made) == [name(day) for day in range(5, 10)]
    assert shell.status["phase"] in {"Completed", "Failed"}
    assert shell.status["succeeded"] == sum(phase == "Completed" for phase in shell.runs.values())


def test_a_look_at_ten_thousand_ticks_costs_what_is_new_about_them(monkeypatch):
    """A look is taken in the loop that everybody's runs go through, several times a second."""
    minutely = a_schedule(rule=Rule(cron="* * * * *"))
    backfill = a_backfill(start_at=T0 - timedelta(minutes=9999), max_active=100)
    plan = replace(backfill, status=dict(decide_backfill(facts(backfill, schedule=minutely, existing={})).status))
    assert plan.status["total"] == 10_000
    first = decide_backfill(facts(plan, schedule=minutely))
    active = frozenset(run["metadata"]["name"] for run in first.create)
    named = []
    name_of = backfill_module.run_name
    monkeypatch.setattr(backfill_module, "run_name", lambda *args: named.append(1) or name_of(*args))
    again = decide_backfill(facts(plan, schedule=minutely, active=active))
    assert again.status["fates"].count("a") == len(active) == 20
    assert len(named) < 200
    assert ticks_between(RULE, T0, T0, 1) is ticks_between(RULE, T0, T0, 1)
