"""The archive in a bucket, by the real protocol: a run writes it by its environment's credentials, the operator's index and readers too."""

import pytest

from levada.archive import index
from levada.archive.chunks import ChunkStream
from levada.archive.layout import chunk_key, record_key, run_folder
from levada.archive.reader import Archive
from levada.archive.record import entry_of, record_of
from unit.archive.test_archive_index import an_entry, names

pytest_plugins: list[str] = []


@pytest.fixture
def archive(bucket, s3_url, monkeypatch):
    """As in a pod: everything comes from the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-real-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return Archive.of(f"s3://{bucket}/of/levada")


def test_log_record_and_index_in_a_bucket(archive):
    folder = run_folder("n", "r1", "0123456789")
    stream = ChunkStream(archive.storage, lambda offset: chunk_key(folder, "log", 1, offset), seal_bytes=1000)
    whole = b"".join(b"line %d\n" % number for number in range(500))
    for start in range(0, len(whole), 300):
        stream.add(whole[start : start + 300])
        stream.flush()
    data, at = b"", 0
    while True:
        part = archive.log(folder, at, limit_bytes=700)
        data, at = data + part.data, part.next_offset
        if part.at_end:
            break
    assert data == whole

    run = {
        "metadata": {"name": "r1", "namespace": "n", "uid": "0123456789"},
        "spec": {"deploymentRef": {"name": "d"}},
        "status": {"phase": "Completed", "completionTime": "2026-01-01T00:00:01Z"},
    }
    record = record_of(run, complete=True, written_by="runner", written_at="")
    import json

    archive.storage.write(record_key(folder), json.dumps(record).encode())
    assert archive.record(folder).entry == entry_of(record, folder)
    assert archive.folders("n", "r1") == [folder]
    assert index.rebuilt(archive.storage, "n") == {"d": 1}
    index.add(archive.storage, "n", "d", [an_entry(number) for number in range(2, 450)])
    assert names(archive.list_runs("n", "d", limit=3)) == ["r449", "r448", "r447"]
    assert len(archive.list_runs("n", limit=1000)) == 449
    assert archive.deployments("n") == ["d"]
