"""10,000 runs in the dashboard of a real control plane: how long each list takes, what the server weighs, and when a page is seen.

The runs are FlowRuns with ended statuses, made through the API; no operator runs. `make bench-dashboard`.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

import first_paint
from levada.cluster import Cluster
from levada.kube import Client
from levada.resources import crds
from levada.resources.kinds import DEPLOYMENTS, FLOW_RUNS, FLOWS

SPACE = "default"
PATHS = {
    "runs": "/runs?limit=100", "runs, 500": "/runs?limit=500", "runs, failed": "/runs?phase=Failed", "runs, search": "/runs?q=d-7+failed",
    "runs, by duration": "/runs?sort=duration", "overview": "/overview", "deployments": "/deployments", "queues": "/queues",
    "one run": f"/runs/{SPACE}/r-77", "health": "/health",
}  # fmt: skip


def run_body(number: int) -> dict:
    return {
        "apiVersion": "levada.dev/v1alpha1", "kind": "FlowRun", "metadata": {"name": f"r-{number}", "namespace": SPACE},
        "spec": {"deploymentRef": {"name": f"d-{number % 50}"}, "parameters": {"n": number}},
    }  # fmt: skip


def status(number: int) -> dict:
    phase = "Failed" if number % 10 == 0 else "Completed"
    tasks = {f"load-{i}": {"name": f"load-{i}", "state": "Completed", "attempt": 1} for i in range(5)}
    return {
        "phase": phase, "reason": phase, "message": f"The flow {phase.lower()}.", "queue": "default", "attempt": 1, "progress": "5/5",
        "startTime": "2026-01-01T00:00:01Z", "completionTime": "2026-01-01T00:01:00Z", "durationSeconds": float(number % 60),
        "stages": {"queuedSeconds": 0.1, "waitSeconds": 1.0, "importSeconds": 0.4, "userSeconds": 50.0},
        "taskCounts": {"total": 5, "completed": 5}, "tasks": tasks,
    }  # fmt: skip


async def fill(kubeconfig: Path, count: int) -> None:
    async with Client.from_kubeconfig(kubeconfig) as client:
        for manifest in crds.generate().values():
            await client.apply(manifest, field_manager="bench")
        await asyncio.sleep(3)
        await client.create(
            FLOWS,
            {"metadata": {"name": "f"}, "spec": {"entrypoint": "a.py:f", "source": {"inline": "x"}}, **_kind(FLOWS)},
            SPACE,
        )
        for number in range(50):
            await client.create(
                DEPLOYMENTS,
                {"metadata": {"name": f"d-{number}"}, "spec": {"flowRef": {"name": "f"}}, **_kind(DEPLOYMENTS)},
                SPACE,
            )
        slots = asyncio.Semaphore(40)

        async def one(number: int) -> None:
            async with slots:
                await client.create(FLOW_RUNS, run_body(number), SPACE)
                await client.patch(FLOW_RUNS, f"r-{number}", {"status": status(number)}, SPACE, subresource="status")

        await asyncio.gather(*(one(number) for number in range(count)))


def _kind(kind) -> dict:
    return {"apiVersion": kind.api_version, "kind": kind.kind}


def measure(url: str, tries: int) -> None:
    with httpx.Client(base_url=url, timeout=60) as http:
        started = time.monotonic()
        while http.get("readyz").status_code != 200:
            time.sleep(0.1)
        print(f"ready after {time.monotonic() - started:.1f} s")
        for name, path in PATHS.items():
            times = []
            for _ in range(tries):
                begun = time.perf_counter()
                answer = http.get(f"api/v1{path}")
                times.append((time.perf_counter() - begun) * 1000)
                assert answer.status_code == 200, answer.text
            cuts = statistics.quantiles(times, n=20)
            print(
                f"{name:<18} p50 {statistics.median(times):6.1f} ms   p95 {cuts[18]:6.1f} ms   {len(answer.content):>9,} bytes"
            )
        print(f"RSS {http.get('api/v1/health').json()['memoryBytes'] / 2**20:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--tries", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster("bench-dashboard", Path(folder))
        try:
            cluster.up(ephemeral=True, kube_api_qps=500)
            begun = time.monotonic()
            asyncio.run(fill(cluster.kubeconfig, given.runs))
            print(f"{given.runs:,} runs made in {time.monotonic() - begun:.0f} s", flush=True)
            command = [
                sys.executable,
                "-m",
                "levada.cli",
                "dashboard",
                "--port",
                "0",
                "--kubeconfig",
                str(cluster.kubeconfig),
            ]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                try:
                    url = process.stdout.readline().split()[1]
                    measure(url, given.tries)
                    first_paint.measure(url)
                finally:
                    process.terminate()
        finally:
            cluster.down(delete=True)


if __name__ == "__main__":
    main()
