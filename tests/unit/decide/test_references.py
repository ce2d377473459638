"""Is what the run names there, and can it be run?"""

import pytest

from levada.decide.code import Signature
from levada.decide.plan import Ask, Plan
from levada.decide.references import find_problem
from levada.decide.run import decide_run
from support.facts import READY, a_deployment, a_flow, a_run, facts

BROKEN = {
    "observedGeneration": 1,
    "conditions": [{"type": "Ready", "status": "False", "reason": "InvalidCode", "message": "line 3"}],
}


@pytest.mark.parametrize(
    ("case", "fields", "reason", "words"),
    [
        ("all is well", {}, None, ""),
        ("no deployment", {"deployment": None, "flow": None}, "DeploymentNotFound", "kubectl get fdep"),
        ("deployment on its way out", {"deployment": a_deployment(deleting=True)}, "DeploymentNotFound", "'d'"),
        ("no flow", {"flow": None}, "FlowNotFound", "'f'"),
        ("broken flow", {"flow": a_flow(status=BROKEN)}, "FlowNotReady", "InvalidCode: line 3"),
        ("a verdict on an older generation counts for nothing", {"flow": a_flow(status=BROKEN, generation=2)}, None, ""),
        ("a wrong name", {"run": a_run(parameters={"b": 1}), "signature": Signature(("a",), frozenset())}, "InvalidParameters", "'b'"),
        ("one is missing", {"signature": Signature(("a",), frozenset({"a"}))}, "InvalidParameters", "needs parameter 'a'"),
        ("too large", {"run": a_run(parameters={"a": "x" * 70_000})}, "ParametersTooLarge", "65536"),
        (
            "wrong type",
            {"run": a_run(parameters={"n": "x"}), "flow": a_flow(parameter_schema={"properties": {"n": {"type": "integer"}}})},
            "InvalidParameters", "must be integer, not 'x'",
        ),
    ],
)  # fmt: skip
def test_find_problem(case, fields, reason, words):
    run = fields.pop("run", None)
    found = find_problem(facts(run, **fields))
    assert (found.reason if found else None) == reason
    assert found is None or words in found.message


def test_a_missing_reference_is_waited_for_a_little_then_fails_the_run():
    waits = decide_run(facts(deployment=None, flow=None))
    assert (waits.status["phase"], waits.status["reason"], waits.requeue_after_s) == (
        "Scheduled",
        "DeploymentNotFound",
        10.0,
    )
    fails = decide_run(facts(deployment=None, flow=None, at=10, looked_up=True))
    assert (fails.status["phase"], fails.status["reason"]) == ("Failed", "DeploymentNotFound")


def test_a_missing_reference_is_read_by_name_before_the_run_fails():
    """The watch may be behind, and a terminal phase is final."""
    assert decide_run(facts(deployment=None, flow=None, at=10)) == Plan(ask=Ask("Deployment", "d"))
    assert decide_run(facts(flow=None, at=10)) == Plan(ask=Ask("Flow", "f"))
    on_its_way_out = decide_run(facts(deployment=a_deployment(deleting=True), at=10))
    assert on_its_way_out.status["reason"] == "DeploymentNotFound"


def test_wrong_parameters_fail_the_run_at_once():
    plan = decide_run(facts(a_run(parameters={"b": 1}), signature=Signature(("a",), frozenset())))
    assert (plan.status["phase"], plan.status["reason"]) == ("Failed", "InvalidParameters")


def test_a_flow_that_nobody_has_judged_yet_is_waited_for_without_a_deadline():
    plan = decide_run(facts(flow=a_flow(status={}), at=3600))
    assert plan.status is None and plan.create_job is None


def test_the_run_s_parameters_win_whole_over_the_deployment_s():
    from levada.decide.parameters import merged

    deployment = a_deployment(parameters={"a": {"x": 1, "y": 2}, "b": 1})
    assert merged(deployment, a_run(parameters={"a": {"x": 3}})) == {"a": {"x": 3}, "b": 1}
    assert READY["observedGeneration"] == 1
