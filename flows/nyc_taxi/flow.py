"""How long does a yellow taxi ride in New York take? Train on one month of trips, validate on the next.

Reads the monthly trip records of the New York City Taxi & Limousine Commission (TLC), from its public site or from a folder or
web server that holds files of the same names. Returns the root mean squared error (RMSE) in minutes.

Run it here, with no cluster: `python flows/nyc_taxi/flow.py --date 2019-01-05 --data-url DIR`.
"""

import argparse
import datetime as dt
import json
import os
import pickle
import shutil
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from levada import flow, get_run_logger, task

if TYPE_CHECKING:
    import pandas as pd

TLC_URL = "https://d37ci6vzurychx.cloudfront.net/trip-data"
FEATURES = ["PULocationID", "DOLocationID", "PU_DO"]
COLUMNS = ["tpep_pickup_datetime", "tpep_dropoff_datetime", "PULocationID", "DOLocationID"]
SHORTEST_MINUTES, LONGEST_MINUTES = 1, 60
# The TLC publishes a month about two months after it; four months back, the month after is surely there as well.
PUBLISHED_AFTER_MONTHS = 4
READ_TIMEOUT_SECONDS = 60
PARQUET_MAGIC = b"PAR1"


class Month(NamedTuple):
    """A calendar month; counts on with `plus`."""

    year: int
    number: int

    def plus(self, months: int) -> "Month":
        """So many months later, or earlier if negative."""
        index = self.year * 12 + self.number - 1 + months
        return Month(index // 12, index % 12 + 1)

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.number:02d}"


class Model(NamedTuple):
    """What `train_model` fits and `save_model` keeps."""

    vectorizer: Any
    regression: Any


def months_for(date: dt.date | None, today: dt.date) -> tuple[Month, Month]:
    """The month to train on, which is the date's, and the next one to validate on.

    Without a date, the latest two months that the TLC has surely published.
    """
    train = Month(date.year, date.month) if date else Month(today.year, today.month).plus(-PUBLISHED_AFTER_MONTHS)
    return train, train.plus(1)


def is_web_url(data_url: str) -> bool:
    """Whether files have to be fetched."""
    return data_url.startswith(("http://", "https://"))


def folder_of(data_url: str) -> Path:
    """The folder that a path or a file:// URL names.

    Raises:
        NotADirectoryError: there is none; said before any task starts.
    """
    folder = Path(data_url.removeprefix("file://")).expanduser()
    if not folder.is_dir():
        raise NotADirectoryError(
            f"data_url={data_url!r} is neither an http(s) URL nor a folder here; give the base URL or the folder that "
            f"holds the files yellow_tripdata_YYYY-MM.parquet"
        )
    return folder


def fetch(url: str, target: Path) -> None:
    """Download a parquet file. It gets its name only when it is whole."""
    part = target.with_suffix(".part")
    try:
        # The scheme was checked by is_web_url: no file: or ftp: comes here.
        answer = urllib.request.urlopen(url, timeout=READ_TIMEOUT_SECONDS)  # noqa: S310  see above
        with answer, part.open("wb") as file:
            shutil.copyfileobj(answer, file, 1 << 20)
            length = answer.headers.get("Content-Length")
    except urllib.error.HTTPError as error:
        error.close()
        raise FileNotFoundError(
            f"{url} answered {error.code} {error.reason}; is the month published, and is data_url the base of the files?"
        ) from None
    except urllib.error.URLError as error:
        raise ConnectionError(
            f"{url} cannot be reached: {error.reason}; data_url may be a folder that holds the files"
        ) from error
    size = part.stat().st_size
    if length is not None and size != int(length):
        raise ConnectionError(f"{url} broke off after {size:,} of {int(length):,} bytes")
    with part.open("rb") as file:
        if file.read(4) != PARQUET_MAGIC:
            raise ValueError(f"{url} is no parquet file; is data_url the base of the files?")
    part.replace(target)


@task(retries=3, retry_delay_seconds=[1, 5, 15], timeout_seconds=1800)
def download(month: Month, data_url: str, folder: Path) -> Path:
    """Fetch a month's file, or find it where it lies."""
    name = f"yellow_tripdata_{month}.parquet"
    if is_web_url(data_url):
        path = folder / name
        fetch(f"{data_url.rstrip('/')}/{name}", path)
    else:
        path = folder_of(data_url) / name
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; the folder must hold a file for {month}")
    get_run_logger().info("%s: %.1f MB", name, path.stat().st_size / 1e6)
    return path


def features_of(path: Path) -> tuple["pd.DataFrame", int]:
    """The trips of 1 to 60 minutes, with their features and durations; and how many trips there were."""
    import pandas as pd

    trips = pd.read_parquet(path, columns=COLUMNS)
    total = len(trips)
    minutes = (trips["tpep_dropoff_datetime"] - trips["tpep_pickup_datetime"]).dt.total_seconds() / 60
    kept = (minutes >= SHORTEST_MINUTES) & (minutes <= LONGEST_MINUTES)
    trips, minutes = trips[kept], minutes[kept]
    pickup, dropoff = trips["PULocationID"].astype(str), trips["DOLocationID"].astype(str)
    frame = pd.DataFrame({"PULocationID": pickup, "DOLocationID": dropoff, "PU_DO": pickup + "_" + dropoff})
    return frame.assign(minutes=minutes), total


def rows(frame: "pd.DataFrame") -> Any:
    """One dict of features for each trip, made one at a time: a TLC month has millions."""
    for values in zip(*(frame[name] for name in FEATURES), strict=True):
        yield dict(zip(FEATURES, values, strict=True))


@task
def prepare_features(train: Path, validation: Path) -> dict[str, "pd.DataFrame"]:
    """Read both months, keep the trips of 1 to 60 minutes, and join pick-up and drop-off zone."""
    frames = {}
    for name, path in (("train", train), ("validation", validation)):
        frames[name], total = features_of(path)
        if frames[name].empty:
            raise ValueError(f"{path.name} holds no trip of {SHORTEST_MINUTES} to {LONGEST_MINUTES} minutes")
        get_run_logger().info("%s: %s of %s trips, from %s", name, f"{len(frames[name]):,}", f"{total:,}", path.name)
    return frames


@task
def train_model(features: dict[str, "pd.DataFrame"]) -> Model:
    """Fit a linear regression on one-hot zones."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LinearRegression

    train = features["train"]
    vectorizer = DictVectorizer()
    matrix = vectorizer.fit_transform(rows(train))
    get_run_logger().info("fitting %s trips, %s features", f"{matrix.shape[0]:,}", f"{matrix.shape[1]:,}")
    return Model(vectorizer, LinearRegression().fit(matrix, train["minutes"]))


@task
def evaluate(model: Model, features: dict[str, "pd.DataFrame"]) -> float:
    """The RMSE on the month that the model has not seen, in minutes."""
    from sklearn.metrics import root_mean_squared_error

    validation = features["validation"]
    predicted = model.regression.predict(model.vectorizer.transform(rows(validation)))
    rmse = round(float(root_mean_squared_error(validation["minutes"], predicted)), 3)
    get_run_logger().info("RMSE %.3f minutes", rmse)
    return rmse


@task
def save_model(model: Model, rmse: float, train: Month, validation: Month, model_dir: str | None) -> Path:
    """Keep the model and what is known about it. Each file appears whole or not at all."""
    folder = Path(model_dir) if model_dir else Path(tempfile.mkdtemp(prefix="nyc-taxi-model-"))
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"trained_on": str(train), "validated_on": str(validation), "rmse_minutes": rmse, "features": FEATURES}
    path = folder / f"nyc-taxi-{train}.pkl"
    for target, content in (
        (path, pickle.dumps(model._asdict())),
        (path.with_suffix(".json"), json.dumps(facts).encode()),
    ):
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        part.write_bytes(content)
        part.replace(target)
    get_run_logger().info("saved %s", path)
    return path


@flow(name="nyc-taxi")
def main(date: dt.date | None = None, data_url: str = TLC_URL, model_dir: str | None = None) -> float:
    """Train on the month of `date`, validate on the next one, and return the RMSE in minutes.

    Args:
        date: any day of the month to train on; by default the latest two months that the TLC has surely published are used.
        data_url: where the monthly files are: the base of http(s) URLs, or a folder.
        model_dir: where the model is kept; by default a new folder for temporary files.
    """
    train, validation = months_for(date, dt.datetime.now(dt.UTC).date())
    if not is_web_url(data_url):
        folder_of(data_url)
    with tempfile.TemporaryDirectory(prefix="nyc-taxi-", ignore_cleanup_errors=True) as downloads:
        # All six task runs are submitted at once, so the run's progress counts to six from the start.
        files = [download.submit(month, data_url, Path(downloads)) for month in (train, validation)]
        features = prepare_features.submit(*files)
        model = train_model.submit(features)
        rmse = evaluate.submit(model, features)
        saved = save_model.submit(model, rmse, train, validation, model_dir)
        saved.result()
        result: float = rmse.result()
        return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--date", type=dt.date.fromisoformat, help="any day of the month to train on, as 2019-01-05")
    parser.add_argument("--data-url", default=TLC_URL, help="base URL or folder of the monthly files")
    parser.add_argument("--model-dir", help="where to keep the model")
    options = parser.parse_args()
    print(f"RMSE {main(options.date, options.data_url, options.model_dir)}")
