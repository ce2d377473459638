"""The blocks for places of files, as a flow's author uses them."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from levada._ignore import ignores
from levada.blocks import load_block
from levada.exceptions import BlockError, MissingDependencyError, StorageError
from levada.filesystems import (
    S3,
    AwsCredentials,
    AzureBlobStorage,
    FileSystem,
    GCSBucket,
    LocalFileSystem,
    RemoteFileSystem,
    S3Bucket,
)
from levada.results import store_of
from levada.secrets import SecretStr
from levada.storage import fsspec as fsspec_storage


@pytest.fixture(params=["local", "s3-bucket", "s3", "remote s3", "remote memory"])
def place(request, tmp_path):
    """Each kind, standing for the folder `team/a` of its place."""
    kind = request.param
    if kind == "local":
        return LocalFileSystem(basepath=str(tmp_path / "team" / "a"))
    if kind == "remote memory":
        return RemoteFileSystem(basepath=f"memory://{request.node.name}/team/a")
    bucket, settings = request.getfixturevalue("bucket"), request.getfixturevalue("s3_settings")
    if kind == "s3-bucket":
        return S3Bucket(bucket_name=bucket, bucket_folder="team/a", **settings)
    if kind == "s3":
        return S3(bucket_path=f"{bucket}/team/a", **settings)
    return RemoteFileSystem(
        basepath=f"s3://{bucket}/team/a",
        settings={
            "key": settings["aws_access_key_id"],
            "secret": settings["aws_secret_access_key"],
            "client_kwargs": {"endpoint_url": settings["endpoint_url"], "region_name": settings["region_name"]},
        },
    )


def test_files(place):
    assert place.write_path("data/x.csv", b"1,2") == "data/x.csv"
    place.write_path("data/y.csv", "ä")
    assert place.read_path("data/x.csv") == b"1,2"
    assert place.read_path("./data//y.csv") == "ä".encode()
    assert sorted(found["Key"] for found in place.list_objects("data")) == ["data/x.csv", "data/y.csv"]
    assert place.list_objects("dat") == []
    with pytest.raises(StorageError, match=r"there is no file 'nothing' in .*; check the path"):
        place.read_path("nothing")
    with pytest.raises(StorageError, match="a key is a relative path"):
        place.read_path("../b")


def test_folders(place, tmp_path):
    source = tmp_path / "source"
    for name in ("flow.py", "lib/a.py", "lib/deep/b.py", "data.csv", ".venv/x.py", "lib/__pycache__/a.pyc"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    (tmp_path / "ignore").write_text("# what stays\n.venv/\n__pycache__\n*.csv\n")
    assert place.put_directory(source, "code", ignore_file=tmp_path / "ignore") == 3
    target = tmp_path / "target"
    assert place.get_directory("code", target) == str(target)
    copied = sorted(file.relative_to(target).as_posix() for file in target.rglob("*") if file.is_file())
    assert copied == ["flow.py", "lib/a.py", "lib/deep/b.py"]
    assert (target / "lib/a.py").read_text() == "lib/a.py"
    with pytest.raises(StorageError, match="there are no files below cod/ in"):
        place.get_directory("cod", target)


def test_folders_by_default_are_here(place, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "flow.py").write_text("x")
    assert place.put_directory() == 1
    (here / "flow.py").unlink()
    place.get_directory()
    assert (here / "flow.py").read_text() == "x"


def test_from_async_code(place, tmp_path):
    async def use():
        await place.awrite_path("code/x", b"1")
        await place.aget_directory("code", tmp_path / "target")
        await place.aput_directory(tmp_path / "target", "again")
        return await place.aread_path("again/x")

    assert asyncio.run(use()) == b"1"


def test_results_lie_in_it(place):
    store = store_of(place, "json")
    store.save("k", {"a": 1})
    assert store_of(place).load("k").value == {"a": 1}
    assert [found["Key"] for found in place.list_objects()] == ["results/k"]


def test_it_is_saved_and_loaded(place):
    place.save("mine")
    loaded = load_block(f"{place.block_type}/mine")
    assert loaded == place
    assert type(place).load("mine") == place
    loaded.write_path("x", b"1")
    assert store_of(f"{place.block_type}/mine").storage.read("x") == b"1"
    assert "not-a-real-secret" not in repr(loaded)


def test_a_folder_that_is_missing(place, tmp_path):
    with pytest.raises(StorageError, match=r"there is no folder .*nowhere to copy; check local_path"):
        place.put_directory(tmp_path / "nowhere")
    with pytest.raises(StorageError, match=r"cannot read the patterns in .*; check ignore_file"):
        place.put_directory(tmp_path, ignore_file=tmp_path / "nowhere")


def test_a_place_of_ones_own():
    class Shelf(FileSystem):
        pass

    with pytest.raises(NotImplementedError, match="Shelf is no place for results"):
        Shelf().read_path("x")


# --- local ----------------------------------------------------------------------------------------------------------


def test_absolute_paths_inside_the_folder(tmp_path):
    place = LocalFileSystem(basepath=str(tmp_path))
    place.write_path(str(tmp_path / "a" / "b"), b"1")
    assert place.read_path("a/b") == b"1"
    assert place.list_objects(str(tmp_path)) == [{"Key": "a/b"}]
    with pytest.raises(StorageError, match="'/etc/passwd' lies outside of this block's folder"):
        place.read_path("/etc/passwd")


def test_the_current_folder_is_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    LocalFileSystem().write_path("x", b"1")
    assert (tmp_path / "x").read_bytes() == b"1"


# --- S3 -------------------------------------------------------------------------------------------------------------


def test_the_folder_may_be_named_again(bucket, s3_settings):
    place = S3Bucket(bucket_name=bucket, bucket_folder="/team/a/", **s3_settings)
    place.write_path("team/a/x", b"1")
    assert place.read_path("x") == b"1"
    assert [found["Key"] for found in place.list_objects("team/a")] == ["x"]
    assert S3Bucket(bucket_name=bucket, **s3_settings).read_path("team/a/x") == b"1"


def test_objects_as_s3_describes_them(bucket, s3_settings):
    place = S3Bucket(bucket_name=bucket, **s3_settings)
    place.write_path("x", b"123")
    [found] = place.list_objects()
    assert (found["Key"], found["Size"]) == ("x", 3)
    assert {"LastModified", "ETag"} <= set(found)


def test_up_and_down(bucket, s3_settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = S3Bucket(bucket_name=bucket, **s3_settings)
    (tmp_path / "model.bin").write_bytes(b"weights")
    assert place.upload_from_path(tmp_path / "model.bin") == "model.bin"
    assert place.upload_from_path(tmp_path / "model.bin", "models/1") == "models/1"
    assert place.download_object_to_path("models/1") == "1"
    assert Path(place.download_object_to_path("models/1", "deep/down.bin")).read_bytes() == b"weights"
    with pytest.raises(StorageError, match=r"cannot read .*nowhere .*; check from_path"):
        place.upload_from_path("nowhere")


def test_credentials_of_their_own(bucket, s3_url, s3_settings, s3_client):
    """By reference: the bucket's block names the credentials' block."""
    keys = {name: value for name, value in s3_settings.items() if name != "endpoint_url"}
    credentials = AwsCredentials(aws_client_parameters={"endpoint_url": s3_url}, **keys)
    credentials.save("main")
    S3Bucket(bucket_name=bucket, credentials=AwsCredentials.load("main")).save("mine")
    S3Bucket.load("mine").write_path("x", b"1")
    assert s3_client.get_object(Bucket=bucket, Key="x")["Body"].read() == b"1"
    assert credentials.get_s3_client().head_object(Bucket=bucket, Key="x")["ContentLength"] == 1
    assert credentials.get_boto3_session().region_name == "us-east-1"
    own = S3Bucket(bucket_name=bucket, credentials=AwsCredentials(endpoint_url="http://other"), **s3_settings)
    assert own.read_path("x") == b"1"


def test_boto3_may_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'levada\[s3\]'"):
        AwsCredentials().get_boto3_session()
    with pytest.raises(MissingDependencyError, match=r"pip install 'levada\[s3\]'"):
        S3Bucket(bucket_name="b").storage()


def test_a_bucket_that_is_missing(s3_settings):
    with pytest.raises(StorageError, match="there is no bucket 'no-such-bucket'; create it, or correct its name"):
        S3Bucket(bucket_name="no-such-bucket", **s3_settings).write_path("x", b"1")


# --- what cannot work is said when the block is written ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: S3Bucket(bucket_name="a/b"), r"S3Bucket: 'a/b' is no name of a bucket; .*\(bucket_folder\)"),
        (lambda: S3Bucket(bucket_name="a", aws_access_key_id="x"), "S3Bucket: .* belong together"),
        (lambda: S3Bucket(bucket_name="a", endpoint_url="minio"), "must begin with http:// or https://"),
        (lambda: S3(bucket_path=""), r"S3: '' is no name of a bucket.*\(bucket_path\)"),
        (lambda: S3(bucket_path="a", aws_secret_access_key="x"), "S3: .* belong together"),
        (lambda: GCSBucket(bucket="a", service_account_info="no json"), "must be the JSON text of a key file"),
        (lambda: GCSBucket(bucket="a", service_account_info="[]"), "must be the JSON text of a key file"),
        (lambda: AzureBlobStorage(container="a"), "needs connection_string, or account_name"),
        (lambda: RemoteFileSystem(basepath="/x"), "basepath='/x' must be a URL"),
        (lambda: RemoteFileSystem(basepath="file:///x"), r"use LocalFileSystem\(basepath='/x'\)"),
        (lambda: RemoteFileSystem(basepath="s3://b", settings={"anon": True}), r"does not take settings\['anon'\]"),
    ],
)
def test_what_cannot_work(make, message):
    with pytest.raises(BlockError, match=message):
        make()


# --- Google, Azure --------------------------------------------------------------------------------------------------


def test_google_and_azure_need_their_packages():
    with pytest.raises(MissingDependencyError, match=r"levada\[gcs\]"):
        GCSBucket(bucket="b").storage()
    with pytest.raises(MissingDependencyError, match=r"levada\[azure\]"):
        AzureBlobStorage(container="c", account_name="n").storage()


def test_what_google_and_azure_are_asked_with(monkeypatch):
    """Their services cannot run here, so this looks at what fsspec is opened with."""
    monkeypatch.setattr(fsspec_storage, "_opened", lambda url, protocol, options: ((url, options), ""))
    google = GCSBucket(bucket="b", bucket_folder="/f/", service_account_info=json.dumps({"type": "x"}), project="p")
    assert google.storage()._files()[0] == ("gs://b/f", {"token": {"type": "x"}, "project": "p"})
    assert google.key_of("f/x") == "x"
    azure = AzureBlobStorage(container="c", container_folder="f", connection_string="Account=hush")
    assert azure.storage()._files()[0] == ("abfs://c/f", {"connection_string": "Account=hush"})
    assert azure.key_of("f/x") == "x"
    assert "hush" not in repr(azure)


def test_settings_with_secrets(monkeypatch):
    monkeypatch.setattr(fsspec_storage, "_opened", lambda url, protocol, options: ((url, options), ""))
    place = RemoteFileSystem(basepath="sftp://host/x", settings={"username": "me", "password": "open sesame"})
    assert "open sesame" not in repr(place)
    assert isinstance(place.settings["password"], SecretStr)
    place.save("host")
    again = RemoteFileSystem.load("host")
    assert again == place
    assert again.storage()._files()[0] == ("sftp://host/x", {"username": "me", "password": "open sesame"})


# --- patterns -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "path", "ignored"),
    [
        (["*.csv"], "a.csv", True),
        (["*.csv"], "deep/a.csv", True),
        (["*.csv"], "a.csv.gz", False),
        (["/a.csv"], "deep/a.csv", False),
        (["/a.csv"], "a.csv", True),
        (["deep/a.csv"], "deep/a.csv", True),
        (["deep/a.csv"], "x/deep/a.csv", False),
        (["data/"], "data/x/y.txt", True),
        (["data/"], "data", False),
        (["data"], "x/data/y", True),
        (["data/*"], "data/x", True),
        (["data/*"], "data/x/y", True),
        (["data/**"], "data/x/y", True),
        (["**/logs/*.log"], "a/b/logs/x.log", True),
        (["**/logs/*.log"], "logs/x.log", True),
        (["a/**/b"], "a/b", True),
        (["a/**/b"], "a/x/y/b", True),
        (["a**b"], "axxb", True),
        (["?.py"], "a.py", True),
        (["?.py"], "ab.py", False),
        (["[ab].py"], "a.py", True),
        (["[!ab].py"], "a.py", False),
        (["[!ab].py"], "c.py", True),
        (["*.py", "!keep.py"], "keep.py", False),
        (["!keep.py", "*.py"], "keep.py", True),
        (["x/", "!x/keep.py"], "x/keep.py", True),
        (["# a", "", "  "], "# a", False),
        (["a+b(1).txt"], "a+b(1).txt", True),
        (["__pycache__"], "a/__pycache__/b.pyc", True),
        ([], "a", False),
    ],
)
def test_patterns(lines, path, ignored):
    assert ignores(lines)(path) is ignored
