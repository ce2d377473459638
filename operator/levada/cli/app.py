"""What every group of commands is made with: help as plain text, so that no command imports rich to explain itself."""

from typing import Final

import typer

HELP_NAMES: Final = {"help_option_names": ["-h", "--help"]}


def new_app(help_text: str | None = None) -> typer.Typer:
    """A group of commands; or a single command, which takes no text: its docstring has it."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=help_text is not None,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={**HELP_NAMES},
    )
