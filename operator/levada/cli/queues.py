"""`levada queues`: list, pause and resume work queues, and set their limits."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from levada.cli.app import new_app
from levada.cli.connection import find, run
from levada.cli.listing import listed, show_list
from levada.cli.options import EverywhereOption, ListFormatOption, Target, in_namespace, named
from levada.cli.output import age, now, table, warn
from levada.resources.kinds import DEPLOYMENTS, WORK_QUEUES
from levada.resources.names import DEFAULT_QUEUE, FIELD_MANAGER_CLI

if TYPE_CHECKING:
    from rich.table import Table

    from levada.kube import Client

app = new_app("List, pause and resume work queues, and set limits.")

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Name of the work queue; it is made if there is none.", callback=named(WORK_QUEUES)
    ),
]
Existing = Annotated[str, typer.Argument(metavar="NAME", help="Name of the work queue.", callback=named(WORK_QUEUES))]


@app.command("ls")
@in_namespace
def list_queues(
    *,
    everywhere: EverywhereOption = False,
    output: ListFormatOption = None,
    target: Target,
) -> None:
    """List work queues: their limits, and how many runs are active and wait."""
    found = listed(WORK_QUEUES, target, everywhere=everywhere)
    show_list(
        found,
        output,
        lambda wide: queues_table(found, now(), with_namespace=everywhere, wide=wide),
        nothing="no work queues: a queue without an object has no limit; `levada queues set-limit NAME N` makes one",
    )


def queues_table(
    found: list[dict[str, Any]], present: datetime, *, with_namespace: bool = False, wide: bool = False
) -> "Table":
    """The table of `levada queues ls`, the queues that go first at the top."""
    columns = ("NAME", "LIMIT", "PRIORITY", "PAUSED", "ACTIVE", "WAITING", "KUEUE", "AGE")
    more = ("PRIORITY CLASS", "DESCRIPTION") if wide else ()
    made = table(*(("NAMESPACE",) if with_namespace else ()), *columns, *more)
    for queue in sorted(found, key=_order):
        spec, status = queue["spec"], queue.get("status") or {}
        limit = spec.get("concurrencyLimit")
        made.add_row(
            *((queue["metadata"]["namespace"],) if with_namespace else ()),
            queue["metadata"]["name"],
            "none" if limit is None else str(limit),
            str(spec.get("priority") or 0),
            "yes" if spec.get("paused") else "no",
            str(status.get("active", "")),
            str(status.get("waiting", "")),
            spec.get("localQueue") or "",
            age(queue["metadata"].get("creationTimestamp"), present),
            *((spec.get("workloadPriorityClass") or "", spec.get("description") or "") if wide else ()),
        )
    return made


def _order(queue: dict[str, Any]) -> tuple[str, int, str]:
    meta = queue["metadata"]
    return meta.get("namespace", ""), -(queue["spec"].get("priority") or 0), meta["name"]


@app.command()
@in_namespace
def pause(name: Name, *, target: Target) -> None:
    """Start no new runs of a queue; those under way go on."""
    _change(name, {"paused": True}, target)
    typer.echo(f"work queue {name} is paused")


@app.command()
@in_namespace
def resume(
    name: Existing,
    *,
    target: Target,
) -> None:
    """Let a queue start runs again."""

    async def work(client: "Client", here: str) -> None:
        await find(client, WORK_QUEUES, name, here, called="work queue")
        await client.patch(WORK_QUEUES, name, {"spec": {"paused": False}}, here, field_manager=FIELD_MANAGER_CLI)

    run(work, target)
    typer.echo(f"work queue {name} starts runs again")


@app.command("set-limit")
@in_namespace
def set_limit(
    name: Name,
    limit: Annotated[str, typer.Argument(metavar="N", help="How many runs may go at once; `none` for no limit.")],
    *,
    target: Target,
) -> None:
    """Set how many runs of a queue may go at once. Runs under way are not stopped."""
    if limit != "none" and not (limit.isascii() and limit.isdecimal()):
        raise typer.BadParameter(f"{limit!r} is neither a whole number, 0 or more, nor `none`", param_hint="N")
    number = None if limit == "none" else int(limit)
    _change(name, {"concurrencyLimit": number}, target)
    typer.echo(
        f"work queue {name} runs " + (f"at most {number} at a time" if number is not None else "as many as there are")
    )


def _change(name: str, spec: dict[str, Any], target: Target) -> None:
    async def work(client: "Client", here: str) -> None:
        if await patch_or_create(client, WORK_QUEUES, name, here, spec):
            await _warn_of_a_typo(client, name, here)

    run(work, target)


async def _warn_of_a_typo(client: "Client", name: str, namespace: str) -> None:
    """A queue that was just made, and that no Deployment names, may have been meant for another one."""
    found, _ = await client.list(DEPLOYMENTS, namespace)
    named = sorted({each["spec"].get("workQueue") or DEFAULT_QUEUE for each in found})
    if name not in named:
        others = f"; they name {', '.join(named)}" if named else ""
        warn(f"work queue {name!r} is new, and no deployment of namespace {namespace!r} names it{others}")


async def patch_or_create(client: "Client", kind: Any, name: str, namespace: str, spec: dict[str, Any]) -> bool:
    """Change some fields of an object's spec; make the object if there is none. Whether it was made."""
    from levada.kube import NotFound

    try:
        await client.patch(kind, name, {"spec": spec}, namespace, field_manager=FIELD_MANAGER_CLI)
    except NotFound:
        given = {field: value for field, value in spec.items() if value is not None}
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"name": name, "namespace": namespace},
            "spec": given,
        }
        await client.create(kind, body, namespace)
        return True
    return False
