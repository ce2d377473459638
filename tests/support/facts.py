"""Facts for tests of decisions: a run of a plain Deployment at a fixed moment, and short ways to say what is different.

facts(a_run(phase="Pending", attempt=1), jobs=[a_job()], pods=[a_pod(exit_code=3)])
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from levada.decide.definitions import DeploymentView, FlowView, QueueView
from levada.decide.facts import JobView, Pin, PodView, QueueFacts, RunFacts, RunView, Settings
from levada.resources import names

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETTINGS = Settings(default_image="levada-flow:test")
READY = {
    "observedGeneration": 1,
    "conditions": [{"type": "Ready", "status": "True", "reason": "Ready"}],
    "codeConfigMap": "f-code-1",
}


def s(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def a_run(**fields: Any) -> RunView:
    """A run created at T0; from attempt 1 on it has a pin and a queue, as the operator writes them."""
    if fields.get("attempt"):
        fields = {"phase": "Pending", "queue": "default", "pin": Pin("f", 1, "f-code-1"), **fields}
    return RunView(**{
        "namespace": "ns", "name": "r", "uid": "run-uid", "resource_version": "1", "created_at": T0, "deployment": "d", **fields,
    })  # fmt: skip


def a_job(attempt: int = 1, **fields: Any) -> JobView:
    return JobView(**{
        "namespace": "ns", "name": f"r-{attempt}", "uid": f"job-{attempt}", "resource_version": "1", "run": "r", "attempt": attempt,
        "owner_uid": "run-uid", "created_at": T0, "started_at": T0, "active": 1, "entrypoint": "flow.py:main",
        "code_dir": "/var/run/levada/code", **fields,
    })  # fmt: skip


def a_pod(attempt: int = 1, **fields: Any) -> PodView:
    """A pending pod; with `exit_code` one that has ended, with `started_at` one that runs."""
    if "exit_code" in fields:
        ended = {
            "phase": "Succeeded" if fields["exit_code"] == 0 else "Failed",
            "started_at": T0 + s(1),
            "finished_at": T0 + s(5),
        }
        fields = {**ended, **fields}
    elif "started_at" in fields:
        fields = {"phase": "Running", **fields}
    return PodView(**{
        "namespace": "ns", "name": f"r-{attempt}-abcde", "uid": f"pod-{attempt}", "resource_version": "1", "run": "r",
        "attempt": attempt, "job": f"r-{attempt}", "created_at": T0, "run_uid": "run-uid", "node": "n1", **fields,
    })  # fmt: skip


def a_deployment(**fields: Any) -> DeploymentView:
    return DeploymentView(**{
        "namespace": "ns", "name": "d", "uid": "d-uid", "resource_version": "1", "generation": 1, "flow": "f", "created_at": T0, **fields,
    })  # fmt: skip


def a_flow(**fields: Any) -> FlowView:
    return FlowView(**{
        "namespace": "ns", "name": "f", "uid": "f-uid", "resource_version": "1", "generation": 1, "entrypoint": "flow.py:main",
        "created_at": T0, "inline": "def main(): ...", "status": READY, **fields,
    })  # fmt: skip


def a_queue(**fields: Any) -> QueueView:
    return QueueView(
        **{"namespace": "ns", "name": "default", "uid": "q", "resource_version": "1", "generation": 1, **fields}
    )


def facts(
    run: RunView | None = None,
    *,
    at: datetime | float = T0,
    jobs: Sequence[JobView] = (),
    pods: Sequence[PodView] = (),
    **fields: Any,
) -> RunFacts:
    """Facts at T0 (or `at`: a moment, or seconds after T0)."""
    now = at if isinstance(at, datetime) else T0 + s(at)
    return RunFacts(**{
        "now": now, "run": run or a_run(), "jobs": tuple(jobs), "pods": tuple(pods), "deployment": a_deployment(),
        "flow": a_flow(), "queue": QueueFacts(), "settings": SETTINGS, **fields,
    })  # fmt: skip


def env_of(job: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of the flow's container, of a Job or a pod, as the runner sees them: the order spread out."""
    spec = job["spec"]["template"]["spec"] if "template" in job["spec"] else job["spec"]
    (flow,) = [item for item in spec["containers"] if item["name"] == names.CONTAINER_NAME]
    env = {item["name"]: item.get("value", item.get("valueFrom")) for item in flow["env"]}
    return env | json.loads(env.pop(names.ENV_ORDER).replace("$$", "$"))
