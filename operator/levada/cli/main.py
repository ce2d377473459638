"""Where every command starts: the table of groups, imported lazily, and what becomes of an error."""

import importlib
import sys
from typing import Final

import click

from levada.cli.failures import report_failure

# Group -> (module, help). The help stands here so that `levada --help` need not import the groups.
GROUPS: Final[dict[str, tuple[str, str]]] = {
    "agent": ("levada.cli.agent", "Run flow runs on this machine, as a Kubernetes node without containers."),
    "cluster": ("levada.cli.cluster", "A real Kubernetes control plane on this machine, for trying out and for tests."),
    "crds": ("levada.cli.crds", "Write the custom resource definitions."),
    "deployment": ("levada.cli.deployment", "List deployments and run them."),
    "operator": ("levada.cli.operator", "Run the operator, or print what it needs to be allowed."),
    "runs": ("levada.cli.runs", "List, show, watch and cancel flow runs."),
    "version": ("levada.cli.version", "Print the version."),
}


class LazyGroups(click.Group):
    """A click group whose commands are modules, imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(GROUPS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in GROUPS:
            return None
        from typer.main import get_command

        command = get_command(importlib.import_module(GROUPS[cmd_name][0]).app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in GROUPS.items()])


cli = LazyGroups(
    name="levada",
    help="Levada: flows as Kubernetes resources.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; the exit code is 0 only if the command did what it was asked.

    What a person can mend (no cluster, no such object, no right) is one sentence and a hint, never a traceback.
    """
    try:
        cli(prog_name="levada")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - the last resort decides what is a person's mistake and what is a bug
        sys.exit(report_failure(error))
