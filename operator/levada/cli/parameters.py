"""Parameters on the command line: `-p name=value`, each value read as YAML 1.2 reads a scalar.

Not as PyYAML does: there `no` is false, 12:30 is 750, and 2019-01-05 a date that no JSON can hold. Here only true,
false, null and decimal numbers are more than text; `[1, 2]` and `{a: 1}` are lists and maps of the same.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import yaml


class ParameterSyntaxError(ValueError):
    """A -p cannot be read; the text says which and what it should look like."""


class _CoreLoader(yaml.SafeLoader):
    """Reads scalars by YAML 1.2's core schema, less what JSON cannot hold."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - the base class has it as a class attribute


_RESOLVERS: Final = (
    ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    # 007 stays text: it is a code, not a number.
    ("tag:yaml.org,2002:int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$",
        "-+.0123456789",
    ),
)
for _tag, _pattern, _first in _RESOLVERS:
    _CoreLoader.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))


def parse_parameters(given: Sequence[str]) -> dict[str, Any]:
    """The parameters of `-p name=value`, as JSON can hold them.

    Raises:
        ParameterSyntaxError: one is no name=value, its value is no YAML, or a name is given twice.
    """
    parameters: dict[str, Any] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if not equals or not name.isidentifier():
            raise ParameterSyntaxError(
                f"-p {each!r} is not name=value with the name of a parameter, for example -p date=2019-01-05"
            )
        if name in parameters:
            raise ParameterSyntaxError(f"parameter {name!r} is given twice")
        parameters[name] = parse_value(name, text)
    return parameters


def parse_value(name: str, text: str) -> Any:
    """One value."""
    try:
        return yaml.load(text, _CoreLoader) if text else ""  # noqa: S506 - derives from SafeLoader
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "it is no YAML"
        raise ParameterSyntaxError(
            f"the value of -p {name}={text} cannot be read as YAML ({problem}): put it in quotes to give it as text, for example -p '{name}=\"{text}\"'"
        ) from error
