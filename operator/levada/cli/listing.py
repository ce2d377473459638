"""What every `ls` has in common: its options, and whether a table, a document for programs or a hint is printed."""

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from levada.cli.output import Format, machine_text, print_list

if TYPE_CHECKING:
    from rich.table import Table


class ListFormat(StrEnum):
    """What -o accepts where there is a table."""

    JSON = "json"
    YAML = "yaml"
    NAME = "name"
    WIDE = "wide"


ListFormatOption = Annotated[
    ListFormat | None, typer.Option("--output", "-o", help="wide: more columns. For programs: json, yaml or name.")
]
EverywhereOption = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Those of all namespaces.")]


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
