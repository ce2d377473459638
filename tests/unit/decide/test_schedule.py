"""Schedules: what one look decides."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from levada.decide.definition_views import schedule_view
from levada.decide.overlap import first_to_wait_for
from levada.decide.schedule import Answer, ScheduleFacts, decide_schedule
from levada.decide.schedule_rule import Rule, jitter
from levada.decide.tick_run import belongs_to, run_name, tick_run
from levada.decide.views import run_view
from levada.resources.names import MAX_NAME_LENGTH

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)


def a_schedule(status=None, *, created=T0, edited=None, **spec):
    metadata = {"namespace": "home", "name": "nightly", "uid": "u", "resourceVersion": "1", "generation": 1, "creationTimestamp": created.isoformat()}  # fmt: skip
    if edited is not None:
        metadata["managedFields"] = [
            {"time": edited.isoformat()},
            {"time": "2027-01-01T00:00:00Z", "subresource": "status"},
        ]
    spec = {"deploymentRef": {"name": "d"}, "cron": "0 * * * *", **spec}
    return schedule_view({"metadata": metadata, "spec": spec, "status": status or {}})


def a_run(hour, **spec):
    name = f"nightly-20260301t{hour:02}0000z"
    metadata = {"name": name, "namespace": "home", "annotations": {"levada.dev/schedule-uid": "u"}}
    return run_view({"metadata": metadata, "spec": {"scheduledTime": f"2026-03-01T{hour:02}:00:00Z", **spec}})


def look(schedule, minutes, **facts):
    return decide_schedule(ScheduleFacts(T0 + timedelta(minutes=minutes), schedule, **facts))


def condition(plan):
    (found,) = plan.status["conditions"]
    return found["status"], found["reason"]


def test_a_new_schedule_begins_with_its_creation():
    plan = look(a_schedule(), 0)
    assert plan.create_run is None
    assert plan.status["rule"]["decidedUntil"] == "2026-03-01T12:00:00.000Z"
    assert plan.status["nextRuns"] == [f"2026-03-01T{hour}:00:00.000Z" for hour in (13, 14, 15)]
    assert condition(plan) == ("True", "Ready")


def test_nothing_changes_nothing_is_written():
    status = look(a_schedule(), 0).status
    plan = look(a_schedule(status), 30)
    assert (plan.status, plan.create_run, plan.events) == (None, None, ())
    assert 1615 < plan.requeue_after_s < 1620, "a tenth of the way is left"


def test_the_timer_is_exact_when_the_tick_is_near():
    left_s = look(a_schedule(look(a_schedule(), 0).status), 59.5).requeue_after_s
    assert 27 <= left_s <= 29.4, "a run is made within the three seconds before its tick"


def test_a_tick_makes_its_run():
    plan = look(a_schedule(parameters={"day": "{{ scheduled_time | date }}", "n": 1}), 60)
    assert plan.create_run["metadata"]["name"] == "nightly-20260301t130000z"
    assert plan.create_run["spec"]["parameters"] == {"day": "2026-03-01", "n": 1}
    assert belongs_to(plan.create_run, a_schedule())
    assert not belongs_to(plan.create_run, replace(a_schedule(), uid="another"))
    filled = {"metadata": {"labels": {"levada.dev/backfill": "b", "levada.dev/schedule": "nightly"}}}
    assert belongs_to(filled, a_schedule()), "a backfill was faster"
    assert plan.due == T0 + timedelta(hours=1)
    assert plan.status is None
    assert 2 < plan.requeue_after_s < 5.1, "it is recorded when the crowd has gone"
    plan = look(a_schedule(), 60, active=(a_run(13),))
    assert plan.create_run is None
    assert (plan.status["started"], plan.status["lastRun"]) == (1, "nightly-20260301t130000z")


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        ({"cron": "0 0 0 1 1 * 2026"}, "InvalidSchedule", "7 fields"),
        ({"timeZone": "Europe/Lissabon"}, "InvalidSchedule", "no time zone"),
        ({"timeZone": "Lisbon"}, "InvalidSchedule", "did you mean 'Europe/Lisbon'?"),
        ({"cron": None, "intervalSeconds": 0}, "InvalidSchedule", "longer than nothing"),
        ({"cron": None, "rrule": "FREQ=NEVER"}, "InvalidSchedule", "rrule"),
        ({"parameters": {"a": ["{{ scheduled_tim }}"]}}, "InvalidTemplate", "known are: deployment, namespace"),
    ],
)
def test_what_means_nothing_is_said_and_starts_nothing(spec, reason, words):
    plan = look(a_schedule(**spec), 0)
    assert condition(plan) == ("False", reason)
    message = plan.status["conditions"][0]["message"]
    assert words in message
    assert message[-2:].rstrip(".?") == message[-2], "it ends with one mark"
    assert [event.reason for event in plan.events] == [reason]
    assert look(a_schedule(plan.status, **spec), 180).create_run is None


def test_a_missing_deployment_is_waited_for_a_moment_then_said():
    assert look(a_schedule(), 0, deployment_found=False).status is None
    assert condition(look(a_schedule(), 1, deployment_found=False)) == ("False", "DeploymentNotFound")
    plan = look(a_schedule(), 60, deployment_found=False)
    assert plan.create_run is None
    assert plan.status["skippedByReason"] == {"DeploymentNotFound": 1}


def test_a_suspended_schedule_is_ready_and_has_no_next_runs():
    plan = look(a_schedule(look(a_schedule(), 0).status, suspend=True), 1)
    assert condition(plan) == ("True", "Suspended")
    assert plan.status["nextRuns"] == []


def test_a_schedule_after_its_end_says_so():
    plan = look(a_schedule(endTime="2026-03-01T12:30:00Z"), 60)
    assert condition(plan) == ("True", "Ended")
    assert plan.requeue_after_s is None


@pytest.mark.parametrize(
    ("policy", "active", "made", "cancelled", "skipped"),
    [
        ("Allow", [a_run(12)], True, (), None),
        ("Forbid", [a_run(12)], False, (), {"StillRunning": 1}),
        ("Forbid", [], True, (), None),
        ("Replace", [a_run(12), a_run(11, cancel=True)], True, ("nightly-20260301t120000z",), None),
        ("Queue", [a_run(12)], True, (), None),
    ],
)
def test_while_the_run_of_an_earlier_tick_goes_on(policy, active, made, cancelled, skipped):
    plan = look(a_schedule(concurrencyPolicy=policy), 60, active=tuple(active))
    assert (plan.create_run is not None) == made
    assert plan.cancel == cancelled
    assert (plan.status or {}).get("skippedByReason") == skipped


def test_a_run_waits_for_the_oldest_before_it():
    runs = [a_run(12), a_run(11), a_run(13)]
    assert first_to_wait_for("Queue", runs, runs[2]) == "nightly-20260301t110000z"
    assert first_to_wait_for("Replace", runs, runs[0]) == "nightly-20260301t110000z"
    assert first_to_wait_for("Queue", runs, runs[1]) == ""
    assert first_to_wait_for("Allow", runs, runs[2]) == ""


def test_before_a_tick_is_skipped_its_run_is_looked_for():
    """The operator may have been killed between the run and its record, and the run may have ended since."""
    late = a_schedule(catchUp="Skip")
    asks = look(late, 90, settled=False)
    assert (asks.look_up, asks.status) == ("nightly-20260301t130000z", None)
    ours = look(late, 90, settled=False, answer=Answer("nightly-20260301t130000z", "Ours"))
    assert (ours.status["started"], ours.status.get("skipped")) == (1, None)
    absent = look(late, 90, settled=False, answer=Answer("nightly-20260301t130000z", "Absent"))
    assert absent.status["skipped"] == 1


@pytest.mark.parametrize(("kind", "reason"), [("Foreign", "NameTaken"), ("Refused", "RunRefused")])
def test_a_run_that_cannot_be_is_a_recorded_skip_and_an_event(kind, reason):
    plan = look(a_schedule(), 60, answer=Answer("nightly-20260301t130000z", kind, "too long"))
    assert plan.create_run is None
    assert plan.status["skippedByReason"] == {reason: 1}
    assert [event.reason for event in plan.events] == [reason]


def test_an_edit_counts_from_when_it_was_made():
    """The operator was away from 12:30 to 15:10, the rule was changed at 13:30."""
    before = look(a_schedule(), 30).status
    spec = {
        "cron": "45 * * * *",
        "edited": T0 + timedelta(minutes=90),
        "catchUp": "All",
        "startingDeadlineSeconds": 86_400,
    }
    plan = look(a_schedule(before, **spec), 190)
    assert plan.create_run["spec"]["scheduledTime"] == "2026-03-01T13:00:00.000Z"
    plan = look(a_schedule(before, **spec), 190, active=(a_run(13),))
    assert plan.requeue_after_s == 0
    plan = look(a_schedule(plan.status, **spec), 190)
    assert plan.create_run["spec"]["scheduledTime"] == "2026-03-01T13:45:00.000Z"


def test_another_kind_of_rule_takes_the_old_one_out():
    before = look(a_schedule(), 30).status
    plan = look(a_schedule(before, cron=None, intervalSeconds=600, edited=T0 + timedelta(minutes=30)), 30)
    assert (plan.status["rule"]["cron"], plan.status["rule"]["intervalSeconds"]) == (None, 600)


def test_a_run_is_made_early_only_if_nothing_is_to_be_decided_at_the_tick():
    early = look(a_schedule(prestartSeconds=300, concurrencyPolicy="Forbid"), 56)
    assert early.create_run["spec"]["prestartSeconds"] == 300
    busy = look(a_schedule(prestartSeconds=300, concurrencyPolicy="Forbid"), 56, active=(a_run(12),))
    assert busy.create_run is None
    beside = look(a_schedule(prestartSeconds=300), 56, active=(a_run(12),))
    assert beside.create_run is not None


def test_names_fit_and_tell_schedules_apart():
    tick = datetime(2026, 1, 1, 6, tzinfo=UTC)
    assert run_name("nightly", tick) == "nightly-20260101t060000z"
    long, other = "a" * 49 + "b", "a" * 49 + "c"
    assert len(run_name(long, tick)) <= MAX_NAME_LENGTH
    assert run_name(long, tick) != run_name(other, tick)


def test_jitter_is_spread_over_its_room():
    ticks = [T0 + timedelta(hours=n) for n in range(200)]
    found = [jitter("u", tick, 600, timedelta(hours=1)).total_seconds() for tick in ticks]
    assert 0 <= min(found) < 30
    assert 570 < max(found) < 600
    assert max(jitter("u", tick, 600, timedelta(seconds=60)).total_seconds() for tick in ticks) < 60


def test_an_anchor_with_a_fraction_ticks_on_whole_seconds():
    rule = Rule.of({"intervalSeconds": 10, "anchor": "2026-03-01T12:00:00.654321Z"})
    assert next(rule.ticks(T0)) == T0 + timedelta(seconds=10)


def test_delay_and_prestart_reach_the_run():
    run = tick_run(a_schedule(), T0, delay_s=1.5, prestart_s=20)
    view = run_view({**run, "metadata": {**run["metadata"], "creationTimestamp": "2026-03-01T11:59:40Z"}})
    assert view.due_at == T0 + timedelta(seconds=1.5)
    assert (view.prestart_s, view.schedule, view.schedule_uid) == (20, "nightly", "u")
