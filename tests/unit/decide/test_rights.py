"""What the API server's words about a missing right mean. They were copied from a real one."""

import pytest

from levada.decide.rights import missing_right
from levada.kube import Conflict, Forbidden
from levada.operator.rights import REMEMBERED_S, Rights

OPERATOR = "system:serviceaccount:levada-system:levada-operator"
NAMESPACED = f'jobs.batch is forbidden: User "{OPERATOR}" cannot create resource "jobs" in API group "batch" in the namespace "team-a"'
WIDE = f'flowruns.levada.dev is forbidden: User "{OPERATOR}" cannot list resource "flowruns" in API group "levada.dev" at the cluster scope'
CORE = f'pods is forbidden: User "{OPERATOR}" cannot watch resource "pods" in API group "" in the namespace "team-a"'
STATUS = f'flowruns.levada.dev "r" is forbidden: User "{OPERATOR}" cannot patch resource "flowruns/status" in API group "levada.dev" in the namespace "team-a": RBAC: clusterrole.rbac.authorization.k8s.io "x" not found'


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (NAMESPACED, f"{OPERATOR} may not create jobs.batch in namespace 'team-a'"),
        (WIDE, f"{OPERATOR} may not list flowruns.levada.dev in the whole cluster"),
        (CORE, f"{OPERATOR} may not watch pods in namespace 'team-a'"),
        (STATUS, f"{OPERATOR} may not patch flowruns/status.levada.dev in namespace 'team-a'"),
        ('pods "r-1-abcde" is forbidden: violates PodSecurity "restricted:latest": privileged', None),
        ('jobs.batch "r-1" is forbidden: exceeded quota: q, requested: count/jobs.batch=1, used: 1, limited: 1', None),
        ("flowruns.levada.dev \"r\" is forbidden: ValidatingAdmissionPolicy 'x' denied request: no", None),
        ("", None),
    ],
)  # fmt: skip
def test_what_a_refusal_is_about(message, expected):
    found = missing_right(message)
    assert (str(found) if found else None) == expected


def test_rights_are_remembered_for_a_while(caplog):
    now = [0.0]
    rights = Rights(lambda: now[0])
    rights.on_refused(Conflict(409, "Conflict", NAMESPACED))
    assert rights.missing() == []
    rights.on_refused(Forbidden(403, "Forbidden", "exceeded quota"))
    assert rights.missing() == []
    for _ in range(3):
        rights.on_refused(Forbidden(403, "Forbidden", NAMESPACED))
    assert [each.resource for each in rights.missing()] == ["jobs"]
    assert len([each for each in caplog.records if "a right is missing" in each.message]) == 1
    now[0] = REMEMBERED_S - 1
    rights.on_refused(Forbidden(403, "Forbidden", WIDE))
    assert {each.resource for each in rights.missing()} == {"jobs", "flowruns"}
    now[0] = REMEMBERED_S + 1
    assert [each.resource for each in rights.missing()] == ["flowruns"]
