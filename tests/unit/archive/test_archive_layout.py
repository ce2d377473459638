"""Where things lie in a storage."""

import pytest

from levada.archive import layout


def test_a_run_has_a_folder_by_name_and_uid():
    folder = layout.run_folder("team", "nightly-1", "0123456789")
    assert folder == "runs/team/nightly-1-01234567"
    assert layout.record_key(folder) == "runs/team/nightly-1-01234567/record.json"


@pytest.mark.parametrize(
    ("key", "chunk"),
    [
        ("runs/n/r-1/log-1-000000000000.txt", ("log", 1, 0)),
        ("runs/n/r-1/tasks-12-000000262144.jsonl", ("tasks", 12, 262144)),
        ("runs/n/r-1/record.json", None),
        ("runs/n/r-1/log-1-5.txt", None),
    ],
)
def test_chunks_are_known_by_their_names(key, chunk):
    found = layout.chunk_of(key)
    assert (found and found[:3]) == chunk
    if chunk:
        assert layout.chunk_key("runs/n/r-1", *chunk) == key


def test_chunks_are_read_in_the_order_of_attempt_and_offset():
    keys = [layout.chunk_key("f", "log", attempt, offset) for attempt, offset in ((10, 0), (2, 5), (2, 0))]
    assert [chunk[1:3] for chunk in layout.chunks_of([*keys, "f/record.json"], "log")] == [(2, 0), (2, 5), (10, 0)]


def test_runs_whose_names_begin_alike_are_told_apart():
    keys = [
        "runs/n/a-01234567/record.json",
        "runs/n/a-b-01234567/record.json",
        "runs/n/a-89abcdef/log-1-000000000000.txt",
    ]
    assert layout.folders_of(keys, "a") == ["runs/n/a-01234567", "runs/n/a-89abcdef"]
    assert layout.folders_of(keys, "a-b") == ["runs/n/a-b-01234567"]


def test_pages_have_numbers():
    assert layout.page_number(layout.page_key("n", "d", 7)) == 7
    assert layout.page_number(layout.latest_key("n", "d")) is None
