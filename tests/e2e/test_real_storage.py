"""Runs with a storage: the taxi flow on the real records, a drained node, and single tasks and Dask workers in pods of their own."""

import json
import re
from pathlib import Path

import pytest
import yaml

from e2e.harness.manifests import BUCKET, S3_KEYS, S3_URL, STORAGE, WITH_BUCKET
from e2e.harness.team import Team
from levada.resources import names

pytestmark = pytest.mark.timeout(300)

REPO = Path(__file__).resolve().parents[2]
REAL_DATA = REPO.parent / "shared" / "data" / "nyc-taxi"
MONTHS = "yellow_tripdata_2019-0[12].parquet"

# Each task says in which pod it ran: what a later attempt took over names the first pod.
COUNTS = """
import os, time
from levada import flow, task

@task(persist_result=True)
def step(n: int, before: str) -> str:
    time.sleep(1.5)
    return os.environ["HOSTNAME"]

@flow
def main(count: int = 8):
    pods, last = [], ""
    for n in range(count):
        last = step(n, last)
        pods.append(last)
    return pods
"""
HEAVY = """
import os
from levada import flow, task

@task(kubernetes={"resources": {"requests": {"memory": "64Mi"}}})
def heavy(n: int) -> str:
    return os.environ["HOSTNAME"]

@flow
def main():
    return [os.environ["HOSTNAME"], *(future.result() for future in [heavy.submit(n) for n in range(2)])]
"""
DASK = """
import os, time
from levada import flow, task
from levada.task_runners import DaskTaskRunner

@task
def square(n: int):
    time.sleep(0.5)
    return n * n, os.environ["HOSTNAME"]

@flow(task_runner=DaskTaskRunner(kubernetes=True, cluster_kwargs={"n_workers": 2, "threads_per_worker": 1}))
def main():
    pairs = square.map(range(8)).result()
    return {"sum": sum(value for value, _ in pairs), "pods": sorted({pod for _, pod in pairs} | {os.environ["HOSTNAME"]})}
"""


@pytest.fixture
def trips(s3) -> str:
    """Where a pod finds the real records: a public bucket of the cluster's S3 service."""
    files = sorted(REAL_DATA.glob(MONTHS))
    if not files:
        pytest.skip(f"needs the real trip records {MONTHS} in {REAL_DATA}")
    s3.create_bucket(Bucket="trips", ACL="public-read")
    for path in files:
        s3.upload_file(str(path), "trips", path.name)
    return f"{S3_URL}/trips"


def test_the_taxi_flow_runs_as_a_restricted_container(team: Team, trips, levada, s3):
    documents = yaml.safe_load_all((REPO / "flows/nyc_taxi/deployment.yaml").read_text())
    flow, deployment = (item for item in documents if item["kind"] != "Schedule")
    deployment["spec"] |= {"infrastructure": WITH_BUCKET, "storage": STORAGE, "persistResults": True}
    team.kubectl("apply", "--server-side", "-f", "-", stdin=[flow, deployment])
    command = ("deployment", "run", "nyc-taxi", "--name", "taxi", "--watch", "-n", team.namespace)
    done = levada(*command, "-p", "date=2019-01-05", "-p", f"data_url={trips}")
    assert done.returncode == 0, done.stdout + done.stderr + team.story("taxi")

    status = team.status("taxi")
    assert (status["phase"], status["progress"]) == ("Completed", "6/6")
    assert round(float(status["result"]), 3) == 6.675
    [pod] = json.loads(team.kubectl("get", "pods", "-l", f"{names.LABEL_RUN}=taxi", "-o", "json"))["items"]
    assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert "RMSE 6.675" in team.kubectl("logs", pod["metadata"]["name"])

    # Logs, record and results are in the bucket, and are read from there when the pod is gone.
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET, Prefix="runs/").get("Contents", [])]
    mine = [key for key in keys if f"/{team.namespace}/" in key or "/results/" in key]
    assert [key for key in mine if re.search(r"/record\.json$", key)], keys
    assert [key for key in mine if "/results/" in key], keys
    team.kubectl("delete", "pod", pod["metadata"]["name"])
    bucket = S3_KEYS | {"AWS_ENDPOINT_URL": s3.meta.endpoint_url}
    logs = levada("runs", "logs", "taxi", "-n", team.namespace, "--storage", STORAGE, bucket=bucket)
    assert "RMSE 6.675" in logs.stdout, logs.stdout + logs.stderr


def test_a_run_whose_node_is_drained_goes_on_from_its_stored_results(team: Team, kubectl):
    team.deploy(
        "counter",
        COUNTS,
        storage=STORAGE,
        infrastructure=WITH_BUCKET | {"terminationGracePeriodSeconds": 5},
        infrastructureRetries={"limit": 3, "delaySeconds": 0},
    )
    team.start("counter", "moved")
    team.until_progress("moved", 3)
    [first] = team.pods("moved")
    # The services of the tests and the operator stay, because there is no second node: only this run is moved.
    chosen = f"--pod-selector={names.LABEL_RUN}=moved"
    try:
        kubectl("drain", "e2e", "--delete-emptydir-data", "--timeout=50s", chosen)
    finally:
        kubectl("uncordon", "e2e")
    status = team.until("moved", "Completed", 120)
    pods = json.loads(status["result"])
    assert (status["attempt"], len(pods)) == (2, 8), status
    assert pods[:3] == [first.removeprefix("pod/")] * 3, pods
    assert len(set(pods)) == 2, pods


@pytest.mark.parametrize(("name", "code"), [("heavy", HEAVY), ("dask", DASK)])
def test_tasks_and_dask_workers_have_pods_of_their_own(team: Team, name, code):
    opened = {"limit": 3, "allow": ["resources"]}
    team.deploy(name, code, storage=STORAGE, infrastructure=WITH_BUCKET | {"taskPods": opened})
    team.start(name, "many")
    result = json.loads(team.until("many", "Completed", 150)["result"])
    pods = result["pods"] if name == "dask" else result
    assert len(set(pods)) == 3, result
    assert name != "dask" or result["sum"] == sum(n * n for n in range(8))
