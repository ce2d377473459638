"""What `levada audit` says of Deployments, accounts and people."""

import pytest

from levada.cli.audit import as_object, audit_table, finding_lines
from levada.cli.output import make_console
from levada.decide.audit import AuditFacts, audit
from levada.decide.rbac import Grant, Rule, Subject
from levada.resources.access import RUNNER_RULES

ANN, BOB = Subject("User", "ann"), Subject("User", "bob")
EVERYBODY = Subject("Group", "system:authenticated")
RUNNER = Subject("ServiceAccount", "levada-runner", "ns")


def a_grant(subject, verbs, resources, group="levada.dev", *, namespace="ns", names="", bootstrap=False):
    rule = Rule(
        frozenset(verbs.split(",")), frozenset({group}), frozenset(resources.split(",")), frozenset(names.split())
    )
    return Grant((subject,), (rule,), "RoleBinding b (Role r)", namespace, bootstrap)


RUNNERS = [a_grant(RUNNER, ",".join(verbs), ",".join(kinds), group) for group, kinds, verbs in RUNNER_RULES]


def a_deployment(**spec):
    return {"metadata": {"namespace": "ns", "name": "d"}, "spec": {"flowRef": {"name": "f"}, **spec}}


def a_flow(**source):
    return {"metadata": {"namespace": "ns", "name": "f"}, "spec": {"source": source or {"inline": "..."}}}


def entry(
    deployment=None, *grants, flow=None, accounts=frozenset({("ns", "levada-runner"), ("ns", "mighty")}), runner=True
):
    given = (*(RUNNERS if runner else ()), *grants)
    (found,) = audit(AuditFacts([deployment or a_deployment()], [flow or a_flow()], accounts, given))
    return found


def reasons(found):
    return [each.reason for each in found.findings]


def test_a_plain_deployment_has_no_finding():
    found = entry()
    assert (found.account, found.code, found.secrets, found.opens, found.beyond) == (
        "levada-runner",
        "inline",
        (),
        (),
        (),
    )
    assert found.findings == ()
    assert found.started_by == found.edited_by == {}


@pytest.mark.parametrize(
    ("case", "verbs", "resources", "starts", "edits"),
    [
        ("who creates runs", "create", "flowruns", True, False),
        ("who cancels runs", "patch", "flowruns", False, False),
        ("who makes a schedule", "create", "schedules", True, False),
        ("who turns a schedule to it", "patch", "schedules", True, False),
        ("who makes a backfill", "create", "backfills", True, False),
        ("who edits the deployment", "update", "deployments", False, True),
        ("who makes another one", "create", "deployments", False, True),
        ("who edits the code", "patch", "flows", False, True),
        ("who looks", "get,list,watch", "*", False, False),
        ("who may do everything", "*", "*", True, True),
    ],
)
def test_who_starts_and_who_edits(case, verbs, resources, starts, edits):
    found = entry(None, a_grant(ANN, verbs, resources))
    assert (ANN in found.started_by, ANN in found.edited_by) == (starts, edits)


def test_a_right_on_another_object_is_none_on_this():
    assert ANN not in entry(None, a_grant(ANN, "patch", "deployments", names="other")).edited_by
    assert ANN in entry(None, a_grant(ANN, "patch", "deployments", names="other d")).edited_by
    assert ANN not in entry(None, a_grant(ANN, "create", "flowruns", namespace="elsewhere")).started_by


def test_the_control_planes_own_rights_are_left_out():
    assert entry(None, a_grant(ANN, "*", "*", "*", namespace="", bootstrap=True)).edited_by == {}


def test_who_may_change_the_code_alone_is_found():
    code = a_flow(configMap={"name": "code"})
    found = entry(None, a_grant(ANN, "patch", "configmaps", ""), a_grant(BOB, "*", "*", "*"), flow=code)
    assert set(found.edited_by) == {ANN, BOB}
    assert reasons(found) == ["CodeByOthers"]
    assert "User ann may change ConfigMap 'code'" in found.findings[0].message
    assert found.code == "configMap code"


@pytest.mark.parametrize(
    ("case", "spec", "expected"),
    [
        ("image", {"allowOverrides": ["image"]}, ["ImageIsOpen"]),
        ("a harmless variable", {"allowOverrides": ["env.MODE", "resources"]}, []),
        ("a variable that loads code", {"allowOverrides": ["env.PYTHONPATH"]}, ["LoadingIsOpen"]),
        ("no such account", {"infrastructure": {"serviceAccountName": "gone"}}, ["AccountMissing"]),
        ("an account that cannot report", {"infrastructure": {"serviceAccountName": "mighty"}}, ["AccountCannotReport"]),
        (
            "a pod that is not restricted",
            {"infrastructure": {"podTemplate": {"spec": {"hostNetwork": True, "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}}},
            ["NotRestricted"],
        ),
        (
            "a container as root",
            {"infrastructure": {"podTemplate": {"spec": {"containers": [{"name": "flow", "securityContext": {"runAsUser": 0}}]}}}},
            ["NotRestricted"],
        ),
    ],
)  # fmt: skip
def test_findings_about_the_deployment(case, spec, expected):
    assert reasons(entry(a_deployment(**spec))) == expected


def test_an_account_that_may_more_than_report():
    mighty = Subject("ServiceAccount", "mighty", "ns")
    found = entry(
        a_deployment(infrastructure={"serviceAccountName": "mighty"}),
        a_grant(mighty, "patch", "flowruns/status"),
        a_grant(mighty, "get,list", "secrets", ""),
        a_grant(Subject("Group", "system:serviceaccounts:ns"), "*", "*", "*"),
    )
    assert found.beyond == ("get,list secrets", "do anything to everything")
    assert reasons(found) == ["AccountHasMore", "EverybodyMayEdit", "EverybodyMayStart"]


def test_everybody_is_a_finding():
    found = entry(None, a_grant(EVERYBODY, "create", "flowruns"), a_grant(EVERYBODY, "patch", "flows"))
    # Everybody is also the run's own account.
    assert reasons(found) == ["AccountHasMore", "EverybodyMayEdit", "EverybodyMayStart"]


def test_secrets_are_found_wherever_a_pod_names_them():
    template = {
        "spec": {
            "volumes": [{"name": "v", "secret": {"secretName": "volume"}}],
            "containers": [{"name": "flow", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "inner", "key": "k"}}}]}],
        }
    }  # fmt: skip
    infrastructure = {
        "env": [{"name": "B", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}}],
        "envFrom": [{"secretRef": {"name": "from"}}],
        "imagePullSecrets": [{"name": "registry"}],
        "podTemplate": template,
    }
    found = entry(
        a_deployment(infrastructure=infrastructure), flow=a_flow(s3={"bucket": "b", "secretRef": {"name": "s3"}})
    )
    assert found.secrets == ("env", "from", "inner", "s3", "volume")
    assert found.code == "s3 b"


def test_a_deployment_without_its_flow_is_listed_too():
    (found,) = audit(AuditFacts([a_deployment()], [], frozenset({("ns", "levada-runner")}), RUNNERS))
    assert found.code == "unknown"


def test_the_forms_for_people_and_programs(capsys):
    found = entry(
        a_deployment(allowOverrides=["image"]),
        a_grant(ANN, "create", "flowruns"),
        a_grant(RUNNER, "get", "secrets", ""),
    )
    assert as_object(found) == {
        "namespace": "ns",
        "deployment": "d",
        "flow": "f",
        "code": "inline",
        "serviceAccount": "levada-runner",
        "secrets": [],
        "allowOverrides": ["image"],
        "rightsBeyondReporting": ["get secrets"],
        "startedBy": [{"kind": "User", "name": "ann", "via": "RoleBinding b (Role r)"}],
        "editedBy": [],
        "findings": [{"reason": each.reason, "message": each.message} for each in found.findings],
    }
    assert [line.split(": ")[1] for line in finding_lines([found])] == ["AccountHasMore", "ImageIsOpen"]
    make_console(width=200).print(audit_table([found]))
    said = capsys.readouterr().out
    assert "levada-runner" in said
    assert "User ann" in said
    assert "nobody" in said
