"""What a pod sees and what the API server sees of it, on a real agent with a node certificate."""

import base64
import json
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.apiserver

IDENTITY = "/var/run/secrets/levada.dev/serviceaccount"


def test_the_node(agent, kubectl):
    node = json.loads(kubectl("get", "node", agent.name, "-o", "json"))
    conditions = {condition["type"]: condition["status"] for condition in node["status"]["conditions"]}
    assert conditions == {
        "Ready": "True",
        "MemoryPressure": "False",
        "DiskPressure": "False",
        "PIDPressure": "False",
        "ClockSkew": "False",
    }
    assert {"key": "levada.dev/agent", "value": "true", "effect": "NoSchedule"} in node["spec"]["taints"]
    assert node["metadata"]["labels"]["queue.levada.dev/default"] == "true"
    assert node["metadata"]["labels"]["levada.dev/agent"] == "true"
    assert int(node["status"]["capacity"]["pods"]) >= 1
    lease = json.loads(kubectl("get", "lease", agent.name, "-n", "kube-node-lease", "-o", "json"))
    assert lease["spec"]["holderIdentity"] == agent.name
    assert lease["metadata"]["ownerReferences"][0]["uid"] == node["metadata"]["uid"]


def test_a_job_succeeds(agent, jobs, kubectl, until):
    jobs.run(["python", "-c", "print('hello'); open('/dev/termination-log', 'w')", "/dev/termination-log"])
    pod = jobs.ended()
    status = pod["status"]
    assert status["phase"] == "Succeeded", status
    assert (status["podIP"], status["hostIP"], status["podIPs"]) == ("127.0.0.1", "127.0.0.1", [{"ip": "127.0.0.1"}])
    container = status["containerStatuses"][0]
    assert container["containerID"] == f"levada://{pod['metadata']['uid']}"
    assert (container["restartCount"], container["ready"], container["started"]) == (0, False, False)
    terminated = container["state"]["terminated"]
    assert (terminated["exitCode"], terminated["reason"]) == (0, "Completed")
    assert status["startTime"] <= terminated["startedAt"] <= terminated["finishedAt"]
    assert jobs.logs() == "hello\n"
    until(lambda: "Complete" in kubectl("get", "job", "run-1", "-n", jobs.namespace))


@pytest.mark.parametrize(
    ("code", "exit_code", "signal", "reason"),
    [
        ("raise SystemExit(3)", 3, None, "Error"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 139, 11, "Error"),
    ],
)
def test_a_job_fails(jobs, code, exit_code, signal, reason):
    jobs.run(["python", "-c", code])
    terminated = jobs.terminated()
    assert (terminated["exitCode"], terminated.get("signal"), terminated["reason"]) == (exit_code, signal, reason)
    assert jobs.phase() == "Failed"


def test_a_command_that_does_not_exist_is_named(jobs, kubectl):
    jobs.run(["levada-no-such-program", "--x"])
    terminated = jobs.terminated()
    assert (terminated["reason"], terminated["exitCode"]) == ("StartError", 128)
    assert 'exec: "levada-no-such-program": executable file not found in $PATH' in terminated["message"]


def test_termination_message(jobs):
    code = "import sys, os; open(os.environ['WHERE'], 'w').write('x' * 5000); sys.exit(1)"
    jobs.run(["python", "-c", code], container={"env": [{"name": "WHERE", "value": "/dev/termination-log"}]})
    assert jobs.terminated()["message"] == "x" * 4096


def test_termination_message_falls_back_to_the_log(jobs):
    policy = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    jobs.run(["python", "-c", "print('last words'); raise SystemExit(1)"], container=policy)
    assert jobs.terminated()["message"] == "last words\n"


def test_memory_limit(jobs):
    code = "data = bytearray(300 << 20); import time; time.sleep(60)"
    limits = {"resources": {"limits": {"memory": "100Mi"}, "requests": {"memory": "1Mi"}}}
    jobs.run(["python", "-c", code], container=limits)
    terminated = jobs.terminated()
    assert (terminated["reason"], terminated["exitCode"]) == ("OOMKilled", 137)
    assert "104857600" in terminated["message"]


SEE = """
import json, os, pathlib, stat
volumes = {}
for name, folder in json.loads(os.environ["LOOK"]).items():
    root = pathlib.Path(folder)
    volumes[name] = {
        str(path.relative_to(root)): [path.read_text(), oct(stat.S_IMODE(path.stat().st_mode))]
        for path in sorted(root.rglob("*")) if path.is_file()
    }
print(json.dumps({"env": dict(os.environ), "volumes": volumes, "cwd": os.getcwd(), "argv": __import__("sys").argv[1:]}))
"""


@pytest.fixture
def sources(kubectl, namespace):
    kubectl(
        "create", "-f", "-",
        stdin=[
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm", "namespace": namespace}, "data": {"k": "v", "file.py": "x = 1\n"}},
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": namespace}, "stringData": {"password": "p4ss"}},
        ],
    )  # fmt: skip


def test_environment_volumes_and_working_directory(agent, jobs, sources, kubectl):
    mounts = {
        "code": "/srv/code",
        "secret": "/etc/secret",
        "downward": "/etc/podinfo",
        "scratch": "/scratch",
        "identity": IDENTITY,
    }
    env = [
        {"name": "LITERAL", "value": "a$(NAME)b"},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "AGAIN", "value": "see $(NAME) $$(NAME) $(NOBODY)"},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['levada.dev/run']"}}},
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "FROM_MAP", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
        {"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
        {"name": "OPTIONAL", "valueFrom": {"secretKeyRef": {"name": "none", "key": "x", "optional": True}}},
        {"name": "LOOK", "value": json.dumps(mounts)},
        {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"},
    ]
    token = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}
    ca = {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
    own = {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}
    volumes = [
        {
            "name": "code",
            "configMap": {"name": "cm", "items": [{"key": "file.py", "path": "sub/flow.py", "mode": 0o400}]},
        },
        {"name": "secret", "secret": {"secretName": "s", "defaultMode": 0o440}},
        {
            "name": "downward",
            "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]},
        },
        {"name": "scratch", "emptyDir": {}},
        {"name": "identity", "projected": {"sources": [token, ca, own]}},
    ]
    jobs.run(
        ["python", "-c", SEE],
        volumes=volumes,
        container={
            "args": ["/srv/code/sub/flow.py", "--out=/scratch/x", "https://host/scratch/x", "$(FROM_MAP)"],
            "env": env,
            "envFrom": [{"configMapRef": {"name": "cm"}, "prefix": "CM_"}],
            "workingDir": "/scratch",
            "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts.items()],
            "resources": {"limits": {"memory": "512Mi"}},
        },
    )
    pod = jobs.ended()
    seen = json.loads(jobs.logs())
    name = pod["metadata"]["name"]
    folder = agent.pods / pod["metadata"]["uid"] / "volumes"
    got = seen["env"]
    assert got["LITERAL"] == "a$(NAME)b"  # NAME comes later
    assert got["AGAIN"] == f"see {name} $(NAME) $(NOBODY)"
    assert (got["NAME"], got["NODE"], got["LABEL"], got["MEMORY"]) == (name, agent.name, "run", "512")
    assert (got["FROM_MAP"], got["FROM_SECRET"], got["CM_k"]) == ("v", "p4ss", "v")
    assert "OPTIONAL" not in got
    assert "LEVADA_TEST_SECRET" not in got  # the agent's own environment stays with the agent
    assert "KUBECONFIG" not in got
    assert seen["cwd"] == str(folder / "scratch")
    assert seen["argv"] == [
        str(folder / "code/sub/flow.py"),
        f"--out={folder}/scratch/x",
        "https://host/scratch/x",
        "v",
    ]
    files = seen["volumes"]
    assert files["code"] == {"sub/flow.py": ["x = 1\n", "0o400"]}
    assert files["secret"] == {"password": ["p4ss", "0o440"]}
    assert 'levada.dev/run="run"' in files["downward"]["labels"][0]
    assert files["scratch"] == {}
    assert files["identity"]["namespace"][0] == jobs.namespace
    assert "BEGIN CERTIFICATE" in files["identity"]["ca.crt"][0]
    assert not folder.exists()  # no secret stays on disk after the end


def test_the_token_is_bound_to_the_pod(jobs, kubectl):
    """What the admission policy relies on: the API server itself says which pod a request comes from."""
    token = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}
    code = "import os; print(open(os.environ['D'] + '/token').read()); import time; time.sleep(60)"
    jobs.run(
        ["python", "-uc", code],
        volumes=[{"name": "identity", "projected": {"sources": [token]}}],
        container={
            "env": [{"name": "D", "value": IDENTITY}],
            "volumeMounts": [{"name": "identity", "mountPath": IDENTITY}],
        },
        terminationGracePeriodSeconds=1,
    )
    pod = jobs.running()
    text = ""
    for _ in range(100):
        text = jobs.logs().strip()
        if text:
            break
        time.sleep(0.05)
    claims = json.loads(base64.urlsafe_b64decode(text.split(".")[1] + "=="))
    assert claims["kubernetes.io"]["pod"] == {"name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": text}}
    user = json.loads(kubectl("create", "-f", "-", "-o", "json", stdin=review))["status"]["user"]
    assert user["extra"]["authentication.kubernetes.io/pod-name"] == [pod["metadata"]["name"]]


@pytest.mark.parametrize(
    ("case", "pod", "reason", "message"),
    [
        ("no run label", {"labels": {"app": "x"}}, "NotAFlowRun", "no label levada.dev/run"),
        ("another container", {"container": {"name": "main"}}, "NotAFlowRun", "named 'flow'"),
        (
            "host path",
            {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]},
            "UnexpectedAdmissionError",
            "volume root is a hostPath",
        ),
        (
            "init container",
            {"initContainers": [{"name": "i", "image": "x", "command": ["true"]}]},
            "UnexpectedAdmissionError",
            "initContainers",
        ),
    ],
)
def test_refused_pods(jobs, case, pod, reason, message):
    jobs.run(["true"], **pod)
    status = jobs.ended()["status"]
    assert (status["phase"], status["reason"]) == ("Failed", reason)
    assert message in status["message"]


def test_no_more_pods_than_allowed(start_agent, make_jobs):
    """A pod bound past the scheduler, as a kubelet would refuse it."""
    agent = start_agent(None, "--max-pods", "1")
    jobs = make_jobs(agent.name)
    jobs.run(["sleep", "60"], "first-1", terminationGracePeriodSeconds=0)
    jobs.running("first-1")
    jobs.run(["true"], "second-1", nodeSelector={}, nodeName=agent.name)
    assert jobs.ended("second-1")["status"]["reason"] == "OutOfpods"


def test_a_missing_secret_is_waited_for_and_named(jobs, kubectl, until):
    env = [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "later", "key": "k"}}}]
    jobs.run(["python", "-c", "import os; print(os.environ['X'])"], container={"env": env})
    waiting = until(
        lambda: (
            ((jobs.pod() or {}).get("status", {}).get("containerStatuses") or [{}])[0].get("state", {}).get("waiting")
        )
    )
    assert waiting == {"reason": "CreateContainerConfigError", "message": 'Secret "later" not found'}
    assert 'Secret "later" not found' in kubectl("describe", "pod", "-n", jobs.namespace)
    kubectl("create", "secret", "generic", "later", "-n", jobs.namespace, "--from-literal=k=came")
    jobs.ended()
    assert jobs.logs() == "came\n"


def test_describe_shows_the_life(jobs, kubectl):
    jobs.run(["python", "-c", "raise SystemExit(4)"])
    jobs.ended()
    text = kubectl("describe", "pod", "-n", jobs.namespace)
    assert "Exit Code:    4" in text
    assert "Started container flow as a local process" in text


def test_logs(jobs, kubectl):
    code = "import sys, time\nfor i in range(5): print('line', i, flush=True); time.sleep(0.3)\nprint('err', file=sys.stderr)"
    jobs.run(["python", "-c", code])
    jobs.running()
    begun = time.monotonic()
    followed = jobs.logs("run-1", "-f")  # comes back when the container has ended
    assert followed == "".join(f"line {i}\n" for i in range(5)) + "err\n"
    assert time.monotonic() - begun > 0.5
    assert jobs.logs("run-1", "--tail=2") == "line 4\nerr\n"
    stamped = jobs.logs("run-1", "--timestamps", "--tail=1")
    assert stamped.startswith("20") and stamped.endswith("Z err\n")
    assert jobs.logs("run-1", "--since=1h") == followed
    lines = jobs.logs("run-1", "--timestamps").splitlines()
    since = lines[3].split()[0][:19]  # the API server passes whole seconds on
    expected = [line.split(" ", 1)[1] for line in lines if line >= since]
    assert jobs.logs("run-1", f"--since-time={since}Z").splitlines() == expected
    assert len(expected) >= 3
    assert jobs.logs("run-1", "--limit-bytes=6") == "line 0"


def test_logs_are_for_the_api_server_only(agent, jobs, kubectl, cluster, tmp_path):
    """Another user of this machine, and a run's own token, must not read logs from the agent's port."""
    jobs.run(["python", "-c", "print('secret')"])
    pod = jobs.ended()
    node = json.loads(kubectl("get", "node", agent.name, "-o", "json"))
    port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    url = f"https://127.0.0.1:{port}/containerLogs/{jobs.namespace}/{pod['metadata']['name']}/flow"
    anonymous = subprocess.run(["curl", "-sk", "-m", "5", url], capture_output=True, text=True, check=False)
    assert "secret" not in anonymous.stdout
    assert anonymous.returncode != 0
    # A certificate of the cluster is not enough: the identity needs the right to use the node.
    stranger = kubeconfig_pem(cluster.issue_kubeconfig(tmp_path / "jane", "jane"), tmp_path)
    refused = subprocess.run(["curl", "-sk", "--cert", stranger, url], capture_output=True, text=True, check=False)
    assert refused.stdout == f"jane may not use nodes/proxy of {agent.name}\n"
    admin = kubeconfig_pem(cluster.kubeconfig, tmp_path)
    allowed = subprocess.run(["curl", "-sk", "--cert", admin, url], capture_output=True, text=True, check=False)
    assert allowed.stdout == "secret\n"


def kubeconfig_pem(kubeconfig: Path, folder: Path) -> str:
    import yaml

    user = yaml.safe_load(kubeconfig.read_text())["users"][0]["user"]
    path = folder / f"{kubeconfig.name}.pem"
    parts = (user["client-certificate-data"], user["client-key-data"])
    path.write_bytes(b"\n".join(base64.b64decode(part) for part in parts))
    return str(path)
