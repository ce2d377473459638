"""Places that are really there: an S3 service on this machine, a Git repository in a folder, a home of the test's own."""

import os
import uuid

import boto3
import pytest
from moto.server import ThreadedMotoServer

from support.git import Repository

KEYS = {"aws_access_key_id": "AKIATEST", "aws_secret_access_key": "not-a-real-secret", "region_name": "us-east-1"}


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Blocks and results of a test lie in its own folder, and no machine's AWS settings count."""
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith(("AWS_", "LEVADA_RESULTS"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))


@pytest.fixture(scope="session")
def s3_url():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(scope="session")
def s3_client(s3_url):
    client = boto3.client("s3", endpoint_url=s3_url, **KEYS)
    yield client
    client.close()


@pytest.fixture
def bucket(s3_client):
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    s3_client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def s3_settings(s3_url):
    return {"endpoint_url": s3_url, **KEYS}


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    return Repository(tmp_path_factory.mktemp("git"))
