"""The life of a run, one line for each rule."""

import pytest

from levada.engine.machine import (
    CALL,
    FINISH,
    START,
    Blocked,
    Failure,
    IllegalEventError,
    Position,
    Recalled,
    Returned,
    Rules,
    Stopped,
    Wait,
    advance,
)
from levada.resources.phases import TERMINAL_TASK_STATES, TaskState

P, R, Y = TaskState.PENDING, TaskState.RUNNING, TaskState.RETRYING
TWO_RETRIES = Rules(2, (1.0, 5.0))


@pytest.mark.parametrize(
    ("case", "given", "after", "effect"),
    [
        ("the first try", (Position(), START, Rules()), Position(R, 1), CALL),
        ("a retry is the next try", (Position(Y, 1, "x"), START, TWO_RETRIES), Position(R, 2), CALL),
        ("returned", (Position(R, 1), Returned(), Rules()), Position(TaskState.COMPLETED, 1), FINISH),
        (
            "returned with words",
            (Position(R, 1), Returned("ok"), Rules()),
            Position(TaskState.COMPLETED, 1, "ok"),
            FINISH,
        ),
        ("failed", (Position(R, 1), Failure("E: x"), Rules()), Position(TaskState.FAILED, 1, "E: x"), FINISH),
        (
            "failed, a retry is left",
            (Position(R, 1), Failure("E: x"), TWO_RETRIES),
            Position(Y, 1, "attempt 1 of 3 failed, next in 1 s: E: x"),
            Wait(1.0),
        ),
        (
            "each retry has its own delay",
            (Position(R, 2), Failure("E: x"), TWO_RETRIES),
            Position(Y, 2, "attempt 2 of 3 failed, next in 5 s: E: x"),
            Wait(5.0),
        ),
        (
            "no delay means now",
            (Position(R, 1), Failure("E: x"), Rules(1)),
            Position(Y, 1, "attempt 1 of 2 failed, next now: E: x"),
            Wait(0.0),
        ),
        (
            "the last try failed",
            (Position(R, 3), Failure("E: x"), TWO_RETRIES),
            Position(TaskState.FAILED, 3, "E: x (after 3 attempts)"),
            FINISH,
        ),
        (
            "trying again makes no sense",
            (Position(R, 1), Failure("exit", final=True), TWO_RETRIES),
            Position(TaskState.FAILED, 1, "exit"),
            FINISH,
        ),
        (
            "its arguments could not be made",
            (Position(), Failure("bad", final=True), TWO_RETRIES),
            Position(TaskState.FAILED, 0, "bad"),
            FINISH,
        ),
        (
            "an upstream failed",
            (Position(), Blocked("no a"), TWO_RETRIES),
            Position(TaskState.SKIPPED, 0, "no a"),
            FINISH,
        ),
        (
            "its result was there already",
            (Position(), Recalled(), TWO_RETRIES),
            Position(TaskState.COMPLETED, 0, "cached"),
            FINISH,
        ),
        (
            "chance makes a delay longer",
            (Position(R, 1), Failure("E: x", luck=0.5), Rules(1, (2.0,), jitter=1.0)),
            Position(Y, 1, "attempt 1 of 2 failed, next in 3 s: E: x"),
            Wait(3.0),
        ),
        (
            "what ran it died",
            (Position(R, 1), Failure("worker", crashed=True), Rules()),
            Position(TaskState.CRASHED, 1, "worker"),
            FINISH,
        ),
        (
            "what ran it died, a retry is left",
            (Position(R, 1), Failure("worker", crashed=True), Rules(1)),
            Position(Y, 1, "attempt 1 of 2 failed, next now: worker"),
            Wait(0.0),
        ),
        (
            "ended by what nobody meant",
            (Position(R, 1), Stopped("s", crashed=True), TWO_RETRIES),
            Position(TaskState.CRASHED, 1, "s"),
            FINISH,
        ),
        ("stopped before it began", (Position(), Stopped("s"), Rules()), Position(TaskState.CANCELLED, 0, "s"), FINISH),
        (
            "stopped while it ran",
            (Position(R, 1), Stopped("s"), TWO_RETRIES),
            Position(TaskState.CANCELLED, 1, "s"),
            FINISH,
        ),
        (
            "stopped between tries",
            (Position(Y, 1, "m"), Stopped("s"), TWO_RETRIES),
            Position(TaskState.CANCELLED, 1, "s"),
            FINISH,
        ),
    ],
)
def test_advance(case, given, after, effect):
    assert advance(*given) == (after, effect), case


@pytest.mark.parametrize("state", sorted(TERMINAL_TASK_STATES))
@pytest.mark.parametrize("event", [START, Returned(), Recalled(), Failure("x"), Stopped("x"), Blocked("x")])
def test_the_end_is_the_end(state, event):
    position = Position(state, 1, "said before")
    assert advance(position, event, TWO_RETRIES) == (position, FINISH)


@pytest.mark.parametrize(
    ("state", "event"),
    [
        (P, Returned()),
        (R, START),
        (R, Blocked("x")),
        (Y, Returned()),
        (Y, Failure("x")),
        (Y, Blocked("x")),
        (R, Recalled()),
        (Y, Recalled()),
    ],
)
def test_an_event_that_cannot_be_is_a_defect_of_ours(state, event):
    with pytest.raises(IllegalEventError, match=f"cannot happen to a run that is {state}"):
        advance(Position(state, 1), event, Rules())
