"""Who can run what as which service account: Deployments, the accounts of their pods, and what RBAC lets people do about both.

A pure reading of the cluster's objects, made for `levada audit`. Who may start a run has the Deployment's code run, with the account and the
Secrets of its pod; who may edit the Deployment, its Flow or the ConfigMap with its code decides what that code is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from levada.decide.rbac import ALL, EVERYBODY, Ask, Grant, Rule, Subject, rights_of, who_may
from levada.resources.access import RUNNER_RULES
from levada.resources.kinds import BACKFILLS, DEPLOYMENTS, FLOW_RUNS, FLOWS, SCHEDULES
from levada.resources.names import GROUP, OVERRIDE_ENV, RUNNER_SERVICE_ACCOUNT

Object = Mapping[str, Any]
_CHANGE: Final = ("update", "patch")
_START: Final = tuple(Ask("create", GROUP, kind.plural) for kind in (FLOW_RUNS, SCHEDULES, BACKFILLS)) + tuple(
    Ask(verb, GROUP, kind.plural) for kind in (SCHEDULES, BACKFILLS) for verb in _CHANGE
)
# Variables that make Python or the dynamic linker load code of the caller's choice.
_LOADING: Final = frozenset(
    {"PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONINSPECT", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "PATH"}
)  # fmt: skip
_MOST: Final = 5


@dataclass(frozen=True, slots=True)
class AuditFacts:
    """What there is. `accounts`: the ServiceAccounts of each namespace looked at."""

    deployments: Sequence[Object]
    flows: Sequence[Object] = ()
    accounts: frozenset[tuple[str, str]] = frozenset()
    grants: Sequence[Grant] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that deserves a look: one CamelCase word that is stable, and a sentence."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One Deployment. `beyond`: what its account may do that a run does not need. People: with the binding that lets them."""

    namespace: str
    deployment: str
    flow: str
    code: str
    account: str
    secrets: tuple[str, ...] = ()
    opens: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()
    started_by: Mapping[Subject, str] = field(default_factory=dict)
    edited_by: Mapping[Subject, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def audit(facts: AuditFacts) -> list[Entry]:
    """One entry for each Deployment, by namespace and name."""
    flows = {_place(each): each for each in facts.flows}
    order = sorted(facts.deployments, key=_place)
    return [_entry(facts, each, flows.get((_place(each)[0], each["spec"]["flowRef"]["name"]))) for each in order]


def _entry(facts: AuditFacts, deployment: Object, flow: Object | None) -> Entry:
    namespace, name = _place(deployment)
    spec = deployment["spec"]
    infrastructure = spec.get("infrastructure") or {}
    account = infrastructure.get("serviceAccountName") or RUNNER_SERVICE_ACCOUNT
    flow_name = spec["flowRef"]["name"]
    source = ((flow or {}).get("spec") or {}).get("source") or {}
    config_map = (source.get("configMap") or {}).get("name", "")
    own = [grant for grant in facts.grants if not grant.bootstrap]
    editing = _editing(name, flow_name)
    of_code = [Ask(verb, "", "configmaps", config_map) for verb in _CHANGE] if config_map else []
    rights = rights_of(own, Subject("ServiceAccount", account, namespace), namespace)
    template = _pod_spec(infrastructure)
    entry = Entry(
        namespace=namespace,
        deployment=name,
        flow=flow_name,
        code=_code(source),
        account=account,
        secrets=tuple(sorted({*_secrets(infrastructure), *_secrets(template), *_source_secret(source)})),
        opens=tuple(spec.get("allowOverrides") or ()),
        beyond=tuple(_beyond(rights)),
        started_by=who_may(own, _START, namespace),
        edited_by=who_may(own, [*editing, *of_code], namespace),
    )
    reports = any(rule.allows(Ask("patch", GROUP, "flowruns/status")) for rule in rights)
    exists = (namespace, account) in facts.accounts
    by_code_only = set(entry.edited_by) - set(who_may(own, editing, namespace))
    findings = (
        *_about_account(entry, exists=exists, reports=reports),
        *_about_overrides(entry),
        *_about_people(entry),
        *_about_code(config_map, by_code_only),
        *_about_pod(template),
    )
    return replace(entry, findings=findings)


def _editing(deployment: str, flow: str) -> list[Ask]:
    """Who may do this decides what code runs. Creating counts: a new Deployment may name any account."""
    creating = [Ask("create", GROUP, kind.plural) for kind in (DEPLOYMENTS,)]
    changing = [
        Ask(verb, GROUP, kind.plural, name)
        for kind, name in ((DEPLOYMENTS, deployment), (FLOWS, flow))
        for verb in _CHANGE
    ]
    return creating + changing


# --- findings ----------------------------------------------------------------------------------------------------------


def _about_account(entry: Entry, *, exists: bool, reports: bool) -> Iterator[Finding]:
    if not exists:
        yield Finding("AccountMissing", f"ServiceAccount {entry.account!r} does not exist: no pod of a run can start")
    elif not reports:
        yield Finding(
            "AccountCannotReport",
            f"ServiceAccount {entry.account!r} may not patch flowruns/status, so its runs cannot report: bind it to the Role {RUNNER_SERVICE_ACCOUNT}",
        )
    if entry.beyond:
        more = f" and {len(entry.beyond) - _MOST} more" if len(entry.beyond) > _MOST else ""
        yield Finding(
            "AccountHasMore",
            f"the code of the run may {', '.join(entry.beyond[:_MOST])}{more}, which no run needs to report",
        )


def _about_overrides(entry: Entry) -> Iterator[Finding]:
    if "image" in entry.opens:
        yield Finding(
            "ImageIsOpen",
            f"whoever starts a run chooses its image, and so its code, with ServiceAccount {entry.account!r} and the Secrets of its pod",
        )
    loading = [each for each in entry.opens if each.removeprefix(OVERRIDE_ENV) in _LOADING]
    if loading:
        yield Finding("LoadingIsOpen", f"{', '.join(loading)} lets whoever starts a run have other code loaded")


def _about_people(entry: Entry) -> Iterator[Finding]:
    for reason, verb, subjects in (("EverybodyMayEdit", "edit", entry.edited_by), ("EverybodyMayStart", "start runs of", entry.started_by)):  # fmt: skip
        crowds = [subject for subject in subjects if subject.kind == "Group" and _is_crowd(subject.name)]
        if crowds:
            yield Finding(reason, f"{', '.join(map(str, crowds))} may {verb} it (by {subjects[crowds[0]]})")


def _is_crowd(group: str) -> bool:
    return group in EVERYBODY or group.startswith("system:serviceaccounts:")


def _about_code(config_map: str, subjects: set[Subject]) -> Iterator[Finding]:
    if subjects:
        names = ", ".join(map(str, sorted(subjects)[:_MOST]))
        yield Finding(
            "CodeByOthers",
            f"{names} may change ConfigMap {config_map!r}, which holds the code, but neither Deployment nor Flow",
        )


def _about_pod(template: Object) -> Iterator[Finding]:
    found = sorted(set(_unrestricted(template)))
    if found:
        yield Finding(
            "NotRestricted",
            f"podTemplate asks for {', '.join(found)}: the Pod Security Standard `restricted` refuses that",
        )


def _unrestricted(template: Object) -> Iterator[str]:
    yield from (each for each in ("hostNetwork", "hostPID", "hostIPC") if template.get(each))
    yield from ("hostPath" for volume in template.get("volumes") or () if volume.get("hostPath"))
    containers = [*(template.get("containers") or ()), *(template.get("initContainers") or ())]
    for context in (template.get("securityContext") or {}, *(each.get("securityContext") or {} for each in containers)):
        yield from (each for each in ("privileged", "allowPrivilegeEscalation") if context.get(each))
        if context.get("runAsUser") == 0 or context.get("runAsNonRoot") is False:
            yield "root"
        if (context.get("seccompProfile") or {}).get("type") == "Unconfined":
            yield "seccomp Unconfined"
        if set((context.get("capabilities") or {}).get("add") or ()) - {"NET_BIND_SERVICE"}:
            yield "capabilities"


# --- reading -----------------------------------------------------------------------------------------------------------


def _place(each: Object) -> tuple[str, str]:
    return each["metadata"].get("namespace", ""), each["metadata"]["name"]


def _code(source: Object) -> str:
    for kind, field_name in (("configMap", "name"), ("image", "path"), ("s3", "bucket"), ("git", "url")):
        if source.get(kind):
            return f"{kind} {source[kind].get(field_name, '')}".strip()
    return "inline" if source.get("inline") else "unknown"


def _pod_spec(infrastructure: Object) -> Object:
    template = infrastructure.get("podTemplate") or {}
    return (template.get("spec") or {}) if isinstance(template, Mapping) else {}


def _source_secret(source: Object) -> Iterator[str]:
    """Credentials of the place that the code comes from."""
    for place in source.values():
        if isinstance(place, Mapping):
            yield from _secrets(place)


def _secrets(value: Any) -> Iterator[str]:
    """The names of Secrets that a part of a pod (or of what becomes one) names, however deep."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in {"secretKeyRef", "secretRef", "secret"} and isinstance(inner, Mapping):
                yield from (inner[each] for each in ("name", "secretName") if isinstance(inner.get(each), str))
            elif key == "imagePullSecrets":
                continue  # the kubelet's, not the code's
            else:
                yield from _secrets(inner)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            yield from _secrets(inner)


def _beyond(rights: Sequence[Rule]) -> Iterator[str]:
    """What these rules allow that a run does not need, as `get,list secrets`."""
    needed = {
        (group, resource, verb) for group, resources, verbs in RUNNER_RULES for resource in resources for verb in verbs
    }
    seen: dict[str, None] = {}
    for rule in rights:
        for group in sorted(rule.groups):
            for resource in sorted(rule.resources):
                verbs = [verb for verb in sorted(rule.verbs) if (group, resource, verb) not in needed]
                if verbs:
                    what = (
                        "everything"
                        if resource == ALL and group == ALL
                        else f"{resource}.{group}"
                        if group
                        else resource
                    )
                    named = f" named {'/'.join(sorted(rule.names))}" if rule.names else ""
                    seen[f"{','.join(verbs).replace(ALL, 'do anything to')} {what}{named}"] = None
    return iter(seen)
