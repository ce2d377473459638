"""A flow in a cluster loads its blocks: Block resources by the run's own token, secrets as its Deployment gives them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from levada.blocks import Secret
from levada.notifications import Email
from levada.resources import names
from support.stack import Stack, running_stack, wait_until

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(180)]

CODE = """
from levada import flow, task
from levada.blocks import Secret
from levada.notifications import Email


@task
def letters(name):
    return len(Secret.load(name).get())


@flow
def main():
    email = Email.load("ops")
    print(email)
    print("said:", email.password.get_secret_value())
    return [letters("token"), letters.submit("folder").result(), email.port]
"""
BLOCKS = [
    Email("mail", to="a@example.com", username="u@example.com", password="unused", port=2525).to_resource("ops", secret="mail"),
    Secret("unused").to_resource("folder"),
]  # fmt: skip
SECRETS = {"mail": ("password", "hunter-mail"), "folder": ("value", "hunter-folder-2")}


def an_object(kind: str, name: str, spec: dict) -> dict:
    return {"apiVersion": names.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def stack(cluster, installed, tmp_path_factory) -> Iterator[Stack]:
    with running_stack(cluster, tmp_path_factory.mktemp("blocks"), agent_name="blocks-agent") as running:
        yield running


def set_by_hand(kubeconfig, namespace) -> None:
    """The block `secret/token` and its Secret, as a person makes them."""
    done = subprocess.run(
        [sys.executable, "-m", "levada.cli", "blocks", "set", "secret/token", "--secret", "value", "-n", namespace],
        env={**os.environ, "KUBECONFIG": str(kubeconfig)}, input="hunter-1\n", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "block secret/token is made\nvalue is key value of Secret token\n"
    assert "prefix: BLOCK_SECRET__TOKEN__" in done.stderr


def run_of(kubectl, namespace, stack, name: str, infrastructure: dict) -> dict:
    """Start a run of the flow and return its status when it has ended."""
    objects = [
        an_object("Flow", "blocks", {"entrypoint": "flow.py:main", "source": {"inline": CODE}}),
        an_object("Deployment", "blocks", {"flowRef": {"name": "blocks"}, "infrastructure": infrastructure}),
        an_object("FlowRun", name, {"deploymentRef": {"name": "blocks"}}),
    ]
    kubectl("-n", namespace, "apply", "--server-side", "-f", "-", stdin=[*BLOCKS, *objects])

    def ended() -> dict | None:
        status = json.loads(kubectl("-n", namespace, "get", "fr", name, "-o", "json")).get("status", {})
        return status if status.get("phase") in {"Completed", "Failed", "Crashed"} else None

    try:
        status: dict = wait_until(ended, "the run has ended", 60)
    except AssertionError:
        print(stack.log("operator")[-3000:], stack.log("agent")[-3000:])
        raise
    return status


def test_a_flow_is_given_its_blocks_and_their_secrets(stack, kubectl, kubeconfig, namespace):
    set_by_hand(kubeconfig, namespace)
    for name, (key, value) in SECRETS.items():
        kubectl("-n", namespace, "create", "secret", "generic", name, f"--from-literal={key}={value}")
    folder = {"name": "folder", "secret": {"secretName": "folder"}}
    mount = {"name": "folder", "mountPath": "/etc/secrets/folder", "readOnly": True}
    container = {"name": names.CONTAINER_NAME, "volumeMounts": [mount]}
    infrastructure = {
        "env": [{"name": "BLOCK_SECRET_DIR__FOLDER", "value": "/etc/secrets/folder"}],
        "envFrom": [
            {"prefix": "BLOCK_SECRET__MAIL__", "secretRef": {"name": "mail"}},
            {"prefix": "BLOCK_SECRET__TOKEN__", "secretRef": {"name": "token"}},
        ],
        "podTemplate": {"spec": {"volumes": [folder], "containers": [container]}},
    }
    status = run_of(kubectl, namespace, stack, "with", infrastructure)
    assert (status["phase"], json.loads(status["result"])) == ("Completed", [8, 15, 2525]), status
    said = kubectl("-n", namespace, "logs", "-l", f"{names.LABEL_RUN}=with")
    assert "password=SecretStr('********')" in said
    assert "hunter" not in json.dumps(status)


def test_a_flow_that_was_not_given_a_secret_says_what_to_add(stack, kubectl, namespace):
    status = run_of(kubectl, namespace, stack, "without", {})
    assert status["phase"] == "Failed"
    assert "prefix: BLOCK_SECRET__MAIL__" in status["message"]
