"""A Prefect 2 deployment: cron, process, tags, parameters, work queue."""

from prefect import flow, task
from prefect.deployments import Deployment
from prefect.infrastructure.process import Process
from prefect.orion.schemas.schedules import CronSchedule


@task
def clean(day: int) -> int:
    return day


@flow(name="nightly-etl", description="Cleans up the last days.", version="7")
def nightly_etl(days: int = 1, table: str = "trips") -> int:
    return sum(clean(day) for day in range(days))


def create_deployment():
    return Deployment.build_from_flow(
        flow=nightly_etl,
        name="nightly",
        version="1",
        schedule=CronSchedule(cron="0 2 * * *", timezone="Europe/Lisbon"),
        infrastructure=Process(env={"STAGE": "prod"}),
        tags=["ml", "nightly"],
        parameters={"days": 3},
        work_queue_name="ml",
    )


deployment = create_deployment()

if __name__ == "__main__":
    deployment.apply()
