"""`levada runs` and `levada deployment` as processes, against a real API server."""

import base64
import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time

import pytest
import yaml

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("installed")]


class Levada:
    """The command line in one namespace."""

    def __init__(self, kubeconfig, namespace):
        self.environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
        self.namespace = namespace

    def start(self, *arguments, stdin=None):
        command = [sys.executable, "-m", "levada.cli", *arguments, "-n", self.namespace]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self.environment, stdin=stdin, stdout=pipe, stderr=pipe, text=True)

    def __call__(self, *arguments, exit_code=0, typed=""):
        process = self.start(*arguments, stdin=subprocess.PIPE)
        out, err = process.communicate(typed, timeout=60)
        assert process.returncode == exit_code, f"{arguments} ended with {process.returncode}: {out}{err}"
        assert "Traceback" not in err
        return out if exit_code == 0 else err


@pytest.fixture
def levada(kubeconfig, namespace):
    return Levada(kubeconfig, namespace)


@pytest.fixture
def etl(kubectl, namespace):
    body = {
        "apiVersion": "levada.dev/v1alpha1",
        "kind": "Deployment",
        "metadata": {"name": "etl", "namespace": namespace},
        "spec": {"flowRef": {"name": "etl"}},
    }
    kubectl("create", "-f", "-", stdin=body)


@pytest.fixture
def report(kubectl, namespace):
    def patch(name, **status):
        body = json.dumps({"status": status})
        kubectl("patch", "fr", name, "-n", namespace, "--subresource=status", "--type=merge", "-p", body)

    return patch


ENDED = {
    "reason": "Completed",
    "completionTime": "2026-01-01T00:00:09Z",
    "startTime": "2026-01-01T00:00:00Z",
    "result": "6.675",
}


@pytest.mark.usefixtures("etl")
def test_a_run_is_started_with_a_made_up_name_and_typed_parameters(levada, kubectl, namespace):
    said = levada("deployment", "run", "etl", "-p", "date=2019-01-05", "-p", "n=3", "-p", "deep={a: [null]}")
    name = re.match(r"flow run (etl-[a-z0-9]{5}) created; `levada runs watch etl-", said)[1]
    run = json.loads(kubectl("get", "fr", name, "-n", namespace, "-o", "json"))
    assert run["spec"]["parameters"] == {"date": "2019-01-05", "n": 3, "deep": {"a": [None]}}
    assert run["spec"]["deploymentRef"] == {"name": "etl"}
    assert name in levada("runs", "ls")


@pytest.mark.usefixtures("etl")
def test_text_parameters_are_taken_as_they_were_typed(levada, kubectl, namespace):
    flow = {
        "apiVersion": "levada.dev/v1alpha1",
        "kind": "Flow",
        "metadata": {"name": "etl", "namespace": namespace},
        "spec": {
            "entrypoint": "etl.py:etl",
            "source": {"inline": "..."},
            "parameterSchema": {"type": "object", "properties": {"customer": {"type": "string"}}},
        },
    }
    kubectl("create", "-f", "-", stdin=flow)
    said = levada("deployment", "run", "etl", "-p", "customer=12345", "-p", "n=3", "-o", "json")
    assert json.loads(said)["spec"]["parameters"] == {"customer": "12345", "n": 3}


@pytest.mark.usefixtures("etl")
def test_what_is_wrong_with_an_order_is_said(levada):
    assert "did you mean etl?" in levada("deployment", "run", "elt", exit_code=3)
    levada("deployment", "run", "etl", "--name", "mine")
    assert "there is a flow run 'mine' already" in levada("deployment", "run", "etl", "--name", "mine", exit_code=1)
    assert "has no dots" in levada("deployment", "run", "etl", "--name", "a.b", exit_code=1)
    assert "'x' is not name=value" in levada("deployment", "run", "etl", "-p", "x", exit_code=2)


@pytest.mark.usefixtures("etl")
def test_lists_for_people_and_for_programs(levada, report):
    for name in ("one", "two"):
        levada("deployment", "run", "etl", "--name", name)
    report("one", phase="Running", progress="1/2")
    assert levada("runs", "ls", "-o", "name").split() == ["flowrun.levada.dev/one", "flowrun.levada.dev/two"]
    assert levada("runs", "ls", "--phase", "Running", "-o", "name").split() == ["flowrun.levada.dev/one"]
    assert levada("runs", "ls", "-d", "etl", "-o", "name").count("\n") == 2
    assert levada("runs", "ls", "-d", "other", "-o", "name") == ""
    assert "one" in levada("runs", "ls", "-A")
    assert json.loads(levada("runs", "ls", "-o", "json"))["items"][0]["metadata"]["name"] == "one"
    row = levada("deployment", "ls").splitlines()[1].split()
    assert row[:5] == ["etl", "etl", "default", "no", "Unknown"]


@pytest.mark.usefixtures("etl")
def test_showing_a_run(levada, report):
    levada("deployment", "run", "etl", "--name", "one")
    rows = {
        "train-0": {
            "name": "train",
            "state": "Completed",
            "attempt": 1,
            "startTime": "2026-01-01T00:00:01Z",
            "endTime": "2026-01-01T00:00:03Z",
        }
    }
    report("one", phase="Completed", progress="1/1", tasks=rows, **ENDED)
    page = levada("runs", "show", "one")
    assert page.startswith("one  Completed")
    assert re.search(r"Result +6\.675", page)
    assert re.search(r"train-0 +Completed +1 +2\.00s", page)
    assert yaml.safe_load(levada("runs", "show", "one", "-o", "yaml"))["status"]["tasks"] == rows
    assert "did you mean one?" in levada("runs", "show", "onne", exit_code=3)
    assert "there is no flow run 'zzz'" in levada("runs", "show", "zzz", exit_code=3)


@pytest.mark.usefixtures("etl")
@pytest.mark.parametrize(("phase", "exit_code"), [("Completed", 0), ("Failed", 1), ("Skipped", 1)])
def test_watching_follows_to_the_end(levada, report, phase, exit_code):
    levada("deployment", "run", "etl", "--name", "one")
    watching = levada.start("runs", "watch", "one")
    assert watching.stdout.readline().split()[1:] == ["Created"]
    report("one", phase="Running", progress="0/1", currentTask="train-0")
    assert watching.stdout.readline().split()[1:] == ["Running", "0/1", "train-0"]
    report("one", tasks={})  # nothing that a person would see
    report("one", phase=phase, progress="1/1", **ENDED)
    out, err = watching.communicate(timeout=30)
    assert (watching.returncode, err) == (exit_code, "")
    assert out.splitlines()[-1].split()[1] == phase
    assert len(out.splitlines()) == 1


@pytest.mark.usefixtures("etl")
def test_watching_a_run_that_is_deleted_or_that_never_was(levada, kubectl, namespace):
    levada("deployment", "run", "etl", "--name", "one")
    watching = levada.start("runs", "watch", "one")
    watching.stdout.readline()
    kubectl("delete", "fr", "one", "-n", namespace)
    _, err = watching.communicate(timeout=30)
    assert watching.returncode == 1
    assert "was deleted" in err
    assert "there is no flow run" in levada("runs", "watch", "one", exit_code=3)


@pytest.mark.usefixtures("etl")
def test_running_and_watching_in_one(levada, report):
    watching = levada.start("deployment", "run", "etl", "--name", "one", "--watch")
    assert watching.stdout.readline() == "flow run one created\n"
    report("one", phase="Completed", **ENDED)
    watching.communicate(timeout=30)
    assert watching.returncode == 0


@pytest.mark.usefixtures("etl")
def test_watching_goes_on_when_the_api_server_is_killed(levada, report, cluster):
    levada("deployment", "run", "etl", "--name", "one")
    watching = levada.start("runs", "watch", "one")
    watching.stdout.readline()
    os.kill(cluster.pid("kube-apiserver"), signal.SIGKILL)
    while any(part.running for part in cluster.status() if part.name == "kube-apiserver"):
        time.sleep(0.02)  # a signal takes its time
    cluster.up(ephemeral=True)
    report("one", phase="Completed", **ENDED)
    out, err = watching.communicate(timeout=30)
    assert watching.returncode == 0, err
    assert out.splitlines()[-1].split()[1:] == ["Completed", "result", "6.675"]


@pytest.mark.usefixtures("etl")
def test_a_watch_can_be_left(levada):
    levada("deployment", "run", "etl", "--name", "one")
    watching = levada.start("runs", "watch", "one")
    watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    _, err = watching.communicate(timeout=30)
    assert watching.returncode == 130
    assert "Traceback" not in err


@pytest.mark.usefixtures("etl")
def test_cancelling(levada, report, kubectl, namespace):
    for name in ("one", "two"):
        levada("deployment", "run", "etl", "--name", name)
    assert levada("runs", "cancel", "one", "two") == "flow run one is asked to stop\nflow run two is asked to stop\n"
    assert kubectl("get", "fr", "one", "-n", namespace, "-o", "jsonpath={.spec.cancel}") == "true"
    report("one", phase="Completed", **ENDED)
    report("two", phase="Cancelled", **{**ENDED, "reason": "Cancelled"})
    assert "ended as Completed at 2026-01-01 00:00:09 UTC: there is nothing to cancel" in levada(
        "runs", "cancel", "one", exit_code=1
    )
    assert levada("runs", "cancel", "two") == "flow run two is cancelled\n"
    assert "there is no flow run 'zzz'" in levada("runs", "cancel", "zzz", exit_code=3)


@pytest.mark.usefixtures("etl")
def test_a_run_without_a_pod_has_no_log(levada, report):
    levada("deployment", "run", "etl", "--name", "one")
    assert "has no pod yet: it is not looked at yet" in levada("runs", "logs", "one", exit_code=1)
    following = levada.start("runs", "logs", "one", "-f")
    time.sleep(1)
    assert following.poll() is None
    report("one", phase="Failed", message="no such deployment", **{**ENDED, "reason": "DeploymentNotFound"})
    _, err = following.communicate(timeout=30)
    assert following.returncode == 1
    assert "it ended as Failed: no such deployment" in err


def test_a_block_is_made_and_changed_and_its_secret_is_nowhere_but_in_a_secret(levada, kubectl, namespace):
    def seen(kind, name):
        return json.loads(kubectl("get", kind, name, "-n", namespace, "-o", "json"))

    made = levada(
        "blocks",
        "set",
        "email/ops",
        "host=mail.example.com",
        "to=[a@example.com]",
        "-s",
        "password",
        typed="hunter22\n",
    )
    assert "hunter22" not in made
    assert base64.b64decode(seen("secret", "ops")["data"]["password"]) == b"hunter22"
    spec = {"type": "email", "values": {"host": "mail.example.com", "to": ["a@example.com"]}}
    assert seen("block", "ops")["spec"] == {**spec, "secretRefs": {"password": {"name": "ops", "key": "password"}}}

    levada("blocks", "set", "ops", "port=2525", "--secret", "password=mail/pw", "--unset", "username")
    spec["values"]["port"] = 2525
    assert seen("block", "ops")["spec"] == {**spec, "secretRefs": {"password": {"name": "mail", "key": "pw"}}}
    levada("blocks", "set", "ops", "--secret", "password", typed="hunter23")
    assert base64.b64decode(seen("secret", "ops")["data"]["password"]) == b"hunter23"

    kubectl("create", "secret", "generic", "db", "-n", namespace, "--from-literal=value=theirs")
    refused = levada("blocks", "set", "secret/db", "-s", "value", exit_code=1, typed="ours")
    assert "Secret db is there already" in refused
    assert base64.b64decode(seen("secret", "db")["data"]["value"]) == b"theirs"
    levada("blocks", "set", "secret/db", "-s", "value", "--into", "db-block", typed="ours")
    assert base64.b64decode(seen("secret", "db-block")["data"]["value"]) == b"ours"
    assert "is of type email, not webhook" in levada("blocks", "set", "webhook/ops", "timeout=3", exit_code=1)
    levada("blocks", "rm", "ops")


def test_no_cluster_is_a_sentence(levada, tmp_path):
    levada.environment["KUBECONFIG"] = str(tmp_path / "none")
    err = levada("runs", "ls", exit_code=5)
    assert err.startswith("error: ")
    assert "hint:" in err


def test_a_server_that_is_not_there_is_a_sentence(levada, kubeconfig, tmp_path):
    config = yaml.safe_load(kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    err = levada("runs", "ls", "--kubeconfig", str(tmp_path / "config"), exit_code=5)
    assert err.startswith("error: ")
    assert "hint:" in err


def test_doctor_says_what_is_missing_and_what_to_do(levada):
    process = levada.start("doctor", "-o", "json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    checks = {each["check"]: each for each in json.loads(out)["checks"]}
    good = {name for name, each in checks.items() if each["level"] == "ok"}
    assert {"cluster", "definitions", "rights"} <= good, checks
    assert checks["nodes"]["level"] == "fail"
    assert "levada agent start" in checks["nodes"]["fix"]


@pytest.mark.usefixtures("etl")
def test_tab_completes_names_from_the_cluster(levada):
    levada("deployment", "run", "etl", "--name", "one")
    words = ["__complete", "runs", "show", "-n", levada.namespace, "o"]
    done = subprocess.run(
        [sys.executable, "-m", "levada.cli", *words], env=levada.environment, capture_output=True, text=True, timeout=30, check=True
    )  # fmt: skip
    assert done.stdout.splitlines() == ["one", ":4"]


def test_kubectl_takes_it_as_a_plugin(kubectl_for, cluster, monkeypatch):
    scripts = sysconfig.get_path("scripts")
    monkeypatch.setenv("PATH", os.pathsep.join([scripts, os.environ["PATH"]]))
    kubectl = kubectl_for(cluster.kubectl, cluster.kubeconfig)
    assert kubectl("levada", "version") == f"{importlib.metadata.version('levada')}\n"
