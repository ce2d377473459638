from decimal import Decimal

import pytest

from levada.agent.fields import FieldError, field_value, quantity, resource_value

NODE = {"cpu": "4", "memory": "8388608Ki", "ephemeral-storage": "1Gi"}


@pytest.mark.parametrize(
    ("text", "number"),
    [("500m", "0.5"), ("2", "2"), ("1.5", "1.5"), ("1Ki", "1024"), ("2Gi", str(2 * 2**30)), ("1k", "1000"), ("1e3", "1000"), ("1E", str(10**18)), (3, "3")],
)  # fmt: skip
def test_quantities(text, number):
    assert quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "many", "1KB", "1.2.3", "Gi"])
def test_bad_quantities(text):
    with pytest.raises(FieldError, match="no quantity"):
        quantity(text)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "run-1-abcde"),
        ("metadata.namespace", "team"),
        ("metadata.uid", "uid-1"),
        ("metadata.labels['levada.dev/run']", "run"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['a']", "1"),
        ("metadata.labels", 'levada.dev/run="run"'),
        ("metadata.annotations", 'a="1"\nq="\\"\\\\\\n"'),
        ("spec.nodeName", "node-1"),
        ("spec.serviceAccountName", "levada-runner"),
        ("status.podIP", "127.0.0.1"),
        ("status.hostIP", "127.0.0.1"),
    ],
)
def test_fields(make_pod, path, value):
    assert field_value(make_pod(metadata={"annotations": {"a": "1", "q": '"\\\n'}}), path) == value


def test_an_unknown_field(make_pod):
    with pytest.raises(FieldError, match=r"spec\.secret"):
        field_value(make_pod(), "spec.secret")


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ({"resource": "limits.memory"}, str(512 * 2**20)),
        ({"resource": "limits.memory", "divisor": "1Mi"}, "512"),
        ({"resource": "limits.cpu"}, "2"),  # rounded up
        ({"resource": "limits.cpu", "divisor": "1m"}, "1500"),
        ({"resource": "requests.cpu"}, "0"),
        ({"resource": "limits.ephemeral-storage", "divisor": "0"}, str(2**30)),  # not set: what the node has
    ],
)
def test_resources(reference, value):
    container = {"resources": {"limits": {"memory": "512Mi", "cpu": "1500m"}}}
    assert resource_value(container, reference, NODE) == value


def test_an_unknown_resource():
    with pytest.raises(FieldError, match=r"limits\.gpu"):
        resource_value({}, {"resource": "limits.gpu"}, NODE)
