"""Where runs happen: what the options become in a Deployment resource, and what is refused."""

import pytest

from levada.exceptions import NotSupported, OptionError
from levada.infrastructure import DockerContainer, KubernetesJob, Process
from levada.resources.models import Infrastructure


def checked(spec):
    Infrastructure.model_validate(spec)
    return spec


def test_nothing_said_is_nothing_there():
    assert Process().spec() == KubernetesJob().spec() == {}


def test_a_process():
    assert checked(Process(env={"A": "1", "GONE": None}, labels={"team": "ml"}, working_dir="/data").spec()) == {
        "env": [{"name": "A", "value": "1"}],
        "podTemplate": {
            "metadata": {"labels": {"team": "ml"}},
            "spec": {"containers": [{"name": "flow", "workingDir": "/data"}]},
        },
    }


def test_a_kubernetes_job():
    job = KubernetesJob(
        image="registry.example.com/flows:1",
        namespace="ml",
        image_pull_policy="Always",
        service_account_name="runner",
        image_pull_secrets=["registry"],
        resources={"requests": {"cpu": "500m", "memory": "1Gi"}},
        node_selector={"disk": "ssd"},
        tolerations=[{"key": "gpu", "operator": "Exists"}],
        env_from=[{"secretRef": {"name": "keys"}}],
    )
    assert job.namespace == "ml"
    assert checked(job.spec()) == {
        "image": "registry.example.com/flows:1",
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "registry"}],
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}},
        "envFrom": [{"secretRef": {"name": "keys"}}],
        "serviceAccountName": "runner",
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
    }


def test_the_pods_template_and_a_job_manifest():
    containers = [{"name": "flow", "tty": True}, {"name": "proxy", "image": "proxy"}]
    template = {"metadata": {"labels": {"a": "1"}}, "spec": {"priorityClassName": "low", "containers": containers}}
    made = KubernetesJob(pod_template=template, labels={"b": "2"}, working_dir="/w").spec()["podTemplate"]
    assert made == {
        "metadata": {"labels": {"a": "1", "b": "2"}},
        "spec": {
            "priorityClassName": "low",
            "containers": [{"name": "flow", "tty": True, "workingDir": "/w"}, {"name": "proxy", "image": "proxy"}],
        },
    }
    job = {"spec": {"template": {"spec": {"hostNetwork": True, "containers": [{"tty": True}]}}}}
    assert KubernetesJob(job=job).spec()["podTemplate"] == {
        "spec": {"hostNetwork": True, "containers": [{"name": "flow", "tty": True}]}
    }
    job = {"spec": {"template": {"spec": {"hostNetwork": True}}}}
    assert KubernetesJob(job=job).spec()["podTemplate"] == {"spec": {"hostNetwork": True}}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Process(env={"A": 1}), ["env has 'A'", "'1'"]),
        (lambda: Process(env=["A"]), ["env=['A']"]),
        (lambda: Process(env={"LEVADA_HOME": "x"}), ["LEVADA_"]),
        (lambda: Process(env={"A=B": "x"}), ["'A=B'"]),
        (lambda: Process(labels="x"), ["labels='x'", "dict"]),
        (lambda: Process(stream_output=True), ["stream_output", "levada runs logs"]),
        (lambda: Process(wroking_dir="x"), ["did you mean 'working_dir'"]),
        (lambda: Process(zzz="x"), ["it takes: env"]),
        (lambda: KubernetesJob(imagee="x"), ["did you mean 'image'"]),
        (lambda: KubernetesJob(customizations=[]), ["pod_template"]),
        (lambda: KubernetesJob(image_pull_policy="Sometimes"), ["Always, IfNotPresent, Never"]),
        (lambda: KubernetesJob(job={"spec": {}}), ["spec.template"]),
        (lambda: KubernetesJob(job={"a": 1}, pod_template={"a": 1}), ["not both"]),
    ],
)
def test_what_cannot_work_is_refused(make, words):
    with pytest.raises(OptionError) as raised:
        make()
    for word in words:
        assert word in str(raised.value)


def test_docker_is_not_supported():
    with pytest.raises(NotSupported, match="KubernetesJob"):
        DockerContainer(image="x")


def test_they_are_values():
    assert Process(env={"A": "1"}) == Process(env={"A": "1"}) != Process()
    assert Process() != KubernetesJob()
    assert repr(KubernetesJob(image="x")) == "KubernetesJob(image='x')"
