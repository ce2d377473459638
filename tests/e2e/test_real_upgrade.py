"""The operator's pods are killed and replaced while runs go on."""

import json

import pytest

from e2e.harness.team import Team
from support.stack import wait_until

pytestmark = pytest.mark.timeout(240)
OPERATOR = ("-n", "levada-system", "deployment/levada-operator")

STEPS = """
import time
from levada import flow, task

@task
def step(n: int) -> int:
    time.sleep(1)
    return n

@flow
def main(count: int = 12):
    return sum(step(n) for n in range(count))
"""


def operator_pods(kubectl):
    items = json.loads(kubectl("-n", "levada-system", "get", "pods", "-l", "app=levada-operator", "-o", "json"))[
        "items"
    ]
    return {item["metadata"]["name"] for item in items if "deletionTimestamp" not in item["metadata"]}


def test_a_run_does_not_notice_that_every_operator_pod_is_killed(team: Team, kubectl):
    team.deploy("steps", STEPS)
    team.start("steps", "through")
    team.until_progress("through", 2)
    before = operator_pods(kubectl)
    kubectl("-n", "levada-system", "delete", "pods", "-l", "app=levada-operator", "--force", "--grace-period=0")
    team.start("steps", "after", count=1)  # nobody is there to see it; the next operator does
    status = team.until("through", "Completed", 90)
    assert (status["result"], status["attempt"]) == ("66", 1)
    assert team.until("after", "Completed", 90)["attempt"] == 1
    wait_until(lambda: len(operator_pods(kubectl) - before) == 2, "two new operator pods")


def test_a_run_does_not_notice_an_upgrade_of_the_operator(team: Team, kubectl):
    team.deploy("steps", STEPS)
    team.start("steps", "through")
    team.until_progress("through", 2)
    before = operator_pods(kubectl)
    kubectl("rollout", "restart", *OPERATOR)
    kubectl("rollout", "status", *OPERATOR, "--timeout=55s")
    assert not operator_pods(kubectl) & before
    status = team.until("through", "Completed", 90)
    assert (status["result"], status["attempt"]) == ("66", 1)
