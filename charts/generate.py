"""What the chart has from elsewhere: `make chart` writes it, `make check` sees whether it is fresh.

    python charts/generate.py [--check]

- templates/_access.tpl: rights and admission policy, from operator/levada/resources/access.py
- values.schema.json and README.md: from values.yaml, its defaults, comments and `@schema` lines
- files/dashboard.json: from dashboard.py
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from dashboard import dashboard

from levada.resources import access, names

CHART = Path(__file__).parent / "levada"
MARK = "@schema"


class Value(NamedTuple):
    """One entry of values.yaml. `schema` is what its `@schema` line says."""

    path: tuple[str, ...]
    default: Any
    text: str
    schema: dict[str, Any]

    @property
    def free(self) -> bool:
        """Whether what is below it is the user's own: no entry of values.yaml."""
        return not isinstance(self.default, dict) or bool(self.schema)


def values(path: Path = CHART / "values.yaml") -> list[Value]:
    """Every entry of the file, those that hold others too."""
    text = path.read_text(encoding="utf-8")
    root = yaml.compose(text, yaml.SafeLoader)
    return list(_entries(root, yaml.safe_load(text), text.splitlines(), ()))


def _entries(node: Any, default: Any, lines: list[str], path: tuple[str, ...]) -> Iterator[Value]:
    for key, below in node.value:
        name = key.value
        comment = _comment(lines, key.start_mark.line)
        said = [line.removeprefix(MARK) for line in comment if line.startswith(MARK)]
        text = " ".join(line for line in comment if not line.startswith(MARK))
        value = Value((*path, name), default[name], text, yaml.safe_load("".join(said)) or {})
        yield value
        if not value.free:
            yield from _entries(below, default[name], lines, value.path)


def _comment(lines: list[str], at: int) -> list[str]:
    """The lines of comment right above a line."""
    first = at
    while first > 0 and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return [line.lstrip().removeprefix("#").strip() for line in lines[first:at]]


TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def schema(entries: list[Value]) -> dict[str, Any]:
    """The JSON Schema of the values: what is not in values.yaml is refused."""
    root: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft-07/schema#",
        "type": "object",
        "additionalProperties": False,
        # What a parent chart shares with all its children.
        "properties": {"global": {"type": "object"}},
    }
    for value in entries:
        place = root
        for name in value.path[:-1]:
            place = place["properties"][name]
        own: dict[str, Any] = {"type": TYPES[type(value.default)]}
        if value.text:
            own["description"] = value.text
        if isinstance(value.default, dict):
            own |= {"additionalProperties": False} | ({} if value.free else {"properties": {}})
        place["properties"][value.path[-1]] = own | value.schema
    return root


def readme(entries: list[Value]) -> str:
    """The page of the chart: a table of the values."""
    lines = [
        "# levada",
        "",
        "The Helm chart. How to install it stands in [docs/howto/install.md](../../docs/howto/install.md). This page is generated from values.yaml by `make chart`.",
        "",
        "| value | default | |",
        "|---|---|---|",
    ]
    for value in entries:
        if value.free:
            default = json.dumps(value.default, ensure_ascii=False)
            cells = (f"`{'.'.join(value.path)}`", f"`{default}`", value.text)
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def access_template() -> str:
    """Rights and policy as named templates."""
    served = access.namespaced_manifests(["any"])[0]["rules"]
    parts = {
        "levada.rules.operator": served,
        "levada.rules.cluster": [rule for rule in access.cluster_manifests()[0]["rules"] if rule not in served],
        "levada.rules.leases": _role(access.operator_manifests())["rules"],
        "levada.rules.runner": _role(access.runner_manifests("any"))["rules"],
        "levada.people": [
            {
                "name": role["metadata"]["name"],
                "labels": {
                    key: value
                    for key, value in role["metadata"]["labels"].items()
                    if key.startswith(access.AGGREGATE_TO)
                },
                "rules": role["rules"],
            }
            for role in access.people_manifests()
        ],
        "levada.policy": access.policy_manifests(),
    }
    parts |= {f"levada.dashboard.rules.{name}": rules for name, rules in access.dashboard_rules().items()}
    account = f"system:serviceaccount:{names.OPERATOR_NAMESPACE}:{names.OPERATOR_SERVICE_ACCOUNT}"
    lines = ["{{/* Generated from operator/levada/resources/access.py by `make chart`: change the rights there. */}}\n"]
    for name, content in parts.items():
        text = yaml.safe_dump(content, sort_keys=False, width=1000)
        text = text.replace("{{", '{{ "{{" }}').replace(account, '{{ include "levada.user" . }}')
        lines.append(f'{{{{- define "{name}" -}}}}\n{text.rstrip()}\n{{{{- end }}}}\n')
    return "\n".join(lines)


def _role(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    return next(each for each in manifests if each["kind"] == "Role")


def wanted() -> dict[Path, str]:
    """Every generated file, by its path."""
    entries = values()
    return {
        CHART / "templates" / "_access.tpl": access_template(),
        CHART / "values.schema.json": json.dumps(schema(entries), indent=2, ensure_ascii=False) + "\n",
        CHART / "README.md": readme(entries),
        CHART / "files" / "dashboard.json": json.dumps(dashboard(), indent=2) + "\n",
    }


def stale(files: dict[Path, str]) -> list[Path]:
    """The files that are missing or differ."""
    return [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]


def main(arguments: list[str]) -> int:
    """Write what is stale, or say it."""
    files = wanted()
    found = stale(files)
    if "--check" in arguments:
        for path in found:
            print(f"error: {path.relative_to(CHART.parent.parent)} is out of date: run `make chart`", file=sys.stderr)
        return 1 if found else 0
    for path in found:
        path.write_text(files[path], encoding="utf-8")
        print(f"wrote {path.relative_to(CHART.parent.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
