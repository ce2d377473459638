"""`levada run`: run a flow on this machine, without a cluster. Standard library and the SDK only: no typer, no rich."""

import argparse
import sys
from typing import Any, Final

from levada.cli.failures import entrypoint_code, prefect_hint

USAGE_ERROR: Final = 2
HELP: Final = "Run a flow on this machine, without a cluster. The exit code is 0 only if the flow completed; its result goes to standard error."


class _Formatter(argparse.HelpFormatter):
    """Usage with a capital letter, as the other commands have it."""

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, "Usage: " if prefix is None else prefix)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser(prog="levada run", description=HELP, formatter_class=_Formatter, allow_abbrev=False)
    made.add_argument(
        "entrypoint",
        metavar="PATH.py[:FLOW]",
        help="file and function, or module:function; a file alone, if it has one flow",
    )
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
    from levada._local_run import find_flow, find_only_flow, run
    from levada.cli.parameters import ParameterSyntaxError, parse_parameters, template_hint, value_for

    try:
        found = find_only_flow if _is_file(asked.entrypoint) else find_flow
        flow = found(asked.entrypoint, prefect=asked.prefect)
        code = run(flow, parse_parameters(asked.param, value_for(flow)), tells_result=True)
    except ParameterSyntaxError as error:
        hint = template_hint(asked.param)
        sys.stderr.write(f"error: {error.cause}\nhint:  {hint}\n" if hint else f"error: {error}\n")
        code = USAGE_ERROR
    except CodeError as error:
        sys.stderr.write(f"error: {error.here}\n")
        if error.needs_prefect and not asked.prefect:
            sys.stderr.write(f"hint:  {prefect_hint('levada run', asked.entrypoint)}\n")
        code = _code_of(error.reason, asked.entrypoint)
    sys.exit(code)


def _code_of(reason: str, entrypoint: str) -> int:
    if reason == "EntrypointAmbiguous":
        return USAGE_ERROR
    return 1 if _is_file(entrypoint) else entrypoint_code(entrypoint)


def _is_file(entrypoint: str) -> bool:
    """Whether it names a file alone, without a flow."""
    return entrypoint.endswith(".py") and ":" not in entrypoint
