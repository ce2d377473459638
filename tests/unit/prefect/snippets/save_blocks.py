"""What a user once types in a console: the blocks that the other files load."""

import os

from prefect.notifications import SlackWebhook
from prefect_aws import AwsCredentials, S3Bucket

if url := os.environ.get("SLACK_URL"):
    SlackWebhook(url=url).save("ml-alerts", overwrite=True)

if url := os.environ.get("S3_URL"):
    credentials = AwsCredentials(
        aws_access_key_id="testing",
        aws_secret_access_key="testing-secret",
        region_name="us-east-1",
        aws_client_parameters={"endpoint_url": url},
    )
    credentials.save("minio", overwrite=True)
    S3Bucket(bucket_name="results", bucket_folder="ml", credentials=credentials).save("my-bucket", overwrite=True)
