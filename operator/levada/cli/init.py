"""`levada init`: a project that runs as it is: a flow, its deployment, what stays behind, and how to go on."""

import re
from pathlib import Path
from typing import Annotated, Final

import typer

from levada.cli.app import new_app
from levada.cli.output import ExitCode, error

app = new_app()

FLOW: Final = '''"""{title}: what the flow does, in one line. `levada run flow.py:{function}` runs it here, without a cluster."""

from levada import flow, get_run_logger, task


@task(retries=2, retry_delay_seconds=5)
def fetch(number: int) -> int:
    """One piece of work; it is tried again if it fails."""
    get_run_logger().info("fetching %d", number)
    return number * number


@task
def add(pieces: list[int]) -> int:
    """Put the pieces together."""
    return sum(pieces)


@flow
def {function}(count: int = 3) -> int:
    """Fetch some pieces at the same time, and add them up."""
    pieces = [fetch.submit(number) for number in range(count)]
    total: int = add.submit(pieces).result()
    return total


if __name__ == "__main__":
    {function}()
'''
IGNORED: Final = """# What a repository does not keep, and `levada deploy --source git` does not miss.
.venv/
__pycache__/
*.ipynb_checkpoints/
.env
"""
README: Final = """# {title}

    levada run flow.py:{function}                       # here, without a cluster
    levada run flow.py:{function} -p count=10           # with another parameter
    levada deployment apply deployment.yaml    # or: kubectl apply --server-side -f deployment.yaml
    levada deployment run {name} --watch

`deployment.yaml` holds the code of `flow.py` as it was when it was made. After a change:

    levada deployment build flow.py:{function} -n {name} -o deployment.yaml
"""


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where; it is made if it is not there.")] = Path(),
    *,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the deployment.", show_default="that of the folder")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Begin a project: flow.py that runs as it is, deployment.yaml, .gitignore and README.md. Overwrites nothing."""
    slug = slug_of(name or folder.resolve().name)
    function = slug.replace("-", "_")
    words = {"title": slug.replace("-", " ").capitalize(), "function": function, "name": slug}
    files = {
        "flow.py": FLOW.format(**words), ".gitignore": IGNORED, "README.md": README.format(**words), "deployment.yaml": None,
    }  # fmt: skip
    there = [file for file in files if (folder / file).exists()]
    if there and not force:
        raise error(f"{folder} has {', '.join(there)} already", "--force overwrites them; or choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            if text is not None:
                (folder / file).write_text(text, encoding="utf-8")
        (folder / "deployment.yaml").write_text(_deployment(folder / "flow.py", function, slug), encoding="utf-8")
    except OSError as failure:
        raise error(
            f"{failure.filename or folder} cannot be written: {failure.strerror}", "choose another folder"
        ) from None
    for file in files:
        typer.echo(f"wrote {folder / file}")
    typer.echo(f"`levada run {folder / 'flow.py'}:{function}` runs it here; README.md says how to go on")


def slug_of(text: str) -> str:
    """A text as a name that both Kubernetes and, with `_`, Python take.

    Raises:
        typer.Exit: nothing of it can be used.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].rstrip("-")
    if not slug or slug[0].isdecimal() or not slug.replace("-", "_").isidentifier() or _is_keyword(slug):
        raise error(f"{text!r} is no name for a flow", "--name etl: small letters, digits and '-'", code=ExitCode.USAGE)
    return slug


def _is_keyword(slug: str) -> bool:
    import keyword

    return keyword.iskeyword(slug) or slug in {"flow", "task", "fetch", "add"}


def _deployment(file: Path, function: str, name: str) -> str:
    """What `levada deployment build` would write."""
    from levada._local_run import find_flow
    from levada.deployments import to_deployment

    flow = find_flow(f"{file}:{function}")
    return str(to_deployment(flow, name, entrypoint=f"{file}:{function}").to_yaml())
