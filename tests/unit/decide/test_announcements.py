"""Which steps of a run are told by Events, and about which object."""

import pytest

from levada.decide.announcements import announcements, task_pod_event, task_pod_news, task_pod_outcome
from levada.decide.facts import QueueFacts, Room, TaskPodView
from levada.decide.run import decide_run
from support.facts import T0, a_queue, a_run, facts

PENDING = a_run(attempt=1)
RUNNING = a_run(attempt=1, phase="Running", pod_name="r-1-abcde")


def ended(phase, reason="FlowFailed"):
    return a_run(attempt=1, phase=phase, reason=reason, message="no luck", completed_at=T0)


@pytest.mark.parametrize(
    ("case", "before", "after", "of_run", "of_deployment"),
    [
        ("it starts", PENDING, RUNNING, ["Started"], None),
        ("it goes on after a pause", a_run(attempt=1, phase="Paused"), RUNNING, [], None),
        ("it waits for a person", RUNNING, a_run(attempt=1, phase="Paused"), ["Paused"], None),
        ("it is repeated", RUNNING, a_run(attempt=1, phase="Retrying"), [], "RunRetrying"),
        ("it fails", RUNNING, ended("Failed"), [], "RunFailed"),
        ("it crashes", RUNNING, ended("Crashed"), [], "RunCrashed"),
        ("it takes too long", RUNNING, ended("TimedOut"), [], "RunTimedOut"),
        ("a success is no news for its Deployment", RUNNING, ended("Completed"), [], None),
        ("somebody cancelled it", RUNNING, ended("Cancelled"), [], None),
        ("it comes into view", None, RUNNING, [], None),
        ("it comes into view when it is over", None, ended("Failed"), [], None),
        ("it is forgotten", RUNNING, None, [], None),
        ("nothing changed", RUNNING, RUNNING, [], None),
        ("another run of its name", a_run(uid="older", attempt=1), RUNNING, [], None),
    ],
)
def test_announcements(case, before, after, of_run, of_deployment):
    told = announcements(before, after)
    assert [event.reason for event in told.of_run] == of_run
    assert (told.of_deployment.reason if told.of_deployment else None) == of_deployment


def test_a_failure_names_the_run_and_the_cause():
    told = announcements(RUNNING, ended("Failed")).of_deployment
    assert told is not None
    assert told.message == "FlowRun r: FlowFailed: no luck"


@pytest.mark.parametrize(("waited_s", "reasons", "again_s"), [(10, [], 290), (299, [], 1), (301, ["QueuedLong"], None)])
def test_a_run_that_waits_for_long_says_what_for(waited_s, reasons, again_s):
    full = QueueFacts(a_queue(limit=2), queue=Room(limit=2, held=2))
    plan = decide_run(facts(a_run(), at=waited_s, queue=full))
    assert [event.reason for event in plan.events] == reasons
    assert all("runs at most 2" in event.message for event in plan.events)
    assert plan.requeue_after_s == again_s


def a_pod(state, reason="", attempt=1):
    return TaskPodView("t1", attempt, state, T0, holder="train-0", reason=reason, message="and why")


@pytest.mark.parametrize(
    ("case", "before", "after", "outcome", "event"),
    [
        ("it asks", None, a_pod("Waiting"), None, None),
        ("it is granted", a_pod("Waiting"), a_pod("Granted"), "granted", "TaskPodGranted"),
        ("granted before anybody saw it ask", None, a_pod("Granted"), "granted", "TaskPodGranted"),
        ("what it waits for is no news", a_pod("Granted"), a_pod("Granted", "ImagePull"), None, None),
        ("it is through", a_pod("Granted"), a_pod("Ended", "Completed"), "completed", None),
        ("it fails", a_pod("Granted"), a_pod("Ended", "OutOfMemory"), "failed", "TaskPodFailed"),
        ("it is refused", a_pod("Waiting"), a_pod("Refused", "NotAllowed"), "refused", "TaskPodRefused"),
        ("that of an earlier attempt", a_pod("Ended"), a_pod("Granted", attempt=2), "granted", "TaskPodGranted"),
        ("it is taken back", a_pod("Granted"), None, None, None),
    ],
)
def test_pods_of_tasks(case, before, after, outcome, event):
    runs = [a_run(attempt=2, phase="Running", task_pods=(pod,) if pod else ()) for pod in (before, after)]
    news = task_pod_news(*runs)
    assert [task_pod_outcome(entry) for entry in news] == ([outcome] if outcome else [])
    told = [task_pod_event(runs[1], entry) for entry in news]
    assert [spec.reason for spec in told if spec is not None] == ([event] if event else [])
    assert not event or "t1 (train-0)" in told[0].message
    assert task_pod_news(None, runs[1]) == (), "what was before this process has been told"
