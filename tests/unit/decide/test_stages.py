"""Where a run's time went, from its status and the pod of its last attempt."""

import pytest

from levada.decide.facts import RunEnd
from levada.decide.stages import pod_stages, stages_of
from support.facts import T0, a_job, a_pod, a_run, s


def an_ended_run(end, *, after_s=10.0, **fields):
    return a_run(phase="Completed", attempt=1, queued_seconds=1.0, completed_at=T0 + s(after_s), end=end, **fields)


def test_a_run_whose_runner_measured_everything():
    run = an_ended_run(RunEnd(duration_s=6.5, wait_s=2.0, import_s=0.5, user_s=5.0))
    pod = a_pod(scheduled_at=T0 + s(1), started_at=T0 + s(3))
    stages = stages_of(run, pod, a_job(created_at=T0 + s(1)))
    assert dict(stages.known()) == {
        "queued": 1.0, "schedule": 0.0, "image": 2.0, "import": 0.5, "user": 5.0, "idle": 1.5,
    }  # fmt: skip
    assert stages.total_s == 10
    assert stages.overhead_ratio == 0.5


@pytest.mark.parametrize(
    ("case", "run", "pod", "user_s", "ratio"),
    [
        ("no runner: the container's time is the user's", an_ended_run(RunEnd(duration_s=4.0)), a_pod(exit_code=0), 4.0, 0.6),
        ("never started", an_ended_run(RunEnd()), None, None, None),
        ("still running", a_run(attempt=1, phase="Running"), a_pod(), None, None),
        ("ended in the moment that it was due", an_ended_run(RunEnd(user_s=0.0), after_s=0), None, 0.0, None),
        ("the runner's clock is ahead", an_ended_run(RunEnd(user_s=12.0)), None, 12.0, 0.0),
        (
            "a tick counts from its time",
            an_ended_run(RunEnd(user_s=5.0), scheduled_at=T0 + s(5)), None, 5.0, 0.0,
        ),
    ],
)  # fmt: skip
def test_overhead(case, run, pod, user_s, ratio):
    stages = stages_of(run, pod)
    assert (stages.user_s, stages.overhead_ratio) == (user_s, ratio)


@pytest.mark.parametrize(
    ("case", "pod", "expected"),
    [
        ("no pod", None, (None, None)),
        ("not scheduled", a_pod(), (None, None)),
        ("scheduled, not started", a_pod(scheduled_at=T0 + s(2)), (2.0, None)),
        ("started", a_pod(scheduled_at=T0 + s(2), started_at=T0 + s(5)), (2.0, 3.0)),
    ],
)
def test_pod_stages(case, pod, expected):
    assert pod_stages(pod, a_job()) == expected
