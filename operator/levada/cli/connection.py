"""The cluster that a command talks to, and looking up an object by the name that a person typed."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from levada.cli.options import Target
from levada.cli.output import ExitCode, error
from levada.resources.kinds import Kind

if TYPE_CHECKING:
    from levada.kube import Client

T = TypeVar("T")


def run(work: Callable[["Client", str], Awaitable[T]], target: Target) -> T:
    """Do something with a client and the namespace that is meant."""
    import asyncio

    async def with_client() -> T:
        from levada.kube import Client

        async with Client.from_kubeconfig(target.kubeconfig, target.context, user_agent="levada-cli") as client:
            return await work(client, target.namespace or client.namespace)

    return asyncio.run(with_client())


async def find(client: "Client", kind: Kind, name: str, namespace: str, *, called: str) -> dict[str, Any]:
    """The object of that name; `called` is what people call its kind.

    Raises:
        typer.Exit: there is none; similar names have been offered.
    """
    from levada.kube import NotFound

    try:
        return await client.get(kind, name, namespace)
    except NotFound:
        there, _ = await client.list(kind, namespace)  # raises again if the kind itself is missing
        names = [each["metadata"]["name"] for each in there]
        raise not_found(name, namespace, names, called=called, listing=_listing(kind, namespace)) from None


def not_found(name: str, namespace: str, names: list[str], *, called: str, listing: str) -> typer.Exit:
    """Say that there is no such object, with the closest names."""
    import difflib

    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    hint = (
        f"did you mean {' or '.join(close)}?" if close else f"`{listing}` lists what there is; -n chooses the namespace"
    )
    return error(f"there is no {called} {name!r} in namespace {namespace!r}", hint, code=ExitCode.NOT_FOUND)


def _listing(kind: Kind, namespace: str) -> str:
    return f"kubectl get {kind.plural}.{kind.group} -n {namespace}"
