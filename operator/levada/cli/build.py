"""`levada deployment build` and `apply`: from a flow's file to YAML, and from YAML to the cluster."""

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from levada.cli import options as opts
from levada.cli.connection import run
from levada.cli.failures import entrypoint_code, prefect_hint
from levada.cli.options import Target, on_cluster
from levada.cli.output import ExitCode, error, usage_error

if TYPE_CHECKING:
    from levada.deployments import Deployment
    from levada.flows import Flow
    from levada.kube import Client


def build(
    entrypoint: opts.EntrypointArgument,
    *,
    name: Annotated[str, typer.Option("--name", "-n", help="Name of the deployment.")],
    queue: Annotated[str, typer.Option("--work-queue", "-q", help="WorkQueue of its runs.")] = "default",
    cron: opts.CronOption = None,
    interval: opts.IntervalOption = None,
    rrule: opts.RRuleOption = None,
    timezone: opts.TimezoneOption = None,
    anchor: Annotated[str | None, typer.Option("--anchor-date", help="With --interval: a time of a run.")] = None,
    tag: opts.TagOption = None,
    parameter: opts.ParametersOption = None,
    parameters: Annotated[str | None, typer.Option("--params", help="Parameters as a JSON object.")] = None,
    image: opts.ImageOption = None,
    path: opts.PathOption = None,
    env: opts.EnvOption = None,
    storage: Annotated[
        str | None, typer.Option("--storage-block", "-s", metavar="TYPE/NAME", help="Block to upload the code to.")
    ] = None,
    version: Annotated[str | None, typer.Option("--version", "-v", help="Version, for people.")] = None,
    description: Annotated[
        str | None, typer.Option("--description", help="What it does; the docstring if absent.")
    ] = None,
    paused: opts.PausedOption = False,
    namespace: Annotated[str | None, typer.Option("--namespace", help="Namespace to write into the file.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write, - for stdout; FLOW-deployment.yaml if absent.")
    ] = None,
    apply_now: Annotated[bool, typer.Option("--apply", "-a", help="Apply it to the cluster at once.")] = False,
    prefect: opts.PrefectOption = False,
) -> None:
    """Write the YAML of a deployment of a flow: what `levada deployment apply` and `kubectl apply` take."""
    from levada._loading import CodeError
    from levada._local_run import find_flow
    from levada.deployments import to_deployment
    from levada.exceptions import LevadaError
    from levada.schedules import schedules_of

    rules = {"cron": cron, "interval": interval, "rrule": rrule}
    check_schedules(rules, timezone, anchor)
    is_stdout = str(output) == "-"
    variables = {"image": image, "namespace": namespace, "env": pairs_of(env, "--env")}
    try:
        with redirect_stdout(sys.stderr) if is_stdout else nullcontext():  # what the file prints is no YAML
            flow = find_flow(entrypoint, prefect=prefect)
        made = to_deployment(
            flow,
            name,
            work_queue_name=queue,
            schedules=schedules_of(**rules, timezone=timezone, anchor_date=anchor),
            tags=tag,
            parameters=parameters_of(parameter, parameters, flow),
            job_variables={key: value for key, value in variables.items() if value},
            storage=_block(storage),
            path=path,
            version=version,
            description=description,
            paused=paused,
            entrypoint=_file_entrypoint(entrypoint),
        )
        file = None if is_stdout else output or Path(f"{made.place.function}-deployment.yaml")
        _write(made, file, apply_now=apply_now)
        if apply_now:
            _apply(made, file)
    except CodeError as failure:
        hint = prefect_hint("levada deployment build", entrypoint) if failure.needs_prefect and not prefect else None
        raise error(failure.here, hint, code=ExitCode(entrypoint_code(entrypoint))) from None
    except LevadaError as failure:
        raise error(str(failure)) from None


def check_schedules(rules: dict[str, Any], timezone: str | None, anchor: str | None) -> None:
    """Refuse options of a schedule where there is none.

    Raises:
        typer.Exit: it has been said.
    """
    if timezone and not any(rules.values()):
        raise usage_error("--timezone is that of a schedule, and there is none", "add --cron, --interval or --rrule")
    if anchor and not rules["interval"]:
        raise usage_error("--anchor-date says when an interval begins, and there is none", "add --interval")


def _write(made: "Deployment", file: Path | None, *, apply_now: bool) -> None:
    """Write the YAML to the file, or to stdout and nothing else."""
    if file is None:
        typer.echo(made.to_yaml(), nl=False)
        return
    try:
        made.to_yaml(file)
    except OSError as failure:
        raise error(f"{file} cannot be written: {failure.strerror}", "choose another file with -o") from None
    typer.echo(f"deployment {made.slug} of flow {made.flow.name} written to {file}")
    if not apply_now:
        typer.echo(f"`levada deployment apply {file}` applies it")


def _apply(made: "Deployment", file: Path | None) -> None:
    from levada._apply import NotTaken, take
    from levada._manifests import with_secrets

    made.skip_upload = True
    try:
        for each in take(with_secrets(made), made.infrastructure.namespace):
            typer.echo(f"{each} applied", err=file is None)
    except NotTaken as failure:
        hint = f"the YAML is in {file}: " if file else ""
        raise error(
            str(failure), f"{hint}set KUBECONFIG, or `kubectl apply -f {file or 'FILE'}` where a cluster is"
        ) from None


def _file_entrypoint(entrypoint: str) -> str | None:
    return entrypoint if entrypoint.rpartition(":")[0].endswith(".py") else None


def _block(slug: str | None) -> Any:
    from levada.blocks import load_block

    return None if slug is None else load_block(slug)


def parameters_of(given: Sequence[str] | None, text: str | None, flow: "Flow[..., Any]") -> dict[str, Any]:
    """The parameters of `-p` and `--params`, read as the flow takes them.

    Raises:
        typer.Exit: one cannot be read; it has been said.
    """
    from levada.cli.parameters import ParameterSyntaxError, parse_parameters, value_for

    try:
        found = json.loads(text) if text else {}
        if not isinstance(found, dict):
            raise usage_error(f"--params {text!r} must be a JSON object, such as --params '{{\"n\": 1}}'")
        return {**found, **parse_parameters(given or [], value_for(flow))}
    except ParameterSyntaxError as failure:
        raise usage_error(str(failure)) from None
    except ValueError as failure:
        raise usage_error(f"--params {text!r} is no JSON: {failure}") from None


def pairs_of(given: Sequence[str] | None, option: str) -> dict[str, str]:
    """NAME=VALUE as a dict.

    Raises:
        typer.Exit: one is not of this form; it has been said.
    """
    found = {}
    for each in given or ():
        name, equals, value = each.partition("=")
        if not name or not equals:
            raise usage_error(f"{option} {each!r} is not NAME=VALUE")
        found[name] = value
    return found


@on_cluster
def apply(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files that `levada deployment build` wrote.")],
    *,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Namespace; the file's or the context's own when absent.")
    ] = None,
    target: Target,
) -> None:
    """Apply files to the cluster by server-side apply."""
    from levada._apply import apply_all
    from levada.kube import Invalid

    resources = [each for file in files for each in _resources(file)]

    async def work(client: "Client", here: str) -> list[str]:
        return await apply_all(client, resources, here)

    try:
        for each in run(work, target._replace(namespace=namespace)):
            typer.echo(f"{each} applied")
    except Invalid as failure:
        raise error(f"the API server refuses it: {failure.message}") from None


def _resources(file: Path) -> list[dict[str, Any]]:
    """The objects of a file, checked before anything is applied."""
    import yaml

    from levada._manifests import check
    from levada.exceptions import DeploymentError

    try:
        found = [each for each in yaml.safe_load_all(file.read_text(encoding="utf-8")) if each is not None]
    except OSError as failure:
        raise error(f"{file} cannot be read: {failure.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as failure:
        raise error(f"{file} is no YAML: {failure}") from None
    for each in found:
        named = isinstance(each, dict) and isinstance(each.get("metadata"), dict) and each["metadata"].get("name")
        if not named or not each.get("apiVersion") or not each.get("kind"):
            raise error(f"{file} holds something that is no Kubernetes object: {str(each)[:80]}")
        try:
            check(each)
        except DeploymentError as failure:
            raise error(f"{file}: {failure}") from None
    if not found:
        raise error(f"{file} holds no objects", "`levada deployment build PATH.py:FLOW -n NAME` writes such a file")
    return found
