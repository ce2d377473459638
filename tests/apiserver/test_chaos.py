"""`kill -9` of the operator, the agent, the API server or etcd at seeded moments, then restart.

What must hold each time: no run is lost, no attempt runs twice, none stays undecided. The flow itself keeps the evidence: it appends a line to a file when it
starts and when it ends, in one write, so a second start of the same attempt is seen whatever the cluster believes.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from levada.resources.phases import is_terminal
from support.evidence import a_run, chaotic, kubectl_json
from support.stack import Stack, running_stack, wait_until

pytestmark = [pytest.mark.apiserver, pytest.mark.chaos, pytest.mark.timeout(300)]

ROUNDS = int(os.environ.get("LEVADA_CHAOS_ROUNDS", "16"))
SEED = int(os.environ.get("LEVADA_CHAOS_SEED", "20190105"))
RUNS_A_ROUND = 5
PARTS = ("operator", "agent", "kube-apiserver", "etcd")
DECIDED_SECONDS = 150


@pytest.fixture(scope="module")
def stack(cluster, installed, kubectl, tmp_path_factory) -> Iterator[Stack]:
    with running_stack(cluster, tmp_path_factory.mktemp("chaos"), agent_name="chaos-agent") as running:
        yield running
    # The runs of the last round may have ended before their agent was back, and an agent that is stopped while it starts takes no
    # leave: for 40 s its node would seem alive, and get the pods of whoever comes next.
    kubectl("cordon", "chaos-agent")


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_no_run_is_lost_doubled_or_undecided(stack, kubectl, namespace, tmp_path, round_number):
    choose = random.Random(f"{SEED}-{round_number}")
    # Each part alone first, twice; then two at once.
    victims = [PARTS[round_number % len(PARTS)]] if round_number < 2 * len(PARTS) else choose.sample(PARTS, k=2)
    evidence = tmp_path / "evidence"
    kubectl("-n", namespace, "apply", "-f", "-", stdin=chaotic(evidence))
    run_names = [f"r{round_number}-{i}" for i in range(RUNS_A_ROUND)]
    kubectl("-n", namespace, "apply", "-f", "-", stdin="---".join(map(a_run, run_names)))

    time.sleep(choose.uniform(0, 3.5))
    for victim in victims:
        stack.kill(victim)
    time.sleep(choose.uniform(0, 1.5))
    for victim in sorted(victims, key=PARTS.index, reverse=True):  # the control plane first
        stack.start(victim)

    def all_decided():
        runs = kubectl_json(kubectl, "-n", namespace, "get", "flowruns")
        return runs if all(is_terminal(run.get("status", {}).get("phase")) for run in runs) else None

    what = f"every run terminal after kill -9 of {' and '.join(victims)} (seed {SEED}, round {round_number})"
    runs = wait_until(all_decided, what, DECIDED_SECONDS, poll_seconds=0.5)
    assert {run["metadata"]["name"] for run in runs} == set(run_names), "a run was lost"

    lines = Counter(evidence.read_text().splitlines())
    assert not [line for line, count in lines.items() if count > 1], "an attempt ran twice"
    for run in runs:
        name, status = run["metadata"]["name"], run["status"]
        assert status["phase"] == "Completed", (victims, status)
        assert status["result"] == "10"
        assert status["progress"] == "5/5"
        assert lines[f"{name} {status['attempt']} end"] == 1
        rows = status["tasks"].values()
        assert [row["state"] for row in rows] == ["Completed"] * 5, "task state was lost"
