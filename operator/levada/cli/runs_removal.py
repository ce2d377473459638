"""`levada runs rm` and `reindex`: what removes finished runs, and what repairs the list of those that are archived."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from levada.cli.connection import run
from levada.cli.options import RunNames, StorageOption, Target, in_namespace
from levada.cli.output import ExitCode, error
from levada.resources.kinds import FLOW_RUNS

if TYPE_CHECKING:
    from levada.kube import Client


@in_namespace
def remove(
    names: RunNames,
    *,
    archived: Annotated[
        bool, typer.Option("--archived", help="Remove log, record and tasks from the archive, too: for good.")
    ] = False,
    storage: StorageOption = None,
    target: Target,
) -> None:
    """Remove flow runs that have ended from the cluster. What the archive has of them stays, unless --archived is given."""

    async def work(client: "Client", here: str) -> set[ExitCode]:
        return {await _remove(client, here, name, archived=archived, storage=storage) for name in names}

    ended = run(work, target) - {ExitCode.OK}
    if ended:
        raise typer.Exit(min(ended))


async def _remove(client: "Client", namespace: str, name: str, *, archived: bool, storage: str | None) -> ExitCode:
    """Remove one run. What there is nothing of, or must not be removed, is said."""
    from levada.cli.archived import erase
    from levada.cli.follow import has_ended
    from levada.kube import NotFound

    try:
        found: dict[str, Any] | None = await client.get(FLOW_RUNS, name, namespace)
    except NotFound:
        found = None
    if found is not None:
        if not has_ended(found):
            error(f"flow run {name!r} has not ended", f"`levada runs cancel {name}` stops it")
            return ExitCode.FAILED
        metadata = found["metadata"]
        version = metadata["resourceVersion"]
        await client.delete(FLOW_RUNS, name, namespace, uid=metadata["uid"], resource_version=version)
        typer.echo(f"flow run {name} is removed from the cluster")
    count = await erase(client, namespace, name, storage) if archived else 0
    if count:
        typer.echo(f"flow run {name} is removed from the archive")
    if found is None and not count:
        hint = None if archived else "--archived removes what the archive has of it"
        error(f"there is no flow run {name!r} in namespace {namespace!r}", hint)
        return ExitCode.NOT_FOUND
    return ExitCode.OK


@in_namespace
def reindex(
    *,
    storage: StorageOption = None,
    target: Target,
) -> None:
    """Make the archive's index of a namespace anew from the records of its runs, if it was lost or lacks some.

    The operator goes on with what it finds. Do it while no run ends, or twice.
    """
    from levada.archive import index
    from levada.cli.archived import from_archive, storages

    async def work(client: "Client", here: str) -> None:
        urls = await storages(client, here, storage)
        if not urls:
            raise error(f"no deployment of namespace {here!r} has a storage", "--storage names one")
        for url in urls:
            counts = await from_archive(url, lambda archive: index.rebuilt(archive.storage, here))
            for deployment, count in (counts or {}).items():
                typer.echo(f"{url}: {count} runs of {deployment}")

    run(work, target)
