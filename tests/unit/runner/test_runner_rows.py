from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levada.engine.reporter import TaskReport
from levada.resources.phases import TERMINAL_TASK_STATES, TaskState
from levada.runner.rows import Board, Limit, row_of

T0 = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
FINE = {TaskState.COMPLETED, TaskState.SKIPPED}
EMPTY = {
    "total": 0, "pending": 0, "running": 0, "retrying": 0, "completed": 0, "cached": 0, "persisted": 0,
    "failed": 0, "cancelled": 0, "crashed": 0, "skipped": 0,
}  # fmt: skip


def report(task_id: str, state: str = "Running", **rest: object) -> TaskReport:
    return replace(TaskReport(task_id, task_id.rpartition("-")[0], TaskState(state), 1, T0, None), **rest)


def board_of(*reports: TaskReport) -> Board:
    board = Board()
    for each in reports:
        board.apply(each)
    return board


@pytest.mark.parametrize(
    ("case", "given", "row"),
    [
        (
            "what is not known is removed from the row, not written as empty",
            report("train-0", "Pending", start_time=None),
            {"state": "Pending", "startTime": None, "endTime": None, "message": None, "cached": None, "upstream": None},
        ),
        (
            "times are UTC with microseconds",
            report("train-0", "Completed", end_time=T0),
            {"startTime": "2026-01-02T03:04:05.000678Z", "endTime": "2026-01-02T03:04:05.000678Z"},
        ),
        ("a cached result is marked", report("train-0", "Completed", cached=True), {"cached": True}),
        ("upstream is a list", report("train-0", upstream=("load-0", "load-1")), {"upstream": ["load-0", "load-1"]}),
        ("upstream is bounded", report("train-0", upstream=("x",) * 999), {"upstream": ["x"] * 256}),
        ("a message is bounded", report("train-0", message="m" * 2000), {"message": "m" * 1023 + "…"}),
        ("a message of the full length stays", report("train-0", message="m" * 1024), {"message": "m" * 1024}),
        ("a name is bounded", report("train-0", name="n" * 300), {"name": "n" * 255 + "…"}),
    ],
)
def test_row(case: str, given: TaskReport, row: dict) -> None:
    assert row_of(given) | row == row_of(given)


@pytest.mark.parametrize(
    ("case", "reports", "expected"),
    [
        ("no tasks", [], {"progress": None, "currentTask": None, "truncatedTasks": 0}),
        ("one runs", [report("a-0")], {"progress": "0/1", "currentTask": "a"}),
        ("the one that started last is shown", [report("a-0"), report("b-0")], {"currentTask": "b +1"}),
        ("one that waits for its retry is the current one", [report("a-0", "Retrying")], {"currentTask": "a"}),
        (
            "what has ended counts",
            [report("a-0", "Failed"), report("b-0", "Skipped")],
            {"progress": "2/2", "currentTask": None},
        ),
        (
            "a later report replaces an earlier one",
            [report("a-0", "Pending"), report("a-0"), report("a-0", "Completed")],
            {"progress": "1/1", "taskCounts": EMPTY | {"total": 1, "completed": 1}},
        ),
        (
            "a cached task is completed and cached",
            [report("a-0", "Completed", cached=True), report("b-0", "Completed")],
            {"taskCounts": EMPTY | {"total": 2, "completed": 2, "cached": 1}},
        ),
        (
            "a task of a retried flow is no longer cached",
            [report("a-0", "Completed", cached=True), report("a-0", "Pending")],
            {"taskCounts": EMPTY | {"total": 1, "pending": 1}},
        ),
    ],
)
def test_summary(case: str, reports: list[TaskReport], expected: dict) -> None:
    status = board_of(*reports).status(Limit())
    assert status | expected == status


def test_what_is_done_and_fine_makes_room_first_and_the_newest_of_it_stays() -> None:
    done = [report(f"done-{n}", "Completed") for n in range(5)]
    status = board_of(*done, report("bad-0", "Failed"), report("run-0"), report("wait-0", "Pending")).status(
        Limit(rows=5)
    )
    assert list(status["tasks"]) == ["run-0", "bad-0", "wait-0", "done-4", "done-3"]
    assert status["truncatedTasks"] == 3
    assert status["taskCounts"] == EMPTY | {"total": 8, "completed": 5, "failed": 1, "running": 1, "pending": 1}


def test_rows_that_wait_make_room_for_those_that_run_and_come_back() -> None:
    board = board_of(*(report(f"map-{n}", "Pending") for n in range(4)), report("run-0"))
    assert list(board.status(Limit(rows=2))["tasks"]) == ["run-0", "map-0"]
    board.apply(report("run-0", "Completed"))
    board.apply(report("map-3", "Failed"))
    assert list(board.status(Limit(rows=3))["tasks"]) == ["map-3", "map-0", "map-1"]


def test_the_rows_stay_within_their_bytes() -> None:
    status = board_of(*(report(f"t-{n}", "Failed", message="m" * 1000) for n in range(100))).status(
        Limit(total_bytes=10_000)
    )
    assert len(status["tasks"]) == 8
    assert status["truncatedTasks"] == 92


def test_a_folded_task_that_runs_again_is_counted_once() -> None:
    board = board_of(report("a-0", "Completed"), report("b-0"))
    assert list(board.status(Limit(rows=1))["tasks"]) == ["b-0"]
    board.apply(report("a-0"))
    status = board.status(Limit())
    assert set(status["tasks"]) == {"a-0", "b-0"}
    assert status["taskCounts"]["running"] == status["taskCounts"]["total"] == 2


def test_a_hundred_thousand_tasks_are_a_few_rows_of_work() -> None:
    board = Board()
    for n in range(100_000):
        board.apply(report(f"t-{n}", "Completed"))
        if n % 2000 == 0:
            board.status(Limit())
    status = board.status(Limit())
    assert (len(status["tasks"]), status["truncatedTasks"], status["progress"]) == (1000, 99_000, "100000/100000")
    assert len(board._made) <= 1000, "what is folded is forgotten"


@given(
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from(TaskState), st.booleans()), max_size=60),
    st.integers(0, 6),
)
def test_counters_are_exact_whatever_is_folded(changes: list[tuple[int, TaskState, bool]], rows: int) -> None:
    board, last = Board(), {}
    for number, state, look in changes:
        board.apply(report(f"t-{number}", state))
        last[f"t-{number}"] = state
        if look:
            board.status(Limit(rows=rows))
    status = board.status(Limit(rows=rows))
    for state in TaskState:
        assert status["taskCounts"][state.value.lower()] == list(last.values()).count(state)
    assert len(status["tasks"]) <= rows
    assert len(status["tasks"]) + status["truncatedTasks"] == status["taskCounts"]["total"] == len(last)
    assert all(row["state"] == last[task_id] for task_id, row in status["tasks"].items())
    hidden = set(last) - set(status["tasks"])
    if len(status["tasks"]) < rows:
        assert all(last[task_id] in FINE for task_id in hidden), "only what is fine is folded while there is room"
    ended = sum(state in TERMINAL_TASK_STATES for state in last.values())
    assert status["progress"] == (f"{ended}/{len(last)}" if last else None)
