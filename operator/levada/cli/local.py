"""`levada run`: run a flow on this machine, without a cluster. Standard library and the SDK only: no typer, no rich."""

import argparse
import sys
from typing import Any, Final

from levada.cli.failures import entrypoint_code, prefect_hint

USAGE_ERROR: Final = 2
HELP: Final = "Run a flow on this machine, without a cluster. The exit code is 0 only if the flow completed."


class _Formatter(argparse.HelpFormatter):
    """Usage with a capital letter, as the other commands have it."""

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, "Usage: " if prefix is None else prefix)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser(prog="levada run", description=HELP, formatter_class=_Formatter, allow_abbrev=False)
    made.add_argument("entrypoint", metavar="PATH.py:FLOW", help="file and function, or module:function")
    made.add_argument(
        "-p",
        "--param",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a parameter; read as YAML, or as text where the flow takes text; repeatable",
    )
    made.add_argument("--prefect", action="store_true", help="let imports of prefect mean Levada")
    return made


def main(arguments: list[str]) -> None:
    """Run the flow and end the process with 0 only if it completed; Ctrl-C goes on to the caller."""
    asked = parser().parse_args(arguments)
    from levada._loading import CodeError
    from levada._local_run import find_flow, run
    from levada.cli.parameters import ParameterSyntaxError, parse_parameters, template_hint, value_for

    try:
        flow = find_flow(asked.entrypoint, prefect=asked.prefect)
        code = run(flow, parse_parameters(asked.param, value_for(flow)))
    except ParameterSyntaxError as error:
        hint = template_hint(asked.param)
        sys.stderr.write(f"error: {error.cause}\nhint:  {hint}\n" if hint else f"error: {error}\n")
        code = USAGE_ERROR
    except CodeError as error:
        sys.stderr.write(f"error: {error.here}\n")
        if error.needs_prefect and not asked.prefect:
            sys.stderr.write(f"hint:  {prefect_hint('levada run', asked.entrypoint)}\n")
        code = entrypoint_code(asked.entrypoint)
    sys.exit(code)
