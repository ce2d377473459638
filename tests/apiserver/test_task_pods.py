"""Tasks and Dask workers in pods of their own, with everything real: control plane, operator, agent as the node, storage in a folder."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from levada.resources import names
from support.stack import Stack, running_stack, wait_until

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(240)]

# The bodies leave the evidence: a file for each pod that ran one, with the number of its process. `gate` holds them up.
CODE = """
import os, threading, time, urllib.error, urllib.request, ssl
from pathlib import Path

import helper
from levada import flow, get_run_logger, task
from levada.task_runners import DaskTaskRunner, KubernetesTaskRunner

FOLDER = Path("FOLDER_HERE")


def wait_at_gate(name):
    (FOLDER / f"{name}-{os.environ['LEVADA_POD']}").write_text(str(os.getpid()))
    while (FOLDER / f"gate-{name}").exists():
        time.sleep(0.05)


@task(kubernetes={"resources": {"requests": {"memory": "64Mi"}}})
def heavy(n):
    get_run_logger().info("heavy %d at work", n)
    return helper.double(n), os.environ["LEVADA_POD"]


@task(kubernetes=True, log_prints=True)
def rude():
    folder = os.environ["LEVADA_SERVICE_ACCOUNT_DIR"]
    server = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    path = f"/apis/levada.dev/v1alpha1/namespaces/{os.environ['LEVADA_NAMESPACE']}/flowruns/{os.environ['LEVADA_RUN']}/status"
    request = urllib.request.Request(server + path, b'{"status": {"message": "mine"}}', method="PATCH")
    request.add_header("Authorization", "Bearer " + Path(folder, "token").read_text())
    request.add_header("Content-Type", "application/merge-patch+json")
    try:
        urllib.request.urlopen(request, context=ssl.create_default_context(cafile=folder + "/ca.crt"))
    except urllib.error.HTTPError as error:
        return error.code
    return 200


@task(kubernetes=True)
def failing():
    raise LookupError("as it should")


@task(kubernetes=True, timeout_seconds=1)
def slow():
    time.sleep(60)


@task(kubernetes=True)
async def waiting(n):
    return n + 1


@flow
async def good():
    pairs = [future.result() for future in [heavy.submit(n) for n in (1, 2, 3)]]
    direct = heavy(10)
    states = [failing.submit(return_state=True), slow.submit(return_state=True)]
    return {
        "values": [value for value, _ in pairs] + [direct[0], await waiting(4)],
        "pods": len({pod for _, pod in pairs} | {direct[1], os.environ["LEVADA_POD"]}),
        "states": [state.name for state in states],
        "error": repr(states[0].result(raise_on_failure=False)),
        "patch": rude(),
    }


@task(kubernetes=True, retries=1)
def killed():
    wait_at_gate("killed")
    return "second"


@task(kubernetes=True)
def lost():
    wait_at_gate("lost")
    return "anew"


@flow(task_runner=KubernetesTaskRunner(max_workers=4))
def accidents():
    return [future.result() for future in (killed.submit(), lost.submit())]


@task
def locked(lock):
    return lock


@task
def plain():
    return 1


@flow(task_runner=KubernetesTaskRunner())
def bad(wishes: list):
    calls = [lambda: locked.submit(threading.Lock(), return_state=True)] if not wishes else []
    for wish in wishes:
        calls.append(lambda wish=wish: plain.with_options(kubernetes=wish).submit(return_state=True))
    return [call().message for call in calls]


@task(kubernetes=True)
def endless():
    wait_at_gate("endless")


@flow
def cancelled():
    endless()


@task
def count(n):
    wait_at_gate("dask")
    return n * n


@flow(task_runner=DaskTaskRunner(kubernetes=True, cluster_kwargs={"n_workers": 2, "threads_per_worker": 1}))
def dask_fixed():
    return sum(count.map(range(6)).result())


@flow(task_runner=DaskTaskRunner(kubernetes=True, adapt_kwargs={"minimum": 0, "maximum": 2, "interval": "200ms"}))
def dask_adaptive():
    return sum(count.map(range(4)).result())
"""
OPEN = {"limit": 3, "allow": ["resources", "image"], "images": ["ours/*"]}
OVER = {"Completed", "Failed", "Crashed", "Cancelled", "TimedOut"}


@pytest.fixture(scope="module")
def stack(cluster, installed, tmp_path_factory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("task-pods")
    allowed = ("--allow-storage", f"file://{tmp_path_factory.getbasetemp()}")
    with running_stack(cluster, folder, agent_name="task-pods-agent", operator=allowed) as running:
        yield running
    assert "Traceback" not in running.log("operator")


class Desk:
    """A person with kubectl in one namespace, and the folder of the evidence."""

    def __init__(self, kubectl, namespace, folder: Path):
        self.kubectl, self.namespace, self.folder = kubectl, namespace, folder
        files = {"flow.py": CODE.replace("FOLDER_HERE", str(folder)), "helper.py": "def double(n):\n    return 2 * n\n"}
        self.apply("ConfigMap", "code", {}, api="v1", data=files)

    def apply(self, kind, name, spec, api=names.API_VERSION, **rest):
        body = {"apiVersion": api, "kind": kind, "metadata": {"name": name}, **rest}
        self.kubectl(
            "-n", self.namespace, "apply", "--server-side", "-f", "-", stdin=body | ({"spec": spec} if spec else {})
        )

    def start(self, function, parameters=None, *, pods=OPEN, name=""):
        name = name or function.replace("_", "-")
        self.apply("Flow", name, {"entrypoint": f"flow.py:{function}", "source": {"configMap": {"name": "code"}}})
        infrastructure = {"terminationGracePeriodSeconds": 5} | ({"taskPods": pods} if pods else {})
        kept = f"file://{self.folder / 'kept'}"
        self.apply("Deployment", name, {"flowRef": {"name": name}, "infrastructure": infrastructure, "storage": kept})
        self.apply("FlowRun", name, {"deploymentRef": {"name": name}, "parameters": parameters or {}})
        return name

    def get(self, *what):
        return json.loads(self.kubectl("-n", self.namespace, "get", *what, "-o", "json"))

    def status(self, run):
        return self.get("fr", run).get("status", {})

    def ended(self, run, phase="Completed"):
        status = wait_until(
            lambda: (said := self.status(run)).get("phase") in OVER and said, f"{run} ends: {self.status(run)}", 90
        )
        assert status["phase"] == phase, status
        return status

    def seen(self, name, count=1):
        """The evidence of so many pods in which a body has begun: pod name and process."""
        found = wait_until(
            lambda: len(files := sorted(self.folder.glob(f"{name}-*"))) >= count and files,
            f"{name} in {count} pods",
            60,
        )
        return {file.name.removeprefix(f"{name}-"): int(wait_until(file.read_text, "its number")) for file in found}

    def task_jobs(self, run):
        return self.get("jobs", "-l", f"{names.LABEL_RUN}={run},{names.LABEL_TASK_POD}")["items"]

    def is_clean(self, run):
        """Nothing of a run's tasks is left: no Job, no pod, and no call or outcome in the storage."""
        wait_until(lambda: not self.task_jobs(run), f"the Jobs of the tasks of {run} are gone")
        pods = ("pods", "-l", f"{names.LABEL_RUN}={run},{names.LABEL_TASK_POD}")
        wait_until(lambda: not self.get(*pods)["items"], f"the pods of the tasks of {run} are gone")

    def gate(self, name):
        (self.folder / f"gate-{name}").touch()
        return self.folder / f"gate-{name}"


@pytest.fixture
def desk(stack, kubectl, namespace, tmp_path) -> Desk:
    return Desk(kubectl, namespace, tmp_path)


def test_tasks_in_pods_of_their_own(desk):
    run = desk.start("good")
    most = 0

    def over():
        nonlocal most
        most = max(most, len(desk.task_jobs(run)))
        return desk.status(run).get("phase") in OVER

    wait_until(over, f"{run} ends: {desk.status(run)}", 120)
    status = desk.ended(run)
    result = json.loads(status["result"])
    assert result["values"] == [2, 4, 6, 20, 5]
    assert result["pods"] == 5, "each task had a pod of its own"
    assert result["states"] == ["Failed", "TimedOut"]
    assert result["error"] == "LookupError('as it should')"
    assert result["patch"] == 403, "a task's pod may write nothing"
    assert 1 <= most <= OPEN["limit"]
    rows = {name: row["state"] for name, row in status["tasks"].items()}
    assert rows["heavy-0"] == "Completed"
    assert rows["slow-0"] == "Failed"
    log = desk.kubectl("-n", desk.namespace, "logs", f"pod/{status['podName']}")
    assert "heavy 2 at work" in log
    desk.is_clean(run)
    assert not status.get("taskPods")
    assert not list((desk.folder / "kept").rglob("pods/*/*")), "calls and outcomes are cleared away"


def test_a_killed_task_is_retried_and_a_lost_pod_is_made_anew(desk):
    gates = [desk.gate("killed"), desk.gate("lost")]
    run = desk.start("accidents")
    ((_, process),) = desk.seen("killed").items()
    ((pod, _),) = desk.seen("lost").items()
    os.kill(process, signal.SIGKILL)
    desk.kubectl("-n", desk.namespace, "delete", "pod", pod, "--wait=false")
    desk.seen("killed", 2)
    desk.seen("lost", 2)
    for gate in gates:
        gate.unlink()
    status = desk.ended(run)
    assert json.loads(status["result"]) == ["second", "anew"]
    attempts = {name: row["attempt"] for name, row in status["tasks"].items()}
    assert attempts == {"killed-0": 2, "lost-0": 1}, "what the cluster did does not use up a task's retries"
    assert status["attempt"] == 1
    desk.is_clean(run)


def test_a_cancelled_run_takes_the_pods_of_its_tasks_along(desk):
    desk.gate("endless")
    run = desk.start("cancelled")
    ((_, process),) = desk.seen("endless").items()
    assert desk.status(run)["taskPods"]["t1"]["state"] == "Granted"
    desk.kubectl("-n", desk.namespace, "patch", "fr", run, "--type=merge", "-p", '{"spec": {"cancel": true}}')
    desk.ended(run, "Cancelled")
    desk.is_clean(run)
    wait_until(lambda: not Path(f"/proc/{process}").exists(), "the task's process is gone")


@pytest.mark.parametrize(
    ("case", "wishes", "how", "words"),
    [
        ("unpicklable", [], {}, ["argument 'lock' (a _thread.lock) cannot be sent to a worker"]),
        ("closed", [{}], {"pods": None}, ["set spec.infrastructure.taskPods"]),
        (
            "wishes",
            [{"image": "evil/miner"}, {"node_selector": {"a": "b"}}, {"resources": {"limits": {"memory": "lots"}}}],
            {},
            [
                "does not let its tasks use image 'evil/miner'",
                "add it to spec.infrastructure.taskPods.allow",
                "the API server refused",
            ],
        ),
    ],
)
def test_what_cannot_be_is_said(desk, case, wishes, how, words):
    status = desk.ended(desk.start("bad", {"wishes": wishes}, name=f"bad-{case}", **how))
    messages = json.loads(status["result"])
    assert len(messages) == len(words)
    for message, word in zip(messages, words, strict=True):
        assert word in message
    desk.is_clean(f"bad-{case}")


def test_a_dask_worker_that_is_killed_is_replaced_and_its_tasks_survive(desk):
    gate = desk.gate("dask")
    run = desk.start("dask_fixed")
    workers = desk.seen("dask", 2)
    os.kill(min(workers.values()), signal.SIGKILL)
    assert len(desk.seen("dask", 3)) == 3, "another pod has taken its place"
    gate.unlink()
    status = desk.ended(run)
    assert status["result"] == "55"
    assert {row["attempt"] for row in status["tasks"].values()} == {1}
    desk.is_clean(run)


def test_dask_workers_come_as_there_is_work(desk):
    gate = desk.gate("dask")
    run = desk.start("dask_adaptive")
    assert len(desk.seen("dask", 2)) == 2
    gate.unlink()
    assert desk.ended(run)["result"] == "14"
    desk.is_clean(run)
