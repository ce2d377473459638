"""`levada blocks`: the settings that flows of a namespace load by name. Secrets are named, never read and never shown."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from levada.cli.app import new_app
from levada.cli.connection import ContextOption, FormatOption, KubeconfigOption, NamespaceOption, Target, find, run
from levada.cli.listing import EverywhereOption, ListFormatOption, show_list
from levada.cli.output import age, console, machine_text, now, table
from levada.resources.kinds import BLOCKS

if TYPE_CHECKING:
    from rich.table import Table

    from levada.kube import Client

app = new_app("List, show and remove blocks: saved settings that flows load by name.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the block.")]


@app.command("ls")
def list_blocks(
    *,
    everywhere: EverywhereOption = False,
    output: ListFormatOption = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """List blocks, with the names of their fields."""

    async def work(client: "Client", here: str) -> list[dict[str, Any]]:
        found, _ = await client.list(BLOCKS, None if everywhere else here)
        return found

    found = run(work, Target(namespace, context, kubeconfig))
    show_list(
        found,
        output,
        lambda wide: blocks_table(found, now(), with_namespace=everywhere, wide=wide),
        nothing="no blocks: `Block.to_resource` makes one for `kubectl apply`; -n chooses the namespace",
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
def show(
    name: Name,
    *,
    output: FormatOption = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Show one block: its plain values, and which Secret and key holds each of its secrets."""

    async def work(client: "Client", here: str) -> dict[str, Any]:
        return await find(client, BLOCKS, name, here, called="block")

    found = run(work, Target(namespace, context, kubeconfig))
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


@app.command("rm")
def remove(
    name: Name, *, namespace: NamespaceOption = None, context: ContextOption = None, kubeconfig: KubeconfigOption = None
) -> None:
    """Remove a block. The Secrets that it names stay; flows that load it fail from now on."""

    async def work(client: "Client", here: str) -> None:
        found = await find(client, BLOCKS, name, here, called="block")
        await client.delete(BLOCKS, name, here, uid=found["metadata"]["uid"])

    run(work, Target(namespace, context, kubeconfig))
    typer.echo(f"block {name} is removed; the Secrets that it named are still there")
