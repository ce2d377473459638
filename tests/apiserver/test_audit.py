"""`levada audit` beside the API server's own authorizer: they answer each question alike."""

import json
import os
import subprocess
import sys

import pytest

from levada.cli.audit import facts_of
from levada.decide.audit import _START, _editing, audit
from levada.decide.rbac import Ask, who_may
from levada.resources import access

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("installed")]

GROUP = "levada.dev"
# name -> rules of a Role that a user of the same name is bound to
ROLES = {
    "starter": [([GROUP], ["flowruns"], ["create"], [])],
    "scheduler": [([GROUP], ["schedules"], ["patch"], [])],
    "editor": [([GROUP], ["deployments", "flows"], ["update", "patch"], [])],
    "editor-of-one": [([GROUP], ["deployments"], ["update"], ["etl"])],
    "editor-of-another": [([GROUP], ["deployments"], ["update"], ["other"])],
    "coder": [([""], ["configmaps"], ["patch"], ["etl-code"])],
    "looker": [([GROUP], ["*"], ["get", "list", "watch"], [])],
    "almighty": [(["*"], ["*"], ["*"], [])],
    "of-statuses": [([GROUP], ["*/status"], ["*"], [])],
    "of-another-group": [(["apps"], ["deployments"], ["*"], [])],
    "named-create": [([GROUP], ["flowruns"], ["create"], ["x"])],
}


def objects(namespace):
    yield from access.runner_manifests(namespace)
    for name, rules in ROLES.items():
        body = [
            {"apiGroups": groups, "resources": resources, "verbs": verbs, **({"resourceNames": names} if names else {})}
            for groups, resources, verbs, names in rules
        ]
        subject = {"kind": "User", "name": f"{name}-of-{namespace}", "apiGroup": "rbac.authorization.k8s.io"}
        yield access._rbac("Role", name, namespace, rules=body)
        yield access._rbac("RoleBinding", name, namespace, roleRef=access._role_ref("Role", name), subjects=[subject])
    group = {"kind": "Group", "name": f"team-{namespace}", "apiGroup": "rbac.authorization.k8s.io"}
    yield access._rbac(
        "RoleBinding", "team", namespace, roleRef=access._role_ref("ClusterRole", "edit"), subjects=[group]
    )
    account = {"kind": "ServiceAccount", "name": "ci", "namespace": namespace}
    yield access._rbac(
        "RoleBinding", "ci", namespace, roleRef=access._role_ref("ClusterRole", "levada-start"), subjects=[account]
    )
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "ci", "namespace": namespace}}
    source = {"configMap": {"name": "etl-code"}}
    for kind, spec in (
        ("Flow", {"entrypoint": "flow.py:main", "source": source}),
        ("Deployment", {"flowRef": {"name": "etl"}, "allowOverrides": ["image"]}),
    ):
        metadata = {"name": "etl", "namespace": namespace}
        yield {"apiVersion": f"{GROUP}/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


@pytest.fixture
def team(kubectl, namespace):
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=list(objects(namespace)))
    return namespace


async def the_server_allows(client, subject, ask, namespace):
    match subject.kind:
        case "User":
            who = {"user": subject.name, "groups": ["system:authenticated"]}
        case "Group":
            who = {"user": "somebody", "groups": [subject.name, "system:authenticated"]}
        case _:
            groups = ["system:serviceaccounts", f"system:serviceaccounts:{subject.namespace}", "system:authenticated"]
            who = {"user": f"system:serviceaccount:{subject.namespace}:{subject.name}", "groups": groups}
    resource, _, subresource = ask.resource.partition("/")
    attributes = {
        "namespace": namespace, "verb": ask.verb, "group": ask.group, "resource": resource, "subresource": subresource, "name": ask.name,
    }  # fmt: skip
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {**who, "resourceAttributes": attributes},
    }
    review = await client.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body=body)
    return review["status"]["allowed"]


async def test_the_audit_and_the_authorizer_agree_on_every_question(client, team):
    facts = await facts_of(client, team)
    asks = [
        *_START,
        *_editing("etl", "etl"),
        Ask("patch", "", "configmaps", "etl-code"),
        Ask("patch", GROUP, "flowruns/status"),
        Ask("get", "", "secrets"),
    ]
    here = [grant for grant in facts.grants if not grant.bootstrap]
    everybody = {subject for grant in here for subject in grant.subjects if grant.namespace == team}
    assert len(everybody) == len(ROLES) + 3
    questions = [(subject, ask) for ask in asks for subject in sorted(everybody)]
    differences = [
        (str(subject), ask)
        for subject, ask in questions
        if (subject in who_may(facts.grants, [ask], team)) != await the_server_allows(client, subject, ask, team)
    ]
    assert differences == []


async def test_who_starts_and_who_edits(client, team):
    (entry,) = audit(await facts_of(client, team))
    started = {each.name.removesuffix(f"-of-{team}") for each in entry.started_by}
    edited = {each.name.removesuffix(f"-of-{team}") for each in entry.edited_by}
    # The operator makes the runs of Schedules, by its own right.
    assert started >= {"starter", "scheduler", "almighty", f"team-{team}", "ci", "levada-operator"}
    assert not started & {"editor", "looker", "named-create", "of-statuses", "coder"}
    assert edited >= {"editor", "editor-of-one", "coder", "almighty", f"team-{team}"}
    assert not edited & {"editor-of-another", "looker", "starter", "of-statuses", "of-another-group"}
    assert [each.reason for each in entry.findings] == ["ImageIsOpen", "CodeByOthers"]


def test_the_command(cluster, team):
    def levada(*arguments):
        command = [sys.executable, "-m", "levada.cli", "audit", "-n", team, *arguments]
        environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig), "COLUMNS": "300"}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)

    said = levada()
    assert said.returncode == 0, said.stderr
    assert "levada-runner" in said.stdout
    assert f"{team}/etl: ImageIsOpen: " in said.stdout
    assert "1 deployments, 2 findings" in said.stdout
    (entry,) = json.loads(levada("-o", "json").stdout)["deployments"]
    assert entry["serviceAccount"] == "levada-runner"
    assert {"kind": "ServiceAccount", "namespace": team, "name": "ci", "via": "RoleBinding ci (ClusterRole levada-start)"} in entry["startedBy"]  # fmt: skip
    assert levada("--strict").returncode == 1
    assert levada("-o", "name").returncode == 2
