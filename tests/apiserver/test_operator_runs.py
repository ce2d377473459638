"""The operator against a real API server: what becomes of a run, for each way that its pod can go."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from levada.cluster import Cluster
from levada.kube import Client, NotFound
from levada.resources.kinds import FLOW_RUNS, JOBS, PODS
from support.facts import env_of
from support.operator_play import Operator, Play, until

pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def operator(cluster: Cluster, installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """One operator for the tests of this file; it must have nothing to complain of as a process."""
    operator = Operator(cluster, tmp_path_factory.mktemp("operator"))
    operator.start()
    yield operator
    assert operator.stop() == 0
    assert "Traceback" not in operator.text()


@pytest.fixture
async def play(operator: Operator, client: Client, namespace: str) -> Play:
    return Play(client, namespace)


async def test_a_run_goes_pending_running_completed(play: Play):
    await play.flow()
    await play.deployment()
    run = await play.run(parameters={"name": "$(HOME)"})
    pod = await play.pod(run)
    status = await play.status(run)
    assert (status["phase"], status["attempt"], status["queue"]) == ("Pending", 1, "default")
    assert status["flow"]["codeConfigMap"].startswith("hello-code-")
    env = env_of(pod)
    assert json.loads(env["LEVADA_PARAMETERS"].replace("$$", "$")) == {"name": "$(HOME)"}
    await play.starts(pod)
    await play.reports_running(run, pod)
    await play.reports_end(run, "Completed")
    await play.ends(pod)
    await play.has_events(run, "Completed", "Started")
    assert (await play.status(run))["phase"] == "Completed"


async def test_a_pod_that_succeeds_without_a_report_completes_the_run_in_one_write(play: Play):
    await play.flow()
    await play.deployment()
    run = await play.run()
    before = int(
        (await play.client.get(JOBS, (await play.job(run))["metadata"]["name"], play.namespace))["metadata"][
            "generation"
        ]
    )
    await play.ends(await play.pod(run))
    status = await play.phase(run, "Completed")
    assert before == 1
    assert status["reason"] == "ExitedZero"
    assert status["conditions"][0] | {"lastTransitionTime": ""} == {
        "type": "Succeeded", "status": "True", "reason": "ExitedZero", "observedGeneration": 1, "lastTransitionTime": "",
        "message": "The process ended with exit code 0 and without a report.",
    }  # fmt: skip
    body = await play.client.get(FLOW_RUNS, run, play.namespace)
    writers = [entry["manager"] for entry in body["metadata"]["managedFields"] if entry.get("subresource") == "status"]
    assert writers == ["levada-operator"]


async def test_the_termination_message_counts_when_the_report_did_not_get_through(play: Play):
    await play.flow()
    await play.deployment()
    run = await play.run()
    said = {"levada": 1, "phase": "Failed", "reason": "FlowFailed", "message": "ValueError: no", "progress": "1/2"}
    await play.ends(await play.pod(run), 1, message=json.dumps(said))
    status = await play.phase(run, "Failed")
    assert (status["reason"], status["message"], status["progress"]) == ("FlowFailed", "ValueError: no", "1/2")


@pytest.mark.parametrize(
    ("exit_code", "reason", "category"),
    [
        (3, "Error", "ExitCode"),
        (139, "Error", "Killed"),
        (137, "OOMKilled", "OutOfMemory"),
        (128, "StartError", "StartError"),
    ],
)
async def test_an_end_without_a_report_is_diagnosed(play: Play, exit_code: int, reason: str, category: str):
    await play.flow()
    await play.deployment()
    run = await play.run()
    pod = await play.pod(run)
    await play.ends(pod, exit_code, reason=reason)
    status = await play.phase(run, "Crashed")
    assert status["reason"] == status["diagnosis"]["category"] == category
    assert status["diagnosis"]["summary"] and status["diagnosis"]["resolution"]
    (attempt,) = status["attempts"]
    assert (attempt["number"], attempt["pod"], attempt["exitCode"]) == (1, pod["metadata"]["name"], exit_code)
    await play.has_event(run, "Crashed")


async def test_an_eviction_starts_a_new_attempt_and_uses_up_no_retry(play: Play):
    await play.flow()
    await play.deployment(infrastructureRetries={"limit": 1, "delaySeconds": 1}, retries={"limit": 0})
    run = await play.run()
    first = await play.pod(run)
    await play.starts(first)
    await play.reports_running(run, first)
    await play.reports(run, tasks={"a-0": {"name": "a", "state": "Running"}}, progress="0/1")
    evicted = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "TerminationByKubelet",
        "message": "low on memory",
    }
    await play.ends(first, 143, conditions=[evicted], reason="Error")
    await play.phase(run, "Retrying")
    second = await play.pod(run, 2)
    status = await play.status(run)
    assert (status["attempt"], status["infrastructureFailures"], status.get("codeFailures", 0)) == (2, 1, 0)
    assert status["attempts"][0]["reason"] == "Evicted"
    assert "tasks" not in status or not status["tasks"]
    await play.ends(second)
    await play.phase(run, "Completed")
    assert len(await play.jobs()) == 2


async def test_the_flow_s_own_failure_is_retried_as_the_deployment_says(play: Play):
    await play.flow()
    await play.deployment(retries={"limit": 1, "delaySeconds": 1})
    run = await play.run()
    first = await play.pod(run)
    env = env_of(first)
    assert env["LEVADA_RETRIES_LEFT"] == "1"
    await play.starts(first)
    await play.reports_running(run, first)
    await play.reports(run, phase="Retrying", reason="FlowFailed", message="ValueError: no")
    await asyncio.sleep(1.5)
    assert len(await play.jobs()) == 1, "the next attempt must wait for the end of the first"
    await play.ends(first, 1)
    second = await play.pod(run, 2)
    env = env_of(second)
    assert env["LEVADA_RETRIES_LEFT"] == "0"
    await play.starts(second)
    await play.reports_running(run, second)
    await play.reports_end(run, "Failed", "FlowFailed", "ValueError: no")
    await play.ends(second, 1)
    await play.has_event(run, "Failed")
    status = await play.status(run)
    assert (status["phase"], status["codeFailures"], status["attempts"][0]["message"]) == (
        "Failed",
        1,
        "ValueError: no",
    )


async def test_a_missing_image_fails_the_run_and_leaves_no_pod(play: Play):
    await play.flow()
    await play.deployment(pendingTimeoutSeconds=2)
    run = await play.run()
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "manifest unknown"}}
    await play.set_pod(await play.pod(run), "Pending", waiting)
    status = await play.phase(run, "Crashed")
    assert (status["reason"], "manifest unknown" in status["message"]) == ("ImageMissing", True)
    await no_pods(play, run)


async def test_an_unschedulable_pod_fails_the_run_after_the_pending_timeout(play: Play):
    await play.flow()
    await play.deployment(pendingTimeoutSeconds=2)
    run = await play.run()
    assert (await play.phase(run, "Crashed"))["reason"] == "Unschedulable"
    await no_pods(play, run)


async def test_the_reason_of_a_long_wait_is_shown_while_it_lasts(play: Play):
    await play.flow()
    await play.deployment()
    run = await play.run()
    await until(lambda: shows(play, run, "Unschedulable"), what="reason Unschedulable")
    assert (await play.status(run))["phase"] == "Pending"
    await play.has_event(run, "Unschedulable")


async def test_cancel_before_the_start(play: Play):
    await play.flow()
    await play.deployment()
    run = await play.run(scheduledTime="2100-01-01T00:00:00Z")
    assert (await play.phase(run, "Scheduled"))["reason"] == "ScheduledForLater"
    await play.cancel(run)
    await play.phase(run, "Cancelled")
    assert await play.jobs() == []


async def test_cancel_while_it_runs_ends_the_pod(play: Play):
    await play.flow()
    await play.deployment()
    run = await play.run()
    pod = await play.pod(run)
    await play.node(f"node-{play.namespace}")
    await play.bind(pod, f"node-{play.namespace}")
    await play.starts(pod)
    await play.reports_running(run, pod)
    await play.cancel(run)
    await play.phase(run, "Cancelling")

    async def leaving() -> bool:
        return "deletionTimestamp" in (await play.pod(run))["metadata"]

    await until(leaving, what="the end of the pod")
    await play.ends(pod, 143)
    await play.client.delete(PODS, pod["metadata"]["name"], play.namespace, grace_period_seconds=0)
    status = await play.phase(run, "Cancelled")
    assert status["reason"] == "Cancelled"
    await play.has_event(run, "Cancelled")


async def test_a_run_that_finished_before_the_cancel_reached_it_has_finished(play: Play):
    await play.flow()
    await play.deployment()
    run = await play.run()
    pod = await play.pod(run)
    await play.node(f"node-{play.namespace}")
    await play.bind(pod, f"node-{play.namespace}")
    await play.starts(pod)
    await play.reports_running(run, pod)
    await play.cancel(run)
    await play.phase(run, "Cancelling")
    await play.ends(pod, 0)
    assert (await play.phase(run, "Completed", "Cancelled"))["phase"] == "Completed"


async def test_the_timeout_ends_the_run(play: Play):
    await play.flow()
    await play.deployment(timeoutSeconds=2)
    run = await play.run()
    pod = await play.pod(run)
    await play.starts(pod)
    await play.reports_running(run, pod)
    status = await play.phase(run, "TimedOut")
    assert status["reason"] == "DeadlineExceeded"


async def test_a_deleted_job_never_runs_the_same_attempt_again(play: Play):
    await play.flow()
    await play.deployment(infrastructureRetries={"limit": 1, "delaySeconds": 1})
    run = await play.run()
    pod = await play.pod(run)
    await play.starts(pod)
    await play.client.delete(JOBS, f"{run}-1", play.namespace)
    status = await play.phase(run, "Retrying")
    assert status["attempts"][0]["reason"] in {"JobDeleted", "PodDeleted"}
    await play.pod(run, 2)
    with pytest.raises(NotFound):
        await play.client.get(JOBS, f"{run}-1", play.namespace)


async def test_a_deleted_pod_starts_a_new_attempt(play: Play):
    await play.flow()
    await play.deployment(infrastructureRetries={"limit": 1, "delaySeconds": 1})
    run = await play.run()
    pod = await play.pod(run)
    await play.starts(pod)
    await play.client.delete(PODS, pod["metadata"]["name"], play.namespace)
    status = await play.phase(run, "Retrying")
    assert status["attempts"][0]["reason"] == "PodDeleted"
    await play.pod(run, 2)


async def test_a_run_that_is_deleted_takes_job_and_pod_with_it(play: Play):
    await play.flow()
    await play.deployment()
    run = await play.run()
    await play.pod(run)
    await play.client.delete(FLOW_RUNS, run, play.namespace)

    async def gone() -> bool:
        pods, _ = await play.client.list(PODS, play.namespace)
        return not pods and not await play.jobs()

    await until(gone, what="the collection of Job and pod")


async def test_a_queue_with_a_limit_lets_the_oldest_go_first(play: Play):
    await play.flow()
    await play.queue("narrow", concurrencyLimit=1)
    await play.deployment(workQueue="narrow")
    runs = [await play.run(f"run-{n}") for n in (1, 2, 3)]
    await play.pod("run-1")
    for waiting in runs[1:]:
        assert (await play.phase(waiting, "Queued"))["reason"] == "QueueFull"
    for run in runs:
        await play.ends(await play.pod(run))
        await play.phase(run, "Completed")


async def test_a_paused_deployment_starts_nothing_until_it_goes_on(play: Play):
    await play.flow()
    await play.deployment(paused=True)
    run = await play.run()
    assert (await play.phase(run, "Queued"))["reason"] == "DeploymentPaused"
    from levada.resources.kinds import DEPLOYMENTS

    await play.client.patch(DEPLOYMENTS, "hello", {"spec": {"paused": False}}, play.namespace)
    await play.pod(run)


async def test_a_run_left_running_after_its_end_is_stopped(play: Play):
    """The pod of a run that was ended from outside never started: its Job must not start it later."""
    await play.flow()
    await play.deployment()
    run = await play.run()
    await play.pod(run)
    await play.reports_end(run, "Failed", "Gone", "ended by somebody else")
    await no_pods(play, run)


async def no_pods(play: Play, run: str) -> None:
    async def look() -> bool:
        pods, _ = await play.client.list(PODS, play.namespace, label_selector=f"levada.dev/run={run}")
        return not pods

    await until(look, what=f"the end of the pods of {run}")


async def shows(play: Play, run: str, reason: str) -> bool:
    return (await play.status(run)).get("reason") == reason


def test_operator_help_names_its_options(tmp_path: Path):
    import subprocess
    import sys

    printed = subprocess.run(
        [sys.executable, "-m", "levada.cli", "operator", "manifests", "--namespace", "team-a"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "namespace: team-a" in printed and "ValidatingAdmissionPolicy" in printed
