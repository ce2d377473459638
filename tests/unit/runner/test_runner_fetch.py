"""The code of a run in a bucket: a real S3 service, and what is said when it cannot be had."""

import hashlib
import io
import sys
import zipfile
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from levada.resources.sources import S3Place, text_of
from levada.runner.code import CodeError
from levada.runner.fetch import fetched


def _archive():
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(zipfile.ZipInfo("flow.py"), "from an archive")
    return data.getvalue()


ARCHIVE = _archive()
CHECKSUM = hashlib.sha256(ARCHIVE).hexdigest()


@pytest.fixture
def archive(place):
    client = boto3.client("s3", endpoint_url=place.endpoint_url, region_name="us-east-1")
    client.put_object(Bucket="flow-code", Key="releases/etl.zip", Body=ARCHIVE)
    client.put_object(Bucket="flow-code", Key="releases/bad.zip", Body=b"no zip")
    client.close()
    return place._replace(folder="releases/etl.zip")


@pytest.fixture
def place(monkeypatch):
    for name, value in {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}.items():
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
    client.create_bucket(Bucket="flow-code")
    for key in ("etl/flow.py", "etl/helpers/__init__.py", "other/flow.py"):
        client.put_object(Bucket="flow-code", Key=key, Body=key.encode())
    yield S3Place("flow-code", "etl", f"http://{host}:{port}", "us-east-1")
    client.close()
    server.stop()


def test_a_folder_of_the_pod_is_taken_as_it_is():
    assert fetched("flows/hello") == (Path("flows/hello"), "")


def test_the_folder_is_copied(place):
    folder, revision = fetched(text_of(place))
    assert revision == ""
    found = {file.relative_to(folder).as_posix(): file.read_text() for file in folder.rglob("*") if file.is_file()}
    assert found == {"flow.py": "etl/flow.py", "helpers/__init__.py": "etl/helpers/__init__.py"}


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"folder": "nothing"}, "CodeNotFound", "no files in s3://flow-code/nothing"),
        ({"bucket": "no-such-bucket"}, "CodeNotFetched", "no-such-bucket"),
        ({"bucket": "UPPER"}, "CodeNotFetched", "UPPER"),
    ],
)
def test_what_cannot_be_fetched(place, change, reason, words):
    with pytest.raises(CodeError, match=words) as raised:
        fetched(text_of(place._replace(**change)))
    assert raised.value.reason == reason


def test_without_boto3(monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(CodeError, match=r"levada\[s3\]") as raised:
        fetched("s3://flow-code/etl")
    assert raised.value.reason == "CodeNotFetched"


def test_an_archive_is_unpacked_and_its_checksum_told(archive):
    code = fetched(text_of(archive))
    assert (code.folder / "flow.py").read_text() == "from an archive"
    assert code.revision == f"sha256:{CHECKSUM}"
    assert fetched(text_of(archive._replace(sha256=CHECKSUM))).revision == code.revision


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"sha256": "0" * 64}, "CodeNotFetched", f"has the checksum {CHECKSUM}, not 0000.*: it was replaced"),
        ({"folder": "releases/gone.zip"}, "CodeNotFound", "There is no gone.zip in s3://flow-code/releases"),
        ({"folder": "releases/bad.zip"}, "CodeNotFetched", "bad.zip cannot be unpacked"),
    ],
)
def test_an_archive_that_is_not_run(archive, change, reason, words):
    with pytest.raises(CodeError, match=words) as raised:
        fetched(text_of(archive._replace(**change)))
    assert raised.value.reason == reason
