"""What the operator's reflectors keep in memory of an object."""

from levada.decide.views import job_view, pod_view
from levada.operator.shell import without_spec
from levada.resources.names import ANNOTATION_RUN_UID, LABEL_ATTEMPT, LABEL_RUN

OWNER = {"kind": "FlowRun", "name": "r", "uid": "run-uid", "controller": True, "apiVersion": "levada.dev/v1alpha1"}
METADATA = {
    "name": "r-1",
    "namespace": "home",
    "uid": "u",
    "resourceVersion": "7",
    "creationTimestamp": "2026-01-01T00:00:00Z",
    "labels": {LABEL_RUN: "r", LABEL_ATTEMPT: "1"},
    "annotations": {ANNOTATION_RUN_UID: "run-uid", "somebody/else": "x" * 1000},
    "ownerReferences": [OWNER],
}


def test_a_pod_that_is_gone_is_the_same_pod_as_before():
    pod = {
        "metadata": METADATA,
        "spec": {"nodeName": "n", "containers": [{"env": []}]},
        "status": {"phase": "Failed", "reason": "Evicted"},
    }
    assert pod_view(without_spec(pod), gone=True) == pod_view(pod, gone=True)


def test_the_pod_template_of_a_job_is_not_kept():
    job = {"metadata": METADATA, "spec": {"suspend": True, "template": {"spec": {}}}, "status": {"active": 1}}
    kept = without_spec(job)
    assert "template" not in kept["spec"]
    assert "somebody/else" not in kept["metadata"]["annotations"]
    assert job_view(kept).owner_uid == job_view(job).owner_uid == "run-uid"
