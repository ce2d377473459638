"""Runs in containers: ways in which a run can end that only a real node shows."""

from collections.abc import Iterator
from typing import Any

import pytest

from e2e.harness.team import Team
from levada.resources import names
from support.kubectl import Kubectl
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


IMAGE = "registry.invalid/nobody/has-this:1"


def without_image(policy: str) -> dict[str, Any]:
    infrastructure = {"image": IMAGE, "imagePullPolicy": policy}
    return {
        "infrastructure": infrastructure,
        "infrastructureRetries": {"limit": 0},
        "pendingTimeoutSeconds": 20,
    }


RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "absent": (SLEEPS, without_image("Never")),
    "unreachable": (SLEEPS, without_image("IfNotPresent")),
    "nap": (SLEEPS, {"infrastructure": {"terminationGracePeriodSeconds": 5}}),
    "long": (SLEEPS, {"timeoutSeconds": 4, "infrastructure": {"terminationGracePeriodSeconds": 2}}),
    "hoarder": (
        GREEDY,
        {"infrastructure": {"resources": {"requests": {"memory": "32Mi"}, "limits": {"memory": "96Mi"}}}},
    ),
}


@pytest.fixture(scope="module")
def team(kubectl: Kubectl, minutely: Team, unused: Iterator[str]) -> Team:
    """A team that has started all of the runs at once: most of them is waiting."""
    team = Team(kubectl, next(unused))
    for name, (code, spec) in RUNS.items():
        team.deploy(name, code, **spec)
        team.start(name, name)
    return team


def test_a_cancelled_run_stops_in_its_container(team: Team, levada):
    team.until("nap", "Running")
    assert levada("runs", "cancel", "nap", "-n", team.namespace).returncode == 0
    team.until("nap", "Cancelled")
    running = ("get", "pods", "-l", f"{names.LABEL_RUN}=nap", "--field-selector=status.phase=Running", "-o", "name")
    wait_until(lambda: not team.kubectl(*running), "no container goes on")


def test_a_run_that_takes_too_long_is_timed_out(team: Team):
    status = team.until("long", "TimedOut")
    assert status["reason"] in {"DeadlineExceeded", "TimedOut"}, status


def test_a_run_that_needs_too_much_memory_is_told_so(team: Team):
    status = team.until("hoarder", "Crashed")
    assert status["reason"] == "OutOfMemory", status
    assert "resources.limits.memory" in status["diagnosis"]["resolution"]


@pytest.mark.parametrize(("case", "reason"), [("absent", "ImageMissing"), ("unreachable", "ImagePullFailed")])
def test_an_image_that_cannot_be_had_is_named(team: Team, case, reason):
    status = team.until(case, "Crashed", 90)
    assert status["reason"] == reason, status
    assert IMAGE in status["message"]
