"""Secrets that are given to runs and receivers turn up nowhere: not in objects, Events, logs, metrics, the archive, or what commands print.

Each way that a secret can take gets a value of its own that occurs nowhere else (a canary), then everything is searched for all of them.
A public marker goes the same ways, and must be found: a search that finds nothing would prove nothing.
"""

import base64
import gzip
import hashlib
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import urllib.request
from urllib.parse import quote

import boto3
import pytest
from aiosmtpd.controller import Controller as SmtpController
from aiosmtpd.smtp import AuthResult
from moto.server import ThreadedMotoServer

from levada.blocks import Secret
from levada.resources import names
from levada.resources.kinds import LEVADA_KINDS
from support.git import Repository, git_over_http
from support.receiver import receiving
from support.stack import Stack, wait_until

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(240)]

MARK = secrets.token_hex(6)
PUBLIC = f"public-{MARK}"
CANARIES = {
    way: f"canary-{way}-{MARK}"
    for way in (
        "env", "from", "volume", "block", "s3", "operator-s3", "url", "sign", "header", "password", "git", "smtp-user", "smtp-password",
    )
}  # fmt: skip
LOGIN_REFUSED = "the server does not take username and password"
CODE = """
import hashlib, os
from pathlib import Path
from levada import flow, get_run_logger, task
from levada.blocks import Secret


def seen():
    given = [os.environ["TOKEN"], os.environ["FROM_value"], Path(os.environ["CANARY_DIR"], "value").read_text(), Secret.load("token").get(), os.environ["AWS_SECRET_ACCESS_KEY"]]
    return [hashlib.sha256(each.encode()).hexdigest() for each in given]


@task
def tell(mark):
    print("printed:", mark, Secret.load("token").get())
    get_run_logger().info("logged: %s %s", Secret.load("token").get(), mark)
    return mark


@task
def fail(mark):
    raise ValueError(f"{Secret.load('token').get()} of {mark}")


@flow
def main(mark: str, digests: list[str], fails: bool = False):
    assert seen() == digests, "the secrets did not arrive"
    tell(mark)
    if fails:
        fail(mark)
    return mark
"""


FROM_GIT = """
from levada import flow

@flow
def main(mark: str):
    print("from git:", mark)
    return mark
"""


def digest(way):
    return hashlib.sha256(CANARIES[way].encode()).hexdigest()


def an_object(kind, name, spec):
    return {"apiVersion": names.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def s3():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    client = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id="x", aws_secret_access_key="x", region_name="us-east-1"
    )
    for bucket in ("code", "archive"):
        client.create_bucket(Bucket=bucket)
    client.put_object(Bucket="code", Key="project/flow.py", Body=CODE.encode())
    yield url, client
    client.close()
    server.stop()


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The URL of a repository that a canary opens."""
    made = Repository(tmp_path_factory.mktemp("canary-git"))
    made.commit("flow.py", FROM_GIT)
    made.push()
    with git_over_http(made.bare.parent, "deploy", CANARIES["git"]) as url:
        yield f"{url}/flows.git"


@pytest.fixture(scope="module")
def secrets_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("secrets")


@pytest.fixture(scope="module")
def stack(cluster, installed, s3, secrets_dir, tmp_path_factory):
    stack = Stack(cluster, tmp_path_factory.mktemp("canary"), agent_name="canary-agent")
    stack.arguments["operator"] += [
        "--secrets-dir", str(secrets_dir), "--notify-allow", "127.0.0.1", "--storage", "s3://archive/levada", "--history-interval", "2",
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", s3[0])
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_ACCESS_KEY_ID", "operator")
        patch.setenv("AWS_SECRET_ACCESS_KEY", CANARIES["operator-s3"])
        stack.start("operator")
    stack.start("agent")
    yield stack
    stack.stop()


@pytest.fixture
def receiver():
    with receiving() as made:
        made.answers = [500, 200]  # an error is on record for a while
        yield made


class MailServer:
    """Takes mail, and no login until `opens` is set: until then an error is on record."""

    def __init__(self):
        self.logins, self.mails, self.opens = [], [], False
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.controller = SmtpController(
            self,
            hostname="127.0.0.1",
            port=self.port,
            authenticator=self.check,
            auth_require_tls=False,
        )

    def check(self, server, session, envelope, mechanism, data):
        self.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=self.opens, handled=False)

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        self.mails.append(envelope.content.decode())
        return "250 OK"


@pytest.fixture
def mail_server():
    made = MailServer()
    made.controller.start()
    yield made
    made.controller.stop()


@pytest.fixture
def glimpses():
    """The runs as they were seen before their end: errors of deliveries stand in them no longer than they last."""
    return []


@pytest.fixture
def ran(*, stack, s3, repository, kubectl, namespace, receiver, mail_server, secrets_dir, glimpses):
    """Runs with all the secrets, two that complete and one that fails, told to a receiver and by mail, and archived."""
    kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    given = {"c-env": "env", "c-from": "from", "c-volume": "volume", "token": "block"}
    for name, way in given.items():
        kubectl("-n", namespace, "create", "secret", "generic", name, f"--from-literal=value={CANARIES[way]}")
    keys = ("--from-literal=AWS_ACCESS_KEY_ID=run", f"--from-literal=AWS_SECRET_ACCESS_KEY={CANARIES['s3']}")
    kubectl("-n", namespace, "create", "secret", "generic", "c-s3", *keys)
    keys = ("--from-literal=username=deploy", f"--from-literal=password={CANARIES['git']}")
    kubectl("-n", namespace, "create", "secret", "generic", "c-git", *keys)
    hook = secrets_dir / namespace / "hook"
    hook.mkdir(parents=True)
    (hook / "url").write_text(f"{receiver.url}/{CANARIES['url']}?token={CANARIES['password']}")
    (hook / "sign").write_text(CANARIES["sign"])
    (hook / "header").write_text(f"Bearer {CANARIES['header']}")
    mail = secrets_dir / namespace / "mail"
    mail.mkdir()
    (mail / "username").write_text(CANARIES["smtp-user"])
    (mail / "password").write_text(CANARIES["smtp-password"])
    manifests = definitions(s3[0], repository, mail_server.port)
    kubectl("-n", namespace, "apply", "--server-side", "-f", "-", stdin=manifests)
    parameters = {"mark": PUBLIC, "digests": [digest(way) for way in ("env", "from", "volume", "block", "s3")]}
    for name, more in (("good", {}), ("bad", {"fails": True})):
        spec = {"deploymentRef": {"name": "canary"}, "parameters": parameters | more}
        kubectl("-n", namespace, "create", "-f", "-", stdin=an_object("FlowRun", name, spec))

    spec = {"deploymentRef": {"name": "canary-git"}, "parameters": {"mark": PUBLIC}}
    kubectl("-n", namespace, "create", "-f", "-", stdin=an_object("FlowRun", "git", spec))

    def settled():
        glimpses.append(kubectl("-n", namespace, "get", "fr", "-o", "json"))
        mail_server.opens = mail_server.opens or LOGIN_REFUSED in glimpses[-1]
        items = json.loads(glimpses[-1])["items"]
        statuses = {each["metadata"]["name"]: each.get("status", {}) for each in items}
        return statuses if all(each.get("notified") and each.get("archive") for each in statuses.values()) else None

    try:
        statuses = wait_until(settled, "the runs have ended, are archived and told", 120)
    except AssertionError:
        print(
            stack.log("operator")[-4000:],
            stack.log("agent")[-2000:],
            kubectl("-n", namespace, "get", "fr", "-o", "yaml"),
        )
        raise
    assert {name: each["phase"] for name, each in statuses.items()} == {
        "good": "Completed",
        "bad": "Failed",
        "git": "Completed",
    }, statuses
    return statuses


def definitions(s3_url, repository, mail_port):
    key = {"name": "hook", "key": "sign"}
    webhook = {
        "urlFrom": {"name": "hook", "key": "url"},
        "headersFrom": {"Authorization": {"name": "hook", "key": "header"}},
        "signingKeyFrom": key,
    }
    volume = {"name": "canary", "secret": {"secretName": "c-volume"}}
    mount = {"name": "canary", "mountPath": "/etc/canary", "readOnly": True}
    infrastructure = {
        "env": [
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "c-env", "key": "value"}}},
            {"name": "CANARY_DIR", "value": "/etc/canary"},  # an agent has it elsewhere, and rewrites the path
            {"name": "AWS_ENDPOINT_URL", "value": s3_url},
            {"name": "AWS_REGION", "value": "us-east-1"},
        ],
        "envFrom": [
            {"prefix": "FROM_", "secretRef": {"name": "c-from"}},
            {"prefix": "BLOCK_SECRET__TOKEN__", "secretRef": {"name": "token"}},
        ],
        "podTemplate": {
            "spec": {"volumes": [volume], "containers": [{"name": names.CONTAINER_NAME, "volumeMounts": [mount]}]}
        },
    }
    source = {
        "s3": {
            "bucket": "code",
            "path": "project",
            "endpointUrl": s3_url,
            "region": "us-east-1",
            "secretRef": {"name": "c-s3"},
        }
    }
    git = {"url": repository, "secretRef": {"name": "c-git"}}
    email = {
        "host": "127.0.0.1",
        "port": mail_port,
        "security": "None",
        "from": "levada@example.com",
        "to": ["ops@example.com"],
        "credentials": {"name": "mail"},
    }
    phases = ["Completed", "Failed"]
    told = [
        {"name": "hook", "phases": phases, "to": {"webhook": webhook}},
        {"name": "mail", "phases": phases, "to": {"email": email}},
    ]
    return [
        an_object("Flow", "canary-git", {"entrypoint": "flow.py:main", "source": {"git": git}}),
        an_object("Deployment", "canary-git", {"flowRef": {"name": "canary-git"}, "notifications": told}),
        Secret("unused").to_resource("token", secret="token"),
        an_object("Flow", "canary", {"entrypoint": "flow.py:main", "source": source}),
        an_object("Deployment", "canary", {
            "flowRef": {"name": "canary"},
            "persistResults": True,
            "infrastructure": infrastructure,
            "notifications": told,
        }),
    ]  # fmt: skip


def places(stack, s3, kubectl, cluster, namespace):
    """Everything that Levada writes, by where it is."""
    kinds = [f"{kind.plural}.{kind.group}" for kind in LEVADA_KINDS] + [
        "jobs",
        "pods",
        "events",
        "configmaps",
        "leases",
    ]
    for kind in kinds:
        yield f"{kind} of the namespace", kubectl("-n", namespace, "get", kind, "-o", "json", "--show-managed-fields")
    yield "events of the cluster", kubectl("get", "events", "-A", "-o", "json")
    for part in ("operator", "agent"):
        yield f"log of the {part}", stack.log(part)
    for run in ("good", "bad", "git"):
        yield (
            f"log of the pod of {run}",
            kubectl("-n", namespace, "logs", "-l", f"{names.LABEL_RUN}={run}", "--tail=-1"),
        )
    pages = re.search(r"on (http://127\.0\.0\.1:\d+)", stack.log("operator"))
    assert pages
    for page in ("metrics", "healthz", "readyz"):
        with urllib.request.urlopen(f"{pages[1]}/{page}", timeout=10) as answer:
            yield f"the operator's page /{page}", answer.read().decode()
    _, client = s3
    for each in client.list_objects_v2(Bucket="archive").get("Contents", ()):
        body = client.get_object(Bucket="archive", Key=each["Key"])["Body"].read()
        text = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        yield f"archive: {each['Key']}", f"{each['Key']} {text.decode(errors='replace')}"
    environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig), "LEVADA_HOME": str(stack.folder)}
    for command in (
        ["runs", "show", "bad"],
        ["runs", "logs", "bad"],
        ["runs", "ls", "-o", "json"],
        ["audit", "-o", "json"],
    ):
        command = [sys.executable, "-m", "levada.cli", *command, "-n", namespace]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
        yield f"levada {' '.join(command[3:])}", done.stdout + done.stderr


def spellings(canary):
    """The value itself, and as it looks in the forms that hide it from a plain search."""
    return {canary, quote(canary, safe=""), *in_base64(canary.encode())}


def in_base64(value):
    """What is left of the value when base64 encodes it with something before it, as logins do: `user:password`, `NUL user NUL password`."""
    for before in range(3):
        whole = base64.b64encode(bytes(before) + value).decode()
        yield whole[4 if before else 0 : (before + len(value)) // 3 * 4]


def test_the_search_sees_a_value_inside_base64():
    for before in (b"", b"u:", b"us:", b"user:", b"\0u\0"):
        text = base64.b64encode(before + CANARIES["smtp-password"].encode() + b"\n").decode()
        assert any(spelling in text for spelling in spellings(CANARIES["smtp-password"])), before


def leaking(found):
    return [
        (way, where)
        for where, text in found.items()
        for way, canary in CANARIES.items()
        if any(spelling in text for spelling in spellings(canary))
    ]


def test_no_secret_is_anywhere(*, ran, stack, s3, kubectl, cluster, namespace, receiver, mail_server, glimpses):
    found = dict(places(stack, s3, kubectl, cluster, namespace)) | {"the runs before their end": "".join(glimpses)}
    assert leaking(found) == []
    marked = {where for where, text in found.items() if PUBLIC in text}
    for needed in ("flowruns.levada.dev of the namespace", "jobs of the namespace", "log of the pod of good", "log of the pod of bad", "log of the pod of git", "levada runs logs bad -n " + namespace):  # fmt: skip
        assert needed in marked, sorted(marked)
    assert [where for where in marked if where.startswith("archive: ")]
    assert "canary" in found["the operator's page /metrics"]  # the Deployment's name: the page has its series
    # What was sent did carry them: the receiver is who they were for.
    assert CANARIES["url"] in receiver.got[0].path
    assert receiver.got[0].headers["authorization"] == f"Bearer {CANARIES['header']}"
    assert set(mail_server.logins) == {(CANARIES["smtp-user"], CANARIES["smtp-password"])}
    assert len(mail_server.mails) >= len(ran)
    assert LOGIN_REFUSED in found["the runs before their end"]
    assert leaking(dict(enumerate(mail_server.mails))) == []
    assert PUBLIC in json.dumps(ran)


def test_the_pods_are_restricted_and_run_under_seccomp(ran, kubectl, namespace):
    """The namespace enforces the Pod Security Standard `restricted`, so that no other pod would be there."""
    pods = json.loads(kubectl("-n", namespace, "get", "pods", "-o", "json"))["items"]
    assert len(pods) == 3
    for pod in pods:
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
