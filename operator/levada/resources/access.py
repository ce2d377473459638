"""Who may do what: the operator's rights, a run's one right, and the admission policy that narrows it to its own run.

Verbs stand one by one, and nobody here may read a Secret: kubelets and agents hand secrets to pods, the operator only
names them. RBAC cannot say "your own FlowRun", so a ValidatingAdmissionPolicy does: it compares the pod's name, which
the API server itself puts into the request for a token bound to a pod, with the name of the FlowRun.
"""

from collections.abc import Sequence
from typing import Any, Final

from levada.resources.kinds import (
    BACKFILLS,
    BLOCKS,
    CONCURRENCY_LIMITS,
    DEPLOYMENTS,
    FLOW_RUNS,
    FLOWS,
    LEVADA_KINDS,
    SCHEDULES,
    WORK_QUEUES,
    Kind,
)
from levada.resources.names import (
    GROUP,
    LABEL_MANAGED_BY,
    MANAGED_BY,
    OPERATOR_NAMESPACE,
    OPERATOR_SERVICE_ACCOUNT,
    RUNNER_SERVICE_ACCOUNT,
    VERSION,
)

Manifest = dict[str, Any]
Rules = Sequence[tuple[str, tuple[str, ...], tuple[str, ...]]]

POLICY: Final = "levada-run-writes-its-own-status"
OPERATOR_LEASE_ROLE: Final = "levada-operator-leases"
POD_NAME_EXTRA: Final = "authentication.kubernetes.io/pod-name"
READ: Final = ("get", "list", "watch")
WRITE: Final = ("create", "update", "patch", "delete", "deletecollection")
AGGREGATE_TO: Final = "rbac.authorization.k8s.io/aggregate-to-"

# (API group, resources, verbs) where runs live: in every namespace, or in those that the operator serves.
OPERATOR_RULES: Final[Rules] = (
    (GROUP, tuple(kind.plural for kind in LEVADA_KINDS), READ),
    # A tick's run; spec.cancel of one that another replaces; a finished run that history lets go.
    (GROUP, ("flowruns",), ("create", "patch", "delete")),
    (GROUP, tuple(f"{kind.plural}/status" for kind in LEVADA_KINDS), ("get", "patch", "update")),
    ("batch", ("jobs",), (*READ, "create", "patch", "delete")),
    ("", ("pods",), READ),
    ("", ("configmaps",), ("get", "list", "create", "delete")),  # inline code, one immutable ConfigMap per version
    ("", ("events",), ("create", "patch")),
)
# In the whole cluster, unless the operator is told its namespaces by name.
OPERATOR_CLUSTER_RULES: Final[Rules] = (
    ("", ("nodes",), ("get",)),  # is the node of a silent pod still there?
    ("", ("namespaces",), READ),  # which namespaces there are, and which labels they have
    ("apiextensions.k8s.io", ("customresourcedefinitions",), READ),  # kopf: when the kinds are there
)
# In the operator's own namespace: leader election.
OPERATOR_LEASE_RULES: Final = (
    ("coordination.k8s.io", ("leases",), ("get", "list", "watch", "create", "patch", "update")),
)
# In each namespace of runs, and there the policy leaves only the run's own status. A Block names Secrets and holds none:
# their values reach a run only by its Deployment. Neither list nor watch: a run knows its own name, and need not learn others'.
RUNNER_RULES: Final = (
    (GROUP, ("flowruns/status",), ("patch",)),
    (GROUP, ("flowruns",), ("get",)),
    (GROUP, ("blocks",), ("get",)),
    (GROUP, ("concurrencylimits",), ("get",)),
)

# The dashboard's own identity: what it watches for everybody. Everything else it asks and does as the viewer (docs/adr/0022).
DASHBOARD_RULES: Final[dict[str, Rules]] = {
    # Where runs live: in every namespace, or in those that it is told by name.
    "watched": ((GROUP, tuple(kind.plural for kind in LEVADA_KINDS), READ),),
    "cluster": (("", ("nodes",), READ),),  # agents
    "leases": (("coordination.k8s.io", ("leases",), ("list",)),),  # in the operator's namespace: is it alive?
    # To ask as whom the proxy has authenticated. RBAC cannot leave `system:` out: the dashboard does.
    "proxy": (("", ("users", "groups"), ("impersonate",)),),
    # Nobody is the viewer: what is shown is read with its own rights.
    "anonymous": (("", ("pods", "events"), ("list",)), ("", ("pods/log",), ("get",))),
}


def _plurals(*kinds: Kind) -> tuple[str, ...]:
    return tuple(kind.plural for kind in kinds)


# For people: ClusterRoles to bind in a namespace. Nobody gets a right on a status: that is the operator's and the run's own.
# Those of view, edit and admin are aggregated to Kubernetes' own roles of these names, each of which holds the ones before it. Who may
# edit Deployments may run code as any service account of the namespace, as who may create pods can (Kubernetes' own `edit`). Limits that
# others have to keep are the administrator's, as quotas are. levada-start is for who may order runs and nothing else: bind it beside `view`.
PEOPLE_RULES: Final[dict[str, Rules]] = {
    "levada-view": ((GROUP, _plurals(*LEVADA_KINDS), READ),),
    "levada-edit": ((GROUP, _plurals(FLOWS, DEPLOYMENTS, SCHEDULES, FLOW_RUNS, BACKFILLS, BLOCKS), WRITE),),
    "levada-admin": ((GROUP, _plurals(WORK_QUEUES, CONCURRENCY_LIMITS), WRITE),),
    "levada-start": ((GROUP, _plurals(FLOW_RUNS), ("create", "update", "patch")),),  # update, patch: cancel and suspend
}
AGGREGATED: Final = {"levada-view": "view", "levada-edit": "edit", "levada-admin": "admin"}


def manifests(run_namespaces: Sequence[str], *, namespaced: bool = False) -> list[Manifest]:
    """Everything to apply beside the definitions, in an order that works for `kubectl apply`.

    The namespaces of runs must exist; the operator's own is made. `namespaced`: for `levada operator run --namespace …`,
    which then needs no right outside of these namespaces and its own; the roles of people are the cluster's, and left out.
    """
    per_namespace = [manifest for namespace in run_namespaces for manifest in runner_manifests(namespace)]
    rights = namespaced_manifests(run_namespaces) if namespaced else [*cluster_manifests(), *people_manifests()]
    return [*operator_manifests(), *rights, *per_namespace, *policy_manifests()]


def operator_manifests() -> list[Manifest]:
    """The operator's namespace and identity, and its right to stand for election there."""
    return [
        _manifest("v1", "Namespace", OPERATOR_NAMESPACE),
        _manifest("v1", "ServiceAccount", OPERATOR_SERVICE_ACCOUNT, OPERATOR_NAMESPACE),
        *_granted("Role", OPERATOR_LEASE_ROLE, OPERATOR_LEASE_RULES, OPERATOR_NAMESPACE),
    ]


def cluster_manifests() -> list[Manifest]:
    """The rights of an operator that serves every namespace, or those with a label."""
    return _granted("ClusterRole", OPERATOR_SERVICE_ACCOUNT, (*OPERATOR_RULES, *OPERATOR_CLUSTER_RULES))


def namespaced_manifests(run_namespaces: Sequence[str]) -> list[Manifest]:
    """The rights of an operator that serves these namespaces and no other."""
    return [
        manifest
        for namespace in run_namespaces
        for manifest in _granted("Role", OPERATOR_SERVICE_ACCOUNT, OPERATOR_RULES, namespace)
    ]


def people_manifests() -> list[Manifest]:
    """The roles of people. They give nothing to anybody until somebody is bound to them, or to view, edit or admin."""
    roles = [_rbac("ClusterRole", name, rules=_rules(rules)) for name, rules in PEOPLE_RULES.items()]
    for role in roles:
        name = role["metadata"]["name"]
        if name in AGGREGATED:
            role["metadata"]["labels"] |= {f"{AGGREGATE_TO}{AGGREGATED[name]}": "true"}
    return roles


def dashboard_rules() -> dict[str, list[Manifest]]:
    """The rules of the dashboard's identity, by where and in which mode it needs them."""
    return {name: _rules(rules) for name, rules in DASHBOARD_RULES.items()}


def _granted(role: str, name: str, rules: Rules, namespace: str | None = None) -> list[Manifest]:
    """A role for the operator and its binding."""
    account = _subject(OPERATOR_SERVICE_ACCOUNT, OPERATOR_NAMESPACE)
    return [
        _rbac(role, name, namespace, rules=_rules(rules)),
        _rbac(f"{role}Binding", name, namespace, roleRef=_role_ref(role, name), subjects=[account]),
    ]


def runner_manifests(namespace: str) -> list[Manifest]:
    """The identity and rights of the runs in one namespace."""
    name = RUNNER_SERVICE_ACCOUNT
    return [
        # The runner mounts its own short-lived token, bound to its pod; no pod gets one unasked.
        _manifest("v1", "ServiceAccount", name, namespace, automountServiceAccountToken=False),
        _rbac("Role", name, namespace, rules=_rules(RUNNER_RULES)),
        _rbac("RoleBinding", name, namespace, roleRef=_role_ref("Role", name), subjects=[_subject(name, namespace)]),
    ]


def policy_manifests() -> list[Manifest]:
    """The admission policy: a pod writes only the status of the FlowRun that it is named after.

    It speaks to every caller that is a pod, except the operator's. Fails closed: if it cannot be evaluated, the write is refused.
    """
    operator = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR_SERVICE_ACCOUNT}"
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": [GROUP],
                    "apiVersions": [VERSION],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": [f"{FLOW_RUNS.plural}/status"],
                }
            ]
        },
        "matchConditions": [
            {
                "name": "caller-is-a-pod",
                "expression": f"has(request.userInfo.extra) && '{POD_NAME_EXTRA}' in request.userInfo.extra",
            },
            {"name": "caller-is-not-the-operator", "expression": f"request.userInfo.username != '{operator}'"},
        ],
        "variables": [{"name": "pod", "expression": f"request.userInfo.extra['{POD_NAME_EXTRA}'][0]"}],
        "validations": [
            {
                # The name of a run is a DNS label: no character of it means something in a regular expression.
                "expression": "variables.pod.matches('^' + request.name + '-[0-9]+-[a-z0-9]{5}$')",
                "messageExpression": "'pod ' + variables.pod + ' may write only the status of its own FlowRun, not of ' + request.name",
                "reason": "Forbidden",
            },
            {
                # A pod of the same name in another namespace is another run's.
                "expression": "request.userInfo.username.startsWith('system:serviceaccount:' + request.namespace + ':')",
                "messageExpression": "'pod ' + variables.pod + ' may write only the status of a FlowRun in its own namespace, not in ' + request.namespace",
                "reason": "Forbidden",
            },
        ],
    }
    api_version = "admissionregistration.k8s.io/v1"
    return [
        _manifest(api_version, "ValidatingAdmissionPolicy", POLICY, spec=spec),
        _manifest(
            api_version,
            "ValidatingAdmissionPolicyBinding",
            POLICY,
            spec={"policyName": POLICY, "validationActions": ["Deny"]},
        ),
    ]


def _manifest(api_version: str, kind: str, name: str, namespace: str | None = None, **rest: Any) -> Manifest:
    metadata: Manifest = {"name": name, "labels": {LABEL_MANAGED_BY: MANAGED_BY}}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def _rbac(kind: str, name: str, namespace: str | None = None, **rest: Any) -> Manifest:
    return _manifest("rbac.authorization.k8s.io/v1", kind, name, namespace, **rest)


def _rules(table: Rules) -> list[Manifest]:
    return [
        {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)} for group, resources, verbs in table
    ]


def _role_ref(kind: str, name: str) -> Manifest:
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}


def _subject(name: str, namespace: str) -> Manifest:
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}
