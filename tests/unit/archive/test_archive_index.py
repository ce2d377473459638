"""The index: the newest runs in one read, every run once, and no crash between two writes that matters."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levada.archive import index, layout
from levada.archive.reader import Archive
from levada.archive.record import Entry, entry_of, record_of
from levada.exceptions import StorageError
from levada.storage.memory import MemoryStorage
from unit.archive.failing import FailingStorage


def an_entry(number, ended=None, deployment="d"):
    return Entry(
        "n", f"r{number}", f"uid-{number:05d}", deployment, f"runs/n/r{number}-x", "Completed",
        ended=f"2026-01-01T00:{(ended if ended is not None else number) // 60:02d}:{(ended if ended is not None else number) % 60:02d}Z",
    )  # fmt: skip


def names(entries):
    return [entry.name for entry in entries]


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr(index, "PAGE_ENTRIES", 5)


class Counted(MemoryStorage):
    reads = 0

    def read(self, key):
        self.reads += 1
        return super().read(key)


def test_the_last_fifty_runs_are_one_read():
    storage = Counted()
    for start in range(0, 1000, 100):
        index.add(storage, "n", "d", [an_entry(number) for number in range(start, start + 100)])
    storage.reads = 0
    found = Archive(storage).list_runs("n", "d", limit=50)
    assert storage.reads == 1
    assert names(found) == [f"r{number}" for number in range(999, 949, -1)]


def test_reading_on_goes_through_all_pages():
    storage = MemoryStorage()
    index.add(storage, "n", "d", [an_entry(number) for number in range(1000)])
    archive, found, before = Archive(storage), [], None
    while part := archive.list_runs("n", "d", limit=70, before=before):
        found += part
        before = part[-1].ended
    assert names(found) == [f"r{number}" for number in range(999, -1, -1)]


OPERATIONS = st.lists(
    st.tuples(st.lists(st.integers(0, 60), max_size=8), st.lists(st.sampled_from(["", "before", "after"]), max_size=4)),
    max_size=12,
)


@settings(max_examples=100, deadline=None)
@given(operations=OPERATIONS, limit=st.integers(1, 80))
def test_whatever_write_fails_every_run_that_was_taken_is_there_once(operations, limit):
    """Each step adds runs in any order, some again; a write fails before or after it is carried out, and may be tried again later."""
    before = index.PAGE_ENTRIES
    index.PAGE_ENTRIES = 5
    try:
        storage, taken = FailingStorage(), set()
        for numbers, failures in operations:
            storage.plan = list(failures)
            try:
                index.add(storage, "n", "d", [an_entry(number) for number in numbers])
            except StorageError:
                storage.plan = []
                shown = {int(entry.name[1:]) for entry in Archive(storage).list_runs("n", "d", limit=1000)}
                assert taken <= shown <= taken | set(numbers)
                taken = shown
            else:
                taken |= set(numbers)
        storage.plan = []
        found = Archive(storage).list_runs("n", "d", limit=limit)
        assert names(found) == [f"r{number}" for number in sorted(taken, reverse=True)[:limit]]
        known = index.read(storage, "n", "d")
        assert all(
            index.knows(storage, ("n", "d"), known, an_entry(n).moment, an_entry(n).uid) for n in sorted(taken)[:2]
        )
        assert not index.knows(storage, ("n", "d"), known, an_entry(61).moment, an_entry(61).uid)
    finally:
        index.PAGE_ENTRIES = before


def test_a_run_that_comes_late_is_found_in_its_place(small_pages):
    storage = MemoryStorage()
    index.add(storage, "n", "d", [an_entry(number) for number in range(10, 40)])
    index.add(storage, "n", "d", [an_entry(1)])
    index.add(storage, "n", "d", [an_entry(number) for number in range(40, 60)])
    everything = names(Archive(storage).list_runs("n", "d", limit=100))
    assert everything == [f"r{number}" for number in [*range(59, 9, -1), 1]]
    assert names(Archive(storage).list_runs("n", "d", limit=3, before=an_entry(11).ended)) == ["r10", "r1"]


def test_a_run_that_was_archived_twice_takes_no_place_of_another(small_pages):
    """Found by the property: one that is in two pages counted as two, and reading ended a page too early."""
    storage = MemoryStorage()
    for numbers in ([5, 6, 10, 11, 12, 14, 15], [0, 1, 2, 3, 4, 8, 9, 13], [0, 1, 2, 3, 7, 8]):
        index.add(storage, "n", "d", [an_entry(number) for number in numbers])
    for limit in range(1, 20):
        expected = [f"r{number}" for number in range(15, -1, -1)][:limit]
        assert names(Archive(storage).list_runs("n", "d", limit=limit)) == expected


@pytest.mark.parametrize("damage", [None, b"{", b"[]", b'{"levada": 1}'])
def test_a_lost_or_damaged_latest_goes_on_with_the_pages(damage, small_pages, caplog):
    storage = MemoryStorage()
    index.add(storage, "n", "d", [an_entry(number) for number in range(17)])
    storage.delete("index/n/d/latest.json") if damage is None else storage.write("index/n/d/latest.json", damage)
    index.add(storage, "n", "d", [an_entry(20)])
    assert "levada runs reindex" in caplog.text
    assert names(Archive(storage).list_runs("n", "d", limit=100)) == ["r20", *[f"r{n}" for n in range(9, -1, -1)]]


def test_a_lost_index_is_made_again_from_the_records(small_pages):
    storage = MemoryStorage()
    for number in range(23):
        for deployment in ("d", "e"):
            entry = an_entry(number, deployment=deployment)
            run = {
                "metadata": {"name": entry.name, "namespace": "n", "uid": f"{deployment}{number:08d}"},
                "spec": {"deploymentRef": {"name": deployment}},
                "status": {"phase": "Completed", "completionTime": entry.ended},
            }
            folder = layout.run_folder("n", entry.name, run["metadata"]["uid"])
            record = record_of(run, complete=True, written_by="runner", written_at="")
            storage.write(layout.record_key(folder), json.dumps(record).encode())
    storage.write("runs/n/bad-1/record.json", b"{}")
    storage.write(layout.page_key("n", "d", 9), b"of an earlier index")
    assert index.rebuilt(storage, "n") == {"d": 23, "e": 23}
    for deployment in ("d", "e"):
        assert names(Archive(storage).list_runs("n", deployment, limit=100)) == [f"r{n}" for n in range(22, -1, -1)]
    assert layout.page_key("n", "d", 9) not in storage.list("index/")
    assert Archive(storage).deployments("n") == ["d", "e"]
    assert len(Archive(storage).list_runs("n", limit=30)) == 30


def test_a_run_is_taken_out_wherever_it_is(small_pages):
    storage = MemoryStorage()
    index.add(storage, "n", "d", [an_entry(number) for number in range(17)])
    for number in (2, 16):
        index.remove(storage, "n", "d", an_entry(number).uid)
    assert names(Archive(storage).list_runs("n", "d", limit=100)) == [f"r{n}" for n in range(15, -1, -1) if n != 2]


def test_a_line_is_as_short_as_it_can_be_and_read_back_whole():
    entry = an_entry(3)
    assert "retry_of" not in entry.to_json()
    assert Entry.of({**entry.to_json(), "of_a_newer_version": 1}) == entry
    died = replace(entry, complete=False, attempt=0, duration_s=0.0)
    assert Entry.of(died.to_json()) == died
    record = record_of(
        {"metadata": {"name": "a", "namespace": "n", "uid": "u", "managedFields": [1]}, "spec": {"deploymentRef": {"name": "d"}},
         "status": {"phase": "Failed", "message": "m" * 900, "tasks": {"t": {}}, "completionTime": "2026-01-01T02:00:00+02:00"}},
        complete=False, written_by="operator", written_at="",
    )  # fmt: skip
    assert "tasks" not in record["run"]["status"]
    assert "managedFields" not in record["run"]["metadata"]
    made = entry_of(record, "f")
    assert (len(made.message), made.complete, made.moment) == (200, False, "2026-01-01T00:00:00.000000Z")
