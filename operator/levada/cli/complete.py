"""What may come next on a command line: `levada __complete WORD... PREFIX`, and `kubectl_complete-levada` for `kubectl levada`.

Answers as the completions of kubectl do: a line each, a tab before its help, and last a line `:4` (no files) or `:0` (files).
Names come from the cluster, within a second or not at all.
"""

import sys
from collections.abc import AsyncIterator, Sequence
from enum import EnumType
from typing import TYPE_CHECKING, Any, Final

from levada.cli.main import GROUPS

if TYPE_CHECKING:
    from levada.kube import Client
    from levada.resources.kinds import Kind

PATIENCE_SECONDS: Final = 1.0
FILES, NO_FILES = ":0", ":4"
GLOBAL: Final = {"namespace": ("-n", "--namespace"), "context": ("--context",), "kubeconfig": ("--kubeconfig",)}
# What a positional argument of a group names, by the group and, where it differs, the verb. The agent's are nodes.
KINDS: Final = {
    "runs": "FlowRun", "deployment": "Deployment", "schedules": "Schedule", "queues": "WorkQueue", "limits": "ConcurrencyLimit",
    "backfills": "Backfill", "backfill": "Deployment", "agent": "Node", "blocks": "Block",
}  # fmt: skip
OF_FILES: Final = frozenset({"run", "deploy", "build", "apply"})
OF_OPTIONS: Final = {"--deployment": "Deployment", "--schedule": "Schedule", "--work-queue": "WorkQueue", "--queue": "WorkQueue"}  # fmt: skip


def main() -> None:
    """Print what fits the words of the command line, of which the last is being typed."""
    words = sys.argv[1:]
    for line in answer(words[:-1], words[-1] if words else ""):
        print(line)


def answer(words: Sequence[str], prefix: str) -> list[str]:
    """The lines to print. Whatever goes wrong, nobody's command line is disturbed: then there are no suggestions."""
    try:
        found, files = suggestions(words, prefix)
        return [*(each for each in found if each.startswith(prefix)), FILES if files else NO_FILES]
    except Exception:  # noqa: BLE001 - a shell asks at every TAB: it must get an answer, never a traceback
        return [NO_FILES]


def suggestions(words: Sequence[str], prefix: str) -> tuple[list[str], bool]:
    """What could come next, fitting or not, and whether it may be a file."""
    if not words:
        return [f"{name}\t{text}" for name, (_, text) in GROUPS.items()], False
    group, *rest = words
    if group not in GROUPS or group == "run":
        return [], group == "run"
    import importlib

    module = importlib.import_module(GROUPS[group][0])
    if not hasattr(module, "app"):
        return [], False
    from typer.main import get_command

    command: Any = get_command(module.app)
    verbs: dict[str, Any] = getattr(command, "commands", {})
    if verbs:
        if not rest:
            return [f"{name}\t{each.get_short_help_str(60)}" for name, each in verbs.items()], False
        verb, *rest = rest
        if verb not in verbs:
            return [], False
        command = verbs[verb]
    else:
        verb = group
    return _of_command(command, group, verb, rest, prefix)


def _of_command(command: Any, group: str, verb: str, rest: Sequence[str], prefix: str) -> tuple[list[str], bool]:
    options = [each for each in command.params if each.param_type_name == "option"]
    by_name = {name: each for each in options for name in (*each.opts, *each.secondary_opts)}
    if prefix.startswith("-"):
        return [f"{max(each.opts, key=len)}\t{each.help or ''}" for each in options] + ["--help"], False
    before = by_name.get(rest[-1]) if rest else None
    if before is not None and not before.is_flag:
        return _values(before, rest)
    if verb in OF_FILES and group in {"deploy", "deployment"} and (verb != "run"):
        return [], True
    kind = KINDS.get(group)
    return (names(kind, rest) if kind and verb not in {"ls", "start", "types"} else []), False


def _values(option: Any, rest: Sequence[str]) -> tuple[list[str], bool]:
    if choices := _choices(option):
        return choices, False
    if "--context" in option.opts:
        return contexts(value_of("kubeconfig", rest)), False
    if "--namespace" in option.opts:
        return names("Namespace", rest), False
    kind = next((OF_OPTIONS[name] for name in option.opts if name in OF_OPTIONS), None)
    return (names(kind, rest), False) if kind else ([], True)


def _choices(option: Any) -> list[str]:
    """The words that an option takes; typer keeps them in one of two places, by its version."""
    annotation = getattr(getattr(option, "type_descriptor", None), "annotation", None)
    if isinstance(annotation, EnumType):
        members: list[Any] = list(annotation)
        return [str(each.value) for each in members]
    found = getattr(getattr(option, "type", None), "choices", None) or ()
    return [str(getattr(each, "value", each)) for each in found]


def value_of(option: str, words: Sequence[str]) -> str | None:
    """What the line has said of one of the options that every command has."""
    for word, following in zip(words, [*words[1:], None], strict=True):
        name, equals, value = word.partition("=")
        if name in GLOBAL[option]:
            return value if equals else following
    return None


def contexts(kubeconfig: str | None) -> list[str]:
    """The contexts of the kubeconfig."""
    import yaml

    from levada.kube.config import kubeconfig_files

    documents = [yaml.safe_load(file.read_text()) or {} for file in kubeconfig_files(kubeconfig)]
    return [each["name"] for document in documents for each in document.get("contexts") or ()]


def names(kind: str, words: Sequence[str]) -> list[str]:
    """The names of a kind, as the words before it choose cluster and namespace; none if the cluster takes its time."""
    import asyncio

    from levada.kube import Client
    from levada.resources.kinds import LEVADA_KINDS, NAMESPACES, NODES

    wanted = next(each for each in (*LEVADA_KINDS, NAMESPACES, NODES) if each.kind == kind)

    async def asked() -> list[str]:
        async with Client.from_kubeconfig(value_of("kubeconfig", words), value_of("context", words)) as client:
            return [name async for name in _names(client, wanted, value_of("namespace", words))]

    return asyncio.run(asyncio.wait_for(asked(), PATIENCE_SECONDS))


async def _names(client: "Client", kind: "Kind", namespace: str | None) -> AsyncIterator[str]:
    found, _ = await client.list(kind, (namespace or client.namespace) if kind.namespaced else None)
    for each in sorted(found, key=lambda each: str(each["metadata"].get("creationTimestamp")), reverse=True):
        yield each["metadata"]["name"]
