"""Streams in a storage that cannot append: whatever fails, what has been read is a prefix, and in the end all is there once."""

from hypothesis import given, settings
from hypothesis import strategies as st

from levada.archive.chunks import ChunkStream
from levada.archive.layout import chunk_key
from levada.archive.reader import Archive
from levada.exceptions import StorageError
from unit.archive.failing import FailingStorage

FOLDER = "runs/n/r-01234567"
FAILURES = st.sampled_from(["", "", "before", "after"])
PIECES = st.binary(max_size=120).map(lambda data: data.replace(b"a", b"\n"))


def stream_in(storage, seal_bytes=100):
    return ChunkStream(storage, lambda offset: chunk_key(FOLDER, "log", 1, offset), seal_bytes=seal_bytes)


def read(storage, **more):
    return Archive(storage).log(FOLDER, **more)


@settings(deadline=None)
@given(st.lists(PIECES, max_size=20), st.lists(FAILURES, max_size=30))
def test_a_reader_sees_a_prefix_and_at_the_end_everything(pieces, failures):
    storage = FailingStorage()
    storage.plan = list(failures)
    stream, whole = stream_in(storage), b""
    for piece in pieces:
        stream.add(piece)
        whole += piece
        try:
            stream.flush()
        except StorageError:
            pass
        else:
            assert stream.unsaved_bytes == 0
            assert stream.saved_end == len(whole)
        shown = read(storage).data
        assert whole.startswith(shown)
        assert len(shown) >= stream.saved_end
    storage.plan = []
    stream.flush()
    assert read(storage).data == whole


def test_a_day_of_short_lines_is_a_few_objects_cut_behind_lines():
    storage = FailingStorage()
    stream = stream_in(storage, seal_bytes=1000)
    for number in range(1000):
        stream.add(b"line %d\n" % number)
        stream.flush()
    keys = storage.list(FOLDER)
    assert 9 <= len(keys) <= 11
    assert all(storage.read(key).endswith(b"\n") for key in keys)


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(1, 300))
def test_a_log_is_read_from_any_byte_on(offset, limit):
    storage = FailingStorage()
    stream = stream_in(storage)
    whole = b"".join(b"%03d\n" % number for number in range(100))
    stream.add(whole)
    stream.flush()
    data, at = b"", offset
    while True:
        part = read(storage, offset=at, limit_bytes=limit)
        data += part.data
        assert part.next_offset == at + len(part.data)
        at = part.next_offset
        if part.at_end:
            break
    assert data == whole[offset:]


def test_pieces_that_overlap_are_read_once():
    """The keeper of a process that died repeats what it does not know to be archived."""
    storage = FailingStorage()
    storage.write(chunk_key(FOLDER, "log", 1, 0), b"one\ntwo\n")
    storage.write(chunk_key(FOLDER, "log", 1, 4), b"two\nthree\n")
    assert read(storage).data == b"one\ntwo\nthree\n"


def test_the_newest_attempt_is_read_unless_another_is_asked_for():
    storage = FailingStorage()
    storage.write(chunk_key(FOLDER, "log", 1, 0), b"first")
    storage.write(chunk_key(FOLDER, "log", 10, 0), b"tenth")
    assert read(storage).data == b"tenth"
    assert read(storage, attempt=1).data == b"first"
    assert Archive(storage).attempts(FOLDER) == [1, 10]
    assert read(storage, attempt=3).data == b""
