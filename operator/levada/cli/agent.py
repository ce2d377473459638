"""`levada agent`: this machine as a node that runs flow runs."""

import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Run flow runs on this machine, as a Kubernetes node without containers.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command()
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
    root: Annotated[
        Path | None, typer.Option(help="Working directory of the flow runs.", show_default="the current directory")
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Kubeconfig to use.", show_default="$KUBECONFIG, ~/.kube/config")
    ] = None,
    context: Annotated[
        str | None, typer.Option(help="Context of the kubeconfig.", show_default="the current one")
    ] = None,
    heartbeat_seconds: Annotated[
        float, typer.Option(help="How often the node says that it is alive; well below the cluster's node grace.")
    ] = 10.0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Register this machine as a node and run the pods of flow runs as local processes, until stopped.

    Stopping the agent (Ctrl-C, SIGTERM) leaves running flows running: the next agent of this name picks them up.
    Drain the node first (`kubectl drain NODE --ignore-daemonsets`) if they should move elsewhere.
    """
    from levada.agent.settings import SettingsError

    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s.%(msecs)03d | %(levelname)-7s | %(message)s",
        datefmt="%H:%M:%S",
    )
    with suppress(KeyboardInterrupt):
        try:
            options = Options(
                tuple(queue or ["default"]), name, max_pods, (root or Path.cwd()).resolve(), heartbeat_seconds
            )
            asyncio.run(_run(options, kubeconfig, context))
        except SettingsError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from error


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="Name of the node.")],
    *,
    grace_seconds: Annotated[float, typer.Option(help="How long running flows may take to end.")] = 5.0,
) -> None:
    """End what a stopped agent has left running on this machine, and remove its state.

    The Node stays in the cluster until an administrator deletes it: `kubectl delete node NAME`.
    """
    from levada.agent import removal, settings

    try:
        ended = asyncio.run(removal.remove(settings.state_folder(name), grace_s=grace_seconds))
    except settings.SettingsError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"agent {name} is removed from this machine; {ended} running flows were ended")


@dataclass(frozen=True, slots=True)
class Options:
    """The command's options; what is not given is decided when the API server has said who we are."""

    queues: tuple[str, ...]
    name: str | None
    max_pods: int | None
    root: Path
    heartbeat_s: float


async def _run(options: Options, kubeconfig: Path | None, context: str | None) -> None:
    from levada.agent import settings
    from levada.agent.agent import Agent
    from levada.kube import Client

    async with Client.from_kubeconfig(kubeconfig, context, user_agent=f"levada-agent/{os.getpid()}") as client:
        name = settings.choose_name(options.name, await settings.username(client))
        chosen = settings.Settings(
            name=name,
            queues=options.queues,
            max_pods=options.max_pods
            if options.max_pods is not None
            else settings.DEFAULT_PODS_PER_CPU * settings.cpus(),
            root=options.root,
            state=settings.state_folder(name),
            heartbeat_s=options.heartbeat_s,
        )
        settings.check(chosen)
        agent = Agent(client, chosen)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, agent.stop)

        def ready(port: int) -> None:
            typer.echo(
                f"agent {name} is ready: serves {', '.join(chosen.queues)}, up to {chosen.max_pods} flow runs at a time "
                f"in {chosen.root}, logs on 127.0.0.1:{port}"
            )

        report = await agent.run(ready)
    _say_what_goes_on(name, report.running)


def _say_what_goes_on(name: str, running: Sequence[str]) -> None:
    if not running:
        typer.echo(f"agent {name} has stopped; nothing is running")
        return
    typer.echo(f"agent {name} has stopped; {len(running)} flow runs go on without it:")
    for pod in running:
        typer.echo(f"  {pod}")
    typer.echo("start it again to look after them")
