"""What JSON has no word for: times, sets, bytes, dataclasses, … as marked objects, and back.

`{"__levada__": "datetime", "value": "2026-01-31T12:00:00+00:00"}`. Used by `JSONSerializer`, and nothing else. Tuples and
dict keys that are no texts stay what JSON makes of them: lists and texts.
"""

import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import Any

from levada._places import a_or_an
from levada.exceptions import SerializationError

MARK = "__levada__"
_VALUE, _CLASS = "value", "class"


def encoded(value: Any) -> Any:
    """A value that JSON has no word for, as a marked object. For `json.dumps(default=...)`.

    Raises:
        SerializationError: there is no way to write it.
    """
    writer = _WRITERS.get(type(value))
    if writer is not None:
        name, write = writer
        return {MARK: name, _VALUE: write(value)}
    return _encoded_late(value)


def _encoded_late(value: Any) -> Any:
    """The rarer types, whose modules are only looked at if somebody has loaded them."""
    for module_name, type_name, name, write in _LATE_WRITERS:
        kind = getattr(sys.modules.get(module_name), type_name, None)
        if kind is not None and isinstance(value, kind):
            marked = {MARK: name, _VALUE: write(value)}
            return {**marked, _CLASS: _class_name(type(value))} if name in _LATE_READERS else marked
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return value.item()
    if hasattr(type(value), "__dataclass_fields__"):
        fields = {name: getattr(value, name) for name in type(value).__dataclass_fields__}
        return {MARK: "dataclass", _CLASS: _class_name(type(value)), _VALUE: fields}
    raise SerializationError(_refusal(value))


def _refusal(value: Any) -> str:
    for module_name in ("levada.secrets", "pydantic"):
        kind = getattr(sys.modules.get(module_name), "SecretStr", None)
        if kind is not None and isinstance(value, kind):
            return (
                "a secret cannot be written: results hold no secrets; return what was made with it, or its block's name"
            )
    return f"{a_or_an(value)} cannot be written as JSON; use PickleSerializer()"


def decoded(found: dict[str, Any]) -> Any:
    """A marked object as the value that it stands for; any other as it is. For `json.loads(object_hook=...)`.

    Raises:
        SerializationError: the value's class is not there any more, or has other fields now.
    """
    name = found.get(MARK)
    if name is None:
        return found
    reader = _READERS.get(name)
    if reader is not None:
        return reader(found[_VALUE])
    late = _LATE_READERS.get(name)
    if late is None:
        raise SerializationError(f"the JSON holds a {name!r} object, which this version of Levada does not know")
    return late(_class_of(found[_CLASS]), found[_VALUE])


_WRITERS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    datetime: ("datetime", datetime.isoformat),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    timedelta: ("timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    bytes: ("bytes", lambda value: b64encode(value).decode()),
    set: ("set", list),
    frozenset: ("frozenset", list),
    complex: ("complex", lambda value: [value.real, value.imag]),
}
_LATE_WRITERS: tuple[tuple[str, str, str, Callable[[Any], Any]], ...] = (
    ("decimal", "Decimal", "decimal", str),
    ("uuid", "UUID", "uuid", str),
    ("pathlib", "PurePath", "path", str),
    ("enum", "Enum", "enum", lambda value: value.name),
    ("pydantic", "BaseModel", "model", lambda value: {**value.__dict__, **(value.__pydantic_extra__ or {})}),
)


def _decimal(text: str) -> Any:
    from decimal import Decimal

    return Decimal(text)


def _uuid(text: str) -> Any:
    from uuid import UUID

    return UUID(text)


def _path(text: str) -> Any:
    from pathlib import Path

    return Path(text)


_READERS: dict[str, Callable[[Any], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda parts: timedelta(*parts),
    "bytes": b64decode,
    "set": set,
    "frozenset": frozenset,
    "complex": lambda parts: complex(*parts),
    "decimal": _decimal,
    "uuid": _uuid,
    "path": _path,
}


def _enum(kind: Any, name: str) -> Any:
    return kind[name]


def _dataclass(kind: Any, fields: dict[str, Any]) -> Any:
    """An object with just these values, whatever its `__init__` and `__post_init__` would make of them."""
    _refuse_other_fields(kind, set(kind.__dataclass_fields__), set(fields))
    made = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made


def _model(kind: Any, fields: dict[str, Any]) -> Any:
    """A pydantic model with just these values; validators have seen them before they were written."""
    known = set(kind.model_fields)
    extra = set(fields) - known if kind.model_config.get("extra") == "allow" else set()
    _refuse_other_fields(kind, known, set(fields) - extra)
    return kind.model_construct(**fields)


_LATE_READERS: dict[str, Callable[[Any, Any], Any]] = {"enum": _enum, "dataclass": _dataclass, "model": _model}


def _refuse_other_fields(kind: type, now: set[str], then: set[str]) -> None:
    if now != then:
        changed = ", ".join(sorted(now ^ then))
        raise SerializationError(f"{kind.__name__} has other fields now than when the JSON was written: {changed}")


def _class_name(kind: type) -> str:
    """Where a class is found again.

    Raises:
        SerializationError: it is not found there, because it was made inside a function.
    """
    name = f"{kind.__module__}:{kind.__qualname__}"
    found: Any = sys.modules.get(kind.__module__)
    for part in kind.__qualname__.split("."):
        found = getattr(found, part, None)
    if found is not kind:
        raise SerializationError(
            f"a {kind.__qualname__} cannot be written as JSON, because its class is not at the top of a module; "
            "move the class there, or use PickleSerializer()"
        )
    return name


def _class_of(name: str) -> Any:
    from importlib import import_module

    module_name, _, qualified = name.partition(":")
    try:
        found: Any = import_module(module_name)
        for part in qualified.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise SerializationError(f"the class {name} in the JSON is not there any more ({error})") from error
    return found
