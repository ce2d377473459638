"""A terminal as an SVG, of what commands really printed: in the window's frame that rich draws, and with no font from anywhere else."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console, RenderableType
from rich.text import Text

PICTURES: Final = Path(__file__).resolve().parents[2] / "docs" / "images"
# What rich fills in: `chrome` is the window, `matrix` the text, `lines` one clip path a line.
FORMAT: Final = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<style>
.{unique_id}-matrix {{ font: {char_height}px/{line_height}px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }}
.{unique_id}-title {{ font: bold 18px system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def picture(title: str, shown: Sequence[tuple[str, RenderableType]], width: int = 80) -> str:
    """Commands with what each printed, one below the other."""
    console = Console(
        file=io.StringIO(), record=True, width=width, color_system="truecolor", force_terminal=True,
        highlight=False, markup=False, emoji=False,
    )  # fmt: skip
    for number, (command, output) in enumerate(shown):
        console.print(*([""] if number else []), Text.assemble(("$ ", "dim"), (command, "bold")), output, sep="\n")
    return console.export_svg(title=title, code_format=FORMAT, unique_id="terminal")
