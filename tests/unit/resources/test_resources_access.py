"""The rights: short, listed one by one, and never a Secret."""

import re

import pytest

from levada.resources.access import PEOPLE_RULES, POLICY, manifests

WRITES = {"create", "update", "patch", "delete"}
ROLES = [each for each in manifests(["team-a", "team-b"]) if each["kind"] in {"Role", "ClusterRole"}]


def named(kind, name, namespace=None):
    return next(
        each
        for each in manifests(["team-a", "team-b"])
        if (each["kind"], each["metadata"]["name"], each["metadata"].get("namespace")) == (kind, name, namespace)
    )


@pytest.mark.parametrize("role", ROLES, ids=lambda role: f"{role['kind']}-{role['metadata']['name']}")
def test_no_role_has_a_wildcard_or_touches_secrets(role):
    for rule in role["rules"]:
        words = rule["apiGroups"] + rule["resources"] + rule["verbs"]
        assert "*" not in words
        assert "secrets" not in words
        assert not {"impersonate", "bind", "escalate"} & set(rule["verbs"])


def test_only_people_delete_many_at_once_and_nobody_but_programs_writes_a_status():
    for role in ROLES:
        verbs = {verb for rule in role["rules"] for verb in rule["verbs"]}
        statuses = [each for rule in role["rules"] for each in rule["resources"] if each.endswith("/status")]
        people = role["metadata"]["name"] in PEOPLE_RULES
        assert people or "deletecollection" not in verbs
        assert not people or not statuses


def test_the_roles_of_people_are_aggregated_and_one_is_not():
    labels = {name: named("ClusterRole", name)["metadata"]["labels"] for name in PEOPLE_RULES}
    aggregated = {
        name: [key.rpartition("-")[2] for key in found if key.startswith("rbac.")] for name, found in labels.items()
    }
    assert aggregated == {
        "levada-view": ["view"],
        "levada-edit": ["edit"],
        "levada-admin": ["admin"],
        "levada-start": [],
    }


def test_the_operator_writes_only_what_it_must():
    role = named("ClusterRole", "levada-operator")
    writes = {
        resource: sorted(WRITES & set(rule["verbs"]))
        for rule in role["rules"]
        for resource in rule["resources"]
        if WRITES & set(rule["verbs"])
    }
    statuses = {
        f"{plural}/status": ["patch", "update"]
        for plural in (
            "flows",
            "deployments",
            "schedules",
            "flowruns",
            "workqueues",
            "blocks",
            "concurrencylimits",
            "backfills",
        )
    }
    assert writes == statuses | {
        "flowruns": ["create", "delete", "patch"],
        "jobs": ["create", "delete", "patch"],
        "configmaps": ["create", "delete"],
        "events": ["create", "patch"],
    }


@pytest.mark.parametrize("namespace", ["team-a", "team-b"])
def test_a_run_may_only_read_runs_blocks_and_limits_and_patch_a_status(namespace):
    role = named("Role", "levada-runner", namespace)
    assert role["rules"] == [
        {"apiGroups": ["levada.dev"], "resources": ["flowruns/status"], "verbs": ["patch"]},
        {"apiGroups": ["levada.dev"], "resources": ["flowruns"], "verbs": ["get"]},
        {"apiGroups": ["levada.dev"], "resources": ["blocks"], "verbs": ["get"]},
        {"apiGroups": ["levada.dev"], "resources": ["concurrencylimits"], "verbs": ["get"]},
    ]
    binding = named("RoleBinding", "levada-runner", namespace)
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "levada-runner", "namespace": namespace}]
    assert named("ServiceAccount", "levada-runner", namespace)["automountServiceAccountToken"] is False


def test_the_policy_fails_closed_and_denies():
    assert named("ValidatingAdmissionPolicy", POLICY)["spec"]["failurePolicy"] == "Fail"
    binding = named("ValidatingAdmissionPolicyBinding", POLICY)["spec"]
    assert binding == {"policyName": POLICY, "validationActions": ["Deny"]}


@pytest.mark.parametrize(
    ("run", "pod", "own"),
    [
        ("etl", "etl-1-abcde", True),
        ("etl", "etl-12-24567", True),
        ("etl", "etl-1-1-abcde", False),  # the pod of a run named etl-1
        ("etl-1", "etl-1-abcde", False),
        ("etl-1", "etl-1-1-abcde", True),
        ("etl", "etl-abcde", False),
        ("etl", "other-etl-1-abcde", False),
        ("etl", "etl-1-abcdef", False),
    ],
)
def test_the_pattern_of_the_policy_tells_runs_apart(run, pod, own):
    expression = named("ValidatingAdmissionPolicy", POLICY)["spec"]["validations"][0]["expression"]
    found = re.fullmatch(r"variables\.pod\.matches\('\^' \+ request\.name \+ '(.+)'\)", expression)
    assert found
    assert bool(re.search(f"^{run}{found[1]}", pod)) is own


def test_the_order_works_for_apply():
    kinds = [each["kind"] for each in manifests(["team-a"])]
    assert kinds[0] == "Namespace"
    assert kinds.index("ValidatingAdmissionPolicy") < kinds.index("ValidatingAdmissionPolicyBinding")


def test_without_run_namespaces_only_the_operator_and_the_policy_remain():
    assert {each["metadata"].get("namespace") for each in manifests([])} == {None, "levada-system"}


def test_an_operator_of_some_namespaces_has_no_right_elsewhere():
    given = manifests(["team-a", "team-b"], namespaced=True)
    assert not [each for each in given if each["kind"].startswith("ClusterRole")]
    homes = {
        each["metadata"]["namespace"]
        for each in given
        if each["kind"] == "RoleBinding" and each["subjects"][0]["name"] == "levada-operator"
    }
    assert homes == {"team-a", "team-b", "levada-system"}
    cluster = named("ClusterRole", "levada-operator")["rules"]
    for namespace in ("team-a", "team-b"):
        role = next(
            each
            for each in given
            if each["kind"] == "Role"
            and (each["metadata"]["name"], each["metadata"]["namespace"]) == ("levada-operator", namespace)
        )
        beyond = [rule["resources"] for rule in cluster if rule not in role["rules"]]
        assert beyond == [["nodes"], ["namespaces"], ["customresourcedefinitions"]]
