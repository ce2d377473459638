"""What the machines of the model test have in common: an operator among faults, its users and its cluster, and the promises.

Rules are the actors, invariants are the promises. Hypothesis chooses who moves next. A machine adds the objects that it is about,
the rules of those who change them, and the promises about them.
"""

import asyncio
import os
from collections import Counter
from datetime import timedelta
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, settings, target
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from levada.resources.kinds import (
    BACKFILLS,
    CONCURRENCY_LIMITS,
    EVENTS,
    FLOW_RUNS,
    JOBS,
    PODS,
    SCHEDULES,
    WORK_QUEUES,
    Kind,
)
from levada.resources.phases import is_terminal
from support.facts import SETTINGS, T0
from support.fake_cluster import DEATHS, LOSSES, REFUSALS, FakeCluster, OperatorKilled
from support.operator_process import KINDS, OperatorProcess, would_write

READ_FAULTS = ("stale", "lost", "throttled")
# What is put off on purpose, so that many changes are one write. Until then a fresh operator knows better.
COALESCED = {WORK_QUEUES.kind, BACKFILLS.kind, SCHEDULES.kind, CONCURRENCY_LIMITS.kind}
COALESCED_FOR = timedelta(seconds=10)
# A run's end and what it waits for; an attempt's start, its Job, its end and its stop; what somebody wants, and a fault, may cost a few more.
WRITES_A_RUN, WRITES_AN_ATTEMPT, WRITES_ASKED, WRITES_A_FAULT = 2, 3, 1, 1


def phase_of(run: dict[str, Any]) -> str:
    return (run.get("status") or {}).get("phase") or ""


def is_over(run: dict[str, Any]) -> bool:
    return is_terminal(phase_of(run))


def parked(status: dict[str, Any]) -> bool:
    """Suspended between two attempts."""
    concluded = any(record["number"] == status["attempt"] for record in status.get("attempts") or ())
    return concluded and status["phase"] in {"Paused", "Queued"}


def holds_a_place(run: dict[str, Any]) -> bool:
    status = run.get("status") or {}
    return bool(status.get("attempt")) and not is_over(run) and not parked(status)


def there_is(kind: Kind, condition=lambda item: True):
    """A rule that could do nothing wastes a step of the example."""
    return precondition(
        lambda self: any(of == kind and condition(item) for (of, _), item in self.cluster.objects.items())
    )


def promise(check):
    """An invariant, from the moment on at which there is a cluster."""
    return invariant()(precondition(lambda self: hasattr(self, "operator"))(check))


class OperatorModel(RuleBasedStateMachine):
    """Subclasses say in `build` what is in the cluster at first."""

    faults: ClassVar[tuple[str, ...]] = (*REFUSALS, *LOSSES, *DEATHS)
    read_faults: ClassVar[tuple[str, ...]] = READ_FAULTS

    def build(self) -> None:
        raise NotImplementedError

    def operator_settings(self) -> dict[str, Any]:
        return {}

    @initialize()
    def set_up(self):
        self.loop = asyncio.new_event_loop()
        self.cluster = FakeCluster(T0)
        self.run_count = self.faults_met = self.processes = self.asked = 0
        self.jobs_deleted: set[str] = set()
        self.broken: set[Kind] = set()  # kinds whose watch is cut
        self.deposed: OperatorProcess | None = None
        self.written: Counter[str] = Counter()  # what operators have changed, by kind
        self.verdicts: dict[str, tuple[str, Any]] = {}  # how the runs have ended, by uid
        self.waste: list[str] = []
        self.cluster.on_write.append(self.see_write)
        self.build()
        self.start_operator()

    def teardown(self):
        try:
            if hasattr(self, "operator"):
                target(float(len(self.cluster.pods_started)), label="attempts that ran")
                self.everything_ends()
        finally:
            if hasattr(self, "loop"):
                self.loop.close()

    # --- the operator -------------------------------------------------------------------------------------------------

    def start_operator(self):
        self.processes += 1
        self.broken.clear()
        self.cluster.faults.clear()
        self.cluster.read_faults.clear()
        self.operator = OperatorProcess(self.cluster, self.loop, **self.operator_settings())

    def see_write(self, kind, new, old):
        """An operator has written something. Writes that are refused are the affair of the work queue, which tries ever more slowly."""
        self.written[kind.kind] += kind != EVENTS
        if old is not None and new == old:
            self.waste.append(f"{kind.kind} {new['metadata']['name']} was written as it was: {new.get('status')}")

    @rule()
    def operator_is_killed(self):
        self.start_operator()

    @precondition(lambda self: self.deposed is None)
    @rule()
    def operator_loses_its_lease(self):
        """It goes on with what it remembers, until it notices; but it is fenced."""
        self.deposed = self.operator
        self.deposed.client.fenced = True
        self.start_operator()

    @precondition(lambda self: self.deposed is not None and self.deposed.queue.ready)
    @rule(count=st.integers(1, 4))
    def the_old_leader_goes_on(self, count):
        before = self.cluster.commits
        for _ in range(count):
            self.deposed.work()
        assert self.cluster.commits == before, "who leads no longer has written"

    @rule()
    def the_old_leader_notices(self):
        self.deposed = None
        self.cluster.late_writes_arrive()

    @precondition(lambda self: any(self.cluster.streams.values()))
    @rule(kind=st.sampled_from(KINDS), count=st.integers(1, 5), twice=st.booleans())
    def watch_delivers(self, kind, count, twice):
        """One kind hears before the others do, and perhaps everything twice."""
        stream = self.cluster.streams[kind]
        for _ in range(count):
            if not stream or kind in self.broken:
                return
            change, item = stream.popleft()
            for _ in range(1 + twice):
                self.operator.hear(kind, change, item)

    @precondition(lambda self: any(self.cluster.streams.values()))
    @rule(kind=st.sampled_from(KINDS))
    def watch_is_cut(self, kind):
        self.broken.add(kind)

    @precondition(lambda self: self.broken)
    @rule(data=st.data())
    def watch_is_told_410_and_lists_again(self, data):
        """What has happened in between is lost: only the list tells."""
        kind = data.draw(st.sampled_from(sorted(self.broken, key=str)))
        self.broken.discard(kind)
        self.operator.list(kind)

    @precondition(lambda self: len(self.operator.queue))
    @rule(data=st.data(), which=st.integers(0, 9), at=st.integers(0, 2))
    def worker_works(self, data, which, at):
        fault = data.draw(st.sampled_from((None, None, None, *self.faults)))
        reads = data.draw(st.sampled_from((None, None, *self.read_faults)))
        self.faults_met += bool(fault) + bool(reads)
        self.cluster.faults.extend([""] * at + [fault] if fault else [])
        self.cluster.read_faults.extend([reads] if reads else [])
        try:
            self.operator.work(which)
        except OperatorKilled:
            self.start_operator()
        finally:
            self.cluster.faults.clear()
            self.cluster.read_faults.clear()

    @rule(kinds=st.sets(st.sampled_from(KINDS), min_size=1))
    def operator_catches_up(self, kinds):
        """Without this, most examples would end before the first pod starts. Some watches may stay behind."""
        for kind in KINDS:
            if kind in kinds:
                self.watch_delivers(kind, 100, twice=False)
        for _ in range(10):
            self.operator.work()

    @rule(seconds=st.sampled_from((0.5, 2, 6, 15, 40, 130)))
    def time_passes(self, seconds):
        self.cluster.now += timedelta(seconds=seconds)
        self.operator.queue.wake()
        if self.deposed is not None:
            self.deposed.queue.wake()

    def is_quiet(self) -> bool:
        queue, now = self.operator.queue, self.cluster.now
        soon = now + COALESCED_FOR
        return not (
            queue.ready
            or self.operator.unsure
            or self.cluster.late
            or any(self.cluster.streams.values())
            or any(at <= (soon if work.kind in COALESCED else now) for work, at in queue.due.items())
        )

    @precondition(lambda self: self.is_quiet())
    @rule()
    def a_fresh_operator_agrees(self):
        wanted = would_write(self.cluster, self.loop, **self.operator_settings())
        assert not wanted, f"a fresh operator would write {wanted}"

    # --- users --------------------------------------------------------------------------------------------------------

    def create_run(self, name: str = "", deployment: str = "d", **spec: Any) -> None:
        if not name:
            self.run_count += 1
            name = f"r{self.run_count}"
        self.asked += 1
        body = {"metadata": {"name": name}, "spec": {"deploymentRef": {"name": deployment}, **spec}}
        self.cluster.create(FLOW_RUNS, body)

    def define(self, kind: Kind, name: str, **spec: Any) -> None:
        self.cluster.create(kind, {"metadata": {"name": name}, "spec": spec})

    def edit(self, kind: Kind, name: str, **spec: Any) -> None:
        self.asked += 1
        self.cluster.edit(kind, name, **spec)

    @there_is(FLOW_RUNS)
    @rule(data=st.data())
    def user_cancels_a_run(self, data):
        name = self.pick(data, FLOW_RUNS)
        if name:
            self.edit(FLOW_RUNS, name, cancel=True)

    @there_is(FLOW_RUNS)
    @rule(data=st.data(), suspend=st.booleans())
    def user_suspends_or_resumes_a_run(self, data, suspend):
        name = self.pick(data, FLOW_RUNS)
        if name:
            self.edit(FLOW_RUNS, name, suspend=suspend)

    @there_is(FLOW_RUNS)
    @rule(data=st.data())
    def user_deletes_a_run(self, data):
        name = self.pick(data, FLOW_RUNS)
        if name:
            self.asked += 1
            self.cluster.delete(FLOW_RUNS, name)

    # --- the cluster --------------------------------------------------------------------------------------------------

    @there_is(JOBS)
    @rule()
    def cluster_catches_up(self):
        self.cluster.control_jobs()
        for name in sorted(pod["metadata"]["name"] for pod in self.cluster.pods()):
            if self.cluster.objects[PODS, name]["status"]["phase"] == "Pending":
                self.cluster.start_pod(name)

    def pick(self, data, kind, condition=lambda item: True):
        found = sorted(name for (of, name), item in self.cluster.objects.items() if of == kind and condition(item))
        return data.draw(st.sampled_from(found)) if found else None

    def run_of(self, pod):
        return self.cluster.objects[PODS, pod]["metadata"]["labels"]["levada.dev/run"]

    def runs(self):
        return {name: item for (kind, name), item in self.cluster.objects.items() if kind == FLOW_RUNS}

    # --- promises -----------------------------------------------------------------------------------------------------

    @promise
    def no_illegal_write_is_even_tried(self):
        assert not self.operator.illegal, [str(error) for error in self.operator.illegal]

    @promise
    def an_attempt_has_at_most_one_job(self):
        twice = [job for job, count in Counter(self.cluster.jobs_created).items() if count > 1]
        assert not [job for job in twice if job[1] not in self.jobs_deleted]

    @promise
    def no_attempt_runs_twice(self):
        assert all(count == 1 for count in Counter(self.cluster.pods_started).values()), self.cluster.pods_started

    @promise
    def an_end_is_final(self):
        for run in self.runs().values():
            if is_over(run):
                verdict = (phase_of(run), run["status"]["completionTime"])
                assert self.verdicts.setdefault(run["metadata"]["uid"], verdict) == verdict
            else:
                assert run["metadata"]["uid"] not in self.verdicts

    @promise
    def a_job_s_attempt_is_on_record(self):
        runs = self.runs()
        for (kind, _), job in self.cluster.objects.items():
            labels = job["metadata"].get("labels") or {}
            if kind == JOBS and labels["levada.dev/run"] in runs:
                attempt = (runs[labels["levada.dev/run"]].get("status") or {}).get("attempt", 0)
                owner = job["metadata"]["ownerReferences"][0]["uid"]
                if owner == runs[labels["levada.dev/run"]]["metadata"]["uid"]:
                    assert attempt >= int(labels["levada.dev/attempt"])

    @promise
    def no_two_pods_of_a_run_at_a_time(self):
        lost = timedelta(seconds=SETTINGS.lost_after_s)
        living = Counter()
        for pod in self.cluster.pods():
            due = pod["metadata"].get("deletionTimestamp")
            forgotten = due is not None and self.cluster.now.isoformat() >= due[:19] and lost
            if pod["status"]["phase"] == "Running" and not forgotten:
                living[pod["metadata"]["annotations"]["levada.dev/run-uid"]] += 1
        assert all(count == 1 for count in living.values()), living

    @promise
    def nothing_is_written_as_it_was(self):
        assert len(self.waste) == 0, self.waste

    # --- the end ------------------------------------------------------------------------------------------------------

    def prepare_for_the_end(self) -> None:
        """What keeps runs from ending is taken away."""
        for name in self.runs():
            self.cluster.patch(FLOW_RUNS, name, {"spec": {"suspend": False}})

    def everything_ends(self):
        """Let everybody work without faults until nothing moves: every run must be decided, and nothing left running."""
        self.cluster.late_writes_arrive()
        self.prepare_for_the_end()
        for kind in list(self.broken):
            self.operator.list(kind)
        self.broken.clear()
        for _ in range(150):
            self.one_quiet_round()
            if self.is_at_rest():
                break
        self.at_rest()

    def one_quiet_round(self):
        for kind in KINDS:
            self.watch_delivers(kind, 1000, twice=False)
        for _ in range(50):
            self.operator.work()
        self.cluster.control_jobs()
        for pod in [pod["metadata"]["name"] for pod in self.cluster.pods()]:
            if (PODS, pod) in self.cluster.objects:
                self.cluster.remove_pod(pod)
            if (PODS, pod) in self.cluster.objects and self.cluster.objects[PODS, pod]["status"]["phase"] == "Pending":
                self.cluster.start_pod(pod)
            elif (PODS, pod) in self.cluster.objects:
                self.cluster.end_pod(pod, 0)
        self.check_promises()
        self.time_passes(5)

    def check_promises(self):
        self.no_attempt_runs_twice()
        self.an_end_is_final()

    def is_at_rest(self):
        return (
            all(is_over(run) for run in self.runs().values())
            and not len(self.operator.queue)
            and not any(self.cluster.streams.values())
            and not len(self.operator.store.runs)
        )

    def at_rest(self):
        store = self.operator.store
        undecided = {name: run.get("status") for name, run in self.runs().items() if not is_over(run)}
        assert not undecided, undecided
        living = [
            pod["metadata"]["name"] for pod in self.cluster.pods() if pod["status"]["phase"] in {"Pending", "Running"}
        ]
        assert not living, f"pods of runs that are over: {living}"
        owners = {run["metadata"]["uid"] for run in self.runs().values()}
        orphans = [
            job["metadata"]["name"]
            for job in self.cluster.all(JOBS)
            if job["metadata"]["ownerReferences"][0]["uid"] not in owners
        ]
        assert not orphans, f"Jobs of nobody: {orphans}"
        assert len(store.runs) == 0, "what is over is forgotten"
        assert not store.jobs and not store.pods
        assert not store.line._all.taken and not store.line._seats, "what is over holds a place"
        for _ in range(24):  # what is put off, so that many changes are one write
            if self.is_quiet():
                break
            self.time_passes(5)
            for kind in KINDS:
                self.watch_delivers(kind, 1000, twice=False)
            self.operator.settle()
        wanted = would_write(self.cluster, self.loop, **self.operator_settings())
        assert not wanted, f"a fresh operator would write {wanted}"
        self.the_number_of_writes_is_bounded()

    def further_writes(self) -> int:
        """What a machine's own objects may cost."""
        return 0

    def the_number_of_writes_is_bounded(self):
        """Each cause has so many writes; see the constants. Nothing is written in circles."""
        writes = self.written.total()
        runs, attempts = len(self.cluster.runs_made), len(self.cluster.jobs_created)
        most = (
            WRITES_A_RUN * runs
            + WRITES_AN_ATTEMPT * attempts
            + WRITES_ASKED * self.asked
            + WRITES_A_FAULT * (self.faults_met + self.processes)
            + self.further_writes()
        )
        target(float(writes - most), label="writes, against the bound")
        assert writes <= most, (
            f"{dict(self.written)} for {runs} runs, {attempts} attempts, {self.asked} wishes, {self.faults_met} faults"
        )


# Shrinking takes minutes; a person who debugs can have it back with LEVADA_SHRINK=1.
PHASES = (
    tuple(Phase) if os.environ.get("LEVADA_SHRINK") else (Phase.explicit, Phase.reuse, Phase.generate, Phase.target)
)


def histories(examples: int, steps: int = 100) -> settings:
    """The suite tries the same histories each time; LEVADA_EXAMPLES=1000 goes looking for new ones."""
    return settings(
        max_examples=int(os.environ.get("LEVADA_EXAMPLES", str(examples))),
        derandomize="LEVADA_EXAMPLES" not in os.environ,
        stateful_step_count=steps,
        deadline=None,
        phases=PHASES,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
