"""Does what the run names exist, and can it be run? Deployment, Flow, and parameters that fit.

Runs do not trust a Ready condition alone: they look at the Flow itself, so a Flow that was corrected a moment ago counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from levada.decide import overrides, parameters
from levada.decide.definitions import FlowView
from levada.decide.facts import RunFacts
from levada.decide.plan import Ask
from levada.resources.kinds import DEPLOYMENTS, FLOWS


@dataclass(frozen=True, slots=True)
class Problem:
    """What keeps the run from starting.

    `patience`: the missing thing may be the next line of the same `kubectl apply`, so wait for it a little. `look_up`: then read it
    by name, for it may be there and the watch be behind.
    """

    reason: str
    message: str
    patience: bool = True
    look_up: Ask | None = None


def find_problem(facts: RunFacts) -> Problem | None:
    """The first thing that keeps the run from starting, if any."""
    run, deployment, flow = facts.run, facts.deployment, facts.flow
    if deployment is None or deployment.deleting:
        return Problem(
            "DeploymentNotFound",
            f"There is no Deployment {run.deployment!r} in namespace {run.namespace!r}: `kubectl get fdep` lists those there are.",
            look_up=Ask(DEPLOYMENTS.kind, run.deployment) if deployment is None else None,
        )
    if flow is None or flow.deleting:
        return Problem(
            "FlowNotFound",
            f"Deployment {deployment.name!r} names Flow {deployment.flow!r}, which is not in namespace {run.namespace!r}.",
            look_up=Ask(FLOWS.kind, deployment.flow) if flow is None else None,
        )
    ready = ready_condition(flow.status)
    if is_judged(flow) and ready is not None and ready.get("status") == "False":
        words = f"{ready.get('reason')}: {ready.get('message')}"
        return Problem("FlowNotReady", f"Flow {flow.name!r} cannot be run. {words}")
    found = overrides.problem(deployment, run) or parameters.problem(
        parameters.merged(deployment, run), schema=flow.parameter_schema, signature=facts.signature, complete=True
    )
    return Problem(*found, patience=False) if found else None


def is_judged(flow: FlowView) -> bool:
    """Whether the operator has looked at this generation of the Flow. Until then nothing is known, and the run waits."""
    return flow.status.get("observedGeneration") == flow.generation and ready_condition(flow.status) is not None


def ready_condition(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The Ready condition of a Flow, Deployment or Schedule."""
    return next((item for item in status.get("conditions") or () if item.get("type") == "Ready"), None)


def patience_left_s(facts: RunFacts) -> float:
    """Seconds until a missing reference fails the run."""
    due = max(facts.run.created_at, facts.run.scheduled_at or facts.run.created_at)
    return (due + timedelta(seconds=facts.settings.reference_grace_s) - facts.now).total_seconds()
