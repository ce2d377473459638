"""`levada agent`: this machine as a node that runs flow runs."""

import logging
import os
import signal
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from levada.agent import settings
from levada.agent.settings import Limiting, OnStop
from levada.cli.app import new_app
from levada.cli.connection import run
from levada.cli.listing import show_list
from levada.cli.options import ListFormatOption, Target, named, on_cluster
from levada.cli.output import ExitCode, error, now, usage_error
from levada.resources.kinds import NODES, PODS
from levada.resources.names import LABEL_AGENT, LABEL_RUN

if TYPE_CHECKING:
    from levada.kube import Client

app = new_app("Run flow runs on this machine, as a Kubernetes node without containers.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the agent's node.", callback=named(NODES))]


@app.command()
@on_cluster
def start(
    *,
    queue: Annotated[
        list[str] | None,
        typer.Option("--queue", "-q", help="Work queue to serve; repeat for several.", show_default="default"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the node.", show_default="as the node certificate says, else <machine>-agent"),
    ] = None,
    max_pods: Annotated[int | None, typer.Option(help="Flow runs at a time.", show_default="4 per CPU")] = None,
    cpus: Annotated[
        float | None, typer.Option(help="CPUs that flow runs may request.", show_default="those of the machine")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="Memory that flow runs may request, as 8Gi.", show_default="the machine's without its reserve"
        ),
    ] = None,
    ephemeral_storage: Annotated[
        str | None, typer.Option(help="Disk that flow runs may request, as 20Gi.", show_default="what is free at start")
    ] = None,
    limits: Annotated[
        Limiting, typer.Option(help="How limits of flow runs are kept; auto: by control groups where that is possible.")
    ] = Limiting.AUTO,
    cgroup_parent: Annotated[
        str | None,
        typer.Option(
            help="Control group to make the pods' groups in, as /proc/self/cgroup spells it.",
            show_default="the agent's own",
        ),
    ] = None,
    on_stop: Annotated[
        OnStop,
        typer.Option(
            help="At SIGTERM or Ctrl-C: leave flow runs running, wait for them, or drain. The second time always leaves."
        ),
    ] = OnStop.LEAVE,
    max_log_mib: Annotated[
        int, typer.Option(help="Size of one log file; a pod has two, older lines are dropped.")
    ] = 50,
    root: Annotated[
        Path | None, typer.Option(help="Working directory of the flow runs.", show_default="the current directory")
    ] = None,
    target: Target,
    heartbeat_seconds: Annotated[
        float, typer.Option(help="How often the node says that it is alive; well below the cluster's node grace.")
    ] = 10.0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Register this machine as a node and run the pods of flow runs as local processes, until stopped.

    Stopping the agent (Ctrl-C, SIGTERM) leaves running flows running, unless --on-stop says otherwise: the next agent of
    this name picks them up.
    """
    import asyncio

    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s.%(msecs)03d | %(levelname)-7s | %(message)s",
        datefmt="%H:%M:%S",
    )
    options: dict[str, Any] = {
        "queues": tuple(queue or ["default"]),
        "max_pods": max_pods if max_pods is not None else settings.DEFAULT_PODS_PER_CPU * settings.cpus(),
        "root": (root or Path.cwd()).resolve(),
        "heartbeat_s": heartbeat_seconds,
        "on_stop": on_stop,
        "limits": limits,
        "cgroup_parent": cgroup_parent,
        "cpus": cpus,
        "memory_bytes": _bytes("--memory", memory),
        "storage_bytes": _bytes("--ephemeral-storage", ephemeral_storage),
        "max_log_bytes": max_log_mib << 20,
    }
    with suppress(KeyboardInterrupt):
        try:
            asyncio.run(_run(name, options, target))
        except settings.SettingsError as problem:
            raise error(str(problem)) from problem


@app.command("ls")
@on_cluster
def list_agents(*, output: ListFormatOption = None, target: Target) -> None:
    """List the agents: their state, queues, running pods and how they keep limits."""
    from levada.cli.agent_view import agents_table

    async def work(client: "Client", _: str) -> tuple[list[dict[str, Any]], Counter[str]]:
        nodes, _version = await client.list(NODES, label_selector=f"{LABEL_AGENT}=true")
        selector = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"
        pods, _version = await client.list(PODS, label_selector=LABEL_RUN, field_selector=selector)
        return nodes, Counter(pod["spec"]["nodeName"] for pod in pods)

    found, running = run(work, target)
    show_list(
        found,
        output,
        lambda wide: agents_table(found, running, now(), wide=wide),
        nothing="no agents: `levada agent start` makes this machine one",
    )


@app.command()
@on_cluster
def drain(
    name: Name,
    *,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the flow runs to leave.", min=0)] = 300.0,
    target: Target,
) -> None:
    """Send no more flow runs to an agent, and evict those that are there.

    Each gets its grace, and goes on elsewhere by a new attempt that does not count as the flow's own. `levada agent
    uncordon` takes it back.
    """
    from levada.agent import drain as draining

    async def work(client: "Client", _: str) -> list[str]:
        await _agent_node(client, name)
        return await draining.drain(client, name, timeout_s=timeout, say=typer.echo)

    left = run(work, target)
    if left:
        hint = "longer --timeout, or is the agent alive? `levada agent ls` tells; `levada agent uncordon` takes the drain back"
        raise error(f"after {timeout:g} s these are still on {name}: {', '.join(left)}", hint)
    typer.echo(
        f"agent {name} is drained: no flow runs are left, and none will be sent until `levada agent uncordon {name}`"
    )


@app.command()
@on_cluster
def uncordon(name: Name, *, target: Target) -> None:
    """Let flow runs be sent to an agent again."""
    from levada.agent import drain as draining

    async def work(client: "Client", _: str) -> None:
        await _agent_node(client, name)
        await draining.uncordon(client, name)

    run(work, target)
    typer.echo(f"agent {name} takes flow runs again")


@app.command("set-queues")
@on_cluster
def set_queues(
    name: Name,
    queues: Annotated[str, typer.Argument(metavar="QUEUE[,QUEUE…]", help="Work queues to serve from now on.")],
    *,
    target: Target,
) -> None:
    """Change the work queues that a running agent serves. What runs there runs on.

    It lasts, also when the agent is started again with the options that it had; other --queue options win.
    """
    from levada.agent import node

    wanted = [queue for queue in (part.strip() for part in queues.split(",")) if queue]
    if not wanted:
        raise usage_error(
            "an agent serves at least one queue", f"`levada agent drain {name}` sends it no more flow runs"
        )
    try:
        settings.check_queues(wanted)
    except settings.SettingsError as problem:
        raise usage_error(str(problem)) from problem

    async def work(client: "Client", _: str) -> None:
        found = await _agent_node(client, name)
        await client.patch(NODES, name, {"metadata": {"labels": node.queue_labels(found, wanted)}})

    run(work, target)
    typer.echo(f"agent {name} serves {', '.join(wanted)}")


@app.command()
def remove(
    name: Name,
    *,
    grace_seconds: Annotated[float, typer.Option(help="How long running flows may take to end.")] = 5.0,
) -> None:
    """End what a stopped agent has left running on this machine, and remove its state.

    The Node stays in the cluster until an administrator deletes it: `kubectl delete node NAME`.
    """
    import asyncio

    from levada.agent import removal

    folder = settings.state_folder(name)
    if not folder.exists():
        raise error(f"there is nothing of an agent {name} on this machine ({folder})", code=ExitCode.NOT_FOUND)
    try:
        ended = asyncio.run(removal.remove(folder, grace_s=grace_seconds))
    except settings.SettingsError as problem:
        raise error(str(problem)) from problem
    typer.echo(f"agent {name} is removed from this machine; {ended} running flows were ended")


async def _agent_node(client: "Client", name: str) -> dict[str, Any]:
    """The agent's Node.

    Raises:
        typer.Exit: there is none, or it is no agent.
    """
    from levada.kube import NotFound

    try:
        found = await client.get(NODES, name)
    except NotFound:
        raise _no_agent(f"there is no node {name!r}") from None
    if LABEL_AGENT not in (found["metadata"].get("labels") or {}):
        raise _no_agent(f"node {name} is no Levada agent")
    return found


def _no_agent(message: str) -> typer.Exit:
    return error(message, "`levada agent ls` lists the agents", code=ExitCode.NOT_FOUND)


def _bytes(option: str, text: str | None) -> int | None:
    """A quantity from the command line.

    Raises:
        typer.Exit: it is none.
    """
    from levada.agent.fields import FieldError, quantity

    try:
        return int(quantity(text)) if text is not None else None
    except FieldError:
        raise usage_error(f"{option} {text}: use a number of bytes, as 512Mi or 8Gi") from None


async def _run(wanted_name: str | None, options: dict[str, Any], target: Target) -> None:
    import asyncio

    from levada.agent.agent import Agent, Ready
    from levada.agent.clock import Clock
    from levada.kube import Client

    clock = Clock()
    user_agent = f"levada-agent/{os.getpid()}"
    async with Client.from_kubeconfig(
        target.kubeconfig, target.context, user_agent=user_agent, on_date=clock.heard
    ) as client:
        username = await settings.username(client)
        try:
            name = settings.choose_name(wanted_name, username)
            chosen = settings.Settings(name=name, state=settings.state_folder(name), **options)
            settings.check(chosen)
        except settings.SettingsError as problem:
            raise usage_error(str(problem)) from None
        agent = Agent(client, chosen, clock)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, agent.stop)

        def say_ready(ready: Ready) -> None:
            typer.echo(
                f"agent {name} is ready: serves {', '.join(ready.queues) or 'no queue'}, up to {chosen.max_pods} flow runs "
                f"at a time in {chosen.root}, limits by {ready.limits}, logs on 127.0.0.1:{ready.port}"
            )

        report = await agent.run(say_ready)
    _say_what_goes_on(name, report.running)


def _say_what_goes_on(name: str, running: Sequence[str]) -> None:
    if not running:
        typer.echo(f"agent {name} has stopped; nothing is running")
        return
    typer.echo(f"agent {name} has stopped; {len(running)} flow runs go on without it:")
    for pod in running:
        typer.echo(f"  {pod}")
    typer.echo("start it again to look after them")
