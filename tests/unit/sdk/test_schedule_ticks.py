"""Ticks against a reference that walks through whole years minute by minute and looks at the clock on the wall."""

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import rrulestr
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from levada import _rrules
from levada.exceptions import ScheduleError
from levada.ticks import cron_ticks, instant_of, interval_ticks, rrule_ticks, ticks_of

ZONES = ("Europe/Lisbon", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "America/Sao_Paulo")
YEARS = (2018, 2026)  # no leap years
PHASES = (
    Phase.explicit,
    Phase.reuse,
    Phase.generate,
    Phase.shrink,
)  # to explain a failure, hypothesis traces each line
MINUTE = timedelta(minutes=1)
EPOCH = datetime(2000, 1, 1)


def minute_of(wall):
    return (wall - EPOCH) // MINUTE


class Wall:
    """One zone, one year: for each minute that a wall clock shows or jumps over, the first instant at which it has."""

    def __init__(self, name, year):
        self.zone = ZoneInfo(name)
        self.first = datetime(year, 1, 1)
        self.start = datetime(year, 1, 1, tzinfo=self.zone).astimezone(UTC)
        self.end = datetime(year + 1, 1, 1, tzinfo=self.zone).astimezone(UTC)
        self.base = minute_of(self.first)
        self.instants = []  # by minutes since the year began on the wall
        self.jumps = []  # instants at which the offset changes
        instant, offset = self.start, None
        while instant < self.end:
            shown = instant.astimezone(self.zone)
            reached = minute_of(shown.replace(tzinfo=None)) - self.base
            self.instants.extend([instant] * (reached + 1 - len(self.instants)))
            if offset not in {None, shown.utcoffset()}:
                self.jumps.append(instant)
            offset = shown.utcoffset()
            instant += MINUTE

    def fire(self, walls):
        """The instants of wall-clock times of this year, each once."""
        return sorted({self.instants[minute_of(wall) - self.base] for wall in walls})

    def days(self):
        return [self.first.date() + timedelta(days=day) for day in range(365)]


@cache
def wall_in(name, year):
    return Wall(name, year)


def until(ticks, after, end):
    return list(takewhile(lambda tick: tick < end, ticks(after)))


# ---- cron -----------------------------------------------------------------------------------------------------------

BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))


@st.composite
def fields(draw, low, high, *, dense):
    """A cron field as text, and the set of values that it stands for (None: all)."""
    kind = draw(st.sampled_from(["all", "one", "list", "range", "step", "range step"] if dense else ["one", "list"]))
    value = st.integers(low, high)
    if kind == "all":
        return "*", None
    if kind == "one":
        chosen = draw(value)
        return str(chosen), frozenset({chosen})
    if kind == "list":
        chosen = draw(st.lists(value, min_size=1, max_size=3, unique=True))
        return ",".join(map(str, chosen)), frozenset(chosen)
    start, end = sorted(draw(st.tuples(value, value)))
    step = draw(st.integers(1, high))
    if kind == "range":
        return f"{start}-{end}", frozenset(range(start, end + 1))
    if kind == "step":
        step = draw(st.integers(2, (high - low) // 2))
        return f"*/{step}", frozenset(range(low, high + 1, step))
    return f"{start}-{end}/{step}", frozenset(range(start, end + 1, step))


@st.composite
def crons(draw, *, dense):
    parts = [
        draw(fields(low, high, dense=dense or index >= 2) if index < 2 or draw(st.booleans()) else st.just(("*", None)))
        for index, (low, high) in enumerate(BOUNDS)
    ]
    return " ".join(text for text, _ in parts), [values for _, values in parts]


def reference_cron(wall, text, values, *, day_or=True, among=None):
    minutes, hours, days, months, weekdays = values
    dom_star, dow_star = (
        days is None,
        weekdays is None,
    )  # only `*` leaves a field open: 0-6 names every day, as in Vixie cron
    found = []
    for day in among or wall.days():
        fits_day = days is None or day.day in days
        fits_weekday = weekdays is None or day.isoweekday() % 7 in weekdays
        either = fits_day or fits_weekday if day_or and not dom_star and not dow_star else fits_day and fits_weekday
        if not either or (months is not None and day.month not in months):
            continue
        found += [
            datetime(day.year, day.month, day.day, hour, minute)
            for hour in (range(24) if hours is None else sorted(hours))
            for minute in (range(60) if minutes is None else sorted(minutes))
        ]
    return wall.fire(found)


def cron_or_never(text, zone, *, day_or):
    try:
        return cron_ticks(text, zone, day_or=day_or)
    except ScheduleError as error:
        if "never fires" not in str(error):
            raise
        return lambda after: iter(())


@settings(max_examples=80, deadline=None, phases=PHASES)
@given(st.sampled_from(ZONES), st.sampled_from(YEARS), crons(dense=False), st.booleans())
def test_cron_fires_as_the_wall_says_over_a_whole_year(zone, year, cron, day_or):
    text, values = cron
    wall = wall_in(zone, year)
    ticks = cron_or_never(text, wall.zone, day_or=day_or)
    assert until(ticks, wall.start - MINUTE, wall.end) == reference_cron(wall, text, values, day_or=day_or)


@settings(max_examples=80, deadline=None, phases=PHASES)
@given(st.sampled_from(ZONES), st.sampled_from(YEARS), crons(dense=True), st.integers(-1500, 300), st.data())
def test_dense_crons_around_each_change_of_the_clocks(zone, year, cron, minutes, data):
    text, values = cron
    wall = wall_in(zone, year)
    jump = data.draw(st.sampled_from(wall.jumps or [wall.start + timedelta(days=90)]))
    after, end = jump + minutes * MINUTE, jump + timedelta(days=1)
    around = [jump.date() + timedelta(days=day) for day in range(-3, 4)]
    expected = [tick for tick in reference_cron(wall, text, values, among=around) if after < tick < end]
    assert until(cron_or_never(text, wall.zone, day_or=True), after, end) == expected


def test_the_reference_knows_the_changes_of_the_clocks():
    lord_howe = wall_in("Australia/Lord_Howe", 2026)
    assert len(lord_howe.jumps) == 2
    assert len(wall_in("Africa/Casablanca", 2026).jumps) == 2
    assert len(wall_in("America/Sao_Paulo", 2018).jumps) == 2
    assert wall_in("America/Sao_Paulo", 2026).jumps == []


# ---- single facts ---------------------------------------------------------------------------------------------------


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("case", "zone", "cron", "after", "expected"),
    [
        ("winter", "Europe/Lisbon", "30 1 * * *", "2026-01-01T00:00", ["2026-01-01T01:30", "2026-01-02T01:30"]),
        ("summer", "Europe/Lisbon", "30 1 * * *", "2026-07-01T00:00", ["2026-07-01T00:30", "2026-07-02T00:30"]),
        # 01:00 becomes 02:00 on 29 March: 01:30 is not there, so it fires at 02:00 WEST.
        ("a skipped time", "Europe/Lisbon", "30 1 * * *", "2026-03-28T02:00", ["2026-03-29T01:00", "2026-03-30T00:30"]),
        # 02:00 becomes 01:00 on 25 October: the first 01:30 is WEST.
        ("a doubled time", "Europe/Lisbon", "30 1 * * *", "2026-10-24T02:00", ["2026-10-25T00:30", "2026-10-26T01:30"]),
        ("all skipped ones are one", "Europe/Lisbon", "*/15 1 * * *", "2026-03-29T00:59", ["2026-03-29T01:00", "2026-03-30T00:00"]),
        ("with what is there", "Europe/Lisbon", "0 1,2 * * *", "2026-03-29T00:59", ["2026-03-29T01:00", "2026-03-30T00:00"]),
        ("New York, spring", "America/New_York", "30 2 * * *", "2026-03-08T00:00", ["2026-03-08T07:00", "2026-03-09T06:30"]),
        ("half an hour", "Australia/Lord_Howe", "15 2 * * *", "2026-10-03T00:00", ["2026-10-03T15:30", "2026-10-04T15:15"]),
        # Ramadan: clocks go back on 15 February 2026 and forth on 22 March.
        ("Casablanca, back", "Africa/Casablanca", "30 2 * * *", "2026-02-14T12:00", ["2026-02-15T01:30", "2026-02-16T02:30"]),
        ("midnight is skipped", "America/Sao_Paulo", "0 0 * * *", "2018-11-03T12:00", ["2018-11-04T03:00", "2018-11-05T02:00"]),
        ("a day is skipped", "Pacific/Apia", "0 12 * * *", "2011-12-29T12:00", ["2011-12-29T22:00", "2011-12-30T10:00", "2011-12-30T22:00"]),
        ("a leap day", "UTC", "0 0 29 2 *", "2026-01-01T00:00", ["2028-02-29T00:00", "2032-02-29T00:00"]),
        ("seven is Sunday", "UTC", "0 0 * * 7", "2026-01-01T00:00", ["2026-01-04T00:00"]),
        # Second Friday, last Friday, last day of the month.
        ("the second Friday", "UTC", "0 0 * * fri#2", "2026-01-01T00:00", ["2026-01-09T00:00", "2026-02-13T00:00"]),
        ("the last Friday", "UTC", "0 0 * * L5", "2026-01-01T00:00", ["2026-01-30T00:00", "2026-02-27T00:00"]),
        ("the last day", "UTC", "0 0 L * *", "2026-01-31T00:00", ["2026-02-28T00:00", "2026-03-31T00:00"]),
        ("the workday nearest to the 1st", "UTC", "0 0 1W * *", "2026-01-15T00:00", ["2026-02-02T00:00", "2026-03-02T00:00"]),
        ("the 10th, and the second Friday", "UTC", "0 0 10 * 5#2", "2026-01-01T00:00", ["2026-01-09T00:00", "2026-01-10T00:00"]),
        # Which day fields are open, as in Kubernetes' CronJob (robfig/cron 3.0.1): bare stars, not */2.
        ("*/2 is a restriction", "UTC", "0 0 */2 * 1", "2026-01-01T00:00", ["2026-01-03T00:00", "2026-01-05T00:00", "2026-01-07T00:00"]),
        ("... of the weekday, too", "UTC", "0 0 8 * */3", "2026-01-01T00:00", ["2026-01-03T00:00", "2026-01-04T00:00", "2026-01-07T00:00", "2026-01-08T00:00"]),
        ("*/1 is a star", "UTC", "0 0 */1 * 1", "2026-01-01T00:00", ["2026-01-05T00:00", "2026-01-12T00:00"]),
        ("? is a star", "UTC", "0 0 ? * 1", "2026-01-01T00:00", ["2026-01-05T00:00", "2026-01-12T00:00"]),
        ("a star in a list is a star", "UTC", "0 0 *,5 * 1", "2026-01-01T00:00", ["2026-01-05T00:00", "2026-01-12T00:00"]),
        ("each day by its number is none", "UTC", "0 0 1-31 * 1", "2026-01-01T00:00", ["2026-01-02T00:00", "2026-01-03T00:00"]),
        ("names", "UTC", "0 0 * jan mon", "2026-01-01T00:00", ["2026-01-05T00:00"]),
    ],
)  # fmt: skip
def test_cron(case, zone, cron, after, expected):
    found = islice(ticks_of(cron=cron, time_zone=zone)(utc(after)), len(expected))
    assert list(found) == [utc(each) for each in expected]


def test_a_tick_is_later_than_what_it_is_asked_after():
    tick = utc("2026-01-01T06:00")
    ticks = cron_ticks("0 6 * * *", ZoneInfo("UTC"))
    assert next(ticks(tick)) == tick + timedelta(days=1)
    assert next(ticks(tick - timedelta(microseconds=1))) == tick


def test_each_zone_of_the_world_gives_an_instant_for_each_time():
    wall = datetime(2026, 3, 29, 2, 30)
    for name in ("Europe/Berlin", "Asia/Kathmandu", "Antarctica/Troll", "UTC", "Europe/Dublin"):
        zone = ZoneInfo(name)
        shown = instant_of(wall, zone).astimezone(zone).replace(tzinfo=None)
        assert shown in {wall, datetime(2026, 3, 29, 3)}


# ---- intervals ------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(
    st.sampled_from(ZONES), st.sampled_from(YEARS), st.integers(1440, 20_000), st.integers(-400_000, 400_000), st.booleans()
)  # fmt: skip
def test_long_intervals_keep_the_time_on_the_wall(zone, year, minutes, anchor_minutes, given_anchor):
    wall = wall_in(zone, year)
    anchor = wall.first + anchor_minutes * MINUTE if given_anchor else None
    start = anchor or datetime(2020, 1, 1)
    steps = [start + step * minutes * MINUTE for step in range(-4000, 4000)]
    expected = wall.fire(each for each in steps if each.year == year)
    found = until(interval_ticks(minutes * MINUTE, anchor, wall.zone), wall.start - MINUTE, wall.end)
    # A time that the last change has jumped over may belong to the next year only if the year ends with a jump: none does.
    assert found == expected


@given(st.sampled_from(ZONES), st.integers(1, 86_399), st.integers(-(10**9), 10**9), st.integers(0, 10**9))
def test_short_intervals_are_time_that_has_passed(zone, seconds, anchor_seconds, after_seconds):
    anchor, after = (utc("2026-01-01T00:00") + timedelta(seconds=each) for each in (anchor_seconds, after_seconds))
    interval = timedelta(seconds=seconds)
    first, second = islice(interval_ticks(interval, anchor, ZoneInfo(zone))(after), 2)
    assert (first - anchor) % interval == timedelta(0)
    assert after < first <= after + interval
    assert second - first == interval


def test_an_interval_ends_with_the_calendar():
    ticks = interval_ticks(timedelta(days=365), None, ZoneInfo("UTC"))
    assert list(ticks(datetime(9999, 11, 1, tzinfo=UTC))) == []


# ---- recurrence rules -----------------------------------------------------------------------------------------------


@st.composite
def rules(draw):
    freq = draw(st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY"]))
    parts = [f"FREQ={freq}", f"INTERVAL={draw(st.sampled_from([1, 2, 3, 5]))}"]
    some = [
        ("BYMONTH", st.integers(1, 12)),
        ("BYMONTHDAY", st.integers(-28, 28).filter(bool)),
        ("BYDAY", st.sampled_from(["MO", "TU", "WE", "TH", "FR", "SA", "SU"])),
        ("BYHOUR", st.integers(0, 23)),
        ("BYMINUTE", st.integers(0, 59)),
    ]
    for key, values in some:
        if draw(st.booleans()) and draw(st.booleans()):
            parts.append(f"{key}={','.join(map(str, draw(st.lists(values, min_size=1, max_size=3, unique=True))))}")
    if freq not in {"HOURLY", "MINUTELY"} and draw(st.booleans()) and any(part.startswith("BY") for part in parts):
        parts.append(f"BYSETPOS={draw(st.sampled_from([-1, 1]))}")
    end = draw(st.sampled_from(["", "COUNT=7", "COUNT=90", "UNTIL=20260601T120000", "WKST=SU"]))
    return ";".join(parts + [end] * bool(end))


START = datetime(2025, 11, 3, 10, 30)


@settings(max_examples=150, deadline=None, phases=PHASES)
@example("FREQ=MONTHLY;BYMONTHDAY=31", 0)
@example("FREQ=WEEKLY;INTERVAL=3;BYDAY=MO,SU;BYSETPOS=-1", 100)
@given(rules(), st.integers(0, 400))
def test_rules_are_what_dateutil_says_wherever_the_search_starts(rule, days):
    after = START + timedelta(days=days, hours=5)
    end = after + timedelta(days=2 if "MINUTELY" in rule else 60)
    try:
        expected = list(takewhile(lambda wall: wall <= end, rrulestr(rule, dtstart=START)))
    except ValueError:
        with pytest.raises(ScheduleError):
            _rrules.read(f"DTSTART:{START:%Y%m%dT%H%M%S}\nRRULE:{rule}", ZoneInfo("UTC"))
        return
    read = _rrules.read(f"DTSTART:{START:%Y%m%dT%H%M%S}\nRRULE:{rule}", ZoneInfo("UTC"))
    found = list(takewhile(lambda wall: wall <= end, read.walls(after)))
    assert found == [wall for wall in expected if wall > after]


@settings(max_examples=40, deadline=None, phases=PHASES)
@given(st.sampled_from(ZONES), st.sampled_from(YEARS), st.integers(0, 23), st.integers(0, 59), st.integers(1, 31))
def test_rules_fire_as_the_wall_says_over_a_whole_year(zone, year, hour, minute, day):
    wall = wall_in(zone, year)
    ticks = rrule_ticks(f"DTSTART:20170101T{hour:02}{minute:02}00\nRRULE:FREQ=MONTHLY;BYMONTHDAY={day}", wall.zone)
    walls = [datetime(each.year, each.month, each.day, hour, minute) for each in wall.days() if each.day == day]
    assert until(ticks, wall.start - MINUTE, wall.end) == wall.fire(walls)


@pytest.mark.parametrize(
    ("case", "zone", "rule", "expected"),
    [
        ("the last day", "Europe/Lisbon", "FREQ=MONTHLY;BYMONTHDAY=-1", ["2026-01-31T00:00", "2026-02-28T00:00", "2026-03-30T23:00"]),
        ("a skipped time", "Europe/Lisbon", "FREQ=YEARLY;BYMONTH=3;BYMONTHDAY=29;BYHOUR=1;BYMINUTE=30", ["2026-03-29T01:00"]),
        ("its own start", "UTC", "DTSTART:20260301T093000\nRRULE:FREQ=DAILY;COUNT=2", ["2026-03-01T09:30", "2026-03-02T09:30"]),
        ("a start in UTC", "Asia/Tokyo", "DTSTART:20260301T093000Z\nFREQ=DAILY;COUNT=1", ["2026-03-01T09:30"]),
        ("an end in UTC", "Asia/Tokyo", "DTSTART:20260301T093000\nRRULE:FREQ=DAILY;UNTIL=20260302T003000Z", ["2026-03-01T00:30", "2026-03-02T00:30"]),
        ("a zone of its own", "Asia/Tokyo", "DTSTART;TZID=Asia/Tokyo:20260301T090000\nRRULE:FREQ=DAILY;COUNT=1", ["2026-03-01T00:00"]),
        ("dates alone", "UTC", "RDATE:20260301T090000,20260201", ["2026-02-01T00:00", "2026-03-01T09:00"]),
        ("dates taken away", "UTC", "DTSTART:20260301\nRRULE:FREQ=DAILY;COUNT=3\nEXDATE:20260302", ["2026-03-01T00:00", "2026-03-03T00:00"]),
        ("two rules", "UTC", "DTSTART:20260301\nRRULE:FREQ=DAILY;COUNT=2\nRRULE:FREQ=MONTHLY;COUNT=2", ["2026-03-01T00:00", "2026-03-02T00:00", "2026-04-01T00:00"]),
        ("small letters", "UTC", "freq=yearly;bymonth=5;bymonthday=4", ["2026-05-04T00:00"]),
        ("each second", "UTC", "FREQ=SECONDLY", ["2026-01-01T00:00:01", "2026-01-01T00:00:02"]),
        ("an end far away", "UTC", "FREQ=YEARLY;UNTIL=99991231T000000", ["2027-01-01T00:00"]),
    ],
)  # fmt: skip
def test_rrule(case, zone, rule, expected):
    found = islice(ticks_of(rrule=rule, time_zone=zone)(utc("2026-01-01T00:00")), len(expected))
    assert list(found) == [utc(each) for each in expected]


def test_a_rule_ends_with_the_calendar_and_starts_where_it_can_be_counted():
    assert list(rrule_ticks("FREQ=DAILY", ZoneInfo("UTC"))(datetime(9000, 1, 1, tzinfo=UTC))) == []
    with pytest.raises(ScheduleError, match="year 1500"):
        rrule_ticks("DTSTART:15000101\nRRULE:FREQ=DAILY", ZoneInfo("UTC"))


def test_a_schedule_has_exactly_one_rule():
    with pytest.raises(ScheduleError, match="exactly one"):
        ticks_of(cron="* * * * *", rrule="FREQ=DAILY")
    with pytest.raises(ScheduleError, match="exactly one"):
        ticks_of()
    ticks = ticks_of(interval_seconds=60, anchor=utc("2026-01-01T00:00:30"))
    assert next(ticks(utc("2026-01-01T00:00:30"))) == utc("2026-01-01T00:01:30")
