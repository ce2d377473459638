"""Flow code that is kept in S3: the block is saved once, and loaded where the deployment is built."""

import os

from prefect import flow
from prefect.deployments import Deployment
from prefect.filesystems import S3


@flow
def from_storage(x: int = 1) -> int:
    return x + 1


def save_storage():
    block = S3(
        bucket_path="flow-code/project",
        aws_access_key_id="testing",
        aws_secret_access_key="testing-secret",
        endpoint_url=os.environ["S3_URL"],  # Prefect 2 took it from the environment; a bucket elsewhere needs it
    )
    block.save("flow-code", overwrite=True)


def create_deployment():
    return Deployment.build_from_flow(flow=from_storage, name="from-s3", storage=S3.load("flow-code"))


if __name__ == "__main__":
    save_storage()
    deployment = create_deployment()
