"""Runs that have left the cluster: where their archive is, and what it says, in the shape of live runs."""

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from levada.cli.connection import find
from levada.cli.output import note, usage_error, warn
from levada.resources.kinds import DEPLOYMENTS, FLOW_RUNS

if TYPE_CHECKING:
    from levada.archive.reader import Archive
    from levada.archive.record import Entry
    from levada.kube import Client

T = TypeVar("T")
Run = dict[str, Any]


async def storages(client: "Client", namespace: str, given: str | None, deployment: str | None = None) -> list[str]:
    """The URLs of the archives that may have runs of a namespace: what was given, else what its Deployments say."""
    from levada.kube import ApiError
    from levada.settings import home

    if given:
        if "://" not in given:
            raise usage_error(f"--storage is a URL, not {given!r}", "for a folder: file:///path")
        return [given]
    selector = f"metadata.name={deployment}" if deployment else None
    try:
        found, _ = await client.list(DEPLOYMENTS, namespace, field_selector=selector)
    except ApiError:  # no right to read them: the folder of this machine may still be there
        found = []
    urls = [(each.get("status") or {}).get("storage") or each["spec"].get("storage") for each in found]
    here = home() / "storage"
    return list(dict.fromkeys([url for url in urls if url] + ([f"file://{here}"] if here.is_dir() else [])))


async def from_archive(url: str, read: Callable[["Archive"], T]) -> T | None:
    """What a reading of an archive gives; None, and a warning, if it cannot be read."""
    from levada.archive.reader import Archive
    from levada.exceptions import LevadaError

    try:
        return await asyncio.to_thread(lambda: read(Archive.of(url)))
    except LevadaError as problem:
        warn(f"the archive {url} cannot be read: {problem}")
        return None


async def archived_runs(
    client: "Client", namespace: str, *, deployment: str | None, limit: int, given: str | None
) -> list[Run]:
    """The newest archived runs, as FlowRuns."""
    from levada.archive.runs import run_of

    entries: list[Entry] = []
    for url in await storages(client, namespace, given, deployment):
        entries += await from_archive(url, lambda archive: archive.list_runs(namespace, deployment, limit=limit)) or []
    entries.sort(key=lambda entry: entry.moment, reverse=True)
    return [run_of(entry) for entry in entries[:limit]]


async def archived_run(client: "Client", namespace: str, name: str, given: str | None) -> tuple[str, str, Run] | None:
    """The newest archived run of a name: the archive's URL, its folder, and the run with all task rows."""
    from levada.archive.runs import newest

    for url in await storages(client, namespace, given):
        found = await from_archive(url, lambda archive: newest(archive, namespace, name))
        if found is not None:
            record, run = found
            return url, record.entry.folder, run
    return None


async def live_or_archived(client: "Client", namespace: str, name: str, given: str | None) -> Run:
    """The run, with all its task rows; from the archive, which is said, if it has left the cluster.

    Raises:
        typer.Exit: neither has it.
    """
    from levada.kube import NotFound

    try:
        return await with_all_tasks(await client.get(FLOW_RUNS, name, namespace))
    except NotFound:
        kept = await archived_run(client, namespace, name, given)
        if kept is None:
            return await find(client, FLOW_RUNS, name, namespace, called="flow run")
        note(f"flow run {name} has left the cluster; this is from {kept[0]}")
        return kept[2]


async def with_all_tasks(run: Run) -> Run:
    """The run with the task rows that its status has folded away, where its archive has them."""
    status = run.get("status") or {}
    place = status.get("archive")
    if not status.get("truncatedTasks") or not place:
        return run
    from levada.archive.runs import with_tasks

    rows = await from_archive(place["storage"], lambda archive: archive.tasks(place["path"]))
    return with_tasks(run, rows) if rows else run


async def print_archived_log(url: str, folder: str, attempt: int | None, *, heading: str) -> bool:
    """Write an archived log to standard output, if there is any after a line beside it. Returns whether there was any."""
    offset, some = 0, False
    while True:
        part = await from_archive(url, lambda archive, at=offset: archive.log(folder, at, attempt=attempt))  # type: ignore[misc]
        if part is None:
            return some
        if part.data and not some:
            note(heading)
        sys.stdout.buffer.write(part.data)
        some = some or bool(part.data)
        offset = part.next_offset
        if part.at_end:
            sys.stdout.buffer.flush()
            return some


async def erase(client: "Client", namespace: str, name: str, given: str | None) -> int:
    """Remove the archived runs of a name, with their lines in the index. Returns how many."""
    count = 0
    for url in await storages(client, namespace, given):
        count += await from_archive(url, lambda archive: _erase(archive, namespace, name)) or 0
    return count


def _erase(archive: "Archive", namespace: str, name: str) -> int:
    from levada.archive import index
    from levada.archive.layout import record_key
    from levada.archive.record import RecordError

    folders = archive.folders(namespace, name)
    for folder in folders:
        try:
            record = archive.record(folder)
        except RecordError:  # its line in the index, if there is one, goes with the next `reindex`
            record = None
        if record is not None:
            index.remove(archive.storage, namespace, record.entry.deployment, record.entry.uid)
        keys = archive.storage.list(f"{folder}/")
        # The record last: as long as it is there, this can be done again.
        for key in sorted(keys, key=lambda key: key == record_key(folder)):
            archive.storage.delete(key)
    return len(folders)
