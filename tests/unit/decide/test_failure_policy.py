"""What the Deployment's failurePolicy makes of a failure: the first rule that fits decides."""

import json

import pytest

from levada.decide.definition_views import deployment_view
from levada.decide.definitions import FailureRule, RetryPolicy
from levada.decide.diagnosis import Blame, Diagnosis, why_ended
from levada.decide.failure_policy import judged
from levada.decide.retries import retries_left
from levada.decide.run import decide_run
from levada.resources.phases import RunPhase
from support.facts import T0, a_deployment, a_job, a_pod, a_run, facts, s

CODE, INFRA = Blame.CODE, Blame.INFRASTRUCTURE


def rule(action, *codes, reasons=(), **fields):
    return FailureRule(action, frozenset(codes), reasons=frozenset(reasons), **fields)


OOM = a_pod(exit_code=137, exit_reason="OOMKilled")
EVICTED = a_pod(exit_code=143, disruption="TerminationByKubelet")
BAD_IMAGE = a_pod(exit_code=128, exit_reason="StartError")


@pytest.mark.parametrize(
    ("case", "rules", "pod", "expected"),
    [
        ("no rule", [], a_pod(exit_code=3), (CODE, True, None)),
        ("exit code fails at once", [rule("Fail", 3)], a_pod(exit_code=3), (CODE, False, 1)),
        ("another exit code does not fit", [rule("Fail", 4)], a_pod(exit_code=3), (CODE, True, None)),
        ("all but these", [rule("Fail", 3, codes_in=False)], a_pod(exit_code=4), (CODE, False, 1)),
        ("all but these, and it is one of them", [rule("Fail", 3, codes_in=False)], a_pod(exit_code=3), (CODE, True, None)),
        ("no exit code is in no set", [rule("Fail", 3, codes_in=False)], a_pod(phase="Failed", reason="Evicted"), (INFRA, True, None)),
        ("the first that fits", [rule("Fail", 4), rule("RetryInfrastructure", 3), rule("Fail", 3)], a_pod(exit_code=3), (INFRA, True, 2)),
        ("the pod's reason", [rule("Fail", reasons=["OOMKilled"])], OOM, (CODE, False, 1)),
        ("the run's reason", [rule("RetryInfrastructure", reasons=["OutOfMemory"])], OOM, (INFRA, True, 1)),
        ("Kubernetes' condition", [rule("Retry", reasons=["DisruptionTarget"])], EVICTED, (CODE, True, 1)),
        ("its reason", [rule("Fail", reasons=["TerminationByKubelet"])], EVICTED, (INFRA, False, 1)),
        ("both must fit", [rule("Fail", 1, reasons=["OOMKilled"])], OOM, (CODE, True, None)),
        ("both fit", [rule("Fail", 137, reasons=["OOMKilled"])], OOM, (CODE, False, 1)),
        ("a rule may retry what we would not", [rule("Retry", 128)], BAD_IMAGE, (CODE, True, 1)),
    ],
)  # fmt: skip
def test_the_first_rule_that_fits_decides(*, case, rules, pod, expected):
    found = judged(why_ended(pod, a_job(), T0 + s(60)), pod, rules)
    assert (found.blame, found.retry, found.rule) == expected


def test_a_flow_s_own_failure_has_the_exit_code_of_its_pod():
    found = Diagnosis("FlowFailed", "ValueError", "", CODE, retry=True, phase=RunPhase.FAILED)
    judgement = judged(found, a_pod(exit_code=42), [rule("Fail", 42)])
    assert (judgement.retry, judgement.exit_code) == (False, 42)


AGAIN = json.dumps({"levada": 1, "phase": "Retrying", "reason": "FlowFailed", "message": "no"})
RUNNING = {"attempt": 1, "phase": "Running", "pod_name": "r-1-abcde", "started_at": T0 + s(1)}


@pytest.mark.parametrize(
    ("case", "rules", "expected"),
    [
        ("retries left, but the rule says no", [rule("Fail", 1)], ("Failed", None, 1)),
        ("the cluster's budget", [rule("RetryInfrastructure", reasons=["FlowFailed"])], ("Retrying", 1, None)),
        ("the code's", [], ("Retrying", None, 1)),
    ],
)
def test_a_failure_counts_for_the_budget_that_the_rule_names(*, case, rules, expected):
    deployment = a_deployment(retries=RetryPolicy(2), failure_rules=tuple(rules))
    pods = [a_pod(exit_code=1, termination_message=AGAIN)]
    status = decide_run(facts(a_run(**RUNNING), deployment=deployment, jobs=[a_job()], pods=pods, at=6)).status
    assert (status["phase"], status.get("infrastructureFailures"), status.get("codeFailures")) == expected
    assert status["attempts"][0].get("exitCode") == (1 if rules else None), "a rule that decided shows what it saw"


def test_a_runner_leaves_the_end_to_the_operator_where_a_rule_may_take_the_other_budget():
    moved = a_deployment(failure_rules=(rule("RetryInfrastructure", 3),))
    assert [retries_left(moved, a_run(infrastructure_failures=n)) for n in range(5)] == [3, 2, 1, 0, 0]
    assert retries_left(a_deployment(failure_rules=(rule("Fail", 3),)), a_run()) == 0


def test_rules_as_the_api_spells_them():
    spec = {
        "flowRef": {"name": "f"},
        "failurePolicy": {
            "rules": [
                {"action": "Fail", "onExitCodes": {"operator": "NotIn", "values": [1, 2]}},
                {"action": "Retry", "onReasons": ["OOMKilled"]},
            ]
        },
    }
    view = deployment_view({"metadata": {"name": "d", "namespace": "ns"}, "spec": spec})
    assert view.failure_rules == (rule("Fail", 1, 2, codes_in=False), rule("Retry", reasons=["OOMKilled"]))
