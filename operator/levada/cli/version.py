"""`levada version`."""

import importlib.metadata

import typer

app = typer.Typer()


@app.command()
def version() -> None:
    """Print the version of the installed distribution."""
    typer.echo(importlib.metadata.version("levada"))
