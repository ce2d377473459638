"""Specs that set every field of a kind, made from its schema. Fields that exclude each other take turns: a kind has several variants.

`whole_specs(kind)` gives the variants, `paths` says which fields a schema or a spec has, so that a test can see that none was left out.
"""

import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

from levada.resources.crds import schema_of
from levada.resources.kinds import Kind
from levada.resources.schema import walk

# Values that the type of a field cannot tell, by the end of its path. A new field with a pattern needs a line here.
HINTS: dict[str, Any] = {
    "entrypoint": "flow.py:main",
    "source.s3.bucket": "flow-code",
    "source.s3.endpointUrl": "http://minio:9000",
    "source.s3.path": "etl/code.zip",
    "source.s3.sha256": "a" * 64,
    "source.git.url": "https://git.example.com/etl.git",
    "source.git.commit": "a" * 40,
    "storage": "s3://bucket/prefix",
    "workQueue": "team",
    "cron": "0 6 * * *",
    "rrule": "FREQ=DAILY",
    "startTime": "2026-01-01T00:00:00Z",
    "endTime": "2026-01-02T00:00:00Z",
    "timeZone": "Europe/Lisbon",
    "allowOverrides[]": "image",
    "onReasons[]": "OOMKilled",
    "delaySeconds": 1,
    "maxDelaySeconds": 2,
    "notifications[].name": "team-slack",
    "fates": "",
}
_CHOICE = re.compile(r"has\(self\.(\w+)\)")
_TURNS = 64


def whole_specs(kind: Kind) -> list[dict[str, Any]]:
    """The variants."""
    schema = schema_of(kind)["properties"]["spec"]
    seen: set[str] = set()
    kept = []
    for turn in range(_TURNS):
        spec = _tidied(_value(schema, "", turn))
        found = set(paths(spec, schema))
        if found - seen:  # those that show nothing new are only more work for the API server
            kept.append(spec)
            seen |= found
    return kept or [{}]


def schema_paths(kind: Kind) -> set[str]:
    """Every field that a spec of the kind can have."""
    return {path for path, _ in walk(schema_of(kind)["properties"]["spec"]) if path and not path.endswith("{}")}


def paths(value: Any, schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The fields that a value sets, in the terms of `schema_paths`."""
    if path:
        yield path
    for name, part in schema.get("properties", {}).items():
        if isinstance(value, Mapping) and name in value:
            yield from paths(value[name], part, f"{path}.{name}" if path else name)
    if isinstance(schema.get("items"), Mapping):
        for each in value:
            yield from paths(each, schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), Mapping):
        for each in value.values():
            yield from paths(each, schema["additionalProperties"], f"{path}{{}}")


def _value(schema: Mapping[str, Any], path: str, turn: int) -> Any:
    hint = next((value for end, value in HINTS.items() if path == end or path.endswith(f".{end}")), None)
    if hint is not None:
        return hint
    if "enum" in schema:
        return schema["enum"][turn % len(schema["enum"])]
    if "properties" in schema:
        return _object(schema, path, turn)
    match schema.get("type"):
        case "array":
            return _items(schema, path, turn)
        case "object" if isinstance(schema.get("additionalProperties"), Mapping):
            return {"key": _value(schema["additionalProperties"], f"{path}{{}}", turn)}
        case "object":
            return {"free": {"deep": [1, {"er": "x"}]}}
        case "boolean":
            return True
        case "integer":
            return int(max(1, schema.get("minimum", 1)))
        case "number":
            return 0.5
        case "string" if schema.get("format") == "date-time":
            return "2026-01-01T00:00:00Z"
        case "string":
            return "x" * max(3, schema.get("minLength", 0))
    return 1  # an amount, or anything


def _object(schema: Mapping[str, Any], path: str, turn: int) -> dict[str, Any]:
    left_out: set[str] = set()
    for rule in schema.get("x-kubernetes-validations", ()):
        if "exists_one" in rule["rule"] or ".filter(given, given)" in rule["rule"]:
            choices = _CHOICE.findall(rule["rule"])
            # Each choice has an order of its own: in step, an inner one would always meet the same outer one.
            left_out |= set(choices) - {random.Random(f"{path} {turn}").choice(choices)}
    return {
        name: _value(part, f"{path}.{name}" if path else name, turn)
        for name, part in schema["properties"].items()
        if name not in left_out
    }


def _items(schema: Mapping[str, Any], path: str, turn: int) -> list[Any]:
    """One item; where items have names, several, so that the choices inside of them take turns too."""
    if schema.get("x-kubernetes-list-map-keys") != ["name"]:
        return [_value(schema["items"], f"{path}[]", turn)]
    made = [_value(schema["items"], f"{path}[]", turn + at) for at in range(2)]
    return [each | {"name": f"{each['name']}-{at}"} for at, each in enumerate(made)]


def _tidied(spec: Any) -> Any:
    """What goes only together, or only apart, by rules that are no choice of one."""
    if isinstance(spec, list):
        return [_tidied(each) for each in spec]
    if not isinstance(spec, dict):
        return spec
    if {"value", "valueFrom"} <= set(spec):
        del spec["value" if spec["name"].endswith("0") else "valueFrom"]
    if "valueFrom" in spec:
        spec["valueFrom"] = {"secretKeyRef": {"name": "s", "key": "k"}}
    if "requirementsFile" in spec and "inline" in spec["source"]:
        del spec["requirementsFile"]
    if "anchor" in spec and "intervalSeconds" not in spec:
        del spec["anchor"]
    return {key: _tidied(each) for key, each in spec.items()}
