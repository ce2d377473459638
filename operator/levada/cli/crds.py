"""`levada crds`: write crds/ from the models, or check that it is fresh."""

from pathlib import Path
from typing import Annotated

import typer

from levada.cli.app import new_app
from levada.cli.output import error

app = new_app()


@app.command()
def crds(
    directory: Annotated[Path, typer.Option("--dir", help="Folder to write to.")] = Path("crds"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a file differs.")] = False,
) -> None:
    """Write the custom resource definitions, one file for each kind."""
    from levada.resources.crds import generate, to_yaml

    wanted = {name: to_yaml(manifest) for name, manifest in generate().items()}
    stale = differences(directory, wanted)
    if check:
        if stale:
            raise error(
                f"{directory} is out of date: {', '.join(stale)}", "run `levada crds` and commit what it writes"
            )
        return
    directory.mkdir(parents=True, exist_ok=True)
    for name in stale:
        if name in wanted:
            (directory / name).write_text(wanted[name], encoding="utf-8")
        else:
            (directory / name).unlink()
        typer.echo(f"{'wrote' if name in wanted else 'removed'} {directory / name}")


def differences(directory: Path, wanted: dict[str, str]) -> list[str]:
    """The files that are missing, differ, or define a kind that is no more."""
    there = {path.name: path.read_text(encoding="utf-8") for path in directory.glob("levada.dev_*.yaml")}
    return sorted(name for name in there.keys() | wanted.keys() if there.get(name) != wanted.get(name))
