"""What every `ls` has in common: its objects, and whether a table, a document for programs or a hint is printed."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from levada.cli.connection import run
from levada.cli.options import Format, ListFormat, Target
from levada.cli.output import machine_text, print_list

if TYPE_CHECKING:
    from rich.table import Table

    from levada.kube import Client
    from levada.resources.kinds import Kind


def listed(kind: "Kind", target: Target, *, everywhere: bool) -> list[dict[str, Any]]:
    """The objects of a kind, of the namespace that is meant or of all."""

    async def work(client: "Client", here: str) -> list[dict[str, Any]]:
        found, _ = await client.list(kind, None if everywhere else here)
        return found

    return run(work, target)


def show_list(
    found: list[dict[str, Any]], output: ListFormat | None, made: "Callable[[bool], Table]", *, nothing: str
) -> None:
    """Print a list as it was asked for. `made` makes its table, wide or not; `nothing` is said when the list is empty."""
    if output and output is not ListFormat.WIDE:
        typer.echo(machine_text(found, Format(output)), nl=False)
    elif found:
        print_list(made(output is ListFormat.WIDE))
    else:
        typer.echo(nothing, err=True)
