"""The three kinds of schedules, from the three places where Prefect has had them."""

from datetime import datetime, timedelta

from prefect import flow
from prefect.client.schemas.schedules import RRuleSchedule
from prefect.deployments import Deployment
from prefect.orion.schemas.schedules import CronSchedule
from prefect.server.schemas.schedules import IntervalSchedule

cron = CronSchedule(cron="0 6 * * 1-5", timezone="America/New_York")
interval = IntervalSchedule(interval=timedelta(minutes=15), anchor_date=datetime(2026, 1, 1, 0, 5), timezone="UTC")
rrule = RRuleSchedule(rrule="FREQ=MONTHLY;BYMONTHDAY=-1;BYHOUR=23;BYMINUTE=0;BYSECOND=0", timezone="Europe/Lisbon")


@flow
def scheduled():
    """Comes by the clock."""


deployments = [
    Deployment.build_from_flow(flow=scheduled, name=name, schedule=schedule)
    for name, schedule in (("workdays", cron), ("quarterly", interval), ("month-end", rrule))
]
