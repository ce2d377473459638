"""The part of JSON Schema that parameters need."""

import pytest

from levada.decide.json_schema import violations

SCHEMA = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "minimum": 1, "maximum": 9},
        "mode": {"enum": ["fast", "slow"]},
        "names": {"type": "array", "items": {"type": "string", "minLength": 1}},
        "when": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "code": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3},
        "deep": {"type": "object", "properties": {"x": {"type": "number"}}, "additionalProperties": False},
        "other": {"$ref": "#/$defs/Other"},
        "c": {"const": 1},
    },
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"n": 1}, []),
        ({"n": 2.0}, []),
        ({"n": True}, ["parameters.n must be integer, not True"]),
        ({"n": 0}, ["at least 1"]),
        ({"n": 10}, ["at most 9"]),
        ({}, ["parameters lack 'n'"]),
        ({"n": 1, "x": 1}, ["have no 'x' (known: n, mode"]),
        ({"n": 1, "mode": "odd"}, ["one of 'fast', 'slow'"]),
        ({"n": 1, "names": ["a", ""]}, ["parameters.names[1] must have at least 1"]),
        ({"n": 1, "names": ["a", 2]}, ["parameters.names[1] must be string"]),
        ({"n": 1, "when": None}, []),
        ({"n": 1, "when": 3}, ["fits none of the allowed types"]),
        ({"n": 1, "code": "ABC"}, ["must match"]),
        ({"n": 1, "code": "abcd"}, ["at most 3 characters"]),
        ({"n": 1, "deep": {"x": "1"}}, ["parameters.deep.x must be number"]),
        ({"n": 1, "deep": {"y": 1}}, ["parameters.deep have no 'y'"]),
        ({"n": 1, "other": object()}, []),
        ({"n": 1, "c": 2}, ["must be 1"]),
    ],
)
def test_violations(value, words):
    found = list(violations(value, SCHEMA))
    assert len(found) == len(words), found
    assert all(word in sentence for word, sentence in zip(words, found, strict=True))


def test_what_a_run_may_still_supply_is_not_missing():
    assert list(violations({}, SCHEMA, required=False)) == []


@pytest.mark.parametrize(
    "odd", [{"type": 3}, {"properties": 1}, {"required": 3}, {"items": []}, {"anyOf": {}}, {"pattern": "("}]
)
def test_an_odd_schema_is_not_the_parameters_fault(odd):
    list(violations({"a": "x"}, odd))
    list(violations("x", odd))
