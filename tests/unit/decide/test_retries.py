"""May the run have another attempt, and when?"""

import pytest

from levada.decide.definitions import RetryPolicy
from levada.decide.diagnosis import Blame
from levada.decide.retries import backoff_s, next_attempt, retries_left
from support.facts import T0, a_deployment, a_run, s

CODE, INFRA = Blame.CODE, Blame.INFRASTRUCTURE


@pytest.mark.parametrize(
    ("case", "code_limit", "infra_limit", "run", "blame", "expected"),
    [
        ("the first failure is retried", 2, 3, {"attempt": 1}, CODE, 2),
        ("the limit counts retries", 2, 3, {"attempt": 3, "code_failures": 2}, CODE, None),
        ("no retries by default", 0, 3, {"attempt": 1}, CODE, None),
        ("an eviction uses up no retry of the code's", 0, 3, {"attempt": 1}, INFRA, 2),
        ("nor does the code's failure use up one for evictions", 2, 1, {"attempt": 3, "code_failures": 2}, INFRA, 4),
        ("evictions have a limit too", 9, 1, {"attempt": 2, "infrastructure_failures": 1}, INFRA, None),
    ],
)
def test_next_attempt(*, case, code_limit, infra_limit, run, blame, expected):
    deployment = a_deployment(retries=RetryPolicy(code_limit), infrastructure_retries=RetryPolicy(infra_limit))
    found = next_attempt(deployment, a_run(**run), blame, T0)
    assert (found.attempt if found else None) == expected


@pytest.mark.parametrize(("failures", "full"), [(0, 10), (1, 20), (2, 40), (3, 60), (99, 60)])
def test_the_wait_doubles_up_to_the_maximum_with_jitter_below(failures, full):
    waits = {backoff_s(RetryPolicy(9, 10, 60), failures, jitter_key=str(n)) for n in range(50)}
    assert all(full * 0.75 <= wait <= full for wait in waits)
    assert len(waits) > 40, "runs that failed together must not come back together"


def test_the_wait_is_the_same_after_a_restart():
    assert len({next_attempt(a_deployment(), a_run(attempt=1), INFRA, T0) for _ in range(3)}) == 1


def test_no_wait_when_the_deployment_wants_none():
    assert next_attempt(
        a_deployment(infrastructure_retries=RetryPolicy(1, 0, 0)), a_run(attempt=1), INFRA, T0
    ).at == T0 + s(0)


def test_retries_left_never_goes_below_none():
    deployment = a_deployment(retries=RetryPolicy(2))
    assert [retries_left(deployment, a_run(code_failures=n)) for n in range(4)] == [2, 1, 0, 0]
