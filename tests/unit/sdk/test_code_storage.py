"""Code in a storage block: what is uploaded, what is not, and what the resources say of it."""

import json
import sys

import boto3
import pytest
from moto.server import ThreadedMotoServer

from levada._code_storage import secrets_of
from levada._loading import load_flow
from levada.deployments import to_deployment
from levada.exceptions import BlockError, DeploymentError, StorageError
from levada.filesystems import S3, GitRepository, LocalFileSystem, S3Bucket

FLOW = """
from levada import flow
import stored_helper
import stored_package.inner

@flow
def stored():
    pass
"""
FILES = {
    "stored_flow.py": FLOW,
    "stored_helper.py": "",
    "stored_package/__init__.py": "",
    "stored_package/inner.py": "import stored_beyond\n",
    "stored_package/data.json": "{}",
    "stored_beyond.py": "",
}
KEYS = {"aws_access_key_id": "testing", "aws_secret_access_key": "hush-hush-testing"}


@pytest.fixture
def flow(tmp_path, monkeypatch):
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    code = tmp_path / "code"
    for name, text in (FILES | {"unused.py": "", "secret.env": "hush"}).items():
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text(text)
    yield load_flow("stored_flow.py:stored", code)
    for name in [name for name in sys.modules if name.startswith("stored_") or name.endswith("stored_flow")]:
        del sys.modules[name]


@pytest.fixture
def s3():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", **KEYS)
    client.create_bucket(Bucket="flow-code")
    for key in keys_in(client):  # servers of one process share their buckets
        client.delete_object(Bucket="flow-code", Key=key)
    yield client
    client.close()
    server.stop()


def source_of(made):
    return next(each for each in made.to_resources() if each["kind"] == "Flow")["spec"]["source"]


def keys_in(client):
    return {each["Key"] for each in client.list_objects_v2(Bucket="flow-code").get("Contents", ())}


def test_the_flow_and_what_it_imports_is_uploaded_and_nothing_else(flow, s3):
    block = S3(bucket_path="flow-code/project", endpoint_url=s3.meta.endpoint_url, region_name="us-east-1", **KEYS)
    made = to_deployment(flow, "a", storage=block)
    source = source_of(made)["s3"]
    assert {key.removeprefix(f"{source['path']}/") for key in keys_in(s3)} == set(FILES)
    assert source == {
        "bucket": "flow-code",
        "path": source["path"],
        "endpointUrl": s3.meta.endpoint_url,
        "region": "us-east-1",
        "secretRef": {"name": "s3-flow-code"},
    }
    assert source["path"].startswith("project/stored-")
    assert "hush-hush" not in json.dumps(made.to_resources())
    (secret,) = secrets_of(made)
    assert secret["stringData"] == {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "hush-hush-testing"}


def test_other_code_lies_elsewhere(flow, s3, tmp_path):
    block = S3Bucket(bucket_name="flow-code", endpoint_url=s3.meta.endpoint_url, **KEYS)
    first = source_of(to_deployment(flow, "a", storage=block))["s3"]["path"]
    assert source_of(to_deployment(flow, "b", storage=block))["s3"]["path"] == first
    (tmp_path / "code" / "stored_helper.py").write_text("x = 1\n")
    changed = to_deployment(flow, "a", storage=block, skip_upload=True)
    assert source_of(changed)["s3"]["path"] != first
    assert {key.partition("/")[0] for key in keys_in(s3)} == {first}


def test_without_keys_the_pods_own_rights_count(flow):
    made = to_deployment(
        flow, "a", storage=S3(bucket_path="flow-code"), skip_upload=True, job_variables={"namespace": "x"}
    )
    assert set(source_of(made)["s3"]) == {"bucket", "path"}
    assert secrets_of(made) == []


def test_applying_writes_the_secret_first(flow, monkeypatch):
    applied = []
    monkeypatch.setattr("levada._apply.apply", lambda resources, namespace: applied.extend(resources) or ["x"])
    block = S3(bucket_path="flow-code", **KEYS)
    made = to_deployment(flow, "a", storage=block, job_variables={"namespace": "team"})
    made.apply(upload=False)
    assert [each["kind"] for each in applied] == ["Secret", "Flow", "Deployment"]
    assert applied[0]["metadata"]["namespace"] == "team"


def test_a_folder_that_agents_share(flow, tmp_path):
    LocalFileSystem(basepath=str(tmp_path / "shared")).save("shared")
    made = to_deployment(flow, "a", storage="local-file-system/shared")
    path = source_of(made)["image"]["path"]
    assert (tmp_path / "shared" / path / "stored_package" / "inner.py").is_file()
    assert secrets_of(made) == []


def test_what_cannot_keep_code(flow):
    with pytest.raises(DeploymentError, match="S3, S3Bucket and LocalFileSystem"):
        to_deployment(flow, "a", storage=GitRepository(url="https://example.com/a.git"))
    with pytest.raises(BlockError, match="nothing"):
        to_deployment(flow, "a", storage="s3/nothing")


def test_a_bucket_that_is_not_there(flow, s3):
    block = S3(bucket_path="no-such-bucket", endpoint_url=s3.meta.endpoint_url, **KEYS)
    with pytest.raises(StorageError, match="no-such-bucket"):
        to_deployment(flow, "a", storage=block).to_resources()
