"""`levada queues`: list, pause and resume work queues, and set their limits."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from levada.cli.app import new_app
from levada.cli.connection import ContextOption, FormatOption, KubeconfigOption, NamespaceOption, Target, find, run
from levada.cli.output import age, machine_text, now, print_list, table, warn
from levada.resources.kinds import DEPLOYMENTS, WORK_QUEUES
from levada.resources.names import DEFAULT_QUEUE, FIELD_MANAGER_CLI

if TYPE_CHECKING:
    from rich.table import Table

    from levada.kube import Client

app = new_app("List, pause and resume work queues, and set limits.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the work queue; it is made if there is none.")]
Existing = Annotated[str, typer.Argument(metavar="NAME", help="Name of the work queue.")]


@app.command("ls")
def list_queues(
    *,
    output: FormatOption = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """List work queues: their limits, and how many runs are active and wait."""

    async def work(client: "Client", here: str) -> list[dict[str, Any]]:
        found, _ = await client.list(WORK_QUEUES, here)
        return found

    found = run(work, Target(namespace, context, kubeconfig))
    if output:
        typer.echo(machine_text(found, output), nl=False)
    elif found:
        print_list(queues_table(found))
    else:
        typer.echo(
            "no work queues: a queue without an object has no limit; `levada queues set-limit NAME N` makes one",
            err=True,
        )


def queues_table(found: list[dict[str, Any]]) -> "Table":
    """The table of `levada queues ls`, the queues that go first at the top."""
    made = table("NAME", "LIMIT", "PRIORITY", "PAUSED", "ACTIVE", "WAITING", "KUEUE", "AGE")
    present = now()
    for queue in sorted(found, key=lambda each: (-(each["spec"].get("priority") or 0), each["metadata"]["name"])):
        spec, status = queue["spec"], queue.get("status") or {}
        limit = spec.get("concurrencyLimit")
        made.add_row(
            queue["metadata"]["name"],
            "none" if limit is None else str(limit),
            str(spec.get("priority") or 0),
            "yes" if spec.get("paused") else "no",
            str(status.get("active", "")),
            str(status.get("waiting", "")),
            spec.get("localQueue") or "",
            age(queue["metadata"].get("creationTimestamp"), present),
        )
    return made


@app.command()
def pause(
    name: Name, *, namespace: NamespaceOption = None, context: ContextOption = None, kubeconfig: KubeconfigOption = None
) -> None:
    """Start no new runs of a queue; those under way go on."""
    _change(name, {"paused": True}, Target(namespace, context, kubeconfig))
    typer.echo(f"work queue {name} is paused")


@app.command()
def resume(
    name: Existing,
    *,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Let a queue start runs again."""

    async def work(client: "Client", here: str) -> None:
        await find(client, WORK_QUEUES, name, here, called="work queue")
        await client.patch(WORK_QUEUES, name, {"spec": {"paused": False}}, here, field_manager=FIELD_MANAGER_CLI)

    run(work, Target(namespace, context, kubeconfig))
    typer.echo(f"work queue {name} starts runs again")


@app.command("set-limit")
def set_limit(
    name: Name,
    limit: Annotated[str, typer.Argument(metavar="N", help="How many runs may go at once; `none` for no limit.")],
    *,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Set how many runs of a queue may go at once. Runs under way are not stopped."""
    if limit != "none" and not (limit.isascii() and limit.isdecimal()):
        raise typer.BadParameter(f"{limit!r} is neither a whole number, 0 or more, nor `none`", param_hint="N")
    number = None if limit == "none" else int(limit)
    _change(name, {"concurrencyLimit": number}, Target(namespace, context, kubeconfig))
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
