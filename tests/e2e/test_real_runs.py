"""Runs in containers: ways in which a run can end that only a real node shows."""

import pytest

from e2e.harness.team import Team
from support.stack import wait_until

pytestmark = pytest.mark.timeout(240)

SLEEPS = """
import time
from levada import flow

@flow
def main(seconds: float = 600):
    print("asleep", flush=True)
    time.sleep(seconds)
"""
GREEDY = """
from levada import flow

@flow
def main():
    hoard = bytearray(1_000_000_000)
    hoard[::4096] = b"x" * len(hoard[::4096])
"""


def test_a_cancelled_run_stops_in_its_container(team: Team, levada):
    team.deploy("sleeper", SLEEPS, infrastructure={"terminationGracePeriodSeconds": 5})
    team.start("sleeper", "nap")
    team.until("nap", "Running")
    assert levada("runs", "cancel", "nap", "-n", team.namespace).returncode == 0
    team.until("nap", "Cancelled")
    wait_until(lambda: not team.pods("nap") or "Running" not in team.kubectl("get", "pods"), "no container goes on")


def test_a_run_that_takes_too_long_is_timed_out(team: Team):
    team.deploy("sleeper", SLEEPS, timeoutSeconds=4, infrastructure={"terminationGracePeriodSeconds": 2})
    team.start("sleeper", "long")
    status = team.until("long", "TimedOut")
    assert status["reason"] in {"DeadlineExceeded", "TimedOut"}, status


def test_a_run_that_needs_too_much_memory_is_told_so(team: Team):
    limits = {"requests": {"memory": "32Mi"}, "limits": {"memory": "96Mi"}}
    team.deploy("greedy", GREEDY, infrastructure={"resources": limits})
    team.start("greedy", "hoarder")
    status = team.until("hoarder", "Crashed")
    assert status["reason"] == "OutOfMemory", status
    assert "resources.limits.memory" in status["diagnosis"]["resolution"]


@pytest.mark.parametrize(
    ("case", "policy", "reason"),
    [("absent", "Never", "ImageMissing"), ("unreachable", "IfNotPresent", "ImagePullFailed")],
)
def test_an_image_that_cannot_be_had_is_named(team: Team, case, policy, reason):
    infrastructure = {"image": "registry.invalid/nobody/has-this:1", "imagePullPolicy": policy}
    team.deploy(
        "lost", SLEEPS, infrastructure=infrastructure, infrastructureRetries={"limit": 0}, pendingTimeoutSeconds=20
    )
    team.start("lost", case)
    status = team.until(case, "Crashed")
    assert status["reason"] == reason, status
    assert "registry.invalid/nobody/has-this:1" in status["message"]
