"""The taxi pipeline as it is written in courses for Prefect 2: train on one month of trips, validate on the next."""
# ruff: noqa: G004, PTH123  typed as its author would

import os
import pickle
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
from prefect import flow, get_run_logger, task
from prefect.deployments import Deployment
from prefect.infrastructure.process import Process
from prefect.orion.schemas.schedules import CronSchedule
from prefect.task_runners import SequentialTaskRunner
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_squared_error

CATEGORICAL = ["PULocationID", "DOLocationID"]


@task(retries=3, retry_delay_seconds=2)
def read_data(path: str) -> pd.DataFrame:
    df = pd.read_parquet(path)
    df["duration"] = (df.tpep_dropoff_datetime - df.tpep_pickup_datetime).dt.total_seconds() / 60
    return df


@task
def prepare_features(df: pd.DataFrame, train: bool = True) -> pd.DataFrame:
    logger = get_run_logger()
    df = df[(df.duration >= 1) & (df.duration <= 60)].copy()
    logger.info(f"The mean duration of {'training' if train else 'validation'} is {df.duration.mean():.2f} minutes")
    df[CATEGORICAL] = df[CATEGORICAL].astype(str)
    df["PU_DO"] = df.PULocationID + "_" + df.DOLocationID
    return df


@task
def train_model(df: pd.DataFrame):
    dicts = df[[*CATEGORICAL, "PU_DO"]].to_dict(orient="records")
    dv = DictVectorizer()
    model = LinearRegression().fit(dv.fit_transform(dicts), df.duration.values)
    return model, dv


@task
def evaluate(df: pd.DataFrame, dv: DictVectorizer, model: LinearRegression) -> float:
    dicts = df[[*CATEGORICAL, "PU_DO"]].to_dict(orient="records")
    return mean_squared_error(df.duration.values, model.predict(dv.transform(dicts))) ** 0.5


@task
def get_paths(date: str | None, folder: str) -> tuple[str, str]:
    first = datetime.strptime(date, "%Y-%m-%d").replace(day=1) if date else datetime.now().replace(day=1)
    after = (first + timedelta(days=32)).replace(day=1)
    return tuple(f"{folder}/yellow_tripdata_{month:%Y-%m}.parquet" for month in (first, after))


@flow(name="taxi-prediction", task_runner=SequentialTaskRunner())
def main(date: str | None = None, folder: str = "./data", models: str = "models") -> float:
    train_path, val_path = get_paths(date, folder)
    df_train = prepare_features(read_data(train_path))
    df_val = prepare_features(read_data(val_path), train=False)
    model, dv = train_model.submit(df_train).result()
    rmse = evaluate(df_val, dv, model)
    Path(models).mkdir(exist_ok=True)
    with open(f"{models}/model-{date}.bin", "wb") as file:
        pickle.dump((dv, model), file)
    get_run_logger().info(f"The RMSE of validation is {rmse:.3f}")
    return round(float(rmse), 3)


def create_deployment() -> Deployment:
    return Deployment.build_from_flow(
        flow=main,
        name="taxi-monthly",
        schedule=CronSchedule(cron="0 9 15 * *", timezone="America/New_York"),
        infrastructure=Process(),
        tags=["taxi", "ml"],
        parameters={"date": None, "folder": "/data"},
        work_queue_name="ml",
    )


if __name__ == "__main__":
    print(main(date="2019-01-15", folder=os.environ["TAXI_FOLDER"]))
