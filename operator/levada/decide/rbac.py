"""Kubernetes' RBAC, read as the API server's authorizer reads it: who is granted what by which binding.

For questions about everybody at once; whoever asks about one person asks the API server itself (SubjectAccessReview). Other authorizers
of a cluster (Node, Webhook) and the groups of people, which only their identity provider knows, are not seen here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

Object = Mapping[str, Any]
ALL: Final = "*"
ACCOUNTS: Final = "system:serviceaccounts"
EVERYBODY: Final = frozenset({"system:authenticated", "system:unauthenticated", ACCOUNTS})
# Bindings that every cluster is born with carry this label: the control plane's own.
BOOTSTRAP: Final = ("kubernetes.io/bootstrapping", "rbac-defaults")


class Subject(NamedTuple):
    """A User, a Group, or a ServiceAccount with its namespace."""

    kind: str
    name: str
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a role allows. `names`: only objects of these names; empty means all of them."""

    verbs: frozenset[str]
    groups: frozenset[str]
    resources: frozenset[str]
    names: frozenset[str] = frozenset()

    def allows(self, ask: "Ask") -> bool:
        """Whether it allows this."""
        if not ({ALL, ask.verb} & self.verbs and {ALL, ask.group} & self.groups and self._covers(ask.resource)):
            return False
        return not self.names or (bool(ask.name) and ask.name in self.names)

    def _covers(self, resource: str) -> bool:
        _, slash, subresource = resource.partition("/")
        return bool({ALL, resource, f"{ALL}/{subresource}" if slash else resource} & self.resources)


class Ask(NamedTuple):
    """One thing that somebody may or may not do. `resource` with its subresource, as in a role: `flowruns/status`."""

    verb: str
    group: str
    resource: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one binding gives to its subjects. `namespace` empty: in all of them."""

    subjects: tuple[Subject, ...]
    rules: tuple[Rule, ...]
    via: str
    namespace: str = ""
    bootstrap: bool = False

    def allows(self, ask: Ask, namespace: str) -> bool:
        """Whether it gives this right in a namespace."""
        return self.namespace in {"", namespace} and any(rule.allows(ask) for rule in self.rules)

    def reaches(self, account: Subject) -> bool:
        """Whether a service account is among its subjects, by itself or by a group that each account is in."""
        name = f"system:serviceaccount:{account.namespace}:{account.name}"
        groups = (ACCOUNTS, f"{ACCOUNTS}:{account.namespace}", "system:authenticated")
        mine = {account, Subject("User", name), *(Subject("Group", group) for group in groups)}
        return not mine.isdisjoint(self.subjects)


def grants(roles: Iterable[Object], bindings: Iterable[Object]) -> list[Grant]:
    """What these bindings give: of Roles and ClusterRoles, by RoleBindings and ClusterRoleBindings. A role that is missing gives nothing."""
    rules = {_key(each["kind"], each["metadata"]): _rules(each) for each in roles}
    found = []
    for binding in bindings:
        meta, ref = binding["metadata"], binding["roleRef"]
        namespace = meta.get("namespace") or ""
        where = {"name": ref["name"], "namespace": namespace if ref["kind"] == "Role" else ""}
        given = rules.get(_key(ref["kind"], where))
        subjects = tuple(_subject(each, namespace) for each in binding.get("subjects") or ())
        if given and subjects:
            labels = meta.get("labels") or {}
            via = f"{binding['kind']} {meta['name']} ({ref['kind']} {ref['name']})"
            found.append(Grant(subjects, given, via, namespace, labels.get(BOOTSTRAP[0]) == BOOTSTRAP[1]))
    return found


def who_may(given: Iterable[Grant], asks: Sequence[Ask], namespace: str) -> dict[Subject, str]:
    """Everybody who may do one of these things in the namespace, with the binding that lets them (the first of several)."""
    found: dict[Subject, str] = {}
    for grant in given:
        if any(grant.allows(ask, namespace) for ask in asks):
            for subject in grant.subjects:
                found.setdefault(subject, grant.via)
    return dict(sorted(found.items()))


def rights_of(given: Iterable[Grant], account: Subject, namespace: str) -> list[Rule]:
    """All rules that count for a service account in a namespace."""
    return [
        rule for grant in given if grant.namespace in {"", namespace} and grant.reaches(account) for rule in grant.rules
    ]


def _key(kind: str, meta: Object) -> tuple[str, str, str]:
    return kind, meta.get("namespace") or "", meta["name"]


def _rules(role: Object) -> tuple[Rule, ...]:
    return tuple(
        Rule(
            frozenset(each.get("verbs") or ()),
            frozenset(each.get("apiGroups") or ()),
            frozenset(each.get("resources") or ()),
            frozenset(each.get("resourceNames") or ()),
        )
        for each in role.get("rules") or ()
        if each.get("resources")  # others are about URLs, not objects
    )


def _subject(each: Object, namespace: str) -> Subject:
    if each["kind"] == "ServiceAccount":
        return Subject("ServiceAccount", each["name"], each.get("namespace") or namespace)
    prefix, _, rest = each["name"].partition("system:serviceaccount:")
    if each["kind"] == "User" and not prefix and rest.count(":") == 1:
        owner, _, name = rest.partition(":")
        return Subject("ServiceAccount", name, owner)
    return Subject(each["kind"], each["name"])
