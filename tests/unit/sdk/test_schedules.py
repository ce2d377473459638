"""Schedules as users write them: what they accept, what they refuse and with which words, and what they become in a cluster."""

import copy
import pickle
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import MONTHLY, rrule

from levada.exceptions import OptionError, ScheduleError
from levada.resources.models import Schedule as ScheduleResource
from levada.resources.models import parse
from levada.schedules import (
    Cron,
    CronSchedule,
    Interval,
    IntervalSchedule,
    RRule,
    RRuleSchedule,
    Schedule,
    schedules_of,
)
from levada.ticks import ticks_of

LISBON = ZoneInfo("Europe/Lisbon")
START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("case", "make", "words"),
    [
        ("six fields", lambda: CronSchedule("0 0 6 * * 1"), ["has 6 fields", "seconds", "five fields"]),
        ("four fields", lambda: CronSchedule("0 6 * *"), ["has 4 fields", "'0 6 * * 1-5'"]),
        ("out of range", lambda: CronSchedule("61 * * * *"), ["61", "out of range"]),
        ("words", lambda: CronSchedule("every day at six o'clock"), ["five fields"]),
        ("words, five of them", lambda: CronSchedule("at six in the morning"), ["cannot be read"]),
        ("a step of nothing", lambda: CronSchedule("*/0 * * * *"), ["cannot be read"]),
        ("a random minute", lambda: CronSchedule("R * * * *"), ["random"]),
        ("a hashed minute", lambda: CronSchedule("H(0-29)/10 * * * *"), ["random"]),
        ("never", lambda: CronSchedule("0 0 30 2 *"), ["never fires", "day of month"]),
        ("no text", lambda: CronSchedule(5), ["cron=5", "text"]),
        ("too long", lambda: CronSchedule(",".join(["1"] * 200) + " * * * *"), ["256"]),
        ("day_or", lambda: CronSchedule("* * * * *", day_or="no"), ["day_or='no'"]),
        ("no zone", lambda: CronSchedule("* * * * *", timezone="Mars/Olympus"), ["no time zone 'Mars/Olympus'"]),
        ("a city", lambda: CronSchedule("* * * * *", timezone="lisbon"), ["did you mean 'Europe/Lisbon'"]),
        ("spelling", lambda: CronSchedule("* * * * *", timezone="europe/lissbon"), ["'Europe/Lisbon'"]),
        ("an offset", lambda: CronSchedule("* * * * *", timezone="+01:00"), ["no time zone '+01:00'"]),
        ("a path", lambda: CronSchedule("* * * * *", timezone="../../etc/passwd"), ["no time zone"]),
        ("empty zone", lambda: CronSchedule("* * * * *", timezone=""), ["no time zone ''"]),
        ("a zone that is a number", lambda: CronSchedule("* * * * *", timezone=1), ["timezone=1"]),
        ("no interval", lambda: IntervalSchedule(0), ["longer than nothing", "timedelta(hours=1)"]),
        ("backwards", lambda: IntervalSchedule(timedelta(seconds=-1)), ["longer than nothing"]),
        ("half seconds", lambda: IntervalSchedule(0.5), ["whole number of seconds"]),
        ("two years", lambda: IntervalSchedule(timedelta(days=730)), ["365 days"]),
        ("words for an interval", lambda: IntervalSchedule("1h"), ["'1h'", "timedelta"]),
        ("true", lambda: IntervalSchedule(True), ["timedelta"]),
        ("infinite", lambda: IntervalSchedule(float("inf")), ["calendar"]),
        ("an anchor", lambda: IntervalSchedule(60, anchor_date="noon"), ["anchor_date='noon'"]),
        ("an anchor of another type", lambda: IntervalSchedule(60, anchor_date=5), ["anchor_date=5"]),
        ("no rule", lambda: RRuleSchedule(""), ["FREQ=MONTHLY"]),
        ("no text for a rule", lambda: RRuleSchedule(None), ["FREQ=MONTHLY"]),
        ("no frequency", lambda: RRuleSchedule("BYDAY=MO"), ["cannot be read"]),
        ("an unknown frequency", lambda: RRuleSchedule("FREQ=SOMETIMES"), ["SOMETIMES"]),
        ("an unknown part", lambda: RRuleSchedule("FREQ=DAILY;BYMOON=1"), ["BYMOON"]),
        ("no value", lambda: RRuleSchedule("FREQ=DAILY;BYDAY"), ["'BYDAY'", "KEY=VALUE"]),
        ("no interval in a rule", lambda: RRuleSchedule("FREQ=DAILY;INTERVAL=0"), ["INTERVAL=0", "from 1"]),
        ("count", lambda: RRuleSchedule("FREQ=DAILY;COUNT=1000000"), ["100000"]),
        ("a rule that never fires", lambda: RRuleSchedule("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"), ["never fires"]),
        ("hours that do not meet", lambda: RRuleSchedule("FREQ=HOURLY;INTERVAL=2;BYHOUR=3"), ["cannot be read"]),
        ("positions by the minute", lambda: RRuleSchedule("FREQ=MINUTELY;BYSETPOS=2"), ["BYSETPOS"]),
        ("a line", lambda: RRuleSchedule("WHEN:now\nRRULE:FREQ=DAILY"), ["'WHEN:now'"]),
        ("two starts", lambda: RRuleSchedule("DTSTART:20260101\nDTSTART:20260102\nRRULE:FREQ=DAILY"), ["more than one"]),
        ("a start alone", lambda: RRuleSchedule("DTSTART:20260101"), ["has no RRULE"]),
        ("a date", lambda: RRuleSchedule("DTSTART:2026-01-01\nRRULE:FREQ=DAILY"), ["'2026-01-01'", "20250131T093000"]),
        ("no day", lambda: RRuleSchedule("DTSTART:20260230\nRRULE:FREQ=DAILY"), ["no calendar"]),
        ("two zones", lambda: RRuleSchedule("DTSTART;TZID=Asia/Tokyo:20260101\nRRULE:FREQ=DAILY", "UTC"), ["another time zone"]),
        ("too long a rule", lambda: RRuleSchedule("FREQ=DAILY" + ";BYDAY=MO" * 200), ["1024"]),
        ("nothing", lambda: Schedule(), ["exactly one", "none"]),
        ("two", lambda: Schedule(cron="* * * * *", interval=5), ["exactly one", "interval, cron"]),
        ("an anchor for a cron", lambda: Schedule(cron="* * * * *", anchor_date=START), ["anchor_date goes with interval"]),
        ("active", lambda: Cron("* * * * *", active="yes"), ["active='yes'"]),
        ("parameters", lambda: Cron("* * * * *", parameters=[1]), ["parameters=[1]"]),
        ("slug", lambda: Cron("* * * * *", slug=""), ["slug=''"]),
        ("n", lambda: CronSchedule("* * * * *").next(-1), ["n=-1"]),
        ("after", lambda: CronSchedule("* * * * *").next(1, after="today"), ["after='today'"]),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused_at_once(case, make, words):
    with pytest.raises(ScheduleError) as raised:
        make()
    for word in words:
        assert word in str(raised.value)
    assert isinstance(raised.value, OptionError)


def test_next_is_in_the_schedules_own_zone():
    assert [
        each.isoformat() for each in CronSchedule("0 6 * * *", "Europe/Lisbon").next(2, datetime(2026, 3, 28, 7))
    ] == [
        "2026-03-29T06:00:00+01:00",
        "2026-03-30T06:00:00+01:00",
    ]


def test_next_without_a_time_is_after_now():
    before = datetime.now(UTC)
    (tick,) = CronSchedule("* * * * *").next()
    assert before < tick <= before + timedelta(minutes=2)
    assert RRuleSchedule("DTSTART:20200101\nRRULE:FREQ=DAILY;COUNT=2").next(5) == []


def test_get_dates_includes_both_ends():
    schedule = IntervalSchedule(timedelta(hours=1))
    end = START + timedelta(hours=3)
    assert schedule.get_dates(start=START, end=end) == [START + timedelta(hours=hour) for hour in range(4)]
    assert schedule.get_dates(2, START, end) == [START, START + timedelta(hours=1)]
    assert schedule.get_dates(start=START) == [START]
    assert schedule.get_dates(0, START) == []


def test_an_interval_counts_from_its_anchor_and_takes_its_zone():
    anchored = IntervalSchedule(timedelta(days=1), anchor_date=datetime(2026, 1, 1, 9, tzinfo=LISBON))
    assert anchored.timezone == "Europe/Lisbon"
    assert anchored.next(1, datetime(2026, 7, 1, tzinfo=UTC))[0].isoformat() == "2026-07-01T09:00:00+01:00"
    text = IntervalSchedule(3600, anchor_date="2026-01-01T00:30:00", timezone="Europe/Lisbon")
    assert text.next(1, START)[0] == START + timedelta(minutes=30)
    assert IntervalSchedule(90).next(1, START)[0] - START <= timedelta(seconds=90)


def test_a_rule_takes_the_zone_that_it_names():
    rule = RRuleSchedule("DTSTART;TZID=America/New_York:20260101T090000\nRRULE:FREQ=DAILY")
    assert rule.timezone == "America/New_York"
    assert rule.next(1, START)[0].hour == 9


def test_a_rule_of_dateutil():
    made = RRuleSchedule.from_rrule(rrule(MONTHLY, bymonthday=15, dtstart=datetime(2026, 1, 1, 8)))
    assert made.next(1, START) == [datetime(2026, 3, 15, 8, tzinfo=UTC)]


def test_day_or():
    either = CronSchedule("0 0 13 * 5").next(3, datetime(2026, 3, 1, tzinfo=UTC))
    both = CronSchedule("0 0 13 * 5", day_or=False).next(3, datetime(2026, 3, 1, tzinfo=UTC))
    assert [each.day for each in either] == [6, 13, 20]
    assert [(each.month, each.day) for each in both] == [(3, 13), (11, 13), (8, 13)]


SCHEDULES = [
    CronSchedule("0 6 * * 1-5", timezone="Europe/Lisbon"),
    CronSchedule("@daily"),
    CronSchedule("0,30 6 13 * fri", timezone="Europe/Lisbon", day_or=False),
    CronSchedule("* * 1-7 5 1", day_or=False),
    CronSchedule("5 * * * 1", day_or=False),
    IntervalSchedule(timedelta(hours=7), timezone="America/New_York"),
    IntervalSchedule(timedelta(days=2), anchor_date=datetime(2026, 1, 1, 2, 30, tzinfo=LISBON)),
    RRuleSchedule("FREQ=MONTHLY;BYMONTHDAY=-1", timezone="Australia/Lord_Howe"),
    RRuleSchedule("DTSTART:20260101T093000\nRRULE:FREQ=DAILY;INTERVAL=3"),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_the_cluster_sees_the_same_ticks(schedule):
    spec = schedule.spec()
    body = {"metadata": {"name": "s"}, "spec": {"deploymentRef": {"name": "d"}, **spec}}
    read = parse(ScheduleResource, {"apiVersion": "levada.dev/v1alpha1", "kind": "Schedule", **body}).spec
    there = ticks_of(
        cron=read.cron,
        interval_seconds=read.interval_seconds,
        rrule=read.rrule,
        anchor=read.anchor,
        time_zone=read.time_zone,
    )
    ours = [each.astimezone(UTC) for each in schedule.next(40, START)]
    assert list(islice(there(START), 40)) == ours


def test_a_cron_that_no_rule_says_is_refused_for_the_cluster():
    with pytest.raises(ScheduleError, match="write it as an RRuleSchedule"):
        CronSchedule("0 0 L * 5", day_or=False).spec()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_schedules_are_values(schedule):
    again = pickle.loads(pickle.dumps(schedule))
    assert again == schedule == copy.copy(schedule)
    assert hash(again) == hash(schedule)
    assert again.next(3, START) == schedule.next(3, START)
    assert schedule != CronSchedule("1 1 1 1 1")
    assert schedule != 5


def test_they_say_what_they_are():
    assert repr(CronSchedule("@daily")) == "CronSchedule(cron='0 0 * * *', timezone='UTC', day_or=True)"
    made = Cron("0 6 * * *", timezone="UTC", active=False, parameters={"a": 1}, slug="six")
    assert repr(made).endswith("active=False, parameters={'a': 1}, slug='six')")
    assert made == Schedule(cron="0 6 * * *", active=False, parameters={"a": 1}, slug="six")
    assert made != Cron("0 6 * * *")
    assert made != 5
    assert made.timezone == "UTC"
    assert made.next(1, START) == made.get_dates(1, START) == [START + timedelta(hours=6)]
    assert Schedule(rrule="FREQ=DAILY") == RRule("FREQ=DAILY")
    assert Schedule(interval=60, anchor_date=START) == Interval(60, START)


def test_options_of_a_deployment_become_schedules():
    cron, interval = CronSchedule("0 6 * * *"), IntervalSchedule(60)
    assert schedules_of() == []
    assert schedules_of(schedule=cron) == [Schedule.of(cron)]
    assert schedules_of(schedules=[cron, Cron("* * * * *"), {"schedule": interval, "active": False}]) == [
        Schedule.of(cron),
        Cron("* * * * *"),
        Schedule.of(interval, active=False),
    ]
    assert schedules_of(cron=["0 6 * * *", "0 7 * * *"], timezone="Europe/Lisbon") == [
        Cron("0 6 * * *", "Europe/Lisbon"),
        Cron("0 7 * * *", "Europe/Lisbon"),
    ]
    assert schedules_of(interval=60, rrule="FREQ=DAILY") == [Interval(60), RRule("FREQ=DAILY")]
    with pytest.raises(ScheduleError, match="no schedule"):
        schedules_of(schedule="0 6 * * *")
    with pytest.raises(ScheduleError, match="has no when"):
        schedules_of(schedules=[{"schedule": cron, "when": 1}])
    with pytest.raises(ScheduleError, match="same slug"):
        schedules_of(schedules=[Cron("0 6 * * *", slug="a"), Cron("0 7 * * *", slug="a")])
