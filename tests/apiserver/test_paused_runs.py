"""A flow in a cluster waits for a person, and reads a variable: by what kubectl writes."""

import json
from collections.abc import Iterator

import pytest

from levada.resources import names
from support.stack import Stack, running_stack, wait_until

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(180)]

CODE = """
from levada import flow, pause_flow_run
from levada.variables import Variable


@flow
def main():
    rate = pause_flow_run(wait_for_input=float, key="approval", timeout=60)
    return [rate, Variable.get("best_zone"), Variable.get("absent", default="none")]
"""
OBJECTS = [
    {
        "kind": "Flow",
        "metadata": {"name": "release"},
        "spec": {"entrypoint": "flow.py:main", "source": {"inline": CODE}},
    },
    {"kind": "Deployment", "metadata": {"name": "release"}, "spec": {"flowRef": {"name": "release"}}},
    {"kind": "Block", "metadata": {"name": "best-zone"}, "spec": {"type": "variable", "values": {"value": "Queens"}}},
    {"kind": "FlowRun", "metadata": {"name": "release-1"}, "spec": {"deploymentRef": {"name": "release"}}},
]


@pytest.fixture(scope="module")
def stack(cluster, installed, tmp_path_factory) -> Iterator[Stack]:
    with running_stack(cluster, tmp_path_factory.mktemp("paused"), agent_name="paused-agent") as running:
        yield running


def test_a_person_lets_a_run_go_on(stack, kubectl, namespace):
    objects = [{"apiVersion": names.API_VERSION, **each} for each in OBJECTS]
    kubectl("-n", namespace, "apply", "--server-side", "-f", "-", stdin=objects)

    def status() -> dict:
        return json.loads(kubectl("-n", namespace, "get", "fr", "release-1", "-o", "json")).get("status", {})

    waiting = wait_until(
        lambda: "Paused" in (said := status()).get("message", "") and said, "the run says that it waits", 60
    )
    command = f"kubectl -n {namespace} annotate flowrun release-1 levada.dev/resume-approval='<float>' --overwrite"
    assert command in waiting["message"]
    assert (waiting["phase"], waiting["reason"]) == ("Paused", "WaitingForInput")
    kubectl(
        "-n", namespace, "annotate", "flowrun", "release-1", "levada.dev/resume-approval=fast"
    )  # no number: it waits on
    kubectl("-n", namespace, "annotate", "flowrun", "release-1", "levada.dev/resume-approval=0.5", "--overwrite")
    ended = wait_until(
        lambda: (said := status()).get("phase") in {"Completed", "Failed", "Crashed"} and said, "the run ends", 60
    )
    assert (ended["phase"], json.loads(ended["result"])) == ("Completed", [0.5, "Queens", "none"]), ended
