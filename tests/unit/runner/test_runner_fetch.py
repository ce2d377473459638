"""The code of a run in a bucket: a real S3 service, and what is said when it cannot be had."""

import sys
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from levada.resources.sources import S3Place, url_of
from levada.runner.code import CodeError
from levada.runner.fetch import fetched


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
    assert fetched("flows/hello") == Path("flows/hello")


def test_the_folder_is_copied(place):
    folder = fetched(url_of(place))
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
        fetched(url_of(place._replace(**change)))
    assert raised.value.reason == reason


def test_without_boto3(monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(CodeError, match=r"levada\[s3\]") as raised:
        fetched("s3://flow-code/etl")
    assert raised.value.reason == "CodeNotFetched"
