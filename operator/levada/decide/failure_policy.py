"""The Deployment's failurePolicy: what its author knows about exit codes and reasons goes before our own judgement.

The first rule that fits decides, as in the podFailurePolicy of a Job. Pure: a diagnosis in, a diagnosis out.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from levada.decide.definitions import FailureRule
from levada.decide.diagnosis import Blame, Diagnosis
from levada.decide.facts import PodView

FAIL: Final = "Fail"
RETRY: Final = "Retry"
RETRY_INFRASTRUCTURE: Final = "RetryInfrastructure"


def judged(found: Diagnosis, pod: PodView | None, rules: Sequence[FailureRule]) -> Diagnosis:
    """The diagnosis as the rules have it: whether to repeat the attempt, and from which budget."""
    code = found.exit_code if found.exit_code is not None or pod is None else pod.exit_code
    reasons = reasons_of(found, pod)
    for number, rule in enumerate(rules, start=1):
        if _fits(rule, code, reasons):
            return _ACTIONS[rule.action](replace(found, exit_code=code, rule=number))
    return found


def reasons_of(found: Diagnosis, pod: PodView | None) -> frozenset[str]:
    """Every name that the failure goes by: our category, and what Kubernetes calls it."""
    names = {found.category}
    if pod is not None:
        names |= {pod.reason, pod.exit_reason, pod.disruption, "DisruptionTarget" if pod.disruption else ""}
    return frozenset(names - {""})


def _fits(rule: FailureRule, code: int | None, reasons: frozenset[str]) -> bool:
    if rule.reasons and not reasons & rule.reasons:
        return False
    return not rule.codes or (bool(code) and (code in rule.codes) == rule.codes_in)


_ACTIONS: Final[dict[str, Callable[[Diagnosis], Diagnosis]]] = {
    FAIL: lambda found: replace(found, retry=False),
    RETRY: lambda found: replace(found, retry=True, blame=Blame.CODE),
    RETRY_INFRASTRUCTURE: lambda found: replace(found, retry=True, blame=Blame.INFRASTRUCTURE),
}
