"""How the commands speak: one console, one way to fail, machine-readable forms, and times as people say them."""

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

console = Console(highlight=False)


class Format(StrEnum):
    """What -o accepts."""

    JSON = "json"
    YAML = "yaml"
    NAME = "name"


def error(message: str, hint: str | None = None) -> typer.Exit:
    """Say what went wrong and what to do; raise what this returns to end the command with exit code 1."""
    typer.echo(f"error: {message}", err=True)
    if hint:
        typer.echo(f"hint:  {hint}", err=True)
    return typer.Exit(1)


def table(*columns: str) -> Table:
    """A table in kubectl's manner: a header, no lines."""
    made = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def machine_text(found: dict[str, Any] | Sequence[dict[str, Any]], form: Format) -> str:
    """An object, or a List of objects, for programs."""
    if form is Format.NAME:
        objects = [found] if isinstance(found, dict) else found
        return "".join(f"{each['kind'].lower()}.levada.dev/{each['metadata']['name']}\n" for each in objects)
    body = found if isinstance(found, dict) else {"apiVersion": "v1", "kind": "List", "items": list(found)}
    if form is Format.JSON:
        return json.dumps(body, indent=2, ensure_ascii=False) + "\n"
    return yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=120)
