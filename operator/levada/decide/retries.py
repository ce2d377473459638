"""Retries: may this run have another attempt, and when?

Asked when an attempt has failed. Knows nothing of Kubernetes: the failure arrives as blame and whether a repetition can help.
Cancellation wins over retries and is handled before this module is asked.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from levada.decide.definitions import DeploymentView, RetryPolicy
from levada.decide.diagnosis import Blame
from levada.decide.facts import RunView
from levada.decide.failure_policy import RETRY_INFRASTRUCTURE


@dataclass(frozen=True, slots=True)
class Retry:
    """The next attempt."""

    attempt: int
    at: datetime


def next_attempt(deployment: DeploymentView, run: RunView, blame: Blame | None, now: datetime) -> Retry | None:
    """The next attempt, or None if the run has failed for good.

    An eviction or a lost node does not use up a try: the user's code did not fail. And the other way round.
    """
    infrastructure = blame is Blame.INFRASTRUCTURE
    policy = deployment.infrastructure_retries if infrastructure else deployment.retries
    failures = run.infrastructure_failures if infrastructure else run.code_failures
    if failures >= policy.limit:
        return None
    wait_s = backoff_s(policy, failures, jitter_key=f"{run.uid}/{run.attempt}")
    return Retry(run.attempt + 1, now + timedelta(seconds=wait_s))


def backoff_s(policy: RetryPolicy, failures: int, *, jitter_key: str) -> float:
    """Seconds to wait after so many earlier failures: doubling up to the maximum, then 75 to 100 % of it.

    Jitter, because thousands of runs that failed with one node must not come back in one second; from a hash, because a
    restarted operator must come to the same answer.
    """
    full_s = min(policy.delay_s * 2.0 ** min(failures, 30), policy.max_delay_s)
    share = int.from_bytes(hashlib.blake2b(jitter_key.encode(), digest_size=4).digest()) / 2**32
    return round(full_s * (0.75 + 0.25 * share), 3)


def retries_left(deployment: DeploymentView, run: RunView) -> int:
    """How many more times the flow itself may fail after the attempt that is about to start.

    A runner without any left reports the end. So where a rule may take the retry from the other budget, that one counts too:
    the operator decides when the pod has ended.
    """
    left = deployment.retries.limit - run.code_failures
    if any(rule.action == RETRY_INFRASTRUCTURE for rule in deployment.failure_rules):
        left = max(left, deployment.infrastructure_retries.limit - run.infrastructure_failures)
    return max(0, left)
