"""The custom resource definitions, put together from models, rules, and what stands here: short names and columns.

`levada crds` writes them to crds/; a test fails when those files differ from what this module makes.
"""

from typing import Any, Final, NamedTuple

import yaml

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
from levada.resources.models import MODELS
from levada.resources.names import GROUP
from levada.resources.rules import apply_rules
from levada.resources.schema import structural, without_defaults

HEADER: Final = "# Generated from operator/levada/resources by `levada crds`: change the models there, not this file.\n"


class Column(NamedTuple):
    """A column of `kubectl get`. Priority 1 shows with -o wide only."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0


AGE: Final = Column("Age", ".metadata.creationTimestamp", "date")
READY: Final = Column("Ready", '.status.conditions[?(@.type=="Ready")].status')
READY_REASON: Final = Column("Reason", '.status.conditions[?(@.type=="Ready")].reason')
READY_MESSAGE: Final = Column("Message", '.status.conditions[?(@.type=="Ready")].message', priority=1)


class Face(NamedTuple):
    """How kubectl shows a kind, and by which fields it selects."""

    columns: tuple[Column, ...]
    selectable: tuple[str, ...] = ()


FACES: Final[dict[Kind, Face]] = {
    FLOWS: Face((Column("Entrypoint", ".spec.entrypoint"), READY, READY_REASON, AGE, READY_MESSAGE)),
    DEPLOYMENTS: Face(
        (
            Column("Flow", ".spec.flowRef.name"),
            Column("Queue", ".spec.workQueue"),
            Column("Paused", ".spec.paused", "boolean"),
            READY,
            READY_REASON,
            AGE,
            READY_MESSAGE,
        ),
        (".spec.flowRef.name",),
    ),
    SCHEDULES: Face(
        (
            Column("Deployment", ".spec.deploymentRef.name"),
            Column("Cron", ".spec.cron"),
            Column("Every", ".spec.intervalSeconds", "integer"),
            Column("Rule", ".spec.rrule", priority=1),
            Column("Zone", ".spec.timeZone"),
            Column("Suspend", ".spec.suspend", "boolean"),
            Column("Next", ".status.nextRuns[0]"),
            Column("Last", ".status.lastRun"),
            READY,
            READY_REASON,
            AGE,
            READY_MESSAGE,
        ),
        (".spec.deploymentRef.name",),
    ),
    FLOW_RUNS: Face(
        (
            Column("Phase", ".status.phase"),
            Column("Tasks", ".status.progress"),
            Column("Now", ".status.currentTask"),
            Column("Reason", ".status.reason"),
            Column("Deployment", ".spec.deploymentRef.name"),
            AGE,
            Column("Attempt", ".status.attempt", "integer", priority=1),
            Column("Pod", ".status.podName", priority=1),
            Column("Ended", ".status.completionTime", priority=1),
            Column("Message", ".status.message", priority=1),
        ),
        (".status.phase", ".spec.deploymentRef.name", ".status.notified"),
    ),
    WORK_QUEUES: Face(
        (
            Column("Limit", ".spec.concurrencyLimit", "integer"),
            Column("Priority", ".spec.priority", "integer"),
            Column("Paused", ".spec.paused", "boolean"),
            Column("Active", ".status.active", "integer"),
            Column("Waiting", ".status.waiting", "integer"),
            Column("Local-Queue", ".spec.localQueue", priority=1),
            AGE,
        ),
    ),
    CONCURRENCY_LIMITS: Face(
        (
            Column("Limit", ".spec.limit", "integer"),
            Column("Active", ".status.active", "integer"),
            Column("Waiting", ".status.waiting", "integer"),
            Column("Per-Second", ".spec.slotDecayPerSecond", "number"),
            AGE,
        ),
    ),
    BACKFILLS: Face(
        (
            Column("Deployment", ".spec.deploymentRef.name"),
            Column("Phase", ".status.phase"),
            Column("Progress", ".status.progress"),
            Column("Active", ".status.active", "integer"),
            Column("Failed", ".status.failed", "integer"),
            Column("From", ".spec.startTime", "date", 1),
            Column("To", ".spec.endTime", "date", 1),
            READY,
            AGE,
            Column("Message", ".status.message", priority=1),
        ),
        (".spec.deploymentRef.name",),
    ),
    BLOCKS: Face((Column("Type", ".spec.type"), AGE)),
}


def file_name(kind: Kind) -> str:
    """The file in crds/ that defines the kind."""
    return f"{GROUP}_{kind.plural}.yaml"


def generate() -> dict[str, dict[str, Any]]:
    """Every definition, by the name of its file."""
    return {file_name(kind): definition(kind) for kind in LEVADA_KINDS}


def to_yaml(manifest: dict[str, Any]) -> str:
    """A definition as its file holds it: the same text every time."""
    return HEADER + yaml.safe_dump(manifest, sort_keys=False, width=120, allow_unicode=True)


def definition(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of one kind."""
    face = FACES[kind]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                **({"shortNames": [kind.short_name]} if kind.short_name else {}),
                "categories": ["levada"],
            },
            "versions": [
                {
                    "name": kind.version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema_of(kind)},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(column) for column in face.columns],
                    **(
                        {"selectableFields": [{"jsonPath": path} for path in face.selectable]}
                        if face.selectable
                        else {}
                    ),
                }
            ],
        },
    }


def schema_of(kind: Kind) -> dict[str, Any]:
    """The structural schema of the kind, with its rules."""
    whole = structural(MODELS[kind.kind])
    properties = whole["properties"]
    schema = {
        "description": whole["description"],
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of the schema that the object is written in."},
            "kind": {"type": "string", "description": "Kind of the object."},
            # The rules on the name point at it in their messages.
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": properties["spec"],
            "status": without_defaults(properties["status"]),
        },
    }
    apply_rules(kind.kind, schema)
    return schema


def _column(column: Column) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.priority:
        shown["priority"] = column.priority
    return shown
