"""From a plan to API calls, in the order that makes a crash between any two harmless: status, Job, stops, other runs.

Events of the run come last, and are written in the background (herald.py).

Every write says what it believes (resource version, uid), so a decision made from old facts is refused, not carried out.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from levada.decide.facts import JobView, Replaceable, RunView
from levada.decide.plan import NORMAL, EventSpec, Plan
from levada.decide.views import controller_uid, job_view, run_view
from levada.kube import AlreadyExists, ApiError, Client, Conflict, ConnectionLost, NotFound, ServerError
from levada.operator.events import About, event_body
from levada.resources.kinds import EVENTS, FLOW_RUNS, JOBS, Kind
from levada.resources.names import FIELD_MANAGER_OPERATOR

log = logging.getLogger(__name__)
Object = dict[str, Any]


class JobRefusedError(Exception):
    """The API server will not create the Job. `decide` says what becomes of the run."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(slots=True)
class Answers:
    """What the API server answered: the newest views, for the store. Filled step by step, so it tells how far we came."""

    run: RunView | None = None
    jobs: tuple[JobView, ...] = ()
    gone: tuple[str, ...] = ()  # names of Jobs that are not there any more
    made: Object | None = None  # the Job that has been created, as it is
    others: tuple[RunView, ...] = ()
    created: bool = False


async def apply_run(client: Client, run: RunView, plan: Plan, answers: Answers, *, now: datetime) -> None:
    """Carry out a plan, all but its Events. Raises at the first step that fails; the steps before it are in `answers`."""
    if plan.status is not None:
        body = await patch_status(
            client, FLOW_RUNS, run.namespace, run.name, plan.status, uid=run.uid, resource_version=run.resource_version
        )
        answers.run = run_view(body)
    if plan.create_job is not None:
        answers.made = await _create_job(client, run, plan.create_job)
        answers.jobs += (job_view(answers.made),)
        answers.created = True
    for name in plan.stop_jobs:
        stopped = await _stop_job(client, run, name)
        if stopped is not None:
            answers.jobs += (stopped,)
        else:
            answers.gone += (name,)
    for other in plan.cancel_runs:
        cancelled = await _cancel_run(client, run, other, now=now)
        if cancelled is not None:
            answers.others += (cancelled,)


async def patch_status(
    client: Client, kind: Kind, namespace: str, name: str, status: Mapping[str, Any], *, uid: str, resource_version: str
) -> Object:
    """Merge into .status, if the object is still the one that was looked at.

    Raises:
        Conflict: it is not.
    """
    body = {"metadata": {"uid": uid, "resourceVersion": resource_version}, "status": dict(status)}
    return await client.patch(kind, name, body, namespace, subresource="status", field_manager=FIELD_MANAGER_OPERATOR)


async def _create_job(client: Client, run: RunView, manifest: Mapping[str, Any]) -> Object:
    """Create the Job; one that is there already and belongs to the run is what was wanted.

    Raises:
        JobRefusedError: it will not be created as it is, or another owner has the name.
    """
    try:
        return await client.create(JOBS, dict(manifest), run.namespace)
    except AlreadyExists:
        found = await client.get(JOBS, manifest["metadata"]["name"], run.namespace)
        if controller_uid(found) != run.uid:
            name = manifest["metadata"]["name"]
            taken = ApiError(409, "JobNameTaken", f"Job {name!r} belongs to somebody else: it must go first.")
            raise JobRefusedError(taken) from None
        return found
    except (Conflict, ServerError):
        raise
    except ApiError as error:
        if error.status in {400, 403, 404, 422}:
            raise JobRefusedError(error) from error
        raise


async def _stop_job(client: Client, run: RunView, name: str) -> JobView | None:
    """Suspend a Job: its controller ends the pods and keeps the Job. None: it is gone.

    One that Kueue has in charge is deleted then: Kueue would start it again.
    """
    try:
        job = job_view(await client.patch(JOBS, name, {"spec": {"suspend": True}}, run.namespace))
        if job.kueue:
            await client.delete(JOBS, name, run.namespace, uid=job.uid)
            return replace(job, deleting=True)
    except NotFound:
        return None
    else:
        return job


async def _cancel_run(client: Client, run: RunView, other: Replaceable, *, now: datetime) -> RunView | None:
    """Ask another run to stop, for this one. None: it is gone, or another one has its name."""
    body = {"metadata": {"uid": other.uid}, "spec": {"cancel": True}}
    try:
        answer = await client.patch(FLOW_RUNS, other.name, body, run.namespace, field_manager=FIELD_MANAGER_OPERATOR)
    except (Conflict, NotFound):
        return None
    why = EventSpec(NORMAL, "Replaced", f"Asked to stop: run {run.name} takes its place.", f"replaced-{run.name}")
    await write_events(client, About(FLOW_RUNS, run.namespace, other.name, other.uid), (why,), now=now)
    return run_view(answer)


async def write_events(client: Client, about: About, specs: Iterable[EventSpec], *, now: datetime) -> None:
    """Tell what happened. An Event is a courtesy: whatever keeps it from being written is logged, not raised."""
    for spec in specs:
        body = event_body(about, spec, now=now)
        try:
            await client.create(EVENTS, body, about.namespace)
        except AlreadyExists:
            pass  # told already, by us or by the operator before us
        except (ApiError, ConnectionLost) as error:
            log.info(
                "event %s of %s %s/%s was not written: %s",
                spec.reason,
                about.kind.kind,
                about.namespace,
                about.name,
                error,
            )
