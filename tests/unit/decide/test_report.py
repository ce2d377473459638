"""The runner's last words in the termination message."""

import json

import pytest

from levada.decide.report import read_report
from support.facts import a_pod


def said(**fields):
    return a_pod(exit_code=1, termination_message=json.dumps({"levada": 1, "phase": "Failed", **fields}))


def test_a_report():
    report = read_report(said(reason="FlowFailed", message="no", result="1", progress="1/2"))
    assert (report.phase, report.reason, report.message, report.result, report.progress) == (
        "Failed",
        "FlowFailed",
        "no",
        "1",
        "1/2",
    )


@pytest.mark.parametrize(
    "pod",
    [
        a_pod(exit_code=1),
        a_pod(exit_code=1, termination_message="Traceback ..."),
        a_pod(exit_code=1, termination_message="[" * 100_000),
        a_pod(exit_code=1, termination_message="[1]"),
        a_pod(exit_code=1, termination_message='{"phase": "Failed"}'),
        said(phase="Terminated"),
        said(phase="Running"),
        said(phase=["Failed"]),
        said(phase=None),
        a_pod(exit_code=1, failed_container="init", termination_message='{"levada": 1, "phase": "Completed"}'),
    ],
)
def test_what_decides_nothing(pod):
    assert read_report(pod) is None


def test_words_of_the_wrong_shape_are_dropped_and_long_ones_cut():
    report = read_report(said(reason=3, message="x" * 5000, result={}))
    assert (report.reason, len(report.message), report.result) == ("Failed", 1024, None)
