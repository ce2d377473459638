"""API objects to views: what decisions read, whatever shape the rest has."""

from datetime import UTC, datetime

import pytest

from levada.decide.definition_views import deployment_view, flow_view, queue_view
from levada.decide.definitions import RetryPolicy
from levada.decide.views import job_view, pod_view, run_view
from levada.resources import names

META = {"name": "x", "namespace": "ns", "uid": "u", "resourceVersion": "7", "creationTimestamp": "2026-03-01T12:00:00Z"}


@pytest.mark.parametrize("view", [run_view, job_view, pod_view, flow_view, deployment_view, queue_view])
def test_an_object_with_nothing_in_it_can_be_looked_at(view):
    found = view({"metadata": META})
    assert (found.namespace, found.name, found.uid, found.resource_version) == ("ns", "x", "u", "7")
    assert view({"metadata": {"name": "x"}, "spec": None, "status": None}).name == "x"


def test_run():
    view = run_view({
        "metadata": {**META, "generation": 2, "labels": {names.LABEL_SCHEDULE: "nightly"}, "deletionTimestamp": "2026-03-01T12:00:00Z"},
        "spec": {"deploymentRef": {"name": "d"}, "parameters": {"a": 1}, "cancel": True, "scheduledTime": "2026-03-01T13:00:00+01:00"},
        "status": {
            "phase": "Retrying", "attempt": 2, "attempts": [{"number": 2}], "flow": {"name": "f", "generation": 3},
            "startTime": "not a time", "stages": {"queuedSeconds": 1.5}, "conditions": [{"type": "Succeeded", "status": "Unknown"}],
        },
    })  # fmt: skip
    assert (view.deployment, view.parameters, view.cancel, view.schedule, view.deleting) == (
        "d",
        {"a": 1},
        True,
        "nightly",
        True,
    )
    assert view.scheduled_at == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert (view.phase, view.attempt, view.concluded, view.started_at, view.queued_seconds) == (
        "Retrying",
        2,
        True,
        None,
        1.5,
    )
    assert (view.pin.name, view.pin.generation, view.pin.code_config_map) == ("f", 3, "")
    assert view.succeeded["status"] == "Unknown"


def job(conditions=(), **spec):
    return job_view({
        "metadata": {
            **META, "labels": {names.LABEL_RUN: "r", names.LABEL_ATTEMPT: "2"},
            "ownerReferences": [{"uid": "other"}, {"uid": "run-uid", "controller": True}],
        },
        "spec": spec,
        "status": {"active": 1, "conditions": list(conditions)},
    })  # fmt: skip


def test_job():
    env = [{"name": names.ENV_ENTRYPOINT, "value": "flow.py:main"}, {"name": names.ENV_POD, "valueFrom": {}}]
    view = job(
        suspend=True,
        activeDeadlineSeconds=5,
        template={"spec": {"containers": [{"name": names.CONTAINER_NAME, "env": env}]}},
    )
    assert (view.run, view.attempt, view.owner_uid, view.suspended, view.deadline_s) == ("r", 2, "run-uid", True, 5)
    assert (view.entrypoint, view.verdict, view.can_make_pods) == ("flow.py:main", "", False)


def true(kind, reason=""):
    return {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": "2026-03-01T12:00:05Z"}


@pytest.mark.parametrize(
    ("conditions", "verdict", "reason"),
    [
        ([], "", ""),
        ([{"type": "Failed", "status": "False"}], "", ""),
        ([true("Suspended")], "", ""),
        ([true("FailureTarget", "DeadlineExceeded")], "Failed", "DeadlineExceeded"),
        ([true("FailureTarget", "x"), true("Failed", "BackoffLimitExceeded")], "Failed", "BackoffLimitExceeded"),
        ([true("SuccessCriteriaMet")], "Complete", ""),
        ([true("SuccessCriteriaMet"), true("Complete")], "Complete", ""),
    ],
)
def test_job_verdict(conditions, verdict, reason):
    view = job(conditions)
    assert (view.verdict, view.reason) == (verdict, reason)
    assert view.can_make_pods is (verdict == "")


@pytest.mark.parametrize("label", ["", "x", "-1", "²", None])
def test_a_label_that_is_no_number_is_no_attempt(label):
    assert job_view({"metadata": {**META, "labels": {names.LABEL_ATTEMPT: label}}}).attempt == 0


def pod(status, **metadata):
    return pod_view({"metadata": {**META, **metadata}, "spec": {"nodeName": "n"}, "status": status})


def container(state, name="flow"):
    return {"name": name, "state": state}


def test_pod_ended():
    terminated = {"exitCode": 137, "signal": 9, "reason": "OOMKilled", "message": "m", "startedAt": "2026-03-01T12:00:00Z",
                  "finishedAt": "2026-03-01T12:00:05Z"}  # fmt: skip
    view = pod(
        {
            "phase": "Failed",
            "containerStatuses": [container({"running": {}}, "sidecar"), container({"terminated": terminated})],
        }
    )
    assert (view.exit_code, view.signal, view.exit_reason, view.termination_message, view.finished) == (
        137,
        9,
        "OOMKilled",
        "m",
        True,
    )
    assert (view.started_at.second, view.finished_at.second, view.failed_container) == (0, 5, "")


def test_pod_running_waiting_disrupted_unscheduled():
    assert pod(
        {"phase": "Running", "containerStatuses": [container({"running": {"startedAt": "2026-03-01T12:00:00Z"}})]}
    ).running
    view = pod(
        {"phase": "Pending", "containerStatuses": [container({"waiting": {"reason": "ErrImagePull", "message": "no"}})]}
    )
    assert (view.waiting, view.waiting_message, view.running, view.finished) == ("ErrImagePull", "no", False, False)
    view = pod({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1"},
                               {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]})  # fmt: skip
    assert (view.unschedulable, view.disruption) == ("0/1", "PreemptionByScheduler")
    assert pod({"conditions": [{"type": "PodScheduled", "status": "True", "message": "x"}]}).unschedulable == ""


def test_an_init_container_tells_why_the_pod_does_not_start_or_failed():
    waiting = container({"waiting": {"reason": "PodInitializing"}})
    failed = container({"terminated": {"exitCode": 2, "message": "db away"}}, "init-db")
    view = pod({"phase": "Failed", "containerStatuses": [waiting], "initContainerStatuses": [failed]})
    assert (view.exit_code, view.failed_container, view.termination_message) == (2, "init-db", "db away")
    stuck = container({"waiting": {"reason": "ErrImagePull"}}, "init-db")
    assert pod({"containerStatuses": [waiting], "initContainerStatuses": [stuck]}).waiting == "ErrImagePull"


def test_a_pod_that_was_deleted_keeps_what_was_last_seen():
    view = pod_view(
        {"metadata": {**META, "deletionTimestamp": "2026-03-01T12:00:30Z"}, "status": {"phase": "Running"}}, gone=True
    )
    assert view.gone and view.finished and view.deletion_due_at.second == 30


def test_defaults_of_a_deployment():
    view = deployment_view({"metadata": META, "spec": {"flowRef": {"name": "f"}}})
    assert (view.queue, view.service_account, view.grace_s, view.pending_timeout_s) == (
        "default",
        "levada-runner",
        30,
        600,
    )
    assert view.retries == RetryPolicy(0, 10.0, 600.0)
    assert view.infrastructure_retries == RetryPolicy(3, 10.0, 300.0)
    zero = deployment_view({"metadata": META, "spec": {"infrastructureRetries": {"limit": 0, "delaySeconds": 0}}})
    assert zero.infrastructure_retries == RetryPolicy(0, 0.0, 300.0)
