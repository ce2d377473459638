"""A user's own test of a flow, as Prefect's documentation suggests it."""

from prefect import flow, task
from prefect.logging import disable_run_logger, get_run_logger
from prefect.testing.utilities import prefect_test_harness


@task
def double(x: int) -> int:
    get_run_logger().info("doubling %s", x)
    return 2 * x


@flow
def my_flow(x: int) -> int:
    return double(x)


def test_flow():
    with prefect_test_harness():
        assert my_flow(21) == 42


def test_task():
    with disable_run_logger():
        assert double.fn(4) == 8


if __name__ == "__main__":
    test_flow()
    test_task()
    print('"passed"')
