"""`make_pod(...)`: a flow run's pod as the API server sends it; `make_facts(pod, sources)`: with everything fetched;
`make_node_facts(**settings)`: an agent."""

import pytest

from levada.agent import capacity, node
from levada.agent.limits import Limits
from levada.agent.settings import Settings
from levada.agent.sources import PodFacts


@pytest.fixture
def make_pod():
    def make(*, labels=None, container=None, volumes=None, metadata=None, **spec):
        return {
            "metadata": {
                "name": "run-1-abcde",
                "namespace": "team",
                "uid": "uid-1",
                "labels": {"levada.dev/run": "run"} if labels is None else labels,
                **(metadata or {}),
            },
            "spec": {
                "restartPolicy": "Never",
                "nodeName": "node-1",
                "serviceAccountName": "levada-runner",
                "terminationGracePeriodSeconds": 30,
                "containers": [{"name": "flow", "image": "img", "command": ["python", "-m", "x"], **(container or {})}],
                "volumes": volumes or [],
                **spec,
            },
            "status": {"phase": "Pending"},
        }

    return make


@pytest.fixture
def make_facts():
    def make(pod, sources=None):
        return PodFacts(pod, sources or {}, {"cpu": "2", "memory": "4096Ki", "ephemeral-storage": "8Ki", "pods": "4"})

    return make


@pytest.fixture
def make_settings(tmp_path):
    def make(**changes):
        return Settings(
            **{"name": "a1", "queues": ("default",), "max_pods": 4, "root": tmp_path, "state": tmp_path, **changes}
        )

    return make


@pytest.fixture
def make_node_facts(make_settings):
    def make(**changes):
        chosen = make_settings(**changes)
        return node.Facts(chosen, "instance", Limits(None, sampled=True), capacity.measure(chosen))

    return make
