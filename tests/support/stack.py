"""The whole product on this machine, for tests: control plane, operator and agent as separate processes with identities of their own.

Each part can be killed with SIGKILL and started again, as a machine or a person would.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from levada.cluster import Cluster
from levada.resources import names

CONTROL_PLANE_PARTS = ("etcd", "kube-apiserver")
OWN_PARTS = ("operator", "agent")
READY_SECONDS = 30


class Stack:
    """A running cluster with Levada on it; `folder` takes logs, kubeconfigs and the agent's state."""

    def __init__(self, cluster: Cluster, folder: Path, *, agent_name: str, root: Path | None = None) -> None:
        self.cluster, self.folder, self.agent_name = cluster, folder, agent_name
        self.root = root or folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        account = f"{names.OPERATOR_NAMESPACE}:{names.OPERATOR_SERVICE_ACCOUNT}"
        operator_groups = ["system:serviceaccounts", f"system:serviceaccounts:{names.OPERATOR_NAMESPACE}"]
        self.kubeconfigs = {
            "operator": cluster.issue_kubeconfig(
                folder / "operator.kubeconfig", f"system:serviceaccount:{account}", operator_groups
            ),
            "agent": cluster.issue_kubeconfig(
                folder / "agent.kubeconfig", f"system:node:{agent_name}", ["system:nodes"]
            ),
        }
        self.arguments = {
            "operator": ["operator", "run", "--metrics-address", "127.0.0.1:0"],
            # Control groups would outlive an agent that is killed, and pods that are left alone.
            "agent": ["agent", "start", "--name", agent_name, "--root", str(self.root), "--limits", "rlimit"],
        }

    def start(self, part: str) -> None:
        """Start a part that is down. Control-plane parts come back by `up`."""
        if part in CONTROL_PLANE_PARTS:
            self.cluster.up(ephemeral=True, kube_api_qps=500)
            return
        with (self.folder / f"{part}.log").open("ab") as log:
            self.processes[part] = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "levada.cli",
                    *self.arguments[part],
                    "--kubeconfig",
                    str(self.kubeconfigs[part]),
                ],
                env=os.environ | {"LEVADA_HOME": str(self.folder)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill(self, part: str) -> None:
        """SIGKILL: the part gets no chance to put anything in order."""
        if part in CONTROL_PLANE_PARTS:
            os.kill(self.cluster.pid(part), signal.SIGKILL)
            return
        process = self.processes.pop(part)
        process.kill()
        process.wait(timeout=10)

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=10)
        self.processes.clear()

    def log(self, part: str) -> str:
        return (self.folder / f"{part}.log").read_text(errors="replace")


def wait_until(
    condition: Callable[[], Any], what: str, seconds: float = READY_SECONDS, poll_seconds: float = 0.1
) -> Any:
    """The first truthy answer of the condition; fails with `what` when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        if answer := condition():
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(poll_seconds)


@contextmanager
def running_stack(cluster: Cluster, folder: Path, *, agent_name: str, operator: Sequence[str] = ()) -> Iterator[Stack]:
    """A stack with operator (and its further arguments) and agent started, and stopped at the end of the block."""
    stack = Stack(cluster, folder, agent_name=agent_name)
    stack.arguments["operator"] += operator
    stack.start("operator")
    stack.start("agent")
    try:
        yield stack
    finally:
        stack.stop()
