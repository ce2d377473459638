"""`levada agent`: this machine as a node that runs flow runs."""

import asyncio
import logging
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Run flow runs on this machine, as a Kubernetes node without containers.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `start` a subcommand while it is the only one."""


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
            asyncio.run(
                _run(
                    queue or ["default"],
                    name,
                    max_pods,
                    (root or Path.cwd()).resolve(),
                    kubeconfig=kubeconfig,
                    context=context,
                )
            )
        except SettingsError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from error


async def _run(
    queues: list[str],
    name: str | None,
    max_pods: int | None,
    root: Path,
    *,
    kubeconfig: Path | None,
    context: str | None,
) -> None:
    from levada.agent import settings
    from levada.agent.agent import Agent
    from levada.kube import Client

    capacity = max_pods if max_pods is not None else settings.DEFAULT_PODS_PER_CPU * settings.cpus()
    settings.check(tuple(queues), capacity, root)
    async with Client.from_kubeconfig(kubeconfig, context, user_agent=f"levada-agent/{os.getpid()}") as client:
        chosen = settings.choose_name(name, await settings.username(client))
        agent = Agent(
            client,
            settings.Settings(
                name=chosen, queues=tuple(queues), max_pods=capacity, root=root, state=settings.state_folder(chosen)
            ),
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, agent.stop)

        def ready(port: int) -> None:
            typer.echo(
                f"agent {chosen} is ready: serves {', '.join(queues)}, up to {capacity} flow runs at a time in {root}, "
                f"logs on 127.0.0.1:{port}"
            )

        report = await agent.run(ready)
    if report.running:
        typer.echo(f"agent {chosen} has stopped; {len(report.running)} flow runs go on without it:")
        for pod in report.running:
            typer.echo(f"  {pod}")
        typer.echo("start it again to look after them")
    else:
        typer.echo(f"agent {chosen} has stopped; nothing is running")
