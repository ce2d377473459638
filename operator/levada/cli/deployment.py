"""`levada deployment`: build, apply, list, run, pause and resume deployments."""

import os
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from levada.cli import build
from levada.cli.app import new_app
from levada.cli.connection import find, run
from levada.cli.listing import listed, show_list
from levada.cli.options import (
    EverywhereOption,
    FollowRunOption,
    FormatOption,
    ListFormatOption,
    ParametersOption,
    Target,
    in_namespace,
    named,
)
from levada.cli.output import error, machine_text, now, usage_error, warn
from levada.cli.overrides import check_overrides, overrides_of
from levada.decide.orders import ALPHABET, SUFFIX_LENGTH, flow_run, suffixed, too_large, unfit
from levada.resources.kinds import DEPLOYMENTS, FLOW_RUNS, FLOWS
from levada.resources.names import (
    ANNOTATION_TRACEPARENT,
    ENV_TRACEPARENT,
    FIELD_MANAGER_CLI,
)
from levada.resources.phases import RunPhase

if TYPE_CHECKING:
    from levada.kube import Client

app = new_app("Build, apply, list, run, pause and resume deployments.")
app.command()(build.build)
app.command()(build.apply)

NAME_TRIES: Final = 5


@app.command("ls")
@in_namespace
def list_deployments(
    *,
    everywhere: EverywhereOption = False,
    output: ListFormatOption = None,
    target: Target,
) -> None:
    """List deployments."""
    from levada.cli.deployment_view import deployments_table

    found = listed(DEPLOYMENTS, target, everywhere=everywhere)
    show_list(
        found,
        output,
        lambda wide: deployments_table(found, now(), with_namespace=everywhere, wide=wide),
        nothing="no deployments: `levada deploy FILE.py:FLOW` makes one; -n chooses the namespace",
    )


Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the deployment.", callback=named(DEPLOYMENTS))]


@app.command()
@in_namespace
def pause(name: Name, *, target: Target) -> None:
    """Start no new runs of a deployment, whoever asks for them: they wait. Those under way go on."""
    _pause(name, target, paused=True)
    typer.echo(f"deployment {name} is paused: new runs wait; `levada deployment resume {name}` lets them start")


@app.command()
@in_namespace
def resume(name: Name, *, target: Target) -> None:
    """Let a paused deployment start runs again, those first that wait."""
    _pause(name, target, paused=False)
    typer.echo(f"deployment {name} starts runs again")


def _pause(name: str, target: Target, *, paused: bool) -> None:
    async def work(client: "Client", here: str) -> None:
        await find(client, DEPLOYMENTS, name, here, called="deployment")
        await client.patch(DEPLOYMENTS, name, {"spec": {"paused": paused}}, here, field_manager=FIELD_MANAGER_CLI)

    run(work, target)


@app.command("run")
@in_namespace
def run_deployment(
    name: Name,
    *,
    parameter: ParametersOption = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--override",
            metavar="FIELD=VALUE",
            help="What the deployment's allowOverrides opens: image, resources.requests.memory, env.NAME, nodeSelector.LABEL, tolerations, timeoutSeconds, retries.limit, … Repeatable.",
        ),
    ] = None,
    run_name: Annotated[str | None, typer.Option("--name", help="Name of the flow run; made up when absent.")] = None,
    watch: FollowRunOption = False,
    output: FormatOption = None,
    target: Target,
) -> None:
    """Start a flow run of a deployment."""
    texts, overrides = _texts(parameter or []), overrides_of(override or [])

    async def work(client: "Client", here: str) -> str | None:
        deployment = await find(client, DEPLOYMENTS, name, here, called="deployment")
        warn_if_not_ready(deployment)
        check_overrides(deployment, overrides)
        schema = await _schema(client, deployment, here)
        parameters = _read(texts, schema)
        check_parameters({**(deployment["spec"].get("parameters") or {}), **parameters}, schema)
        created = await create_run(client, here, name, parameters, run_name, overrides=overrides)
        announce(created, watch=watch, output=output)
        if not watch:
            return None
        from levada.cli.watch import watch_run

        return await watch_run(client, created["metadata"]["name"], here)

    ended = run(work, target)
    if watch and ended != RunPhase.COMPLETED:
        raise typer.Exit(1)


async def read_parameters(client: "Client", namespace: str, old: Mapping[str, Any], given: list[str]) -> dict[str, Any]:
    """The values of `-p name=value`, as the flow of a run that is to be repeated takes them.

    Raises:
        typer.Exit: one cannot be read, the flow does not take them, or there is no such deployment.
    """
    texts = _texts(given)
    if not texts:
        return {}
    found = await find(client, DEPLOYMENTS, old["spec"]["deploymentRef"]["name"], namespace, called="deployment")
    schema = await _schema(client, found, namespace)
    changed = _read(texts, schema)
    before = {**(found["spec"].get("parameters") or {}), **(old["spec"].get("parameters") or {})}
    check_parameters({**before, **changed}, schema)
    return changed


def _texts(given: list[str]) -> dict[str, str]:
    from levada.cli.parameters import ParameterSyntaxError, parse_parameters

    try:
        return parse_parameters(given, lambda _, text: text)
    except ParameterSyntaxError as failure:
        raise usage_error(str(failure)) from None


async def _schema(client: "Client", deployment: dict[str, Any], namespace: str) -> dict[str, Any]:
    """The schema of the flow's parameters; empty if it has none, or we may not read it."""
    from levada.kube import ApiError

    try:
        flow = await client.get(FLOWS, deployment["spec"]["flowRef"]["name"], namespace)
    except ApiError:
        return {}
    return flow["spec"].get("parameterSchema") or {}


def _read(texts: Mapping[str, str], schema: dict[str, Any]) -> dict[str, Any]:
    """The values of parameters, as the flow takes them."""
    from levada.cli.parameters import ParameterSyntaxError, template_hint, value_by

    read = value_by(schema)
    try:
        return {name: read(name, text) for name, text in texts.items()}
    except ParameterSyntaxError as failure:
        hint = template_hint(texts)
        raise usage_error(failure.cause if hint else str(failure), hint) from None


async def create_run(
    client: "Client",
    namespace: str,
    deployment: str,
    parameters: dict[str, Any],
    name: str | None,
    *,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Create the flow run; a made-up name that is taken is made up again.

    Raises:
        typer.Exit: the name that the user chose is taken, or the API server refuses the run.
    """
    from levada.kube import AlreadyExists, Invalid

    check_size(parameters)
    for tries_left in reversed(range(NAME_TRIES)):
        body = flow_run(name or made_up_name(deployment), deployment, parameters)
        if overrides:
            body["spec"]["overrides"] = dict(overrides)
        if traceparent := os.environ.get(ENV_TRACEPARENT):
            body["metadata"]["annotations"] = {ANNOTATION_TRACEPARENT: traceparent}
        try:
            return await client.create(FLOW_RUNS, body, namespace)
        except AlreadyExists:
            if name:
                raise error(
                    f"there is a flow run {name!r} already", "leave out --name, or choose another one"
                ) from None
            if not tries_left:
                raise
        except Invalid as failure:
            raise error(f"the API server refuses the run: {failure.message}") from None
    raise AssertionError("the last try returns or raises")


def check_parameters(parameters: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Refuse here what the flow would fail the run for. `parameters`: all of them, the deployment's own too.

    Raises:
        typer.Exit: a value does not fit, or one is missing or unknown.
    """
    from levada.cli.parameters import template_hint

    check_size(parameters)
    found = unfit(parameters, schema)
    if not found:
        return
    more = f" (and {len(found) - 5} more)" if len(found) > 5 else ""
    needed = schema.get("required") or ()
    takes = [_described(name, known, needed=name in needed) for name, known in (schema.get("properties") or {}).items()]
    hint = f"-p NAME=VALUE gives a value; the flow takes {', '.join(takes) or 'no parameters'}"
    raise usage_error("; ".join(found[:5]) + more, template_hint(parameters) or hint)


def _described(name: str, known: Any, *, needed: bool) -> str:
    kind = known.get("format") or known.get("type") if isinstance(known, Mapping) else None
    words = [*([kind] if isinstance(kind, str) else []), *(["required"] if needed else [])]
    return f"{name} ({', '.join(words)})" if words else name


def check_size(parameters: Mapping[str, Any]) -> None:
    """Refuse here what the operator would fail the run for.

    Raises:
        typer.Exit: the parameters are too large.
    """
    if problem := too_large(parameters):
        raise error(
            problem,
            "put the data into a bucket or a file that the run can read, and pass its path or URL",
        )


def made_up_name(deployment: str) -> str:
    """`<deployment>-<5 characters>`, cut so that it is a legal name of a run."""
    return suffixed(deployment, "".join(secrets.choice(ALPHABET) for _ in range(SUFFIX_LENGTH)))


def warn_if_not_ready(deployment: dict[str, Any]) -> None:
    """Say beforehand why the run may not start."""
    name = deployment["metadata"]["name"]
    if deployment["spec"].get("paused"):
        warn(f"deployment {name!r} is paused: the run waits until `levada deployment resume {name}`")
    conditions = (deployment.get("status") or {}).get("conditions") or []
    for each in conditions:
        if each["type"] == "Ready" and each["status"] == "False":
            warn(f"deployment {name!r} is not ready: {each['message'] or each['reason']}")


def announce(created: dict[str, Any], *, watch: bool, output: Any) -> None:
    """Say what was created, and how to look at it."""
    name = created["metadata"]["name"]
    if output:
        typer.echo(machine_text(created, output), nl=False)
    elif watch:
        typer.echo(f"flow run {name} created")
    else:
        typer.echo(f"flow run {name} created; `levada runs watch {name}` follows it")
