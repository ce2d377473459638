"""Ten folds of a cross validation on a Dask cluster of this machine."""

import json
import os

import numpy as np
from prefect import flow, task
from prefect_dask import DaskTaskRunner
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold

FOLDS = 10


@task
def fit_fold(x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> tuple[float, int]:
    model = LinearRegression().fit(x[train], y[train])
    return float(model.score(x[test], y[test])), os.getpid()


@task
def average(scores: list[tuple[float, int]]) -> float:
    return float(np.mean([score for score, _ in scores]))


@flow(task_runner=DaskTaskRunner(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}))
def cross_validation(seed: int = 7) -> dict:
    x, y = load_diabetes(return_X_y=True)
    folds = KFold(n_splits=FOLDS, shuffle=True, random_state=seed).split(x)
    futures = [fit_fold.submit(x, y, train, test) for train, test in folds]
    mean = average.submit(futures).result()
    pids = {pid for _, pid in (future.result() for future in futures)}
    return {"mean": mean, "folds": len(futures), "workers": len(pids), "apart": os.getpid() not in pids}


if __name__ == "__main__":
    print(json.dumps(cross_validation()))
