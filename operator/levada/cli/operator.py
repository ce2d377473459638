"""`levada operator`: run the operator, or print what it needs to be allowed."""

import asyncio
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Run the operator, or print what it needs to be allowed.")

Namespaces = Annotated[
    list[str] | None, typer.Option("--namespace", "-n", help="Look at this namespace only; may be given several times.")
]


@app.command()
def run(
    *,
    namespace: Namespaces = None,
    default_image: Annotated[
        str | None,
        typer.Option(
            help="Image of runs whose Deployment names none.",
            envvar="LEVADA_DEFAULT_IMAGE",
            show_default="levada-flow:VERSION",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="URL of the storage of results, logs and history for Deployments that name none, for example s3://bucket/levada.",
            envvar="LEVADA_STORAGE",
            show_default="none",
        ),
    ] = None,
    allow_storage: Annotated[
        list[str] | None,
        typer.Option(
            help="Beginning of a storage URL that Deployments may name; may be given several times.",
            show_default="any bucket, no folder",
        ),
    ] = None,
    metrics_address: Annotated[
        str, typer.Option(help="HOST:PORT of the Prometheus page; empty for none.")
    ] = "127.0.0.1:9464",
    liveness_url: Annotated[
        str, typer.Option(help="Answer liveness probes there, for example http://0.0.0.0:8080/healthz.")
    ] = "",
    kubeconfig: Annotated[Path | None, typer.Option(help="The kubeconfig to use.", show_default="as kubectl")] = None,
    context: Annotated[str | None, typer.Option(help="The kubeconfig's context to use.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=1000, help="How many objects to work on at a time.")] = 32,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
) -> None:
    """Run the operator until it gets SIGTERM or Ctrl-C."""
    from levada.decide.facts import Settings
    from levada.operator.settings import OperatorSettings
    from levada.operator.settings import default_image as image_of_version
    from levada.operator.shell import serve

    set_up_logging(verbose=verbose)
    decide = Settings(default_image=default_image or image_of_version(), storage=storage or "")
    settings = OperatorSettings(
        namespaces=tuple(dict.fromkeys(namespace or ())),
        kubeconfig=kubeconfig,
        context=context,
        metrics_address=metrics_address,
        liveness_url=liveness_url,
        workers=workers,
        decide=replace(decide, allowed_storages=tuple(allow_storage)) if allow_storage else decide,
    )
    asyncio.run(serve(settings, on_ready=lambda: logging.getLogger("levada.operator").info("ready")))


@app.command()
def manifests(namespace: Namespaces = None) -> None:
    """Print what the operator and the runs of these namespaces need to be allowed, as YAML for `kubectl apply`."""
    import yaml

    from levada.resources.access import manifests as access_manifests

    yaml.safe_dump_all(access_manifests(namespace or ["default"]), sys.stdout, sort_keys=False)


def set_up_logging(*, verbose: bool) -> None:
    """One line per message on standard error. Our own INFO is worth reading; that of the libraries is not."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", stream=sys.stderr, force=True
    )
    logging.getLogger("levada").setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.getLogger("kopf").setLevel(logging.INFO if verbose else logging.ERROR)
