"""A real agent process as a node of the real control plane.

`start_agent(name=None, **options)`: an AgentProcess that is ready, with a node certificate; removed after the test with everything
that it started; it makes no control groups unless the test asks for them. `agent`: one of them. `run_job(command, ...)`: creates a Job for that agent in the test's namespace and
returns its name. `until(check)`: waits for something to become true.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import time

import pytest

from levada.agent import cgroups
from levada.agent.folder import PodFolder
from levada.agent.processes import Shim, kill_strays


class AgentProcess:
    """`levada agent start` as a subprocess that can be killed, stopped and started again."""

    def __init__(self, name, home, kubeconfig, arguments):
        self.name, self.home, self.kubeconfig, self.arguments = name, home, kubeconfig, arguments
        self.output = home / f"{name}.out"
        self.process = None
        self.program = ["-m", "levada.cli"]

    @property
    def pods(self):
        return self.home / "agents" / self.name / "pods"

    def start(self, *, wait=True):
        self.output.unlink(missing_ok=True)
        command = [sys.executable, *self.program, "agent", "start", "--kubeconfig", str(self.kubeconfig)]
        if "--limits" not in self.arguments:
            command += ["--limits", "rlimit"]  # groups of a killed agent would outlive the test
        environment = {**os.environ, "LEVADA_HOME": str(self.home), "LEVADA_TEST_SECRET": "of-the-agent"}
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, *self.arguments], stdout=out, stderr=subprocess.STDOUT, env=environment, cwd=self.home
            )
        if wait:
            _until(lambda: "is ready" in self.output.read_text(), self.output.read_text)
        return self

    def kill(self):
        self.process.kill()
        self.process.wait(10)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(10) == 0, self.output.read_text()
        return self.output.read_text()

    def clear_away(self):
        if self.process and self.process.poll() is None:
            self.kill()
        for folder in self.pods.glob("*"):
            claim = folder / "claim.json"
            shim = Shim.attach(json.loads(claim.read_text())) if claim.exists() else None
            if shim:
                (folder / "stop.json").write_text('{"graceSeconds": 0, "reason": "test"}')
                shim.signal(signal.SIGTERM)
                _until(lambda shim=shim: not shim.is_alive)
                shim.close()
            kill_strays(folder.name)
            cgroups.release(PodFolder(self.pods, folder.name).cgroups())


def _until(check, describe=lambda: "", timeout_s=20.0):
    end = time.monotonic() + timeout_s
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"did not happen in {timeout_s} s. {describe()}")
        time.sleep(0.05)


@pytest.fixture
def until():
    return _until


@pytest.fixture
def start_agent(request, kubectl_for, tmp_path):
    started = []

    def start(name=None, *arguments, in_cluster=None):
        in_cluster = in_cluster or request.getfixturevalue("cluster")
        chosen = name or f"agent-{secrets.token_hex(3)}"
        path = in_cluster.issue_kubeconfig(tmp_path / f"{chosen}.kubeconfig", f"system:node:{chosen}", ["system:nodes"])
        agent = AgentProcess(chosen, tmp_path, path, arguments)
        started.append((agent, kubectl_for(in_cluster.kubectl, in_cluster.kubeconfig)))
        return agent.start()

    yield start
    for agent, kubectl in started:
        agent.clear_away()
        kubectl("delete", "node", agent.name, "--ignore-not-found", "--wait=false")


@pytest.fixture
def agent(start_agent):
    return start_agent()


def python(code):
    return ["python", "-c", code]


class Jobs:
    """Jobs for one agent in one namespace."""

    def __init__(self, kubectl, namespace, node):
        self._kubectl, self.namespace, self._node = kubectl, namespace, node

    def run(self, command, name="run-1", **pod):
        """Create a Job. `pod` overrides fields of the pod's spec; container=... overrides fields of its container."""
        container = {"name": "flow", "image": "unused", "command": command, **pod.pop("container", {})}
        labels = pod.pop("labels", {"levada.dev/run": name.rpartition("-")[0]})
        spec = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "nodeSelector": {"kubernetes.io/hostname": self._node},
            "tolerations": [{"key": "levada.dev/agent", "operator": "Exists", "effect": "NoSchedule"}],
            "containers": [container],
            **pod,
        }
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": labels}, "spec": spec}},
        }
        self._kubectl("create", "-f", "-", stdin=job)
        return name

    def pod(self, name="run-1"):
        """The Job's pod, or None."""
        found = json.loads(self._kubectl("get", "pods", "-n", self.namespace, "-l", f"job-name={name}", "-o", "json"))
        return found["items"][0] if found["items"] else None

    def phase(self, name="run-1"):
        pod = self.pod(name)
        return pod["status"].get("phase") if pod else None

    def ended(self, name="run-1"):
        """The pod once it has ended."""
        return _until(
            lambda: (pod := self.pod(name)) and pod["status"]["phase"] in {"Succeeded", "Failed"} and pod,
            lambda: json.dumps(self.pod(name), indent=1),
        )

    def running(self, name="run-1"):
        """The pod once it runs."""
        return _until(
            lambda: (pod := self.pod(name)) and pod["status"]["phase"] == "Running" and pod,
            lambda: json.dumps(self.pod(name), indent=1),
        )

    def logs(self, name="run-1", *arguments):
        return self._kubectl("logs", "-n", self.namespace, f"job/{name}", *arguments)

    def terminated(self, name="run-1"):
        return self.ended(name)["status"]["containerStatuses"][0]["state"]["terminated"]


@pytest.fixture
def jobs(kubectl, namespace, agent):
    kubectl("wait", "--for=create", "serviceaccount/default", "-n", namespace, "--timeout=10s")
    return Jobs(kubectl, namespace, agent.name)


@pytest.fixture
def make_jobs(kubectl, namespace):
    """Jobs for an agent that a test has started itself: make_jobs(node)."""
    kubectl("wait", "--for=create", "serviceaccount/default", "-n", namespace, "--timeout=10s")
    return lambda node: Jobs(kubectl, namespace, node)


@pytest.fixture
def jobs_in():
    """Jobs on another cluster, in a namespace of their own: jobs_in(kubectl, node)."""

    def make(kubectl, node):
        namespace = f"test-{secrets.token_hex(4)}"
        kubectl("create", "namespace", namespace)
        kubectl(
            "wait", "--for=create", "serviceaccount/default", "-n", namespace, "--timeout=45s"
        )  # its maker may just have lost the API server
        return Jobs(kubectl, namespace, node)

    return make
