"""`levada runs`: list, show, watch, repeat, suspend and cancel flow runs, and read their logs, from the cluster and from the archive."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from levada.cli import rerun, runs_removal
from levada.cli.app import new_app
from levada.cli.connection import find, run
from levada.cli.listing import show_list
from levada.cli.options import (
    EverywhereOption,
    FormatOption,
    ListFormatOption,
    RunName,
    RunNames,
    StorageOption,
    Target,
    in_namespace,
    named,
)
from levada.cli.output import console, error, machine_text, now, time_text, usage_error
from levada.resources.kinds import DEPLOYMENTS, FLOW_RUNS
from levada.resources.names import FIELD_MANAGER_CLI
from levada.resources.phases import RunPhase

if TYPE_CHECKING:
    from levada.kube import Client

app = new_app("List, show, watch, repeat, suspend and cancel flow runs.")

app.command("rm")(runs_removal.remove)
app.command("reindex")(runs_removal.reindex)


@app.command("ls")
@in_namespace
def list_runs(
    *,
    deployment: Annotated[
        str | None,
        typer.Option("--deployment", "-d", help="Only runs of this deployment.", callback=named(DEPLOYMENTS)),
    ] = None,
    phase: Annotated[RunPhase | None, typer.Option("--phase", help="Only runs in this phase.")] = None,
    everywhere: EverywhereOption = False,
    archived: Annotated[
        bool, typer.Option("--archived", help="Also runs that have left the cluster, from the archive.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many of the archive at most.")] = 50,
    storage: StorageOption = None,
    output: ListFormatOption = None,
    target: Target,
) -> None:
    """List flow runs, the newest first."""
    from levada.cli.archived import archived_runs
    from levada.cli.run_view import runs_table

    if archived and everywhere:
        raise usage_error("--archived lists one namespace", "choose it with -n")

    chosen = {"status.phase": phase, "spec.deploymentRef.name": deployment}
    selector = ",".join(f"{field}={value}" for field, value in chosen.items() if value)

    async def work(client: "Client", here: str) -> list[dict[str, Any]]:
        found, _ = await client.list(FLOW_RUNS, None if everywhere else here, field_selector=selector or None)
        if archived:
            there = {each["metadata"]["uid"] for each in found}
            others = await archived_runs(client, here, deployment=deployment, limit=limit, given=storage)
            kept = [each for each in others if phase is None or each["status"].get("phase") == phase]
            found += [each for each in kept if each["metadata"]["uid"] not in there]
        return found

    found = run(work, target)
    show_list(
        found,
        output,
        lambda wide: runs_table(found, now(), with_namespace=everywhere, wide=wide),
        nothing=f"no flow runs{' that match' if selector else ''}: `levada deployment run NAME` starts one",
    )


@app.command()
@in_namespace
def show(
    name: RunName,
    *,
    storage: StorageOption = None,
    output: FormatOption = None,
    target: Target,
) -> None:
    """Show one flow run: where it stands, its tasks, and what went wrong; from the archive, if it has left the cluster."""
    from levada.cli.archived import live_or_archived
    from levada.cli.run_view import run_page

    async def work(client: "Client", here: str) -> dict[str, Any]:
        return await live_or_archived(client, here, name, storage)

    found = run(work, target)
    if output:
        typer.echo(machine_text(found, output), nl=False)
    else:
        console.print(run_page(found, now()))


@app.command()
@in_namespace
def watch(name: RunName, *, target: Target) -> None:
    """Follow a flow run until it ends; the exit code is 0 only if it ends as Completed.

    A terminal shows its progress, stages and tasks as they go; a pipe gets a line for each change.
    """
    from levada.cli.watch import watch_run

    async def work(client: "Client", here: str) -> str:
        return await watch_run(client, name, here)

    if run(work, target) != RunPhase.COMPLETED:
        raise typer.Exit(1)


@app.command()
@in_namespace
def logs(
    name: RunName,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for the log, and go on until the run ends.")
    ] = False,
    attempt: Annotated[
        int | None, typer.Option("--attempt", min=1, help="Which attempt; the newest when absent.")
    ] = None,
    storage: StorageOption = None,
    target: Target,
) -> None:
    """Print the log of a flow run; from the archive, if its pod is gone."""
    from levada.cli.logs import print_log

    async def work(client: "Client", here: str) -> None:
        await print_log(client, name, here, attempt=attempt, follow=follow, storage=storage)

    run(work, target)


@app.command()
@in_namespace
def cancel(
    names: RunNames,
    *,
    target: Target,
) -> None:
    """Ask flow runs to stop. A run that has ended already is an error, unless it was cancelled."""
    refused = run(lambda client, here: _cancel_all(client, here, names), target)
    if refused:
        raise typer.Exit(1)


async def _cancel_all(client: "Client", namespace: str, names: list[str]) -> int:
    """How many of the runs could not be cancelled any more."""
    from levada.cli.follow import has_ended

    refused = 0
    for name in names:
        found = await find(client, FLOW_RUNS, name, namespace, called="flow run")
        status = found.get("status") or {}
        if has_ended(found) and status["phase"] != RunPhase.CANCELLED:
            error(
                f"flow run {name!r} ended as {status['phase']} at {time_text(status.get('completionTime'))}: there is nothing to cancel"
            )
            refused += 1
            continue
        await client.patch(FLOW_RUNS, name, {"spec": {"cancel": True}}, namespace, field_manager=FIELD_MANAGER_CLI)
        typer.echo(f"flow run {name} is cancelled" if has_ended(found) else f"flow run {name} is asked to stop")
    return refused


app.command()(rerun.retry)
app.command()(rerun.suspend)
app.command()(rerun.resume)
