"""What to do about a Flow: check its code as far as it can be seen, keep each version of inline code in a ConfigMap.

A run mounts the version it began with, so a ConfigMap is immutable, named after its content, and stays while an unfinished run
names it. Code in an image, a bucket or a repository is not looked at from here; it is the runner that says what is wrong with it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from levada.decide.code import Code, inspect_code
from levada.decide.definitions import FlowView
from levada.decide.plan import EventSpec
from levada.decide.readiness import Verdict, ready_patch
from levada.resources import names
from levada.resources.kinds import CONFIG_MAPS, FLOWS
from levada.resources.sources import GitPlace, read_place

KEPT_REVISIONS: Final = 5
# A ConfigMap that a user owns is not watched (it may hold anything): look at it again from time to time.
_RECHECK_S: Final = 300.0
_RECHECK_MISSING_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Revision:
    """A ConfigMap with one version of a Flow's inline code."""

    name: str
    created_at: datetime
    owner_uid: str
    order: int = 0  # of those created in the same second


@dataclass(frozen=True, slots=True)
class FlowFacts:
    """Everything known about one Flow.

    `files`: the keys and texts of the ConfigMap that the Flow names; None if it does not exist. `pinned`: the ConfigMaps that
    unfinished runs name.
    """

    now: datetime
    flow: FlowView
    files: Mapping[str, str] | None = None
    revisions: tuple[Revision, ...] = ()
    pinned: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class FlowPlan:
    """First the ConfigMap, then the status that names it, then the Events and the clearing away."""

    create_config_map: Mapping[str, Any] | None = None
    status: Mapping[str, Any] | None = None
    events: tuple[EventSpec, ...] = ()
    delete_config_maps: tuple[str, ...] = ()
    requeue_after_s: float | None = None
    code: Code = field(default_factory=Code)


def decide_flow(facts: FlowFacts) -> FlowPlan:
    """Judge the Flow and keep its code."""
    flow = facts.flow
    if flow.deleting:
        return FlowPlan()
    code = check(facts)
    verdict = _verdict(flow, code)
    revision = revision_name(flow) if flow.inline is not None else flow.config_map
    usable = revision if verdict.ok and revision else None
    status, events = ready_patch(
        verdict,
        status=flow.status,
        generation=flow.generation,
        now=facts.now,
        extra={"codeConfigMap": usable},
    )
    missing = flow.inline is not None and verdict.ok and revision not in {item.name for item in facts.revisions}
    return FlowPlan(
        create_config_map=_config_map(flow, revision) if missing else None,
        status=status,
        events=events,
        delete_config_maps=superseded(facts, revision),
        requeue_after_s=(_RECHECK_S if verdict.ok else _RECHECK_MISSING_S) if flow.config_map else None,
        code=code,
    )


def check(facts: FlowFacts) -> Code:
    """What is wrong with the entrypoint or the code, as far as it can be seen."""
    flow = facts.flow
    file, function = split_entrypoint(flow.entrypoint)
    if not function:
        return Code(
            "InvalidEntrypoint",
            f"The entrypoint {flow.entrypoint!r} must look like path.py:function, for example flow.py:main.",
        )
    if flow.inline is not None:
        return inspect_code(flow.inline, file=file, function=function)
    if not flow.config_map:
        return Code()
    if facts.files is None:
        return Code("ConfigMapNotFound", f"There is no ConfigMap {flow.config_map!r} in namespace {flow.namespace!r}.")
    if file not in facts.files:
        keys = ", ".join(sorted(facts.files)) or "none"
        return Code("CodeNotFound", f"ConfigMap {flow.config_map!r} has no key {file!r} (its keys: {keys}).")
    return inspect_code(facts.files[file], file=file, function=function)


def split_entrypoint(entrypoint: str) -> tuple[str, str]:
    """File and function; two empty strings if it is not of the form path.py:function."""
    file, _, function = entrypoint.rpartition(":")
    good = file.endswith(".py") and len(file) > len(".py") and function.isidentifier() and ".." not in file.split("/")
    return (file, function) if good else ("", "")


def _verdict(flow: FlowView, code: Code) -> Verdict:
    if code.reason:
        return Verdict(ok=False, reason=code.reason, message=code.message)
    if flow.remote:
        git = isinstance(read_place(flow.remote), GitPlace)
        reason, where = ("CodeInRepository", "a Git repository") if git else ("CodeInBucket", "a bucket")
        return Verdict(
            ok=True, reason=reason, message=f"The code is in {where}; it is fetched and checked when a run starts."
        )
    if flow.image_path:
        return Verdict(
            ok=True, reason="CodeInImage", message="The code is in the image; it is checked when a run starts."
        )
    return Verdict(ok=True, reason="Ready", message=f"The code has function {split_entrypoint(flow.entrypoint)[1]!r}.")


def revision_name(flow: FlowView) -> str:
    """The name of the ConfigMap for this code. The uid in it: a Flow made anew must not take one that is being collected."""
    content = "\0".join((flow.uid, split_entrypoint(flow.entrypoint)[0], flow.inline or ""))
    return f"{flow.name}-code-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def _config_map(flow: FlowView, name: str) -> dict[str, Any]:
    owner = {
        "apiVersion": names.API_VERSION,
        "kind": FLOWS.kind,
        "name": flow.name,
        "uid": flow.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    return {
        "apiVersion": CONFIG_MAPS.api_version,
        "kind": CONFIG_MAPS.kind,
        "metadata": {
            "name": name,
            "namespace": flow.namespace,
            "labels": {names.LABEL_FLOW: flow.name, names.LABEL_MANAGED_BY: names.MANAGED_BY},
            "ownerReferences": [owner],
        },
        "immutable": True,
        "data": {split_entrypoint(flow.entrypoint)[0].rpartition("/")[2]: flow.inline or ""},
    }


def superseded(facts: FlowFacts, current: str) -> tuple[str, ...]:
    """The versions to delete: neither current, nor named by an unfinished run, nor among the newest."""
    mine = [item for item in facts.revisions if item.owner_uid == facts.flow.uid and item.name != current]
    newest = sorted(mine, key=lambda item: (item.created_at, item.order, item.name), reverse=True)
    return tuple(item.name for item in newest[KEPT_REVISIONS - 1 :] if item.name not in facts.pinned)
