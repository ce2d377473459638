"""Archived runs in the shape of live ones, for those who show both alike."""

from collections.abc import Mapping
from typing import Any

from levada.archive.reader import Archive, Record, Row
from levada.archive.record import Entry
from levada.resources.kinds import FLOW_RUNS

Run = dict[str, Any]


def run_of(entry: Entry) -> Run:
    """A line of the index as a FlowRun: enough for a list."""
    status = {
        "phase": entry.phase, "reason": entry.reason, "message": entry.message, "startTime": entry.started or None,
        "completionTime": entry.ended or None, "durationSeconds": entry.duration_s, "progress": entry.progress,
        "attempt": entry.attempt,
    }  # fmt: skip
    return {
        "apiVersion": FLOW_RUNS.api_version,
        "kind": FLOW_RUNS.kind,
        "metadata": {
            "name": entry.name, "namespace": entry.namespace, "uid": entry.uid, "creationTimestamp": entry.created or None,
        },
        "spec": {"deploymentRef": {"name": entry.deployment}, **({"retryOf": entry.retry_of} if entry.retry_of else {})},
        "status": {name: value for name, value in status.items() if value not in (None, "")},
    }  # fmt: skip


def newest(archive: Archive, namespace: str, name: str) -> tuple[Record, Run] | None:
    """The newest archived run of a name, with all its task rows, and its record; None: there is none.

    Raises:
        RecordError: a record is damaged.
        StorageError: the storage cannot be reached, or refuses.
    """
    records = [record for folder in archive.folders(namespace, name) if (record := archive.record(folder)) is not None]
    if not records:
        return None
    record = max(records, key=lambda each: each.entry.moment)
    rows = archive.tasks(record.entry.folder)
    return record, {**record.run, "status": {**record.run["status"], "tasks": rows, "truncatedTasks": 0}}


def with_tasks(run: Mapping[str, Any], rows: Mapping[str, Row]) -> Run:
    """The run with the task rows that its status has folded away; what the status has is newer."""
    status = run["status"]
    known = {**rows, **(status.get("tasks") or {})}
    total = (status.get("taskCounts") or {}).get("total", len(known))
    return {**run, "status": {**status, "tasks": known, "truncatedTasks": max(0, total - len(known))}}
