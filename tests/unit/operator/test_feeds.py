"""What the operator keeps of what it watches: of what is over nothing, of what is under way little."""

import gc
import json
import tracemalloc
from datetime import timedelta

import pytest

from levada.decide.facts import Settings
from levada.decide.manifest import Code, build_job
from levada.operator.controller import Controller
from levada.operator.feeds import RUNS_A_REQUEST, job_is_over, make_reflectors, pod_is_over, run_is_over, runs_without
from levada.operator.settings import OperatorSettings
from levada.operator.store import Store
from levada.resources.names import LABEL_ATTEMPT, LABEL_RUN
from support.facts import SETTINGS, T0, a_deployment, a_run
from support.fake_cluster import FakeCluster

COUNT = 1_000


def a_condition(kind, status="True"):
    return {"type": kind, "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("is_over", "status", "expected"),
    [
        (run_is_over, None, False),
        (run_is_over, {"phase": "Running"}, False),
        (run_is_over, {"phase": "TimedOut"}, True),
        (job_is_over, None, False),
        (job_is_over, {"succeeded": 1, "conditions": [a_condition("SuccessCriteriaMet")]}, False),
        (job_is_over, {"conditions": [a_condition("FailureTarget"), a_condition("Failed", "False")]}, False),
        (job_is_over, {"conditions": [a_condition("Suspended"), a_condition("Complete")]}, True),
        (job_is_over, {"conditions": [a_condition("Failed")]}, True),
        (pod_is_over, None, False),
        (pod_is_over, {"phase": "Unknown"}, False),
        (pod_is_over, {"phase": "Succeeded"}, True),
        (pod_is_over, {"phase": "Failed"}, True),
    ],
)
def test_what_is_over(is_over, status, expected):
    """A Job whose pods are still leaving is not: its verdict is yet to come."""
    assert is_over({"status": status}) is expected


def an_object(namespace, run, attempt):
    return {"metadata": {"namespace": namespace, "labels": {LABEL_RUN: run, LABEL_ATTEMPT: attempt}}}


@pytest.mark.parametrize(
    ("case", "namespace", "unfinished", "expected"),
    [
        ("nothing of it is there", None, [], ["levada.dev/run in (r)"]),
        ("its newest attempt is there", None, [an_object("ns", "r", "2")], []),
        ("an earlier attempt is there", None, [an_object("ns", "r", "1")], ["levada.dev/run in (r)"]),
        ("a namesake elsewhere is there", None, [an_object("else", "r", "2")], ["levada.dev/run in (r)"]),
        ("only another namespace is asked about", "else", [], []),
    ],
)
def test_what_a_run_under_way_lacks_is_asked_for(case, namespace, unfinished, expected):
    store = Store()
    store.put_run(a_run(name="r", uid="r", phase="Running", attempt=2))
    store.put_run(a_run(name="new", uid="new", phase="", attempt=0))
    assert runs_without(store, namespace, unfinished) == expected


def test_many_runs_are_asked_for_in_few_requests():
    store = Store()
    for number in range(2 * RUNS_A_REQUEST + 1):
        store.put_run(a_run(name=f"r{number}", uid=f"r{number}", phase="Running", attempt=1))
    selectors = runs_without(store, None, [])
    assert [selector.count(",") + 1 for selector in selectors] == [RUNS_A_REQUEST, RUNS_A_REQUEST, 1]


def a_family(*, ended):
    """A FlowRun with five tasks, its Job and its pod, as the API has them, each as JSON with NUMBER where it is unique."""
    run = a_run(name="run-NUMBER", uid="uid-NUMBER")
    code = Code("f", "flow.py:main", "/code", "")
    job = build_job(run, a_deployment(), code, attempt=1, parameters="{}", settings=Settings(), now=T0)
    common = {"namespace": "ns", "resourceVersion": "NUMBER", "creationTimestamp": "2026-01-01T00:00:00Z"}
    job["metadata"] |= common | {"uid": "job-NUMBER"}
    template = job["spec"]["template"]
    pod = {
        "metadata": template["metadata"] | common | {"name": "run-NUMBER-1-abcde", "uid": "pod-NUMBER"},
        "spec": template["spec"] | {"nodeName": "n"},
        "status": {"phase": "Failed" if ended else "Running"},
    }
    job["status"] = {"conditions": [a_condition("Failed")]} if ended else {"active": 1}
    body = {
        "metadata": common | {"name": "run-NUMBER", "uid": "uid-NUMBER"},
        "spec": {"deploymentRef": {"name": "d"}},
        "status": {
            "phase": "Failed" if ended else "Running",
            "attempt": 1,
            "tasks": {f"t-{index}": {"name": "t", "state": "Completed"} for index in range(5)},
        },
    }
    return [json.dumps(each) for each in (body, job, pod)]


@pytest.mark.parametrize(("ended", "at_most_bytes"), [(True, 250), (False, 15_000)])
async def test_what_a_run_costs_that_the_operator_has_listed(ended, at_most_bytes):
    """Of ended ones a list brings only failed Jobs; even if it brought everything, nothing would stay."""
    controller = Controller(
        FakeCluster(T0).client, OperatorSettings(decide=SETTINGS), now=lambda: T0 + timedelta(seconds=1)
    )
    reflectors = list(make_reflectors(controller).values())
    texts = a_family(ended=ended)
    take(reflectors, texts, range(1_000, 1_010))
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        take(reflectors, texts, range(2_000, 2_000 + COUNT))
        controller.start()
        while ended and len(controller.queue):  # workers find nothing to do
            work = await controller.queue.get()
            await controller.reconcile(work)
            controller.queue.done(work)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        controller.queue.close()
    assert (after - before) / COUNT <= at_most_bytes
    assert len(controller.store.runs) == (0 if ended else COUNT + 10)


def take(reflectors, texts, numbers):
    for number in numbers:
        for reflector, text in zip(reflectors, texts, strict=True):
            reflector._take_page([json.loads(text.replace("NUMBER", str(number)))])
