"""A flow whose failure is told to Slack."""

from prefect import flow, task
from prefect.notifications import SlackWebhook


@task
def divide(a: int, b: int) -> float:
    return a / b


@flow(name="risky", on_failure=[SlackWebhook.load("ml-alerts")])
def risky(b: int = 0) -> float:
    return divide(1, b)


if __name__ == "__main__":
    risky()
