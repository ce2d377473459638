"""`levada backfills`: see how far backfills are, pause, cancel and repeat them."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from levada.cli.app import new_app
from levada.cli.connection import find, run
from levada.cli.listing import listed, show_list
from levada.cli.options import EverywhereOption, FormatOption, ListFormatOption, Target, in_namespace, named
from levada.cli.output import age, console, error, machine_text, now, state_text, table, time_text
from levada.resources.kinds import BACKFILLS
from levada.resources.names import MAX_NAME_LENGTH

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from levada.kube import Client

app = new_app("See how far backfills are, pause, cancel and repeat them.")

ENDED: Final = frozenset({"Completed", "Failed", "Cancelled"})
# What the letters of status.fates mean.
FATES: Final = {
    ".": "waits", "r": "to repeat", "=": "there already", "a": "under way", "b": "under way", "C": "completed", "F": "failed",
    "K": "cancelled", "S": "skipped", "R": "refused", "L": "deleted", "-": "not started",
}  # fmt: skip
LOOK_SECONDS: Final = 1.0
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the backfill.", callback=named(BACKFILLS))]


@app.command("ls")
@in_namespace
def list_backfills(
    *,
    everywhere: EverywhereOption = False,
    output: ListFormatOption = None,
    target: Target,
) -> None:
    """List backfills."""
    found = listed(BACKFILLS, target, everywhere=everywhere)
    show_list(
        found,
        output,
        lambda wide: backfills_table(found, now(), with_namespace=everywhere, wide=wide),
        nothing="no backfills: `levada backfill DEPLOYMENT --from TIME` makes one",
    )


def backfills_table(
    found: Sequence[Mapping[str, Any]], present: datetime, *, with_namespace: bool = False, wide: bool = False
) -> "Table":
    """The table of `levada backfills ls`, the newest first."""
    columns = ("NAME", "DEPLOYMENT", "PHASE", "PROGRESS", "ACTIVE", "FAILED", "AGE")
    more = ("FROM", "TO", "AT A TIME", "MESSAGE") if wide else ()
    made = table(*(("NAMESPACE",) if with_namespace else ()), *columns, *more)
    for body in sorted(found, key=lambda each: str(each["metadata"]["creationTimestamp"]), reverse=True):
        meta, spec, status = body["metadata"], body["spec"], body.get("status") or {}
        window = (time_text(spec["startTime"]), time_text(spec["endTime"]), str(spec.get("maxActive", 5)))
        made.add_row(
            *((meta["namespace"],) if with_namespace else ()),
            meta["name"], spec["deploymentRef"]["name"], state_text(status.get("phase") or "Pending"),
            status.get("progress") or "", str(status.get("active") or 0), str(status.get("failed") or 0),
            age(meta["creationTimestamp"], present),
            *((*window, status.get("message") or "") if wide else ()),
        )  # fmt: skip
    return made


@app.command()
@in_namespace
def show(
    name: NameArgument,
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow until it ends.")] = False,
    output: FormatOption = None,
    target: Target,
) -> None:
    """Show one backfill: its window, its plan, and how far it is."""

    async def work(client: "Client", here: str) -> dict[str, Any]:
        found = await find(client, BACKFILLS, name, here, called="backfill")
        return await watch_to_the_end(client, found, here) if watch else found

    found = run(work, target)
    if output:
        typer.echo(machine_text(found, output), nl=False)
    else:
        show_body(found, console)


@app.command()
@in_namespace
def pause(
    name: NameArgument,
    *,
    target: Target,
) -> None:
    """Start no further runs; those under way go on."""
    _patch(name, {"paused": True}, "paused", target)


@app.command()
@in_namespace
def resume(
    name: NameArgument,
    *,
    target: Target,
) -> None:
    """Go on with a paused backfill."""
    _patch(name, {"paused": False}, "resumed", target)


@app.command()
@in_namespace
def cancel(
    name: NameArgument,
    *,
    target: Target,
) -> None:
    """Start no further runs, and cancel those under way."""
    _patch(name, {"cancel": True}, "cancelled", target)


@app.command()
@in_namespace
def retry(
    name: NameArgument,
    *,
    new_name: Annotated[
        str | None, typer.Option("--name", help="Name of the new backfill; made up when absent.")
    ] = None,
    target: Target,
) -> None:
    """Make a new backfill of the same window that runs what failed or was not run, and nothing else."""

    async def work(client: "Client", here: str) -> str:
        old = await find(client, BACKFILLS, name, here, called="backfill")
        if (old.get("status") or {}).get("phase") not in ENDED:
            raise error(f"backfill {name!r} goes on", f"wait for its end, or `levada backfills cancel {name}`")
        spec = {key: value for key, value in old["spec"].items() if key not in {"paused", "cancel", "dryRun"}}
        made = new_name or f"{name[: MAX_NAME_LENGTH - 5]}-{secrets.token_hex(2)}"
        body = {key: old[key] for key in ("apiVersion", "kind")} | {
            "metadata": {"name": made, "namespace": here},
            "spec": spec | {"reprocess": "Failed"},
        }
        await client.create(BACKFILLS, body, here)
        return made

    made = run(work, target)
    typer.echo(f"backfill/{made} created: `levada backfills show {made}` tells how far it is")


def _patch(name: str, spec: dict[str, Any], done: str, target: Target) -> None:
    async def work(client: "Client", here: str) -> None:
        found = await find(client, BACKFILLS, name, here, called="backfill")
        phase = (found.get("status") or {}).get("phase")
        if phase in ENDED:
            raise error(
                f"backfill {name!r} has ended as {phase}: it cannot be {done} any more",
                f"`levada backfills retry {name}` makes a new one of the same window",
            )
        await client.patch(BACKFILLS, name, {"spec": spec}, here)

    run(work, target)
    typer.echo(f"backfill/{name} {done}")


async def watch_to_the_end(client: "Client", body: dict[str, Any], namespace: str) -> dict[str, Any]:
    """Print each news in a line until the backfill has ended; returns it as it is then."""
    import asyncio

    said = ""
    while True:
        status = body.get("status") or {}
        words = f"{status.get('phase') or 'Pending'}: {status.get('message') or 'waiting for the operator'}"
        if words != said:
            typer.echo(words, err=True)
            said = words
        if status.get("phase") in ENDED:
            return body
        await asyncio.sleep(LOOK_SECONDS)
        body = await client.get(BACKFILLS, body["metadata"]["name"], namespace)


def show_body(body: Mapping[str, Any], to: "Console", *, message: str = "") -> None:
    """One backfill in lines, with a message that is said in place of its own."""
    from rich.text import Text

    spec, status = body["spec"], body.get("status") or {}
    rule = next((f"{key} {spec[key]}" for key in ("cron", "intervalSeconds", "rrule") if key in spec), "")
    source = f"schedule {spec['scheduleRef']['name']}" if spec.get("scheduleRef") else rule
    rows = [
        ("Backfill", body["metadata"]["name"]),
        ("Deployment", spec["deploymentRef"]["name"]),
        ("Ticks", f"{source}, {time_text(spec['startTime'])} to {time_text(spec['endTime'])}"),
        ("Phase", state_text(status.get("phase") or "Pending")),
        ("", message or status.get("message") or ""),
        ("Plan", f"{status.get('toRun', 0)} of {status.get('total', 0)} ticks, {status.get('present', 0)} have a run already"),
        ("First, last", f"{time_text(status.get('firstTick'))}, {time_text(status.get('lastTick'))}" if status.get("firstTick") else ""),
        ("At a time", f"{spec.get('maxActive', 5)}{', the newest first' if spec.get('reverse') else ''}"),
    ]  # fmt: skip
    for title, value in rows:
        if value:
            to.print(Text(f"{title:<13}"), value, end="\n", sep="")
    if status.get("fates"):
        to.print(Text(f"{'Each tick':<13}{status['fates'][:200]}{'…' if len(status['fates']) > 200 else ''}"))
        to.print(
            Text(f"{'':<13}{'  '.join(f'{fate} {words}' for fate, words in FATES.items() if fate in status['fates'])}")
        )
