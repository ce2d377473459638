"""FlowRuns beside bare Jobs, in one run on one machine: real control plane, simulated nodes (kwok), the real operator.

    python bench/flow_runs.py [--runs 500] [--rate 10] [--seconds 30]

Prints throughput of both, their ratio, what a run costs the operator (CPU, API writes besides the Job, memory), and the latency from
"FlowRun created" to "Job created" at a steady rate. The controller-manager and the scheduler run with --kube-api-qps 1000: at their default of 20 they
would be what is measured. Everything listens on loopback, and every load is bounded in count and time.
"""

import argparse
import asyncio
import gc
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from levada.cluster import Cluster, ports
from levada.kube import Client
from levada.kube.errors import ApiError
from levada.resources import kinds, names
from levada.resources.access import manifests
from levada.resources.crds import generate
from levada.resources.phases import is_terminal

KWOK_VERSION = "v0.8.0"
NAMESPACE = "default"
NODES = 10
CONCURRENT_CREATES = 50
DEADLINE_SECONDS = 300
METRICS_PORT = ports.choose()  # benchmarks may run side by side
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def kwok_binary() -> Path:
    """The simulator, from the cache or built from its Go module (about a minute, once)."""
    cache = Path(os.environ.get("LEVADA_CACHE") or Path.home() / ".cache" / "levada") / "kwok" / KWOK_VERSION
    binary = cache / "kwok"
    if not binary.exists():
        print("building kwok from its Go module (once) …", flush=True)
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", f"{cache}/", "tool"],
            cwd=Path(__file__).parent / "kwok",
            env=os.environ | {"GOFLAGS": "-mod=mod -buildvcs=false"},
            check=True,
        )
    return binary


def a_node(index: int) -> dict:
    capacity = {"cpu": "1000", "memory": "1Ti", "pods": "5000"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": f"kwok-{index}",
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"kubernetes.io/hostname": f"kwok-{index}", "type": "kwok"},
        },
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def a_bare_job(name: str) -> dict:
    """The least that a Job can be: what the cluster does without us."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "fake"}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }


def a_flow_run(name: str) -> dict:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "FlowRun",
        "metadata": {"name": name},
        "spec": {"deploymentRef": {"name": "bench"}},
    }


FLOW = {
    "apiVersion": names.API_VERSION,
    "kind": "Flow",
    "metadata": {"name": "bench"},
    "spec": {"entrypoint": "flow.py:main", "source": {"image": {"path": "/opt/flows"}}},
}
DEPLOYMENT = {
    "apiVersion": names.API_VERSION,
    "kind": "Deployment",
    "metadata": {"name": "bench"},
    "spec": {"flowRef": {"name": "bench"}, "infrastructure": {"image": "fake"}},
}


class Watched:
    """What a watch has seen of one kind: when each object was first seen, and when it was done."""

    def __init__(
        self,
        client: Client,
        kind: kinds.Kind,
        done: Callable[[dict], bool],
        name: Callable[[dict], str] = lambda body: body["metadata"]["name"],
    ) -> None:
        self._client, self._kind, self._done, self._name = client, kind, done, name
        self.seen_at: dict[str, float] = {}
        self.done_at: dict[str, float] = {}
        self.writes = 0

    async def run(self) -> None:
        _, version = await self._client.list(self._kind, NAMESPACE)
        while True:
            try:
                async for event in self._client.watch(self._kind, NAMESPACE, resource_version=version):
                    version = event.object["metadata"]["resourceVersion"]
                    if event.type in {"ADDED", "MODIFIED"}:
                        self._note(event.object)
            except ApiError as error:
                print(f"watch of {self._kind.plural} broken, resuming: {error}", file=sys.stderr)

    def _note(self, body: dict) -> None:
        name, now = self._name(body), time.perf_counter()
        self.seen_at.setdefault(name, now)
        if self._done(body):
            self.done_at.setdefault(name, now)


def job_done(job: dict) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(c["type"] in {"Complete", "Failed"} and c["status"] == "True" for c in conditions)


def run_done(run: dict) -> bool:
    return is_terminal(run.get("status", {}).get("phase"))


def pod_started(pod: dict) -> bool:
    return pod.get("status", {}).get("phase") in {"Running", "Succeeded"}


def job_of(pod: dict) -> str:
    return pod["metadata"].get("labels", {}).get("batch.kubernetes.io/job-name", pod["metadata"]["name"])


class Watches:
    """Jobs and FlowRuns until their end, pods until their start (by the name of their Job)."""

    def __init__(self, client: Client) -> None:
        self.jobs = Watched(client, kinds.JOBS, job_done)
        self.flow_runs = Watched(client, kinds.FLOW_RUNS, run_done)
        self.pods = Watched(client, kinds.PODS, pod_started, job_of)

    def __iter__(self) -> Iterator[Watched]:
        return iter((self.jobs, self.flow_runs, self.pods))


async def create_all(create: Callable[[str], Awaitable[object]], object_names: list[str]) -> float:
    """Create every object, CONCURRENT_CREATES at a time; returns when the first call started."""
    gate = asyncio.Semaphore(CONCURRENT_CREATES)

    async def one(name: str) -> None:
        async with gate:
            await create(name)

    start = time.perf_counter()
    await asyncio.gather(*(one(name) for name in object_names))
    return start


async def wait_for_all(watched: Watched, object_names: list[str], what: str) -> float:
    """When the last one was done."""
    deadline = time.perf_counter() + DEADLINE_SECONDS
    missing = set(object_names)
    while missing := missing - watched.done_at.keys():
        if time.perf_counter() > deadline:
            sys.exit(
                f"error: {len(missing)} of {len(object_names)} {what} were not done after {DEADLINE_SECONDS} s, such as {min(missing)}"
            )
        await asyncio.sleep(0.05)
    return max(watched.done_at[name] for name in object_names)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def memory_mib(pid: int, field: str) -> float:
    line = next(text for text in Path(f"/proc/{pid}/status").read_text().splitlines() if text.startswith(field))
    return int(line.split()[1]) / 1024


def write_counts() -> dict[str, float]:
    """The operator's own count of its API writes, by "verb resource"."""
    page = urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=5).read().decode()
    counts: dict[str, float] = {}
    for line in page.splitlines():
        if not line.startswith("levada_api_requests_total{"):
            continue
        labels, value = line.removeprefix("levada_api_requests_total{").rsplit("} ", 1)
        pairs = dict(part.split("=", 1) for part in labels.split(","))
        verb, resource = pairs["verb"].strip('"'), pairs["resource"].strip('"')
        if verb.lower() not in {"get", "list", "watch"}:
            key = f"{verb.lower()} {resource}"
            counts[key] = counts.get(key, 0) + float(value)
    return counts


async def burst(client: Client, runs: int, operator_pid: int, jobs: Watched, flow_runs: Watched) -> dict:
    bare = [f"bare-{i}" for i in range(runs)]
    start = await create_all(lambda name: client.create(kinds.JOBS, a_bare_job(name), NAMESPACE), bare)
    bare_seconds = await wait_for_all(jobs, bare, "bare Jobs") - start

    ours = [f"burst-{i}" for i in range(runs)]
    cpu, writes = cpu_seconds(operator_pid), write_counts()
    start = await create_all(lambda name: client.create(kinds.FLOW_RUNS, a_flow_run(name), NAMESPACE), ours)
    our_seconds = await wait_for_all(flow_runs, ours, "FlowRuns") - start
    await asyncio.sleep(2)  # the last Events of the runs belong to their cost
    after = write_counts()
    per_run = {key: (count - writes.get(key, 0)) / runs for key, count in after.items()}
    return {
        "bare_jobs_per_s": runs / bare_seconds,
        "flow_runs_per_s": runs / our_seconds,
        "ratio": bare_seconds / our_seconds,
        "cpu_ms_per_run": (cpu_seconds(operator_pid) - cpu) * 1000 / runs,
        "writes_per_run_besides_job": sum(count for key, count in per_run.items() if key != "create jobs"),
        "writes_by_kind": {key: round(count, 2) for key, count in per_run.items() if count},
    }


async def steady(client: Client, rate: float, seconds: float, watched: "Watches", operator_pid: int) -> dict:
    """Runs and bare Jobs in turn, each at an even rate, milliseconds: to the Job's first watch event, and to the pod that runs."""
    total = int(rate * seconds)
    created_at: dict[str, float] = {}
    rss_mib = [memory_mib(operator_pid, "VmRSS")]
    start = time.perf_counter()
    for index in range(total):
        for offset, name in ((0.0, f"steady-{index}"), (0.5, f"idle-{index}")):
            await asyncio.sleep(max(0.0, start + (index + offset) / rate - time.perf_counter()))
            if name.startswith("steady"):
                await client.create(kinds.FLOW_RUNS, a_flow_run(name), NAMESPACE)
            else:
                await client.create(kinds.JOBS, a_bare_job(name), NAMESPACE)
            created_at[name] = time.perf_counter()
        if index % int(60 * rate) == 0:
            rss_mib.append(memory_mib(operator_pid, "VmRSS"))
    runs = {name: at for name, at in created_at.items() if name.startswith("steady")}
    bare = {name: at for name, at in created_at.items() if name.startswith("idle")}
    await wait_for_all(watched.flow_runs, list(runs), "FlowRuns")
    await wait_for_all(watched.jobs, list(bare), "bare Jobs")
    to_job = sorted((watched.jobs.seen_at[f"{name}-1"] - at) * 1000 for name, at in runs.items())
    to_pod = sorted((watched.pods.done_at[f"{name}-1"] - at) * 1000 for name, at in runs.items())
    bare_to_pod = sorted((watched.pods.done_at[name] - at) * 1000 for name, at in bare.items())
    return {
        "rate_per_s": rate,
        "steady_seconds": seconds,
        "created_to_job_ms_p50": statistics.median(to_job),
        "created_to_job_ms_p99": p99(to_job),
        "created_to_pod_ms_p50": statistics.median(to_pod),
        "created_to_pod_ms_p99": p99(to_pod),
        "bare_to_pod_ms_p50": statistics.median(bare_to_pod),
        "bare_to_pod_ms_p99": p99(bare_to_pod),
        "start_ratio_p99": p99(to_pod) / p99(bare_to_pod),
        "rss_each_minute_mib": [round(each) for each in rss_mib],
    }


def p99(ordered: list[float]) -> float:
    return ordered[int(len(ordered) * 0.99)]


def operator_kubeconfig(cluster: Cluster, home: Path) -> Path:
    """The operator's own identity and rights."""
    account = f"{names.OPERATOR_NAMESPACE}:{names.OPERATOR_SERVICE_ACCOUNT}"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{names.OPERATOR_NAMESPACE}"]
    return cluster.issue_kubeconfig(home / "operator.kubeconfig", f"system:serviceaccount:{account}", groups)


def start_operator(cluster: Cluster, home: Path, profile: Path | None) -> subprocess.Popen:
    kubeconfig = operator_kubeconfig(cluster, home)
    profiler = ["-m", "cProfile", "-o", str(profile)] if profile else []
    with (home / "operator.log").open("wb") as log:
        return subprocess.Popen(
            [
                sys.executable,
                *profiler,
                "-m",
                "levada.cli",
                "operator",
                "run",
                "--metrics-address",
                f"127.0.0.1:{METRICS_PORT}",
            ],
            env=os.environ | {"KUBECONFIG": str(kubeconfig)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def start_kwok(cluster: Cluster, home: Path) -> subprocess.Popen:
    selector = "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake"
    with (home / "kwok.log").open("wb") as log:
        return subprocess.Popen(
            [
                kwok_binary(),
                "--kubeconfig",
                cluster.kubeconfig,
                "--manage-all-nodes=false",
                selector,
                f"--config={Path(__file__).parent / 'kwok' / 'stages.yaml'}",
                "--node-lease-duration-seconds=40",
                "--server-address=127.0.0.1:0",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )


async def prepare(client: Client) -> None:
    for body in [*generate().values(), *manifests([NAMESPACE])]:
        await client.apply(body, field_manager="bench")
    for index in range(NODES):
        await client.create(kinds.NODES, a_node(index))
    for attempt in range(50):  # a new kind is served a moment after it was accepted
        try:
            await client.apply(FLOW, field_manager="bench")
            await client.apply(
                {**DEPLOYMENT, "metadata": {**DEPLOYMENT["metadata"], "namespace": NAMESPACE}}, field_manager="bench"
            )
            return
        except ApiError:
            if attempt == 49:
                raise
            await asyncio.sleep(0.2)


async def wait_until_ready(client: Client, operator: subprocess.Popen) -> None:
    for _ in range(300):
        if operator.poll() is not None:
            sys.exit("error: the operator ended; its log is beside the figures")
        deployment = await client.get(kinds.DEPLOYMENTS, "bench", NAMESPACE)
        conditions = deployment.get("status", {}).get("conditions", [])
        nodes, _ = await client.list(kinds.NODES)
        ready = sum(
            any(c["type"] == "Ready" and c["status"] == "True" for c in n["status"].get("conditions", []))
            for n in nodes
        )
        if ready == NODES and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
            return
        await asyncio.sleep(0.1)
    sys.exit("error: after 30 s the nodes or the deployment were not ready")


async def measure(options: argparse.Namespace, cluster: Cluster, home: Path, children: list[subprocess.Popen]) -> dict:
    async with Client.from_kubeconfig(cluster.kubeconfig) as client:
        await prepare(client)
        children.append(start_kwok(cluster, home))
        operator = start_operator(cluster, home, options.profile)
        children.append(operator)
        await wait_until_ready(client, operator)
        watched = Watches(client)
        watches = [asyncio.create_task(each.run()) for each in watched]
        await asyncio.sleep(1)
        figures = await burst(client, options.runs, operator.pid, watched.jobs, watched.flow_runs)
        figures |= await steady(client, options.rate, options.seconds, watched, operator.pid)
        figures |= {"rss_mib": memory_mib(operator.pid, "VmRSS"), "rss_peak_mib": memory_mib(operator.pid, "VmHWM")}
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        return figures


def report(figures: dict) -> None:
    aims = {
        "ratio": ">= 0.75",
        "cpu_ms_per_run": "<= 5",
        "writes_per_run_besides_job": "<= 4",
        "rss_mib": "<= 150",
        "start_ratio_p99": "<= 1.05",
    }
    for key, value in figures.items():
        shown = f"{value:10.2f}" if isinstance(value, float) else f"{json.dumps(value)}"
        print(f"{key:28} {shown}   {'aim ' + aims[key] if key in aims else ''}".rstrip())


def main() -> None:
    parser = argparse.ArgumentParser(description="FlowRuns beside bare Jobs")
    parser.add_argument("--runs", type=int, default=500, help="how many of each in the burst")
    parser.add_argument("--rate", type=float, default=10, help="runs a second in the steady part")
    parser.add_argument("--seconds", type=float, default=30, help="length of the steady part")
    parser.add_argument("--profile", type=Path, help="run the operator under cProfile and write its figures there")
    parser.add_argument("--keep-logs", type=Path, help="folder to copy the logs of operator and kwok to")
    options = parser.parse_args()
    gc.disable()  # a pause of the one who measures would count as latency of what is measured
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: ended by SIGTERM"))
    home = Path(tempfile.mkdtemp(prefix="levada-bench-"))
    cluster = Cluster("bench", home=home)
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
