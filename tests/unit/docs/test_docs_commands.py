"""Commands on the pages, and in hints of the code: they exist, with these options, and so do the files, kinds and values that they name."""

import importlib
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise, product
from typing import Any

import pytest
import yaml
from typer.main import get_command

from levada.cli.main import GROUPS
from support.page_commands import ROOT, Command, commands_of, console_commands, mentioned

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "charts/levada/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
PAGES.remove(ROOT / "docs" / "reference" / "cli.md")  # made from the commands themselves
CODE = sorted((ROOT / "operator" / "levada").rglob("*.py"))
TYPED = [each for page in PAGES for each in console_commands(page)]
# What `levada` itself answers, without a group.
BARE = frozenset({"help", "__complete", "--version"})

VERBS = frozenset({
    "annotate", "apply", "auth", "cluster-info", "config", "create", "delete", "describe", "diff", "edit", "explain", "get", "label", "logs",
    "patch", "port-forward", "rollout", "top", "version", "wait",
})  # fmt: skip
# Kinds of Kubernetes that pages name; ours are read from crds/.
KINDS = {
    "all", "clusterrole", "clusterrolebinding", "configmap", "crd", "deployment", "event", "job", "lease", "namespace", "node", "pod",
    "priorityclass", "rolebinding", "secret", "service", "serviceaccount", "token", "validatingadmissionpolicy", "flow", "levada",
}  # fmt: skip
NAMING = frozenset(
    {"get", "describe", "delete", "patch", "wait", "label", "annotate", "create", "edit", "rollout", "explain"}
)
# Options of kubectl and helm with a value in the next word.
VALUED = frozenset({
    "-n", "--namespace", "-f", "--filename", "-l", "--selector", "-o", "--output", "-p", "--patch", "--patch-file", "--context", "--kubeconfig",
    "--field-selector", "--user", "--group", "--clusterrole", "--as", "--set", "--values", "--version", "-c", "--type", "--set-json", "--for",
})  # fmt: skip


def those_of(tool: str) -> list[Any]:
    return [pytest.param(each, id=each.id) for each in TYPED if each.words[0] == tool]


@cache
def command_of(group: str) -> Any:
    """The Click command of a group; None where argparse or nothing reads its line."""
    module = importlib.import_module(GROUPS[group][0])
    return get_command(module.app) if hasattr(module, "app") else None


def read(command: Any, name: str, words: list[str]) -> None:
    """Let Click read the words of a whole command, and run nothing."""
    context = command.make_context(name, words)
    if subcommands := getattr(command, "commands", None):
        verb, *rest = [*context._protected_args, *context.args]
        assert verb in subcommands, f"levada {name} has no {verb}"
        read(subcommands[verb], verb, rest)


def test_there_are_commands_to_check():
    assert {each.words[0] for each in TYPED} == {"levada", "kubectl", "helm", "make"}
    assert len(TYPED) > 100


@pytest.mark.parametrize("typed", those_of("levada"))
def test_what_is_typed_is_understood(typed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    _, group, *words = typed.words
    assert group in GROUPS
    command = command_of(group)
    if command is not None:
        read(command, group, words)
    elif group == "run":
        importlib.import_module(GROUPS[group][0]).parser().parse_args(words)


def variants(words: tuple[str, ...]) -> Iterator[list[str]]:
    """One for each choice of the verb: `runs suspend|resume`."""
    choices = [word.split("|") if at == 2 and not word.startswith("-") else [word] for at, word in enumerate(words)]
    yield from (list(each) for each in product(*choices))


@pytest.mark.parametrize("page", [*PAGES, *CODE], ids=lambda page: str(page.relative_to(ROOT)))
def test_what_is_mentioned_exists(page):
    for each in mentioned(page):
        for _, group, *words in variants(each.words):
            if group in BARE:
                continue
            assert group.rstrip("…") in {*GROUPS, ""}, each.id
            command = command_of(group) if group in GROUPS else None
            subcommands = getattr(command, "commands", None)
            if subcommands and words and re.fullmatch(r"[a-z-]+", words[0]) and not words[0].startswith("-"):
                assert words[0] in subcommands, each.id
                command = subcommands[words.pop(0)]
            known = {name for param in getattr(command, "params", ()) for name in (*param.opts, *param.secondary_opts)}
            options = [word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", word)]
            if command is not None and not subcommands:
                assert set(options) <= known | {"--help", "-h"}, each.id


@cache
def ours() -> set[str]:
    """The names under which kubectl knows our kinds."""
    found = set()
    for file in (ROOT / "crds").glob("*.yaml"):
        for body in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            named = body["spec"]["names"]
            short = {named["plural"], named["singular"], *named.get("shortNames", ())}
            found |= short | {
                f"{named['plural']}.{body['spec']['group']}",
                f"{named['singular']}.{body['spec']['group']}",
            }
    return found


def plain(words: list[str]) -> list[str]:
    """The words that are no options, nor the values of options."""
    kept, is_value = [], False
    for word in words:
        if not is_value and not word.startswith("-"):
            kept.append(word)
        is_value = word in VALUED
    return kept


def values_of(words: tuple[str, ...], *options: str) -> list[str]:
    pairs = pairwise(words)
    joined = [word.partition("=")[2] for word in words if word.partition("=")[0] in options and "=" in word]
    return [value for word, value in pairs if word in options] + joined


def missing_file(typed: Command, name: str) -> bool:
    """Whether a file is neither in the repository nor made or shown on the page."""
    if name == "-" or "://" in name or "SUBSTITUTED" in name or (ROOT / name).exists():
        return False
    return typed.page.read_text(encoding="utf-8").count(name) < 2


@pytest.mark.parametrize("typed", those_of("kubectl"))
def test_kubectl_is_given_kinds_and_files_that_exist(typed):
    verb, *rest = plain(list(typed.words[1:]))
    if verb == "levada":
        read(command_of(rest[0]), rest[0], list(typed.words[3:]))
        return
    assert verb in VERBS
    assert [
        name for name in values_of(typed.words, "-f", "--filename", "--patch-file") if missing_file(typed, name)
    ] == []
    if verb == "rollout":
        rest = rest[1:]
    if verb not in NAMING or not rest:
        return
    known = ours() | KINDS | {f"{kind}s" for kind in KINDS} | {"priorityclasses", "validatingadmissionpolicies"}
    assert [kind for kind in rest[0].split(",") if kind.partition("/")[0] not in known] == []


def chart_value(path: str) -> bool:
    """Whether the chart has a value of that name."""
    place: Any = yaml.safe_load((ROOT / "charts" / "levada" / "values.yaml").read_text(encoding="utf-8"))
    for part in re.sub(r"\[\d+\]", "", path).split("."):
        if place == {}:  # a free map
            return True
        if not isinstance(place, dict) or part not in place:
            return False
        place = place[part]
    return True


@pytest.mark.parametrize("typed", those_of("helm"))
def test_helm_is_given_a_chart_and_values_that_exist(typed):
    verb, *rest = plain(list(typed.words[1:]))
    assert verb in {"install", "upgrade", "uninstall", "test", "template", "status", "rollback", "history", "get"}
    assert [each for each in rest if each.startswith("charts/") and not (ROOT / each).is_dir()] == []
    said = [each.partition("=")[0] for each in values_of(typed.words, "--set", "--set-json", "--set-string")]
    assert [each for each in said if not chart_value(each)] == []
    assert [name for name in values_of(typed.words, "-f", "--values") if missing_file(typed, name)] == []


@pytest.mark.parametrize("typed", those_of("make"))
def test_make_is_given_targets_that_exist(typed):
    targets = set(re.findall(r"^([a-z][-a-z]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert [
        word for word in typed.words[1:] if "=" not in word and not word.startswith("-") and word not in targets
    ] == []


@pytest.mark.parametrize(
    ("line", "commands"),
    [
        ("levada runs ls -A   # all", [("levada", "runs", "ls", "-A")]),
        ("A=1 .venv/bin/levada version && make demo", [("levada", "version"), ("make", "demo")]),
        ("levada operator run > log 2>&1 &", [("levada", "operator", "run")]),
        ("kubectl get crd | grep levada | xargs kubectl delete", [("kubectl", "get", "crd"), ("kubectl", "delete")]),
        ('export PATH="$(dirname $(levada cluster binaries | cut -f2)):$PATH"', [("levada", "cluster", "binaries")]),
        ("echo levada", []),
    ],
)  # fmt: skip
def test_lines_are_taken_apart(line, commands):
    assert list(commands_of(line)) == commands
