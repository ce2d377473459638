"""Git says it, the cluster has it: every kind with every field set is applied once, and there is no difference afterwards."""

import json

import pytest

from levada.resources.crds import definition, schema_of, to_yaml
from levada.resources.kinds import LEVADA_KINDS
from support.whole_objects import paths, schema_paths, whole_specs

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("installed")]
MAX_CRD_BYTES = 100_000


@pytest.fixture(scope="module")
def objects():
    return [
        {
            "apiVersion": "levada.dev/v1alpha1",
            "kind": kind.kind,
            "metadata": {"name": f"whole-{number}"},
            "spec": spec,
        }
        for kind in LEVADA_KINDS
        for number, spec in enumerate(whole_specs(kind))
    ]


@pytest.mark.parametrize("kind", LEVADA_KINDS, ids=lambda kind: kind.kind)
def test_the_objects_set_every_field_of_the_schema(kind):
    """A field that this names needs a value in tests/support/whole_objects.py."""
    schema = schema_of(kind)["properties"]["spec"]
    found = {path for spec in whole_specs(kind) for path in paths(spec, schema)}
    assert schema_paths(kind) - found == set()


@pytest.mark.parametrize("way", [["--server-side"], []], ids=["server-side", "client-side"])
def test_every_kind_with_every_field_is_applied_without_drift(kubectl, namespace, objects, way):
    def stored():
        plurals = ",".join(f"{kind.plural}.levada.dev" for kind in LEVADA_KINDS)
        items = json.loads(kubectl("get", plurals, "-n", namespace, "-o", "json"))["items"]
        return {(each["kind"], each["metadata"]["name"]): each for each in items}

    kubectl("apply", *way, "--validate=strict", "-n", namespace, "-f", "-", stdin=objects)
    first = stored()
    assert len(first) == len(objects)
    assert kubectl("diff", *way, "-n", namespace, "-f", "-", stdin=objects) == ""
    kubectl("apply", *way, "-n", namespace, "-f", "-", stdin=objects)
    again = stored()
    for key, each in first.items():
        assert again[key]["metadata"]["resourceVersion"] == each["metadata"]["resourceVersion"], key
        assert again[key]["metadata"]["generation"] == 1, key


def test_a_status_that_somebody_writes_is_no_difference(kubectl, namespace, objects):
    mine = [each for each in objects if each["kind"] in {"Deployment", "Schedule"}]
    kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=mine)
    for each in mine:
        patch = '{"status": {"observedGeneration": 1}}'
        resource = f"{each['kind'].lower()}s.levada.dev"
        kubectl("patch", resource, each["metadata"]["name"], "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)  # fmt: skip
    assert kubectl("diff", "--server-side", "-n", namespace, "-f", "-", stdin=mine) == ""


@pytest.mark.parametrize("kind", LEVADA_KINDS, ids=lambda kind: kind.kind)
def test_each_definition_is_below_100_kb(kubectl, kind):
    """In YAML, and as the API server stores it: client-side tools put the whole of it into an annotation of at most 256 KiB."""
    assert len(to_yaml(definition(kind)).encode()) < MAX_CRD_BYTES
    stored = json.loads(kubectl("get", "crd", f"{kind.plural}.levada.dev", "-o", "json"))
    stored["metadata"].pop("managedFields", None)
    assert len(json.dumps(stored, separators=(",", ":"))) < MAX_CRD_BYTES
