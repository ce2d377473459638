"""The real operator behind a proxy that spoils one request in eight, by a seeded plan: the model's promises, on the real API server.

The flow keeps its own evidence, as in test_chaos.py, whose flow this is. No process is killed here: it is the answers that cannot be trusted.
"""

import json
import os
import secrets
from collections import Counter

import pytest

from levada.resources.phases import is_terminal
from support.evidence import a_run, chaotic, kubectl_json
from support.fault_proxy import running_proxy
from support.stack import Stack, wait_until

pytestmark = [pytest.mark.apiserver, pytest.mark.chaos, pytest.mark.timeout(240)]

SEEDS = [int(seed) for seed in os.environ.get("LEVADA_FAULT_SEEDS", "7,19,43").split(",")]
SHARE = float(os.environ.get("LEVADA_FAULT_SHARE", "0.12"))
RUNS = 12
LIMIT = 4
DECIDED_SECONDS = 150

QUEUE = f"""
apiVersion: levada.dev/v1alpha1
kind: WorkQueue
metadata: {{name: default}}
spec: {{concurrencyLimit: {LIMIT}}}
"""


@pytest.fixture(params=SEEDS)
def stack(request, cluster, installed, tmp_path):
    """Only the operator meets the faults: agent and runners have tests of their own."""
    stack = Stack(cluster, tmp_path / "stack", agent_name=f"faults-{secrets.token_hex(4)}")
    with running_proxy(stack.kubeconfigs["operator"], seed=request.param, share=SHARE) as proxy:
        stack.kubeconfigs["operator"] = proxy.write_kubeconfig(tmp_path / "proxy.kubeconfig")
        stack.proxy, stack.seed = proxy, request.param
        stack.start("operator")
        stack.start("agent")
        try:
            yield stack
        finally:
            stack.stop()


def test_whatever_the_api_server_answers_no_run_is_lost_or_doubled(stack, kubectl, namespace, tmp_path):
    evidence = tmp_path / "evidence"
    kubectl("-n", namespace, "apply", "-f", "-", stdin=chaotic(evidence) + "---" + QUEUE)
    names = [f"f{i}" for i in range(RUNS)]
    kubectl("-n", namespace, "apply", "-f", "-", stdin="---".join(map(a_run, names)))
    kubectl("-n", namespace, "patch", "flowrun", names[-1], "--type=merge", "-p", '{"spec":{"cancel":true}}')
    most = 0

    def all_decided():
        nonlocal most
        runs = kubectl_json(kubectl, "-n", namespace, "get", "flowruns")
        statuses = [run.get("status", {}) for run in runs]
        most = max(most, sum(1 for status in statuses if status.get("attempt") and not is_terminal(status["phase"])))
        return runs if all(is_terminal(status.get("phase")) for status in statuses) else None

    what = f"every run terminal behind the proxy (seed {stack.seed}, {dict(stack.proxy.done)})"
    try:
        runs = wait_until(all_decided, what, DECIDED_SECONDS, poll_seconds=0.25)
    except AssertionError as error:
        print(kubectl("-n", namespace, "get", "flowruns,workqueues,jobs,pods", "-o", "yaml"))
        print(stack.log("operator"))
        raise error from None
    assert sum(stack.proxy.done.values()) >= 10, f"hardly a fault: {dict(stack.proxy.done)}"
    assert {run["metadata"]["name"] for run in runs} == set(names), "a run was lost"
    assert most <= LIMIT, f"the queue's limit of {LIMIT} was broken: {most}"
    lines = Counter(evidence.read_text().splitlines())
    assert not [line for line, count in lines.items() if count > 1], "an attempt ran twice"
    for run in runs:
        name, status = run["metadata"]["name"], run["status"]
        if name == names[-1]:
            assert status["phase"] in {"Cancelled", "Completed"}
            continue
        assert (status["phase"], status["result"], status["progress"]) == ("Completed", "10", "5/5"), status
        assert status["attempt"] == 1, "an answer that was lost is no failure of the run"
        assert lines[f"{name} 1 end"] == 1
    jobs = Counter(
        job["metadata"]["labels"]["levada.dev/run"] for job in kubectl_json(kubectl, "-n", namespace, "get", "jobs")
    )
    assert not [name for name, count in jobs.items() if count > 1], json.dumps(jobs)

    def nothing_lives():
        pods = kubectl_json(kubectl, "-n", namespace, "get", "pods")
        return not [pod for pod in pods if pod["status"]["phase"] in {"Pending", "Running"}]

    wait_until(nothing_lives, "no pod of a terminal run is alive", 60)
