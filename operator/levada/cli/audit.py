"""`levada audit`: who can run what as which service account."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from levada.cli.app import new_app
from levada.cli.connection import run
from levada.cli.options import Format, Target, in_namespace
from levada.cli.output import machine_text, print_list, table, usage_error
from levada.resources.kinds import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    DEPLOYMENTS,
    FLOWS,
    ROLE_BINDINGS,
    ROLES,
    SERVICE_ACCOUNTS,
    Kind,
)

if TYPE_CHECKING:
    from rich.table import Table

    from levada.decide.audit import AuditFacts, Entry
    from levada.decide.rbac import Subject
    from levada.kube import Client

app = new_app()


@app.command()
@in_namespace
def audit(
    *,
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Deployments of all namespaces.")] = False,
    output: Annotated[Format | None, typer.Option("--output", "-o", help="For programs: json or yaml.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 if there is any finding.")] = False,
    target: Target,
) -> None:
    """Print, for each deployment, the service account of its runs and who may start and change them, as RBAC has it.

    Needs the right to list roles and their bindings. The control plane's own rights and those of the group system:masters, which
    may do everything, are left out.
    """
    from levada.decide.audit import audit as entries_of

    if output is Format.NAME:
        raise usage_error("an audit has no names to print", "-o json or -o yaml")

    async def work(client: "Client", here: str) -> "list[Entry]":
        return entries_of(await facts_of(client, None if everywhere else here))

    entries = run(work, target)
    findings = sum(len(entry.findings) for entry in entries)
    if output:
        typer.echo(machine_text({"deployments": [as_object(each) for each in entries]}, output), nl=False)
    elif entries:
        print_list(audit_table(entries))
        for line in finding_lines(entries):
            typer.echo(line)
        typer.echo(f"\n{len(entries)} deployments, {findings} findings")
    else:
        typer.echo("no deployments: choose another namespace with -n, or all of them with -A", err=True)
    if strict and findings:
        raise typer.Exit(1)


async def facts_of(client: "Client", namespace: str | None) -> "AuditFacts":
    """Read what an audit looks at, of one namespace or of all."""
    from levada.decide.audit import AuditFacts
    from levada.decide.rbac import grants

    async def every(kind: Kind) -> list[dict[str, Any]]:
        found, _ = await client.list(kind, namespace if kind.namespaced else None)
        return [{**each, "kind": kind.kind} for each in found]  # items of a list do not name their kind

    accounts = await every(SERVICE_ACCOUNTS)
    roles = [*await every(ROLES), *await every(CLUSTER_ROLES)]
    bindings = [*await every(ROLE_BINDINGS), *await every(CLUSTER_ROLE_BINDINGS)]
    return AuditFacts(
        deployments=await every(DEPLOYMENTS),
        flows=await every(FLOWS),
        accounts=frozenset((each["metadata"]["namespace"], each["metadata"]["name"]) for each in accounts),
        grants=grants(roles, bindings),
    )


def as_object(entry: "Entry") -> dict[str, Any]:
    """An entry for programs: these names are stable."""
    return {
        "namespace": entry.namespace,
        "deployment": entry.deployment,
        "flow": entry.flow,
        "code": entry.code,
        "serviceAccount": entry.account,
        "secrets": list(entry.secrets),
        "allowOverrides": list(entry.opens),
        "rightsBeyondReporting": list(entry.beyond),
        "startedBy": _people(entry.started_by),
        "editedBy": _people(entry.edited_by),
        "findings": [{"reason": each.reason, "message": each.message} for each in entry.findings],
    }


def _people(subjects: "Mapping[Subject, str]") -> list[dict[str, str]]:
    return [
        {"kind": each.kind, **({"namespace": each.namespace} if each.namespace else {}), "name": each.name, "via": via}
        for each, via in subjects.items()
    ]


def audit_table(entries: "Sequence[Entry]") -> "Table":
    """The table of `levada audit`."""
    made = table("NAMESPACE", "DEPLOYMENT", "CODE", "SERVICE-ACCOUNT", "SECRETS", "OPENS", "STARTED-BY", "EDITED-BY")
    for entry in entries:
        made.add_row(
            entry.namespace,
            entry.deployment,
            entry.code,
            entry.account,
            "\n".join(entry.secrets),
            "\n".join(entry.opens),
            "\n".join(map(str, entry.started_by)) or "nobody",
            "\n".join(map(str, entry.edited_by)) or "nobody",
        )
    return made


def finding_lines(entries: "Sequence[Entry]") -> list[str]:
    """The findings in words, each with its Deployment."""
    return [
        f"{entry.namespace}/{entry.deployment}: {finding.reason}: {finding.message}"
        for entry in entries
        for finding in entry.findings
    ]
