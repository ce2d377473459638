"""The pages of docs/ that are made from code: `make reference` writes them, `make check` sees whether they are fresh.

    python docs/generate.py [--check]

- reference/resources/: a page a kind, field by field, from the definitions in operator/levada/resources
- reference/phases.md and images/phases.svg: from resources/phases.py
- reference/sdk.md: what `levada` exports, from signatures and docstrings
- images/flow-of-a-run.svg and images/stages.svg: from pictures.py
"""

import dataclasses
import importlib
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pictures

import levada
from levada.resources.crds import generate as definitions
from levada.resources.phases import (
    ACTIVE_PHASES,
    PHASE_VERBS,
    RUN_TRANSITIONS,
    TERMINAL_PHASES,
    TERMINAL_TASK_STATES,
    RunPhase,
    TaskState,
)

DOCS = Path(__file__).parent
NOTE = "<!-- Made by docs/generate.py from the code: `make reference`. -->\n"
# The modules that a flow author imports from, besides `levada` itself.
MODULES = (
    "artifacts",
    "blocks",
    "caching",
    "concurrency",
    "deployments",
    "filesystems",
    "infrastructure",
    "notifications",
    "results",
    "schedules",
    "secrets",
    "serializers",
    "states",
    "task_runners",
    "testing",
    "transactions",
    "variables",
)


def cell(text: str) -> str:
    """A text as it may stand in a table."""
    return " ".join(text.split()).replace("|", "\\|")


def resource(manifest: dict[str, Any]) -> str:
    """The page of one kind."""
    names = manifest["spec"]["names"]
    version = manifest["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    short = ", ".join(f"`{name}`" for name in names.get("shortNames", ()))
    lines = [
        f"# {names['kind']}\n",
        NOTE,
        f"{schema['description']}\n",
        f"`{manifest['spec']['group']}/{version['name']}`, `kubectl get {names['plural']}.{manifest['spec']['group']}`"
        + (f", short {short}" if short else "")
        + ".\n",
    ]
    for part in ("spec", "status"):
        if part in schema["properties"]:
            lines += [f"## {part}\n", "| field | type | default | |", "|---|---|---|---|"]
            lines += [_row(*each) for each in fields(schema["properties"][part], part)] + [""]
    rules = list(_rules(schema, ""))
    if rules:
        lines += ["## What the API server refuses\n", "| at | message |", "|---|---|"]
        lines += [f"| {f'`{at}`' if at else 'the object'} | {cell(text)} |" for at, text in rules] + [""]
    columns = version.get("additionalPrinterColumns", [])
    lines += ["## What `kubectl get` shows\n", "| column | from | |", "|---|---|---|"]
    lines += [
        f"| {column['name']} | `{cell(column['jsonPath'])}` | {'with `-o wide`' if column.get('priority') else ''} |"
        for column in columns
    ]
    selectable = [f"`{field['jsonPath'].removeprefix('.')}`" for field in version.get("selectableFields", [])]
    if selectable:
        lines.append(f"\n`--field-selector` knows {', '.join(selectable)}.")
    return "\n".join(lines) + "\n"


def fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Every field below a schema, with whether it must be given."""
    for name, below in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        yield here, below, name in schema.get("required", ())
        if "items" in below:
            yield from fields(below["items"], f"{here}[]")
        if isinstance(below.get("additionalProperties"), dict):
            yield from fields(below["additionalProperties"], f"{here}.*")
        yield from fields(below, here)


def _row(path: str, schema: dict[str, Any], required: bool) -> str:
    default = f"`{cell(json.dumps(schema['default']))}`" if "default" in schema else "required" if required else ""
    said = [cell(schema.get("description", "")), *_bounds(schema)]
    return f"| `{path}` | {_type(schema)} | {default} | {' '.join(each for each in said if each)} |"


def _type(schema: dict[str, Any]) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if schema.get("type") == "array":
        return f"list of {schema['items'].get('type', 'anything')}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"map of {schema['additionalProperties'].get('type', 'anything')}"
    return str(schema.get("format") or schema.get("type", "anything"))


def _bounds(schema: dict[str, Any]) -> list[str]:
    """What the schema itself bounds, in words."""
    words = {
        "minimum": "At least {}.",
        "maximum": "At most {}.",
        "maxLength": "At most {} characters.",
        "maxItems": "At most {} entries.",
        "maxProperties": "At most {} entries.",
    }
    said = [text.format(schema[key]) for key, text in words.items() if key in schema]
    if "enum" in schema:
        said.insert(0, "One of " + ", ".join(f"`{value}`" for value in schema["enum"]) + ".")
    return said


def _rules(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield (path or rule.get("fieldPath", "").removeprefix(".")), rule.get("message", rule["rule"])
    for name, below in schema.get("properties", {}).items():
        yield from _rules(below, f"{path}.{name}" if path else name)
    if "items" in schema:
        yield from _rules(schema["items"], f"{path}[]")


def phases() -> str:
    """The page of phases: what may follow what."""
    active = [phase for phase in RunPhase if phase in ACTIVE_PHASES]
    lines = [
        "# Phases\n",
        NOTE,
        "A FlowRun is in one of these phases. The API server refuses any other step; an end is final.\n",
        "![The usual ways between phases.](../images/phases.svg)\n",
        "| phase | the run | may become, besides an end |",
        "|---|---|---|",
    ]
    for phase in active:
        after = ", ".join(f"`{each}`" for each in active if each in RUN_TRANSITIONS[phase])
        lines.append(f"| `{phase}` | {PHASE_VERBS[phase]} | {after or 'nothing'} |")
    lines += ["\n| end | the run |", "|---|---|"]
    lines += [f"| `{phase}` | {PHASE_VERBS[phase]} |" for phase in RunPhase if phase in TERMINAL_PHASES]
    states = [f"`{state}`" for state in TaskState if state not in TERMINAL_TASK_STATES]
    ends = [f"`{state}`" for state in TaskState if state in TERMINAL_TASK_STATES]
    lines += ["\n## Tasks\n", f"A task is {', '.join(states)}, and ends as {', '.join(ends)}."]
    return "\n".join(lines) + "\n"


def sdk() -> str:
    """The page of the SDK: every public name with its signature and docstring."""
    lines = [
        "# SDK\n",
        NOTE,
        "Every public name with its signature. What they are for, with examples: [Writing flows](../sdk/README.md).\n",
    ]
    exported = {name: getattr(levada, name) for name in levada.__all__ if name != "__version__"}
    lines += ["## levada\n", *_entries(exported), ""]
    for name in MODULES:
        module = importlib.import_module(f"levada.{name}")
        lines += [f"## levada.{name}\n", _docstring(module, whole=False), "", *_entries(_public(module)), ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _public(module: Any) -> dict[str, Any]:
    listed = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    ]
    return {name: getattr(module, name) for name in listed}


def _entries(values: dict[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if inspect.ismodule(value):
            continue
        yield f"### `{name}`\n"
        if callable(value):
            yield f"```python\n{_signature(name, value)}\n```\n"
        yield _docstring(value) + "\n"
        if inspect.isclass(value):
            yield from _methods(value)


def _methods(owner: type) -> Iterator[str]:
    rows = []
    for name, value in vars(owner).items():
        plain = inspect.unwrap(value.__func__ if isinstance(value, classmethod | staticmethod) else value)
        if not name.startswith("_") and inspect.isfunction(plain):
            rows.append(f"| `{cell(_signature(name, plain))}` | {cell(_docstring(plain, whole=False))} |")
    if rows:
        yield "\n".join(["| method | |", "|---|---|", *rows]) + "\n"


def _signature(name: str, value: Any) -> str:
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return name
    shown = [
        each.replace(annotation=inspect.Parameter.empty, default=_plain(each.default))
        for each in found.parameters.values()
        if each.name not in {"self", "cls"}
    ]
    return f"{name}{found.replace(parameters=shown, return_annotation=inspect.Signature.empty)}"


class _Shown:
    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _plain(default: Any) -> Any:
    """A default without the addresses that change with each process."""
    text = repr(default)
    if default is inspect.Parameter.empty or not re.search(r" at 0x|<", text):
        return default
    return _Shown(getattr(default, "__name__", "…"))


def _docstring(value: Any, *, whole: bool = True) -> str:
    own = value.__doc__ if inspect.isclass(value) else inspect.getdoc(value)
    if not own or (dataclasses.is_dataclass(value) and own.startswith(f"{getattr(value, '__name__', '')}(")):
        return ""
    text = inspect.cleandoc(own)
    if not whole:
        return text.split("\n\n", 1)[0]
    # Sections of the docstring become lists: `name: text` lines below Args, Raises and the like.
    text = re.sub(r"^(Args|Attributes|Raises|Returns|Yields):$", r"**\1**\n", text, flags=re.MULTILINE)
    text = re.sub(r"^ {4}(\*{0,2}\w[\w., ]*):(?=\s)", r"- `\1`:", text, flags=re.MULTILINE)
    return re.sub(r"^ {4,}(?=\S)", "  ", text, flags=re.MULTILINE)


def wanted() -> dict[Path, str]:
    """Every generated file, by its path."""
    pages = {
        f"reference/resources/{each['spec']['names']['singular']}.md": resource(each) for each in definitions().values()
    }
    pages |= {"reference/phases.md": phases(), "reference/sdk.md": sdk()}
    pages |= {f"images/{name}.svg": picture for name, picture in pictures.all_of_them().items()}
    return {DOCS / name: text for name, text in pages.items()}


def main(arguments: list[str]) -> int:
    """Write what is stale, or say it."""
    files = wanted()
    found = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in arguments:
        for path in found:
            print(f"error: {path.relative_to(DOCS.parent)} is out of date: run `make reference`", file=sys.stderr)
        return 1 if found else 0
    for path in found:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path], encoding="utf-8")
        print(f"wrote {path.relative_to(DOCS.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
