"""Templates in parameters: `{{ scheduled_time - days(1) | date }}`. A language of four rules, read and computed here; nothing is evaluated.

    template    "{{" sum ("|" filter)* "}}"
    sum         value (("+" | "-") span)*
    value       a name of the context, or a "text" in quotes
    span        days(1), hours(6), …: whole numbers; months and years keep the day where the month has it
    filter      date, time, iso, timestamp, int, format("%Y-%m"), start_of("month"), in_zone("Europe/Lisbon")

Arithmetic is on the clock of the wall: `scheduled_time - days(1)` is the same time of day, also across a change of the clocks; hours
and shorter are time that has passed. A value that is one whole template keeps the type of what it gives; inside a longer
text it becomes text. Times become RFC 3339 with the zone's offset.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NoReturn

from dateutil.relativedelta import relativedelta

from levada.exceptions import ScheduleError
from levada.ticks import instant_of, zone_of

MAX_RESULT_CHARS: Final = 16_384
_TEMPLATE: Final = re.compile(r"\{\{((?:[^\"'{}]|\"[^\"]*\"|'[^']*')*)\}\}")
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<number>\d+)|(?P<text>\"[^\"]*\"|'[^']*')|(?P<sign>[-+|()]))"
)
_SPANS: Final = ("seconds", "minutes", "hours", "days", "weeks", "months", "years")
_PASSED: Final = frozenset({"seconds", "minutes", "hours"})
_UNITS: Final = {
    "minute": {"second": 0, "microsecond": 0},
    "hour": {"minute": 0, "second": 0, "microsecond": 0},
    "day": {"hour": 0, "minute": 0, "second": 0, "microsecond": 0},
    "month": {"day": 1, "hour": 0, "minute": 0, "second": 0, "microsecond": 0},
    "year": {"month": 1, "day": 1, "hour": 0, "minute": 0, "second": 0, "microsecond": 0},
}


class TemplateError(ValueError):
    """A template means nothing. The message says which one, and what would."""


def render(parameters: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with their templates filled in, at any depth of lists and maps; keys stay as they are.

    Args:
        parameters: as the user wrote them.
        context: texts, numbers and aware datetimes by name; a datetime's own zone is the one that it is shown in.

    Raises:
        TemplateError: a template cannot be read, names what the context has not, or gives more than 16,384 characters.
    """
    return {key: _render(value, context) for key, value in parameters.items()}


def _render(value: Any, context: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        return _render_text(value, context)
    if isinstance(value, Mapping):
        return {key: _render(each, context) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_render(each, context) for each in value]
    return value


def _render_text(text: str, context: Mapping[str, Any]) -> Any:
    if "{{" not in text:
        return text
    if "{{" in _TEMPLATE.sub("", text):
        raise TemplateError(
            f"{_short(text)}: a template that begins with {{{{ ends with }}}}, and has no braces inside"
        )
    whole = _TEMPLATE.fullmatch(text.strip())
    if whole is not None:
        return _plain(_Reading(whole[1], context).value())
    filled = _TEMPLATE.sub(lambda match: str(_plain(_Reading(match[1], context).value())), text)
    if len(filled) > MAX_RESULT_CHARS:
        raise TemplateError(f"{_short(text)}: gives {len(filled)} characters; {MAX_RESULT_CHARS} are possible")
    return filled


def _plain(value: Any) -> Any:
    """As JSON has it."""
    return value.isoformat() if isinstance(value, date) else value


class _Reading:
    """One template, read from left to right and computed on the way."""

    def __init__(self, source: str, context: Mapping[str, Any]) -> None:
        self._source = source.strip()
        self._context = context
        self._tokens = self._split(self._source)
        self._at = 0

    def value(self) -> Any:
        value = self._sum()
        while self._take("|"):
            value = self._filter(value)
        if self._at < len(self._tokens):
            self._fail(f"{self._tokens[self._at]!r} is not expected here")
        return value

    def _split(self, source: str) -> list[str]:
        tokens, at = [], 0
        while at < len(source):
            match = _TOKEN.match(source, at)
            if match is None:
                self._fail(f"{source[at]!r} means nothing here")
            tokens.append(match[0].strip())
            at = match.end()
        return tokens

    def _sum(self) -> Any:
        value = self._operand()
        while (sign := self._take("+") or self._take("-")) is not None:
            value = self._shift(value, sign)
        return value

    def _operand(self) -> Any:
        token = self._next("a name")
        if token[0] in "\"'":
            return token[1:-1]
        if token not in self._context:
            known = ", ".join(sorted(self._context))
            spans = " (a span such as days(1) follows a + or -)" if token in _SPANS else ""
            self._fail(f"{token!r} is no known name{spans}; known are: {known}")
        return self._context[token]

    def _shift(self, value: Any, sign: str) -> datetime:
        unit = self._next("a span such as days(1)")
        if unit not in _SPANS:
            self._fail(f"{unit!r} is no span; there are {', '.join(f'{each}(n)' for each in _SPANS)}")
        amount = self._argument(unit)
        if not isinstance(value, datetime):
            self._fail(f"{unit} can be added only to a time, not to {value!r}")
        if not isinstance(amount, int):
            self._fail(f"{unit} takes a whole number")
        try:
            return shifted(value, unit, -amount if sign == "-" else amount)
        except (OverflowError, ValueError):
            self._fail(f"{unit}({amount}) leads out of the calendar")

    def _argument(self, of: str) -> int | str:
        if not self._take("("):
            self._fail(f"{of} takes an argument in brackets")
        token = self._next("an argument")
        if token.isdecimal():
            found: int | str = int(token)
        elif token[0] in "\"'":
            found = token[1:-1]
        else:
            self._fail(f"{of} takes a number or a text in quotes, not {token!r}")
        if not self._take(")"):
            self._fail(f"a bracket of {of} is not closed")
        return found

    def _filter(self, value: Any) -> Any:
        name = self._next("a filter")
        if name not in FILTERS:
            self._fail(f"{name!r} is no filter; there are {', '.join(sorted(FILTERS))}")
        takes, apply = FILTERS[name]
        argument = self._argument(name) if takes else None
        try:
            return apply(value, argument)
        except (ValueError, ScheduleError, TypeError, AttributeError, KeyError) as error:
            self._fail(f"the filter {name} cannot be applied to {_plain(value)!r}: {error}")

    def _next(self, wanted: str) -> str:
        if self._at == len(self._tokens):
            self._fail(f"{wanted} is missing at the end")
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, token: str) -> str | None:
        if self._at < len(self._tokens) and self._tokens[self._at] == token:
            self._at += 1
            return token
        return None

    def _fail(self, why: str) -> NoReturn:
        raise TemplateError(f"{_short('{{ ' + self._source + ' }}')}: {why}")


def shifted(moment: datetime, unit: str, amount: int) -> datetime:
    """The moment so many units later. Days and longer keep the time on the wall, as ticks do."""
    if unit in _PASSED:
        return (moment.astimezone(UTC) + timedelta(**{unit: amount})).astimezone(moment.tzinfo)
    return _on_the_wall(moment, moment.replace(tzinfo=None) + relativedelta(**{unit: amount}))  # type: ignore[arg-type]


def _on_the_wall(moment: datetime, wall: datetime) -> datetime:
    zone = moment.tzinfo or UTC
    return instant_of(wall, zone).astimezone(zone)


def _time_of(value: Any) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError("it is no time")
    return value


def _start_of(value: Any, unit: Any) -> datetime:
    moment = _time_of(value)
    if unit == "week":  # as ISO 8601 has it: Monday
        moment = shifted(moment, "days", -moment.weekday())
        unit = "day"
    if unit not in _UNITS:
        raise ValueError(f"{unit!r} is no unit; there are week, {', '.join(_UNITS)}")
    return _on_the_wall(moment, moment.replace(tzinfo=None, **_UNITS[unit]))


FILTERS: Final[dict[str, tuple[bool, Callable[[Any, Any], Any]]]] = {
    "date": (False, lambda value, _: _time_of(value).date()),
    "time": (False, lambda value, _: _time_of(value).strftime("%H:%M:%S")),
    "iso": (False, lambda value, _: _time_of(value).isoformat()),
    "timestamp": (False, lambda value, _: int(_time_of(value).timestamp())),
    "int": (False, lambda value, _: int(value)),
    "format": (True, lambda value, form: _time_of(value).strftime(str(form))[:MAX_RESULT_CHARS]),
    "start_of": (True, _start_of),
    "in_zone": (True, lambda value, zone: _time_of(value).astimezone(zone_of(zone))),
}


def _short(text: str, limit: int = 120) -> str:
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
