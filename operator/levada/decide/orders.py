"""What is written when somebody orders a run: a new one, a retry, one that is to go on. Pure: objects in, bodies out.

Command line and dashboard order alike, so it stands here.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from levada.decide.json_schema import violations
from levada.resources.kinds import FLOW_RUNS
from levada.resources.names import (
    ANNOTATION_RESUME,
    API_VERSION,
    CONDITION_ARCHIVED,
    LABEL_RETRY_OF,
    MAX_NAME_LENGTH,
    MAX_PARAMETERS_BYTES,
)
from levada.resources.phases import RunPhase

Run = Mapping[str, Any]
# Kubernetes' own alphabet for generated names: no vowels, so no words.
ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
SUFFIX_LENGTH: Final = 5
NAME_TRIES: Final = 100
# Of the old order: everything but what belongs to that one run alone.
NOT_REPEATED: Final = frozenset({"cancel", "suspend", "retryOf", "fromScratch", "prestartSeconds", "parameters"})
WAITING_FOR_INPUT: Final = "WaitingForInput"


class TaskShare(NamedTuple):
    """Of the task runs of one task: how many a retry takes from stored results, and how many run again."""

    name: str
    reused: int
    to_run: int


class RerunPlan(NamedTuple):
    """What a retry of a run would do, as far as the run itself tells. `notes` are sentences for a person."""

    reused: int
    to_run: int
    notes: tuple[str, ...] = ()


def flow_run(name: str, deployment: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The order to run the deployment once."""
    spec = {"deploymentRef": {"name": deployment}} | ({"parameters": dict(parameters)} if parameters else {})
    return {"apiVersion": API_VERSION, "kind": FLOW_RUNS.kind, "metadata": {"name": name}, "spec": spec}


def suffixed(base: str, suffix: str) -> str:
    """`<base>-<suffix>`, cut so that it is a legal name of a run."""
    return f"{base[: MAX_NAME_LENGTH - len(suffix) - 1].rstrip('-')}-{suffix}"


def suffix_of(order_id: str) -> str:
    """Five characters that are the same for the same order: sent twice, it makes one object."""
    digest = int.from_bytes(hashlib.sha256(order_id.encode()).digest()[:8])
    return "".join(ALPHABET[digest // len(ALPHABET) ** place % len(ALPHABET)] for place in range(SUFFIX_LENGTH))


def too_large(parameters: Mapping[str, Any]) -> str:
    """Why the operator would fail a run with these parameters for their size; empty if it would not."""
    size = len(json.dumps(parameters, separators=(",", ":"), ensure_ascii=False).encode(errors="replace"))
    if size <= MAX_PARAMETERS_BYTES:
        return ""
    return f"the parameters take {size:,} bytes; {MAX_PARAMETERS_BYTES:,} are possible"


def unfit(parameters: Mapping[str, Any], schema: Mapping[str, Any] | None) -> list[str]:
    """Why a run with these parameters, the Deployment's own among them, can only fail: a sentence each. No schema: nothing is known."""
    found = list(violations(parameters, schema)) if schema else []
    large = too_large(parameters)
    return [*found, large] if large else found


def plan_of(
    old: Run,
    *,
    changed: Mapping[str, Any],
    from_scratch: bool,
    generation: int | None = None,
    deployment: Mapping[str, Any] | None = None,
) -> RerunPlan:
    """What a retry would do. `generation`: of the Flow as it is now; `deployment`: the run's, if it may be known."""
    status = old.get("status") or {}
    counts = status.get("taskCounts") or {}
    total, stored = counts.get("total") or 0, counts.get("persisted") or 0
    if from_scratch:
        return RerunPlan(0, total, ("From scratch: no stored result is used.",))
    notes = []
    if changed:
        notes.append(
            f"Other parameters ({', '.join(changed)}): a result is used only for a task that gets the same inputs."
        )
    pinned = (status.get("flow") or {}).get("generation")
    if generation is not None and pinned is not None and generation != pinned:
        notes.append("The Flow has changed since: tasks whose own code is another run again.")
    done = (counts.get("completed") or 0) - stored
    if done > 0:
        notes.append(
            f"{done} completed {'task has' if done == 1 else 'tasks have'} no stored result and will run again: "
            f"{_why_not_stored(old, deployment or {})}"
        )
    return RerunPlan(stored, max(0, total - stored), tuple(notes))


def _why_not_stored(old: Run, deployment: Mapping[str, Any]) -> str:
    """What let tasks be without a stored result, and what to do."""
    spec, status = deployment.get("spec") or {}, deployment.get("status") or {}
    storage = status.get("storage") or spec.get("storage")
    if not spec.get("persistResults"):
        return "persist_result=True on the task, or persistResults and storage in the Deployment, store them."
    if not storage:
        return "the Deployment has persistResults, but no storage; spec.storage names one."
    for each in status.get("conditions") or ():
        if each.get("type") == CONDITION_ARCHIVED and each.get("status") == "False":
            return f"the Deployment has persistResults, but its storage {storage} cannot be used. {each.get('message') or each.get('reason')}"
    return (
        f"the Deployment has persistResults, so they could not be stored in {storage}, or the code says persist_result=False; "
        f"`levada runs logs {old['metadata']['name']}` tells."
    )


def shares_of(old: Run, *, from_scratch: bool) -> list[TaskShare]:
    """What a retry would do, task by task, in the order in which they began. Of task runs whose rows are known."""
    rows: Mapping[str, Any] = (old.get("status") or {}).get("tasks") or {}
    counts: dict[str, list[int]] = {}
    for task_id, row in sorted(rows.items(), key=lambda item: (item[1].get("startTime") or "~", item[0])):
        share = counts.setdefault(row.get("name") or task_id, [0, 0])
        share[0 if row.get("persisted") and not from_scratch else 1] += 1
    return [TaskShare(name, *share) for name, share in counts.items()]


def order(old: Run, changed: Mapping[str, Any], *, from_scratch: bool) -> dict[str, Any]:
    """The FlowRun that repeats another, without its name; `changed` parameters are laid over the old ones."""
    parameters = {**(old["spec"].get("parameters") or {}), **changed}
    return _repeating(old, parameters, from_scratch=from_scratch)


def anew(old: Run, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The FlowRun that does all of another's work again with these parameters, without its name."""
    return _repeating(old, parameters, from_scratch=True)


def _repeating(old: Run, parameters: Mapping[str, Any], *, from_scratch: bool) -> dict[str, Any]:
    spec = {field: value for field, value in old["spec"].items() if field not in NOT_REPEATED}
    spec |= {"parameters": dict(parameters)} if parameters else {}
    spec |= {"retryOf": old["metadata"]["name"]} | ({"fromScratch": True} if from_scratch else {})
    metadata = {"labels": {LABEL_RETRY_OF: old["metadata"]["name"]}}
    return {"apiVersion": API_VERSION, "kind": FLOW_RUNS.kind, "metadata": metadata, "spec": spec}


def name_of(old: Run, number: int) -> str:
    """`<first run of the chain>-retry-<n>`, cut so that it is a legal name of a run."""
    return suffixed(first_of(old), f"retry-{number}")


def name_anew(old: Run, number: int) -> str:
    """`<first run>-rerun-<n>`: of a run that does the work anew, whatever it repeats."""
    return suffixed(re.sub(r"(-(retry|rerun)-[0-9]+)+$", "", first_of(old)), f"rerun-{number}")


def first_of(old: Run) -> str:
    """The name of the first run of a chain of retries."""
    first = ((old.get("status") or {}).get("rerun") or {}).get("of") or old["metadata"]["name"]
    return re.sub(r"-retry-[0-9]+$", "", str(first))


def resumption(found: Run, value: str | None, present: datetime) -> dict[str, Any] | None:
    """The merge patch that lets the run go on; None if nothing keeps it."""
    status = found.get("status") or {}
    if found["spec"].get("suspend"):
        return {"spec": {"suspend": False}}
    if status.get("phase") != RunPhase.PAUSED or status.get("reason") != WAITING_FOR_INPUT:
        return None
    # The message says how to go on by kubectl, and so which annotation the flow looks at.
    asked = re.search(rf"{re.escape(ANNOTATION_RESUME)}[\w.-]*", status.get("message") or "")
    annotation = asked[0] if asked else ANNOTATION_RESUME
    before = (found["metadata"].get("annotations") or {}).get(annotation)
    said = present.isoformat() if value is None else value
    # A pause without a key goes by a change of the annotation: a space more is the same value to the flow, if it is JSON.
    return {"metadata": {"annotations": {annotation: f"{said} " if said == before and _is_json(said) else said}}}


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
