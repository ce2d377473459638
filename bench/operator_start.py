"""The operator's start beside a long history: real control plane, kwok nodes, the real operator with nothing in memory.

    python bench/operator_start.py [--finished 10000] [--active 1000] [--runs 200]

First the past is written: finished FlowRuns, each with its finished Job and pod, one in ten of them failed; then runs under way. Then the operator
starts. Prints how long until it is ready, what it has read by then, its memory and CPU; the same after some new runs; and what history costs
when it starts to let the finished ones go. Loopback only; every load is bounded in count and time.
"""

import argparse
import asyncio
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flow_runs import (
    DEADLINE_SECONDS,
    NAMESPACE,
    Watched,
    a_flow_run,
    cpu_seconds,
    create_all,
    memory_mib,
    operator_kubeconfig,
    prepare,
    run_done,
    start_kwok,
    wait_for_all,
    wait_until_ready,
)
from levada.cluster import Cluster, ports
from levada.decide.definition_views import deployment_view
from levada.decide.facts import Settings
from levada.decide.manifest import Code, build_job
from levada.decide.views import run_view
from levada.kube import Client
from levada.resources import kinds

# Whoever carries it is not touched by the Job controller or by kwok.
SEEDED = "seeded"
METRICS_PORT = ports.choose()
OTHER_CONTROLLER = "levada.dev/bench"
TASKS = 5
KEEP_ALL = {"keepSuccessful": 10_000, "keepFailed": 10_000}
HISTORY_INTERVAL_SECONDS = 15
HISTORY_SECONDS = 60
AIMS = {"ready_s": "<= 5", "rss_ready_mib": "<= 150", "rss_after_runs_mib": "<= 150"}


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Past:
    """Writes runs with all that belongs to them, as if they had been."""

    def __init__(self, client: Client, deployment: dict) -> None:
        self._client = client
        self._deployment = deployment_view(deployment)
        self._began = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=60)
        self._start, self._end = stamp(self._began), stamp(self._began + timedelta(seconds=20))

    async def write(self, name: str) -> None:
        """One run; what it is to be is in its name."""
        kind = name.partition("-")[0]
        run = await self._client.create(kinds.FLOW_RUNS, a_flow_run(name), NAMESPACE)
        job = await self._client.create(kinds.JOBS, self._job(run), NAMESPACE)
        pod = await self._client.create(kinds.PODS, _pod(job, int(name.rpartition("-")[2]) % 10), NAMESPACE)
        for what, status in (
            (kinds.PODS, self._pod_status(kind)),
            (kinds.JOBS, self._job_status(kind)),
            (kinds.FLOW_RUNS, self._run_status(kind, pod)),
        ):
            body = {kinds.PODS: pod, kinds.JOBS: job, kinds.FLOW_RUNS: run}[what]
            await self._client.patch(
                what, body["metadata"]["name"], {"status": status}, NAMESPACE, subresource="status"
            )

    def _job(self, run: dict) -> dict:
        code = Code("bench", "flow.py:main", "/opt/flows", "")
        job = build_job(
            run_view(run), self._deployment, code, attempt=1, parameters="{}", settings=Settings(), now=self._began
        )
        job["spec"]["managedBy"] = OTHER_CONTROLLER
        return job

    def _run_status(self, kind: str, pod: dict) -> dict:
        phase = {"completed": "Completed", "failed": "Failed", "active": "Running"}[kind]
        row = {
            "name": "step",
            "state": "Running" if kind == "active" else "Completed",
            "attempt": 1,
            "startTime": self._start,
        }
        status = {
            "phase": phase, "reason": phase, "attempt": 1, "queue": "default", "podName": pod["metadata"]["name"],
            "flow": {"name": "bench", "generation": 1}, "admittedTime": self._start, "startTime": self._start,
            "tasks": {f"step-{index}": row for index in range(TASKS)}, "taskCounts": {"total": TASKS},
            "stages": {"queuedSeconds": 0.1}, "notified": True,
        }  # fmt: skip
        if kind == "active":
            return status
        return status | {"completionTime": self._end, "durationSeconds": 20.0, "progress": f"{TASKS}/{TASKS}"}

    def _job_status(self, kind: str) -> dict:
        status = {"startTime": self._start, "ready": 0, "uncountedTerminatedPods": {}}
        if kind == "active":
            return status | {"active": 1}
        types = ("SuccessCriteriaMet", "Complete") if kind == "completed" else ("FailureTarget", "Failed")
        conditions = [
            {"type": each, "status": "True", "reason": "Bench", "lastProbeTime": self._end, "lastTransitionTime": self._end}
            for each in types
        ]  # fmt: skip
        ended = {"completionTime": self._end, "succeeded": 1} if kind == "completed" else {"failed": 1}
        return status | ended | {"conditions": conditions, "active": 0}

    def _pod_status(self, kind: str) -> dict:
        running = kind == "active"
        code = 1 if kind == "failed" else 0
        state = (
            {"running": {"startedAt": self._start}}
            if running
            else {"terminated": {"exitCode": code, "startedAt": self._start, "finishedAt": self._end}}
        )
        conditions = [
            {"type": each, "status": "True" if running else "False", "lastTransitionTime": self._start}
            for each in ("Ready", "ContainersReady", "Initialized")
        ]
        container = {
            "name": "flow", "image": "fake", "imageID": "", "ready": running, "started": running, "restartCount": 0, "state": state,
        }  # fmt: skip
        phase = {"completed": "Succeeded", "failed": "Failed", "active": "Running"}[kind]
        return {
            "phase": phase, "startTime": self._start, "hostIP": "127.0.0.1", "podIP": "127.0.0.1",
            "conditions": conditions, "containerStatuses": [container],
        }  # fmt: skip


def _pod(job: dict, node: int) -> dict:
    """The pod that the Job controller would have made."""
    metadata, template = job["metadata"], job["spec"]["template"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "controller": True, "blockOwnerDeletion": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{metadata['name']}-abcde",
            "labels": template["metadata"]["labels"] | {SEEDED: "true"},
            "annotations": template["metadata"].get("annotations") or {},
            "ownerReferences": [owner | {"name": metadata["name"], "uid": metadata["uid"]}],
        },
        "spec": template["spec"] | {"nodeName": f"kwok-{node}"},
    }


def requests() -> Counter[str]:
    """The operator's own count of its API requests, by "verb resource"."""
    page = urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=10).read().decode()
    counts: Counter[str] = Counter()
    for line in page.splitlines():
        if line.startswith("levada_api_requests_total{"):
            labels, value = line.removeprefix("levada_api_requests_total{").rsplit("} ", 1)
            pairs = dict(part.split("=", 1) for part in labels.replace('"', "").split(","))
            counts[f"{pairs['verb']} {pairs['resource']}"] += int(float(value))
    return counts


def shown(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))


def start_operator(cluster: Cluster, home: Path) -> subprocess.Popen:
    arguments = ["--metrics-address", f"127.0.0.1:{METRICS_PORT}", "--storage", "none", "--history-interval", str(HISTORY_INTERVAL_SECONDS)]  # fmt: skip
    with (home / "operator.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "levada.cli", "operator", "run", *arguments],
            env=os.environ | {"KUBECONFIG": str(operator_kubeconfig(cluster, home))},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


async def start(cluster: Cluster, home: Path, children: list[subprocess.Popen]) -> tuple[int, dict]:
    """From the process's start to its word that it is ready."""
    began = time.perf_counter()
    operator = start_operator(cluster, home)
    children.append(operator)
    log = home / "operator.log"
    while "ready" not in (text := log.read_text()).split():
        if operator.poll() is not None or time.perf_counter() - began > DEADLINE_SECONDS:
            sys.exit(f"error: the operator did not become ready:\n{text}")
        await asyncio.sleep(0.01)
    ready = time.perf_counter() - began
    figures = {
        "ready_s": ready,
        "cpu_ready_s": cpu_seconds(operator.pid),
        "rss_ready_mib": memory_mib(operator.pid, "VmRSS"),
        "rss_peak_ready_mib": memory_mib(operator.pid, "VmHWM"),
    }
    await asyncio.sleep(8)  # the first look at every run under way; history has not begun
    figures |= {
        "rss_settled_mib": memory_mib(operator.pid, "VmRSS"),
        "cpu_settled_s": cpu_seconds(operator.pid),
        "requests_of_the_start": shown(requests()),
    }
    return operator.pid, figures


async def churn(client: Client, pid: int, runs: int, watched: Watched) -> dict:
    """New runs, from their creation to their end."""
    before, cpu = requests(), cpu_seconds(pid)
    new = [f"new-{index}" for index in range(runs)]
    began = await create_all(lambda name: client.create(kinds.FLOW_RUNS, a_flow_run(name), NAMESPACE), new)
    seconds = await wait_for_all(watched, new, "FlowRuns") - began
    await asyncio.sleep(5)
    return {
        "runs_per_s": runs / seconds,
        "cpu_ms_per_run": (cpu_seconds(pid) - cpu) * 1000 / runs,
        "rss_after_runs_mib": memory_mib(pid, "VmRSS"),
        "requests_of_the_runs": shown(requests() - before),
    }


async def history(client: Client, pid: int) -> dict:
    """What it costs that finished runs leave: first that none does, then that most do."""
    await asyncio.sleep(2 * HISTORY_INTERVAL_SECONDS)
    cpu, began, before = cpu_seconds(pid), time.perf_counter(), requests()
    await asyncio.sleep(2 * HISTORY_INTERVAL_SECONDS)
    looking = (cpu_seconds(pid) - cpu) / (time.perf_counter() - began)
    looks = requests() - before
    rss = memory_mib(pid, "VmRSS")
    body = {"spec": {"history": None}}
    await client.patch(kinds.DEPLOYMENTS, "bench", body, NAMESPACE)
    await asyncio.sleep(HISTORY_INTERVAL_SECONDS + 3)
    cpu, began, before = cpu_seconds(pid), time.perf_counter(), requests()
    await asyncio.sleep(HISTORY_SECONDS)
    seconds = time.perf_counter() - began
    return {
        "history_looking_cpu_share": looking,
        "history_looking_requests": shown(looks),
        "rss_history_looking_mib": rss,
        "history_removals_per_s": (requests() - before)["delete flowruns"] / seconds,
        "history_removing_cpu_share": (cpu_seconds(pid) - cpu) / seconds,
        "rss_history_removing_mib": memory_mib(pid, "VmRSS"),
        "rss_peak_mib": memory_mib(pid, "VmHWM"),
    }


async def seed(client: Client, finished: int, active: int) -> dict:
    deployment = await client.patch(kinds.DEPLOYMENTS, "bench", {"spec": {"history": KEEP_ALL}}, NAMESPACE)
    past = Past(client, deployment)
    ended = [f"{'failed' if index % 10 == 0 else 'completed'}-{index}" for index in range(finished)]
    began = await create_all(past.write, ended + [f"active-{index}" for index in range(active)])
    seconds = time.perf_counter() - began
    print(f"seeded {finished} finished and {active} active runs in {seconds:.0f} s", flush=True)
    return {"finished": finished, "active": active, "seeding_s": seconds}


async def measure(options: argparse.Namespace, cluster: Cluster, home: Path, children: list[subprocess.Popen]) -> dict:
    async with Client.from_kubeconfig(cluster.kubeconfig) as client:
        await prepare(client)
        children.append(start_kwok(cluster, home))
        figures = await seed(client, options.finished, options.active)
        pid, started = await start(cluster, home, children)
        figures |= started
        await wait_until_ready(client, children[-1])
        watched = Watched(client, kinds.FLOW_RUNS, run_done)
        watch = asyncio.create_task(watched.run())
        await asyncio.sleep(1)
        figures |= await churn(client, pid, options.runs, watched)
        if options.history:
            figures |= await history(client, pid)
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        return figures


def report(figures: dict) -> None:
    for key, value in figures.items():
        text = f"{value:10.2f}" if isinstance(value, float) else json.dumps(value)
        print(f"{key:28} {text}   {'aim ' + AIMS[key] if key in AIMS else ''}".rstrip(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="The operator's start beside a long history")
    parser.add_argument("--finished", type=int, default=10_000, help="how many runs have ended before")
    parser.add_argument("--active", type=int, default=1_000, help="how many are under way")
    parser.add_argument("--runs", type=int, default=200, help="how many come after the start")
    parser.add_argument("--history", action=argparse.BooleanOptionalAction, default=True, help="see what history costs")
    parser.add_argument("--keep-logs", type=Path, help="folder to copy the logs of operator and kwok to")
    options = parser.parse_args()
    gc.disable()  # a pause of the one who measures would count as latency of what is measured
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: ended by SIGTERM"))
    home = Path(tempfile.mkdtemp(prefix="levada-bench-"))
    cluster = Cluster("bench-start", home=home)
    children: list[subprocess.Popen] = []
    try:
        cluster.up(ephemeral=True, kube_api_qps=1000, progress=print)
        report(asyncio.run(measure(options, cluster, home, children)))
    finally:
        for child in reversed(children):
            child.terminate()
            child.wait(timeout=30)
        cluster.down(delete=True)
        if options.keep_logs:
            options.keep_logs.mkdir(parents=True, exist_ok=True)
            for log in home.glob("*.log"):
                shutil.copy(log, options.keep_logs)
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
