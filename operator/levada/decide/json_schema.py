"""The part of JSON Schema that parameters need: enough to say at `kubectl apply` time what would fail at run time.

A keyword that is not known here is not judged: the runner validates with the flow's own types anyway, and a false alarm
would keep a right run from starting.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

Schema = Mapping[str, Any]
_MAX_DEPTH: Final = 20


def violations(
    value: Any, schema: Schema, path: str = "parameters", *, required: bool = True, depth: int = 0
) -> Iterator[str]:
    """Sentences about what does not fit. `required=False`: missing top-level properties may still be supplied by somebody."""
    if depth > _MAX_DEPTH or not isinstance(schema, Mapping) or "$ref" in schema:
        return
    yield from _type(value, schema, path)
    yield from _choices(value, schema, path, depth)
    yield from _bounds(value, schema, path)
    if isinstance(value, Mapping):
        yield from _object(value, schema, path, required=required, depth=depth)
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for index, item in enumerate(value):
            yield from violations(item, schema["items"], f"{path}[{index}]", depth=depth + 1)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: Final[dict[str, Callable[[Any], bool]]] = {
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": lambda value: _is_number(value) and float(value).is_integer(),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, Mapping),
    "null": lambda value: value is None,
}


def _type(value: Any, schema: Schema, path: str) -> Iterator[str]:
    wanted = schema.get("type")
    names = [wanted] if isinstance(wanted, str) else wanted if isinstance(wanted, list) else []
    if names and not any(_TYPES.get(name, lambda _: True)(value) for name in names):
        yield f"{path} must be {' or '.join(names)}, not {value!r:.80}"


def _choices(value: Any, schema: Schema, path: str, depth: int) -> Iterator[str]:
    if isinstance(schema.get("enum"), list) and value not in schema["enum"]:
        yield f"{path} must be one of {', '.join(map(repr, schema['enum']))}, not {value!r:.80}"
    if "const" in schema and value != schema["const"]:
        yield f"{path} must be {schema['const']!r}, not {value!r:.80}"
    branches = schema.get("anyOf")
    if isinstance(branches, list) and branches:
        found = [list(violations(value, branch, path, depth=depth + 1)) for branch in branches]
        if all(found):
            yield min(found, key=len)[0] if len(found) == 1 else f"{path} fits none of the allowed types: {value!r:.80}"


def _bounds(value: Any, schema: Schema, path: str) -> Iterator[str]:
    if _is_number(value):
        if _is_number(schema.get("minimum")) and value < schema["minimum"]:
            yield f"{path} must be at least {schema['minimum']}, not {value}"
        if _is_number(schema.get("maximum")) and value > schema["maximum"]:
            yield f"{path} must be at most {schema['maximum']}, not {value}"
    if isinstance(value, str):
        if isinstance(schema.get("minLength"), int) and len(value) < schema["minLength"]:
            yield f"{path} must have at least {schema['minLength']} characters"
        if isinstance(schema.get("maxLength"), int) and len(value) > schema["maxLength"]:
            yield f"{path} must have at most {schema['maxLength']} characters"
        if isinstance(schema.get("pattern"), str) and not _matches(schema["pattern"], value):
            yield f"{path} must match {schema['pattern']}, not {value!r:.80}"


def _matches(pattern: str, value: str) -> bool:
    # A pattern on a long value is where regular expressions run away; such a value is left to the runner.
    if len(value) > 256 or len(pattern) > 256:
        return True
    try:
        return re.search(pattern, value) is not None
    except re.error:
        return True


def _object(value: Mapping[str, Any], schema: Schema, path: str, *, required: bool, depth: int) -> Iterator[str]:
    properties = schema.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    needed = schema.get("required")
    if required and isinstance(needed, list):
        for name in needed:
            if name not in value:
                yield f"{path} lack {name!r}" if path == "parameters" else f"{path} lacks {name!r}"
    for name, item in value.items():
        if name in properties:
            yield from violations(item, properties[name], f"{path}.{name}", depth=depth + 1)
        elif schema.get("additionalProperties") is False:
            known = ", ".join(map(str, properties)) or "none"
            yield f"{path} have no {name!r} (known: {known})"
