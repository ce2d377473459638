"""What the API server's authorizer says that operator and run may do: the whole table, yes and no."""

import json

import pytest

from levada.resources import access

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
    spec = {"user": f"system:serviceaccount:{home}:{name}", "groups": groups, "resourceAttributes": attributes}
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
