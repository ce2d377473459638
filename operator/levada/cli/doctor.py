"""`levada doctor`: is the cluster fit, may you use it, does somebody look after runs; each with a fix."""

import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from levada.cli.app import new_app
from levada.cli.options import Format, FormatOption, Target, in_namespace
from levada.cli.output import ExitCode, console, machine_text, table, usage_error
from levada.resources.kinds import (
    CUSTOM_RESOURCE_DEFINITIONS,
    DEPLOYMENTS,
    FLOW_RUNS,
    LEASES,
    LEVADA_KINDS,
    NODES,
    Kind,
)
from levada.resources.names import GROUP, VERSION

if TYPE_CHECKING:
    from levada.decide.doctor import DoctorFacts, Finding
    from levada.kube import Client

app = new_app()

LEASE_NAMESPACE: Final = "levada-system"
RIGHTS: Final = (("list", FLOW_RUNS), ("watch", FLOW_RUNS), ("create", FLOW_RUNS), ("patch", FLOW_RUNS), ("delete", FLOW_RUNS), ("list", DEPLOYMENTS))  # fmt: skip
POLICIES: Final = Kind("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", namespaced=False)  # fmt: skip
# An operator gives a run its first phase within a second or two, a new leader within 15.
UNSEEN_SECONDS: Final = 20.0
STORAGE_SECONDS: Final = 5.0
STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@app.command()
@in_namespace
def doctor(
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings end with exit code 1, too.")] = False,
    output: FormatOption = None,
    target: Target,
) -> None:
    """Check the cluster, its definitions, your rights, the operator, clocks and storage; say how to mend what is wrong.

    Only reads. The exit code is 0 if nothing failed, 1 if a check did, 5 if the cluster does not answer.
    """
    import asyncio

    from levada.decide.doctor import findings
    from levada.kube import Client

    if output is Format.NAME:
        raise usage_error("checks have no names to print", "-o json or -o yaml")

    async def examined() -> "list[Finding]":
        dates: list[tuple[str, float]] = []

        def heard(date: str | None, at_s: float) -> None:
            if date:
                dates.append((date, time.time()))

        async with Client.from_kubeconfig(
            target.kubeconfig, target.context, user_agent="levada-cli", on_date=heard
        ) as client:
            return findings(await facts_of(client, target.namespace or client.namespace, dates))

    found = asyncio.run(examined())
    if output:
        checks = [{**each._asdict(), "level": str(each.level)} for each in found]
        typer.echo(machine_text({"checks": checks}, output), nl=False)
    else:
        _print(found)
    levels = {str(each.level) for each in found}
    if "fail" in levels or (strict and "warn" in levels):
        raise typer.Exit(int(ExitCode.FAILED))


def _print(found: "list[Finding]") -> None:
    from rich.text import Text

    made = table("CHECK", "", "FOUND")
    for each in found:
        made.add_row(each.check, Text(each.level, STYLES[each.level]), each.message)
        if each.fix and each.level != "ok":
            made.add_row("", "", Text(f"fix: {each.fix}", "dim"))
    console.print(made)


async def facts_of(client: "Client", namespace: str, dates: list[tuple[str, float]]) -> "DoctorFacts":
    """Read what the checks look at; what the viewer may not read is None.

    Raises:
        ConnectionLost: the cluster does not answer.
    """
    import asyncio

    from levada.decide.doctor import DoctorFacts
    from levada.kube.version import complaint
    from levada.resources.access import POLICY
    from levada.resources.crds import generate

    version = await client.request("GET", "/version")
    definitions, leases, deployments, nodes, policies, runs = await asyncio.gather(
        _list(client, CUSTOM_RESOURCE_DEFINITIONS),
        _list(client, LEASES, LEASE_NAMESPACE),
        _list(client, DEPLOYMENTS, namespace),
        _list(client, NODES),
        _list(client, POLICIES),
        _list(client, FLOW_RUNS, namespace),
    )
    allowed = await asyncio.gather(*(_may(client, verb, kind, namespace) for verb, kind in RIGHTS))
    present = datetime.now(UTC)
    return DoctorFacts(
        now=present,
        namespace=namespace,
        version=str(version.get("gitVersion") or "").lstrip("v"),
        version_complaint=complaint(version),
        skew_s=skew_seconds(dates),
        definitions=definitions,
        wanted_definitions=list(generate().values()),
        kinds_served=await _served(client),
        rights={f"{verb} {kind.plural}": may for (verb, kind), may in zip(RIGHTS, allowed, strict=True)},
        leases=None if leases is None else [each for each in leases if _is_operators(each)],
        unseen_runs=[each["metadata"]["name"] for each in runs or () if _is_unseen(each, present)],
        deployments=deployments,
        unreachable_storages=await _unreachable(deployments or []),
        nodes=nodes,
        policies=None if policies is None else frozenset(each["metadata"]["name"] for each in policies),
        policy=POLICY,
    )


def skew_seconds(dates: list[tuple[str, float]]) -> float | None:
    """How far this machine is ahead of the API server, whose Date is cut to whole seconds; None if it says none.

    `dates`: each Date header, and when it came by this machine's clock.
    """
    skews = [at - parsedate_to_datetime(date).timestamp() for date, at in dates]
    # Cut dates and slow answers make us seem ahead: the smallest is the nearest, and half a second of it is the cut.
    return min(skews) - 0.5 if skews else None


def _is_operators(lease: dict[str, Any]) -> bool:
    return str(lease["metadata"]["name"]).startswith("levada-operator")


def _is_unseen(run: dict[str, Any], present: datetime) -> bool:
    created = datetime.fromisoformat(run["metadata"]["creationTimestamp"])
    return not (run.get("status") or {}).get("phase") and (present - created).total_seconds() > UNSEEN_SECONDS


async def _list(client: "Client", kind: Kind, namespace: str | None = None) -> list[dict[str, Any]] | None:
    from levada.kube import Forbidden, NotFound

    try:
        found, _ = await client.list(kind, namespace)
    except (Forbidden, NotFound):
        return None
    return found


async def _served(client: "Client") -> frozenset[str]:
    from levada.kube import NotFound

    try:
        found = await client.request("GET", f"/apis/{GROUP}/{VERSION}")
    except NotFound:
        return frozenset()
    names = {each["name"] for each in found.get("resources") or ()}
    return frozenset(kind.plural for kind in LEVADA_KINDS if kind.plural in names)


async def _may(client: "Client", verb: str, kind: Kind, namespace: str) -> bool:
    """Whether the viewer may do it, as a SelfSubjectAccessReview says."""
    asked = {"verb": verb, "group": kind.group, "resource": kind.plural, "namespace": namespace}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    found = await client.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body)
    return bool(found["status"].get("allowed"))


async def _unreachable(deployments: list[dict[str, Any]]) -> dict[str, str]:
    """The storages that deployments name and that cannot be listed from here, with the reason."""
    import asyncio

    places = ((each.get("status") or {}).get("storage") or each["spec"].get("storage") for each in deployments)
    urls = sorted({url for url in places if url})
    problems = await asyncio.gather(*(_problem_of(url) for url in urls))
    return {url: problem for url, problem in zip(urls, problems, strict=True) if problem}


async def _problem_of(url: str) -> str:
    import asyncio

    from levada.exceptions import LevadaError
    from levada.storage import storage_of

    def look() -> None:
        storage_of(url).exists("levada-doctor")

    try:
        await asyncio.wait_for(asyncio.to_thread(look), STORAGE_SECONDS)
    except TimeoutError:
        return f"no answer within {STORAGE_SECONDS:g} s"
    except LevadaError as problem:
        return str(problem)
    return ""
