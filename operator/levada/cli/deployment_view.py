"""How deployments look on a terminal."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.table import Table

from levada.cli.output import age, table


def deployments_table(
    found: Sequence[Mapping[str, Any]], present: datetime, *, with_namespace: bool = False, wide: bool = False
) -> Table:
    """The deployments by name."""
    columns = ("NAME", "FLOW", "QUEUE", "PAUSED", "READY", "REASON", "AGE")
    more = ("IMAGE", "SERVICE ACCOUNT", "STORAGE", "TAGS", "MESSAGE") if wide else ()
    made = table(*(("NAMESPACE",) if with_namespace else ()), *columns, *more)
    for each in sorted(found, key=lambda each: (each["metadata"].get("namespace", ""), each["metadata"]["name"])):
        meta, spec, ready = each["metadata"], each["spec"], ready_condition(each)
        made.add_row(
            *((meta["namespace"],) if with_namespace else ()),
            meta["name"],
            spec["flowRef"]["name"],
            spec.get("workQueue", "default"),
            "yes" if spec.get("paused") else "no",
            ready.get("status", "Unknown"),
            ready.get("reason", ""),
            age(meta.get("creationTimestamp"), present),
            *(_details(each) if wide else ()),
        )
    return made


def _details(deployment: Mapping[str, Any]) -> tuple[str, ...]:
    spec, status = deployment["spec"], deployment.get("status") or {}
    pod = spec.get("infrastructure") or {}
    return (
        pod.get("image") or "",
        pod.get("serviceAccountName") or "",
        status.get("storage") or spec.get("storage") or "",
        ",".join(spec.get("tags") or ()),
        ready_condition(deployment).get("message", ""),
    )


def ready_condition(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """The condition Ready; empty while the operator has not looked."""
    conditions: Sequence[Mapping[str, Any]] = (found.get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each["type"] == "Ready"), {})
