"""Load and faults for a while, by a seed that is printed; then every promise is checked.

    python bench/soak.py [--minutes 30] [--seed N]              schedules, a full queue, faults of every kind
    python bench/soak.py --runs 10000 --faults operator         so many runs while the operator is killed every few seconds

Real control plane, simulated nodes (kwok), the real operator behind a proxy that spoils some of its requests. Faults: `operator` (SIGKILL,
or SIGSTOP for a while), `control-plane` (SIGKILL of the API server or etcd), `answers` (the proxy). Load is bounded: at most --unfinished runs
are under way. Promises: no run lost, no attempt doubled, none undecided; a terminal phase never changes; the queue's limit holds at every
moment; every tick of a schedule is one run or one recorded skip; no pod of a terminal run is alive; memory does not grow.
Ends with exit code 1 and the broken promises, if there are any.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import flow_runs as bench

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from levada.cluster import Cluster
from levada.kube import ApiError, Client, ConnectionLost
from levada.resources import kinds, names
from levada.resources.phases import is_terminal, may_become
from support.fault_proxy import FaultProxy, running_proxy

FAULTS = ("operator", "control-plane", "answers")
QUEUE_LIMIT = 20
INTERVALS_S = (3, 5, 8, 13)
BATCH = 1000
SETTLE_S = 240


@dataclass
class Seen:
    """What the watcher has seen, and what was wrong with it."""

    phases: dict[str, str] = field(default_factory=dict)
    limited: set[str] = field(default_factory=set)  # runs of the limited queue that hold a slot
    most_limited: int = 0
    broken: list[str] = field(default_factory=list)
    doubled: int = 0
    checked: int = 0
    retried: int = 0

    def note(self, run: dict) -> None:
        """Take in one state of a run."""
        uid, name, status = run["metadata"]["uid"], run["metadata"]["name"], run.get("status") or {}
        phase = status.get("phase") or ""
        before = self.phases.get(uid, "")
        if phase and not may_become(before or None, phase):
            self.broken.append(f"{name} went from {before} to {phase}")
        self.phases[uid] = phase or before
        if run["spec"]["deploymentRef"]["name"] != "limited":
            return
        (self.limited.add if status.get("attempt") and not is_terminal(phase) else self.limited.discard)(uid)
        if len(self.limited) > max(self.most_limited, QUEUE_LIMIT):
            print(f"{datetime.now(UTC).time()} {name} is the {len(self.limited)}th of the limited queue", flush=True)
        self.most_limited = max(self.most_limited, len(self.limited))


async def watch_runs(client: Client, seen: Seen) -> None:
    """Follow every run, over the deaths of the API server."""
    version = None
    while True:
        try:
            if version is None:
                items, version = await client.list(kinds.FLOW_RUNS, bench.NAMESPACE)
                for item in items:
                    seen.note(item)
            async for event in client.watch(kinds.FLOW_RUNS, bench.NAMESPACE, resource_version=version):
                version = event.resource_version
                if event.type in {"ADDED", "MODIFIED"}:
                    seen.note(event.object)
                elif event.type == "DELETED":
                    seen.limited.discard(event.object["metadata"]["uid"])
        except ApiError:
            version = None
        except ConnectionLost:
            await asyncio.sleep(0.2)


async def insist(call, patience_s: float = 180.0):
    """The answer of an API call, whatever happens to the API server meanwhile. The call must bear repetition."""
    end = time.monotonic() + patience_s
    while True:
        try:
            return await call()
        except (ApiError, ConnectionLost) as error:
            if isinstance(error, ApiError) and error.status == 409 and error.reason == "AlreadyExists":
                return None
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.3)


class Operator:
    """The operator as a process that can be killed, stopped and started again."""

    def __init__(self, kubeconfig: Path, log: Path) -> None:
        self.kubeconfig, self.log = kubeconfig, log
        self.start()
        self.kills = 0

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "levada.cli", "operator", "run", "--metrics-address", f"127.0.0.1:{bench.METRICS_PORT}"],
                env=os.environ | {"KUBECONFIG": str(self.kubeconfig)}, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.kills += 1
        self.start()

    def ensure(self) -> None:
        """An operator that has ended by itself is started anew, as Kubernetes would."""
        if self.process.poll() is not None:
            self.start()


async def do_harm(choose: random.Random, faults: set[str], operator: Operator, cluster: Cluster, done: Counter) -> None:
    """One fault after the other, until cancelled."""
    kinds_of_harm = [("kill operator", 6), ("stop operator", 2)] if "operator" in faults else []
    kinds_of_harm += [("kill kube-apiserver", 1), ("kill etcd", 1)] if "control-plane" in faults else []
    while kinds_of_harm:
        await asyncio.sleep(choose.uniform(1.0, 6.0))
        operator.ensure()
        (harm,) = choose.choices([name for name, _ in kinds_of_harm], [weight for _, weight in kinds_of_harm])
        done[harm] += 1
        print(f"{datetime.now(UTC).time()} {harm}", flush=True)
        if harm == "kill operator":
            operator.kill()
        elif harm == "stop operator":
            operator.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(choose.uniform(0.5, 8.0))
            operator.process.send_signal(signal.SIGCONT)
        else:
            part = harm.removeprefix("kill ")
            os.kill(cluster.pid(part), signal.SIGKILL)
            await asyncio.sleep(choose.uniform(0.1, 2.0))
            await asyncio.to_thread(cluster.up, ephemeral=True, kube_api_qps=1000)


def a_run(name: str, deployment: str) -> dict:
    return {
        "apiVersion": names.API_VERSION, "kind": "FlowRun", "metadata": {"name": name, "namespace": bench.NAMESPACE},
        "spec": {"deploymentRef": {"name": deployment}},
    }  # fmt: skip


async def set_up(client: Client, schedules: bool) -> None:
    def thing(kind: str, name: str, spec: dict) -> dict:
        return {
            "apiVersion": names.API_VERSION, "kind": kind, "metadata": {"name": name, "namespace": bench.NAMESPACE}, "spec": spec,
        }  # fmt: skip

    image, kept = {"image": "fake"}, {"keepSuccessful": 10_000, "keepFailed": 10_000}
    things = [
        thing("WorkQueue", "limited", {"concurrencyLimit": QUEUE_LIMIT}),
        thing(
            "Deployment",
            "limited",
            {"flowRef": {"name": "bench"}, "workQueue": "limited", "infrastructure": image, "history": kept},
        ),
        thing("Deployment", "bench", {"flowRef": {"name": "bench"}, "infrastructure": image, "history": kept}),
    ]
    if schedules:
        things += [
            thing("Schedule", f"every-{interval}", {
                "deploymentRef": {"name": "bench"}, "intervalSeconds": interval, "catchUp": "All", "startingDeadlineSeconds": 3600,
            })
            for interval in INTERVALS_S
        ]  # fmt: skip
    for body in things:
        await insist(lambda body=body: client.apply(body, field_manager="bench"))
    # A limit holds from when the operator has seen it.
    for _ in range(600):
        if (await insist(lambda: client.get(kinds.WORK_QUEUES, "limited", bench.NAMESPACE))).get("status"):
            return
        await asyncio.sleep(0.1)
    sys.exit("error: the operator does not look at its queue")


async def load(
    client: Client, seen: Seen, options: argparse.Namespace, choose: random.Random, until: float
) -> list[str]:
    """Create runs as long as there is time or number left, and never more than --unfinished at a time. Returns their names."""
    made: list[str] = []
    unfinished: set[str] = set()
    while len(made) < options.runs and time.monotonic() < until:
        started = time.monotonic()
        for _ in range(min(25, options.runs - len(made), options.unfinished - len(unfinished))):
            name = f"run-{len(made)}"
            made.append(name)
            deployment = "limited" if choose.random() < options.limited else "bench"
            await insist(
                lambda name=name, deployment=deployment: client.create(
                    kinds.FLOW_RUNS, a_run(name, deployment), bench.NAMESPACE
                )
            )
        items, _ = await insist(lambda: client.list(kinds.FLOW_RUNS, bench.NAMESPACE, field_selector=UNFINISHED))
        unfinished = {item["metadata"]["name"] for item in items}
        if len(made) - seen.checked - len(unfinished) >= 2 * BATCH:
            await check_and_clear(client, seen, made[seen.checked : seen.checked + BATCH])
        await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - started)))
    return made


UNFINISHED = ",".join(
    f"status.phase!={phase}" for phase in ("Completed", "Failed", "Crashed", "Cancelled", "TimedOut", "Skipped")
)


async def check_and_clear(client: Client, seen: Seen, wanted: list[str]) -> None:
    """Check runs that should be over, then delete them: a bounded number of objects, however many runs."""
    runs, _ = await insist(lambda: client.list(kinds.FLOW_RUNS, bench.NAMESPACE))
    jobs, _ = await insist(lambda: client.list(kinds.JOBS, bench.NAMESPACE, label_selector=names.LABEL_RUN))
    by_name = {run["metadata"]["name"]: run for run in runs}
    jobs_of = Counter(job["metadata"]["labels"][names.LABEL_RUN] for job in jobs)
    for name in wanted:
        status = (by_name.get(name) or {}).get("status") or {}
        if name not in by_name:
            seen.broken.append(f"{name} is lost")
        elif status.get("phase") != "Completed":
            seen.broken.append(f"{name} is {status.get('phase') or 'undecided'}: {status.get('message')}")
        seen.retried += status.get("attempt", 1) > 1
        if jobs_of[name] != status.get("attempt"):
            seen.doubled += 1
            seen.broken.append(f"{name} has {jobs_of[name]} Jobs for {status.get('attempt')} attempts")
    seen.checked += len(wanted)
    for name in wanted:
        if name in by_name:
            await insist(lambda name=name: delete(client, name))


async def delete(client: Client, name: str) -> None:
    try:
        await client.delete(kinds.FLOW_RUNS, name, bench.NAMESPACE)
    except ApiError as error:
        if error.status != 404:
            raise


async def wait_for_quiet(client: Client, seen: Seen) -> None:
    """Until every run is over and no pod of one is alive."""
    end = time.monotonic() + SETTLE_S
    while True:
        items, _ = await insist(lambda: client.list(kinds.FLOW_RUNS, bench.NAMESPACE, field_selector=UNFINISHED))
        pods, _ = await insist(
            lambda: client.list(
                kinds.PODS, bench.NAMESPACE, field_selector="status.phase!=Succeeded,status.phase!=Failed"
            )
        )
        if not items and not pods:
            return
        if time.monotonic() > end:
            seen.broken += [
                f"{item['metadata']['name']} is undecided: {json.dumps(item.get('status'))}" for item in items
            ]
            seen.broken += [f"pod {pod['metadata']['name']} is still alive" for pod in pods]
            return
        await asyncio.sleep(1.0)


async def check_ticks(client: Client, seen: Seen, suspended_at: dict[str, datetime]) -> int:
    """Every tick between the Schedule's creation and its suspension has one run, or is counted as skipped."""
    ticks = 0
    items, _ = await insist(lambda: client.list(kinds.FLOW_RUNS, bench.NAMESPACE, label_selector=names.LABEL_SCHEDULE))
    # A run that was made early and withdrawn before its tick, because the schedule was suspended, is a skip on record.
    kept = [item for item in items if (item.get("status") or {}).get("attempt") or not withdrawn(item)]
    have = Counter((item["metadata"]["labels"][names.LABEL_SCHEDULE], item["spec"]["scheduledTime"]) for item in kept)
    for interval in INTERVALS_S:
        name = f"every-{interval}"
        schedule = await insist(lambda name=name: client.get(kinds.SCHEDULES, name, bench.NAMESPACE))
        status = schedule.get("status") or {}
        decided = datetime.fromisoformat(status["lastTick"])
        anchor = datetime(2020, 1, 1, tzinfo=UTC)
        created = datetime.fromisoformat(schedule["metadata"]["creationTimestamp"])
        step = timedelta(seconds=interval)
        due = int((decided - anchor) / step) - int((created - anchor) / step)
        ran = sum(1 for of, at in have if of == name and datetime.fromisoformat(at) <= decided)
        doubled = [at for (of, at), count in have.items() if of == name and count > 1]
        skipped = status.get("skipped", 0)
        if ran + skipped != due or doubled:
            early = [at for (of, at) in have if of == name and datetime.fromisoformat(at) > decided]
            ledger = [entry for entry in status.get("ledger", []) if entry["outcome"] == "Skipped"]
            seen.broken.append(
                f"{name}: {due} ticks until {decided}, {ran} runs, {skipped} skipped {ledger}, early {early}, doubled {doubled}"
            )
        if decided < suspended_at[name] - 2 * step:
            seen.broken.append(f"{name}: nothing is decided after {decided}")
        ticks += due
    return ticks


def withdrawn(run: dict) -> bool:
    return run["spec"].get("cancel", False) and (run.get("status") or {}).get("phase") == "Cancelled"


async def suspend_schedules(client: Client) -> dict[str, datetime]:
    """Suspend them, so that what is due has an end; returns when."""
    at = {}
    for interval in INTERVALS_S:
        name = f"every-{interval}"
        at[name] = datetime.now(UTC)
        await insist(
            lambda name=name: client.patch(kinds.SCHEDULES, name, {"spec": {"suspend": True}}, bench.NAMESPACE)
        )
    return at


async def soak(
    options: argparse.Namespace, cluster: Cluster, home: Path, operator: Operator, proxy: FaultProxy
) -> dict:
    choose, seen, harm = random.Random(options.seed), Seen(), Counter[str]()
    scheduled = options.runs == NO_LIMIT
    async with Client.from_kubeconfig(cluster.kubeconfig) as client:
        await bench.wait_until_ready(client, operator.process)
        await set_up(client, scheduled)
        proxy.share = options.share if "answers" in options.faults else 0.0
        watcher = asyncio.create_task(watch_runs(client, seen))
        trouble = asyncio.create_task(do_harm(choose, options.faults, operator, cluster, harm))
        started, before_mib = time.monotonic(), bench.memory_mib(operator.process.pid, "VmRSS")
        made = await load(client, seen, options, choose, started + options.minutes * 60)
        trouble.cancel()
        await asyncio.gather(trouble, return_exceptions=True)
        operator.process.send_signal(signal.SIGCONT)
        operator.ensure()
        await insist(lambda: asyncio.to_thread(cluster.up, ephemeral=True, kube_api_qps=1000))
        proxy.share = 0.0
        suspended_at = await suspend_schedules(client) if scheduled else {}
        await wait_for_quiet(client, seen)
        ticks = await check_ticks(client, seen, suspended_at) if scheduled else 0
        await check_and_clear(client, seen, made[seen.checked :])
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
    if seen.most_limited > QUEUE_LIMIT:
        seen.broken.append(f"the queue's limit of {QUEUE_LIMIT} was exceeded: {seen.most_limited}")
    return {
        "seed": options.seed, "minutes": (time.monotonic() - started) / 60, "runs": len(made), "ticks": ticks, "retried": seen.retried,
        "doubled": seen.doubled, "most_in_limited_queue": seen.most_limited, "harm": dict(harm),
        "spoiled_answers": sum(proxy.done.values()), "rss_mib": bench.memory_mib(operator.process.pid, "VmRSS"),
        "rss_before_mib": before_mib, "broken": seen.broken[:50], "broken_count": len(seen.broken),
    }  # fmt: skip


NO_LIMIT = 1_000_000


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Load and faults for a while; then every promise is checked")
    parser.add_argument("--minutes", type=float, default=30, help="how long the load lasts at most")
    parser.add_argument(
        "--runs", type=int, default=NO_LIMIT, help="how many runs; without it, time decides and schedules take part"
    )
    parser.add_argument("--unfinished", type=int, default=150, help="how many runs may be under way")
    parser.add_argument(
        "--limited", type=float, default=0.3, help="share of the runs that go through a queue with a limit"
    )
    parser.add_argument("--share", type=float, default=0.05, help="share of the operator's requests that are spoiled")
    parser.add_argument("--faults", default=",".join(FAULTS), help=f"which, of {', '.join(FAULTS)}")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--keep-logs", type=Path, help="folder to copy the operator's log to")
    options = parser.parse_args(arguments)
    options.faults = set(options.faults.split(",")) - {""}
    if unknown := options.faults - set(FAULTS):
        parser.error(f"there is no fault {', '.join(sorted(unknown))}; choose of {', '.join(FAULTS)}")
    return options


def main() -> int:
    options = options_of()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: ended by SIGTERM"))
    print(f"seed {options.seed}", flush=True)
    home = Path(tempfile.mkdtemp(prefix="levada-soak-"))
    cluster = Cluster("soak", home=home)
    children: list[subprocess.Popen] = []
    operator: Operator | None = None
    try:
        cluster.up(ephemeral=True, kube_api_qps=1000, progress=print)
        kubeconfig = bench.operator_kubeconfig(cluster, home)
        with running_proxy(kubeconfig, seed=options.seed, share=0.0) as proxy:
            asyncio.run(prepare(cluster))
            children.append(bench.start_kwok(cluster, home))
            operator = Operator(proxy.write_kubeconfig(home / "proxy.kubeconfig"), home / "operator.log")
            figures = asyncio.run(soak(options, cluster, home, operator, proxy))
        for key, value in figures.items():
            print(f"{key:24} {value:.2f}" if isinstance(value, float) else f"{key:24} {json.dumps(value)}")
        return 1 if figures["broken"] else 0
    finally:
        if operator is not None:
            operator.process.kill()
            operator.process.wait()
        for child in children:
            child.terminate()
            child.wait(timeout=30)
        cluster.down(delete=True)
        if options.keep_logs:
            options.keep_logs.mkdir(parents=True, exist_ok=True)
            shutil.copy(home / "operator.log", options.keep_logs)
        shutil.rmtree(home, ignore_errors=True)


async def prepare(cluster: Cluster) -> None:
    async with Client.from_kubeconfig(cluster.kubeconfig) as client:
        await bench.prepare(client)


if __name__ == "__main__":
    sys.exit(main())
