"""`levada deploy`: from a flow's file to a cluster in one step."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from levada.cli import options as opts
from levada.cli.app import new_app
from levada.cli.build import check_schedules, pairs_of, parameters_of
from levada.cli.connection import run
from levada.cli.failures import entrypoint_code, prefect_hint
from levada.cli.options import Target, Texts, in_namespace
from levada.cli.output import ExitCode, error

if TYPE_CHECKING:
    from levada.deployments import Deployment
    from levada.flows import Flow
    from levada.kube import Client

app = new_app()


class Source(StrEnum):
    """What --source accepts."""

    AUTO = "auto"
    GIT = "git"


@app.command()
@in_namespace
def deploy(
    entrypoint: opts.EntrypointArgument,
    *,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", help="Name of the deployment. When absent: those that the file makes, or the flow's name."
        ),
    ] = None,
    source: Annotated[
        Source,
        typer.Option(
            "--source",
            help="git: runs fetch the pushed commit. auto: the code travels in the Flow, several files in a ConfigMap.",
        ),
    ] = Source.AUTO,
    git_secret: Annotated[
        str | None, typer.Option("--git-secret", metavar="SECRET", help="Secret that opens the Git repository.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage", "-s", metavar="URL", help="s3://bucket/folder, or a block's TYPE/NAME: upload it there."
        ),
    ] = None,
    requirement: Annotated[
        Texts, typer.Option("--requirement", "-r", metavar="PACKAGE", help="A package that runs install. Repeatable.")
    ] = None,
    requirements: Annotated[
        Path | None, typer.Option("--requirements", metavar="FILE", help="A file that lists such packages.")
    ] = None,
    cron: opts.CronOption = None,
    interval: opts.IntervalOption = None,
    rrule: opts.RRuleOption = None,
    timezone: opts.TimezoneOption = None,
    parameter: opts.ParametersOption = None,
    image: opts.ImageOption = None,
    path: opts.PathOption = None,
    env: opts.EnvOption = None,
    queue: Annotated[str | None, typer.Option("--work-queue", "-q", help="WorkQueue of its runs.")] = None,
    tag: opts.TagOption = None,
    paused: opts.PausedOption = False,
    prefect: opts.PrefectOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the YAML; upload and apply nothing.")] = False,
    target: Target,
) -> None:
    """Build Flow, Deployment and Schedules from a flow's file, and apply them.

    Parameters come from the signature, the description from the docstring. Deployments that the file makes at its top, as
    `nightly = etl.to_deployment("nightly", cron="0 2 * * *")`, are applied as they are; --name makes another one.
    """
    from levada.exceptions import LevadaError
    from levada.schedules import schedules_of

    rules: dict[str, Any] = {"cron": cron, "interval": interval, "rrule": rrule}
    check_schedules(rules, timezone, None)
    variables = {"image": image, "env": pairs_of(env, "--env")}
    flow = _flow(entrypoint, prefect=prefect, quiet=dry_run)
    shaping: dict[str, Any] = {
        "source": None if source is Source.AUTO else source.value,
        "git_secret": git_secret,
        "storage": storage,
        "requirements": _requirements(requirement, requirements),
        "schedules": schedules_of(**rules, timezone=timezone) if any(rules.values()) else None,
        "parameters": parameters_of(parameter, None, flow) if parameter else None,
        "job_variables": {key: value for key, value in variables.items() if value} or None,
        "path": path,
        "work_queue_name": queue,
        "tags": tag,
        "paused": paused or None,
    }
    options = {key: value for key, value in shaping.items() if value is not None}
    try:
        made = _deployments(flow, name, options, entrypoint)
        if dry_run:
            _print(made)
        else:
            _apply(made, target)
    except LevadaError as failure:
        raise error(str(failure)) from None


def _flow(entrypoint: str, *, prefect: bool, quiet: bool) -> "Flow[..., Any]":
    import sys
    from contextlib import nullcontext, redirect_stdout

    from levada._loading import CodeError
    from levada._local_run import find_flow

    try:
        with redirect_stdout(sys.stderr) if quiet else nullcontext():  # what the file prints is no YAML
            return find_flow(entrypoint, prefect=prefect)
    except CodeError as failure:
        hint = prefect_hint("levada deploy", entrypoint) if failure.needs_prefect and not prefect else None
        raise error(failure.here, hint, code=ExitCode(entrypoint_code(entrypoint))) from None


def _requirements(single: Texts, file: Path | None) -> list[str] | None:
    from levada._packages import packages_of
    from levada.exceptions import DeploymentError

    if not single and file is None:
        return None
    try:
        return [*(packages_of(file) or []), *(packages_of(single) or [])]
    except DeploymentError as failure:
        raise error(str(failure)) from None


def _deployments(
    flow: "Flow[..., Any]", name: str | None, options: dict[str, Any], entrypoint: str
) -> "list[Deployment]":
    """Those that the file makes, or one of the options."""
    from levada.deployments import to_deployment

    own = _made_by_file(flow) if name is None else []
    if own and options:
        names = ", ".join(each.slug for each in own)
        raise error(
            f"the file makes deployments of this flow itself ({names}), so options change nothing",
            "--name NAME makes another one with these options; or change the file",
        )
    file = entrypoint if entrypoint.rpartition(":")[0].endswith(".py") else None
    return own or [to_deployment(flow, name or flow.name, entrypoint=file, **options)]


def _made_by_file(flow: "Flow[..., Any]") -> "list[Deployment]":
    import inspect

    from levada.deployments import Deployment

    values = list(getattr(inspect.unwrap(flow.fn), "__globals__", {}).values())
    values += [item for value in values if isinstance(value, list | tuple) for item in value]
    found = [value for value in values if isinstance(value, Deployment) and value.flow is flow]
    return list({each.slug: each for each in found}.values())


def _print(made: "list[Deployment]") -> None:
    from levada._manifests import yaml_of

    for each in made:
        each.skip_upload = True
    resources = [resource for each in made for resource in each.to_resources()]
    once = {(resource["kind"], resource["metadata"]["name"]): resource for resource in resources}
    typer.echo(yaml_of(list(once.values())), nl=False)


def _apply(made: "list[Deployment]", target: Target) -> None:
    from levada._apply import apply_all
    from levada._manifests import with_secrets
    from levada.kube import Invalid

    prepared = [with_secrets(each) for each in made]  # what cannot work is said before anything is applied

    async def work(client: "Client", here: str) -> list[str]:
        return [line for resources in prepared for line in await apply_all(client, resources, here)]

    try:
        applied = run(work, target)
    except Invalid as failure:
        raise error(f"the API server refuses it: {failure.message}") from None
    for line in dict.fromkeys(applied):
        typer.echo(f"{line} applied")
    for each in made:
        typer.echo(f"`levada deployment run {each.slug}` starts a run")
