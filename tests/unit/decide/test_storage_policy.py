"""Where a Deployment's runs are archived, and where the operator does not go."""

import pytest

from levada.decide.deployment import DeploymentFacts, decide_deployment
from levada.decide.facts import Settings
from levada.decide.manifest import Code, build_job
from levada.decide.storages import is_allowed, storage_of_runs
from support.facts import T0, a_deployment, a_flow, a_run, s


@pytest.mark.parametrize(
    ("case", "own", "default", "expected"),
    [
        ("the Deployment's own wins", "s3://own", "s3://all", "s3://own"),
        ("the operator's is the default", "", "s3://all", "s3://all"),
        ("neither: nothing is archived", "", "", ""),
    ],
)
def test_storage_of_runs(case, own, default, expected):
    assert storage_of_runs(a_deployment(storage=own), Settings(storage=default)) == expected
    assert storage_of_runs(None, Settings(storage=default)) == default


@pytest.mark.parametrize(
    ("case", "url", "settings", "allowed"),
    [
        ("any bucket", "s3://b/x", Settings(), True),
        ("no folder of the operator's machine", "file:///etc", Settings(), False),
        ("the operator's own folder", "file:///data", Settings(storage="file:///data"), True),
        ("a folder in it", "file:///data/team", Settings(storage="file:///data"), True),
        ("one whose name only begins alike", "file:///data2", Settings(storage="file:///data"), False),
        ("no way out of it", "file:///data/../etc", Settings(storage="file:///data"), False),
        ("buckets may be narrowed", "s3://other", Settings(allowed_storages=("s3://team/",)), False),
        ("as said", "s3://team/x", Settings(allowed_storages=("s3://team/",)), True),
    ],
)
def test_is_allowed(case, url, settings, allowed):
    assert is_allowed(url, settings) is allowed


def test_a_deployment_says_where_its_runs_are_archived_and_that_it_may_not():
    facts = DeploymentFacts(T0 + s(3), a_deployment(), a_flow(), settings=Settings(storage="s3://all"))
    plan = decide_deployment(facts)
    assert plan.status["storage"] == "s3://all"
    assert plan.status["conditions"][0]["status"] == "True"
    facts = DeploymentFacts(T0 + s(3), a_deployment(storage="file:///etc"), a_flow())
    (condition,) = decide_deployment(facts).status["conditions"]
    assert (condition["status"], condition["reason"]) == ("False", "StorageNotAllowed")
    gone = DeploymentFacts(T0 + s(3), a_deployment(status={"storage": "s3://all"}), a_flow())
    assert decide_deployment(gone).status["storage"] is None


def test_the_pod_is_told():
    job = build_job(
        a_run(), a_deployment(storage="s3://b/$(x)"), Code("f", "flow.py:main", "."),
        attempt=1, parameters="{}", settings=Settings(), now=T0,
    )  # fmt: skip
    env = {item["name"]: item.get("value") for item in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["LEVADA_STORAGE"] == "s3://b/$$(x)"
