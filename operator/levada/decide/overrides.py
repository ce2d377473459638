"""What a run may say otherwise than its Deployment: only what the Deployment opens by name, in spec.allowOverrides.

An allow-list, so that a field of a later version is closed until somebody opens it. Never to be opened are the service account, Secrets, the
pod template and everything else by which a run could get rights or secrets that its Deployment has not. Parameters and the run's place in
line are a run's own and need no opening.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from levada.decide.definitions import DeploymentView, RetryPolicy
from levada.decide.facts import RunView
from levada.decide.parameters import escape
from levada.resources.names import OVERRIDE_ENV

Overrides = Mapping[str, Any]
_AMOUNTS: Final = ("requests", "limits")


def closed(deployment: DeploymentView, overrides: Overrides) -> list[str]:
    """What is overridden and not open, as spec.allowOverrides would name it."""
    return [name for name in _named(overrides) if name not in deployment.allow_overrides]


def problem(deployment: DeploymentView, run: RunView) -> tuple[str, str] | None:
    """The reason and message if the run overrides what it may not."""
    names = closed(deployment, run.overrides)
    if not names:
        return None
    given = ", ".join(sorted(deployment.allow_overrides)) or "nothing"
    return "OverrideNotAllowed", (
        f"The run overrides {', '.join(names)}, and Deployment {deployment.name!r} opens {given}: leave it out, or have it added to"
        " spec.allowOverrides of the Deployment."
    )


def laid_over(deployment: DeploymentView, run: RunView) -> DeploymentView:
    """The Deployment as the run has it. What is not open is not taken over, whoever asks."""
    overrides = run.overrides
    if not overrides:
        return deployment
    opened = {
        name: overrides[name] for name in _named(overrides) if name in deployment.allow_overrides and name in overrides
    }
    env = [
        item
        for item in overrides.get("env") or ()
        if OVERRIDE_ENV + str(item.get("name")) in deployment.allow_overrides
    ]
    retries = opened.get("retries")
    return replace(
        deployment,
        infrastructure=_infrastructure(deployment.infrastructure, opened, env),
        timeout_s=opened.get("timeoutSeconds", deployment.timeout_s),
        retries=deployment.retries if retries is None else _retries(retries),
    )


def _named(overrides: Overrides) -> Iterator[str]:
    for name, value in overrides.items():
        if name == "env":
            yield from (OVERRIDE_ENV + str(item.get("name")) for item in value or ())
        elif value:  # empty lists are defaults of the schema
            yield name


def _infrastructure(base: Mapping[str, Any], opened: Overrides, env: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    result = dict(base)
    if "image" in opened:
        result["image"] = opened["image"]
    if "resources" in opened:
        # Amount by amount: a run that asks for more memory must not lose the limits that it says nothing about.
        was = base.get("resources") or {}
        amounts = {each: {**(was.get(each) or {}), **(opened["resources"].get(each) or {})} for each in _AMOUNTS}
        result["resources"] = {each: amount for each, amount in amounts.items() if amount}
    if "nodeSelector" in opened:
        result["nodeSelector"] = {**(base.get("nodeSelector") or {}), **opened["nodeSelector"]}
    if "tolerations" in opened:
        result["tolerations"] = [*(base.get("tolerations") or ()), *opened["tolerations"]]
    if env:
        # A value, and as it stands: `$(NAME)` in it would read another variable, perhaps a secret one.
        ours = {item["name"]: {"name": item["name"], "value": escape(item.get("value") or "")} for item in env}
        rest = [item for item in base.get("env") or () if item.get("name") not in ours]
        result["env"] = [*rest, *ours.values()]
    return result


def _retries(spec: Mapping[str, Any]) -> RetryPolicy:
    return RetryPolicy(
        limit=spec.get("limit") or 0,
        delay_s=float(spec.get("delaySeconds", 10)),
        max_delay_s=float(spec.get("maxDelaySeconds", 600)),
    )
