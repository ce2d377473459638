"""`levada blocks`: the settings that flows of a namespace load by name. Secrets are named, never read and never shown."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from levada.cli.app import new_app
from levada.cli.connection import ContextOption, FormatOption, KubeconfigOption, NamespaceOption, Target, find, run
from levada.cli.output import age, console, machine_text, now, print_list, table
from levada.resources.kinds import BLOCKS

if TYPE_CHECKING:
    from rich.table import Table

    from levada.kube import Client

app = new_app("List, show and remove blocks: saved settings that flows load by name.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the block.")]
Everywhere = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Blocks of all namespaces.")]


@app.command("ls")
def list_blocks(
    *,
    everywhere: Everywhere = False,
    output: FormatOption = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """List blocks, with the names of their fields."""

    async def work(client: "Client", here: str) -> list[dict[str, Any]]:
        found, _ = await client.list(BLOCKS, None if everywhere else here)
        return found

    found = run(work, Target(namespace, context, kubeconfig))
    if output:
        typer.echo(machine_text(found, output), nl=False)
    elif found:
        print_list(blocks_table(found, with_namespace=everywhere))
    else:
        typer.echo("no blocks: `Block.to_resource` makes one for `kubectl apply`; -n chooses the namespace", err=True)


def blocks_table(found: list[dict[str, Any]], *, with_namespace: bool = False) -> "Table":
    """The table of `levada blocks ls`."""
    made = table(*(("NAMESPACE",) if with_namespace else ()), "NAME", "TYPE", "VALUES", "SECRETS", "AGE")
    present = now()
    for block in sorted(found, key=lambda each: (each["metadata"].get("namespace", ""), each["metadata"]["name"])):
        meta, spec = block["metadata"], block["spec"]
        made.add_row(
            *((meta["namespace"],) if with_namespace else ()),
            meta["name"],
            spec["type"],
            ",".join(sorted(spec.get("values") or {})),
            ",".join(sorted(spec.get("secretRefs") or {})),
            age(meta.get("creationTimestamp"), present),
        )
    return made


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
