"""From a flow's file to a run: built, applied and run by the commands that a person types, and from Python."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.stack import Stack, running_stack

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(180)]

HELLO = (Path(__file__).resolve().parents[2] / "flows" / "hello" / "flow.py").read_text()


@pytest.fixture(scope="module")
def stack(cluster, installed, tmp_path_factory) -> Iterator[Stack]:
    with running_stack(cluster, tmp_path_factory.mktemp("built"), agent_name="built-agent") as running:
        yield running


class Person:
    """Somebody with a folder, a kubeconfig for one namespace, and a shell."""

    def __init__(self, stack, kubectl, namespace, folder):
        self.stack, self.kubectl, self.namespace, self.folder = stack, kubectl, namespace, folder
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(stack.cluster.kubeconfig.read_text())
        kubectl("--kubeconfig", str(self.kubeconfig), "config", "set-context", "--current", f"--namespace={namespace}")

    def python(self, *arguments, exit_code=0):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=os.environ | {"KUBECONFIG": str(self.kubeconfig), "LEVADA_HOME": str(self.folder / "home")},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == exit_code, done.stdout + done.stderr + self.logs()
        return done.stderr if exit_code else done.stdout

    def levada(self, *arguments, exit_code=0):
        return self.python("-m", "levada.cli", *arguments, exit_code=exit_code)

    def logs(self):
        return "".join(f"\n--- {part}\n{self.stack.log(part)[-3000:]}" for part in ("operator", "agent"))

    def get(self, *arguments):
        return json.loads(self.kubectl("-n", self.namespace, "get", *arguments, "-o", "json"))


@pytest.fixture
def person(stack, kubectl, namespace, tmp_path):
    return Person(stack, kubectl, namespace, tmp_path)


def test_hello_flow_from_build_to_agent(person):
    (person.folder / "hello.py").write_text(HELLO)
    built = person.levada("deployment", "build", "hello.py:hello_flow", "-n", "hello", "-q", "default")
    assert "hello_flow-deployment.yaml" in built
    applied = person.levada("deployment", "apply", "hello_flow-deployment.yaml")
    assert applied.split("\n")[:2] == ["flow/hello-flow applied", "deployment/hello applied"]
    person.levada("deployment", "run", "hello", "--name", "first", "--watch", "-p", "names=[Ada, Grace]")
    status = person.get("fr", "first")["status"]
    assert (status["phase"], status["result"]) == ("Completed", "2")
    assert "Hello, Ada!" in person.kubectl("-n", person.namespace, "logs", "-l", "levada.dev/run=first")


def test_kubectl_takes_the_file_and_sees_no_difference_afterwards(person):
    (person.folder / "hello.py").write_text(HELLO)
    person.levada(
        "deployment", "build", "hello.py:hello_flow", "-n", "Hello Again", "--cron", "0 6 * * *", "--interval", "3600",
        "--rrule", "FREQ=DAILY", "--timezone", "Europe/Lisbon", "-t", "a", "-p", "names=[Ada]", "-o", "it.yaml",
        "--env", "STAGE=test", "--image", "registry.example.com/flows:1", "--paused",
    )  # fmt: skip
    file = str(person.folder / "it.yaml")
    person.kubectl("-n", person.namespace, "apply", "--server-side", "-f", file)
    assert person.kubectl("-n", person.namespace, "diff", "--server-side", "-f", file) == ""
    schedules = person.get("fsched")["items"]
    assert [each["metadata"]["name"] for each in schedules] == ["hello-again", "hello-again-2", "hello-again-3"]


def test_what_does_not_fit_is_said_before_a_run_starts(person):
    (person.folder / "hello.py").write_text(HELLO)
    person.levada("deployment", "build", "hello.py:hello_flow", "-n", "hello", "--apply")
    said = person.levada("deployment", "run", "hello", "--name", "wrong", "-p", "names=5", exit_code=2)
    assert "parameters.names" in said
    assert person.get("fr")["items"] == []
    wrong = {
        "apiVersion": "levada.dev/v1alpha1", "kind": "FlowRun", "metadata": {"name": "wrong", "namespace": person.namespace},
        "spec": {"deploymentRef": {"name": "hello"}, "parameters": {"names": 5}},
    }  # fmt: skip
    person.kubectl("create", "-f", "-", stdin=wrong)
    person.kubectl("-n", person.namespace, "wait", "--for=condition=Succeeded=False", "--timeout=30s", "fr/wrong")
    assert "Parameters.names" in person.get("fr", "wrong")["status"]["message"]


SEVERAL_FILES = """
from levada import flow
from levada.schedules import Cron
import helper

@flow
def adds(x: int = 1, y: int = 2) -> int:
    \"\"\"Adds two numbers.\"\"\"
    return helper.add(x, y)

if __name__ == "__main__":
    made = adds.deploy("adds", schedules=[Cron("0 6 * * *"), Cron("0 7 * * *", slug="late")], parameters={"x": 40})
    print([s.slug for s in made.schedules])
    made = adds.deploy("adds", cron="0 8 * * *", parameters={"x": 40})
"""


def test_a_flow_of_several_files_is_deployed_from_python(person):
    (person.folder / "flow.py").write_text(SEVERAL_FILES)
    (person.folder / "helper.py").write_text("def add(x, y):\n    return x + y\n")
    assert "levada deployment run adds" in person.python("flow.py")
    (schedule,) = person.get("fsched")["items"]
    assert (schedule["metadata"]["name"], schedule["spec"]["cron"]) == ("adds", "0 8 * * *")
    (code,) = person.get("cm", "-l", "levada.dev/flow=adds")["items"]
    assert set(code["data"]) == {"flow.py", "helper.py"}
    person.levada("deployment", "run", "adds", "--name", "sum", "--watch")
    assert person.get("fr", "sum")["status"]["result"] == "42"


IN_A_BUCKET = """
from levada import flow
from levada.filesystems import S3
import helper

@flow
def fetched(x: int = 1) -> int:
    return helper.add(x, 1)

if __name__ == "__main__":
    block = S3(
        bucket_path="flow-code/project", aws_access_key_id="testing", aws_secret_access_key="hush-hush-testing",
        endpoint_url="{url}", region_name="us-east-1",
    )
    block.save("flow-code", overwrite=True)
    fetched.deploy("fetched", storage=S3.load("flow-code"), parameters={{"x": 41}})
"""


@pytest.fixture
def bucket():
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=url, **keys)
    client.create_bucket(Bucket="flow-code")
    yield url
    client.close()
    server.stop()


def test_a_run_fetches_its_code_from_a_bucket(person, bucket):
    (person.folder / "flow.py").write_text(IN_A_BUCKET.format(url=bucket))
    (person.folder / "helper.py").write_text("def add(x, y):\n    return x + y\n")
    assert "secret/s3-flow-code, flow/fetched" in person.python("flow.py")
    source = person.get("flow", "fetched")["spec"]["source"]["s3"]
    assert (source["bucket"], source["secretRef"]) == ("flow-code", {"name": "s3-flow-code"})
    person.levada("deployment", "run", "fetched", "--name", "far", "--watch")
    assert person.get("fr", "far")["status"]["result"] == "42"
    assert "hush-hush" not in person.kubectl("-n", person.namespace, "get", "flow,fdep,fr,jobs,pods", "-o", "yaml")


WRITTEN_FOR_PREFECT = """
from prefect import flow, task

@task
def double(x: int) -> int:
    return 2 * x

@flow
def doubled(x: int = 21) -> int:
    return double.submit(x).result()
"""


def test_a_file_written_for_prefect_is_built_and_run_as_it_is(person):
    (person.folder / "theirs.py").write_text(WRITTEN_FOR_PREFECT)
    person.levada("deployment", "build", "--prefect", "theirs.py:doubled", "-n", "doubled", "--apply")
    person.levada("deployment", "run", "doubled", "--name", "twice", "--watch")
    assert person.get("fr", "twice")["status"]["result"] == "42"
