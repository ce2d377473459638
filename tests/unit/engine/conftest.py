"""What several tests of the engine run on."""

import pytest


@pytest.fixture(scope="module")
def dask_cluster():
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", scheduler_kwargs={"allowed_failures": 0}
    ) as cluster:
        yield cluster
