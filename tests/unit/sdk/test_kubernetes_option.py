"""`@task(kubernetes=...)`, `KubernetesTaskRunner` and `DaskTaskRunner(kubernetes=...)`: what they take, and what they do without a cluster."""

import os

import pytest

from levada import flow, task
from levada.exceptions import OptionError
from levada.infrastructure import KubernetesJob
from levada.task_runners import DaskTaskRunner, KubernetesTaskRunner

GPU = {
    "image": "ml/torch",
    "resources": {"limits": {"nvidia.com/gpu": 1}},
    "node_selector": {"gpu": "a100"},
    "tolerations": [{"key": "gpu"}],
}


def test_the_option_is_kept_as_a_pod_spells_it():
    made = task(kubernetes=GPU)(len)
    assert made.kubernetes == {
        "image": "ml/torch",
        "resources": GPU["resources"],
        "nodeSelector": {"gpu": "a100"},
        "tolerations": [{"key": "gpu"}],
    }
    assert task(kubernetes=True)(len).kubernetes == {}
    assert (task(len).kubernetes, task(kubernetes=False)(len).kubernetes) == (None, None)
    assert made.with_options(retries=1).kubernetes == made.kubernetes
    assert KubernetesTaskRunner(image="a") == KubernetesTaskRunner(image="a") != KubernetesTaskRunner(image="b")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"imgae": "x"}, "kubernetes has no 'imgae'; did you mean 'image'?"),
        ({"command": ["sh"]}, "it takes: image, resources, node_selector, tolerations"),
        ("big", "must be True or a dict"),
        ({"image": 3}, "must be a text"),
        ({"resources": {"memory": "8Gi"}}, "{'requests': {'memory': '8Gi'}"),
        ({"resources": {"limits": {"memory": True}}}, "{'requests': {'memory': '8Gi'}"),
        ({"node_selector": {"gpu": 1}}, "texts both"),
        ({"tolerations": {"key": "a"}}, "a list of dicts"),
    ],
)
def test_what_cannot_work_is_refused_at_once(value, words):
    with pytest.raises(OptionError) as caught:
        task(kubernetes=value)(len)
    assert words in str(caught.value)


def test_a_generator_cannot_come_from_a_pod():
    with pytest.raises(OptionError, match="return a list instead"):

        @task(kubernetes=True)
        def items():
            yield 1


def test_a_dask_cluster_of_pods_is_a_cluster_of_its_own():
    with pytest.raises(OptionError, match="address names another"):
        DaskTaskRunner(address="tcp://10.0.0.5:8786", kubernetes=True)
    assert DaskTaskRunner(kubernetes={"image": "x"}).kubernetes == {"image": "x"}


def test_without_a_cluster_it_runs_here():
    @task(kubernetes=GPU)
    def where():
        return os.getpid()

    @task(kubernetes=True)
    async def where_async():
        return os.getpid()

    @flow(task_runner=KubernetesTaskRunner(resources=GPU["resources"]))
    async def main():
        return {where(), where.submit().result(), await where_async()}

    import asyncio

    assert asyncio.run(main()) == {os.getpid()}


def test_a_deployment_made_from_code_opens_pods():
    assert KubernetesJob(task_pods={"limit": 3}).spec() == {"taskPods": {"limit": 3}}
    assert KubernetesJob(task_pods={}).spec() == {"taskPods": {}}, "opened, with the defaults"
    assert KubernetesJob().spec() == {}
