"""What -p makes of what people type."""

import json

import pytest

from levada.cli.parameters import ParameterSyntaxError, parse_parameters


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
