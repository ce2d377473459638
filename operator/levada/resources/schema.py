"""pydantic's JSON Schema -> the structural schema that the API server wants.

What differs: no `$ref`, no null branch of an optional field, `exclusiveMinimum` is a flag, a free map must ask to keep
unknown fields (or the server prunes the user's data in silence). A keyword that this module does not know is an error,
so that no rule of a model is lost on the way. Same input, same output: nothing depends on the order of sets or on time.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel

JsonSchema = dict[str, Any]

# Taken over as they stand.
PLAIN: Final = frozenset(
    {
        "type",
        "description",
        "format",
        "pattern",
        "enum",
        "required",
        "default",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "nullable",
    }
)
DROPPED: Final = frozenset({"title", "$defs", "$ref", "additionalProperties"})
PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
INT_OR_STRING: Final = "x-kubernetes-int-or-string"
# The order in which a reader wants them; anything else follows by name.
ORDER: Final = ("description", "type", "format", "enum", "default", "pattern", "required", "properties")


class SchemaError(ValueError):
    """A model says something that a structural schema cannot."""


def structural(model: type[BaseModel]) -> JsonSchema:
    """The structural schema of a model.

    Raises:
        SchemaError: the model uses what a structural schema cannot say; the text names the place.
    """
    raw = model.model_json_schema(by_alias=True, mode="validation")
    return _convert(raw, raw.get("$defs", {}), model.__name__)


def without_defaults(schema: JsonSchema) -> JsonSchema:
    """The same schema with no default in it, for a status: who writes one writes it in full."""
    result = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in result:
        result["properties"] = {name: without_defaults(part) for name, part in result["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(result.get(key), dict):
            result[key] = without_defaults(result[key])
    return result


def walk(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema in a structural schema with its path, as `spec.tags[]` and `status.tasks{}.name`."""
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from walk(part, f"{path}.{name}" if path else name)
    if isinstance(schema.get("items"), dict):
        yield from walk(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from walk(schema["additionalProperties"], f"{path}{{}}")


def _convert(raw: JsonSchema, definitions: JsonSchema, path: str) -> JsonSchema:
    """One schema and everything below it."""
    raw = _resolve(raw, definitions, path)
    result: JsonSchema = {}
    for key, value in raw.items():
        if key in PLAIN or key.startswith("x-kubernetes-"):
            result[key] = value
        elif key == "const":
            result["enum"] = [value]
        elif key == "properties":
            result[key] = {name: _convert(part, definitions, f"{path}.{name}") for name, part in value.items()}
        elif key == "items":
            result[key] = _convert(value, definitions, f"{path}[]")
        elif key in {"exclusiveMinimum", "exclusiveMaximum"}:
            result["minimum" if key == "exclusiveMinimum" else "maximum"] = value
            result[key] = True
        elif key == "anyOf" and raw.get(INT_OR_STRING):
            result[key] = value
        elif key not in DROPPED:
            raise SchemaError(f"{path}: a structural schema cannot say {key!r}: change the model")
    result |= _free_part(raw, definitions, path)
    if result.get("default", ...) is None:
        del result["default"]
    return _in_order(result)


def _free_part(raw: JsonSchema, definitions: JsonSchema, path: str) -> JsonSchema:
    """How the schema speaks of keys that it does not list."""
    extra = raw.get("additionalProperties")
    if isinstance(extra, dict) and extra:
        return {"additionalProperties": _convert(extra, definitions, f"{path}{{}}")}
    is_free_map = raw.get("type") == "object" and "properties" not in raw and extra is not False
    is_anything = "type" not in raw and INT_OR_STRING not in raw
    return {PRESERVE: True} if is_free_map or is_anything else {}


def _resolve(raw: JsonSchema, definitions: JsonSchema, path: str) -> JsonSchema:
    """The schema with its reference inlined and the null branch of an optional value gone.

    What stands beside the reference (a field's own description) wins over what stands behind it.
    """
    if "anyOf" in raw and not raw.get(INT_OR_STRING):
        branches = [branch for branch in raw["anyOf"] if branch.get("type") != "null"]
        if len(branches) != 1:
            raise SchemaError(
                f"{path}: a structural schema has one type for a field, not {len(branches)}: change the model"
            )
        beside = {key: value for key, value in raw.items() if key != "anyOf"}
        return _resolve(branches[0] | beside, definitions, path)
    if "$ref" in raw:
        behind = definitions[raw["$ref"].rsplit("/", 1)[-1]]
        beside = {key: value for key, value in raw.items() if key != "$ref"}
        return _resolve(behind | beside, definitions, path)
    return raw


def _in_order(schema: JsonSchema) -> JsonSchema:
    """The same keywords in the order of ORDER, then by name."""
    known = {key: schema[key] for key in ORDER if key in schema}
    return known | {key: schema[key] for key in sorted(schema) if key not in known}
