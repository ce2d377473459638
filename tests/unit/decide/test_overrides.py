"""What a run may have otherwise than its Deployment: by name, and nothing else."""

from dataclasses import replace

import pytest

from levada.decide import overrides
from levada.decide.definition_views import deployment_view
from levada.decide.definitions import RetryPolicy
from levada.decide.manifest import Code, build_job
from levada.decide.run import decide_run
from levada.decide.views import run_view
from levada.resources.deployment import OVERRIDABLE, Infrastructure, Overrides
from support.facts import SETTINGS, T0, a_deployment, a_run, facts, s

EVERYTHING = {
    "image": "other:1",
    "resources": {"requests": {"memory": "8Gi"}},
    "nodeSelector": {"gpu": "yes"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "timeoutSeconds": 60,
    "retries": {"limit": 4, "delaySeconds": 1, "maxDelaySeconds": 2},
    "env": [{"name": "MODE", "value": "big"}, {"name": "LEVEL", "value": "3"}],
}
ALL = frozenset({*OVERRIDABLE, "env.MODE", "env.LEVEL"})
BASE = {
    "image": "base:1",
    "resources": {"requests": {"memory": "1Gi", "cpu": "1"}, "limits": {"memory": "9Gi"}},
    "nodeSelector": {"gpu": "no", "zone": "a"},
    "tolerations": [{"key": "spot"}],
    "env": [{"name": "MODE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, {"name": "KEPT", "value": "1"}],
}


def a_base(**fields):
    return a_deployment(
        **{"infrastructure": BASE, "timeout_s": 10, "retries": RetryPolicy(1), "allow_overrides": ALL} | fields
    )


@pytest.mark.parametrize(
    ("case", "allowed", "given", "closed"),
    [
        ("nothing is overridden", set(), {}, []),
        ("what is not opened is closed", set(), {"image": "x"}, ["image"]),
        ("each field is opened by itself", {"resources"}, {"image": "x", "resources": {"limits": {}}}, ["image"]),
        ("a variable is opened by its name", {"env.A"}, {"env": [{"name": "A"}, {"name": "B"}]}, ["env.B"]),
        ("no entry opens all variables", {"env.", "env"}, {"env": [{"name": "A", "value": "1"}]}, ["env.A"]),
        ("a field of a later version is closed", ALL, {"serviceAccountName": "mighty"}, ["serviceAccountName"]),
        ("defaults of the schema override nothing", set(), {"env": [], "tolerations": [], "image": None}, []),
    ],
)
def test_what_is_closed(case, allowed, given, closed):
    deployment, run = a_base(allow_overrides=frozenset(allowed)), a_run(overrides=given)
    assert overrides.closed(deployment, given) == closed
    found = overrides.problem(deployment, run)
    assert (found is None) == (not closed)
    if found:
        assert found[0] == "OverrideNotAllowed"
        assert closed[0] in found[1]
        assert "spec.allowOverrides" in found[1]


def test_everything_that_is_open_is_laid_over():
    made = overrides.laid_over(a_base(), a_run(overrides=EVERYTHING))
    assert made.infrastructure == {
        "image": "other:1",
        "resources": {"requests": {"memory": "8Gi", "cpu": "1"}, "limits": {"memory": "9Gi"}},
        "nodeSelector": {"gpu": "yes", "zone": "a"},
        "tolerations": [{"key": "spot"}, {"key": "gpu", "operator": "Exists"}],
        "env": [
            {"name": "KEPT", "value": "1"},
            {"name": "MODE", "value": "big"},
            {"name": "LEVEL", "value": "3"},
        ],
    }
    assert (made.timeout_s, made.retries) == (60, RetryPolicy(4, 1.0, 2.0))


@pytest.mark.parametrize("closed", sorted(ALL))
def test_one_that_is_closed_is_not_taken_over(closed):
    base = a_base(allow_overrides=ALL - {closed})
    made = overrides.laid_over(base, a_run(overrides=EVERYTHING))
    everything = overrides.laid_over(a_base(), a_run(overrides=EVERYTHING))
    assert made != replace(everything, allow_overrides=base.allow_overrides)
    if closed.startswith("env."):
        name = closed.removeprefix("env.")
        value = {item["name"]: item.get("value") for item in made.infrastructure["env"]}.get(name)
        assert value != {item["name"]: item["value"] for item in EVERYTHING["env"]}[name]


def test_the_deployment_itself_stays_as_it_was():
    base = a_base()
    overrides.laid_over(base, a_run(overrides=EVERYTHING))
    assert base == a_base()


def test_a_value_cannot_read_another_variable():
    made = overrides.laid_over(a_base(), a_run(overrides={"env": [{"name": "MODE", "value": "$(TOKEN) $$"}]}))
    assert made.infrastructure["env"][-1] == {"name": "MODE", "value": "$$(TOKEN) $$$$"}


def test_no_override_is_a_right_or_a_secret():
    """What the schema lets a run say at all: a field added here needs a thought about what it gives away."""
    fields = {field.alias or name for name, field in Overrides.model_fields.items()}
    assert fields == {*OVERRIDABLE, "env"}
    never = {"serviceAccountName", "imagePullSecrets", "envFrom", "podTemplate"}
    assert never < {field.alias for field in Infrastructure.model_fields.values()}
    assert not never & fields


def test_the_job_has_what_the_run_overrides():
    made = overrides.laid_over(a_base(), a_run(overrides=EVERYTHING))
    job = build_job(a_run(), made, Code("f", "f.py:main", "."), attempt=1, parameters="{}", settings=SETTINGS, now=T0)
    spec = job["spec"]["template"]["spec"]
    assert spec["containers"][0]["image"] == "other:1"
    assert job["spec"]["activeDeadlineSeconds"] == 60
    assert spec["serviceAccountName"] == "levada-runner"


def test_a_run_that_overrides_what_is_closed_fails_at_once():
    plan = decide_run(facts(a_run(overrides={"image": "evil"}), deployment=a_deployment()))
    assert plan.create_job is None
    assert (plan.status["phase"], plan.status["reason"]) == ("Failed", "OverrideNotAllowed")
    assert "image" in plan.status["message"]


def test_what_was_closed_meanwhile_ends_the_run_before_its_next_attempt():
    run = a_run(phase="Retrying", attempt=1, attempts=({"number": 1},), next_attempt_at=T0, overrides={"image": "x"})
    opened = decide_run(facts(run, at=T0 + s(1), deployment=a_deployment(allow_overrides=frozenset({"image"}))))
    closed = decide_run(facts(run, at=T0 + s(1), deployment=a_deployment()))
    assert opened.create_job is not None
    assert closed.status["reason"] == "OverrideNotAllowed"
    assert closed.create_job is None


def test_views_read_both_sides():
    meta = {"name": "d", "creationTimestamp": "2026-03-01T12:00:00Z"}
    run = run_view({"metadata": meta, "spec": {"deploymentRef": {"name": "d"}, "overrides": {"image": "x"}}})
    deployment = deployment_view({"metadata": meta, "spec": {"flowRef": {"name": "f"}, "allowOverrides": ["image"]}})
    assert (run.overrides, deployment.allow_overrides) == ({"image": "x"}, {"image"})
