"""Who is to be told what, what is on record, and what becomes of a delivery that fails."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levada.decide.definitions import BlockView, Notification
from levada.decide.notifications import (
    GIVE_UP_AFTER,
    Health,
    Point,
    Problem,
    Result,
    annotation_problem,
    default_of,
    delivery_id,
    due,
    expired,
    health_condition,
    holding,
    late_waits_s,
    point_of,
    record,
    since_of,
    since_patch,
    template_verdict,
    wait_s,
)
from support.facts import T0, a_deployment, a_run, s

SLACK = {"slack": {"url": "https://hooks.slack.com/services/x"}}


def tells(*phases: str, name: str = "ops", **fields) -> Notification:
    return Notification(name, frozenset(phases), SLACK, **fields)


def told(*keys: str, name: str = "ops") -> dict:
    return {"notifications": {name: {"told": list(keys)}}}


@pytest.mark.parametrize(
    ("case", "run", "expected"),
    [
        ("a phase that nobody can ask for", a_run(phase="Queued"), None),
        ("no phase yet", a_run(), None),
        (
            "running tells its attempt and when",
            a_run(phase="Running", attempt=2, started_at=T0),
            Point("Running", 2, T0),
        ),
        ("waiting for another attempt", a_run(phase="Retrying", attempt=1), Point("Retrying", 1)),
        ("the end comes once", a_run(phase="Failed", attempt=3, completed_at=T0), Point("Failed", at=T0)),
    ],
)
def test_point(case, run, expected):
    assert point_of(run) == expected


FAILED = Point("Failed", at=T0)


@pytest.mark.parametrize(
    ("case", "point", "notification", "status", "since", "now_s", "expected"),
    [
        ("asked for and not told", FAILED, tells("Failed"), {}, None, 1, True),
        ("not asked for", FAILED, tells("Completed"), {}, None, 1, False),
        ("asked for never", FAILED, tells(), {}, None, 1, False),
        ("told already", FAILED, tells("Failed"), told("Failed"), None, 1, False),
        ("somebody else was told", FAILED, tells("Failed"), told("Failed", name="other"), None, 1, True),
        ("another attempt is news", Point("Running", 2), tells("Running"), told("Running/1"), None, 1, True),
        (
            "the same attempt is none",
            Point("Running", 2),
            tells("Running"),
            told("Running/1", "Running/2"),
            None,
            1,
            False,
        ),
        ("it ended before the notification was there", FAILED, tells("Failed"), {}, 6, 10, False),
        ("the clocks may differ a little", FAILED, tells("Failed"), {}, 4, 10, True),
        ("it ended since", FAILED, tells("Failed"), {}, -5, 10, True),
        ("everybody has been told or given up on", FAILED, tells("Failed"), {"notified": True}, None, 1, False),
        ("a day late", FAILED, tells("Failed"), {}, None, 24 * 3600 + 1, False),
        ("late in time", Point("Late", at=T0), tells("Late", late_after_s=60), {}, None, 61, True),
        (
            "late for another, not yet for this",
            Point("Late", at=T0),
            tells("Late", late_after_s=60),
            {},
            None,
            59,
            False,
        ),
    ],
)
def test_due(case, *, point, notification, status, since, now_s, expected):
    known = {} if since is None else {"ops": T0 + s(since)}
    found = due(a_run(), point, [notification], status, since=known, now=T0 + s(now_s))
    assert bool(found) is expected


@pytest.mark.parametrize(
    ("case", "run", "now_s", "expected"),
    [
        ("waits still", a_run(phase="Queued"), 40, [20.0, 560.0]),
        ("is late", a_run(phase="Queued"), 90, [0.0, 510.0]),
        ("counts from the time that it is planned for", a_run(scheduled_at=T0 + s(100)), 90, [70.0, 610.0]),
        ("has started", a_run(phase="Pending", attempt=1), 90, []),
        ("has ended", a_run(phase="Skipped"), 90, []),
    ],
)
def test_late(case, run, now_s, expected):
    asked = [tells("Failed"), tells("Late", late_after_s=60), tells("Late", late_after_s=600)]
    assert late_waits_s(run, asked, T0 + s(now_s)) == expected
    assert late_waits_s(run, [tells("Failed")], T0 + s(now_s)) == []


def test_delivery_id_is_that_of_run_notification_and_occasion():
    same = delivery_id("uid", "ops", Point("Running", 1, T0))
    assert same == delivery_id("uid", "ops", Point("Running", 1))
    others = {
        delivery_id("uid", "ops", Point("Running", 2)),
        delivery_id("uid", "dev", Point("Running", 1)),
        delivery_id("other", "ops", Point("Running", 1)),
        delivery_id("uid", "ops", FAILED),
    }
    assert len(others | {same}) == 5


@given(failures=st.integers(1, 10_000), luck=st.floats(0, 1))
def test_waits_grow_and_end(failures, luck):
    assert 1.0 <= wait_s(failures, luck) <= 600.0
    assert wait_s(failures, luck) <= wait_s(failures + 1, luck)


def test_expires_a_day_after_the_end_or_after_it_was_seen():
    assert not expired(FAILED, T0 + s(500), T0 + GIVE_UP_AFTER)
    assert expired(FAILED, T0 + s(500), T0 + GIVE_UP_AFTER + s(1))
    assert not expired(Point("Retrying", 1), T0 + s(500), T0 + GIVE_UP_AFTER + s(1))


# --- the record --------------------------------------------------------------------------------------------------------


def write(status: dict, point: Point, *results: Result, at_s: float = 9) -> dict | None:
    return record(status, point, results, generation=1, now=T0 + s(at_s))


def merged(status: dict, patch: dict | None) -> dict:
    """As the API server merges it."""
    result = dict(status)
    for key, value in (patch or {}).items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = merged(result.get(key) or {}, value)
        else:
            result[key] = value
    return result


def notified(status: dict) -> tuple[str, str, str]:
    condition = next(item for item in status["conditions"] if item["type"] == "Notified")
    return condition["status"], condition["reason"], condition["message"]


def test_the_end_told_to_everybody_is_one_write():
    status = {"conditions": [{"type": "Succeeded", "status": "False"}]}
    after = merged(status, write(status, FAILED, Result("ops"), Result("dev")))
    assert after["notified"] is True
    assert after["notifications"]["ops"] == {"told": ["Failed"], "lastDeliveryTime": "2026-03-01T12:00:09.000Z"}
    assert notified(after)[:2] == ("True", "Delivered")
    assert after["conditions"][0] == {"type": "Succeeded", "status": "False"}
    assert write(after, FAILED, Result("ops"), Result("dev"), at_s=99) is None


def test_a_phase_on_the_way_does_not_close_the_record():
    after = merged({}, write({}, Point("Running", 1), Result("ops")))
    assert after["notifications"]["ops"]["told"] == ["Running/1"]
    assert "notified" not in after


def test_a_receiver_that_is_down_is_written_once_and_again_when_it_is_well():
    down = merged({}, write({}, FAILED, Result("ops"), Result("dev", "HTTP 503")))
    assert "notified" not in down
    assert down["notifications"]["dev"] == {"lastError": "HTTP 503"}
    assert notified(down) == ("False", "DeliveryFailed", "dev: HTTP 503. It is tried again, for 24 h in all.")
    assert write(down, FAILED, Result("dev", "HTTP 503"), at_s=60) is None
    well = merged(down, write(down, FAILED, Result("dev"), at_s=120))
    assert well["notified"] is True
    assert well["notifications"]["dev"]["told"] == ["Failed"]
    assert "lastError" not in well["notifications"]["dev"]
    assert notified(well)[0] == "True"


def test_who_waits_for_a_busy_receiver_keeps_the_record_open():
    after = merged({}, write({}, FAILED, Result("ops"), Result("dev", waiting=True)))
    assert "notified" not in after
    assert after["notifications"].keys() == {"ops"}
    assert notified(after)[0] == "True"
    assert write({}, FAILED, Result("dev", waiting=True)) is None


def test_a_receiver_that_is_given_up_on_closes_the_record():
    after = merged({}, write({}, FAILED, Result("dev", "HTTP 400", gave_up=True)))
    assert after["notified"] is True
    assert notified(after) == ("False", "DeliveryFailed", "dev: HTTP 400. It is not tried again.")


def test_the_record_and_the_errors_are_bounded():
    status: dict = {}
    for attempt in range(1, 60):
        status = merged(status, write(status, Point("Running", attempt), Result("ops")))
    assert len(status["notifications"]["ops"]["told"]) == 32
    assert status["notifications"]["ops"]["told"][-1] == "Running/59"
    long = merged({}, write({}, FAILED, Result("ops", "x" * 5000)))
    assert len(long["notifications"]["ops"]["lastError"]) == 512
    assert len(notified(long)[2]) <= 1024


@given(outcomes=st.lists(st.sampled_from(["", "HTTP 500", "HTTP 502"]), min_size=1, max_size=8))
def test_whatever_happens_on_the_way_told_is_told_and_stays(outcomes):
    status: dict = {}
    for error in outcomes:
        if not due(a_run(), FAILED, [tells("Failed")], status, since={}, now=T0 + s(1)):
            assert "" in outcomes
            break
        status = merged(status, write(status, FAILED, Result("ops", error)))
        assert (status.get("notified") is True) == (not error)


# --- who holds, and how they do ----------------------------------------------------------------------------------------


def block(notify: str | None, namespace: str = "ns") -> BlockView:
    return BlockView(namespace, "ops", "u", "1", "slack-webhook", notify=notify)


@pytest.mark.parametrize(
    ("case", "notify", "phases", "problem"),
    [
        ("no annotation", None, None, ""),
        ("empty: what goes wrong", "", {"Failed", "Crashed", "TimedOut"}, ""),
        ("a list", "Failed, Completed,Late", {"Failed", "Completed", "Late"}, ""),
        ("a word that is none", "Failed,Broken", {"Failed"}, "'Broken'"),
        ("only words that are none tell nothing", "all", set(), "'all'"),
    ],
)
def test_blocks_that_ask_to_be_told(case, notify, phases, problem):
    found = default_of(block(notify))
    assert (None if found is None else set(found.phases)) == phases
    assert problem in annotation_problem(block(notify))
    assert bool(problem) == bool(annotation_problem(block(notify)))


def test_the_deployments_own_wins_over_the_namespaces_and_that_over_the_clusters():
    own, space, cluster = tells(), tells("Failed"), tells("Completed")
    assert holding([own], [space], [cluster]) == (own,)
    assert holding([], [space, tells(name="b")], [cluster]) == (space, tells(name="b"))


def test_since_is_written_once_and_goes_with_the_notification():
    patch = since_patch({}, [tells(name="a"), tells(name="b")], T0)
    assert patch == {"notifications": {name: {"since": "2026-03-01T12:00:00.000Z"} for name in "ab"}}
    assert since_patch(patch, [tells(name="a"), tells(name="b")], T0 + s(60)) == {}
    assert since_patch(patch, [tells(name="b")], T0 + s(60)) == {"notifications": {"a": None}}
    asked = [tells(name="a"), tells(name="new")]
    assert since_of(a_deployment(status={**patch, "observedGeneration": 1}), asked, T0 + s(9)) == {
        "a": T0,
        "new": T0 + s(9),
    }
    assert since_of(a_deployment(), asked, T0 + s(9)) == {"a": T0, "new": T0}  # nobody has looked at it yet


def test_templates_with_names_that_nothing_fills():
    assert template_verdict([tells(subject="{{run}} {{ phase }}", body="{{ message }}")]) is None
    verdict = template_verdict([tells(), tells(name="bad", body="{{ run }} {{ owner }} {{ a.b }} {{ owner }}")])
    assert verdict is not None
    assert verdict.reason == "NotificationTemplateInvalid"
    assert "'bad': body holds {{ owner }}, {{ a.b }}, which" in verdict.message
    assert "failed_tasks" in verdict.message


OLD = {"status": "False", "reason": "DeliveryFailed", "message": "ops: HTTP 503."}
MISSING = Problem("ops", "SecretMissing", "mount it")


@pytest.mark.parametrize(
    ("case", "health", "old", "expected"),
    [
        ("all is well", Health(), None, ("True", "AsExpected", "")),
        ("a problem", Health((MISSING,)), None, ("False", "SecretMissing", "ops: mount it.")),
        ("nobody knows yet whether it answers again", Health(), OLD, ("False", "DeliveryFailed", "ops: HTTP 503.")),
        ("it does", Health(told=True), OLD, ("True", "AsExpected", "")),
        ("what was missing is there", Health(), {**OLD, "reason": "SecretMissing"}, ("True", "AsExpected", "")),
    ],
)
def test_health(case, health, old, expected):
    found = health_condition(health, old)
    assert (found.status, found.reason, found.message) == expected
