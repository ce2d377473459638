"""The structural schemas: what the API server wants, and nothing of the models lost."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from levada.resources.crds import schema_of
from levada.resources.kinds import LEVADA_KINDS
from levada.resources.schema import PRESERVE, SchemaError, structural, walk, without_defaults

KEYWORDS = {
    "description", "type", "format", "enum", "default", "pattern", "required", "properties", "items",
    "additionalProperties", "nullable", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength",
    "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "anyOf",
}  # fmt: skip
PARTS = [
    pytest.param(f"{kind.kind}.{path}", part, id=f"{kind.kind}.{path}")
    for kind in LEVADA_KINDS
    for path, part in walk(schema_of(kind))
    if path.split(".")[0] not in {"metadata", "apiVersion", "kind"}
]


class Inner(BaseModel):
    """Inner's own words."""

    number: int = 1


class Sample(BaseModel):
    inner: Inner = Field(description="the field's words")
    maybe: Inner | None = None
    free: dict[str, Any] = Field(default_factory=dict)
    anything: Any = None
    strings: dict[str, str] = Field(default_factory=dict)
    choice: Literal["a", "b"] = "a"
    one: Literal["only"] = "only"
    above: int = Field(gt=0)
    below: float = Field(lt=2.5)


@pytest.fixture
def sample():
    return structural(Sample)["properties"]


def test_a_reference_is_inlined_and_the_fields_own_words_win(sample):
    assert sample["inner"] == {
        "description": "the field's words",
        "type": "object",
        "properties": {"number": {"type": "integer", "default": 1}},
    }


def test_an_optional_field_has_no_null_branch_and_no_null_default(sample):
    assert sample["maybe"] == {
        "description": "Inner's own words.",
        "type": "object",
        "properties": {"number": {"type": "integer", "default": 1}},
    }


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("free", {"type": "object", PRESERVE: True}),
        ("anything", {PRESERVE: True}),
        ("strings", {"type": "object", "additionalProperties": {"type": "string"}}),
        ("choice", {"type": "string", "enum": ["a", "b"], "default": "a"}),
        ("one", {"type": "string", "enum": ["only"], "default": "only"}),
        ("above", {"type": "integer", "minimum": 0, "exclusiveMinimum": True}),
        ("below", {"type": "number", "maximum": 2.5, "exclusiveMaximum": True}),
    ],
)
def test_what_pydantic_says_otherwise(sample, field, expected):
    assert sample[field] == expected


class TwoTypes(BaseModel):
    value: int | str


class Pair(BaseModel):
    value: tuple[int, str]


class Multiple(BaseModel):
    value: Annotated[int, Field(multiple_of=5)]


@pytest.mark.parametrize("model", [TwoTypes, Pair, Multiple])
def test_what_a_structural_schema_cannot_say_is_an_error_that_names_the_place(model):
    with pytest.raises(SchemaError, match=rf"{model.__name__}\.value"):
        structural(model)


def test_a_status_has_no_defaults_at_any_depth():
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer", "default": 1}}}}
    assert without_defaults(schema)["properties"]["a"]["items"] == {"type": "integer"}


@pytest.mark.parametrize(("path", "part"), PARTS)
def test_each_part_is_structural(path, part):
    unknown = {key for key in part if key not in KEYWORDS and not key.startswith("x-kubernetes-")}
    assert not unknown
    assert isinstance(part.get("exclusiveMinimum", False), bool)
    assert part.get("default", ...) is not None
    assert "type" in part or part.get(PRESERVE) or part.get("x-kubernetes-int-or-string")
    assert part.get("type") != "null"
    if "anyOf" in part:
        assert part["x-kubernetes-int-or-string"]


@pytest.mark.parametrize(("path", "part"), PARTS)
def test_each_part_is_bounded(path, part):
    match part.get("type"):
        case "string":
            assert "enum" in part or part.get("maxLength", 0) > 0
        case "array":
            assert part["maxItems"] > 0
            assert part["items"]
        case "object":
            assert part.get("properties") or part.get("maxProperties", 0) > 0 or path.endswith(".status")
        case None:
            assert part.get("maxLength", 0) > 0 or path.endswith("parameters{}")


@pytest.mark.parametrize(("path", "part"), PARTS)
def test_each_named_field_is_described(path, part):
    if not path.endswith(("[]", "{}")):
        assert len(part["description"]) > 4


@pytest.mark.parametrize("kind", LEVADA_KINDS, ids=lambda kind: kind.kind)
def test_free_maps_of_users_keep_unknown_fields(kind):
    free = [part for _, part in walk(schema_of(kind)) if part.get(PRESERVE)]
    assert all("properties" not in part for part in free)
    closed = [path for path, part in walk(schema_of(kind)) if part.get("type") == "object" and len(part) == 1]
    assert closed == []
