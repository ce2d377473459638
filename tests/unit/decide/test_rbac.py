"""RBAC as the authorizer reads it. What the API server itself says of the same table: tests/apiserver/test_audit.py."""

import pytest

from levada.decide.rbac import Ask, Rule, Subject, grants, rights_of, who_may

ANN, BOB = Subject("User", "ann"), Subject("User", "bob")
TEAM = Subject("Group", "team")
ACCOUNT = Subject("ServiceAccount", "etl", "ns")


def a_rule(verbs="get", resources="flowruns", groups="levada.dev", names=""):
    return Rule(*(frozenset(each.split(",")) - {None} for each in (verbs, groups, resources)), frozenset(names.split()))


def a_role(name, *rules, namespace=None):
    meta = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"kind": "Role" if namespace else "ClusterRole", "metadata": meta, "rules": list(rules)}


def a_binding(role, *subjects, namespace=None, kind="ClusterRole", labels=None):
    meta = {"name": f"b-{role}", "labels": labels or {}, **({"namespace": namespace} if namespace else {})}
    bound = [
        {"kind": each.kind, "name": each.name, **({"namespace": each.namespace} if each.namespace else {})}
        for each in subjects
    ]
    made = "RoleBinding" if namespace else "ClusterRoleBinding"
    return {"kind": made, "metadata": meta, "roleRef": {"kind": kind, "name": role}, "subjects": bound}


CREATE = {"apiGroups": ["levada.dev"], "resources": ["flowruns"], "verbs": ["create"]}
START = Ask("create", "levada.dev", "flowruns")


@pytest.mark.parametrize(
    ("case", "rule", "ask", "expected"),
    [
        ("the very thing", a_rule(), Ask("get", "levada.dev", "flowruns"), True),
        ("another verb", a_rule(), Ask("list", "levada.dev", "flowruns"), False),
        ("another group", a_rule(groups="batch"), Ask("get", "levada.dev", "flowruns"), False),
        ("every verb", a_rule(verbs="*"), Ask("delete", "levada.dev", "flowruns"), True),
        ("every group", a_rule(groups="*"), Ask("get", "levada.dev", "flowruns"), True),
        ("every resource", a_rule(resources="*"), Ask("get", "levada.dev", "flowruns/status"), True),
        ("a resource is not its subresource", a_rule(), Ask("get", "levada.dev", "flowruns/status"), False),
        ("nor the other way round", a_rule(resources="flowruns/status"), Ask("get", "levada.dev", "flowruns"), False),
        ("a subresource of all", a_rule(resources="*/status"), Ask("get", "levada.dev", "flowruns/status"), True),
        ("one of that name", a_rule(names="a b"), Ask("get", "levada.dev", "flowruns", "b"), True),
        ("one of another name", a_rule(names="a b"), Ask("get", "levada.dev", "flowruns", "c"), False),
        ("all of them is more than some", a_rule(names="a"), Ask("get", "levada.dev", "flowruns"), False),
        ("the core group", a_rule(groups="", resources="configmaps"), Ask("get", "", "configmaps", "x"), True),
    ],
)
def test_what_a_rule_allows(case, rule, ask, expected):
    assert rule.allows(ask) is expected


def test_who_may_by_which_binding_and_where():
    given = grants(
        [a_role("start", CREATE), a_role("start", CREATE, namespace="ns")],
        [
            a_binding("start", ANN, namespace="ns"),
            a_binding("start", BOB, namespace="ns", kind="Role"),
            a_binding("start", TEAM),
        ],
    )
    assert who_may(given, [START], "ns") == {
        TEAM: "ClusterRoleBinding b-start (ClusterRole start)",
        ANN: "RoleBinding b-start (ClusterRole start)",
        BOB: "RoleBinding b-start (Role start)",
    }
    assert set(who_may(given, [START], "other")) == {TEAM}


def test_a_binding_to_a_role_that_is_missing_gives_nothing():
    assert grants([], [a_binding("start", ANN)]) == []
    assert grants([a_role("start", CREATE, namespace="a")], [a_binding("start", ANN, namespace="b", kind="Role")]) == []


def test_rules_about_urls_and_bindings_without_subjects_give_nothing():
    urls = {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}
    assert grants([a_role("urls", urls)], [a_binding("urls", ANN)]) == []
    assert grants([a_role("start", CREATE)], [a_binding("start")]) == []


def test_the_control_planes_own_bindings_are_known():
    (given,) = grants([a_role("start", CREATE)], [a_binding("start", ANN, labels={"kubernetes.io/bootstrapping": "rbac-defaults"})])  # fmt: skip
    assert given.bootstrap


@pytest.mark.parametrize(
    ("case", "subject"),
    [
        ("by itself", ACCOUNT),
        ("as a user", Subject("User", "system:serviceaccount:ns:etl")),
        ("with all accounts", Subject("Group", "system:serviceaccounts")),
        ("with those of its namespace", Subject("Group", "system:serviceaccounts:ns")),
        ("with everybody", Subject("Group", "system:authenticated")),
    ],
)
def test_how_a_service_account_comes_to_a_right(case, subject):
    given = grants([a_role("start", CREATE)], [a_binding("start", subject, namespace="ns")])
    assert len(rights_of(given, ACCOUNT, "ns")) == 1
    assert rights_of(given, ACCOUNT, "other") == []


@pytest.mark.parametrize("subject", [Subject("ServiceAccount", "etl", "other"), Subject("Group", "system:serviceaccounts:other"), ANN])  # fmt: skip
def test_who_is_somebody_else(subject):
    given = grants([a_role("start", CREATE)], [a_binding("start", subject)])
    assert rights_of(given, ACCOUNT, "ns") == []


def test_an_account_without_a_namespace_is_of_the_bindings():
    binding = a_binding("start", Subject("ServiceAccount", "etl"), namespace="ns")
    (given,) = grants([a_role("start", CREATE)], [binding])
    assert given.subjects == (ACCOUNT,)
