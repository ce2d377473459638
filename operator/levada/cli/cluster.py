"""`levada cluster`: the local control plane on the command line. What it does is in `levada.cluster`."""

import contextlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from levada.cli.app import new_app
from levada.cli.output import console, error, table, usage_error

app = new_app(
    "A real Kubernetes control plane on this machine, for trying out and for tests: etcd, API server, "
    "controller-manager and scheduler on loopback, without containers. Pods run once `levada agent start` has joined "
    "the machine as a node. For containers use kind (https://kind.sigs.k8s.io), for production a real cluster."
)

Name = Annotated[str, typer.Option("--name", "-n", help="Which cluster; several can run side by side.")]


@contextlib.contextmanager
def _spoken() -> Iterator[None]:
    """Turn the room's errors into a sentence and a hint."""
    from levada.cluster import ClusterError

    try:
        yield
    except ClusterError as failure:
        raise error(str(failure), failure.hint) from None
    except OSError as failure:
        hint = (
            "set LEVADA_HOME (clusters) and LEVADA_CACHE (binaries) to folders that you can write to and that have room"
        )
        raise error(str(failure), hint) from None


@app.command()
def up(
    name: Name = "default",
    ephemeral: Annotated[bool, typer.Option(help="Faster, and `down` deletes the data.")] = False,
    kube_api_qps: Annotated[
        int | None, typer.Option(help="Requests a second of controller-manager and scheduler (default: 100).")
    ] = None,
    node_grace_seconds: Annotated[
        int | None, typer.Option(help="How long a node may be silent before it counts as lost (default: 50).")
    ] = None,
    unreachable_toleration_seconds: Annotated[
        int | None, typer.Option(help="How long pods stay on a lost node (default: 300).")
    ] = None,
) -> None:
    """Start the control plane, or whatever part of it is not running; options not given stay as they were."""
    from levada.cluster import Cluster

    with _spoken():
        cluster = Cluster(name)
        cluster.up(
            ephemeral=ephemeral,
            progress=typer.echo,
            kube_api_qps=kube_api_qps,
            node_grace_seconds=node_grace_seconds,
            unreachable_toleration_seconds=unreachable_toleration_seconds,
        )
        kubectl = cluster.kubectl
    typer.echo(f"\nTo use it:\n  export KUBECONFIG={shlex.quote(str(cluster.kubeconfig))}")
    typer.echo(f"  {shlex.quote(str(kubectl))} get namespaces")


@app.command()
def down(
    name: Name = "default",
    delete: Annotated[bool, typer.Option("--delete", help="Delete the data too.")] = False,
) -> None:
    """Stop the control plane. Its data stays for the next `up`, unless it is ephemeral."""
    from levada.cluster import Cluster

    with _spoken():
        cluster = Cluster(name)
        existed = cluster.exists
        cluster.down(delete=delete, progress=typer.echo)
    if not existed:
        typer.echo(f"there is no cluster {name!r}")


@app.command()
def status(name: Name = "default") -> None:
    """Show each component; the exit code is 0 only if all are healthy."""
    from levada.cluster import Cluster

    with _spoken():
        found = Cluster(name).status()
    rows = table("COMPONENT", "STATE", "PID", "PORT", "UPTIME", "PROBLEM")
    for component in found:
        state = "healthy" if component.healthy else "unhealthy" if component.running else "stopped"
        uptime = "" if component.uptime_seconds is None else f"{component.uptime_seconds:.0f} s"
        rows.add_row(component.name, state, _text(component.pid), _text(component.port), uptime, component.problem)
    console.print(rows)
    if not all(component.healthy for component in found):
        raise typer.Exit(1)


def _text(number: int | None) -> str:
    return "" if number is None else str(number)


@app.command()
def kubeconfig(
    name: Name = "default",
    user: Annotated[str | None, typer.Option(help="Issue a client certificate for this user.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="A group of the user; may be repeated.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File for the user's kubeconfig.")] = None,
) -> None:
    """Print the path of a kubeconfig: the administrator's, or one issued for another identity.

    export KUBECONFIG=$(levada cluster kubeconfig)
    """
    from levada.cluster import Cluster

    with _spoken():
        cluster = Cluster(name)
        if user is None:
            if group or output:
                raise usage_error(
                    "--group and --output belong to an issued kubeconfig", "name its identity with --user"
                )
            _ = cluster.url  # says so when there is no such cluster
            path = cluster.kubeconfig
        else:
            path = output or cluster.layout.issued / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', user)}.kubeconfig"
            cluster.issue_kubeconfig(path.absolute(), user, group or [])
    typer.echo(path)


@app.command()
def binaries() -> None:
    """Fetch or build the control plane's binaries now, and print where they are."""
    from levada.cluster.binaries import ensure

    with _spoken():
        found = ensure(lambda line: typer.echo(line, err=True))
    for name, path in found.items():
        typer.echo(f"{name}\t{path}")
