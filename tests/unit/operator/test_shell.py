"""What the operator keeps in memory: of an object, and of other people's packages."""

import subprocess
import sys

from levada.decide.manifest import Code, build_job
from levada.decide.views import job_view, pod_view, run_view
from levada.operator.feeds import without_rows, without_spec
from levada.resources.names import ANNOTATION_RUN_UID, ENV_CODE_DIR, ENV_ENTRYPOINT, LABEL_ATTEMPT, LABEL_RUN
from support.facts import SETTINGS, T0, a_deployment, a_run

OWNER = {"kind": "FlowRun", "name": "r", "uid": "run-uid", "controller": True, "apiVersion": "levada.dev/v1alpha1"}
METADATA = {
    "name": "r-1",
    "namespace": "home",
    "uid": "u",
    "resourceVersion": "7",
    "creationTimestamp": "2026-01-01T00:00:00Z",
    "labels": {LABEL_RUN: "r", LABEL_ATTEMPT: "1"},
    "annotations": {ANNOTATION_RUN_UID: "run-uid", "somebody/else": "x" * 1000},
    "ownerReferences": [OWNER],
}


def test_a_pod_that_is_gone_is_the_same_pod_as_before():
    pod = {
        "metadata": METADATA,
        "spec": {"nodeName": "n", "containers": [{"env": []}]},
        "status": {"phase": "Failed", "reason": "Evicted"},
    }
    assert pod_view(without_spec(pod), gone=True) == pod_view(pod, gone=True)


ENV = [
    {"name": ENV_ENTRYPOINT, "value": "flow.py:hello"},
    {"name": ENV_CODE_DIR, "value": "/code"},
    {"name": "OTHER", "value": "x" * 1000},
    {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
]
CONTAINERS = [{"name": "sidecar", "image": "s"}, {"name": "flow", "image": "f", "args": ["x" * 1000], "env": ENV}]
JOB = {
    "metadata": METADATA,
    "spec": {"suspend": True, "activeDeadlineSeconds": 9, "template": {"spec": {"containers": CONTAINERS}}},
    "status": {"active": 1, "startTime": "2026-01-01T00:00:00Z"},
}


def test_a_standby_that_comes_to_lead_sees_the_same_job():
    failed = {**JOB, "status": {"failed": 1, "conditions": [{"type": "Failed", "reason": "BackoffLimitExceeded"}]}}
    for job in (JOB, failed):
        assert job_view(without_spec(job)) == job_view(job)
    assert job_view(without_spec(JOB)).entrypoint == "flow.py:hello"


def test_a_standby_sees_where_the_code_of_a_job_as_the_operator_makes_it_is():
    """A later attempt runs the code that the run was started with, although the Flow may have changed: only the Job knows."""
    code = Code("f", "flow.py:hello", "/code")
    job = build_job(a_run(), a_deployment(), code, attempt=1, parameters="{}", settings=SETTINGS, now=T0)
    seen = job_view(without_spec(job))
    assert (seen.entrypoint, seen.code_dir) == ("flow.py:hello", "/code")
    assert seen == job_view(job)


def test_a_standby_that_comes_to_lead_sees_the_same_run():
    run = {
        "metadata": METADATA,
        "spec": {"deploymentRef": {"name": "d"}, "parameters": {"n": 1}, "cancel": True},
        "status": {"phase": "Running", "attempt": 2, "attempts": [{"number": 1}], "tasks": {"t": {"phase": "Running"}}},
    }
    assert run_view(without_rows(run)) == run_view(run)
    assert "tasks" not in without_rows(run)["status"]
    assert run_view(without_rows({"metadata": METADATA})) == run_view({"metadata": METADATA})


def test_what_is_large_in_a_job_is_not_kept():
    assert len(str(without_spec(JOB))) < 1000


def test_kopf_does_not_bring_the_official_client():
    """It would cost 50 MiB; and it must be there for who needs it later."""
    program = "import levada.operator.shell, sys; assert 'kubernetes' not in sys.modules; import kubernetes"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr


def test_the_operator_does_without_the_models():
    """pydantic and the models of the resources would cost 11 MiB and half a second; the API server has checked what comes in."""
    program = "import levada.cli.operator, levada.operator.shell, sys; assert 'pydantic' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr
