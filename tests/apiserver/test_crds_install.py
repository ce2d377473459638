"""The definitions on a real API server: accepted, explained, shown, selected, applied without a rest."""

import json
from pathlib import Path

import pytest

from levada.resources.kinds import LEVADA_KINDS

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("installed")]
CRDS = Path(__file__).parents[2] / "crds"

EXAMPLES = {
    "Flow": {"entrypoint": "flow.py:main", "source": {"inline": "from levada import flow\n"}, "parameterSchema": {"a": {"b": [1]}}},
    "Deployment": {
        "flowRef": {"name": "etl"},
        "parameters": {"date": None, "sizes": [1, 2.5, {"deep": {"er": None}}]},
        "tags": ["a", "b"],
        "infrastructure": {
            "env": [{"name": "B", "value": "1"}, {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"cpu": "500m"}},
            "podTemplate": {"spec": {"priorityClassName": "high"}},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
        },
        "retries": {"limit": 2},
    },
    "Schedule": {"deploymentRef": {"name": "etl"}, "cron": "0 6 * * *", "timeZone": "Europe/Lisbon"},
    "FlowRun": {"deploymentRef": {"name": "etl"}, "parameters": {"x": [None, {"y": None}]}},
    "WorkQueue": {"concurrencyLimit": 5},
    "Backfill": {
        "deploymentRef": {"name": "etl"},
        "cron": "0 6 * * *",
        "startTime": "2026-01-01T00:00:00Z",
        "endTime": "2026-01-02T00:00:00Z",
    },
    "ConcurrencyLimit": {"limit": 3, "slotDecayPerSecond": 0.5},
    "Block": {"type": "s3-bucket", "values": {"bucket": "b", "n": {"m": None}}, "secretRefs": {"key": {"name": "s", "key": "k"}}},
}  # fmt: skip


def an_object(kind, namespace, name="etl"):
    return {
        "apiVersion": "levada.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": EXAMPLES[kind],
    }


def test_the_files_are_accepted_with_strict_validation(kubectl):
    said = kubectl(
        "apply", "--server-side", "--force-conflicts", "--validate=strict", "--dry-run=server", "-f", str(CRDS)
    )
    assert said.count("serverside-applied") == len(LEVADA_KINDS)


def test_the_files_leave_no_difference_once_applied(kubectl):
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    assert kubectl("diff", "--server-side", "--force-conflicts", "-f", str(CRDS)) == ""


def test_the_server_finds_the_schemas_structural(kubectl):
    for crd in json.loads(kubectl("get", "crd", "-o", "json"))["items"]:
        conditions = {each["type"]: each["status"] for each in crd["status"]["conditions"]}
        assert conditions == {"NamesAccepted": "True", "Established": "True"}, crd["metadata"]["name"]


@pytest.mark.parametrize("kind", sorted(EXAMPLES))
@pytest.mark.parametrize("way", [["--server-side"], []], ids=["server-side", "client-side"])
def test_nothing_of_an_object_is_pruned_and_applying_again_changes_nothing(kubectl, namespace, kind, way):
    wanted = an_object(kind, namespace)
    if not way:  # kubectl's older apply takes nulls out of what it sends
        wanted = without_nulls(wanted)
    kubectl("apply", *way, "--validate=strict", "-f", "-", stdin=wanted)
    resource = f"{kind.lower()}s.levada.dev"
    stored = json.loads(kubectl("get", resource, "etl", "-n", namespace, "-o", "json"))
    assert contains(stored["spec"], wanted["spec"])
    assert kubectl("diff", *way, "-f", "-", stdin=wanted) == ""
    kubectl("apply", *way, "-f", "-", stdin=wanted)
    again = json.loads(kubectl("get", resource, "etl", "-n", namespace, "-o", "json"))
    assert again["metadata"]["generation"] == stored["metadata"]["generation"] == 1


def without_nulls(value):
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def contains(found, wanted):
    """Whether all that was given is there; the server may have added defaults."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(key in found and contains(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(contains, found, wanted))
    return found == wanted and type(found) is type(wanted)


def test_two_field_managers_share_a_deployment(kubectl, namespace):
    """A list of env is merged by name, parameters by key."""
    first = an_object("Deployment", namespace)
    kubectl("apply", "--server-side", "--field-manager=first", "-f", "-", stdin=first)
    second = {
        **first,
        "spec": {
            "flowRef": {"name": "etl"},
            "parameters": {"more": 1},
            "infrastructure": {"env": [{"name": "C", "value": "3"}]},
        },
    }
    kubectl("apply", "--server-side", "--field-manager=second", "-f", "-", stdin=second)
    spec = json.loads(kubectl("get", "fdep", "etl", "-n", namespace, "-o", "json"))["spec"]
    assert [each["name"] for each in spec["infrastructure"]["env"]] == ["B", "A", "C"]
    assert set(spec["parameters"]) == {"date", "sizes", "more"}


@pytest.mark.parametrize(
    ("short", "header"),
    [
        ("flow", "NAME ENTRYPOINT READY REASON AGE"),
        ("fdep", "NAME FLOW QUEUE PAUSED READY REASON AGE"),
        ("fsched", "NAME DEPLOYMENT CRON EVERY ZONE SUSPEND NEXT LAST READY REASON AGE"),
        ("fr", "NAME PHASE TASKS NOW REASON DEPLOYMENT AGE"),
        ("wq", "NAME LIMIT PRIORITY PAUSED ACTIVE WAITING AGE"),
        ("climit", "NAME LIMIT ACTIVE WAITING PER-SECOND AGE"),
        ("block", "NAME TYPE AGE"),
    ],
)
def test_columns_and_short_names(kubectl, namespace, short, header):
    kubectl("apply", "-f", "-", stdin=[an_object(kind, namespace) for kind in EXAMPLES])
    lines = kubectl("get", short, "-n", namespace).splitlines()
    assert lines[0].split() == header.split()
    assert lines[1].startswith("etl ")


def test_the_columns_of_a_run_say_where_it_stands(kubectl, namespace):
    kubectl("apply", "-f", "-", stdin=an_object("FlowRun", namespace))
    status = {
        "phase": "Running",
        "progress": "3/6",
        "currentTask": "train-0",
        "reason": "Started",
        "message": "all well",
    }
    patch = json.dumps({"status": status})
    kubectl("patch", "fr", "etl", "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)
    row = kubectl("get", "fr", "-n", namespace, "--no-headers").split()
    assert row[:6] == ["etl", "Running", "3/6", "train-0", "Started", "etl"]
    assert "all well" in kubectl("get", "fr", "-n", namespace, "-o", "wide")


def test_one_word_lists_all_kinds(kubectl, namespace):
    kubectl("apply", "-f", "-", stdin=[an_object(kind, namespace) for kind in EXAMPLES])
    names = set(kubectl("get", "levada", "-n", namespace, "-o", "name").split())
    assert names == {f"{kind.kind.lower()}.levada.dev/etl" for kind in LEVADA_KINDS}


def test_runs_are_selected_by_phase_and_by_deployment(kubectl, namespace):
    kubectl("apply", "-f", "-", stdin=[an_object("FlowRun", namespace, name) for name in ("one", "two", "three")])
    for name, phase in (("one", "Running"), ("two", "Completed")):
        patch = json.dumps({"status": {"phase": phase}})
        kubectl("patch", "fr", name, "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)

    def selected(selector):
        found = kubectl(
            "get", "fr", "-n", namespace, f"--field-selector={selector}", "-o", "jsonpath={.items[*].metadata.name}"
        )
        return sorted(found.split())

    assert selected("status.phase=Running") == ["one"]
    assert selected("status.phase!=Completed") == ["one", "three"]
    assert selected("status.phase=Running,spec.deploymentRef.name=etl") == ["one"]
    assert selected("spec.deploymentRef.name=other") == []


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("fr.status.phase", "Where the run stands"),
        ("fr.spec.deploymentRef.name", "Name of the object"),
        ("fr.status.tasks", "The task runs by id"),
        ("fdep.spec.infrastructure.env.valueFrom", "secretKeyRef"),
        ("deployments.levada.dev", "How a flow is run"),
        ("flows.levada.dev.spec.source", "exactly one of inline, configMap, image, s3 and git"),
        ("fsched.spec.catchUp", "ticks missed"),
        ("wq.spec.concurrencyLimit", "How many runs may go at once"),
        ("block.spec.secretRefs", "the Secret and key that hold it"),
    ],
)
def test_kubectl_explain_helps(kubectl, path, words):
    assert words in " ".join(kubectl("explain", path).split())
