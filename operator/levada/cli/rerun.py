"""`levada runs retry`, `suspend` and `resume`: do a run again from what it has stored, stop it for a while, let it go on."""

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from levada.cli.connection import find, run
from levada.cli.options import FollowRunOption, FormatOption, RunNames, StorageOption, Target, in_namespace, named
from levada.cli.output import console, error, now, time_text
from levada.decide.orders import NAME_TRIES, RerunPlan, name_of, order, plan_of, resumption
from levada.resources.kinds import DEPLOYMENTS, FLOW_RUNS, FLOWS
from levada.resources.names import FIELD_MANAGER_CLI
from levada.resources.phases import RunPhase, is_terminal

if TYPE_CHECKING:
    from rich.console import RenderableType

    from levada.kube import Client

Run = Mapping[str, Any]

ROWS_SHOWN: Final = 50


@in_namespace
def retry(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the flow run to repeat.", callback=named(FLOW_RUNS))
    ],
    *,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="NAME=VALUE", help="Another value of a parameter. Repeatable."),
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Run every task again, whatever results are stored.")
    ] = False,
    run_name: Annotated[
        str | None, typer.Option("--name", help="Name of the new run; <first run>-retry-<n> when absent.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Only show what would be reused and what would run.")
    ] = False,
    watch: FollowRunOption = False,
    storage: StorageOption = None,
    output: FormatOption = None,
    target: Target,
) -> None:
    """Repeat a run that has ended, from the tasks whose results are not stored: a new run, linked to the old one."""
    from levada.cli.archived import live_or_archived
    from levada.cli.deployment import announce, read_parameters

    async def work(client: "Client", here: str) -> str | None:
        old = await live_or_archived(client, here, name, storage)
        refuse_unfinished(old)
        changed = await read_parameters(client, here, old, parameter or [])
        deployment, generation = await _definitions(client, here, old)
        plan = plan_of(old, changed=changed, from_scratch=from_scratch, generation=generation, deployment=deployment)
        if not output:
            console.print(plan_page(old, plan))
        if plan_only:
            return None
        if not yes:
            _ask()
        created = await _create(client, here, old, order(old, changed, from_scratch=from_scratch), run_name)
        announce(created, watch=watch, output=output)
        if not watch:
            return None
        from levada.cli.watch import watch_run

        return await watch_run(client, created["metadata"]["name"], here)

    ended = run(work, target)
    if watch and not plan_only and ended != RunPhase.COMPLETED:
        raise typer.Exit(1)


def refuse_unfinished(old: Run) -> None:
    """A run that goes on is not repeated.

    Raises:
        typer.Exit: it has not ended.
    """
    phase = (old.get("status") or {}).get("phase")
    if not is_terminal(phase):
        name = old["metadata"]["name"]
        raise error(
            f"flow run {name!r} has not ended ({phase or 'no phase yet'})", f"`levada runs cancel {name}` ends it"
        )


def plan_page(old: Run, plan: RerunPlan) -> "RenderableType":
    """The plan as a person reads it before saying yes."""
    from rich.console import Group
    from rich.text import Text

    from levada.cli.output import state_text, table

    rows = (old.get("status") or {}).get("tasks") or {}
    title = Text.assemble(
        ("Retry of ", "dim"), (old["metadata"]["name"], "bold"), f": {plan.reused} reused, {plan.to_run} to run"
    )
    parts: list[RenderableType] = [title]
    if rows:
        made = table("TASK", "ENDED AS", "RETRY")
        ordered = sorted(
            rows.items(), key=lambda item: (bool(item[1].get("persisted")), item[1].get("startTime") or "~")
        )
        for task_id, row in ordered[:ROWS_SHOWN]:
            reused = bool(row.get("persisted")) and plan.reused > 0
            made.add_row(task_id, state_text(row["state"]), Text("reused", "green") if reused else Text("runs", "cyan"))
        parts.append(made)
    hidden = plan.reused + plan.to_run - min(len(rows), ROWS_SHOWN)
    if hidden > 0 and rows:
        parts.append(Text(f"and {hidden} more task runs", "dim"))
    return Group(*parts, *(Text(note) for note in plan.notes))


async def _create(client: "Client", namespace: str, old: Run, body: dict[str, Any], name: str | None) -> dict[str, Any]:
    from levada.kube import AlreadyExists, Invalid

    for number in range(1, NAME_TRIES + 1):
        body["metadata"]["name"] = name or name_of(old, number)
        try:
            return await client.create(FLOW_RUNS, body, namespace)
        except AlreadyExists:
            if name:
                raise error(
                    f"there is a flow run {name!r} already", "leave out --name, or choose another one"
                ) from None
        except Invalid as failure:
            raise error(f"the API server refuses the run: {failure.message}") from None
    raise error(f"there are {NAME_TRIES} retries of this run already", "choose a name with --name")


async def _definitions(client: "Client", namespace: str, old: Run) -> tuple[dict[str, Any] | None, int | None]:
    """The Deployment that the retry would run, and the generation of its Flow; None where we may not know."""
    from levada.kube import ApiError

    deployment: dict[str, Any] | None = None
    try:
        deployment = await client.get(DEPLOYMENTS, old["spec"]["deploymentRef"]["name"], namespace)
        flow = await client.get(FLOWS, deployment["spec"]["flowRef"]["name"], namespace)
    except ApiError:
        return deployment, None
    return deployment, flow["metadata"]["generation"]


def _ask() -> None:
    """Let a person say yes.

    Raises:
        typer.Exit: there is no person.
        typer.Abort: the person said no.
    """
    if not sys.stdin.isatty():
        raise error("nobody is there to say yes", "--yes starts the retry without asking; --plan only shows the plan")
    typer.confirm("Start it?", abort=True)


# --- suspend and resume --------------------------------------------------------------------------------------------------


@in_namespace
def suspend(
    names: RunNames,
    *,
    target: Target,
) -> None:
    """Stop flow runs for a while: their pods end, their slots are free, and nothing of what is stored is lost."""
    _patch_each(
        names,
        target,
        lambda _found: {"spec": {"suspend": True}},
        lambda name: f"flow run {name} is asked to stop; `levada runs resume {name}` lets it go on",
    )


@in_namespace
def resume(
    names: RunNames,
    *,
    value: Annotated[
        str | None, typer.Option("--input", help="For a flow that waits for input: the value, as JSON or text.")
    ] = None,
    target: Target,
) -> None:
    """Let flow runs go on that were suspended, or whose flow waits for a person (pause_flow_run)."""

    def patch_of(found: Run) -> dict[str, Any] | None:
        patch = resumption(found, value, now())
        if patch is None:
            name = found["metadata"]["name"]
            error(f"flow run {name!r} is neither suspended nor waiting for a person: there is nothing to resume")
        return patch

    _patch_each(names, target, patch_of, lambda name: f"flow run {name} goes on")


def _patch_each(
    names: list[str],
    target: Target,
    patch_of: Callable[[Run], dict[str, Any] | None],
    done: Callable[[str], str],
) -> None:
    """Change runs that have not ended, one after the other, and say so. No patch: it has been said why there is none.

    Raises:
        typer.Exit: one of them has ended, or has no patch; the others are changed.
    """

    async def work(client: "Client", here: str) -> int:
        refused = 0
        for name in names:
            found = await find(client, FLOW_RUNS, name, here, called="flow run")
            patch = None if _is_over(found) else patch_of(found)
            if patch is None:
                refused += 1
                continue
            await client.patch(FLOW_RUNS, name, patch, here, field_manager=FIELD_MANAGER_CLI)
            typer.echo(done(name))
        return refused

    if run(work, target):
        raise typer.Exit(1)


def _is_over(found: Run) -> bool:
    """Whether the run has ended, which is said."""
    status = found.get("status") or {}
    if not is_terminal(status.get("phase")):
        return False
    name, at = found["metadata"]["name"], time_text(status.get("completionTime"))
    error(f"flow run {name!r} ended as {status['phase']} at {at}", f"`levada runs retry {name}` repeats it")
    return True
