"""What `levada doctor` reads, of a cluster that says yes and of one that says no."""

import asyncio
from datetime import UTC, datetime

import pytest

from levada.cli import doctor
from levada.decide.doctor import findings
from levada.kube.errors import Forbidden
from levada.resources.crds import generate
from levada.resources.kinds import CUSTOM_RESOURCE_DEFINITIONS, FLOW_RUNS, LEASES, LEVADA_KINDS, NODES


class Cluster:
    """Answers as an API server does."""

    namespace = "team"

    def __init__(self, objects, *, allowed=True):
        self.objects, self.allowed, self.reviews = objects, allowed, []

    async def request(self, method, path, *, body=None):
        if path == "/version":
            return {"major": "1", "minor": "36", "gitVersion": "v1.36.3"}
        if path.endswith("selfsubjectaccessreviews"):
            assert method == "POST"
            self.reviews.append(body["spec"]["resourceAttributes"])
            return {"status": {"allowed": self.allowed}}
        return {"resources": [{"name": kind.plural} for kind in LEVADA_KINDS]}

    async def list(self, kind, _namespace=None):
        if not self.allowed:
            raise Forbidden(403, "Forbidden", f"no {kind.plural} for you")
        return self.objects.get(kind, []), "1"


def levels(cluster):
    facts = asyncio.run(doctor.facts_of(cluster, "team", [("Sun, 01 Mar 2026 12:00:00 GMT", 1772366400.7)]))
    return {each.check: str(each.level) for each in findings(facts)}


def test_a_cluster_that_is_fit():
    now = datetime.now(UTC).isoformat()
    node = {"metadata": {"name": "n"}, "spec": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    lease = {"metadata": {"name": "levada-operator-1a2b"}, "spec": {"holderIdentity": "a", "renewTime": now}}
    cluster = Cluster({CUSTOM_RESOURCE_DEFINITIONS: list(generate().values()), NODES: [node], LEASES: [lease]})
    assert {check for check, level in levels(cluster).items() if level != "ok"} == {"admission"}  # it has no policies
    assert {(each["verb"], each["resource"]) for each in cluster.reviews} >= {
        ("create", "flowruns"),
        ("list", "deployments"),
    }


def test_a_viewer_without_rights_is_told_so():
    found = levels(Cluster({}, allowed=False))
    assert found["rights"] == "fail"
    assert found["operator"] == "warn"
    assert {found[check] for check in ("cluster", "clock", "definitions", "nodes", "admission")} == {"ok"}


def test_a_run_that_nobody_has_looked_at():
    run = {"metadata": {"name": "r", "creationTimestamp": "2026-03-01T11:00:00Z"}, "spec": {}}
    assert levels(Cluster({FLOW_RUNS: [run]}))["operator"] == "fail"


@pytest.mark.parametrize(
    ("dates", "skew_s"),
    [([], None), ([("Sun, 01 Mar 2026 12:00:00 GMT", 1772366400.5)], 0.0),
     ([("Sun, 01 Mar 2026 12:00:00 GMT", 1772366499.5), ("Sun, 01 Mar 2026 12:00:09 GMT", 1772366379.5)], -30.0)],
)  # fmt: skip
def test_the_nearest_answer_tells_the_skew(dates, skew_s):
    assert doctor.skew_seconds(dates) == skew_s
