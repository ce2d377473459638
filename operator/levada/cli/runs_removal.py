"""`levada runs rm` and `reindex`: what removes finished runs, and what repairs the list of those that are archived."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from levada.cli.archived import StorageOption, erase, from_archive, storages
from levada.cli.connection import ContextOption, KubeconfigOption, NamespaceOption, Target, run
from levada.cli.output import error
from levada.resources.kinds import FLOW_RUNS

if TYPE_CHECKING:
    from levada.kube import Client


def remove(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of the flow runs.")],
    *,
    archived: Annotated[
        bool, typer.Option("--archived", help="Remove log, record and tasks from the archive, too: for good.")
    ] = False,
    storage: StorageOption = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Remove flow runs that have ended from the cluster. What the archive has of them stays, unless --archived is given."""

    async def work(client: "Client", here: str) -> int:
        refused = 0
        for name in names:
            refused += not await _remove(client, here, name, archived=archived, storage=storage)
        return refused

    if run(work, Target(namespace, context, kubeconfig)):
        raise typer.Exit(1)


async def _remove(client: "Client", namespace: str, name: str, *, archived: bool, storage: str | None) -> bool:
    """Remove one run. Returns whether there was anything to remove, and it was allowed."""
    from levada.cli.follow import has_ended
    from levada.kube import NotFound

    try:
        found: dict[str, Any] | None = await client.get(FLOW_RUNS, name, namespace)
    except NotFound:
        found = None
    if found is not None:
        if not has_ended(found):
            error(f"flow run {name!r} has not ended", f"`levada runs cancel {name}` stops it")
            return False
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
    return found is not None or count > 0


def reindex(
    *,
    storage: StorageOption = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Make the archive's index of a namespace anew from the records of its runs, if it was lost or lacks some.

    The operator goes on with what it finds. Do it while no run ends, or twice.
    """
    from levada.archive import index

    async def work(client: "Client", here: str) -> None:
        urls = await storages(client, here, storage)
        if not urls:
            raise error(f"no deployment of namespace {here!r} has a storage", "--storage names one")
        for url in urls:
            counts = await from_archive(url, lambda archive: index.rebuilt(archive.storage, here))
            for deployment, count in (counts or {}).items():
                typer.echo(f"{url}: {count} runs of {deployment}")

    run(work, Target(namespace, context, kubeconfig))
