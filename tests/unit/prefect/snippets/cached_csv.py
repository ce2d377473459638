"""A retrying task that reads a CSV by URL, cached by that URL for a day."""

import json
import os
from datetime import timedelta

import pandas as pd
from prefect import flow, get_run_logger, task


@task(
    name="read csv",
    retries=3,
    retry_delay_seconds=0.1,
    cache_key_fn=lambda context, **params: params["url"],
    cache_expiration=timedelta(days=1),
)
def read_csv(url: str) -> pd.DataFrame:
    return pd.read_csv(url)


@flow(name="csv report")
def report(url: str) -> dict:
    first = read_csv(url)
    again = read_csv(url, return_state=True)
    get_run_logger().info("%d rows, then %s", len(first), again.name)
    return {"rows": len(first), "miles": float(again.result()["miles"].sum()), "second": again.name}


if __name__ == "__main__":
    print(json.dumps(report(os.environ["CSV_URL"])))
