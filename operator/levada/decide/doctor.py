"""What `levada doctor` concludes: facts of a cluster, as a viewer can read them, in; one finding a check out, each with its fix."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple

Object = Mapping[str, Any]

# Leases and ticks bear this much; beyond it tokens of the API server count as not yet valid, or as too old.
SKEW_WARNING_S: Final = 2.0
SKEW_FAILURE_S: Final = 30.0
# A leader renews every two seconds, and another one takes over after twelve.
LEASE_SILENT_S: Final = 30.0
INSTALL: Final = "`helm upgrade --install levada charts/levada -n levada-system --create-namespace` installs it"


class Level(StrEnum):
    """How good it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """What a check found. `fix` is empty if there is nothing to do."""

    check: str
    level: Level
    message: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class DoctorFacts:
    """What could be read. None: it was refused to the viewer; `now` is this machine's clock."""

    now: datetime
    namespace: str
    version: str = ""
    version_complaint: str | None = None
    skew_s: float | None = None
    definitions: Sequence[Object] | None = None
    wanted_definitions: Sequence[Object] = ()
    kinds_served: frozenset[str] = frozenset()
    rights: Mapping[str, bool] = field(default_factory=dict)
    leases: Sequence[Object] | None = None
    unseen_runs: Sequence[str] = ()
    deployments: Sequence[Object] | None = None
    unreachable_storages: Mapping[str, str] = field(default_factory=dict)
    nodes: Sequence[Object] | None = None
    policies: frozenset[str] | None = None
    policy: str = ""


def findings(facts: DoctorFacts) -> list[Finding]:
    """One finding a check, in the order in which a person would mend things."""
    return [
        _version(facts),
        _clock(facts),
        _definitions(facts),
        _rights(facts),
        _operator(facts),
        _policy(facts),
        _storage(facts),
        _nodes(facts),
    ]


def _version(facts: DoctorFacts) -> Finding:
    if facts.version_complaint:
        return Finding(
            "cluster", Level.FAIL, facts.version_complaint, "upgrade the cluster, or choose another --context"
        )
    return Finding("cluster", Level.OK, f"Kubernetes {facts.version}")


def _clock(facts: DoctorFacts) -> Finding:
    if facts.skew_s is None:
        return Finding(
            "clock", Level.WARN, "the API server does not say what time it is", "does a proxy drop the Date header?"
        )
    skew, words = abs(facts.skew_s), "ahead of" if facts.skew_s > 0 else "behind"
    if skew < SKEW_WARNING_S:
        return Finding("clock", Level.OK, "this machine and the API server agree to within 2 s")
    level = Level.FAIL if skew > SKEW_FAILURE_S else Level.WARN
    message = f"this machine is {skew:.0f} s {words} the API server"
    return Finding("clock", level, message, "set the clock by NTP, here or there: `timedatectl set-ntp true`")


def _definitions(facts: DoctorFacts) -> Finding:
    wanted = {each["metadata"]["name"]: each for each in facts.wanted_definitions}
    fix = "`kubectl apply --server-side -f crds/` of this version"
    if facts.definitions is None:  # most viewers may not read definitions, but everybody may ask what is served
        missing = sorted({name.partition(".")[0] for name in wanted} - facts.kinds_served)
        if missing:
            return Finding("definitions", Level.FAIL, f"this cluster does not have {', '.join(missing)}", fix)
        return Finding("definitions", Level.OK, "all kinds are served; you may not read whether they are current")
    there = {each["metadata"]["name"]: each for each in facts.definitions}
    missing = sorted(wanted.keys() - there.keys())
    if missing:
        return Finding("definitions", Level.FAIL, f"this cluster does not have {', '.join(missing)}", fix)
    stale = sorted(name for name, each in wanted.items() if _schema(there[name]) != _schema(each))
    if stale:
        message = f"of another version than this command: {', '.join(stale)}"
        return Finding("definitions", Level.WARN, message, f"{fix}, or use the command of the cluster's version")
    return Finding("definitions", Level.OK, f"{len(wanted)} kinds, current")


def _schema(definition: Object) -> Any:
    """What the server keeps as it was written: paths, without what it fills in by itself."""
    version = definition["spec"]["versions"][0]
    return _fields(version["schema"]["openAPIV3Schema"]), version.get("selectableFields")


def _fields(schema: Any) -> Any:
    """The names of all fields: defaults and descriptions may be spelled otherwise by the server."""
    if not isinstance(schema, Mapping):
        return None
    inside = schema.get("properties") or {}
    return {name: _fields(each) for name, each in inside.items()} or _fields(schema.get("items"))


def _rights(facts: DoctorFacts) -> Finding:
    missing = [right for right, allowed in facts.rights.items() if not allowed]
    if not missing:
        return Finding("rights", Level.OK, f"you may look at runs in {facts.namespace!r}, and start and stop them")
    fix = f"ask for the role levada-edit or levada-view in {facts.namespace!r}; `kubectl auth can-i --list -n {facts.namespace}`"
    level = Level.FAIL if any(right.startswith(("list", "get", "watch")) for right in missing) else Level.WARN
    return Finding("rights", level, f"you may not {', '.join(missing)} in {facts.namespace!r}", fix)


def _operator(facts: DoctorFacts) -> Finding:
    if facts.unseen_runs:
        names = ", ".join(facts.unseen_runs[:3])
        return Finding("operator", Level.FAIL, f"no operator looks at {len(facts.unseen_runs)} runs: {names}", INSTALL)
    if facts.leases is None:
        return Finding(
            "operator", Level.WARN, "you may not read Leases of levada-system", "ask who runs it, or start a run"
        )
    held = [each for each in facts.leases if (each.get("spec") or {}).get("holderIdentity")]
    if not held:
        message = "no operator holds a Lease: none runs, or one without --leader-elect"
        return Finding("operator", Level.WARN, message, f"{INSTALL}; without a chart: `levada operator run`")
    newest = min(held, key=lambda each: _silence_s(each, facts.now))
    silent, holder = _silence_s(newest, facts.now), newest["spec"]["holderIdentity"]
    if silent > LEASE_SILENT_S:
        fix = "`kubectl get pods -n levada-system` and their logs say why"
        return Finding("operator", Level.FAIL, f"the operator {holder} has been silent for {silent:.0f} s", fix)
    return Finding("operator", Level.OK, f"{holder} leads, renewed {max(0.0, silent):.0f} s ago")


def _silence_s(lease: Object, now: datetime) -> float:
    renewed = lease["spec"].get("renewTime")
    return (now - datetime.fromisoformat(renewed)) / timedelta(seconds=1) if renewed else float("inf")


def _policy(facts: DoctorFacts) -> Finding:
    if facts.policies is None:
        return Finding("admission", Level.OK, "you may not read admission policies; nothing was checked")
    if facts.policy not in facts.policies:
        message = "no admission policy keeps a run from writing the status of another run"
        return Finding(
            "admission", Level.WARN, message, "`levada operator manifests | kubectl apply --server-side -f -`"
        )
    return Finding("admission", Level.OK, f"{facts.policy} is there")


def _storage(facts: DoctorFacts) -> Finding:
    if facts.unreachable_storages:
        said = "; ".join(f"{url}: {why}" for url, why in facts.unreachable_storages.items())
        fix = "from here it cannot be read; runs may see more: check URL and credentials"
        return Finding("storage", Level.WARN, said, fix)
    if not facts.deployments:
        return Finding("storage", Level.OK, f"no deployments in {facts.namespace!r}, so nothing to store")
    without = [each["metadata"]["name"] for each in facts.deployments if not _storage_of(each)]
    if without:
        message = (
            f"results and logs of these end with their pods: {', '.join(without[:5])}{', …' if without[5:] else ''}"
        )
        return Finding("storage", Level.WARN, message, "set spec.storage, or `--storage` of the operator for all")
    return Finding("storage", Level.OK, f"all {len(facts.deployments)} deployments store results and logs")


def _storage_of(deployment: Object) -> str:
    return (deployment.get("status") or {}).get("storage") or deployment["spec"].get("storage") or ""


def _nodes(facts: DoctorFacts) -> Finding:
    if facts.nodes is None:
        return Finding("nodes", Level.OK, "you may not read nodes; nothing was checked")
    ready = [each for each in facts.nodes if _ready(each) and not (each.get("spec") or {}).get("unschedulable")]
    if not ready:
        message = f"none of {len(facts.nodes)} nodes takes pods" if facts.nodes else "the cluster has no nodes"
        return Finding("nodes", Level.FAIL, message, "`levada agent start` makes this machine one; `kubectl get nodes`")
    lost = len(facts.nodes) - len(ready)
    return Finding("nodes", Level.OK, f"{len(ready)} ready" + (f", {lost} not ready or cordoned" if lost else ""))


def _ready(node: Object) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
