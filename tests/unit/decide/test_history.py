"""Which finished runs leave."""

import pytest

from levada.decide.definitions import History
from levada.decide.history import KEEP_FAILED, KEEP_SUCCESSFUL, FinishedRun, leaving, next_expiry_s
from support.facts import T0, s


def ended(name, phase="Completed", at=0, **more):
    return FinishedRun(name, f"uid-{name}", "1", phase, T0 + s(at), **more)


DAY = 86_400
FOUR = [ended("c1", at=1), ended("f1", "Failed", at=2), ended("c2", at=3), ended("f2", "Crashed", at=4)]


@pytest.mark.parametrize(
    ("case", "runs", "history", "archived", "now_s", "gone"),
    [
        ("few stay", FOUR, History(), True, DAY, []),
        ("the oldest success leaves", FOUR, History(keep_successful=1), True, DAY, ["c1"]),
        ("failures have their own count", FOUR, History(keep_failed=1), True, DAY, ["f1"]),
        ("nothing is kept", FOUR, History(keep_successful=0, keep_failed=0), True, DAY, ["c1", "f1", "c2", "f2"]),
        ("by age, whatever the counts", FOUR, History(ttl_s=10), True, 12.5, ["c1", "f1"]),
        ("age 0 is at once", FOUR[:1], History(ttl_s=0), True, 1, ["c1"]),
        ("what is needed stays", [ended("a", at=1, pinned=True), ended("b", at=2)], History(keep_successful=0), True, DAY, ["b"]),
        ("and takes a place", [ended("a", at=2, pinned=True), ended("b", at=1)], History(keep_successful=1), True, DAY, ["b"]),
        ("a skip is no failure", [ended("a", "Skipped", at=1), ended("b", at=2)], History(keep_successful=1), True, DAY, ["a"]),
        ("cancelled counts as not successful", [ended("a", "Cancelled"), ended("b", "TimedOut", at=1)], History(keep_failed=1), True, DAY, ["a"]),
        ("explicit counts hold without a storage", FOUR, History(keep_failed=1), False, DAY, ["f1"]),
        ("same moment: by uid, so twice the same", [ended("b"), ended("a")], History(keep_successful=1), True, DAY, ["a"]),
    ],
)  # fmt: skip
def test_leaving(*, case, runs, history, archived, now_s, gone):
    found = leaving(runs, history, archived=archived, now=T0 + s(now_s))
    assert [run.name for run in found] == gone
    again = leaving([run for run in runs if run not in found], history, archived=archived, now=T0 + s(now_s))
    assert again == ()


@pytest.mark.parametrize(("archived", "failed_stay"), [(True, KEEP_FAILED), (False, 300)])
def test_defaults(archived, failed_stay):
    runs = [ended(f"c{n}", at=n) for n in range(300)] + [ended(f"f{n}", "Failed", at=n) for n in range(300)]
    gone = leaving(runs, History(), archived=archived, now=T0 + s(DAY))
    assert sum(run.successful for run in gone) == 300 - KEEP_SUCCESSFUL
    assert sum(not run.successful for run in gone) == 300 - failed_stay
    assert all(run.ended < T0 + s(200) for run in gone)


@pytest.mark.parametrize(
    ("case", "history", "now_s", "expected"),
    [("no age", History(), 5, None), ("the next one", History(ttl_s=10), 12.5, 0.5), ("none left", History(ttl_s=10), DAY, None)],
)  # fmt: skip
def test_next_expiry(case, history, now_s, expected):
    assert next_expiry_s(FOUR, history, T0 + s(now_s)) == expected
