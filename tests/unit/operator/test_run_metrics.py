"""The news of runs as metrics: each end counts once, labels are bounded, and no run is named."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from levada.decide.facts import RunEnd, TaskPodView
from levada.operator.announcer import Announcer
from levada.operator.metrics import Metrics
from levada.operator.metricset import Bound, markdown
from levada.operator.run_metrics import RunMetrics
from levada.operator.state import State
from levada.operator.store import Store
from support.facts import T0, a_job, a_pod, a_run, s

END = RunEnd(
    duration_s=6.0, wait_s=2.0, import_s=0.5, user_s=5.0, tasks=(("load", 1.0), ("load", 2.0), ("train", 3.0)),
    counts={"total": 4, "completed": 4, "cached": 1}, task_retries=2,
)  # fmt: skip
RUNNING = a_run(attempt=1, phase="Running", resource_version="5")
ENDED = replace(RUNNING, phase="Completed", completed_at=T0 + s(9), end=END, resource_version="6")


class Fed:
    """Metrics and what feeds them."""

    def __init__(self, **options):
        self.metrics = Metrics(**options)
        self.store = Store()
        self.feed = RunMetrics(self.metrics, self.store, lambda: T0).on_news

    def value(self, name, **labels):
        return self.metrics.registry.get_sample_value(name, labels)


HERE = {"namespace": "ns", "deployment": "d"}


def test_the_end_of_a_run():
    fed = Fed()
    fed.store.put_pod(a_pod(run_uid="run-uid", scheduled_at=T0 + s(1), started_at=T0 + s(3)))
    fed.store.put_job(a_job())
    fed.feed(RUNNING, ENDED)
    assert fed.value("levada_runs_ended_total", **HERE, phase="Completed") == 1
    assert fed.value("levada_run_duration_seconds_sum", **HERE, phase="Completed") == 6
    assert fed.value("levada_run_stage_seconds_sum", stage="image") == 2
    assert fed.value("levada_run_stage_seconds_sum", stage="user") == 5
    assert fed.value("levada_run_overhead_ratio_sum", **HERE) == pytest.approx(4 / 9)
    assert fed.value("levada_task_duration_seconds_count", **HERE, task="load") == 2
    assert fed.value("levada_tasks_ended_total", **HERE, state="Completed") == 4
    assert fed.value("levada_task_cache_hits_total", **HERE) == 1
    assert fed.value("levada_task_retries_total", **HERE) == 2


def test_pods_of_tasks_are_counted_and_told():
    fed, told = Fed(), []
    herald = SimpleNamespace(tell=lambda about, specs: told.extend((about.name, spec.reason) for spec in specs))
    announcer = Announcer(herald, fed.store)
    before = RUNNING
    for state, reason in (("Waiting", ""), ("Granted", ""), ("Granted", "ImagePull"), ("Ended", "OutOfMemory")):
        after = replace(before, task_pods=(TaskPodView("t1", 1, state, T0, reason=reason),))
        fed.feed(before, after)
        announcer.on_news(before, after)
        before = after
    assert fed.value("levada_task_pods_total", **HERE, outcome="granted") == 1
    assert fed.value("levada_task_pods_total", **HERE, outcome="failed") == 1
    assert told == [("r", "TaskPodGranted"), ("r", "TaskPodFailed")]


def test_an_end_counts_once_however_often_it_is_told():
    fed = Fed()
    fed.feed(RUNNING, ENDED)
    fed.feed(ENDED, replace(ENDED, resource_version="7"))
    fed.feed(ENDED, None)
    fed.feed(None, replace(ENDED, resource_version="8"))  # forgotten, and a late write brings it back
    assert fed.value("levada_runs_ended_total", **HERE, phase="Completed") == 1


def test_what_ended_before_this_process_began_is_not_counted():
    fed = Fed()
    fed.feed(None, replace(ENDED, completed_at=T0 - s(1)))
    assert fed.value("levada_runs_ended_total", **HERE, phase="Completed") is None
    fed.feed(None, ENDED)
    assert fed.value("levada_runs_ended_total", **HERE, phase="Completed") == 1


def test_admission_and_retries():
    fed = Fed()
    fed.feed(a_run(), a_run(attempt=1, queued_seconds=3.0))
    assert fed.value("levada_queue_wait_seconds_sum", namespace="ns", queue="default") == 3
    fed.feed(RUNNING, replace(RUNNING, phase="Retrying", reason="Evicted", infrastructure_failures=1))
    assert fed.value("levada_run_retries_total", **HERE, kind="Infrastructure") == 1
    assert fed.value("levada_run_failures_total", category="Evicted", outcome="retried") == 1
    fed.feed(RUNNING, replace(ENDED, phase="Crashed", reason="OutOfMemory", code_failures=1))
    assert fed.value("levada_run_retries_total", **HERE, kind="Code") is None
    assert fed.value("levada_run_failures_total", category="OutOfMemory", outcome="final") == 1


def test_hostile_names_do_not_grow_the_page():
    """A thousand Deployments with hundreds of runs: what the page holds is bounded, and says nothing that a run brought."""
    fed = Fed(deployments=20)
    counts = {}
    fed.metrics.observe_state(lambda: State(phases={}, of_deployments=counts, of_queues=counts))
    sizes = []
    for round_ in range(2):
        for deployment in range(1000):
            tasks = tuple((name, 1.0) for name in ("load", f"secret-{deployment}-{round_}", 'evil"name\n', "x" * 500))
            run = replace(
                RUNNING, name=f"hostile-run-{deployment}-{round_}", uid=f"u{deployment}-{round_}", deployment=f"d{deployment}",
                namespace=f"n{deployment % 300}", queue=f"q{deployment}", message=f"password={deployment}",
            )  # fmt: skip
            reason = f"Message{deployment}"
            end = replace(END, tasks=tasks, counts={"failed": 1, "hostile": 3})
            fed.feed(replace(run, attempt=0), run)
            fed.feed(run, replace(run, phase="Retrying", reason=reason, code_failures=1, resource_version="6"))
            fed.feed(
                run, replace(run, phase="Failed", reason=reason, completed_at=T0 + s(9), end=end, resource_version="7")
            )
            counts[run.namespace, run.deployment, "Running"] = 1
        page = generate_latest(fed.metrics.registry).decode()
        sizes.append(sum(len(family.samples) for family in text_string_to_metric_families(page)))
    assert sizes[1] == sizes[0] < 5000
    for word in ("hostile", "password", "Message", "evil", "xxxx"):
        assert word not in page
    assert fed.value("levada_runs_ended_total", namespace="other", deployment="other", phase="Failed") == 1960


def test_exemplars_are_for_those_who_ask():
    plain, asked = Fed(), Fed(exemplars=True)
    for fed in (plain, asked):
        fed.feed(RUNNING, replace(ENDED, uid="0f0e0d0c-0b0a-4908-8706-050403020100"))
    assert b"trace_id" not in generate_openmetrics(plain.metrics.registry)
    assert b'trace_id="0f0e0d0c0b0a49088706050403020100"' in generate_openmetrics(asked.metrics.registry)
    assert b"trace_id" not in generate_latest(asked.metrics.registry)


def test_whoever_comes_first_keeps_the_series():
    bound = Bound(2)
    assert [bound("a", "b"), bound("a", "c"), bound("a", "d"), bound("a", "b")] == [
        ("a", "b"), ("a", "c"), ("other", "other"), ("a", "b"),
    ]  # fmt: skip


def test_every_metric_is_documented_and_every_documented_one_exists():
    metrics = Metrics()
    metrics.observe_state(State)
    made = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in metrics.registry.collect()
        if family.name.startswith("levada_")
    }
    assert made == {spec.name for spec in metrics.specs}
    assert all(spec.help.endswith(".") for spec in metrics.specs)
    docs = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"
    assert markdown(metrics.specs) in docs.read_text(), "run `make docs-metrics`"
