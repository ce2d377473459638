import json

import pytest

from levada.exceptions import ParameterError
from levada.resources.phases import RunPhase
from levada.runner.outcome import Outcome, failed, interrupted, outcome_of, preview, termination_message, with_retry
from levada.states import State

P = RunPhase


class Strange:
    def __repr__(self) -> str:
        return "<strange>"


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no")


LOOP: list = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("case", "state", "phase", "reason", "message", "worth_retrying"),
    [
        ("completed", State(P.COMPLETED, "done", value=1), P.COMPLETED, "Completed", "done", False),
        (
            "an exception",
            State(P.FAILED, "ValueError: no", exception=ValueError("no")),
            P.FAILED,
            "FlowFailed",
            "ValueError: no",
            True,
        ),
        (
            "an exception without words",
            State(P.FAILED, exception=KeyError("k")),
            P.FAILED,
            "FlowFailed",
            "KeyError: 'k'",
            True,
        ),
        (
            "returned as failed",
            State(P.FAILED, "1 of 3 tasks failed"),
            P.FAILED,
            "FlowFailed",
            "1 of 3 tasks failed",
            True,
        ),
        ("nothing known", State(P.FAILED), P.FAILED, "FlowFailed", "The flow failed.", True),
        ("sys.exit", State(P.FAILED, "exit 3", exception=SystemExit(3)), P.FAILED, "SystemExit", "exit 3", True),
        (
            "parameters",
            State(P.FAILED, exception=ParameterError("n: not a number")),
            P.FAILED,
            "InvalidParameters",
            "n: not a number",
            False,
        ),
        ("time is over", State(P.TIMED_OUT, "after 3 s"), P.TIMED_OUT, "TimedOut", "after 3 s", False),
        ("crashed", State(P.CRASHED, "gone"), P.CRASHED, "FlowCrashed", "gone", True),
        (
            "the flow says that it is cancelled",
            State(P.CANCELLED, "no data"),
            P.CANCELLED,
            "Cancelled",
            "no data",
            False,
        ),
        ("a message too long", State(P.FAILED, "m" * 2000), P.FAILED, "FlowFailed", "m" * 1023 + "…", True),
    ],
)
def test_outcome_of(
    *, case: str, state: State, phase: RunPhase, reason: str, message: str, worth_retrying: bool
) -> None:
    outcome = outcome_of(state)
    assert (outcome.phase, outcome.reason, outcome.message, outcome.worth_retrying) == (
        phase,
        reason,
        message,
        worth_retrying,
    )
    assert not outcome.interrupted


def test_a_flow_stopped_by_a_signal_is_interrupted() -> None:
    outcome = outcome_of(State(P.CANCELLED, "whatever"), stopped="terminated by SIGTERM")
    assert outcome == interrupted("terminated by SIGTERM")
    assert outcome.interrupted


def test_a_flow_that_finished_in_spite_of_the_signal_has_finished() -> None:
    assert outcome_of(State(P.COMPLETED, value=1), stopped="terminated by SIGTERM").phase is P.COMPLETED


@pytest.mark.parametrize(
    ("case", "value", "result", "warned"),
    [
        ("nothing", None, None, False),
        ("a number", 6.675, "6.675", False),
        ("a text", 'x "y" ü', '"x \\"y\\" ü"', False),
        ("a map", {"rmse": [1, None]}, '{"rmse": [1, null]}', False),
        ("a long text", "x" * 5000, '"' + "x" * 1022 + "…", False),
        ("a long list", list(range(1_000_000)), None, False),
        ("a strange thing", Strange(), "<strange>", True),
        ("a strange thing inside", {"a": [Strange()]}, "{'a': [<strange>]}", True),
        ("a thing that cannot be shown", Broken(), "<Broken instance at ", True),
        ("a circle", LOOP, "[[[[[[[...]]]]]]]", True),
        ("bytes", b"abc", "b'abc'", True),
        (
            "a long strange thing",
            (Strange(),) * 100,
            "(<strange>, <strange>, <strange>, <strange>, <strange>, <strange>, ...)",
            True,
        ),
    ],
)
def test_preview(case: str, value: object, result: str | None, warned: bool) -> None:
    text, warning = preview(value)
    if result is not None or value is None:
        assert text == result or ((result or "").endswith(" at ") and (text or "").startswith(result or "@"))
    assert len(text or "") <= 1024
    assert (type(value).__name__ in warning) if warned else warning == ""


def test_a_result_without_json_is_a_warning_and_not_a_failure() -> None:
    outcome = outcome_of(State(P.COMPLETED, "done", value=Strange()))
    assert (outcome.phase, outcome.result) == (P.COMPLETED, "<strange>")
    assert outcome.message == "done The return value of type Strange has no JSON form: the result shows its repr."


@pytest.mark.parametrize(
    ("case", "worth", "left", "cancelling", "phase"),
    [
        ("no retries left", True, 0, False, P.FAILED),
        ("one left", True, 1, False, P.RETRYING),
        ("the same code would fail the same way", False, 1, False, P.FAILED),
        ("being cancelled", True, 1, True, P.FAILED),
    ],
)
def test_retry(case: str, worth: bool, left: int, cancelling: bool, phase: RunPhase) -> None:
    outcome = with_retry(Outcome(P.FAILED, "FlowFailed", worth_retrying=worth), left)
    assert outcome.phase_of_run(cancelling=cancelling) is phase


@pytest.mark.parametrize(
    ("case", "outcome", "reported", "phase", "reason"),
    [
        ("completed", Outcome(P.COMPLETED, "Completed", result="1"), True, "Completed", "Completed"),
        ("completed, the API is away", Outcome(P.COMPLETED, "Completed", result="1"), False, "Completed", "Completed"),
        ("cancelled", interrupted("SIGTERM"), True, "Cancelled", "Cancelled"),
        ("stopped, nobody said why", interrupted("SIGTERM"), False, "Terminated", "Terminated"),
    ],
)
def test_termination_message(case: str, outcome: Outcome, reported: bool, phase: str, reason: str) -> None:
    words = json.loads(termination_message(outcome, "3/6", reported=reported))
    assert words == {
        "levada": 1, "phase": phase, "reason": reason, "message": outcome.message, "result": outcome.result, "progress": "3/6",
    }  # fmt: skip


@pytest.mark.parametrize("letter", ["x", "ü", "\U0001f600", "\x00", '"', "\ud800"])
def test_the_last_words_fit_whatever_the_letters(letter: str) -> None:
    outcome = Outcome(P.FAILED, "FlowFailed", letter * 3000, letter * 1024)
    words = termination_message(outcome, None, reported=False)
    assert 200 < len(words) <= 4096
    assert json.loads(words)["phase"] == "Failed"


@pytest.mark.parametrize(
    ("reason", "again"),
    [
        ("CodeNotFetched", True),  # a server that is away comes back
        ("RequirementsNotInstalled", True),
        ("CodeNotFound", False),
        ("RequirementsInvalid", False),
        ("SyntaxError", False),
    ],
)
def test_what_another_attempt_may_mend(reason: str, again: bool) -> None:
    assert with_retry(failed(reason, "x"), 1).retried is again
