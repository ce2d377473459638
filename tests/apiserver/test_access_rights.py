"""What the API server's authorizer says that operator and run may do: the whole table, yes and no."""

import json

import pytest

from levada.resources import access
from support.stack import wait_until

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("installed")]

LEVADA = "levada.dev"
PLURALS = ("flows", "deployments", "schedules", "flowruns", "workqueues", "blocks", "backfills", "concurrencylimits")
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
READ = {"get", "list", "watch"}

# (group, resource, subresource) -> the verbs that the operator has in any namespace. What is not listed it has not.
OPERATOR = {
    **{(LEVADA, plural, ""): READ for plural in PLURALS},
    (LEVADA, "flowruns", ""): READ | {"create", "patch", "delete"},
    **{(LEVADA, plural, "status"): {"get", "patch", "update"} for plural in PLURALS},
    ("batch", "jobs", ""): READ | {"create", "patch", "delete"},
    ("", "pods", ""): READ,
    ("", "configmaps", ""): {"get", "list", "create", "delete"},
    ("", "events", ""): {"create", "patch"},
    ("", "nodes", ""): {"get"},
    ("", "namespaces", ""): READ,
    ("apiextensions.k8s.io", "customresourcedefinitions", ""): READ,
    ("", "secrets", ""): set(),
    ("", "serviceaccounts", ""): set(),
    ("", "serviceaccounts", "token"): set(),
    ("", "pods", "exec"): set(),
    ("", "pods", "log"): set(),
    ("", "pods", "ephemeralcontainers"): set(),
    ("", "pods", "eviction"): set(),
    ("", "nodes", "proxy"): set(),
    ("apps", "deployments", ""): set(),
    ("batch", "cronjobs", ""): set(),
    ("coordination.k8s.io", "leases", ""): set(),
    ("rbac.authorization.k8s.io", "roles", ""): set(),
    ("rbac.authorization.k8s.io", "clusterrolebindings", ""): set(),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies", ""): set(),
    ("certificates.k8s.io", "certificatesigningrequests", ""): set(),
}
RUNNER = {
    **{key: set() for key in OPERATOR},
    (LEVADA, "flowruns", ""): {"get"},
    (LEVADA, "flowruns", "status"): {"patch"},
    (LEVADA, "blocks", ""): {"get"},
    (LEVADA, "concurrencylimits", ""): {"get"},
}


# People, by the role that they are bound to in a namespace. Kubernetes' own roles give the rest (pods, logs, Secrets).
WRITE = {"create", "update", "patch", "delete", "deletecollection"}
NO_STATUS = {(LEVADA, plural, "status"): set() for plural in PLURALS}
VIEW = {**{(LEVADA, plural, ""): READ for plural in PLURALS}, **NO_STATUS}
EDIT = {
    key: verbs | (WRITE if key not in NO_STATUS and key[1] not in {"workqueues", "concurrencylimits"} else set())
    for key, verbs in VIEW.items()
}
PEOPLE = {
    "view": VIEW,
    "edit": EDIT,
    "admin": {key: set() if key in NO_STATUS else READ | WRITE for key in VIEW},
    "levada-view": VIEW,
    "levada-start": {key: set() for key in VIEW} | {(LEVADA, "flowruns", ""): {"create", "update", "patch"}},
}


async def allowed(client, account, namespace, key, verb):
    home, name = account
    group, resource, subresource = key
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{home}", "system:authenticated"]
    attributes = {
        "namespace": namespace,
        "group": group,
        "resource": resource,
        "subresource": subresource,
        "verb": verb,
    }
    user, groups = (f"system:serviceaccount:{home}:{name}", groups) if home else (name, ["system:authenticated"])
    spec = {"user": user, "groups": groups, "resourceAttributes": attributes}
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    review = await client.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body=body)
    return review["status"]["allowed"]


async def verbs_of(client, account, namespace, key):
    return {verb for verb in VERBS if await allowed(client, account, namespace, key, verb)}


OPERATOR_ACCOUNT = ("levada-system", "levada-operator")


async def table_of(client, account, namespace):
    return {key: await verbs_of(client, account, namespace, key) for key in OPERATOR}


async def test_the_operator_in_a_namespace_of_runs(client, namespace):
    assert await table_of(client, OPERATOR_ACCOUNT, namespace) == OPERATOR


async def test_a_run_in_its_namespace(client, namespace):
    assert await table_of(client, (namespace, "levada-runner"), namespace) == RUNNER


async def test_a_run_in_another_namespace(client, namespace):
    table = await table_of(client, (namespace, "levada-runner"), "default")
    assert {key: verbs for key, verbs in table.items() if verbs} == {}


async def test_the_operators_lease_is_in_its_own_namespace(client):
    key = ("coordination.k8s.io", "leases", "")
    wanted = READ | {"create", "patch", "update"}
    assert await verbs_of(client, OPERATOR_ACCOUNT, "levada-system", key) == wanted


async def test_the_operator_cannot_read_secrets_of_its_own_namespace(client):
    assert await verbs_of(client, OPERATOR_ACCOUNT, "levada-system", ("", "secrets", "")) == set()


@pytest.fixture
def aggregated(kubectl):
    """A controller puts the rules into Kubernetes' own roles, a moment later."""
    wait_until(
        lambda: all(LEVADA in kubectl("get", "clusterrole", role, "-o", "yaml") for role in ("view", "edit", "admin")),
        "view, edit and admin hold Levada's rules",
    )


@pytest.mark.usefixtures("aggregated")
@pytest.mark.parametrize("role", PEOPLE)
async def test_a_person_with_a_role_in_a_namespace(client, kubectl, namespace, role):
    person = f"{role}-of-{namespace}"
    kubectl("create", "rolebinding", "p", f"--clusterrole={role}", f"--user={person}", "-n", namespace)
    answers = {key: await verbs_of(client, ("", person), namespace, key) for key in PEOPLE[role]}
    assert answers == PEOPLE[role]
    assert await verbs_of(client, ("", person), "default", (LEVADA, "flowruns", "")) == set()


def test_applying_again_changes_nothing(kubectl, namespace):
    listing = {"apiVersion": "v1", "kind": "List", "items": access.manifests([namespace])}
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=listing)
    assert kubectl("diff", "--server-side", "--force-conflicts", "-f", "-", stdin=listing) == ""


def test_the_manifests_pass_strict_validation(kubectl, namespace):
    manifests = access.manifests([namespace])
    options = ("--server-side", "--force-conflicts", "--validate=strict", "--dry-run=server")
    said = kubectl(
        "apply", *options, "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    )
    assert said.count("serverside-applied") == len(manifests)
