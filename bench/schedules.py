"""Schedules on time: many due at one instant, and many thousands due within some minutes. Real control plane, kwok nodes, real operator.

    python bench/schedules.py [--at-once 200] [--schedules 10000] [--window 600]

Prints how late runs are made (tick -> FlowRun, as the watch of this process first sees it and as the operator counts it), how late their Jobs are (tick -> Job),
what a tick costs the operator, and that each tick has exactly one run. Loopback only; every load is bounded in count and time.
"""

import argparse
import asyncio
import gc
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flow_runs import (
    METRICS_PORT,
    NAMESPACE,
    Watched,
    cpu_seconds,
    create_all,
    job_done,
    memory_mib,
    prepare,
    run_done,
    start_kwok,
    start_operator,
    wait_until_ready,
    write_counts,
)
from levada.cluster import Cluster
from levada.decide.tick_run import run_name
from levada.kube import Client
from levada.resources import kinds, names

DAY_SECONDS = 86_400
SETTLE_SECONDS = 120
AIMS = {"at_once_lag_ms_p99": "<= 150", "spread_tick_to_job_ms_p99": "<= 500"}


def a_schedule(name: str, tick: float) -> dict:
    """Once a day, next at `tick`."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "Schedule",
        "metadata": {"name": name},
        "spec": {
            "deploymentRef": {"name": "bench"},
            "intervalSeconds": DAY_SECONDS,
            "anchor": datetime.fromtimestamp(tick, UTC).isoformat(),
        },
    }


def percentiles(values: list[float], prefix: str) -> dict:
    ordered = sorted(values)
    return {
        f"{prefix}_p50": statistics.median(ordered),
        f"{prefix}_p99": ordered[int(len(ordered) * 0.99)],
        f"{prefix}_max": ordered[-1],
    }


def lag_by_operator() -> dict[str, float]:
    """The operator's own histogram: bucket bound -> count."""
    page = urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=5).read().decode()
    lines = (line for line in page.splitlines() if line.startswith("levada_schedule_lag_seconds_bucket"))
    return {line.split('le="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1]) for line in lines}


async def settled(client: Client, count: int) -> None:
    """Until the operator has looked at all schedules."""
    for _ in range(600):
        found, _ = await client.list(kinds.SCHEDULES, NAMESPACE)
        if sum(bool((each.get("status") or {}).get("nextRuns")) for each in found) >= count:
            return
        await asyncio.sleep(1)
    sys.exit("error: the operator has not looked at all schedules after ten minutes")


@dataclass
class Scene:
    """The operator at work, and what is seen of its work."""

    client: Client
    jobs: Watched
    flow_runs: Watched
    pid: int

    async def all_have_jobs(self, runs: list[str]) -> None:
        deadline = time.monotonic() + SETTLE_SECONDS
        while lost := [run for run in runs if f"{run}-1" not in self.jobs.seen_at]:
            if time.monotonic() > deadline:
                sys.exit(
                    f"error: {len(lost)} of {len(runs)} ticks have no Job after {SETTLE_SECONDS} s, such as {lost[0]}"
                )
            await asyncio.sleep(0.5)

    async def ticks(self, ticks: dict[str, float], prefix: str) -> dict:
        """Create a schedule for each tick, wait until all have passed, and say how late it all was."""
        client, begun = self.client, time.time()
        await create_all(
            lambda name: client.create(kinds.SCHEDULES, a_schedule(name, ticks[name]), NAMESPACE), list(ticks)
        )
        await settled(client, len(ticks))
        if time.time() > min(ticks.values()):
            sys.exit(f"error: it took {time.time() - begun:.0f} s until all schedules were known: begin later")
        print(f"{len(ticks)} schedules known after {time.time() - begun:.0f} s", flush=True)
        await asyncio.sleep(max(0.0, min(ticks.values()) - 1 - time.time()))
        cpu, writes = cpu_seconds(self.pid), write_counts()
        await asyncio.sleep(max(0.0, max(ticks.values()) - time.time()))
        run_of = {name: run_name(name, datetime.fromtimestamp(tick, UTC)) for name, tick in ticks.items()}
        await self.all_have_jobs(list(run_of.values()))
        await asyncio.sleep(3)  # the last records and Events belong to the cost
        made = [name for name in self.flow_runs.seen_at if name.startswith(f"{prefix}-")]
        if len(made) != len(ticks):
            sys.exit(f"error: {len(made)} runs for {len(ticks)} ticks")
        wall = time.time() - time.perf_counter()
        lags = [(self.flow_runs.seen_at[run_of[name]] + wall - tick) * 1000 for name, tick in ticks.items()]
        to_jobs = [(self.jobs.seen_at[f"{run_of[name]}-1"] + wall - tick) * 1000 for name, tick in ticks.items()]
        records = write_counts().get("patch schedules", 0) - writes.get("patch schedules", 0)
        return {
            **percentiles(lags, f"{prefix}_lag_ms"),
            **percentiles(to_jobs, f"{prefix}_tick_to_job_ms"),
            f"{prefix}_cpu_ms_per_tick": (cpu_seconds(self.pid) - cpu) * 1000 / len(ticks),
            f"{prefix}_records_per_tick": records / len(ticks),
        }


async def measure(options: argparse.Namespace, cluster: Cluster, home: Path, children: list[subprocess.Popen]) -> dict:
    async with Client.from_kubeconfig(cluster.kubeconfig) as client:
        await prepare(client)
        children.append(start_kwok(cluster, home))
        operator = start_operator(cluster, home, options.profile)
        children.append(operator)
        await wait_until_ready(client, operator)
        jobs, flow_runs = Watched(client, kinds.JOBS, job_done), Watched(client, kinds.FLOW_RUNS, run_done)
        watches = [asyncio.create_task(watched.run()) for watched in (jobs, flow_runs)]
        await asyncio.sleep(1)
        figures: dict = {}
        scene = Scene(client, jobs, flow_runs, operator.pid)
        if options.at_once:
            instant = int(time.time()) + 15
            ticks = {f"at-once-{index}": instant for index in range(options.at_once)}
            figures |= await scene.ticks(ticks, "at-once")
            figures["at_once_operator_histogram"] = lag_by_operator()
        if options.schedules:
            first = int(time.time()) + options.lead
            chance = random.Random(1)
            ticks = {f"spread-{index}": first + chance.randrange(options.window) for index in range(options.schedules)}
            figures |= await scene.ticks(ticks, "spread")
        figures |= {"rss_mib": memory_mib(operator.pid, "VmRSS"), "rss_peak_mib": memory_mib(operator.pid, "VmHWM")}
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        return {name.replace("-", "_"): value for name, value in figures.items()}


def report(figures: dict) -> None:
    for key, value in figures.items():
        shown = f"{value:10.2f}" if isinstance(value, float) else value
        print(f"{key:36} {shown}   {'aim ' + AIMS[key] if key in AIMS else ''}".rstrip())


def main() -> None:
    parser = argparse.ArgumentParser(description="Schedules on time")
    parser.add_argument(
        "--at-once", type=int, default=200, help="schedules that are due at one instant; 0 leaves this out"
    )
    parser.add_argument(
        "--schedules", type=int, default=10_000, help="schedules due within the window; 0 leaves this out"
    )
    parser.add_argument("--window", type=int, default=600, help="seconds over which they are spread")
    parser.add_argument("--lead", type=int, default=180, help="seconds for creating them all before the first tick")
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
