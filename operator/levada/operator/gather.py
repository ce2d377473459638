"""From the store to the facts of one object. Reads, never waits, never calls the API."""

from datetime import datetime

from levada.decide.definitions import REPLACE, DeploymentView
from levada.decide.deployment import DeploymentFacts
from levada.decide.facts import JobView, QueueFacts, RunFacts, RunView, Settings
from levada.decide.manifest import job_name
from levada.decide.overrides import laid_over
from levada.operator.notifications import Notifier
from levada.operator.store import Key, Store


def run_facts(store: Store, key: Key, *, now: datetime, settings: Settings) -> RunFacts | None:
    """The facts about a run; None if the store does not know it."""
    run = store.runs.get(key)
    if run is None:
        return None
    deployment = store.deployments.get(Key(run.namespace, run.deployment))
    flow_key = Key(run.namespace, run.pin.name if run.pin is not None else deployment.flow if deployment else "")
    flow = store.flows.get(flow_key)
    code = store.codes.get(flow_key)
    known_code = code is not None and flow is not None and code[:2] == (flow.uid, flow.generation)
    jobs = tuple(store.jobs.get(key, {}).values())
    mine = tuple(job for job in jobs if job.owner_uid == run.uid)
    return RunFacts(
        now=now,
        run=run,
        jobs=mine,
        # A pod of an earlier run of this name may still be leaving: it is not this run's.
        pods=tuple(pod for pod in store.pods.get(key, {}).values() if pod.run_uid == run.uid),
        deployment=laid_over(deployment, run) if deployment is not None else None,
        flow=flow,
        signature=code[2].signature if known_code and code is not None else None,
        queue=_queue_facts(store, key, run, deployment),
        job_seen=store.job_seen(run),
        foreign_job=_foreign_job(run, jobs),
        announced=run.uid in store.announced,
        waits_for=store.waits_for(run) if run.attempt == 0 else "",
        settings=settings,
    )


def _foreign_job(run: RunView, jobs: tuple[JobView, ...]) -> JobView | None:
    wanted = job_name(run.name, run.attempt + 1)
    return next((job for job in jobs if job.name == wanted and job.owner_uid != run.uid), None)


def _queue_facts(store: Store, key: Key, run: RunView, deployment: DeploymentView | None) -> QueueFacts:
    queue = Key(run.namespace, deployment.queue if deployment is not None else run.queue)
    view = store.queues.get(queue)
    if run.admitted or deployment is None:
        return QueueFacts(view=view)
    mine, of_queue, of_operator = store.line.rooms(key)
    replaces = mine.taken and deployment.concurrency_policy == REPLACE
    replaceable = store.replaceable(Key(run.namespace, run.deployment)) if replaces else ()
    return QueueFacts(view=view, deployment=mine, queue=of_queue, operator=of_operator, replaceable=replaceable)


def deployment_facts(
    store: Store, key: Key, notifier: Notifier, *, now: datetime, settings: Settings
) -> DeploymentFacts | None:
    """The facts about a Deployment."""
    deployment = store.deployments.get(key)
    if deployment is None:
        return None
    flow_key = Key(key.namespace, deployment.flow)
    flow, code = store.flows.get(flow_key), store.codes.get(flow_key)
    known_code = code is not None and flow is not None and code[:2] == (flow.uid, flow.generation)
    refused = store.refused.get(key)
    return DeploymentFacts(
        now=now,
        deployment=deployment,
        flow=flow,
        signature=code[2].signature if known_code and code is not None else None,
        job_refused=refused[2]
        if refused is not None and refused[:2] == (deployment.uid, deployment.generation)
        else "",
        settings=settings,
        notifications=notifier.holding(key),
        health=notifier.health(key),
        archive_trouble=store.archive_troubles.get(key),
    )
