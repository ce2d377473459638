"""For tests of the operator: the operator as a process of its own identity, and pods that are played by the test.

No node runs anything here: `Play` writes what a kubelet and a runner would write, so that each ending can be had at will.
"""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from levada.cluster import Cluster
from levada.kube import Client, NotFound
from levada.resources import names
from levada.resources.kinds import DEPLOYMENTS, EVENTS, FLOW_RUNS, FLOWS, JOBS, NODES, PODS, WORK_QUEUES

HELLO = """
from levada import flow

@flow
def hello(name: str = "world"):
    return name
"""
READY_S = 30.0


class Operator:
    """`levada operator run` with the operator's own rights, or with those of another user."""

    def __init__(self, cluster: Cluster, folder: Path, *arguments: str, user: str = "") -> None:
        folder.mkdir(exist_ok=True)
        account = f"{names.OPERATOR_NAMESPACE}:{names.OPERATOR_SERVICE_ACCOUNT}"
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{names.OPERATOR_NAMESPACE}"]
        self.kubeconfig = cluster.issue_kubeconfig(
            folder / "operator.kubeconfig", user or f"system:serviceaccount:{account}", [] if user else groups
        )
        self.log = folder / "operator.log"
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *, wait: bool = True, until: str = " ready") -> None:
        """`until`: what it says when the caller may go on; a standby is never ready, it says that it is standing by."""
        already = self.text().count(until)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-m", "levada.cli", "operator", "run", "--kubeconfig", str(self.kubeconfig),
                    "--metrics-address", "", "--default-image", "levada-flow:test", *self._arguments,
                ],
                stdout=log, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        deadline = time.monotonic() + READY_S
        while wait and self.text().count(until) == already:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the operator did not get ready:\n{self.text()}")
            time.sleep(0.02)

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def kill(self) -> None:
        """As a crash does it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def exit_code(self) -> int:
        """Wait for its own end."""
        assert self._process is not None
        return self._process.wait(timeout=READY_S)

    def stop(self) -> int:
        """As Kubernetes does it. Returns the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=20)


async def until(look: Callable[[], Awaitable[Any]], *, timeout_s: float = 20.0, what: str = "it") -> Any:
    """Look again and again until there is something true to see."""
    deadline = time.monotonic() + timeout_s
    seen: Any = None
    while time.monotonic() < deadline:
        seen = await look()
        if seen:
            return seen
        await asyncio.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {timeout_s} s")


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Play:
    """The users, the kubelet and the runner of one namespace."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.client, self.namespace = client, namespace

    # --- the users ----------------------------------------------------------------------------------------------------

    async def flow(
        self, name: str = "hello", *, code: str = HELLO, entrypoint: str = "flow.py:hello", **spec: Any
    ) -> None:
        source = spec.pop("source", {"inline": code})
        await self._create(FLOWS, name, {"entrypoint": entrypoint, "source": source, **spec})

    async def deployment(self, name: str = "hello", *, flow: str = "hello", **spec: Any) -> None:
        await self._create(DEPLOYMENTS, name, {"flowRef": {"name": flow}, **spec})

    async def queue(self, name: str, **spec: Any) -> None:
        await self._create(WORK_QUEUES, name, spec)

    async def run(self, name: str | None = None, *, deployment: str = "hello", **spec: Any) -> str:
        name = name or f"run-{secrets.token_hex(3)}"
        await self._create(FLOW_RUNS, name, {"deploymentRef": {"name": deployment}, **spec})
        return name

    async def _create(self, kind: Any, name: str, spec: Mapping[str, Any]) -> None:
        metadata = {"name": name, "namespace": self.namespace}
        await self.client.create(
            kind, {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": dict(spec)}
        )

    async def cancel(self, run: str) -> None:
        await self.client.patch(FLOW_RUNS, run, {"spec": {"cancel": True}}, self.namespace)

    # --- what is to be seen -------------------------------------------------------------------------------------------

    async def status(self, run: str) -> dict[str, Any]:
        return (await self.client.get(FLOW_RUNS, run, self.namespace)).get("status") or {}

    async def phase(self, run: str, *wanted: str, timeout_s: float = 20.0) -> dict[str, Any]:
        """Wait for one of the phases; returns the status."""
        seen: dict[str, Any] = {}

        async def look() -> Any:
            nonlocal seen
            seen = await self.status(run)
            return seen.get("phase") in wanted

        try:
            await until(look, timeout_s=timeout_s)
        except AssertionError:
            raise AssertionError(f"{run} is not {' or '.join(wanted)} but {json.dumps(seen, indent=1)}") from None
        return seen

    async def ready(self, kind: Any, name: str, status: str) -> dict[str, Any]:
        """Wait for the Ready condition; returns it."""

        async def look() -> Any:
            body = await self.client.get(kind, name, self.namespace)
            conditions = (body.get("status") or {}).get("conditions") or ()
            return next((item for item in conditions if item["type"] == "Ready" and item["status"] == status), None)

        return await until(look, what=f"{kind.kind} {name} Ready={status}")

    async def job(self, run: str, attempt: int = 1) -> dict[str, Any]:
        async def look() -> Any:
            try:
                return await self.client.get(JOBS, f"{run}-{attempt}", self.namespace)
            except NotFound:
                return None

        return await until(look, what=f"Job {run}-{attempt}")

    async def jobs(self) -> list[dict[str, Any]]:
        return (await self.client.list(JOBS, self.namespace))[0]

    async def pod(self, run: str, attempt: int = 1) -> dict[str, Any]:
        """Wait for the attempt's pod."""

        async def look() -> Any:
            selector = f"{names.LABEL_RUN}={run},{names.LABEL_ATTEMPT}={attempt}"
            items, _ = await self.client.list(PODS, self.namespace, label_selector=selector)
            return items[0] if items else None

        return await until(look, what=f"pod of {run}-{attempt}")

    async def reasons(self, name: str) -> list[str]:
        """The reasons of the Events about an object."""
        items, _ = await self.client.list(EVENTS, self.namespace)
        return [item["reason"] for item in items if item["involvedObject"]["name"] == name]

    async def has_event(self, name: str, reason: str) -> None:
        async def look() -> Any:
            return reason in await self.reasons(name)

        await until(look, what=f"Event {reason} about {name}")

    async def has_events(self, name: str, *reasons: str) -> None:
        """These, each once, and no others: they are written in the background, in any order."""

        async def look() -> Any:
            return sorted(await self.reasons(name)) == sorted(reasons)

        await until(look, what=f"Events {reasons} about {name}")

    # --- the kubelet --------------------------------------------------------------------------------------------------

    async def bind(self, pod: dict[str, Any], node: str) -> None:
        """Give the pod a node, so that its deletion waits for a kubelet."""
        body = {
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod["metadata"]["name"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }  # fmt: skip
        await self.client.create_subresource(PODS, pod["metadata"]["name"], "binding", body, self.namespace)

    async def node(self, name: str) -> None:
        await self.client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})

    async def set_pod(
        self, pod: dict[str, Any], phase: str, state: Mapping[str, Any] | None = None, **status: Any
    ) -> None:
        """Write a pod's status."""
        if state is not None:
            status["containerStatuses"] = [
                {
                    "name": "flow", "image": "x", "imageID": "", "ready": "running" in state, "restartCount": 0,
                    "started": "running" in state, "state": dict(state),
                }
            ]  # fmt: skip
        body = {"status": {"phase": phase, **status}}
        await self.client.patch(PODS, pod["metadata"]["name"], body, self.namespace, subresource="status")

    async def starts(self, pod: dict[str, Any]) -> None:
        await self.set_pod(pod, "Running", {"running": {"startedAt": now()}})

    async def ends(
        self, pod: dict[str, Any], exit_code: int = 0, *, reason: str = "", message: str = "", **status: Any
    ) -> None:
        terminated: dict[str, Any] = {
            "exitCode": exit_code, "startedAt": now(), "finishedAt": now(),
            "reason": reason or ("Completed" if exit_code == 0 else "Error"),
        }  # fmt: skip
        if message:
            terminated["message"] = message
        await self.set_pod(pod, "Succeeded" if exit_code == 0 else "Failed", {"terminated": terminated}, **status)

    # --- the runner ---------------------------------------------------------------------------------------------------

    async def reports(self, run: str, **status: Any) -> None:
        """What the runner writes."""
        await self.client.patch(FLOW_RUNS, run, {"status": status}, self.namespace, subresource="status")

    async def reports_running(self, run: str, pod: dict[str, Any]) -> None:
        await self.reports(
            run, phase="Running", reason="Running", message="", podName=pod["metadata"]["name"], startTime=now()
        )

    async def reports_end(self, run: str, phase: str, reason: str = "", message: str = "") -> None:
        await self.reports(run, phase=phase, reason=reason or phase, message=message, completionTime=now())
