"""S3 against a real service on this machine: what goes wrong is told with its cause and what to do."""

import os
import socket
import sys
import urllib.request
from traceback import format_exception

import pytest
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, NoCredentialsError, NoRegionError

from levada.exceptions import MissingDependencyError, OptionError, StorageError
from levada.storage import s3
from levada.storage.s3 import S3Storage
from levada.storage.s3_errors import explained


def uses(storage):
    return (
        ("read", lambda: storage.read("a")),
        ("write", lambda: storage.write("a", b".")),
        ("list", storage.list),
        ("list", storage.check),
    )


def test_a_bucket_that_is_missing(s3_settings):
    storage = S3Storage("no-such-bucket", **s3_settings)
    for verb, use in uses(storage):
        with pytest.raises(
            StorageError, match=f"^there is no bucket 'no-such-bucket'; create it.*cannot {verb}"
        ) as raised:
            use()
        assert "botocore" not in "".join(format_exception(raised.value))


def test_a_service_that_is_not_there(monkeypatch, s3_settings):
    monkeypatch.setattr(s3, "_ATTEMPTS", 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        storage = S3Storage("bucket", **{**s3_settings, "endpoint_url": address})
        with pytest.raises(
            StorageError, match=rf"^nothing answers there; check .* \(cannot read 'a' in s3://bucket at {address}\)"
        ):
            storage.read("a")


def test_wrong_credentials(s3_settings, bucket):
    """The service checks signatures only after it was told so."""
    address = s3_settings["endpoint_url"]

    def check_after(requests):
        message = urllib.request.Request(
            f"{address}/moto-api/reset-auth",
            data=str(requests).encode(),
            headers={"Content-Type": "text/plain"},
            method="POST",
        )
        urllib.request.urlopen(message).close()

    check_after(0)
    try:
        storage = S3Storage(bucket, **{**s3_settings, "aws_access_key_id": "AKIAWRONG"})
        for _, use in uses(storage):
            with pytest.raises(StorageError, match="the access key or its secret is wrong; check aws_access_key_id"):
                use()
    finally:
        check_after(float("inf"))


def test_no_credentials(s3_url, bucket):
    with pytest.raises(StorageError, match="there are no credentials; set aws_access_key_id"):
        S3Storage(bucket, endpoint_url=s3_url, region_name="us-east-1").read("a")


def test_an_address_that_is_none(s3_settings):
    with pytest.raises(StorageError, match="Invalid endpoint"):
        S3Storage("bucket", **{**s3_settings, "endpoint_url": "http://a b"}).read("a")


def test_a_profile_that_is_missing(s3_url):
    with pytest.raises(StorageError, match="there is no such profile"):
        S3Storage("bucket", endpoint_url=s3_url, profile_name="nobody").read("a")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bucket": ""}, "is no name of a bucket"),
        ({"bucket": "a/b"}, "'a/b' is no name of a bucket"),
        ({"bucket": "a", "aws_access_key_id": "x"}, "belong together"),
        ({"bucket": "a", "aws_secret_access_key": "x"}, "belong together"),
        ({"bucket": "a", "endpoint_url": "minio:9000"}, "must begin with http:// or https://"),
    ],
)
def test_what_cannot_work_is_said_at_once(arguments, message):
    with pytest.raises(OptionError, match=message):
        S3Storage(**arguments)


def test_boto3_may_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'levada\[s3\]'"):
        S3Storage("bucket")


def test_clients_are_kept(s3_settings, bucket):
    S3Storage(bucket, **s3_settings).list()
    known = len(s3._clients)
    S3Storage(bucket, "prefix", **s3_settings).list()
    assert len(s3._clients) == known


def test_what_is_large_goes_up_in_parts(s3_settings, s3_client, bucket, monkeypatch):
    data = os.urandom(9 * 1024 * 1024)
    monkeypatch.setattr(s3, "_MULTIPART_BYTES", len(data))
    storage = S3Storage(bucket, **s3_settings)
    storage.write("large", data)
    assert storage.read("large") == data
    assert s3_client.head_object(Bucket=bucket, Key="large")["ETag"].strip('"').endswith("-2")
    with pytest.raises(StorageError, match="there is no bucket"):
        S3Storage("no-such-bucket", **s3_settings).write("large", data)


def test_markers_of_folders_are_no_keys(s3_settings, s3_client, bucket):
    s3_client.put_object(Bucket=bucket, Key="team/", Body=b"")
    s3_client.put_object(Bucket=bucket, Key="team/a", Body=b".")
    assert S3Storage(bucket, "team", **s3_settings).list() == ["a"]
    assert S3Storage(bucket, **s3_settings).list() == ["team/a"]


def test_more_keys_than_a_page(s3_settings, bucket, monkeypatch):
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")  # read by the service, which runs in a thread of this process
    storage = S3Storage(bucket, "p", **s3_settings)
    for index in range(5):
        storage.write(f"{index}", b"")
    assert storage.list() == ["0", "1", "2", "3", "4"]


def refused(code, message=""):
    return ClientError({"Error": {"Code": code, "Message": message}}, "GetObject")


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (refused("AccessDenied"), "access denied; these credentials need s3:PutObject on the bucket 'b'"),
        (refused("403"), "access denied"),
        (refused("SignatureDoesNotMatch"), "the access key or its secret is wrong"),
        (refused("ExpiredToken"), "the credentials have expired; get new ones"),
        (refused("301"), "the bucket is in another region; set region_name"),
        (refused("SlowDown"), "S3 asks for fewer requests"),
        (refused("Teapot", "short and stout"), "S3 answered Teapot: short and stout"),
        (refused("Teapot"), "S3 answered Teapot"),
        (NoCredentialsError(), "there are no credentials"),
        (NoRegionError(), "no region is set"),
        (ConnectTimeoutError(endpoint_url="http://x"), "nothing answers there"),
        (BotoCoreError(), "BotoCoreError: An unspecified error occurred"),
    ],
)
def test_refusals_are_explained(error, advice):
    told = explained(error, "write", "k", "b", "s3://b")
    assert isinstance(told, StorageError)
    with pytest.raises(StorageError, match=rf"^{advice}.* \(cannot write 'k' in s3://b\)$"):
        raise told


def test_a_missing_key_is_no_refusal():
    assert isinstance(explained(refused("NoSuchKey"), "read", "k", "b", "s3://b"), KeyError)


def test_a_service_that_calls_a_missing_bucket_a_missing_key(monkeypatch, s3_settings):
    for verb in ("write", "list"):
        told = explained(refused("NoSuchKey"), verb, "k", "b", "s3://b")
        assert str(told).startswith("there is no bucket 'b'; create it")
    storage = S3Storage("no-such-bucket", **s3_settings)
    monkeypatch.setattr("levada.storage.s3.explained", lambda *_: KeyError("k"))
    storage.delete("k")
