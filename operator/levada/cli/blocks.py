"""`levada blocks`: the settings that flows of a namespace load by name. Secrets are named, never read and never shown."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from levada.cli import blocks_set
from levada.cli.app import new_app
from levada.cli.connection import find, run
from levada.cli.listing import listed, show_list
from levada.cli.options import EverywhereOption, FormatOption, ListFormatOption, Target, in_namespace, named
from levada.cli.output import age, console, machine_text, now, print_list, table
from levada.resources.kinds import BLOCKS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from levada.blocks import Block
    from levada.kube import Client

app = new_app("List, show, set and remove blocks: saved settings that flows load by name.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the block.", callback=named(BLOCKS))]


@app.command("ls")
@in_namespace
def list_blocks(
    *,
    everywhere: EverywhereOption = False,
    output: ListFormatOption = None,
    target: Target,
) -> None:
    """List blocks, with the names of their fields."""
    found = listed(BLOCKS, target, everywhere=everywhere)
    show_list(
        found,
        output,
        lambda wide: blocks_table(found, now(), with_namespace=everywhere, wide=wide),
        nothing="no blocks: `levada blocks set TYPE/NAME FIELD=VALUE` makes one; -n chooses the namespace",
    )


def blocks_table(
    found: list[dict[str, Any]], present: datetime, *, with_namespace: bool = False, wide: bool = False
) -> "Table":
    """The table of `levada blocks ls`; wide names the Secrets, as NAME/KEY."""
    columns = ("NAME", "TYPE", "VALUES", "SECRETS", "AGE")
    made = table(*(("NAMESPACE",) if with_namespace else ()), *columns, *(("SECRETS OF THE CLUSTER",) if wide else ()))
    for block in sorted(found, key=lambda each: (each["metadata"].get("namespace", ""), each["metadata"]["name"])):
        meta, spec = block["metadata"], block["spec"]
        made.add_row(
            *((meta["namespace"],) if with_namespace else ()),
            meta["name"],
            spec["type"],
            ",".join(sorted(spec.get("values") or {})),
            ",".join(sorted(spec.get("secretRefs") or {})),
            age(meta.get("creationTimestamp"), present),
            *((_places(spec),) if wide else ()),
        )
    return made


def _places(spec: dict[str, Any]) -> str:
    found = (spec.get("secretRefs") or {}).values()
    return ",".join(sorted(f"{place['name']}/{place['key']}" for place in found))


@app.command()
@in_namespace
def show(
    name: Name,
    *,
    output: FormatOption = None,
    target: Target,
) -> None:
    """Show one block: its plain values, and which Secret and key holds each of its secrets."""

    async def work(client: "Client", here: str) -> dict[str, Any]:
        return await find(client, BLOCKS, name, here, called="block")

    found = run(work, target)
    if output:
        typer.echo(machine_text(found, output), nl=False)
        return
    spec = found["spec"]
    console.print(f"Block {spec['type']}/{name}")
    made = table("FIELD", "VALUE")
    for field, value in sorted((spec.get("values") or {}).items()):
        made.add_row(field, value_text(value))
    for field, place in sorted((spec.get("secretRefs") or {}).items()):
        made.add_row(field, f"*** (key {place['key']} of Secret {place['name']})")
    console.print(made)


def value_text(value: Any) -> str:
    """A plain value as JSON, text as it is."""
    import json

    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


app.command("set")(blocks_set.set_block)


@app.command("types")
def list_types() -> None:
    """List Levada's own types of blocks, and the fields of each. Your own types are classes of your code."""
    from levada.blocks import known_types

    print_list(types_table(known_types()))


def types_table(types: "Mapping[str, type[Block]]") -> "Table":
    """The table of `levada blocks types`. Types without fields are but bases of others."""
    from levada.blocks import fields_of

    made = table("TYPE", "NEEDS", "TAKES", "SECRETS")
    for block_type, cls in sorted(types.items()):
        fields = fields_of(cls).values()
        secret = {each.name for each in fields if blocks_set.is_secret(each.annotation)}
        parts = (
            [each.name for each in fields if each.required],
            [each.name for each in fields if not each.required and each.name not in secret],
            [each.name for each in fields if each.name in secret],
        )
        if any(parts):
            made.add_row(block_type, *(",".join(part) for part in parts))
    return made


@app.command("rm")
@in_namespace
def remove(name: Name, *, target: Target) -> None:
    """Remove a block. The Secrets that it names stay; flows that load it fail from now on."""

    async def work(client: "Client", here: str) -> None:
        found = await find(client, BLOCKS, name, here, called="block")
        await client.delete(BLOCKS, name, here, uid=found["metadata"]["uid"])

    run(work, target)
    typer.echo(f"block {name} is removed; the Secrets that it named are still there")
