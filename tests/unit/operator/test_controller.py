"""What the controller keeps and lets go, in the orders of events that once went wrong."""

import asyncio
import itertools
from datetime import timedelta

import pytest

from levada.decide.times import stamp
from levada.operator.controller import LOOKED_UP_AGAIN_S, RUN, Controller, Work
from levada.operator.settings import OperatorSettings
from levada.operator.store import Key
from levada.resources import names
from levada.resources.kinds import DEPLOYMENTS, FLOW_RUNS, FLOWS, JOBS, WORK_QUEUES
from support.facts import SETTINGS, T0, a_deployment, a_flow
from support.fake_cluster import FakeCluster
from support.operator_process import OperatorProcess

KEY = Key("ns", "r")


async def test_a_job_that_ends_while_its_run_is_being_read_is_not_waited_for():
    """Found by the model: the verdict came between the adoption of the Job and the answer about its run."""
    cluster = FakeCluster(T0)
    run = cluster.create(FLOW_RUNS, {"metadata": {"name": "r"}, "spec": {"deploymentRef": {"name": "d"}}})
    ended = {"phase": "Cancelled", "reason": "Cancelled", "attempt": 1, "completionTime": stamp(T0)}
    cluster.patch(FLOW_RUNS, "r", {"status": ended})
    owner = {"uid": run["metadata"]["uid"], "controller": True}
    labels = {names.LABEL_RUN: "r", names.LABEL_ATTEMPT: "1"}
    open_job = cluster.create(
        JOBS, {"metadata": {"name": "r-1", "labels": labels, "ownerReferences": [owner]}, "spec": {}}
    )
    controller = Controller(cluster.client, OperatorSettings(decide=SETTINGS), now=lambda: cluster.now)
    controller.start()

    controller.on_job("ADDED", open_job)
    verdict = {"type": "Failed", "status": "True", "lastTransitionTime": stamp(T0)}
    controller.on_job("MODIFIED", cluster.patch(JOBS, "r-1", {"status": {"conditions": [verdict]}}))
    await controller.reconcile(Work(RUN, KEY))

    assert controller.store.runs.get(KEY) is None
    assert controller.store.jobs == {}
    controller.queue.close()


async def test_listeners_are_told_of_every_news_of_a_run_and_of_its_end():
    cluster = FakeCluster(T0)
    body = cluster.create(FLOW_RUNS, {"metadata": {"name": "r"}, "spec": {"deploymentRef": {"name": "d"}}})
    controller = Controller(cluster.client, OperatorSettings(decide=SETTINGS), now=lambda: cluster.now)
    told: list[tuple[str | None, str | None]] = []
    controller.run_listeners.append(lambda before, after: told.append((before and before.phase, after and after.phase)))
    controller.start()

    controller.on_run("ADDED", body)
    controller.on_run("MODIFIED", body)  # no news
    ended = {"phase": "Cancelled", "reason": "Cancelled", "completionTime": stamp(T0)}
    body = cluster.patch(FLOW_RUNS, "r", {"status": ended})
    controller.on_run("MODIFIED", body)
    await controller.reconcile(Work(RUN, KEY))

    assert told == [(None, ""), ("", "Cancelled"), ("Cancelled", None)]
    controller.on_run("MODIFIED", cluster.patch(FLOW_RUNS, "r", {"status": {"notified": True}}))
    controller.on_run("DELETED", body)
    assert len(told) == 3, "what is over and forgotten stays so"
    assert len(controller.store.runs) == 0
    controller.queue.close()


async def test_a_run_that_was_made_anew_under_its_name_is_the_end_of_the_old_one():
    """Its deletion and the new one may be seen in one read: who keeps runs by uid must hear of both."""
    cluster = FakeCluster(T0)
    order = {"metadata": {"name": "r"}, "spec": {"deploymentRef": {"name": "d"}}}
    old = cluster.create(FLOW_RUNS, order)
    controller = Controller(cluster.client, OperatorSettings(decide=SETTINGS), now=lambda: cluster.now)
    told: list[tuple[str | None, str | None]] = []
    controller.run_listeners.append(lambda before, after: told.append((before and before.uid, after and after.uid)))
    controller.start()
    controller.on_run("ADDED", old)
    cluster.delete(FLOW_RUNS, "r")
    new = cluster.create(FLOW_RUNS, order)
    controller.on_run("DELETED", old)
    await controller.reconcile(Work(RUN, KEY))
    first, second = old["metadata"]["uid"], new["metadata"]["uid"]
    assert told[:3] == [(None, first), (first, None), (None, second)]
    controller.queue.close()


async def test_nothing_is_kept_of_the_jobs_of_history():
    """At a start the Jobs of all runs that have ended are listed: there may be ten thousand of them."""
    cluster = FakeCluster(T0)
    controller = Controller(cluster.client, OperatorSettings(decide=SETTINGS), now=lambda: cluster.now)
    labels = {names.LABEL_RUN: "r", names.LABEL_ATTEMPT: "1"}
    for number in range(3):
        owner = {"uid": f"old-{number}", "controller": True}
        metadata = {
            "name": f"r{number}-1",
            "labels": labels | {names.LABEL_RUN: f"r{number}"},
            "ownerReferences": [owner],
        }
        job = cluster.create(JOBS, {"metadata": metadata, "spec": {}})
        verdict = {"type": "Complete", "status": "True", "lastTransitionTime": stamp(T0)}
        controller.on_job("ADDED", job if number else {**job, "status": {"conditions": [verdict]}})
    controller.start()
    for number in range(3):
        await controller.reconcile(Work(RUN, Key("ns", f"r{number}")))
    assert controller.store.jobs == {}
    assert dict(controller.store._jobs_seen) == {}
    controller.queue.close()


@pytest.fixture
def with_an_unseen_job():
    """The operator has made a Job, and its watch is cut before it has told of it. Then somebody deletes the Job."""
    loop, cluster = asyncio.new_event_loop(), FakeCluster(T0)
    cluster.create(DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": {"flowRef": {"name": "f"}}})
    cluster.create(FLOW_RUNS, {"metadata": {"name": "r"}, "spec": {"deploymentRef": {"name": "d"}}})
    process = OperatorProcess(cluster, loop)
    process.settle()
    cluster.delete(JOBS, "r-1")
    yield process
    loop.close()


def test_a_list_tells_that_a_job_has_gone_of_which_no_watch_has_told(with_an_unseen_job):
    """Found by the model: the list was compared with what watches had told only, so the Job was waited for."""
    process = with_an_unseen_job
    process.list(JOBS)
    process.settle()
    status = process.cluster.get(FLOW_RUNS, "r")["status"]
    assert (status["phase"], status["attempts"][0]["reason"]) == ("Retrying", "JobDeleted")
    assert KEY not in process.store.jobs


def test_to_stop_a_job_that_has_gone_is_to_forget_it(with_an_unseen_job):
    """Found by the model: the Job was stopped again and again, a write each time, and its run never came to its end."""
    process = with_an_unseen_job
    process.hear(FLOW_RUNS, "MODIFIED", process.cluster.patch(FLOW_RUNS, "r", {"spec": {"cancel": True}}))
    process.settle()
    assert process.cluster.get(FLOW_RUNS, "r")["status"]["phase"] == "Cancelled"
    assert KEY not in process.store.jobs


@pytest.mark.parametrize("order", list(itertools.permutations(["r1", "r2", "r3"])), ids="-".join)
async def test_who_is_woken_first_does_not_overtake(order):
    """While the Flow is being judged nobody waits for a place. Then all do, and the set in which they are known has no order."""
    cluster = FakeCluster(T0)
    controller = Controller(cluster.client, OperatorSettings(decide=SETTINGS), now=lambda: cluster.now)
    controller.store.put_deployment(a_deployment(concurrency_limit=1))
    controller.store.flows.put(Key("ns", "f"), a_flow(status={}))
    controller.start()

    async def drain():
        while len(controller.queue):
            work = await controller.queue.get()
            if work.kind == RUN:
                await controller.reconcile(work)
            controller.queue.done(work)

    for name in ("r1", "r2", "r3"):
        body = cluster.create(FLOW_RUNS, {"metadata": {"name": name}, "spec": {"deploymentRef": {"name": "d"}}})
        controller.on_run("ADDED", body)
    await drain()
    assert cluster.jobs_created == []
    controller.store.flows.put(Key("ns", "f"), a_flow())
    controller.wake_runs(Key("ns", name) for name in order)
    await drain()
    assert [name for _, name in cluster.jobs_created] == ["r1-1"]
    controller.queue.close()


async def test_a_deployment_that_the_watch_has_not_brought_yet_is_read_before_the_run_fails():
    """One `kubectl apply` makes both, and the watch of Deployments is behind for longer than the grace."""
    cluster = FakeCluster(T0)
    cluster.create(DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": {"flowRef": {"name": "f"}}})
    run = cluster.create(FLOW_RUNS, {"metadata": {"name": "r"}, "spec": {"deploymentRef": {"name": "d"}}})
    controller = Controller(cluster.client, OperatorSettings(decide=SETTINGS), now=lambda: cluster.now)
    controller.start()
    controller.on_run("ADDED", run)
    cluster.now = T0 + timedelta(seconds=SETTINGS.reference_grace_s + 1)

    again_s = await controller.reconcile(Work(RUN, KEY))
    assert again_s is not None
    assert controller.store.deployments.get(Key("ns", "d")) is not None
    assert "status" not in cluster.get(FLOW_RUNS, "r")

    await controller.reconcile(Work(RUN, KEY))  # there is no Flow, not even by name
    status = cluster.get(FLOW_RUNS, "r")["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "FlowNotFound")
    controller.queue.close()


async def test_what_is_read_by_name_is_judged_though_the_watch_says_nothing_for_long():
    """The run starts within the grace and a few looks, not at the next list; and when the watch tells at last, that is no news."""
    cluster = FakeCluster(T0)
    cluster.create(
        FLOWS,
        {"metadata": {"name": "f"}, "spec": {"entrypoint": "flow.py:main", "source": {"image": {"path": "/app"}}}},
    )
    cluster.create(DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": {"flowRef": {"name": "f"}}})
    run = cluster.create(FLOW_RUNS, {"metadata": {"name": "r"}, "spec": {"deploymentRef": {"name": "d"}}})
    controller = Controller(cluster.client, OperatorSettings(decide=SETTINGS), now=lambda: cluster.now)
    controller.start()
    controller.on_run("ADDED", run)
    cluster.now = T0 + timedelta(seconds=SETTINGS.reference_grace_s + 1)

    for _ in range(10):
        controller.queue.add(Work(RUN, KEY))
        while len(controller.queue):
            work = await controller.queue.get()
            await controller.reconcile(work)
            controller.queue.done(work)

    assert cluster.get(FLOWS, "f")["status"]["conditions"][0]["status"] == "True"
    assert [name for _, name in cluster.jobs_created] == ["r-1"]
    controller.queue.close()


@pytest.mark.parametrize(("spec", "started"), [({"concurrencyLimit": 2}, 2), ({"paused": True}, 0), (None, 4)])
async def test_the_limit_of_a_queue_that_the_watch_has_not_brought_yet_is_kept(spec, started):
    """One `kubectl apply` makes queue and runs, and the watch of queues is behind."""
    cluster = FakeCluster(T0)
    if spec is not None:
        cluster.create(WORK_QUEUES, {"metadata": {"name": "default"}, "spec": spec})
    controller = Controller(cluster.client, OperatorSettings(decide=SETTINGS), now=lambda: cluster.now)
    controller.store.put_deployment(a_deployment())
    controller.store.flows.put(Key("ns", "f"), a_flow())
    controller.start()
    for name in ("r1", "r2", "r3", "r4"):
        body = cluster.create(FLOW_RUNS, {"metadata": {"name": name}, "spec": {"deploymentRef": {"name": "d"}}})
        controller.on_run("ADDED", body)

    async def work():
        while True:
            work = await controller.queue.get()
            if (again_s := await controller.reconcile(work)) is not None and work.kind == RUN:
                controller.queue.add_after(work, again_s)
            controller.queue.done(work)

    workers = [asyncio.create_task(work()) for _ in range(4)]
    await asyncio.sleep(5 * LOOKED_UP_AGAIN_S)
    for worker in workers:
        worker.cancel()
    assert len(cluster.jobs_created) == started
    assert cluster.client.reads[WORK_QUEUES] <= 4, "not one for each look"
    controller.queue.close()
