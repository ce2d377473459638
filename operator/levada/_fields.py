"""The fields of a block: read from the annotations of its class, checked without pydantic, written as JSON and back.

    class Bucket(Block):
        name: str
        region: str = "eu-central-1"
        key: SecretStr | None = None

A stored block is a `Stored`: plain JSON values, and the secret texts beside them under `field` or `field.key`, so that the
plain part can be shown to anybody.
"""

import enum
import types
import typing
from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from levada.exceptions import BlockError
from levada.secrets import SecretStr, is_secret, plain

_MAX_SHOWN_CHARS = 80
_NOTHING: Any = object()
_COLLECTIONS: dict[Any, Callable[[Any], Any]] = {list: list, tuple: tuple, set: set, frozenset: frozenset}


class Misfit(Exception):  # noqa: N818  never leaves this package
    """A value does not fit its annotation. The message ends a sentence that starts with the field's name."""


class Field(NamedTuple):
    """One declared field."""

    name: str
    annotation: Any
    default: Any = _NOTHING

    @property
    def required(self) -> bool:
        """Whether a value must be given."""
        return self.default is _NOTHING

    def fresh_default(self) -> Any:
        """The default; a list or dict of its own each time."""
        return deepcopy(self.default)


class Stored(NamedTuple):
    """A block as it is kept: plain values as JSON, secret texts by `field` or `field.key`."""

    type: str
    values: Mapping[str, Any]
    secrets: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Stored(type={self.type!r}, values={self.values!r}, secrets={list(self.secrets)!r})"


# --- declaration ---------------------------------------------------------------------------------------------------


def declared(cls: type, root: type) -> dict[str, Field]:
    """The fields that the class and its bases below `root` declare, in order.

    Raises:
        BlockError: an annotation cannot be evaluated.
    """
    found: dict[str, Field] = {}
    for base in reversed([each for each in cls.__mro__ if issubclass(each, root) and each is not root]):
        hints = _hints(base)
        for name in base.__annotations__:
            if name.startswith("_") or name == "model_config" or typing.get_origin(hints[name]) is ClassVar:
                continue
            found[name] = Field(name, hints[name], _default(base.__dict__.get(name, _NOTHING)))
    return found


def _hints(base: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(base)
    except Exception as error:
        raise BlockError(
            f"block {base.__name__}: the annotations of its fields cannot be read: {error}. "
            "Import the types that they name at the top of the file, not under TYPE_CHECKING"
        ) from error


def _default(value: Any) -> Any:
    """The default that a class body gives; also as pydantic's `Field(default=…)` spells it."""
    if type(value).__name__ == "FieldInfo" and hasattr(value, "is_required"):
        return _NOTHING if value.is_required() else value.get_default(call_default_factory=True)
    return value


# --- values --------------------------------------------------------------------------------------------------------


def fit(annotation: Any, value: Any) -> Any:
    """The value as its annotation wants it: itself, or made from what JSON can say.

    Raises:
        Misfit: it does not fit.
    """
    if annotation is Any or isinstance(annotation, typing.TypeVar):
        return value
    origin = typing.get_origin(annotation)
    if origin is typing.Union or origin is types.UnionType:
        return _fit_union(annotation, value)
    if origin is Literal:
        if any(value == each and type(value) is type(each) for each in typing.get_args(annotation)):
            return value
        raise Misfit(f"must be one of {', '.join(map(repr, typing.get_args(annotation)))}, not {_shown(value)}")
    if origin is not None:
        return _fit_collection(annotation, origin, value)
    if isinstance(annotation, type):
        return _fit_class(annotation, value)
    return value


def _fit_union(annotation: Any, value: Any) -> Any:
    options = typing.get_args(annotation)
    for option in options:  # what needs no conversion wins: a text for `Path | str` stays a text
        if isinstance(option, type) and type(value) is option:
            return value
    reasons = []
    for option in options:
        try:
            return fit(option, value)
        except Misfit as misfit:
            reasons.append(misfit)
    real = [option for option in options if option is not type(None)]
    if len(real) == 1:
        raise reasons[options.index(real[0])]
    raise _misfit(annotation, value)


def _fit_collection(annotation: Any, origin: Any, value: Any) -> Any:
    inner = typing.get_args(annotation)
    if not isinstance(origin, type):
        return value
    if issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise _misfit(annotation, value)
        return {_inside(inner[0], key, key): _inside(inner[1], each, key) for key, each in value.items()}
    abstract = origin.__module__ == "collections.abc"
    if isinstance(value, (list, tuple, set, frozenset)) and (abstract or origin in _COLLECTIONS):
        made = [_inside(inner[0], each, at) for at, each in enumerate(value)] if _uniform(inner) else list(value)
        return made if abstract else _COLLECTIONS[origin](made)
    if isinstance(value, origin) and not isinstance(value, (str, bytes, Mapping)):
        return value  # a callable, an iterator, an object of a generic class
    raise _misfit(annotation, value)


def _uniform(inner: tuple[Any, ...]) -> bool:
    return len(inner) == 1 or (len(inner) == 2 and inner[1] is Ellipsis)


def _inside(annotation: Any, value: Any, at: Any) -> Any:
    try:
        return fit(annotation, value)
    except Misfit as misfit:
        raise Misfit(f"{misfit} (at {at!r})") from None


def _fit_class(wanted: Any, value: Any) -> Any:
    if _hides(wanted):
        if isinstance(value, str) or is_secret(value):
            return value if isinstance(value, SecretStr) else SecretStr(value)
        raise _misfit(wanted, value)
    if isinstance(value, bool) and wanted in {int, float}:
        raise _misfit(wanted, value)
    if isinstance(value, wanted):
        return value
    if wanted is float and isinstance(value, int):
        return float(value)
    if wanted in _COLLECTIONS and isinstance(value, (list, tuple, set, frozenset)):
        return _COLLECTIONS[wanted](value)
    made = _made(wanted, value)
    if made is _NOTHING:
        raise _misfit(wanted, value)
    return made


# What JSON has no word for, from what `to_json` writes instead.
_MAKERS: dict[type, Callable[[Any], Any]] = {
    Path: Path,
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    time: time.fromisoformat,
    timedelta: lambda seconds: timedelta(seconds=float(seconds)),
    bytes: lambda text: text.encode("latin-1"),
}


def _made(wanted: Any, value: Any) -> Any:
    """A value of a class that JSON does not have; _NOTHING if it cannot be made."""
    try:
        if issubclass(wanted, enum.Enum):
            return wanted(value)
        if hasattr(wanted, "from_stored") and isinstance(value, (str, Mapping)):
            return wanted.from_stored(value)
        for known, make in _MAKERS.items():
            if wanted is known and isinstance(value, (int, float) if known is timedelta else str):
                return make(value)
    except (ValueError, TypeError) as error:
        if isinstance(error, BlockError):
            raise
    return _NOTHING


def _hides(annotation: Any) -> bool:
    """Whether it is a type of secrets: ours or pydantic's."""
    return getattr(annotation, "__name__", "") in {"SecretStr", "SecretBytes"} and hasattr(
        annotation, "get_secret_value"
    )


def _misfit(annotation: Any, value: Any) -> Misfit:
    if _hides(annotation) or any(_hides(each) for each in typing.get_args(annotation)):
        return Misfit(f"must be {_name(annotation)}, not {type(value).__name__}")  # what is there may be the secret
    return Misfit(f"must be {_name(annotation)}, not {_shown(value)}")


def _name(annotation: Any) -> str:
    """The annotation as a reader writes it."""
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        return "None" if annotation is type(None) else annotation.__name__
    return str(annotation).replace("typing.", "").replace("NoneType", "None")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[: _MAX_SHOWN_CHARS - 1]}…"


# --- storing -------------------------------------------------------------------------------------------------------


def to_json(owner: str, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The values as plain JSON, and the secrets that stood among them.

    Raises:
        BlockError: a value cannot be written as JSON, or a secret lies too deep.
    """
    secrets: dict[str, str] = {}
    plain_values: dict[str, Any] = {}
    for name, value in values.items():
        if is_secret(value):
            secrets[name] = plain(value)
        elif isinstance(value, Mapping) or hasattr(value, "to_stored"):
            entries = value if isinstance(value, Mapping) else value.to_stored()
            if isinstance(entries, str):  # a saved block is kept by its name
                plain_values[name] = entries
                continue
            hidden = {key: each for key, each in entries.items() if is_secret(each)}
            secrets.update({f"{name}.{key}": plain(each) for key, each in hidden.items()})
            rest = {key: each for key, each in entries.items() if key not in hidden}
            plain_values[name] = _plain_json(f"{owner}.{name}", rest)
        else:
            plain_values[name] = _plain_json(f"{owner}.{name}", value)
    return plain_values, secrets


# How a value that JSON has no word for is written. `_MAKERS` reads it back.
_WRITERS: tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...] = (
    (enum.Enum, lambda value: value.value),
    ((type(None), str, int, float, bool), lambda value: value),
    (Path, str),
    ((datetime, date, time), lambda value: value.isoformat()),
    (timedelta, lambda value: value.total_seconds()),
    (bytes, lambda value: value.decode("latin-1")),
)


def _plain_json(place: str, value: Any) -> Any:
    for kinds, write in _WRITERS:
        if isinstance(value, kinds):
            return write(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise BlockError(f"{place} cannot be saved: its key {key!r} is no text")
        return {key: _plain_json(f"{place}[{key!r}]", each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain_json(f"{place}[{at}]", each) for at, each in enumerate(value)]
    if is_secret(value):
        raise BlockError(f"{place} cannot be saved: a secret is a field of its own or stands directly in a dict field")
    if hasattr(value, "to_stored"):
        name = value.to_stored()
        if isinstance(name, str):
            return name
        raise BlockError(f"{place} cannot be saved: save the {type(value).__name__} in it by itself first")
    raise BlockError(f"{place} cannot be saved: {type(value).__name__} is nothing that JSON can hold")


def revealed(value: Any) -> Any:
    """The value with its secret texts laid open, for a field that is no secret field."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return plain(value)


def with_secrets(stored: Stored) -> dict[str, Any]:
    """The values with each secret in its place, as the fields of the block."""
    values: dict[str, Any] = {
        name: dict(value) if isinstance(value, Mapping) else value for name, value in stored.values.items()
    }
    for place, text in stored.secrets.items():
        name, dot, key = place.partition(".")
        if dot:
            inner = values.setdefault(name, {})
            if not isinstance(inner, dict):
                raise BlockError(f"the secret {place!r} of a block of type {stored.type} has no dict {name!r} to be in")
            inner[key] = SecretStr(text)
        else:
            values[name] = SecretStr(text)
    return values
