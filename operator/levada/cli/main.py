"""Where every command starts: the table of groups, imported lazily, and what becomes of an error."""

import importlib
import sys
from typing import Final

from levada.cli.failures import report_failure

# Group -> (module, help). The help stands here so that `levada --help` need not import the groups.
GROUPS: Final[dict[str, tuple[str, str]]] = {
    "agent": ("levada.cli.agent", "Run flow runs on this machine, as a Kubernetes node without containers."),
    "audit": ("levada.cli.audit", "Who can run what as which service account."),
    "backfill": ("levada.cli.backfill", "Run a deployment for ticks of the past."),
    "backfills": ("levada.cli.backfills", "See how far backfills are, pause, cancel and repeat them."),
    "blocks": ("levada.cli.blocks", "List, show, set and remove blocks: saved settings that flows load by name."),
    "cluster": ("levada.cli.cluster", "A real Kubernetes control plane on this machine, for trying out and for tests."),
    "completion": ("levada.cli.completion", "Make TAB complete commands, options and names: bash, zsh, fish."),
    "crds": ("levada.cli.crds", "Write the custom resource definitions."),
    "dashboard": ("levada.cli.dashboard", "Show runs, schedules and queues in the browser."),
    "deploy": ("levada.cli.deploy", "Put a flow on the cluster: Flow, Deployment and Schedules from its file."),
    "deployment": ("levada.cli.deployment", "Build, apply, list, run and pause deployments."),
    "doctor": ("levada.cli.doctor", "Check cluster, rights, operator, clocks and storage; each with a fix."),
    "init": ("levada.cli.init", "Begin a project: a flow that runs as it is, and its deployment."),
    "limits": ("levada.cli.limits", "List, set and remove the limits that tasks share."),
    "operator": ("levada.cli.operator", "Run the operator, or print what it needs to be allowed."),
    "queues": ("levada.cli.queues", "List, pause and resume work queues, and set limits."),
    "run": ("levada.cli.local", "Run a flow on this machine, without a cluster."),
    "runs": ("levada.cli.runs", "List, show, watch and cancel flow runs."),
    "schedules": ("levada.cli.schedules", "List, look ahead, pause and resume schedules."),
    "version": ("levada.cli.version", "Print the version."),
}
USAGE_ERROR: Final = 2
INTERRUPTED: Final = 130


def usage() -> str:
    """What `levada --help` says."""
    lines = [f"  {name:<12} {help_text}" for name, (_, help_text) in GROUPS.items()]
    return "\n".join(
        [
            "Usage: levada COMMAND [ARGS]...",
            "",
            "Levada: flows as Kubernetes resources.",
            "",
            "Commands:",
            *lines,
            "",
            "`levada COMMAND --help` says more.",
        ]
    )


def closest(group: str) -> str:
    """A line that names the groups that may have been meant; empty if none is like it."""
    import difflib

    found = difflib.get_close_matches(group, GROUPS, n=2, cutoff=0.75)
    return f"hint:  did you mean {' or '.join(f'`levada {each}`' for each in found)}?\n" if found else ""


def run_group(group: str, arguments: list[str]) -> None:
    """Import the group and give it the rest of the line; ends the process as the command says."""
    module = importlib.import_module(GROUPS[group][0])
    if not hasattr(module, "app"):  # a command that works with the SDK alone, where typer is not installed
        module.main(arguments)
        return
    from typer.main import get_command

    from levada.cli.quick import quicken

    command = get_command(module.app)
    quicken(command)
    command.main(args=arguments, prog_name=f"levada {group}")


def main() -> None:
    """Run the command line; the exit code is 0 only if the command did what it was asked.

    What a person can mend (no cluster, no such object, no right) is one sentence and a hint, never a traceback.
    """
    group, *arguments = sys.argv[1:] or ["--help"]
    if group in {"--help", "-h", "help"}:
        print(usage())
        return
    if group == "--version":
        group = "version"
    if group == "__complete":
        from levada.cli.complete import answer

        print(*answer(arguments[:-1], arguments[-1] if arguments else ""), sep="\n")
        return
    if group not in GROUPS:
        sys.stderr.write(f"error: there is no command {group!r}\n{closest(group)}\n{usage()}\n")
        sys.exit(USAGE_ERROR)
    try:
        run_group(group, arguments)
    except KeyboardInterrupt:
        if group == "run":
            from levada._local_run import interrupt

            interrupt()
        sys.exit(INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the last resort decides what is a person's mistake and what is a bug
        sys.exit(report_failure(error))
