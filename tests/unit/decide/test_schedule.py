"""A Schedule is told that nothing will start by it: once for each generation."""

from datetime import UTC, datetime

from levada.decide.schedule import decide_schedule
from levada.decide.views import schedule_view

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OBJECT = {"metadata": {"namespace": "home", "name": "monthly", "uid": "u", "resourceVersion": "1", "generation": 2}}


def test_a_new_schedule_gets_the_condition_and_an_event():
    plan = decide_schedule(schedule_view(OBJECT), NOW)
    (condition,) = plan.status["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Ready", "False", "NotServed")
    assert "levada deployment run" in condition["message"]
    assert [event.reason for event in plan.events] == ["NotServed"]


def test_a_schedule_that_knows_is_left_alone():
    status = decide_schedule(schedule_view(OBJECT), NOW).status
    plan = decide_schedule(schedule_view(OBJECT | {"status": status}), NOW)
    assert plan.status is None
    assert not plan.events
