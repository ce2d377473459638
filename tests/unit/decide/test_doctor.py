"""Each check of `levada doctor`: good, bad, and not allowed to look."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from levada.decide.doctor import DoctorFacts, Level, findings

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def a_definition(name="flowruns.levada.dev", *fields):
    schema = {"properties": {"spec": {"properties": {field: {"type": "string"} for field in fields}}}}
    return {"metadata": {"name": name}, "spec": {"versions": [{"schema": {"openAPIV3Schema": schema}}]}}


def a_lease(renewed="2026-03-01T11:59:58.000000Z", holder="a_1"):
    return {"metadata": {"name": "levada-operator"}, "spec": {"holderIdentity": holder, "renewTime": renewed}}


def a_node(ready="True", **spec):
    return {"metadata": {"name": "n"}, "spec": spec, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


def a_deployment(storage=None):
    return {"metadata": {"name": "etl"}, "spec": {"storage": storage} if storage else {}}


GOOD = DoctorFacts(
    now=NOW,
    namespace="team",
    version="1.36.3",
    skew_s=0.4,
    definitions=[a_definition("flowruns.levada.dev", "cancel")],
    wanted_definitions=[a_definition("flowruns.levada.dev", "cancel")],
    kinds_served=frozenset({"flowruns"}),
    rights={"list flowruns": True, "create flowruns": True},
    leases=[a_lease()],
    deployments=[a_deployment("s3://b/x")],
    nodes=[a_node()],
    policies=frozenset({"p"}),
    policy="p",
)


def test_all_is_well():
    assert {(each.level, each.fix) for each in findings(GOOD)} == {(Level.OK, "")}
    assert len({each.check for each in findings(GOOD)}) == len(findings(GOOD))


@pytest.mark.parametrize(
    ("check", "change", "level", "said"),
    [
        ("cluster", {"version_complaint": "this cluster runs Kubernetes 1.29"}, Level.FAIL, "1.29"),
        ("clock", {"skew_s": -5.0}, Level.WARN, "5 s behind"),
        ("clock", {"skew_s": 90.0}, Level.FAIL, "90 s ahead of"),
        ("clock", {"skew_s": None}, Level.WARN, "does not say"),
        ("definitions", {"definitions": []}, Level.FAIL, "does not have flowruns.levada.dev"),
        ("definitions", {"definitions": [a_definition("flowruns.levada.dev")]}, Level.WARN, "of another version"),
        ("definitions", {"definitions": None}, Level.OK, "you may not read"),
        ("definitions", {"definitions": None, "kinds_served": frozenset()}, Level.FAIL, "does not have flowruns"),
        (
            "rights",
            {"rights": {"list flowruns": True, "create flowruns": False}},
            Level.WARN,
            "may not create flowruns",
        ),
        ("rights", {"rights": {"list flowruns": False}}, Level.FAIL, "may not list flowruns"),
        ("operator", {"leases": []}, Level.WARN, "no operator holds a Lease"),
        ("operator", {"leases": [a_lease(holder="")]}, Level.WARN, "no operator holds a Lease"),
        ("operator", {"leases": None}, Level.WARN, "may not read Leases"),
        ("operator", {"leases": [a_lease("2026-03-01T11:58:00Z")]}, Level.FAIL, "silent for 120 s"),
        ("operator", {"leases": None, "unseen_runs": ("r1", "r2")}, Level.FAIL, "no operator looks at 2 runs: r1, r2"),
        ("admission", {"policies": frozenset()}, Level.WARN, "no admission policy"),
        ("admission", {"policies": None}, Level.OK, "may not read"),
        ("storage", {"deployments": [a_deployment()]}, Level.WARN, "end with their pods: etl"),
        ("storage", {"deployments": None}, Level.OK, "no deployments"),
        ("storage", {"unreachable_storages": {"s3://b/x": "no answer"}}, Level.WARN, "s3://b/x: no answer"),
        ("nodes", {"nodes": []}, Level.FAIL, "has no nodes"),
        ("nodes", {"nodes": [a_node(unschedulable=True), a_node("Unknown")]}, Level.FAIL, "none of 2 nodes"),
        ("nodes", {"nodes": [a_node(), a_node("False")]}, Level.OK, "1 ready, 1 not ready"),
        ("nodes", {"nodes": None}, Level.OK, "may not read"),
    ],
)
def test_a_check(check, change, level, said):
    found = next(each for each in findings(replace(GOOD, **change)) if each.check == check)
    assert found.level == level
    assert said in found.message
    assert bool(found.fix) == (level != Level.OK)
