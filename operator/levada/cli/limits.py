"""`levada limits`: the slots that tasks of a namespace share, `with concurrency("db")`."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from levada.cli.app import new_app
from levada.cli.connection import find, run
from levada.cli.listing import listed, show_list
from levada.cli.options import EverywhereOption, ListFormatOption, Target, in_namespace, named
from levada.cli.output import age, now, table, usage_error
from levada.cli.queues import patch_or_create
from levada.resources.kinds import CONCURRENCY_LIMITS
from levada.resources.names import limit_object

if TYPE_CHECKING:
    from rich.table import Table

    from levada.kube import Client

app = new_app("List, set and remove the limits that tasks share.")

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Name of the limit, as concurrency() is called with.", callback=named(CONCURRENCY_LIMITS)
    ),
]


@app.command("ls")
@in_namespace
def list_limits(
    *,
    everywhere: EverywhereOption = False,
    output: ListFormatOption = None,
    target: Target,
) -> None:
    """List limits, and who holds slots."""
    found = listed(CONCURRENCY_LIMITS, target, everywhere=everywhere)
    show_list(
        found,
        output,
        lambda wide: limits_table(found, now(), with_namespace=everywhere, wide=wide),
        nothing="no limits: `levada limits set NAME N` makes one",
    )


def limits_table(
    found: list[dict[str, Any]], present: datetime, *, with_namespace: bool = False, wide: bool = False
) -> "Table":
    """The table of `levada limits ls`; wide names all who hold slots."""
    columns = ("NAME", "LIMIT", "PER SECOND", "ACTIVE", "WAITING", "HOLDERS", "AGE")
    made = table(*(("NAMESPACE",) if with_namespace else ()), *columns, *(("DESCRIPTION",) if wide else ()))
    shown = None if wide else 3
    for limit in sorted(found, key=lambda each: (each["metadata"].get("namespace", ""), each["metadata"]["name"])):
        spec, status = limit["spec"], limit.get("status") or {}
        rate = spec.get("slotDecayPerSecond")
        holders = [f"{holder['run']} {holder['slots']}" for holder in status.get("holders") or ()]
        made.add_row(
            *((limit["metadata"]["namespace"],) if with_namespace else ()),
            limit["metadata"]["name"],
            str(spec["limit"]),
            f"{rate:g}" if rate else "",
            str(status.get("active", "")),
            str(status.get("waiting", "")),
            ", ".join(holders[:shown]) + (", …" if shown and len(holders) > shown else ""),
            age(limit["metadata"].get("creationTimestamp"), present),
            *((spec.get("description") or "",) if wide else ()),
        )
    return made


@app.command("set")
@in_namespace
def set_limit(
    name: Name,
    limit: Annotated[int, typer.Argument(metavar="N", min=0, help="How many slots there are; 0 lets everybody wait.")],
    *,
    per_second: Annotated[
        float | None, typer.Option(min=0, help="For rate_limit: how many slots come back each second.")
    ] = None,
    target: Target,
) -> None:
    """Make or change a limit. Those who hold slots keep them; those who wait go by the new one."""
    name = _object(name)
    spec = {"limit": limit} | ({"slotDecayPerSecond": per_second} if per_second is not None else {})

    async def work(client: "Client", here: str) -> None:
        await patch_or_create(client, CONCURRENCY_LIMITS, name, here, spec)

    run(work, target)
    rate = f", {per_second:g} come back each second" if per_second else ""
    typer.echo(f"limit {name} has {limit} slot{'' if limit == 1 else 's'}{rate}")


@app.command("rm")
@in_namespace
def remove(name: Name, *, target: Target) -> None:
    """Remove a limit: nobody waits for it any more."""

    async def work(client: "Client", here: str) -> None:
        found = await find(client, CONCURRENCY_LIMITS, limit_object(name) or name, here, called="limit")
        await client.delete(CONCURRENCY_LIMITS, found["metadata"]["name"], here, uid=found["metadata"]["uid"])

    run(work, target)
    typer.echo(f"limit {limit_object(name)} is removed")


def _object(name: str) -> str:
    """The object's name, as `concurrency(name)` in a run finds it."""
    found = limit_object(name)
    if not found:
        raise usage_error(f"{name!r} is no name of a limit", "it needs a letter or a digit")
    return found
