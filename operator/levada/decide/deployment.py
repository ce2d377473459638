"""What to do about a Deployment or a WorkQueue: say in the Ready condition whether runs can start, and if not, why."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from levada.decide import parameters
from levada.decide.code import Signature
from levada.decide.definitions import DeploymentView, FlowView, Notification, QueueView
from levada.decide.facts import Settings
from levada.decide.notifications import HEALTHY, HEALTHY_SO_FAR, Health, health_condition, since_patch, template_verdict
from levada.decide.plan import EventSpec
from levada.decide.readiness import READY, Verdict, ready_patch
from levada.decide.references import is_judged, ready_condition
from levada.decide.storages import archived_condition, storage_of_runs, storage_problem
from levada.resources.names import CONDITION_ARCHIVED

# One `kubectl apply` of both may show us the Deployment first: no reason to cry.
APPLY_GRACE_S: Final = 3.0
# A Secret that is mounted for a notification shows itself only to who looks.
LOOK_AGAIN_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class DeploymentFacts:
    """Everything known about one Deployment. `job_refused`: what the API server said to a dry run of its Job, if it said no.

    `notifications`: those that hold for its runs, the namespace's and the cluster's among them; `health`: how they do.
    """

    now: datetime
    deployment: DeploymentView
    flow: FlowView | None = None
    signature: Signature | None = None
    job_refused: str = ""
    settings: Settings = field(default_factory=Settings)
    notifications: tuple[Notification, ...] = ()
    health: Health = HEALTHY_SO_FAR
    # What the storage last said to the operator: None: nothing yet; empty: it took what it was given.
    archive_trouble: str | None = None


@dataclass(frozen=True, slots=True)
class ConditionPlan:
    """One status write and the Events that go with it. `requeue_after_s`: look again then even if nothing changes."""

    status: Mapping[str, Any] | None = None
    events: tuple[EventSpec, ...] = ()
    requeue_after_s: float | None = None


def decide_deployment(facts: DeploymentFacts) -> ConditionPlan:
    """Judge the Deployment. Nothing is said while its Flow has not been judged."""
    deployment = facts.deployment
    if deployment.deleting or (facts.flow is not None and not is_judged(facts.flow)):
        return ConditionPlan()
    age_s = (facts.now - deployment.created_at).total_seconds()
    if (facts.flow is None or facts.health.problems) and age_s < APPLY_GRACE_S:
        return ConditionPlan(requeue_after_s=APPLY_GRACE_S - age_s)
    storage = storage_of_runs(deployment, facts.settings) or None
    old = next((item for item in deployment.status.get("conditions") or () if item.get("type") == HEALTHY), None)
    return ConditionPlan(
        *ready_patch(
            judge(facts),
            status=deployment.status,
            generation=deployment.generation,
            now=facts.now,
            extra={
                **({"storage": storage} if storage or deployment.status.get("storage") else {}),
                **since_patch(deployment.status, facts.notifications, facts.now),
            },
            more=(
                *((health_condition(facts.health, old),) if facts.notifications else ()),
                *(
                    (archived_condition(facts.archive_trouble),)
                    if storage and facts.archive_trouble is not None
                    else ()
                ),
            ),
            without=frozenset({HEALTHY} if storage else {HEALTHY, CONDITION_ARCHIVED}),
        ),
        requeue_after_s=LOOK_AGAIN_S if facts.health.problems else None,
    )


def judge(facts: DeploymentFacts) -> Verdict:
    """The first thing that keeps runs of the Deployment from starting."""
    deployment, flow = facts.deployment, facts.flow
    if flow is None or flow.deleting:
        return Verdict(
            ok=False,
            reason="FlowNotFound",
            message=f"There is no Flow {deployment.flow!r} in namespace {deployment.namespace!r}: `kubectl get flow` lists those there are.",
        )
    ready = ready_condition(flow.status)
    if ready is not None and ready.get("status") == "False":
        words = f"{ready.get('reason')}: {ready.get('message')}"
        return Verdict(ok=False, reason="FlowNotReady", message=f"Flow {flow.name!r} cannot be run. {words}")
    found = parameters.problem(
        deployment.parameters, schema=flow.parameter_schema, signature=facts.signature, complete=False
    )
    if found is not None:
        return Verdict(ok=False, reason=found[0], message=found[1])
    storage = storage_problem(deployment, facts.settings)
    if storage is not None:
        return storage
    if facts.job_refused:
        return Verdict(
            ok=False, reason="InvalidPodTemplate", message=f"The API server would refuse the Job: {facts.job_refused}"
        )
    return template_verdict(deployment.notifications) or READY


def decide_queue(queue: QueueView, now: datetime, *, active: int, waiting: int) -> ConditionPlan:
    """A WorkQueue is always usable; the condition says that it has been seen, and whether it is paused."""
    limit = f"At most {queue.limit} runs at a time." if queue.limit is not None else "No limit."
    verdict = (
        Verdict(ok=True, reason="Paused", message="Starts no runs.")
        if queue.paused
        else Verdict(ok=True, reason="Ready", message=limit)
    )
    counts = {"active": active, "waiting": waiting}
    return ConditionPlan(*ready_patch(verdict, status=queue.status, generation=queue.generation, now=now, extra=counts))
