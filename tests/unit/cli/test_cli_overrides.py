"""--override FIELD=VALUE."""

import pytest
import typer

from levada.cli.overrides import check_overrides, overrides_of
from levada.resources.models import FlowRun, parse

GIVEN = [
    "image=registry.example:5000/flow:2",
    "resources.requests.memory=8Gi",
    "resources.limits.nvidia.com/gpu=1",
    "env.MODE=a=b",
    "env.EMPTY=",
    "env.NUMBER=007",
    "nodeSelector.kubernetes.io/arch=arm64",
    "tolerations=[{key: gpu, operator: Exists}]",
    "timeoutSeconds=60",
    "retries.limit=3",
]
MEANT = {
    "image": "registry.example:5000/flow:2",
    "resources": {"requests": {"memory": "8Gi"}, "limits": {"nvidia.com/gpu": 1}},
    "env": [{"name": "MODE", "value": "a=b"}, {"name": "EMPTY", "value": ""}, {"name": "NUMBER", "value": "007"}],
    "nodeSelector": {"kubernetes.io/arch": "arm64"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "timeoutSeconds": 60,
    "retries": {"limit": 3},
}


def test_what_the_options_mean():
    assert overrides_of(GIVEN) == MEANT
    parse(FlowRun, {"spec": {"deploymentRef": {"name": "d"}, "overrides": MEANT}})
    assert overrides_of([]) == {}


@pytest.mark.parametrize(
    "wrong", ["image", "serviceAccountName=x", "env=x", "env.=x", "resources.requests=x", "timeoutSeconds.x=1", "=x"]
)
def test_what_is_no_field_is_refused(wrong, capsys):
    with pytest.raises(typer.Exit):
        overrides_of([wrong])
    assert "is not FIELD=VALUE" in capsys.readouterr().err


def test_what_the_deployment_does_not_open_is_refused_before_a_run_is_made(capsys):
    deployment = {"metadata": {"name": "d"}, "spec": {"allowOverrides": ["image", "env.MODE"]}}
    check_overrides(deployment, {"image": "x", "env": [{"name": "MODE"}]})
    with pytest.raises(typer.Exit):
        check_overrides(deployment, {"image": "x", "env": [{"name": "OTHER"}], "timeoutSeconds": 1})
    said = capsys.readouterr().err
    assert "does not open timeoutSeconds, env.OTHER" in said
    assert "spec.allowOverrides" in said
