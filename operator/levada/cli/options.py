"""The options that several commands have, each written once. A command says the cluster that it talks to as one parameter, `target`.

Light: every help reads it. Not here: what belongs to one command.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer

from levada.resources.kinds import FLOW_RUNS, LEVADA_KINDS, Kind


class Format(StrEnum):
    """What -o accepts."""

    JSON = "json"
    YAML = "yaml"
    NAME = "name"


class ListFormat(StrEnum):
    """What -o accepts where there is a table."""

    JSON = "json"
    YAML = "yaml"
    NAME = "name"
    WIDE = "wide"


class Target(NamedTuple):
    """Which cluster and namespace the user means; None is what the kubeconfig says."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: Path | None = None


NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace; the context's own when absent.")
]
ContextOption = Annotated[
    str | None, typer.Option("--context", help="Context of your kubeconfig; the current one when absent.")
]
KubeconfigOption = Annotated[
    Path | None, typer.Option("--kubeconfig", help="Kubeconfig file; $KUBECONFIG or ~/.kube/config when absent.")
]
FormatOption = Annotated[Format | None, typer.Option("--output", "-o", help="For programs: json, yaml or name.")]
ListFormatOption = Annotated[
    ListFormat | None, typer.Option("--output", "-o", help="wide: more columns. For programs: json, yaml or name.")
]
EverywhereOption = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Those of all namespaces.")]
StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="URL of the archive; as the deployments say when absent.",
        envvar="LEVADA_STORAGE",
        show_default="that of the deployments",
    ),
]
ParametersOption = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", metavar="NAME=VALUE", help="A parameter; the value is read as YAML. Repeatable."),
]


def named(kind: Kind) -> Callable[[Any], Any]:
    """For a command's names of that kind: takes them as `-o name` and kubectl write them, too, with the kind before a slash.

    `flowrun.levada.dev/x`, `flowruns/x` and `fr/x` are the run x. Another kind is a BadParameter, so the exit code is 2.
    """
    return lambda given: (
        [_bare(each, kind) for each in given] if isinstance(given, list | tuple) else _bare(given, kind)
    )


def _bare(given: Any, kind: Kind) -> Any:
    before, slash, name = given.partition("/") if isinstance(given, str) else ("", "", "")
    word, _, group = before.lower().partition(".")
    if not slash or group not in {"", kind.group, f"{kind.version}.{kind.group}"}:
        return given
    if word in _words(kind):
        return name
    other = next((each for each in LEVADA_KINDS if word in _words(each)), None)
    if other is None:
        return given
    raise typer.BadParameter(f"{given!r} is a {other.kind}; a {kind.kind} is wanted here")


def _words(kind: Kind) -> set[str]:
    return {kind.plural, kind.kind.lower(), kind.short_name} - {""}


RunName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the flow run.", callback=named(FLOW_RUNS))]
RunNames = Annotated[
    list[str], typer.Argument(metavar="NAME...", help="Names of the flow runs.", callback=named(FLOW_RUNS))
]
FollowRunOption = Annotated[
    bool, typer.Option("--watch", "-w", help="Follow the run until it ends; exit code 0 only if it completes.")
]

Texts = list[str] | None
# What `deploy` and `deployment build` make a deployment of.
EntrypointArgument = Annotated[str, typer.Argument(metavar="PATH.py:FLOW", help="File and function of the flow.")]
CronOption = Annotated[Texts, typer.Option("--cron", help="A cron expression of five fields. Repeatable.")]
IntervalOption = Annotated[list[int] | None, typer.Option("--interval", help="Seconds from run to run.")]
RRuleOption = Annotated[Texts, typer.Option("--rrule", help="A recurrence rule of RFC 5545.")]
TimezoneOption = Annotated[str | None, typer.Option("--timezone", help="Time zone of the schedules; UTC if absent.")]
TagOption = Annotated[Texts, typer.Option("--tag", "-t", help="A word to find the deployment by. Repeatable.")]
ImageOption = Annotated[str | None, typer.Option("--image", help="Container image of the runs.")]
PathOption = Annotated[str | None, typer.Option("--path", help="Folder of the image that holds the code already.")]
EnvOption = Annotated[Texts, typer.Option("--env", metavar="NAME=VALUE", help="A variable of the runs. Repeatable.")]
PausedOption = Annotated[bool, typer.Option("--paused", help="Start no runs for now.")]
PrefectOption = Annotated[bool, typer.Option("--prefect", help="Let imports of prefect mean Levada.")]

Command = Callable[..., None]


def in_namespace(command: Command) -> Command:
    """Give a command --namespace, --context and --kubeconfig: what they say is its parameter `target`."""
    options = {"namespace": (NamespaceOption, None), **_CLUSTER}
    return _with_options(command, "target", Target, options)


def on_cluster(command: Command) -> Command:
    """As `in_namespace`, for what lies in no namespace, or has a -n of its own."""
    return _with_options(command, "target", Target, _CLUSTER)


def said_by(options: type) -> Callable[[Command], Command]:
    """Give a command the fields of a dataclass as options: each has its Annotated type and its default there. They are its parameter `said`."""
    found = {each.name: (each.type, each.default) for each in dataclasses.fields(options)}
    return lambda command: _with_options(command, "said", options, found)


_CLUSTER: Final[dict[str, tuple[Any, Any]]] = {"context": (ContextOption, None), "kubeconfig": (KubeconfigOption, None)}


def _with_options(
    command: Command, parameter: str, made: Callable[..., Any], options: Mapping[str, tuple[Any, Any]]
) -> Command:
    """The command with these options where that parameter stands among its own: in its signature, which is what Typer reads."""

    @functools.wraps(command)
    def with_options(*arguments: Any, **given: Any) -> None:
        value = made(**{name: given.pop(name, default) for name, (_, default) in options.items()})
        command(*arguments, **given, **{parameter: value})

    signature = inspect.signature(command)
    parameters: list[inspect.Parameter] = []
    for each in signature.parameters.values():
        if each.name != parameter:
            parameters.append(each)
            continue
        parameters += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, (annotation, default) in options.items()
        ]
    with_options.__annotations__ = {each.name: each.annotation for each in parameters}
    with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return with_options
