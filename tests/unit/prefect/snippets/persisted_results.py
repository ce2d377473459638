"""Results as JSON in an S3 bucket."""

import json

from prefect import flow, task
from prefect.serializers import JSONSerializer
from prefect_aws import S3Bucket


@task(
    persist_result=True,
    result_serializer=JSONSerializer(),
    result_storage=S3Bucket.load("my-bucket"),
    result_storage_key="scores.json",
)
def score(names: list[str]) -> dict:
    return {name: len(name) for name in names}


@flow
def scoring(names: list[str]) -> dict:
    return score(names)


if __name__ == "__main__":
    print(json.dumps(scoring(["Ada", "Grace"])))
