"""The OpenAPI description of the API, made from the table of routes and the models. `python -m levada.dashboard.openapi` writes it."""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from pydantic.json_schema import JsonSchemaMode, models_json_schema

from levada.dashboard.models import Error
from levada.dashboard.models.common import Wire
from levada.dashboard.routes import PREFIX, ROUTES, Route

FILE: Final = Path(__file__).with_name("openapi.json")
_REFERENCE: Final = "#/components/schemas/{model}"
_REFUSALS: Final = {
    "401": "The viewer is not known: no token, or a wrong one.",
    "403": "The viewer lacks a right, which the message names; or a write lacks its CSRF token.",
    "404": "There is no such object.",
    "409": "The object has changed, or cannot do this any more.",
    "422": "The query or the order does not fit.",
    "503": "The API server does not answer; try again after retryAfterSeconds.",
}


def description() -> dict[str, Any]:
    """The whole description, as plain values."""
    refs, schemas = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(PREFIX + route.path, {})[route.method.lower()] = _operation(route, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Levada dashboard",
            "version": version("levada"),
            "description": "Reads of flows, runs and what belongs to them, and writes with the viewer's own rights.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                code: {"description": words, "content": {"application/json": {"schema": {"$ref": refs[Error]}}}}
                for code, words in _REFUSALS.items()
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "In mode token."}},
        },
        "security": [{}, {"token": []}],
    }


def text() -> str:
    """The description as openapi.json has it."""
    return json.dumps(description(), indent=1, ensure_ascii=False) + "\n"


def _schemas() -> tuple[dict[type[Wire], str], dict[str, Any]]:
    """References by model, and the schemas. Answers are described as they are written: every field is there."""
    wanted: dict[tuple[type[Wire], JsonSchemaMode], None] = {(Error, "serialization"): None}
    for route in ROUTES:
        for model in (route.answer, *route.events):
            if model is not None:
                wanted[model, "serialization"] = None
        if route.order is not None:
            wanted[route.order, "validation"] = None
    found, made = models_json_schema(list(wanted), by_alias=True, ref_template=_REFERENCE)
    references: dict[Any, str] = {model: str(said["$ref"]) for (model, _), said in found.items()}
    return references, dict(sorted(made["$defs"].items()))


def _operation(route: Route, refs: dict[type[Wire], str]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": [*_in_path(route), *_in_query(route)],
        "responses": {"200": _answer(route, refs)}
        | {code: {"$ref": f"#/components/responses/{code}"} for code in _REFUSALS},
    }
    if route.method != "GET":
        operation["parameters"].append(
            {"name": "X-Levada-CSRF", "in": "header", "required": True, "description": "csrfToken of the session.", "schema": {"type": "string"}}
        )  # fmt: skip
    if route.order is not None:
        schema = {"$ref": refs[route.order]}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _answer(route: Route, refs: dict[type[Wire], str]) -> dict[str, Any]:
    if route.events:
        schema: dict[str, Any] = {"oneOf": [{"$ref": refs[model]} for model in route.events]}
        return {"description": "Server-sent events.", "content": {"text/event-stream": {"schema": schema}}}
    if route.text:
        return {"description": "YAML.", "content": {"application/yaml": {"schema": {"type": "string"}}}}
    assert route.answer is not None
    return {"description": "Done.", "content": {"application/json": {"schema": {"$ref": refs[route.answer]}}}}


def _in_path(route: Route) -> list[dict[str, Any]]:
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in route.parameters]


def _in_query(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = route.query.model_json_schema(by_alias=True)
    definitions = schema.get("$defs", {})
    needed = schema.get("required", ())
    return [
        {
            "name": name,
            "in": "query",
            "required": name in needed,
            "description": each.get("description", ""),
            "schema": _inlined({key: value for key, value in each.items() if key not in {"title", "description"}}, definitions),
        }
        for name, each in schema["properties"].items()
    ]  # fmt: skip


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """A parameter's schema stands for itself."""
    if isinstance(schema, list):
        return [_inlined(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(value, definitions) for key, value in schema.items()}


def main(arguments: list[str]) -> int:
    """Write openapi.json; with --check only say whether it is as it should be."""
    wanted = text()
    if "--check" not in arguments:
        FILE.write_text(wanted, encoding="utf-8")
        return 0
    if FILE.is_file() and FILE.read_text(encoding="utf-8") == wanted:
        return 0
    sys.stderr.write(f"error: {FILE.name} is out of date: run `python -m levada.dashboard.openapi` and commit it\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
