"""Made-up trips in the shape of the TLC's monthly files, for when the real ones are out of reach.

These are NOT records of real trips. Zones lie on a random plane, a ride takes longer the farther its zones are apart and the
denser the traffic is, and some rides are absurdly short or long as in the real data. The same seed gives the same trips, so
a figure made from them can be compared; it says nothing about New York.

`python flows/nyc_taxi/synthetic.py DIR` writes two months there.
"""

import argparse
import datetime as dt
import math
import random
from pathlib import Path

ZONES = 263
DEFAULT_TRIPS = 10_000
DEFAULT_MONTHS = ("2019-01", "2019-02")
BUSY_ZONES = 60
NOTICE = "synthetic"


def zone_map(rng: random.Random) -> dict[int, tuple[float, float]]:
    """Where each taxi zone lies, in miles. The first ones, the busy ones, lie close together."""
    spread = {zone: 1.5 if zone <= BUSY_ZONES else 6.0 for zone in range(1, ZONES + 1)}
    return {zone: (rng.gauss(0, miles), rng.gauss(0, miles)) for zone, miles in spread.items()}


def pick_zone(rng: random.Random) -> int:
    """A zone; the busy ones in nine of ten rides."""
    return rng.randint(1, BUSY_ZONES) if rng.random() < 0.9 else rng.randint(1, ZONES)


def minutes_of(rng: random.Random, miles: float, hour: int) -> float:
    """How long a ride takes. One in a hundred is an error of the meter."""
    oddity = rng.random()
    if oddity < 0.006:
        return rng.uniform(0, 0.9)
    if oddity < 0.01:
        return rng.uniform(61, 1400)
    rush = 1.35 if hour in {8, 9, 17, 18, 19} else 1.0
    return (2.5 + miles * 4.2 * rush) * math.exp(rng.gauss(0, 0.35))


def trips_of(month: str, count: int, seed: int) -> dict[str, list[object]]:
    """The columns of one month's made-up trips; the map of zones is the same in every month of a seed."""
    year, number = map(int, month.split("-"))
    start = dt.datetime(year, number, 1)
    seconds = (dt.datetime(year + number // 12, number % 12 + 1, 1) - start).total_seconds()
    zones = zone_map(random.Random(seed))  # noqa: S311  the same seed must give the same trips
    rng = random.Random(f"{seed} {month}")  # noqa: S311  as above
    columns: dict[str, list[object]] = {}
    for _ in range(count):
        pickup, dropoff = pick_zone(rng), pick_zone(rng)
        miles = round(math.dist(zones[pickup], zones[dropoff]) * 1.3 + rng.uniform(0.2, 0.8), 2)
        begin = start + dt.timedelta(seconds=int(rng.random() * seconds))
        minutes = minutes_of(rng, miles, begin.hour)
        fare = round(2.5 + 2.5 * miles, 2)
        trip = {
            "VendorID": rng.choice((1, 2)),
            "tpep_pickup_datetime": begin,
            "tpep_dropoff_datetime": begin + dt.timedelta(seconds=int(minutes * 60)),
            "passenger_count": rng.choice((1, 1, 1, 1, 2, 2, 3, 5)),
            "trip_distance": miles,
            "RatecodeID": 1,
            "store_and_fwd_flag": "N",
            "PULocationID": pickup,
            "DOLocationID": dropoff,
            "payment_type": rng.choice((1, 1, 1, 2)),
            "fare_amount": fare,
            "extra": 0.5,
            "mta_tax": 0.5,
            "tip_amount": round(fare * rng.choice((0.0, 0.15, 0.2)), 2),
            "tolls_amount": 0.0,
            "improvement_surcharge": 0.3,
            "total_amount": round(fare + 1.3, 2),
            "congestion_surcharge": 2.5,
        }
        for name, value in trip.items():
            columns.setdefault(name, []).append(value)
    return columns


def write_month(folder: Path, month: str, trips: int = DEFAULT_TRIPS, seed: int = 2019) -> Path:
    """Write one month's file under the TLC's own file name."""
    import pandas as pd

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"yellow_tripdata_{month}.parquet"
    part = path.with_suffix(".part")
    pd.DataFrame(trips_of(month, trips, seed)).to_parquet(part, index=False)
    part.replace(path)
    return path


def month_name(text: str) -> str:
    """A month as an argument: 2019-01."""
    return dt.datetime.strptime(text, "%Y-%m").strftime("%Y-%m")


def main() -> None:
    """Write the months that the command line asks for."""
    parser = argparse.ArgumentParser(description="Write made-up trips in the shape of the TLC's monthly files.")
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--months", nargs="+", type=month_name, default=list(DEFAULT_MONTHS), metavar="YYYY-MM")
    parser.add_argument("--trips", type=int, default=DEFAULT_TRIPS, help="trips a month")
    parser.add_argument("--seed", type=int, default=2019)
    options = parser.parse_args()
    for month in options.months:
        path = write_month(options.folder, month, options.trips, options.seed)
        print(f"{path}: {options.trips:,} {NOTICE} trips (made up, seed {options.seed}; no records of real rides)")


if __name__ == "__main__":
    main()
