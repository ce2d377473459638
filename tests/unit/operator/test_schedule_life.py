"""Schedules on a clock of the test, with the operator's own code: each tick gets exactly one run or one recorded skip, whatever happens."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levada.operator.store import Key
from levada.resources.kinds import FLOW_RUNS
from support.schedule_play import KEY, SchedulePlay, utc

START = utc("2026-03-01T12:00:00")
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SOON = timedelta(seconds=10)  # a run is put on record some seconds after its tick


def hourly(**spec):
    return SchedulePlay(START, {"cron": "0 * * * *", **spec})


async def test_a_run_for_each_tick():
    play = hourly()
    play.start()
    await play.live_until(START + 5 * HOUR + SOON)
    assert play.ticks_run() == [START + n * HOUR for n in range(1, 6)]
    play.check_counts(play.reference(START, play.now))
    assert play.status["nextRuns"] == [f"2026-03-01T{hour}:00:00.000Z" for hour in (18, 19, 20)]
    assert play.status["lastRun"] == "nightly-20260301t170000z"
    (condition,) = play.status["conditions"]
    assert (condition["type"], condition["status"]) == ("Ready", "True")
    run = play.runs()["nightly-20260301t130000z"]
    assert run["spec"] == {"deploymentRef": {"name": "d"}, "scheduledTime": "2026-03-01T13:00:00.000Z"}


async def test_a_tick_costs_two_writes():
    play = hourly()
    play.start()
    await play.live_until(START + MINUTE)
    before = play.cluster.client.writes
    await play.live_until(START + 10 * HOUR + SOON)
    assert play.cluster.client.writes - before == 2 * 10


@pytest.mark.parametrize("how", ["ends", "is deleted"])
async def test_a_run_that_goes_before_it_is_on_record_is_not_made_again(how):
    play = hourly()
    play.start()
    await play.live_until(START + HOUR)
    (name,) = play.runs()
    writes = play.cluster.client.writes
    if how == "ends":
        play.end_runs()
    else:
        play.cluster.delete(FLOW_RUNS, name)
        play.controller.forget_run(Key("ns", name))
    await play.live_until(START + HOUR + SOON)
    assert play.cluster.client.writes == writes + 1, "the record"
    assert [entry["run"] for entry in play.status["ledger"]] == [name]
    assert list(play.runs()) == ([name] if how == "ends" else [])


@pytest.mark.parametrize(
    ("catch_up", "limit", "deadline_s", "expected_runs", "reasons"),
    [
        ("Skip", 100, 86_400, 0, {"Missed": 24}),
        ("Latest", 100, 86_400, 1, {"Missed": 23}),
        ("All", 100, 86_400, 24, {}),
        ("All", 5, 86_400, 5, {"CatchUpLimit": 19}),
        ("All", 100, 3 * 3600 + 60, 3, {"DeadlineExceeded": 21}),
        ("Latest", 100, 60, 0, {"DeadlineExceeded": 24}),
    ],
)
async def test_down_for_a_day(catch_up, limit, deadline_s, expected_runs, reasons):
    play = hourly(catchUp=catch_up, maxCatchUp=limit, startingDeadlineSeconds=deadline_s)
    play.start()
    await play.live_until(START + MINUTE)
    play.kill()
    await play.live_until(START + 24 * HOUR + 30 * MINUTE)
    play.start()
    await play.live_until(play.now)
    assert len(play.ticks_run()) == expected_runs
    assert play.status.get("skippedByReason", {}) == reasons
    assert play.status.get("missed", 0) == sum(reasons.values())
    play.check_counts(play.reference(START, play.now))


async def test_every_few_minutes_down_for_a_year_neither_floods_nor_hangs():
    play = SchedulePlay(START, {"cron": "*/6 * * * *", "catchUp": "All", "startingDeadlineSeconds": 31_536_000})
    play.start()
    await play.live_until(START)
    play.kill()
    play.cluster.now = START + timedelta(days=365) + timedelta(seconds=5)
    play.start()
    await play.live_until(play.now)
    assert len(play.ticks_run()) == 100
    assert play.status["skipped"] == 365 * 24 * 10 - 100
    assert play.looks < 250
    skips = [entry for entry in play.status["ledger"] if entry["outcome"] == "Skipped"]
    assert len(skips) <= 1  # it may have been pushed out by the newer runs


async def test_an_edit_while_the_operator_was_down_counts_from_when_it_was_made():
    play = hourly(catchUp="All", startingDeadlineSeconds=86_400)
    play.start()
    await play.live_until(START + 90 * MINUTE)  # 13:30
    play.kill()
    await play.live_until(START + 210 * MINUTE)  # 15:30
    play.edit(cron="45 * * * *")
    await play.live_until(START + 300 * MINUTE)  # 17:00
    play.start()
    await play.live_until(play.now)
    at = [tick.strftime("%H:%M") for tick in play.ticks_run()]
    assert at == ["13:00", "14:00", "15:00", "15:45", "16:45"]


async def test_applying_the_same_again_changes_nothing():
    play = hourly()
    play.start()
    await play.live_until(START + 90 * MINUTE)
    play.edit(cron="0 * * * *", jitterSeconds=0)
    await play.live_until(START + 5 * HOUR + SOON)
    play.check_counts(play.reference(START, play.now))


async def test_suspended_ticks_are_recorded_as_one_entry():
    play = hourly()
    play.start()
    await play.live_until(START + 90 * MINUTE)
    play.edit(suspend=True)
    await play.look()
    assert play.status["nextRuns"] == []
    await play.live_until(START + 5 * HOUR + 30 * MINUTE)
    play.edit(suspend=False)
    await play.look()
    await play.live_until(START + 6 * HOUR + SOON)
    assert [tick.hour for tick in play.ticks_run()] == [13, 18]
    assert play.status["ledger"][1] == {
        "tick": "2026-03-01T14:00:00.000Z", "until": "2026-03-01T17:00:00.000Z", "count": 4, "outcome": "Skipped", "reason": "Suspended",
    }  # fmt: skip
    play.check_counts(play.reference(START, play.now))


async def test_a_run_that_ends_before_it_is_on_record_is_no_skip():
    """Found by the model: the schedule was suspended in the seconds between the run of a tick and its record, and the run was over by then."""
    play = hourly()
    play.start()
    await play.live_until(START + HOUR)
    assert (len(play.ticks_run()), play.status.get("started", 0)) == (1, 0)
    play.end_runs()
    play.edit(suspend=True)
    await play.look()
    assert (play.status["started"], play.status.get("skipped", 0)) == (1, 0)


async def test_without_its_deployment_ticks_are_skipped_and_said_so():
    play = hourly()
    play.deployment = False
    play.start()
    await play.live_until(START + 90 * MINUTE)
    assert play.status["skippedByReason"] == {"DeploymentNotFound": 1}
    (condition,) = play.status["conditions"]
    assert (condition["status"], condition["reason"]) == ("False", "DeploymentNotFound")
    play.deployment = True
    await play.look()
    assert play.status["conditions"][0]["status"] == "True"
    await play.live_until(START + 2 * HOUR + SOON)
    assert [tick.hour for tick in play.ticks_run()] == [14]


@pytest.mark.parametrize("hours", [1, -1])
async def test_the_clock_jumps_by_an_hour(hours):
    """The timers of the operator do not jump with it; `watch_clock` has it look again."""
    play = hourly(catchUp="All", startingDeadlineSeconds=86_400)
    play.start()
    await play.live_until(START + 90 * MINUTE)
    play.cluster.now += hours * HOUR
    play.next_look = play.now
    await play.look()
    await play.live_until(START + 6 * HOUR + SOON)
    assert play.ticks_run() == [START + n * HOUR for n in range(1, 7)]
    play.check_counts(play.reference(START, play.now))


async def test_forbid_skips_while_a_run_goes_on():
    play = hourly(concurrencyPolicy="Forbid")
    play.start()
    await play.live_until(START + 150 * MINUTE)
    play.end_runs()
    await play.live_until(START + 3 * HOUR + SOON)
    assert [tick.hour for tick in play.ticks_run()] == [13, 15]
    assert play.status["skippedByReason"] == {"StillRunning": 1}


async def test_replace_cancels_and_queue_waits():
    for policy, cancelled in (("Replace", True), ("Queue", False)):
        play = hourly(concurrencyPolicy=policy)
        play.start()
        await play.live_until(START + 150 * MINUTE)
        runs = play.runs()
        assert [bool(run["spec"].get("cancel")) for run in runs.values()] == [cancelled, False]
        second = play.controller.store.runs.get(KEY._replace(name="nightly-20260301t140000z"))
        assert play.controller.store.waits_for(second) == "nightly-20260301t130000z"
        play.end_runs("nightly-20260301t130000z")
        await play.look()
        assert play.controller.store.waits_for(second) == ""


async def test_jitter_is_the_same_for_the_same_tick_and_keeps_the_order():
    play = hourly(jitterSeconds=7200)
    play.start()
    await play.live_until(START + 24 * HOUR + SOON)
    made = [run["spec"] for run in play.runs().values()]
    delays = [spec["delaySeconds"] for spec in made]
    assert all(0 <= delay < 3600 for delay in delays)
    assert len(set(delays)) == len(delays)
    again = hourly(jitterSeconds=7200)
    again.start()
    await again.live_until(START + 24 * HOUR + SOON)
    assert [run["spec"]["delaySeconds"] for run in again.runs().values()] == delays
    play.check_counts(play.reference(START, play.now)[: len(delays)])


async def test_a_run_made_early_is_withdrawn_when_its_tick_goes():
    play = hourly(prestartSeconds=120)
    play.start()
    await play.live_until(START + 59 * MINUTE)
    (run,) = play.runs().values()
    assert run["spec"]["prestartSeconds"] == 120
    play.edit(cron="30 * * * *")
    await play.look()
    (run,) = play.runs().values()
    assert run["spec"]["cancel"] is True
    play.end_runs()
    await play.live_until(START + 90 * MINUTE)
    assert [tick.strftime("%H:%M") for tick in play.ticks_run()] == ["13:00", "13:30"]


async def test_the_name_of_a_tick_that_somebody_else_has_is_a_recorded_skip():
    play = hourly()
    from levada.resources.kinds import FLOW_RUNS

    play.cluster.create(
        FLOW_RUNS,
        {
            "metadata": {"name": "nightly-20260301t130000z"},
            "spec": {"deploymentRef": {"name": "d"}, "scheduledTime": "2026-03-01T13:00:00Z"},
        },
    )
    play.start()
    await play.live_until(START + 2 * HOUR + SOON)
    assert play.status["skippedByReason"] == {"NameTaken": 1}
    assert play.status["lastRun"] == "nightly-20260301t140000z"


FAULTS = ("", "lost before", "lost after", "error", "killed before", "killed after")


@pytest.mark.parametrize("policy", ["Allow", "Forbid", "Replace", "Queue"])
@pytest.mark.parametrize("write", range(6))
@pytest.mark.parametrize("fault", ["killed before", "killed after"])
@pytest.mark.parametrize("away", [MINUTE, 150 * MINUTE])
async def test_killed_between_any_two_writes(policy, write, fault, away):
    """The runs may end, the schedule may be suspended, and hours may pass, before there is an operator again."""
    play = hourly(concurrencyPolicy=policy, catchUp="Latest", startingDeadlineSeconds=1800)
    play.start()
    await play.live_until(START + 90 * MINUTE)
    if policy != "Replace":
        play.end_runs()
    play.cluster.faults.extend([""] * write + [fault])
    await play.live_until(START + 8 * HOUR + SOON)
    assert play.controller is None
    play.cluster.faults.clear()
    play.end_runs()
    play.cluster.now += away
    play.edit(suspend=True)
    play.start()
    await play.look()
    play.edit(suspend=False)
    await play.look()
    await play.live_until(play.now + 3 * HOUR)
    play.check_counts(play.reference(START, play.now))


CRONS = ("*/7 * * * *", "0 * * * *", "30 1 * * *", "0,30 1-2 * * *", "0 0 L * *")
ZONES = ("UTC", "Europe/Lisbon", "Australia/Lord_Howe", "America/New_York")
RECORDED_WITHIN = timedelta(seconds=5)
EVENTS = st.one_of(
    st.tuples(st.just("pass"), st.integers(1, 40_000)),
    st.tuples(st.just("down"), st.integers(1, 200_000)),
    st.tuples(st.just("fault"), st.sampled_from(FAULTS), st.integers(0, 5)),
    st.tuples(st.just("suspend"), st.booleans()),
    st.tuples(st.just("end"), st.none()),
    st.tuples(st.just("jump"), st.integers(-3600, 3600)),
    st.tuples(st.just("deployment"), st.booleans()),
)


@settings(max_examples=40, deadline=None)
@given(
    cron=st.sampled_from(CRONS),
    zone=st.sampled_from(ZONES),
    start=st.sampled_from(["2026-03-28T22:11:07", "2026-10-24T20:00:00", "2026-10-03T12:00:00", "2026-03-07T23:59:59"]),
    more=st.fixed_dictionaries(
        {
            "catchUp": st.sampled_from(["Skip", "Latest", "All"]),
            "startingDeadlineSeconds": st.sampled_from([0, 600, 3600, 86_400]),
            "maxCatchUp": st.sampled_from([1, 3, 100]),
            "concurrencyPolicy": st.sampled_from(["Allow", "Forbid", "Replace", "Queue"]),
            "jitterSeconds": st.sampled_from([0, 45, 7200]),
            "prestartSeconds": st.sampled_from([0, 20, 600]),
        }
    ),
    events=st.lists(EVENTS, min_size=1, max_size=12),
)
async def test_whatever_happens_each_tick_has_one_fate(cron, zone, start, more, events):
    play = SchedulePlay(utc(start), {"cron": cron, "timeZone": zone, **more})
    play.start()
    furthest = play.now
    for event, *arguments in events:
        if play.controller is None:
            play.start()
        if event == "pass":
            await play.live_until(play.now + timedelta(seconds=arguments[0]))
        elif event == "down":
            play.kill()
            await play.live_until(play.now + timedelta(seconds=arguments[0]))
        elif event == "fault":
            play.cluster.faults.extend([""] * arguments[1] + [arguments[0]])
        elif event == "suspend":
            play.edit(suspend=arguments[0])
            play.next_look = play.now
        elif event == "end":
            play.end_runs()
        elif event == "jump":
            play.cluster.now += timedelta(seconds=arguments[0])
            play.next_look = play.now
        else:
            play.deployment = arguments[0]
            play.kill()
        furthest = max(furthest, play.now)
    play.cluster.faults.clear()
    if play.controller is None:
        play.start()
    await play.live_until(furthest + timedelta(hours=3))
    while play.next_look is not None and play.next_look <= play.now + RECORDED_WITHIN:
        await play.live_until(play.next_look)  # a run is made first, and put on record a moment later
    decided = play.status["rule"]["decidedUntil"]
    ticks = play.reference(utc(start), utc(decided.removesuffix("Z")))
    play.check_counts(ticks)
    nxt = play.reference(utc(decided.removesuffix("Z")), play.now)
    slack = timedelta(seconds=more["jitterSeconds"])
    assert not [tick for tick in nxt if tick + slack <= play.now], "a tick that is due was left undecided"
