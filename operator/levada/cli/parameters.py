"""Parameters on the command line: `-p name=value`, each value read as YAML 1.2 reads a scalar.

Where a flow takes text and not what YAML reads, the value is the text as it was typed.

Not as PyYAML does: there `no` is false, 12:30 is 750, and 2019-01-05 a date that no JSON can hold. Here only true,
false, null and decimal numbers are more than text; `[1, 2]` and `{a: 1}` are lists and maps of the same.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from levada.flows import Flow

_JUDGED: Final = frozenset({"type", "enum", "const", "anyOf", "oneOf", "allOf"})
TEMPLATE_HINT: Final = "templates such as {{ scheduled_time | date }} work in the parameters of Schedules and Backfills only: give a run the value itself"
Takes = Callable[[str, Any], bool | None]
"""Whether the parameter of that name takes a value; None if nobody can tell."""


class ParameterSyntaxError(ValueError):
    """A -p cannot be read; the text says which and what it should look like.

    Args:
        cause: what is wrong.
        fix: what to do, if that is no part of the cause.
    """

    def __init__(self, cause: str, fix: str = "") -> None:
        super().__init__(f"{cause}: {fix}" if fix else cause)
        self.cause = cause


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


def parse_parameters(given: Sequence[str], value_of: Callable[[str, str], Any] | None = None) -> dict[str, Any]:
    """The parameters of `-p name=value`, as JSON can hold them.

    Args:
        given: what was typed.
        value_of: makes the value, from name and text; `parse_value` without it.

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
        parameters[name] = (value_of or parse_value)(name, text)
    return parameters


def template_hint(given: Any) -> str:
    """What to do with a template, where none is filled in; empty if there is none in a text, or in values at any depth."""
    if isinstance(given, Mapping):
        return next((hint for value in given.values() if (hint := template_hint(value))), "")
    if isinstance(given, list):
        return template_hint(dict(enumerate(given)))
    return TEMPLATE_HINT if isinstance(given, str) and "{{" in given else ""


def parse_value(name: str, text: str) -> Any:
    """One value."""
    try:
        return yaml.load(text, _CoreLoader) if text else ""  # noqa: S506 - derives from SafeLoader
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "it is no YAML"
        fix = f"put it in quotes to give it as text, for example -p '{name}=\"{text}\"'"
        raise ParameterSyntaxError(f"the value of -p {name}={text} cannot be read as YAML ({problem})", fix) from error


def value_for(flow: "Flow[..., Any]") -> Callable[[str, str], Any]:
    """How values for a flow are read: as its annotations want them."""
    from levada._parameter_schema import takes

    return lambda name, text: fitting_value(name, text, lambda name, value: takes(flow, name, value))


def value_by(schema: Mapping[str, Any]) -> Callable[[str, str], Any]:
    """How values are read for a flow of which there is a schema of the parameters."""
    from levada.decide.json_schema import violations

    properties = schema.get("properties") or {}

    def takes(name: str, value: Any) -> bool | None:
        known = properties.get(name) or {}
        return next(violations(value, known), None) is None if _JUDGED & set(known) else None

    return lambda name, text: fitting_value(name, text, takes)


def fitting_value(name: str, text: str, takes: Takes) -> Any:
    """The text as YAML reads it, or as it was typed, if the parameter takes only that. Quotes are YAML's in any case.

    Raises:
        ParameterSyntaxError: it is no YAML, and the parameter does not take the text.
    """
    try:
        value = parse_value(name, text)
    except ParameterSyntaxError:
        if takes(name, text):
            return text
        raise
    if isinstance(value, str):
        is_quoted = text.strip()[:1] in {"'", '"'}
        return text if not is_quoted and takes(name, text) else value
    return text if takes(name, value) is False and takes(name, text) else value
