"""What -p makes of what people type."""

import datetime as dt
import json
from typing import Annotated, Any, Literal

import pydantic
import pytest

from levada import flow
from levada._parameter_schema import schema_of
from levada.cli.parameters import ParameterSyntaxError, parse_parameters, value_by, value_for


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-3", -3),
        ("0", 0),
        ("007", "007"),
        ("1_000", "1_000"),
        ("0x1f", "0x1f"),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1.10.2", "1.10.2"),
        (".nan", ".nan"),
        (".inf", ".inf"),
        ("true", True),
        ("false", False),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("null", None),
        ("~", None),
        ("", ""),
        ("12:30", "12:30"),
        ("2019-01-05", "2019-01-05"),
        ("2019-01-05T10:00:00Z", "2019-01-05T10:00:00Z"),
        ("'5'", "5"),
        ('"true"', "true"),
        ("hello world", "hello world"),
        ("a=b", "a=b"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("[1, two, null]", [1, "two", None]),
        ("{a: 1, b: [2019-01-05]}", {"a": 1, "b": ["2019-01-05"]}),
        ("é", "é"),
    ],
)
def test_values(text, value):
    found = parse_parameters([f"x={text}"])["x"]
    assert found == value
    assert type(found) is type(value)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["x"], "'x' is not name=value"),
        (["=5"], "'=5' is not name=value"),
        (["a-b=5"], "is not name=value with the name of a parameter"),
        (["x=1", "x=2"], "'x' is given twice"),
        (["x=[1, 2"], "-p x=[1, 2 cannot be read as YAML"),
        (["x={a"], "put it in quotes"),
        (["x=!!python/object:os.system ls"], "cannot be read as YAML"),
        (["x=a: b: c"], "cannot be read as YAML"),
    ],
)
def test_what_cannot_be_read_is_named(given, said):
    with pytest.raises(ParameterSyntaxError) as caught:
        parse_parameters(given)
    assert said in str(caught.value)


def test_no_parameters():
    assert parse_parameters([]) == {}


FITTING = [
    (str, "12345", "12345"),
    (str, "null", "null"),
    (str, "'a'", "a"),
    (str, "[1, 2]", "[1, 2]"),
    (str, "", ""),
    (str | None, "null", None),
    (str | None, "1.10", "1.10"),
    (int | str, "5", 5),
    (int | str, "1.10", "1.10"),
    (int, "5", 5),
    (int, "often", "often"),
    (list[int], "[1, 2]", [1, 2]),
    (list[str], "[1, 2]", [1, 2]),
    (Literal["1", "2"], "1", "1"),
    (bool, "true", True),
    (Annotated[str, pydantic.Field(max_length=9)], "5", "5"),
]


@pytest.mark.parametrize(("annotation", "text", "value"), FITTING)
def test_values_are_what_the_flow_takes(annotation, text, value):
    def takes(x: annotation, y: int): ...

    for read in (value_for(flow(takes)), value_by(schema_of(flow(takes)))):
        found = read("x", text)
        assert (found, type(found)) == (value, type(value))


def test_values_of_parameters_without_a_type():
    @flow
    def free(x, when: dt.date, anything: Any = None, **more: str): ...

    for read in (value_for(free), value_by(schema_of(free)), value_by({})):
        assert read("x", "5") == read("more", "5") == read("unknown", "5") == read("anything", "5") == 5
        assert read("when", "2025-01-31") == "2025-01-31"
        with pytest.raises(ParameterSyntaxError):
            read("x", "a: b: c")


def test_a_validator_of_the_user_that_raises_takes_nothing():
    def refuse(value):
        raise RuntimeError

    @flow
    def picky(x: Annotated[int, pydantic.BeforeValidator(refuse)]): ...

    assert value_for(picky)("x", "5") == 5
