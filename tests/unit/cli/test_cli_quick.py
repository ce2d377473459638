"""Plain values are read without pydantic, and no other than with it."""

from enum import StrEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command

from levada.cli.quick import _UNSURE, _converted, quicken


class Colour(StrEnum):
    """Something to choose."""

    RED = "red"
    BLUE = "Blue"


def command_of(annotation: Any, default: Any = None) -> Any:
    """A command with one option `--it`, and what it was called with."""
    app, seen = typer.Typer(add_completion=False), []

    @app.command()
    def it(*, it: annotation = default) -> None:
        seen.append(it)

    return get_command(app), seen


def outcome(annotation: Any, arguments: list[str], default: Any, *, quick: bool) -> Any:
    """What the command is called with, or how it is refused."""
    command, seen = command_of(annotation, default)
    if quick:
        quicken(command)
    try:
        command.main(args=arguments, prog_name="it", standalone_mode=False)
    except Exception as refused:  # noqa: BLE001 - the class of Typer's refusals depends on its version
        return type(refused).__name__, str(refused)
    (value,) = seen
    return type(value), repr(value)  # nan is like no other nan


OPTIONS = {
    "text": (Annotated[str | None, typer.Option("--it")], None),
    "a whole number": (Annotated[int, typer.Option("--it")], 3),
    "a whole number in bounds": (Annotated[int, typer.Option("--it", min=1, max=100)], 50),
    "a clamped number": (Annotated[int, typer.Option("--it", min=1, max=100, clamp=True)], 50),
    "a number": (Annotated[float, typer.Option("--it")], 120),
    "a number in bounds": (Annotated[float | None, typer.Option("--it", min=0)], None),
    "a choice": (Annotated[Colour, typer.Option("--it")], Colour.RED),
    "a choice in any case": (Annotated[Colour | None, typer.Option("--it", case_sensitive=False)], None),
    "a path": (Annotated[Path | None, typer.Option("--it")], None),
    "a path that exists": (Annotated[Path | None, typer.Option("--it", exists=True)], None),
    "a file": (Annotated[Path | None, typer.Option("--it", dir_okay=False)], None),
    "texts": (Annotated[list[str] | None, typer.Option("--it")], None),
    "numbers": (Annotated[list[int] | None, typer.Option("--it")], None),
    "yes or no": (Annotated[bool, typer.Option("--it")], False),
}
WORDS = (
    st.sampled_from(["", "7", "-1", "+4", "1e3", "0x1", "1.5", ".5", "1.", " 7", "७", "1_000", "inf", "nan", "9" * 30, "red", "RED", "Blue", "RED ", "/", "/nowhere", "-", "~", "a=b", "true"])
    | st.text(alphabet="0123456789.-+eE _redB/", max_size=8)
)  # fmt: skip


@pytest.mark.parametrize("kind", OPTIONS)
@given(words=st.lists(WORDS, max_size=2))
def test_it_reads_what_typer_reads(kind, words):
    annotation, default = OPTIONS[kind]
    arguments = ["--it"] if kind == "yes or no" and words else [f"--it={word}" for word in words]
    assert outcome(annotation, arguments, default, quick=True) == outcome(annotation, arguments, default, quick=False)


@pytest.mark.parametrize(
    ("value", "annotation", "wanted"),
    [("x", str, "x"), ("7", int, 7), (2, float, 2.0), ("Blue", Colour, Colour.BLUE), ("/nowhere", Path, Path("/nowhere")), (("a", "b"), list[str], ["a", "b"]), ("seven", int, _UNSURE), (["1", "x"], list[int], _UNSURE)],
)  # fmt: skip
def test_what_is_plain_is_converted_here(value, annotation, wanted):
    info = SimpleNamespace(
        parser=None,
        min=None,
        max=None,
        clamp=False,
        exists=False,
        writable=False,
        resolve_path=False,
        file_okay=True,
        dir_okay=True,
    )
    assert _converted(value, annotation, info) == wanted


def test_another_version_of_typer_is_left_as_it_is():
    param = SimpleNamespace()
    command = SimpleNamespace(get_params=lambda _context: [param], commands={})
    quicken(command)
    assert command.get_params(None) == [param]
    assert vars(param) == {}
