from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levada.resources.phases import RunPhase
from levada.runner.outcome import Outcome
from levada.runner.status import (
    Identity,
    Standing,
    View,
    end_fields,
    judge,
    merge_patch,
    merged,
    start_fields,
    started_before,
)
from unit.runner import fake_api

T0 = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ME = Identity("etl", 2, "etl-2-abcde", T0, uid="u")


def view(*, cancel: bool = False, suspend: bool = False, **status: object) -> View:
    return View.of(
        {
            "metadata": {"resourceVersion": "7", "uid": "u"},
            "spec": {"cancel": cancel, "suspend": suspend},
            "status": {"attempt": 2} | status,
        }
    )


@pytest.mark.parametrize(
    ("case", "seen", "standing", "told"),
    [
        ("pending, our attempt", view(phase="Pending"), Standing.OURS, ""),
        ("running here", view(phase="Running", podName="etl-2-abcde"), Standing.OURS, ""),
        (
            "the pod of the attempt before is still named",
            view(phase="Pending", podName="etl-1-xxxxx"),
            Standing.OURS,
            "",
        ),
        ("the operator is ahead", view(phase="Pending", attempt=3), Standing.LOST, "attempt 3"),
        ("no attempt was ordered", View("7", cancel=False, uid="u"), Standing.LOST, "attempt 0"),
        ("another pod has this attempt", view(phase="Running", podName="etl-2-zzzzz"), Standing.LOST, "etl-2-zzzzz"),
        ("given up", view(phase="Retrying"), Standing.LOST, "given attempt 2"),
        ("ended", view(phase="TimedOut"), Standing.ENDED, "already ended as TimedOut"),
        ("ended and cancelled", view(phase="Completed", cancel=True), Standing.ENDED, "Completed"),
        ("cancelled, the operator has not seen it", view(phase="Running", cancel=True), Standing.CANCEL, "cancelled"),
        ("deleted and created again", replace(view(phase="Pending"), uid="another"), Standing.LOST, "deleted"),
        ("cancelling", view(phase="Cancelling"), Standing.CANCEL, "cancelled"),
        ("suspended, the operator has not seen it", view(phase="Running", suspend=True), Standing.SUSPEND, "suspended"),
        ("suspending, and taken back", view(phase="Paused", reason="Suspending"), Standing.SUSPEND, "suspended"),
        ("the flow waits for a person", view(phase="Paused", reason="WaitingForInput"), Standing.OURS, ""),
        ("cancelled and suspended", view(phase="Paused", suspend=True, cancel=True), Standing.CANCEL, "cancelled"),
        ("ended and suspended", view(phase="Completed", suspend=True), Standing.ENDED, "Completed"),
        ("an old attempt is lost, cancelled or not", view(phase="Cancelling", attempt=3), Standing.LOST, "attempt 3"),
    ],
)
def test_judge(case: str, seen: View, standing: Standing, told: str) -> None:
    verdict, why = judge(seen, ME)
    assert verdict is standing
    assert told in why


def here(start: str, reason: str = "Running") -> View:
    return view(phase="Running", reason=reason, podName="etl-2-abcde", startTime=start)


@pytest.mark.parametrize(
    ("case", "seen", "before"),
    [
        ("not started", view(phase="Pending", podName="etl-2-abcde"), False),
        ("our own report, its answer was lost", here("2026-01-02T03:04:05.000000Z"), False),
        ("an earlier process in this pod", here("2026-01-02T03:00:00.000000Z"), True),
        ("the operator has waited for a report", here("2026-01-02T03:04:04.000000Z", reason="NoReportYet"), False),
        (
            "the attempt before",
            view(phase="Pending", podName="etl-1-abcde", startTime="2026-01-02T03:00:00.000000Z"),
            False,
        ),
    ],
)
def test_started_before(case: str, seen: View, before: bool) -> None:
    assert started_before(seen, ME) is before


@pytest.mark.parametrize(
    ("case", "known", "wanted", "patch"),
    [
        ("nothing changed", {"a": 1, "m": {"x": 1}}, {"a": 1, "m": {"x": 1}}, {}),
        ("only what changed", {"a": 1, "m": {"x": 1, "y": 2}}, {"a": 1, "m": {"x": 3, "y": 2}}, {"m": {"x": 3}}),
        ("others' fields stay", {"queue": "q", "stages": {"queuedSeconds": 1}}, {"stages": {"waitSeconds": 2}}, {"stages": {"waitSeconds": 2}}),
        ("None removes", {"a": 1}, {"a": None}, {"a": None}),
        ("None of what is not there says nothing", {}, {"a": None, "m": {"x": None}}, {}),
        ("a row that is gone is removed", {"tasks": {"a": {"s": 1}, "b": {"s": 1}}}, {"tasks": {"b": {"s": 2}}}, {"tasks": {"a": None, "b": {"s": 2}}}),
        ("all rows gone", {"tasks": {"a": {"s": 1}}}, {"tasks": {}}, {"tasks": {"a": None}}),
        ("a new row has no nulls", {}, {"tasks": {"a": {"s": 1, "message": None}}}, {"tasks": {"a": {"s": 1}}}),
        ("a field of a row goes", {"tasks": {"a": {"s": 1, "message": "m"}}}, {"tasks": {"a": {"s": 1, "message": None}}}, {"tasks": {"a": {"message": None}}}),
        ("a list is replaced", {"l": [1]}, {"l": [1, 2]}, {"l": [1, 2]}),
        (
            "conditions of others are taken along",
            {"conditions": [{"type": "Stuck"}, {"type": "Succeeded", "status": "Unknown"}]},
            {"conditions": [{"type": "Succeeded", "status": "True"}]},
            {"conditions": [{"type": "Stuck"}, {"type": "Succeeded", "status": "True"}]},
        ),
        ("a map where a word stood", {"m": "text"}, {"m": {"x": 1}}, {"m": {"x": 1}}),
    ],
)  # fmt: skip
def test_merge_patch(case: str, known: dict, wanted: dict, patch: dict) -> None:
    assert merge_patch(known, wanted) == patch


rows = st.dictionaries(
    st.sampled_from("abcd"),
    st.fixed_dictionaries(
        {"state": st.sampled_from(["Running", "Completed"]), "message": st.sampled_from([None, "m", "n"])}
    ),
    max_size=4,
)


@given(rows, rows)
def test_a_patch_leads_from_the_known_rows_to_the_wanted(before: dict, after: dict) -> None:
    known = merged({}, {"tasks": before})
    patch = merge_patch(known, {"tasks": after})
    result = merged(known, patch)
    assert result == fake_api._merged(known, patch), "our merge is that of RFC 7386"
    assert result.get("tasks", {}) == merged({}, {"tasks": after}).get("tasks", {})
    assert merge_patch(result, {"tasks": after}) == {}, "said once"


@pytest.mark.parametrize(
    ("case", "outcome", "cancelling", "phase", "condition"),
    [
        ("completed", Outcome(RunPhase.COMPLETED, "Completed"), False, "Completed", "True"),
        ("failed", Outcome(RunPhase.FAILED, "FlowFailed", "m"), False, "Failed", "False"),
        (
            "failed, with a retry to come",
            Outcome(RunPhase.FAILED, "FlowFailed", "m", retried=True),
            False,
            "Retrying",
            "Unknown",
        ),
        (
            "failed, and nobody wants a retry",
            Outcome(RunPhase.FAILED, "FlowFailed", "m", retried=True),
            True,
            "Failed",
            "False",
        ),
        ("cancelled", Outcome(RunPhase.CANCELLED, "Cancelled", interrupted=True), True, "Cancelled", "False"),
    ],
)
def test_end_fields(case: str, outcome: Outcome, cancelling: bool, phase: str, condition: str) -> None:
    fields = end_fields(outcome, ME, T0 + timedelta(seconds=90, milliseconds=1), cancelling=cancelling)
    assert fields["phase"] == phase
    assert [(c["type"], c["status"], c["reason"]) for c in fields["conditions"]] == [
        ("Succeeded", condition, outcome.reason)
    ]
    assert fields["completionTime"] == (None if phase == "Retrying" else "2026-01-02T03:05:35.001000Z")
    assert fields["durationSeconds"] == 90.001


def test_the_start_clears_what_an_earlier_attempt_left() -> None:
    known = {
        "phase": "Pending",
        "reason": "Evicted",
        "message": "node lost",
        "durationSeconds": 4,
        "attempt": 2,
        "diagnosis": {},
    }
    after = merged(known, merge_patch(known, start_fields(ME)))
    assert after.pop("conditions")[0]["status"] == "Unknown"
    assert after == {
        "phase": "Running", "reason": "Running", "podName": "etl-2-abcde", "startTime": "2026-01-02T03:04:05.000000Z",
        "attempt": 2, "diagnosis": {},
    }  # fmt: skip
